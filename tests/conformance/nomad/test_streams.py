"""The event stream, lists that go with it, purge, logs and exec."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import cast
from urllib.parse import quote

from fakes.nomad_calls import Calls, Listener, types_of, within
from fakes.nomad_golden import Golden
from fakes.nomad_jobs import Json, job


async def test_the_first_line_is_a_heartbeat(calls: Calls) -> None:
    """`{}` at once, so that one knows to be connected."""
    listener = await Listener.open(calls, "?topic=NoSuchTopic")
    await listener.until(lambda: bool(listener.lines))
    assert listener.lines == [{}]
    await listener.close()


async def test_the_index_is_inclusive(calls: Calls) -> None:
    """One that is kept comes first; one of before starts at the oldest kept, one of the future at the newest, silently."""
    for i in range(30):
        await calls.started(job(f"fill-{i}", "sleep 30", cpu=1, memory_mb=10))
    last = await Listener.open(calls)
    newest = (await calls.get("/v1/jobs")).index
    await last.until(lambda: bool(last.indexes) and last.indexes[-1] >= newest)
    kept = last.indexes
    assert len(kept) >= 40
    assert kept == sorted(kept)
    middle = kept[len(kept) // 2]
    for asked, first in ((middle, middle), (1, None), (10**9, None)):
        listener = await Listener.open(calls, f"?index={asked}")
        await listener.until(lambda listener=listener: bool(listener.indexes))
        if first is not None:
            assert listener.indexes[0] == first
        elif asked == 1:
            assert 1 < listener.indexes[0] <= middle
        else:
            assert listener.indexes[0] >= newest
        await listener.close()
    await last.close()


async def test_what_a_job_tells(calls: Calls, golden: Golden) -> None:
    """In this order: registered, evaluation, plan, evaluation complete, then its states; a job's name chooses its events."""
    listener = await Listener.open(calls, "?topic=Job&topic=Evaluation&topic=Allocation:told&index=1000000000")
    await listener.until(lambda: bool(listener.lines))
    await calls.started(job("told", "sleep 0.5; exit 3"))
    await listener.until(lambda: "failed" in listener.statuses("told"))
    events = [e for e in listener.events if _job_of(e) == "told"]
    said = [[e["Topic"], e["Type"]] for e in events]
    first = said[: said.index(["Allocation", "AllocationUpdated"])]
    assert said.count(["Allocation", "PlanResult"]) == 1
    golden.check("events-of-a-job", first)
    alloc = next(e for e in events if e["Topic"] == "Allocation")
    golden.check("event", {k: v for k, v in alloc.items() if k != "Payload"} | {"Payload": list(within(alloc, "Payload"))})
    last = [e for e in events if e["Topic"] == "Allocation"][-1]
    golden.check_fields("allocation-in-event", within(last, "Payload", "Allocation"), frozenset({"SigningKeyID"}))
    await listener.close()


def _job_of(event: Json) -> object:
    payload = within(event, "Payload", str(event["Topic"]))
    return payload["ID"] if event["Topic"] == "Job" else payload["JobID"]


async def test_a_resumed_stream_and_a_list_lose_nothing(calls: Calls) -> None:
    """Subscribed from the last index, then listed: each end is found, although streams were closed at any point."""
    last = 0
    ended: set[str] = set()
    for i in range(12):
        await calls.started(job(f"r{i}", f"sleep 0.{i % 4}; exit {i % 3}", cpu=20))
    async with asyncio.timeout(60):
        while len(ended) < 12:
            listener = await Listener.open(calls, f"?topic=Allocation&index={last}")
            rows = (await calls.get("/v1/allocations?task_states=true")).rows
            ended |= {str(a["JobID"]) for a in rows if a["ClientStatus"] in {"complete", "failed"}}
            await listener.until(lambda listener=listener: bool(listener.lines))
            found = [within(e, "Payload", "Allocation") for e in listener.events]
            ended |= {str(a["JobID"]) for a in found if a["ClientStatus"] in {"complete", "failed"}}
            last = max([last, *listener.indexes])
            await listener.close()


async def test_a_purged_job_vanishes_without_a_word(calls: Calls, golden: Golden) -> None:
    """The allocation is gone at once; only job and evaluation tell of it."""
    await calls.started(job("purged", "trap 'exit 0' TERM; while :; do sleep 0.05; done"))
    (row,) = await calls.running("purged")
    await calls.until("purged", lambda rows: rows[0]["ClientStatus"] == "running")
    listener = await Listener.open(calls, "?index=1000000000")
    await listener.until(lambda: bool(listener.lines))
    at = (await calls.get("/v1/allocations")).index
    gone = await calls.call("DELETE", "/v1/job/purged?purge=true")
    answers = [await calls.get(p) for p in (f"/v1/allocation/{row['ID']}", "/v1/job/purged", "/v1/job/purged/allocations")]
    await calls.started(job("after"))
    await listener.until(lambda: "complete" in listener.statuses("after"))
    about = [
        e
        for e in listener.events
        if cast("int", e["Index"]) > at and e["Topic"] in {"Job", "Evaluation", "Allocation"} and _job_of(e) == "purged"
    ]
    kinds = sorted({f"{e['Topic']} {e['Type']}" for e in about})
    golden.check("purged", [gone.status, [[a.status, a.text] for a in answers], kinds])
    await listener.close()


async def test_lists_come_in_pages(calls: Calls) -> None:
    """`next_token` is `<create index>.<id>` of the first one of the next page."""
    await calls.started(job("pages", "sleep 30", ranks=5))
    await calls.running("pages", 5)
    found: list[Json] = []
    token = ""
    while True:
        page = await calls.get(f"/v1/allocations?per_page=2&next_token={token}")
        found += page.rows
        token = page.headers.get("X-Nomad-Nexttoken", "")
        if not token:
            break
    assert sorted(str(a["TaskGroup"]) for a in found) == [f"rank-{i}" for i in range(5)]
    assert len({a["ID"] for a in found}) == 5
    bare = (await calls.get("/v1/allocations?task_states=false")).rows[0]
    assert bare["TaskStates"] is None
    assert "AllocatedResources" not in bare
    assert (
        within((await calls.get("/v1/allocations?resources=true")).rows[0], "AllocatedResources", "Tasks", "main", "Cpu")["CpuShares"] == 50
    )


async def test_logs(calls: Calls, golden: Golden) -> None:
    """From any offset and from the end; 404 before the start and for what is not known."""
    await calls.started(job("logs", "printf 0123456789; echo error >&2"))
    (row,) = await calls.ended("logs")
    parts = [
        await calls.log(row),
        await calls.log(row, more="&origin=start&offset=4"),
        await calls.log(row, more="&origin=end&offset=3"),
        await calls.log(row, more="&origin=start&offset=400"),
        await calls.log(row, "stderr"),
    ]
    await calls.started(job("waits", gated=True))
    (waits,) = await calls.until("waits", lambda rows: bool(rows) and "Task Setup" in types_of(rows[0]))
    refused = [await calls.log(waits), await calls.log({"ID": "00000000-0000-0000-0000-000000000000"})]
    golden.check("logs", [[a.status, a.text] for a in parts + refused])


async def test_log_frames(calls: Calls, golden: Golden) -> None:
    """Without `plain`: JSON objects with base64, file and offset after the last byte; also from the end, and none of what is empty."""
    await calls.started(job("frames", "printf 0123456789"))
    (row,) = await calls.ended("frames")
    answer = await calls.get(f"/v1/client/fs/logs/{row['ID']}?task=main&type=stdout&origin=start&offset=0")
    golden.check("log-frames", [answer.status, answer.json])
    last = await calls.get(f"/v1/client/fs/logs/{row['ID']}?task=main&type=stdout&origin=end&offset=1")
    assert last.json == {"Data": "OQ==", "File": "alloc/logs/main.stdout.0", "Offset": 10}
    empty = await calls.get(f"/v1/client/fs/logs/{row['ID']}?task=main&type=stderr&origin=end&offset=1")
    assert (empty.status, empty.text) == (200, "")


async def _exec(calls: Calls, alloc: object, command: list[str], send: list[Json], *, tty: bool = False) -> tuple[list[Json], int | None]:
    query = f"task=main&tty={'true' if tty else 'false'}&command={quote(json.dumps(command))}"
    async with calls.session.ws_connect(f"/v1/client/allocation/{alloc}/exec?{query}") as socket:
        for one in send:
            await socket.send_json(one)
        async with asyncio.timeout(15):
            frames = [cast("Json", json.loads(str(message.data))) async for message in socket]
        return frames, socket.close_code


def _said(frames: list[Json], stream: str) -> str:
    data = [within(f, stream).get("data") for f in frames]
    return b"".join(base64.b64decode(str(d)) for d in data if d).decode()


_END: Json = {"stdin": {"close": True}}


async def test_exec(calls: Calls, golden: Golden) -> None:
    """Both streams, then `exited`; a code of 0 is left out; the connection ends without a close frame."""
    await calls.started(job("shell", "sleep 30"))
    (row,) = await calls.running("shell")
    await calls.until("shell", lambda rows: rows[0]["ClientStatus"] == "running")
    given: Json = {"stdin": {"data": base64.b64encode(b"in").decode()}}
    well, code = await _exec(calls, row["ID"], ["/bin/sh", "-c", "cat; echo err >&2"], [given, _END])
    badly, _ = await _exec(calls, row["ID"], ["/bin/sh", "-c", "exit 7"], [_END])
    size: Json = {"tty_size": {"height": 33, "width": 99}}
    sized, _ = await _exec(calls, row["ID"], ["/bin/sh", "-c", "sleep 0.3; stty size"], [size], tty=True)
    assert _said(sized, "stdout").strip() == "33 99"
    closes = sorted(k for f in well for k in ("stdout", "stderr") if within(f, k).get("close"))
    golden.check("exec", [_said(well, "stdout"), _said(well, "stderr"), closes, well[-1], badly[-1], code])


async def test_exec_refused(calls: Calls, golden: Golden) -> None:
    """An unknown allocation is told after the handshake; a plain GET is a 500; a missing program is no result."""
    await calls.started(job("shell", "sleep 30"))
    (row,) = await calls.running("shell")
    await calls.until("shell", lambda rows: rows[0]["ClientStatus"] == "running")
    unknown = await _exec(calls, "00000000-0000-0000-0000-000000000000", ["/bin/sh"], [])
    missing, code = await _exec(calls, row["ID"], ["/no/such"], [_END])
    plain = await calls.get(f"/v1/client/allocation/{row['ID']}/exec?task=main&command={quote(json.dumps(['/bin/sh']))}")
    golden.check("exec-refused", [unknown[1], [f for f in missing if "exited" in f], code, plain.status, plain.text])


async def test_a_stream_needs_no_answer_to_end(calls: Calls) -> None:
    """The reader may close at any time; the agent goes on."""
    listener = await Listener.open(calls)
    await listener.until(lambda: bool(listener.lines))
    await listener.close()
    assert (await calls.get("/v1/status/leader")).status == 200
