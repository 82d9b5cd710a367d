"""Metrics of a live Serai: what was done is what is counted, a scrape costs nobody anything, and strangers cannot make it grow."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import cast

import grpc
import grpc.aio
from fakes.raw_http import request, say
from fakes.scraped import Watched, ask, described, scrape, watched
from fakes.stack import free_port, stack
from serai_devcore.applications import shell_request
from serai_devcore.documents import job_document
from serai_devcore.wire import Generation
from serai_gateway.control.queues import Lane

CREATE = {"method": "POST", "route": "/ucloud/{provider}/jobs"}
OURS = {"state", "kind", "reason", "outcome", "cause", "lane", "consumer", "caller", "which", "direction", "part"}
"""Labels with words of ours."""
LIST = "/serai.jobs.v1.JobsService/List"
CREATE_RPC = {"method": "/serai.jobs.v1.JobsService/Create", "caller": "core"}


def body(job_id: str, script: str = "true", **specification: object) -> bytes:
    """Core's request for one job; `specification`: what is other than usual in it."""
    document = job_document(shell_request(script), job_id, 1_700_000_000_000, Generation.G2021)
    asked = cast("dict[str, object]", document["specification"])
    return json.dumps({"items": [{**document, "specification": asked | specification}]}).encode()


async def create(serai: Watched, sent: bytes, **more: str) -> int:
    """The status that a create of this body is answered with."""
    token = serai.core.providers["example"].issuer.core_token()
    headers = {"Authorization": f"Bearer {token}", "UCloud-Username": "user"} | more
    return (await say(serai.port, request("POST", "/ucloud/example/jobs", headers, sent))).status


async def at_the_tools_door(serai: Watched, authorization: str) -> grpc.StatusCode:
    """What a tool is answered that shows this."""
    async with grpc.aio.insecure_channel(f"unix:{serai.folder}/state/tools.sock") as channel:
        call = cast("grpc.aio.UnaryUnaryCall[bytes, bytes]", channel.unary_unary(LIST)(b"", metadata=(("authorization", authorization),)))
        return await call.code()


async def test_what_can_happen_is_there_at_0(tmp_path: Path) -> None:
    """Nothing was asked of it yet; and no word of ours has a space or a capital."""
    async with watched(tmp_path) as serai:
        found = await serai.scrape()
        for name, labels in {
            "serai_store_commits_total": ("outcome", {"committed", "unavailable", "failed"}),
            "serai_reconciler_retries_total": ("cause", {"store", "backend", "fault"}),
            "serai_delivery_retries_total": ("lane", {lane.value for lane in Lane}),
            "serai_delivery_events_total": ("outcome", {"delivered", "job_unknown", "insufficient_funds", "refused"}),
            "serai_events_settled_total": ("outcome", {"delivered", "job_unknown", "insufficient_funds", "refused"}),
            "serai_backend_calls_total": ("outcome", {"ok", "refused", "unavailable", "failed"}),
            "serai_sessions": ("kind", {"shell", "web", "vnc", "console"}),
        }.items():
            label, words = labels
            samples = [sample for sample in found.families[name.removesuffix("_total")].samples if sample.name == name]
            assert {sample.labels[label] for sample in samples} == words
        assert found.samples("serai_events_settled_total").keys() >= {("core", "refused"), ("others", "delivered")}


async def test_what_was_done_is_counted(tmp_path: Path) -> None:
    """Three creates that are taken and three that are refused, by the token, by the gateway, by the server: at all layers these are the
    numbers, and what the jobs went through, were billed and Core was told is there too. What is shown is on the page, and nothing else."""
    async with watched(tmp_path) as serai:
        sent = [await serai.core.submit(shell_request("true")) for _ in range(3)]
        await serai.until_final(*(one.job_id for one in sent))
        assert await create(serai, b'{"items":[{"id":"x"}]}') == 400
        assert await create(serai, body("other", replicas=0)) == 400
        assert await create(serai, b"{}", Authorization="Bearer wrong") == 401
        assert await at_the_tools_door(serai, "Bearer serai_wrong") == grpc.StatusCode.UNAUTHENTICATED
        found = await serai.until("serai_events_unsettled", 0, consumer="core")
        assert found.value("serai_tools_refused_calls_total", reason="unauthenticated") == 1
        assert found.value("serai_tools_refused_calls_total", reason="forbidden") == 0
        assert found.value("serai_rpc_calls_total", method=LIST, caller="tool", code="UNAUTHENTICATED") == 1

        assert found.value("serai_gateway_requests_total", **CREATE, status="200", reason="") == 3
        assert found.value("serai_gateway_requests_total", **CREATE, status="400", reason="invalid_request") == 2
        assert found.value("serai_gateway_requests_total", **CREATE, status="401", reason="unauthenticated") == 1
        assert found.value("serai_gateway_request_duration_seconds_count", **CREATE) == 6
        assert found.value("serai_rpc_calls_total", **CREATE_RPC, code="OK", reason="") == 3
        assert found.value("serai_rpc_calls_total", **CREATE_RPC, code="INVALID_ARGUMENT", reason="invalid_request") == 1
        assert found.value("serai_rpc_call_duration_seconds_count", method=CREATE_RPC["method"]) == 4
        assert 0 < found.value("serai_rpc_call_duration_seconds_sum", method=CREATE_RPC["method"]) < 60

        entered = {state: found.value("serai_job_states_entered_total", state=state) for state in ("in_queue", "success", "failure")}
        assert entered == {"in_queue": 3, "success": 3, "failure": 0}
        assert found.value("serai_backend_calls_total", backend="local", call="submit", outcome="ok") == 3
        assert found.value("serai_backend_up", backend="local") == 1
        assert found.value("serai_backend_cores", which="all") == 8
        assert found.value("serai_ledger_charges_total") == found.value("serai_delivery_events_total", lane="charges") == 3
        delivered = found.value("serai_delivery_events_total", outcome="delivered")
        assert (
            delivered
            == found.value("serai_events_settled_total", consumer="core", outcome="delivered")
            == found.value("serai_delivery_lag_seconds_count")
        )
        assert found.value("serai_core_calls_total", call="/api/jobs/control/update", status="200") > 0
        assert found.value("serai_store_writes_total") == found.value("serai_store_commit_writes_sum") > 0
        assert found.value("serai_part_up", part="store") == found.value("serai_part_up", part="reconciler") == 1
        assert found.value("serai_rpc_streams_open", method="/serai.events.v1.EventsService/Subscribe") == 1
        assert found.value("serai_build_info", part="all") == 1

        await serai.until_none_active()
        assert sum((await serai.scrape()).samples("serai_jobs").values()) == 0
        assert found.names == set(described())
        for name, family in found.families.items():
            row = described()[f"{name}_total" if family.type == "counter" else name]
            assert row[0] == family.type
            for sample in family.samples:
                assert all(f"`{label}`" in row[1] for label in sample.labels if label != "le"), sample
                ours = [word for label, word in sample.labels.items() if label in OURS]
                assert all(re.fullmatch(r"([a-z]+(_[a-z]+)*)?", word) for word in ours), sample

        assert (await ask(serai.metrics_port, "/healthz")).body == b"ok\n"
        for path in ("/metrics", "/healthz/", "/console/metrics"):
            assert (await ask(serai.port, path)).status in {401, 404}, "metrics are not for who reaches Core's port"
        assert await serai.stop() == 0


async def test_a_core_that_is_away_is_seen(tmp_path: Path) -> None:
    """Events wait and grow old, calls fail, events are sent again; when Core is back all of that ends."""
    async with watched(tmp_path) as serai:
        sent = await serai.core.submit(shell_request("true"))
        await serai.until_final(sent.job_id)
        await serai.until("serai_events_unsettled", 0, consumer="core")
        await serai.core.go_away()
        assert await create(serai, body("meanwhile")) == 200
        async with asyncio.timeout(60):
            while True:
                found = await serai.scrape()
                if found.value("serai_core_calls_total", status="unreachable") >= 2:
                    break
                await asyncio.sleep(0.1)
        assert found.value("serai_delivery_retries_total", lane="updates") >= 2
        assert found.value("serai_events_unsettled", consumer="core") >= 1
        assert found.value("serai_events_oldest_unsettled_age_seconds", consumer="core") > 0
        assert found.value("serai_delivery_held_events") >= 1
        await serai.core.come_back()
        found = await serai.until("serai_events_unsettled", 0, consumer="core")
        assert found.value("serai_events_oldest_unsettled_age_seconds", consumer="core") == 0
        assert found.value("serai_delivery_events_total", outcome="job_unknown") >= 1


async def test_scrapes_under_load(tmp_path: Path) -> None:
    """Scrapes that come together and while jobs do are each whole, counters only grow, nothing is counted twice or lost; and neither more
    jobs nor strangers' methods and paths make more series."""
    async with watched(tmp_path) as serai:
        await serai.core.submit(shell_request("sleep 600"))

        async def some(first: int, last: int) -> None:
            for number in range(first, last):
                assert await create(serai, body(f"peculiar-{number}", "sleep 600")) == 200

        async def watch() -> None:
            before = 0.0
            for _ in range(20):
                found = await serai.scrape()
                now = found.value("serai_gateway_requests_total", **CREATE)
                assert now >= before
                before = now

        await asyncio.gather(*(some(10 * n, 10 * n + 10) for n in range(10)), watch(), watch())
        found = await serai.scrape()
        assert found.value("serai_gateway_requests_total", **CREATE, status="200") == 101
        assert found.value("serai_job_states_entered_total", state="in_queue") == 101

        before = len([s for n in ("serai_gateway_requests_total", "serai_rpc_calls_total") for s in found.samples(n)])
        await some(100, 140)
        for number in range(30):
            await say(serai.port, request("GET", f"/ucloud/example/strange-{number}"))
            await say(serai.port, request(f"ODD{number}", f"/ucloud/example/jobs/{number}"))
        found = await serai.scrape()
        after = len([s for n in ("serai_gateway_requests_total", "serai_rpc_calls_total") for s in found.samples(n)])
        assert after <= before + 3, "GET none, other none"
        assert found.series < 2_000
        text = (await ask(serai.metrics_port)).body.decode()
        assert "strange" not in text
        assert "ODD" not in text
        assert "peculiar" not in text


async def test_each_process_has_its_own(tmp_path: Path) -> None:
    """The server's metrics are at the server, the gateway's at the gateway, and both see the call between them."""
    ports = free_port(), free_port()
    async with stack(tmp_path, started=False) as serai:
        with (tmp_path / "serai.toml").open("a") as file:
            file.write(f'[metrics]\nlisten = "127.0.0.1:{ports[0]}"\ngateway_listen = "127.0.0.1:{ports[1]}"\n')
        server = await serai.spawn("server")
        serai.process = await serai.spawn("gateway")
        try:
            await serai.until_ready()
            sent = await serai.core.submit(shell_request("true"))
            await serai.until_final(sent.job_id)
            of_server, of_gateway = [await scrape(port) for port in ports]
        finally:
            server.terminate()
            await server.wait()
    assert of_server.value("serai_rpc_calls_total", **CREATE_RPC) == of_gateway.value("serai_gateway_requests_total", **CREATE) == 1
    assert not [name for name in of_server.names if name.startswith(("serai_gateway", "serai_core", "serai_delivery"))]
    assert not [name for name in of_gateway.names if name.startswith(("serai_rpc", "serai_store", "serai_job"))]
    assert of_server.value("serai_build_info", part="server") == of_gateway.value("serai_build_info", part="gateway") == 1


async def test_a_taken_port_is_told_in_a_sentence(tmp_path: Path) -> None:
    """And nothing is left running."""
    async with watched(tmp_path) as serai:
        second = tmp_path / "second"
        async with stack(second, started=False) as other:
            with (second / "serai.toml").open("a") as file:
                file.write(f'[metrics]\nlisten = "127.0.0.1:{serai.metrics_port}"\n')
            process = await other.spawn("all")
            async with asyncio.timeout(60):
                assert await process.wait() != 0
            assert f"cannot listen for metrics on 127.0.0.1 port {serai.metrics_port}" in other.tail()
            assert "Traceback" not in other.log.read_text()
