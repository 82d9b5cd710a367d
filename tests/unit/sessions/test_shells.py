"""The hub of open shells: opening, coming back, limits, ends, with programs that the test plays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import structlog
from fakes.clock import FakeClock
from fakes.shells import HELD, MemorySessions, MemoryShell, MemoryShells, Talk
from serai.sessions.v1 import sessions_service_pb2 as pb
from serai_backends.errors import BackendUnavailable, JobNotThere
from serai_backends.model import TerminalSize
from serai_server.errors import BackendDown, Forbidden, InvalidRequest, SessionUnknown, Unsupported, WrongState
from serai_server.jobs.registry import Registry
from serai_server.sessions.open_shell import KEPT
from serai_server.sessions.shell_requests import MOST_INPUT
from serai_server.sessions.shells import ShellHub
from serai_server.store.api import StoreUnavailable
from serai_server.store.model import Committed, JobRecord, State

MINUTE_MS = 60_000


class Site:
    """A hub with two running replicas of job 1 and one of job 2."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.backend = MemoryShells(("1", 0), ("1", 1), ("2", 0))
        self.sessions = MemorySessions(self.backend)
        self.jobs = Registry()
        self.hub = ShellHub(backend=self.backend, sessions=self.sessions, jobs=self.jobs, clock=self.clock, detached_ms=MINUTE_MS)
        self.talks: list[Talk] = []

    def talk(self, *, holder: bool = False) -> Talk:
        self.talks.append(Talk(lambda requests: self.hub.shell(requests, holder=holder)))
        return self.talks[-1]

    def job_is(self, state: State) -> None:
        """Job 1, as the store has it now."""
        record = JobRecord(id="1", state=state, target=0, version=1, replicas=2, created_at_ms=1, started_at_ms=1, wake_at_ms=0)
        self.jobs.committed([Committed(records=(record,))])

    async def all_leave(self) -> None:
        """No connection is left to the garbage collector."""
        for talk in self.talks:
            await talk.leave()

    async def opened(self, secret: str = "a", job_id: str = "1", rank: int = 0) -> tuple[Talk, MemoryShell]:
        """A session with its shell, attached."""
        if secret not in self.sessions.by_secret:
            self.sessions.opened(secret, job_id, rank)
        talk = self.talk()
        talk.open(secret)
        await talk.opened()
        return talk, self.backend.opened[-1]

    async def program(self, *argv: str) -> tuple[Talk, MemoryShell]:
        talk = self.talk()
        talk.run(*argv)
        await talk.opened()
        return talk, self.backend.opened[-1]


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    async with made.hub:
        yield made
        await made.all_leave()


async def until(condition: Callable[[], bool]) -> None:
    """Give way until it holds; the timeout of pytest ends what never does."""
    while not condition():
        await asyncio.sleep(0)


async def settled() -> None:
    """Whatever can go on without time passing has gone on."""
    for _ in range(50):
        await asyncio.sleep(0)


# A shell, from its start to its end.


async def test_what_is_typed_goes_in_and_what_is_written_comes_out(site: Site) -> None:
    """`opened`, then bytes each way as they are, then the program's exit code; the session is over with it."""
    session = site.sessions.opened("a")
    talk = site.talk(holder=True)
    talk.open("a", (132, 43))
    opened = await talk.opened()
    assert (opened.session.id, opened.session.attached, opened.resumed) == (session.id, True, False)
    shell = site.backend.opened[0]
    assert (shell.argv, shell.sizes) == ((), [TerminalSize(columns=132, rows=43)])
    talk.type(b"ls\r")
    await until(lambda: bytes(shell.typed) == b"ls\r")
    await shell.says(b"\x1b[1m\xff\x00")
    assert await talk.output(6) == b"\x1b[1m\xff\x00"
    talk.resize(80, 25)
    await until(lambda: shell.sizes[-1] == TerminalSize(columns=80, rows=25))
    await shell.says(b"bye")
    await shell.exits(3)
    assert await talk.to_end() == (b"bye", pb.ShellExited(exit_code=3))
    await until(lambda: not len(site.hub))
    assert (shell.closed, session.over.is_set(), session.attached) == (True, True, False)


async def test_who_tells_no_size_gets_the_usual_one(site: Site) -> None:
    """80 columns and 24 rows."""
    _, shell = await site.opened()
    assert shell.sizes == [TerminalSize(columns=80, rows=24)]


async def test_a_program_of_an_operators_tool(site: Site) -> None:
    """It needs no session opened before, gets its arguments, and is in the list of sessions while it runs."""
    talk, shell = await site.program("ps", "-ef")
    assert shell.argv == ("ps", "-ef")
    assert [session.attached for session in site.sessions.open] == [True]
    await shell.exits(0)
    assert (await talk.to_end())[1] == pb.ShellExited(exit_code=0)
    await until(lambda: not site.sessions.open)


async def test_a_program_ends_with_its_connection(site: Site) -> None:
    """There is nothing by which somebody could come back to it."""
    talk, shell = await site.program("sleep", "1000")
    await talk.leave()
    await until(lambda: not len(site.hub))
    assert shell.closed
    assert not site.sessions.open


async def test_a_client_that_says_no_more_still_hears(site: Site) -> None:
    """The end of what is typed is not the end of the program."""
    talk, shell = await site.opened()
    talk.type(b"x")
    talk.say_no_more()
    await until(lambda: bytes(shell.typed) == b"x")
    await shell.says(b"still here")
    assert await talk.output(10) == b"still here"


async def test_an_ending_that_nobody_saw_is_said_so(site: Site) -> None:
    """No exit code is made up."""
    talk, shell = await site.opened()
    await shell.exits(None)
    _, exited = await talk.to_end()
    assert not exited.HasField("exit_code")
    assert "nobody saw" in exited.why


async def test_a_way_that_breaks_is_told_in_words(site: Site) -> None:
    """After all output that came, with the backend's words."""
    talk, shell = await site.opened()
    await shell.says(b"before")
    await shell.breaks("node n1 does not answer")
    seen, exited = await talk.to_end()
    assert (seen, exited.HasField("exit_code")) == (b"before", False)
    assert "node n1 does not answer" in exited.why


async def test_typing_into_a_program_that_has_just_ended_is_no_error(site: Site) -> None:
    """Its ending is told, not that a key was late."""
    talk, shell = await site.opened()
    await shell.says(b"x" * 10)
    await shell.exits(0)
    talk.type(b"late")
    talk.resize(10, 10)
    await settled()
    assert await talk.to_end() == (b"x" * 10, pb.ShellExited(exit_code=0))


# Coming back.


async def test_a_cut_connection_comes_back_to_its_shell(site: Site) -> None:
    """Within the minute, with the last output; the program noticed nothing, and its session stayed open."""
    talk, shell = await site.opened()
    await shell.says(b"one ")
    assert await talk.output(4) == b"one "
    await talk.leave()
    assert not site.sessions.by_secret["a"].attached
    await shell.says(b"two ")
    site.clock.move(MINUTE_MS - 1)
    await settled()
    back = site.talk()
    back.open("a")
    assert (await back.opened()).resumed
    assert site.sessions.by_secret["a"].attached
    assert await back.output(8) == b"one two "
    back.type(b"x")
    await until(lambda: bytes(shell.typed) == b"x")
    assert len(site.backend.opened) == 1
    site.clock.move(10 * MINUTE_MS)
    await settled()
    await shell.says(b"three")
    assert await back.output(5) == b"three"


async def test_nobody_comes_back(site: Site) -> None:
    """After the minute the program is ended and the session is over."""
    talk, shell = await site.opened()
    await talk.leave()
    site.clock.move(MINUTE_MS - 1)
    await settled()
    assert not shell.closed
    site.clock.move(1)
    await until(lambda: not len(site.hub))
    assert shell.closed
    assert "60 s" in site.sessions.by_secret["a"].why_over
    late = site.talk()
    late.open("a")
    with pytest.raises(SessionUnknown):
        await late.opened()


async def test_each_cut_has_a_minute_of_its_own(site: Site) -> None:
    """A connection that comes and goes does not use up the time of the next."""
    talk, shell = await site.opened()
    for _ in range(5):
        await talk.leave()
        site.clock.move(MINUTE_MS - 1)
        await settled()
        talk, _ = await site.opened()
    assert not shell.closed


async def test_a_program_that_ended_meanwhile_is_told_of(site: Site) -> None:
    """Its last output and its exit code wait for the rest of the minute."""
    talk, shell = await site.opened()
    await talk.leave()
    await shell.says(b"done")
    await shell.exits(7)
    await until(lambda: shell.closed)
    back = site.talk()
    back.open("a")
    assert (await back.opened()).resumed
    assert await back.to_end() == (b"done", pb.ShellExited(exit_code=7))
    await until(lambda: not len(site.hub))
    assert site.sessions.by_secret["a"].over.is_set()


async def test_a_program_that_ended_meanwhile_is_forgotten_after_the_minute(site: Site) -> None:
    """Nobody came to hear of it."""
    talk, shell = await site.opened()
    await talk.leave()
    await shell.exits(7)
    await settled()
    assert len(site.hub) == 1
    site.clock.move(MINUTE_MS)
    await until(lambda: not len(site.hub))
    assert not site.sessions.open


async def test_who_comes_back_has_full_screens_drawn_again(site: Site) -> None:
    """The size goes off by a row and back, with a moment in between, so that the program sees both; a real change is enough by itself."""
    talk, shell = await site.opened()
    await talk.leave()
    back, _ = await site.opened()
    await until(lambda: len(shell.sizes) == 2)
    assert shell.sizes[-1] == TerminalSize(columns=80, rows=23)
    site.clock.move(50)
    await until(lambda: len(shell.sizes) == 3)
    assert shell.sizes[-1] == TerminalSize(columns=80, rows=24)
    await back.leave()
    again = site.talk()
    again.open("a", (100, 30))
    await again.opened()
    site.clock.move(50)
    await settled()
    assert shell.sizes[3:] == [TerminalSize(columns=100, rows=30)]


async def test_a_size_that_is_told_while_it_draws_again_stays(site: Site) -> None:
    """The second half of the trick goes by what was asked for last."""
    talk, shell = await site.opened()
    await talk.leave()
    back, _ = await site.opened()
    await until(lambda: len(shell.sizes) == 2)
    back.resize(50, 10)
    await until(lambda: len(shell.sizes) == 3)
    site.clock.move(50)
    await until(lambda: len(shell.sizes) == 4)
    assert shell.sizes[-1] == TerminalSize(columns=50, rows=10)


async def test_a_second_window_is_refused(site: Site) -> None:
    """While the first is connected, and also while its shell is only being opened; the first one is not disturbed."""
    site.sessions.opened("a")
    site.backend.gate.clear()
    first, second = site.talk(), site.talk()
    first.open("a")
    second.open("a")
    opening = asyncio.ensure_future(first.opened())
    await settled()
    with pytest.raises(WrongState, match="another window"):
        await second.opened()
    site.backend.gate.set()
    assert not (await opening).resumed
    third = site.talk()
    third.open("a")
    with pytest.raises(WrongState, match="another window"):
        await third.opened()
    await site.backend.opened[0].says(b"mine")
    assert await first.output(4) == b"mine"


# Memory and pace.


async def test_a_slow_reader_slows_the_program(site: Site) -> None:
    """What waits in the server is bounded; the rest waits in the program, and comes when it is read, all of it."""
    talk, shell = await site.opened()
    data = bytes(range(256)) * 16 * 1024
    saying = asyncio.ensure_future(shell.says(data))
    await settled()
    assert not saying.done()
    assert shell.unread == HELD
    assert await talk.output(len(data)) == data
    await saying


async def test_nobody_attached_the_program_goes_on_and_the_oldest_output_goes(site: Site) -> None:
    """A program must not stand still because a train is in a tunnel; who comes back sees the end of it."""
    talk, shell = await site.opened()
    await talk.leave()
    data = b"".join(b"%07d " % number for number in range(200_000))
    await shell.says(data)
    await until(lambda: not shell.unread)
    back, _ = await site.opened()
    assert await back.output(KEPT) == data[-KEPT:]


async def test_a_program_that_waited_for_a_slow_reader_goes_on_when_they_leave(site: Site) -> None:
    """The cut of a connection that did not read lets it write on."""
    talk, shell = await site.opened()
    saying = asyncio.ensure_future(shell.says(b"x" * 4 * 1024 * 1024))
    await settled()
    assert not saying.done()
    await talk.leave()
    await saying


async def test_a_program_that_does_not_read_slows_who_types_and_nothing_else(site: Site) -> None:
    """Its output comes all the same, and leaving works."""
    talk, shell = await site.opened()
    shell.deaf = True
    for _ in range(100):
        talk.type(b"x" * 1_000)
    await shell.says(b"busy")
    assert await talk.output(4) == b"busy"
    await talk.leave()
    assert talk.open_requests == 0


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
