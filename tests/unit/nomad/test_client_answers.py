"""What Nomad's answers mean. The texts are those of a real agent (facts: nomad-tried §2) and of its source."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from fakes.nomad_pages import serve, settings
from serai_backends.errors import BackendUnavailable, JobNotThere
from serai_backends.model import Stream
from serai_backends.nomad.client import (
    AlreadyRegistered,
    NoHostVolumes,
    NotAllowed,
    RegistrationRefused,
    VariableConflict,
    open_client,
)

JOB = {"ID": "ucloud-1"}
INDEX = {"X-Nomad-Index": "7"}


@pytest.mark.parametrize("before", ["", "rpc error: ", "rpc error: rpc error: "])
async def test_a_job_that_is_there_is_told_from_everything_else(before: str) -> None:
    """Also through another server, which puts words before it."""
    async with serve() as pages, open_client(settings(pages.address), environ={}) as client:
        pages.says(500, before + "Enforcing job modify index 0: job already exists")
        with pytest.raises(AlreadyRegistered):
            await client.register(JOB)
        body = msgspec.json.decode(pages.bodies[-1])
        assert body == {"Job": JOB, "EnforceIndex": True, "JobModifyIndex": 0}


@pytest.mark.parametrize(
    ("status", "text", "words"),
    [
        (500, "1 error occurred:\n\t* Job ID contains a space\n\n", "Job ID contains a space"),
        (
            500,
            "1 error occurred:\n\t* Task group rank-0 validation failed: 1 error occurred:\n\t* Task main: kill_timeout and shutdown\n",
            "Task group rank-0 validation failed: Task main: kill_timeout and shutdown",
        ),
        (500, 'rpc error: job "x" is in nonexistent namespace "nons"', 'job "x" is in nonexistent namespace "nons"'),
        (400, "unexpected EOF", "unexpected EOF"),
    ],
)
async def test_a_job_that_nomad_will_never_take_is_refused_in_its_words(status: int, text: str, words: str) -> None:
    """In one line, without the counts."""
    async with serve() as pages, open_client(settings(pages.address), environ={}) as client:
        pages.says(status, text)
        with pytest.raises(RegistrationRefused) as refused:
            await client.register(JOB)
    assert str(refused.value) == words


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (500, "No cluster leader"),
        (500, "rpc error: No cluster leader"),
        (500, "Not ready to serve consistent reads"),
        (500, "leadership lost while committing log"),
        (500, "node is not the leader"),
        (500, "timed out enqueuing operation"),
        (500, "rpc error: failed to get conn: dial tcp 10.0.0.1:4647: connect: connection refused"),
        (500, "rpc error: EOF"),
        (500, "rpc error: read tcp 10.0.0.1:4647: i/o timeout"),
        (500, ""),
        (502, "<html>bad gateway</html>"),
        (429, "Your IP is issuing too many concurrent connections, please rate limit your calls"),
    ],
)
async def test_trouble_on_the_way_is_no_refusal(status: int, text: str) -> None:
    """The job may be registered later."""
    async with serve() as pages, open_client(settings(pages.address), environ={}) as client:
        pages.says(status, text)
        with pytest.raises(BackendUnavailable):
            await client.register(JOB)


async def test_missing_things_are_none_only_when_nomad_says_so() -> None:
    """A job that "is gone" would be taken for a purged one: a 404 of a proxy or of a wrong address must not be that."""
    async with serve() as pages, open_client(settings(pages.address), environ={}) as client:
        pages.says(404, "job not found", INDEX)
        assert await client.job("ucloud-1") is None
        pages.says(404, "alloc not found", INDEX)
        assert await client.allocation("a") is None
        pages.says(404, "variable not found", INDEX)
        assert await client.variable("nomad/jobs/x") is None
        for text in ("", "<html>nginx</html>", "404 page missing"):
            pages.says(404, text)
            with pytest.raises(BackendUnavailable, match="is that the address of a Nomad agent"):
                await client.job("ucloud-1")


async def test_what_is_no_answer_of_nomad_is_told() -> None:
    async with serve() as pages, open_client(settings(pages.address), environ={}) as client:
        pages.says(200, "<html>a login page</html>")
        with pytest.raises(BackendUnavailable, match=r"the answer of http://127\.0\.0\.1:\d+ to GET /v1/job/x is not Nomad's"):
            await client.job("x")


async def test_a_refusal_says_what_the_token_needs(tmp_path: Path) -> None:
    """And where the token is from, never the token."""
    (tmp_path / "token").write_text("s3cret")
    async with serve() as pages:
        pages.says(403, "Permission denied")
        async with open_client(settings(pages.address, token_file=str(tmp_path / "token")), environ={}) as client:
            with pytest.raises(NotAllowed, match=rf"the token of {tmp_path}/token needs submit-job") as refused:
                await client.register(JOB)
            assert "s3cret" not in str(refused.value)
            with pytest.raises(NotAllowed, match="needs read-logs"):
                _ = [chunk async for chunk in client.log("a", "main", Stream.STDOUT)]
            pages.says(403, "ACL token expired")
            with pytest.raises(NotAllowed, match=r"does not take the token \(ACL token expired\): put a valid one into"):
                await client.job("x")
        async with open_client(settings(pages.address), environ={}) as client:
            with pytest.raises(NotAllowed):
                await client.job("x")


async def test_a_renewed_token_is_used_at_once(tmp_path: Path) -> None:
    """A token that ran out between two renewals is read from its file again, and the call succeeds."""
    file = tmp_path / "token"
    file.write_text("old")
    async with serve() as pages, open_client(settings(pages.address, token_file=str(file)), environ={"NOMAD_TOKEN": "x"}) as client:

        async def answer(request: web.Request) -> web.Response:
            if request.headers.get("X-Nomad-Token") != "new":
                return web.Response(status=403, text="ACL token expired")
            return web.Response(text='{"ID":"x"}')

        pages.answer = answer
        with pytest.raises(NotAllowed):
            await client.job("x")
        file.write_text("new\n")
        job = await client.job("x")
    assert job is not None
    assert [r.headers["X-Nomad-Token"] for r in pages.asked] == ["old", "old", "new"]


async def test_a_conflict_tells_the_stored_variable() -> None:
    async with serve() as pages, open_client(settings(pages.address), environ={}) as client:
        pages.says(409, '{"Path":"nomad/jobs/x","Items":{"nodes":"self"},"CreateIndex":3,"ModifyIndex":9}')
        with pytest.raises(VariableConflict) as conflict:
            await client.put_variable("nomad/jobs/x", {"nodes": "10.0.0.1"}, cas=0)
        assert (conflict.value.stored.items, conflict.value.stored.modify_index) == ({"nodes": "self"}, 9)
        assert pages.asked[-1].query["cas"] == "0"


async def test_lists_are_read_page_by_page() -> None:
    """And their index is that of the first page: what changed meanwhile is told again rather than missed."""
    async with serve() as pages, open_client(settings(pages.address), environ={"NOMAD_NAMESPACE": "n"}) as client:

        async def answer(request: web.Request) -> web.Response:
            second = request.query.get("next_token") == "b"
            headers = {"X-Nomad-Index": "9"} if second else {"X-Nomad-Index": "7", "X-Nomad-NextToken": "b"}
            return web.Response(text='[{"ID":"ucloud-b"}]' if second else '[{"ID":"ucloud-a","Meta":{"k":"v"}}]', headers=headers)

        pages.answer = answer
        jobs, index = await client.jobs("ucloud-")
    assert ([j.id for j in jobs], index, jobs[0].meta) == (["ucloud-a", "ucloud-b"], 7, {"k": "v"})
    assert all((r.query["namespace"], r.query["prefix"], r.query["meta"]) == ("n", "ucloud-", "true") for r in pages.asked)


async def test_an_allocation_is_stopped_without_another_in_its_place() -> None:
    """Nomad's parameter reads backwards; without it a second one starts (facts: nomad-tried §0.2)."""
    async with serve() as pages, open_client(settings(pages.address), environ={}) as client:
        pages.says(200, "{}")
        await client.stop_allocation("a-1")
    assert (pages.asked[0].path, pages.asked[0].query["reschedule"]) == ("/v1/allocation/a-1/stop", "true")


@pytest.mark.parametrize(
    ("status", "text", "there"),
    [
        (404, 'task "main" not started yet. No logs available', True),
        (404, "state for allocation 5e1f not found on client", False),
        (404, 'Unknown allocation "5e1f"', False),
        (404, 'log entry for task "main" and log type "stdout" not found', False),
        (400, 'unknown task name "main"', False),
    ],
)
async def test_logs_that_are_not_there_yet_are_empty_and_those_that_are_gone_are_told(status: int, text: str, there: bool) -> None:
    async with serve() as pages, open_client(settings(pages.address), environ={}) as client:
        pages.says(status, text)
        if there:
            assert [chunk async for chunk in client.log("5e1f", "main", Stream.STDERR)] == []
        else:
            with pytest.raises(JobNotThere):
                _ = [chunk async for chunk in client.log("5e1f", "main", Stream.STDERR)]
    assert pages.asked[0].query["type"] == "stderr"


async def test_logs_come_in_pieces_that_know_their_place() -> None:
    """At most 64 KiB each, one after the other from the offset."""
    async with serve() as pages, open_client(settings(pages.address), environ={}) as client:
        pages.says(200, "x" * 150_000)
        chunks = [chunk async for chunk in client.log("a", "main", Stream.STDOUT, 1_000)]
    assert sum(len(chunk.data) for chunk in chunks) == 150_000
    assert all(1 <= len(chunk.data) <= 65_536 for chunk in chunks)
    assert [chunk.offset for chunk in chunks] == [1_000 + sum(len(c.data) for c in chunks[:n]) for n in range(len(chunks))]
    assert (pages.asked[0].query["offset"], pages.asked[0].query["origin"]) == ("1000", "start")


async def test_old_servers_have_no_host_volumes() -> None:
    async with serve() as pages, open_client(settings(pages.address), environ={}) as client:
        with pytest.raises(NoHostVolumes, match=r"1\.10 or later"):
            await client.host_volume_create({"Name": "v"})
        pages.says(500, "no such volume: 1234")
        await client.host_volume_delete("1234")
        pages.says(500, "volume 1234 in use by allocations: [a]")
        with pytest.raises(BackendUnavailable, match="in use by"):
            await client.host_volume_delete("1234")


async def test_nomad_that_is_not_there_is_told_with_its_address() -> None:
    async with serve() as pages:
        address = pages.address
    async with open_client(settings(address), environ={}) as client:
        with pytest.raises(BackendUnavailable, match=rf"Nomad at {address} cannot be reached \(Connection refused\)"):
            await client.job("x")
        with pytest.raises(BackendUnavailable, match=rf"Nomad at {address} cannot be reached \(.*\): is the agent running"):
            await anext(client.events(0))


async def test_a_silent_nomad_is_given_up() -> None:
    """For plain calls, streams and their heads alike."""
    never = asyncio.Event()
    async with serve() as pages, open_client(settings(pages.address, timeout_ms=100), environ={}) as client:

        async def answer(_: web.Request) -> web.Response:
            await never.wait()
            return web.Response()

        pages.answer = answer
        with pytest.raises(BackendUnavailable, match="did not answer in time"):
            await client.job("x")
        with pytest.raises(BackendUnavailable, match="did not answer in time"):
            await anext(client.events(0))
        never.set()


async def test_the_environment_of_other_programs_changes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither what python-nomad reads by itself, nor proxies and .netrc, which requests reads."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password b\n")
    for name, value in {"HOME": str(tmp_path), "NOMAD_TOKEN": "x", "NOMAD_NAMESPACE": "y", "HTTP_PROXY": "http://127.0.0.1:1"}.items():
        monkeypatch.setenv(name, value)
    async with serve() as pages, open_client(settings(pages.address), environ={}) as client:
        pages.says(404, "job not found")
        assert await client.job("x") is None
    assert "X-Nomad-Token" not in pages.asked[0].headers
    assert "Authorization" not in pages.asked[0].headers
    assert pages.asked[0].query["namespace"] == "default"


async def test_it_is_reached_through_a_socket(tmp_path: Path) -> None:
    """As a task of Nomad itself reaches its agent: plain calls and streams."""
    path = str(tmp_path / "api.sock")
    async with serve(socket=path) as pages, open_client(settings(f"unix://{path}"), environ={"NOMAD_TOKEN": "t"}) as client:
        pages.says(200, '{"ID":"x"}')
        assert (await client.job("x")) is not None
        pages.says(200, "{}\n")
        assert (await anext(client.events(0))).events == ()
    assert [r.headers["X-Nomad-Token"] for r in pages.asked] == ["t", "t"]


FIRST = b'{"Data":"eA==","File":"alloc/logs/main.stdout.0","Offset":12}'
LATER = b'{"Data":"eA==","File":"alloc/logs/main.stdout.3","Offset":2}'


@pytest.mark.parametrize(
    ("framed", "asks", "size"),
    [
        (b"", 1, 0),
        (FIRST, 1, 12),
        (b"{}{}" + FIRST + b'{"Data":"eQ==","File":"alloc/logs/main.stdout.0","Offset":13}', 1, 12),
        (LATER, 2, 7),
    ],
)
async def test_the_size_of_a_log(framed: bytes, asks: int, size: int) -> None:
    """Is told by the frame of its last byte. When its first files are gone or full nobody tells it: then it is counted."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=b"1234567" if request.query.get("plain") == "true" else framed)

    async with serve() as pages, open_client(settings(pages.address), environ={}) as client:
        pages.answer = answer
        assert await client.log_size("a", "main", Stream.STDOUT) == size
        assert (pages.asked[0].query["origin"], pages.asked[0].query["offset"], len(pages.asked)) == ("end", "1", asks)
        pages.says(404, 'task "main" not started yet. No logs available')
        assert await client.log_size("a", "main", Stream.STDOUT) == 0
        pages.says(200, "{a login page}")
        with pytest.raises(BackendUnavailable, match="is not Nomad's"):
            await client.log_size("a", "main", Stream.STDOUT)


@pytest.mark.parametrize("what", ["job", "register", "put_variable", "deregister", "events", "log", "shell"])
async def test_an_answer_that_leads_elsewhere_is_not_followed(what: str) -> None:
    """The token would go along: plain calls of every method, streams and WebSockets alike."""
    async with serve() as other, serve() as pages, open_client(settings(pages.address), environ={"NOMAD_TOKEN": "t"}) as client:
        pages.says(307, "", {"Location": f"{other.address}/v1/elsewhere"})
        with pytest.raises(BackendUnavailable):
            match what:
                case "job":
                    await client.job("x")
                case "register":
                    await client.register(JOB)
                case "put_variable":
                    await client.put_variable("nomad/jobs/x", {"a": "b"}, cas=0)
                case "deregister":
                    await client.deregister("x")
                case "events":
                    await anext(client.events(0))
                case "log":
                    _ = [chunk async for chunk in client.log("a", "main", Stream.STDOUT)]
                case _:
                    await client.exec("a", "main", ["sh"])
        assert (len(pages.asked), other.asked) == (1, [])
