"""The hub of open shells: what is refused, what ends a shell, and what is written down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog
from fakes.shell_hub import MINUTE_MS, Site, settled, until
from fakes.shells import HELD, Talk
from serai.sessions.v1 import sessions_service_pb2 as pb
from serai_backends.errors import BackendUnavailable, JobNotThere
from serai_server.errors import BackendDown, Forbidden, InvalidRequest, SessionUnknown, Unsupported, WrongState
from serai_server.sessions.shell_requests import MOST_INPUT
from serai_server.sessions.shells import ShellHub
from serai_server.store.api import StoreUnavailable
from serai_server.store.model import State


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    async with made.hub:
        yield made
        await made.all_leave()


# Refusals.


@pytest.mark.parametrize(
    ("first", "field"),
    [
        (pb.ShellRequest(), "message"),
        (pb.ShellRequest(input=b"x"), "input"),
        (pb.ShellRequest(resize=pb.TerminalSize(columns=1, rows=1)), "resize"),
        (pb.ShellRequest(open=pb.ShellOpen()), "open.who"),
        (pb.ShellRequest(open=pb.ShellOpen(secret="a", size=pb.TerminalSize(columns=80))), "open.size.rows"),
        (pb.ShellRequest(open=pb.ShellOpen(secret="a", size=pb.TerminalSize(columns=1_001, rows=1))), "open.size.columns"),
        (pb.ShellRequest(open=pb.ShellOpen(program=pb.ShellProgram(job_id="1", argv=[""]))), "open.program.argv[0]"),
        (pb.ShellRequest(open=pb.ShellOpen(program=pb.ShellProgram(job_id="1", argv=["a", "b\0"]))), "open.program.argv[1]"),
        (pb.ShellRequest(open=pb.ShellOpen(program=pb.ShellProgram(job_id="1", argv=["x"] * 1_001))), "open.program.argv"),
        (pb.ShellRequest(open=pb.ShellOpen(program=pb.ShellProgram(job_id="1", argv=["x" * 100_001]))), "open.program.argv"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_wrong_first_request(site: Site, first: pb.ShellRequest, field: str) -> None:
    """Refused with the field's path, before anything is opened."""
    site.sessions.opened("a")
    talk = site.talk()
    talk.say(first)
    with pytest.raises(InvalidRequest) as caught:
        await talk.opened()
    assert caught.value.field == field
    assert (len(site.hub), site.backend.opened, site.sessions.begun) == (0, [], [])


@pytest.mark.parametrize(
    ("later", "field"),
    [
        (pb.ShellRequest(), "message"),
        (pb.ShellRequest(open=pb.ShellOpen(secret="a")), "open"),
        (pb.ShellRequest(input=b"x" * (MOST_INPUT + 1)), "input"),
        (pb.ShellRequest(resize=pb.TerminalSize(columns=0, rows=24)), "resize.columns"),
        (pb.ShellRequest(resize=pb.TerminalSize(columns=80, rows=-1)), "resize.rows"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_wrong_later_request(site: Site, later: pb.ShellRequest, field: str) -> None:
    """The call ends with the field's path; the shell stays for a client that knows better."""
    talk, shell = await site.opened()
    talk.type(b"x" * MOST_INPUT)
    await until(lambda: len(shell.typed) == MOST_INPUT)
    talk.say(later)
    with pytest.raises(InvalidRequest) as caught:
        await talk.to_end()
    assert caught.value.field == field
    assert not shell.closed
    back = site.talk()
    back.open("a")
    assert (await back.opened()).resumed


async def test_only_tools_run_programs(site: Site) -> None:
    """Whoever holds a session has that session's shell, and nothing else."""
    talk = site.talk(holder=True)
    talk.run("id")
    with pytest.raises(Forbidden):
        await talk.opened()


async def test_a_secret_that_is_not_known(site: Site) -> None:
    """As the registry says it."""
    talk = site.talk()
    talk.open("guessed")
    with pytest.raises(SessionUnknown):
        await talk.opened()


async def test_a_provider_without_shells() -> None:
    """Says so, to everybody."""
    site = Site()
    async with ShellHub(backend=None, sessions=site.sessions, jobs=site.jobs, clock=site.clock, detached_ms=1) as hub:
        talk = Talk(lambda requests: hub.shell(requests, holder=False))
        talk.run("id")
        with pytest.raises(Unsupported):
            await talk.opened()


@pytest.mark.parametrize(
    ("wrong", "expected", "words", "over"),
    [
        (BackendUnavailable("node gone"), BackendUnavailable, "node gone", False),
        (JobNotThere("1"), WrongState, "rank 0 of job 1 does not run", True),
    ],
)
async def test_a_shell_that_cannot_be_started(site: Site, wrong: Exception, expected: type[Exception], words: str, over: bool) -> None:
    """The error is the caller's answer, and the place is free again. What is passing can be tried again with the same secret; where the
    replica is not there, the session is over."""
    session = site.sessions.opened("a")
    site.backend.wrong = wrong
    talk = site.talk()
    talk.open("a")
    with pytest.raises(expected, match=words):
        await talk.opened()
    assert (len(site.hub), session.over.is_set(), session.attached) == (0, over, False)
    site.backend.wrong = None
    if not over:
        again, _ = await site.opened("a")
        await site.backend.opened[0].says(b"x")
        assert await again.output(1) == b"x"


async def test_a_client_that_leaves_while_its_shell_is_opened(site: Site) -> None:
    """However far it had come: of a program nothing stays behind; a shell of a session goes on being opened, its user comes back to it
    with the same secret, and after the minute it is over like every other."""
    site.backend.gate.clear()
    for turns in range(20):
        for program in (True, False):
            talk = site.talk()
            if program:
                talk.run("id")
            else:
                site.sessions.opened(f"a{turns}")
                talk.open(f"a{turns}")
            opening = asyncio.ensure_future(talk.opened())
            await until(lambda: len(site.hub) == 1)
            for _ in range(turns):
                await asyncio.sleep(0)
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
            if not program:
                back = site.talk()
                back.open(f"a{turns}")
                opening = asyncio.ensure_future(back.opened())
                await settled()
                site.backend.gate.set()
                assert (await opening).resumed
                site.backend.gate.clear()
                await site.backend.opened[-1].says(b"x")
                assert await back.output(1) == b"x"
                await back.leave()
                site.clock.move(MINUTE_MS)
            await until(lambda: not len(site.hub))
            assert site.sessions.open == []
    assert len(site.backend.opened) == 20


async def test_a_shell_that_takes_too_long_to_open(site: Site) -> None:
    """Nobody came back within the minute: it is not waited for any longer, and nothing is started."""
    session = site.sessions.opened("a")
    site.backend.gate.clear()
    talk = site.talk()
    talk.open("a")
    opening = asyncio.ensure_future(talk.opened())
    await settled()
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    site.clock.move(MINUTE_MS)
    await until(lambda: not len(site.hub))
    site.backend.gate.set()
    await settled()
    assert (site.backend.opened, session.over.is_set()) == ([], True)


@pytest.mark.parametrize("how", ["the server stops", "its session is closed"])
async def test_an_end_while_the_program_waits_for_a_slow_reader(site: Site, how: str) -> None:
    """All that was read of it is given before the ending, also what had no room yet."""
    talk, shell = await site.opened()
    saying = asyncio.ensure_future(shell.says(bytes(range(256)) * 4 * 1024))
    await settled()
    assert (saying.done(), shell.unread) == (False, HELD)
    if how == "the server stops":
        await site.hub.stop(0.0)
    else:
        site.sessions.close(site.sessions.by_secret["a"], "closed")
    seen, exited = await talk.to_end()
    assert (len(seen), exited.exit_code, bool(exited.why)) == (shell.taken, 0, True)
    assert seen == (bytes(range(256)) * 4 * 1024)[: shell.taken]
    await until(lambda: shell.closed)
    await saying


async def test_a_cut_just_as_the_end_is_told(site: Site) -> None:
    """The exit code waits for whoever comes back, until somebody has taken it."""
    talk, shell = await site.opened()
    await shell.exits(7)
    assert (await anext(talk.answers)).WhichOneof("message") == "exited"
    await until(lambda: shell.closed)
    await settled()
    await talk.leave()
    back = site.talk()
    back.open("a")
    assert (await back.opened()).resumed
    assert await back.to_end() == (b"", pb.ShellExited(exit_code=7))
    await until(lambda: not len(site.hub))


async def test_a_session_that_cannot_be_begun(site: Site) -> None:
    """The store was away for a moment: nothing is started, and the session is there for another try."""
    site.sessions.opened("a")
    site.sessions.wrong = StoreUnavailable("disk full")
    talk = site.talk()
    talk.open("a")
    with pytest.raises(StoreUnavailable):
        await talk.opened()
    assert (len(site.hub), site.backend.opened) == (0, [])
    site.sessions.wrong = None
    await site.opened("a")


# Ended by others.


async def test_a_session_that_is_over_ends_its_shell(site: Site) -> None:
    """An operator closed it, or the job ended: the client hears why, after all that was written; the program is ended."""
    talk, shell = await site.opened()
    await shell.says(b"last words")
    await settled()
    site.sessions.close(site.sessions.by_secret["a"], "the job is over")
    assert await talk.to_end() == (b"last words", pb.ShellExited(why="the job is over"))
    await until(lambda: not len(site.hub))
    assert shell.closed


async def test_the_end_of_the_job_kills_the_shell_before_it_is_known(site: Site) -> None:
    """Its user hears that the job is over, and not of a signal."""
    talk, shell = await site.opened()
    await shell.exits(137)
    await settled()
    site.sessions.close(site.sessions.by_secret["a"], "the job is over")
    assert (await talk.to_end())[1] == pb.ShellExited(why="the job is over")


async def test_a_shell_that_was_killed_alone(site: Site) -> None:
    """The exit code is told when its job has not ended a moment later."""
    talk, shell = await site.opened()
    await shell.exits(137)
    await settled()
    site.clock.move(1_000)
    assert (await talk.to_end())[1] == pb.ShellExited(exit_code=137)


async def test_a_session_that_is_over_while_nobody_is_there(site: Site) -> None:
    """Its shell goes at once."""
    talk, shell = await site.opened()
    await talk.leave()
    site.sessions.close(site.sessions.by_secret["a"], "the session was closed")
    await until(lambda: not len(site.hub))
    assert shell.closed


async def test_a_session_that_is_over_while_its_shell_is_opened(site: Site) -> None:
    """The shell that then comes is closed again, and the client is told why."""
    site.sessions.opened("a")
    site.backend.gate.clear()
    talk = site.talk()
    talk.open("a")
    opening = asyncio.ensure_future(talk.opened())
    await until(lambda: bool(site.sessions.begun))
    site.sessions.close(site.sessions.by_secret["a"], "the session was closed")
    site.backend.gate.set()
    await opening
    assert await talk.to_end() == (b"", pb.ShellExited(why="the session was closed"))
    await until(lambda: site.backend.opened[0].closed)


async def test_a_job_that_is_suspended_ends_its_shells(site: Site) -> None:
    """They would stand still without a word; nobody gets a new one until it goes on."""
    talk, shell = await site.opened("a")
    other, _ = await site.opened("b", "2")
    site.sessions.opened("c")
    site.job_is(State.SUSPENDED)
    seen, exited = await talk.to_end()
    assert (seen, "suspended" in exited.why) == (b"", True)
    await until(lambda: shell.closed)
    with pytest.raises(WrongState, match="suspended"):
        await site.opened("c")
    site.job_is(State.RUNNING)
    await site.opened("c")
    await other.leave()
    assert not site.backend.opened[1].closed


async def test_an_operators_program_in_a_suspended_job_leaves_no_session(site: Site) -> None:
    """It was suspended between the look at it and the start. The session of a program would count until the job ends."""
    site.job_is(State.SUSPENDED)
    with pytest.raises(WrongState, match="suspended"):
        await site.program("true")
    assert site.sessions.open == []


async def test_a_server_that_stops_says_so(site: Site) -> None:
    """Who is attached hears of it, who is not loses the shell, and nobody gets a new one."""
    site.sessions.opened("new")
    attached, shell = await site.opened("a")
    left, other = await site.opened("b")
    await left.leave()
    reading = asyncio.ensure_future(attached.to_end())
    await site.hub.stop(5.0)
    seen, exited = await reading
    assert seen == b""
    assert "being stopped" in exited.why
    assert (shell.closed, other.closed, len(site.hub)) == (True, True, 0)
    with pytest.raises(BackendDown, match="being stopped"):
        await site.opened("new")


async def test_a_client_that_does_not_listen_does_not_keep_the_server_from_stopping(site: Site) -> None:
    """It has so long as was said; its program is ended in any case."""
    _, shell = await site.opened()
    stopping = asyncio.ensure_future(site.hub.stop(5.0))
    await settled()
    assert (shell.closed, stopping.done()) == (True, False)
    site.clock.move(5_000)
    await stopping


async def test_nothing_is_left_when_the_hub_is_left() -> None:
    """No task, no reader of output, no program."""
    site = Site()
    before = asyncio.all_tasks()
    async with site.hub:
        first, shell = await site.opened("a")
        second, other = await site.opened("b")
        await first.leave()
        await second.leave()
        await site.program("id")
        await site.all_leave()
    assert all(s.closed and not s.open_readers for s in (shell, other, site.backend.opened[2]))
    assert not site.sessions.open
    assert asyncio.all_tasks() == before


# What is written down.


async def test_the_log_tells_who_and_where_and_never_what(site: Site) -> None:
    """Opened, left, come back, closed: each with session, job, rank and user; no secret, nothing typed, nothing written."""
    with structlog.testing.capture_logs() as lines:
        talk, shell = await site.opened("canary-secret", rank=1)
        talk.type(b"canary-typed")
        await shell.says(b"canary-written")
        await talk.output(14)
        await talk.leave()
        back, _ = await site.opened("canary-secret", rank=1)
        await shell.exits(4)
        await back.to_end()
        await until(lambda: not len(site.hub))
    told: list[dict[str, Any]] = [dict(line) for line in lines]
    assert [line["event"] for line in told] == ["shell.opened", "shell.detached", "shell.resumed", "shell.closed"]
    assert all((line["session"], line["job"], line["rank"], line["user"]) == ("s1", "1", 1, "alice") for line in told)
    assert told[-1]["exit_code"] == 4
    assert "canary" not in str(lines)
