"""Jobs of tools are the site's own: the gateway does not see them when it compares with Core, and nobody settles events in Core's name."""

from __future__ import annotations

from pathlib import Path

import grpc
import grpc.aio
import pytest
from fakes.tools_site import CALL_S, bearer, tools_site
from google.rpc import code_pb2
from integration.tools.test_project_limit import FREE, of, site_on
from serai.events.v1 import events_service_pb2 as events_pb
from serai.events.v1.events_service_pb2_grpc import EventsServiceStub
from serai.jobs.v1 import jobs_service_pb2 as pb
from serai.jobs.v1.application_pb2 import AppParameterValue, LicenseServerValue
from serai_server.rpc.marks import by_marks
from serai_server.store.model import State
from serai_server.store.token_model import Role

CORE = {"serai-caller": "core"}


async def test_the_gateway_compares_only_jobs_that_core_may_know(tmp_path: Path) -> None:
    """Its list has none of the site's own; and should one be disowned all the same, it goes on."""
    async with site_on(tmp_path) as site:
        method = site.front.methods["/serai.jobs.v1.JobsService/List"]
        answer = await site.front.chain.once(method, pb.ListRequest().SerializeToString(), CORE, by_marks)
        assert {found.id for found in pb.ListResponse.FromString(answer).jobs} == {"5", "6"}
        await site.core.changes.disown(["tool-mine", "5"])
        rows = [await site.core.store.job(job_id) for job_id in ("tool-mine", "5")]
        assert [row is not None and (row.state.final or row.target.stop) for row in rows] == [False, True]
        kept = await site.core.store.job("tool-mine")
        assert kept is not None
        assert kept.state is State.RUNNING


async def test_a_tools_job_uses_no_license(tmp_path: Path) -> None:
    """UCloud would be told of a license that is bound to a job that it does not know."""
    async with site_on(tmp_path) as site:
        message = of("p", "tool-licensed")
        message.specification.resources.append(AppParameterValue(license_server=LicenseServerValue(id="l1")))
        status = await site.refused("Create", pb.CreateRequest(items=[message]), FREE)
        assert status.code == code_pb2.UNIMPLEMENTED
        assert "jobs of tools use no licenses" in status.message


async def test_no_tool_is_core_to_the_event_log(tmp_path: Path) -> None:
    """Neither to read nor to settle, whatever its role: what is settled in that name, Core is never told. Another name is fine."""
    settled = [events_pb.Settlement(sequence=1, outcome=events_pb.SETTLEMENT_OUTCOME_DELIVERED)]
    async with tools_site(tmp_path) as site, site.channel() as channel:
        for role in (Role.OPERATOR, Role.ADMIN):
            events, shown = EventsServiceStub(channel), bearer(await site.token(role))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await events.Acknowledge(events_pb.AcknowledgeRequest(consumer="core", settlements=settled), metadata=shown, timeout=CALL_S)
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await events.Subscribe(events_pb.SubscribeRequest(consumer="core"), metadata=shown, timeout=CALL_S).read()
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
            await events.Acknowledge(
                events_pb.AcknowledgeRequest(consumer="dashboard", settlements=settled), metadata=shown, timeout=CALL_S
            )
