"""All ways in through a real Envoy: the seed's examples by curl over TLS, Core itself, reflection, JSON."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import cast

import grpc
import pytest
from fakes.up import Up, up
from golden.load import INDEX, Golden
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from serai_devcore.applications import acme_request, shell_request
from serai_devcore.follow import Followed, follow
from serai_devcore.wire import as_object, read_items

SEED = ("-H", "Content-Type: content-type: application/json; charset=utf-8")
"""As the seed's curl sends it: the header's name stands in its value too."""


@pytest.fixture
async def serai(tmp_path: Path) -> AsyncGenerator[Up]:
    async with up(tmp_path, past_envoy=True) as running:
        running.core.providers["example"].path_name = "ucloud"
        yield running


def seed(number: int, kind: str = "request") -> Golden:
    return next(g for g in INDEX if g.file.startswith(f"jobs-provider-{number:02}-") and g.kind == kind)


@pytest.mark.parametrize("h2", [False, True])
async def test_the_seeds_examples_by_curl(serai: Up, h2: bool) -> None:
    """Over TLS, by HTTP/1.1 and HTTP/2: what is supported; a batch job from its create to its end at Core; whether jobs are known."""
    core = serai.core
    answer = await serai.front.curl("/ucloud/ucloud/jobs/retrieveProducts", *serai.bearer(), h2=h2)
    assert (answer.status, answer.version) == (200, "2" if h2 else "1.1")
    assert [entry["product"]["id"] for entry in answer.json["responses"]] == ["example-compute-1", "example-unit", "example-tiny"]
    core.expect(read_items(as_object(seed(3).json, "")))
    answer = await serai.front.curl("/ucloud/ucloud/jobs", *serai.bearer(), *SEED, body=seed(3).body, h2=h2)
    assert (answer.status, answer.json) == (200, seed(3, "response").json)
    job_id = str(seed(3).json["items"][0]["id"])
    await serai.until_final(job_id)
    assert [arrival.state for arrival in core.jobs[job_id].arrivals if arrival.state][-1] == "SUCCESS"
    answer = await serai.front.curl("/ucloud/ucloud/jobs/verify", *serai.bearer(), *SEED, body=seed(9).body, h2=h2)
    assert (answer.status, answer.json) == (200, seed(9, "response").json)


@pytest.mark.parametrize("generation", ["2021", "2026"])
async def test_core_through_envoy(tmp_path: Path, generation: str) -> None:
    """Everything that Core itself does at a job: create, follow over a WebSocket, shell's session, extend, end."""
    async with up(tmp_path, tls=False, generation=generation) as serai:
        core = serai.core
        sent = await core.submit(shell_request("echo Hello; sleep 600"))
        assert sent.accepted, sent.answer
        await core.until(lambda: core.jobs[sent.job_id].state == "RUNNING", 60)
        followed = await follow(core, sent.job_id, listen_s=10, at_most=3)
        assert isinstance(followed, Followed)
        assert (followed.status, "Hello" in json.dumps(followed.messages)) == (101, True)
        assert (await core.open_session(sent.job_id)).accepted
        assert (await core.extend(sent.job_id, hours=1)).accepted
        assert (await core.terminate(sent.job_id)).accepted
        await serai.until_final(sent.job_id)


async def test_reflection(serai: Up) -> None:
    """A tool that knows nothing of Serai learns the services from it and calls one, with a token; without one it learns nothing."""
    token = await serai.token("viewer")
    services, filled = await asyncio.to_thread(_reflected, serai, token)
    assert {"serai.jobs.v1.JobsService", "grpc.health.v1.Health"} <= services
    assert "jobs" not in filled  # there are none
    with pytest.raises(grpc.RpcError) as told:
        await asyncio.to_thread(_reflected, serai, "serai_0123456789ab_" + "A" * 43)
    assert cast("grpc.Call", told.value).code() is grpc.StatusCode.UNAUTHENTICATED


def _reflected(serai: Up, token: str) -> tuple[set[str], set[str]]:
    """Names of services, and of the fields that JobsService.List answers."""
    front = serai.front
    trusted = grpc.ssl_channel_credentials(Path(front.ca).read_bytes())
    shown = grpc.composite_channel_credentials(trusted, grpc.access_token_call_credentials(token))
    named = (("grpc.ssl_target_name_override", front.name), ("grpc.default_authority", f"{front.name}:{front.port}"))
    with grpc.secure_channel(f"127.0.0.1:{front.port}", shown, options=named) as channel:
        known = ProtoReflectionDescriptorDatabase(channel)
        services = set(known.get_services())
        method = DescriptorPool(known).FindServiceByName("serai.jobs.v1.JobsService").FindMethodByName("List")
        request, response = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        call = channel.unary_unary(
            "/serai.jobs.v1.JobsService/List", request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )
        answer = call(request(), timeout=30)
        return services, {field.name for field, _ in answer.ListFields()}


async def test_a_program_is_submitted_in_json(serai: Up) -> None:
    """/v1 from a program to its output, in what a person would say; the same submission is the same job, other content none; the job is
    named by its id when it shall end; and what is wrong is said in the names of the request."""
    who = ("-H", f"Authorization: Bearer {await serai.token('operator')}")
    asked = {"owner": "user", "command": ["sh", "-c", "echo $GREETING; sleep 600"], "environment": {"GREETING": "Hello"}}
    asked |= {"product": {"id": "example-compute-1"}, "timeLimitMs": 600_000, "submissionId": "e2e"}
    made = await serai.front.curl("/v1/jobs:submit", *who, body=json.dumps(asked).encode())
    assert (made.status, made.json["state"]) == (200, "JOB_STATE_IN_QUEUE")
    job_id = made.json["jobId"]
    again = await serai.front.curl("/v1/jobs:submit", *who, body=json.dumps(asked).encode())
    assert (again.status, again.json["jobId"]) == (200, job_id)
    other = await serai.front.curl("/v1/jobs:submit", *who, body=json.dumps({**asked, "replicas": 2}).encode())
    assert (other.status, other.json["code"]) == (409, 6)
    wrong = await serai.front.curl("/v1/jobs:submit", *who, body=json.dumps({**asked, "submissionId": "", "replicas": -1}).encode())
    assert (wrong.status, wrong.json["details"][1]["fieldViolations"][0]["field"]) == (400, "replicas")
    limited = ("-H", f"Authorization: Bearer {await serai.token('operator', '--project', 'p')}")
    elsewhere = await serai.front.curl("/v1/jobs:submit", *limited, body=json.dumps({**asked, "project": "q"}).encode())
    assert elsewhere.status == 403
    followed = ""
    async with asyncio.timeout(60):
        while "Hello" not in followed:  # until it has begun to write
            answer = await serai.front.curl(f"/v1/jobs/{job_id}:follow", *who, h2=False)
            pieces = [json.loads(line) for line in answer.body.splitlines()]
            followed = "".join(base64.b64decode(piece.get("data", "")).decode() for piece in pieces)
    ended = await serai.front.curl("/v1/jobs:terminate", *who, body=json.dumps({"jobIds": [job_id]}).encode())
    assert ended.status == 200
    assert (await serai.until_state(job_id, "SUCCESS"))["stopping"] is False
    assert not any(job_id in json.dumps(exchange.to_json()) for exchange in serai.core.requests.find())


async def test_json_for_tools(serai: Up) -> None:
    """/v1 in a job's life: list, look, follow its output line by line, end it; errors with their reason; and its own description."""
    who = ("-H", f"Authorization: Bearer {await serai.token('operator')}")
    sent = await serai.core.submit(acme_request())
    await serai.until_final(sent.job_id)
    (job,) = (await serai.front.curl("/v1/jobs?activeOnly=false", *who)).json["jobs"]
    assert (job["id"], job["state"]) == (sent.job_id, "JOB_STATE_SUCCESS")
    assert (await serai.front.curl(f"/v1/jobs/{sent.job_id}", *who)).json["job"]["id"] == sent.job_id
    followed = await serai.front.curl(f"/v1/jobs/{sent.job_id}:follow", *who, h2=False)
    assert followed.status == 200
    assert len([json.loads(line) for line in followed.body.splitlines()]) > 1
    unknown = await serai.front.curl("/v1/jobs/4711", *who)
    assert (unknown.status, unknown.json["code"]) == (404, 5)
    assert [detail["reason"] for detail in unknown.json["details"] if "reason" in detail] == ["JOB_UNKNOWN"]
    for path in ("/openapi.json", "/v1/openapi.json"):
        described = await serai.front.curl(path)
        assert (described.status, described.json["openapi"][:3]) == (200, "3.1")
