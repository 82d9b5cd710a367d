"""Traces of a live Serai, as a collector gets them: one create is one trace, through every layer, and what comes later is linked to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from fakes.otlp_collector import Collector, Seen, collector
from fakes.raw_http import request, say
from fakes.stack import Stack, stack
from serai_devcore.applications import shell_request
from serai_devcore.documents import job_document
from serai_devcore.wire import Generation

CREATE_HTTP = "POST /ucloud/{provider}/jobs"
CREATE = "serai.jobs.v1.JobsService/Create"
BULK = "serai.jobs.v1.JobsService/CreateBulk"
OURS = f"00-{'ab' * 16}-{'cd' * 8}-01"
NOT_SAMPLED = f"00-{'ef' * 16}-{'cd' * 8}-00"


@pytest.fixture
async def spans() -> AsyncGenerator[Collector]:
    async with collector() as running:
        yield running


def traced(folder: Path, spans: Collector, ratio: float = 1.0, *, trust: bool = True) -> None:
    """Switch traces on in the settings. `trust`: whoever calls says to which one it belongs."""
    file = folder / "serai.toml"
    text = file.read_text()
    assert "[gateway]\n" in text
    file.write_text(text.replace("[gateway]\n", f"[gateway]\ntrust_traces = {str(trust).lower()}\n"))
    with file.open("a") as more:
        more.write(f'[traces]\nendpoint = "{spans.url}"\nsample_ratio = {ratio}\n')


async def create(serai: Stack, job_id: str, script: str = "true", **headers: str) -> int:
    """The status that Core's create is answered with."""
    document = job_document(shell_request(script), job_id, 1_700_000_000_000, Generation.G2021)
    serai.core.expect([document])
    token = serai.core.providers["example"].issuer.core_token()
    all_headers = {"Authorization": f"Bearer {token}", "UCloud-Username": "user"} | headers
    body = json.dumps({"items": [document]}).encode()
    return (await say(serai.port, request("POST", "/ucloud/example/jobs", all_headers, body))).status


def one(spans: list[Seen], **notes: str) -> Seen:
    found = [span for span in spans if notes.items() <= span.notes.items()]
    assert len(found) == 1, found
    return found[0]


async def test_a_create_is_one_trace_from_core_to_the_backend(tmp_path: Path, spans: Collector) -> None:
    """It belongs to the trace that the request came with: HTTP, the server's chain, the commit, the submission; deliveries and the calls to
    Core are there too; nothing in it is a secret, a name or the user's."""
    async with stack(tmp_path, started=False) as serai:
        traced(tmp_path, spans)
        await serai.start()
        token = serai.core.providers["example"].issuer.core_token()
        assert await create(serai, "traced-1", "echo secret-word", traceparent=OURS) == 200
        await serai.until_final("traced-1")
        await serai.until_none_active()
        assert await create(serai, "traced-2", Authorization="Bearer wrong") == 401
        assert await serai.stop() == 0

    http = one(spans.named(CREATE_HTTP), **{"http.response.status_code": "200"})
    assert (http.trace, http.parent, http.kind) == ("ab" * 16, "cd" * 8, "SERVER")
    assert http.notes == {"http.request.method": "POST", "http.route": "/ucloud/{provider}/jobs", "http.response.status_code": "200"}
    rpc = one(spans.named(CREATE))
    assert rpc.is_in(http)
    assert rpc.notes["serai.caller"] == "core"
    commit = one([span for span in spans.named("store commit") if span.is_in(rpc)])
    assert int(commit.notes["serai.store.writes"]) >= 1
    submit = one(spans.named("backend submit"))
    assert submit.is_in(rpc)
    assert submit.notes == {"serai.job_id": "traced-1", "serai.backend": "local"}
    assert http.began_ns <= rpc.began_ns <= commit.began_ns <= commit.ended_ns <= rpc.ended_ns <= http.ended_ns
    assert commit.ended_ns <= submit.began_ns, "what is done is stored first"

    forget = one(spans.named("backend forget"))
    assert forget.trace != http.trace, "what comes later is a trace of its own"
    assert forget.links == ((rpc.trace, rpc.id),)

    refused = one(spans.named(CREATE_HTTP), **{"http.response.status_code": "401"})
    assert (refused.parent, refused.failed) == ("", "")

    delivery = spans.named("deliver updates")[0]
    assert delivery.notes["serai.job_id"] == "traced-1"
    call = next(span for span in spans.named("POST /api/jobs/control/update") if span.is_in(delivery))
    assert (call.kind, call.notes["http.response.status_code"]) == ("CLIENT", "200")

    assert not [span for span in spans.spans if "healthz" in span.name or "readyz" in span.name]
    assert {resource["service.name"] for resource in spans.resources} == {"serai"}
    for kept_back in (token, "secret-word", "wrong", "acme", "/user/"):
        assert kept_back.encode() not in spans.raw


async def test_without_word_of_a_trace_the_ratio_decides(tmp_path: Path, spans: Collector) -> None:
    """0 = none begins here, but one that somebody else keeps goes on; and what somebody else does not keep we do not either."""
    async with stack(tmp_path, started=False) as serai:
        traced(tmp_path, spans, ratio=0.0)
        await serai.start()
        assert await create(serai, "untraced") == 200
        assert await create(serai, "traced", traceparent=OURS) == 200
        assert await create(serai, "kept-out", traceparent=NOT_SAMPLED) == 200
        assert await create(serai, "odd", traceparent="00-zz-1") == 200
        await serai.until_final("untraced", "traced", "kept-out", "odd")
        assert await serai.stop() == 0
    assert [span.trace for span in spans.named(CREATE_HTTP)] == ["ab" * 16]
    assert {span.notes["serai.job_id"] for span in spans.named("backend submit")} == {"traced"}


async def test_no_stranger_decides_what_is_traced(tmp_path: Path, spans: Collector) -> None:
    """Unless the settings say that callers may, the ratio alone does: also where no Envoy takes their word away."""
    async with stack(tmp_path, started=False) as serai:
        traced(tmp_path, spans, ratio=0.0, trust=False)
        await serai.start()
        assert await create(serai, "pushed-in", traceparent=OURS) == 200
        await serai.until_final("pushed-in")
        assert await serai.stop() == 0
    assert not spans.named(CREATE_HTTP)


async def test_a_job_keeps_its_origin_over_a_kill(tmp_path: Path, spans: Collector) -> None:
    """It is stopped by a server that never saw its create; the stop is linked to it."""
    async with stack(tmp_path, started=False) as serai:
        traced(tmp_path, spans)
        await serai.start()
        assert await create(serai, "outlives", "sleep 600", traceparent=OURS) == 200
        await serai.core.until(lambda: serai.core.jobs["outlives"].state == "RUNNING")
        await serai.kill()
        await serai.start()
        await serai.core.terminate("outlives")
        await serai.until_final("outlives")
        assert await serai.stop() == 0
    cancel = spans.named("backend cancel")[0]
    assert cancel.notes["serai.job_id"] == "outlives"
    assert [trace for trace, _ in cancel.links] == ["ab" * 16]


async def test_between_processes(tmp_path: Path, spans: Collector) -> None:
    """The gateway tells the server in the call's metadata; of creates that travel together none is lost to its trace."""
    async with stack(tmp_path, started=False) as serai:
        traced(tmp_path, spans)
        server = await serai.spawn("server")
        serai.process = await serai.spawn("gateway")
        try:
            await serai.until_ready()
            ids = [f"together-{number}" for number in range(30)]
            assert set(await asyncio.gather(*(create(serai, job_id) for job_id in ids))) == {200}
            await serai.until_final(*ids)
            assert await serai.stop() == 0
        finally:
            server.terminate()
            await server.wait()
    requests = spans.named(CREATE_HTTP)
    assert len(requests) == len({span.trace for span in requests}) == 30
    calls = spans.named(CREATE) + spans.named(BULK)
    reached = {(span.trace, span.parent) for span in calls} | {link for span in calls for link in span.links}
    assert reached == {(span.trace, span.id) for span in requests}
    submits = spans.named("backend submit")
    assert {span.notes["serai.job_id"] for span in submits} == set(ids)
    assert {(span.trace, span.parent) for span in submits} <= {(span.trace, span.id) for span in calls}


async def test_a_collector_that_is_away_costs_nothing(tmp_path: Path) -> None:
    """Jobs run and are told, and a stop is not held up."""
    async with stack(tmp_path, started=False) as serai:
        with (tmp_path / "serai.toml").open("a") as file:
            file.write('[traces]\nendpoint = "http://127.0.0.1:9/v1/traces"\n')
        await serai.start()
        assert await create(serai, "alone") == 200
        await serai.until_final("alone")
        assert await serai.stop() == 0
        assert "Traceback" not in serai.log.read_text()
