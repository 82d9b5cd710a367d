"""SessionsService.Shell as its callers reach it, inside the process and over the Unix socket: with the real registry, store and chain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import grpc.aio
import pytest
from fakes.clock import FakeClock
from fakes.core_on import START_MS, plan_on, terminate, until
from fakes.front import FixedClock, silent
from fakes.instant import InstantMachine
from fakes.reachable import FakeShell, ReachableBackend
from fakes.sessions import SHELL, Site, machine_at, reachable_job, refusals, site_in
from fakes.shells import MemoryShell, Talk
from google.rpc import error_details_pb2, status_pb2
from serai.sessions.v1 import sessions_service_pb2 as pb
from serai.sessions.v1 import sessions_service_pb2_grpc as stubs
from serai_backends.model import TerminalSize
from serai_server.main import running_server
from serai_server.rpc.dispatch import Dispatcher
from serai_server.rpc.health import Health
from serai_server.rpc.server import grpc_server
from serai_server.rpc.services import dispatcher
from serai_server.rpc.status import RpcFailure
from serai_server.sessions.open_shell import KEPT
from serai_server.store.model import State

SHELL_CALL = "/serai.sessions.v1.SessionsService/Shell"
HOLDER = {"serai-caller": "session"}
Requests = AsyncIterator[pb.ShellRequest]


@dataclass
class Front:
    site: Site
    answers: Callable[[Requests, Mapping[str, str]], AsyncGenerator[pb.ShellResponse]]

    def talk(self, metadata: Mapping[str, str] = HOLDER) -> Talk:
        return Talk(lambda requests: self.answers(requests, metadata))

    async def opened(self, job_id: str = "1", rank: int = 0) -> tuple[Talk, str]:
        """A shell of a new session, attached, and its secret."""
        secret = (await self.site.open(SHELL, job_id, rank, "alice")).secret
        talk = self.talk()
        talk.open(secret)
        await talk.opened()
        return talk, secret

    @property
    def shell(self) -> FakeShell:
        return self.site.backend.shells[-1][2]


def in_process(server: Dispatcher) -> Callable[[Requests, Mapping[str, str]], AsyncGenerator[pb.ShellResponse]]:
    async def encoded(requests: Requests) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request.SerializeToString()

    async def answers(requests: Requests, metadata: Mapping[str, str]) -> AsyncGenerator[pb.ShellResponse]:
        async with aclosing(server.exchange(SHELL_CALL, encoded(requests), metadata)) as each:
            async for answer in each:
                yield pb.ShellResponse.FromString(answer)

    return answers


def over_socket(stub: stubs.SessionsServiceAsyncStub) -> Callable[[Requests, Mapping[str, str]], AsyncGenerator[pb.ShellResponse]]:
    async def answers(requests: Requests, metadata: Mapping[str, str]) -> AsyncGenerator[pb.ShellResponse]:
        call = stub.Shell(requests, metadata=tuple(metadata.items()))
        try:
            async for answer in call:
                yield answer
        finally:
            call.cancel()

    return answers


@pytest.fixture(params=["in process", "socket"])
async def front(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Front]:
    """Job 1 with two ranks and job 2, running; and one of the two ways to the server."""
    async with AsyncExitStack() as stack:
        site = await stack.enter_async_context(site_in(tmp_path))
        await site.run(reachable_job("1", replicas=2), reachable_job("2"))
        core = site.core
        server = dispatcher(
            jobs=core.jobs,
            changes=core.changes,
            events=core.events,
            sessions=core.sessions.service,
            shells=core.sessions.shells,
            health=Health(),
            clock=FixedClock(),
            log=silent(),
        )
        if request.param == "in process":
            yield Front(site, in_process(server))
            return
        await stack.enter_async_context(grpc_server(server, tmp_path / "s.sock"))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"unix:{tmp_path / 's.sock'}"))
        yield Front(site, over_socket(stubs.SessionsServiceStub(channel)))


async def refused(talk: Talk) -> tuple[str, str]:
    """Reason and field of the error with which it ends."""
    try:
        async for _ in talk.answers:
            pass
    except RpcFailure as error:
        status = error.status
    except grpc.aio.AioRpcError as error:
        found = dict(error.trailing_metadata() or ())["grpc-status-details-bin"]
        status = status_pb2.Status.FromString(cast("bytes", found))
    else:
        raise AssertionError("it was not refused")
    info, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert status.details[0].Unpack(info)
    fields = [v.field for v in request.field_violations] if len(status.details) > 1 and status.details[1].Unpack(request) else []
    return info.reason, "".join(fields)


async def so(condition: Callable[[], bool]) -> None:
    """Once it is."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


async def test_a_shell_from_its_start_to_its_end(front: Front) -> None:
    """What is typed comes back, a new size is the program's, its exit code is told, and its session is over."""
    secret = (await front.site.open(SHELL, "1", 1, "alice")).secret
    talk = front.talk()
    talk.open(secret, (100, 30))
    opened = await talk.opened()
    assert (opened.session.job_id, opened.session.rank, opened.session.user, opened.session.attached) == ("1", 1, "alice", True)
    talk.type(b"hello\r")
    assert await talk.output(6) == b"hello\r"
    talk.resize(120, 40)
    talk.type(b"size\r")
    assert await talk.output(13) == b"size\r120x40\r\n"
    talk.type(b"exit 7\r")
    assert await talk.to_end() == (b"exit 7\r", pb.ShellExited(exit_code=7))
    await so(lambda: front.shell.closed)
    again = front.talk()
    again.open(secret)
    assert await refused(again) == ("SESSION_UNKNOWN", "")


async def test_a_call_that_is_cut_leaves_its_shell_and_nothing_else(front: Front) -> None:
    """Whoever goes away ends every task of the call, also the one that reads what they type; the shell waits, and gives its last output."""
    before = len(asyncio.all_tasks())
    talk, secret = await front.opened()
    talk.type(b"one")
    await talk.output(3)
    assert len(asyncio.all_tasks()) > before
    await talk.leave()
    (session,) = await front.site.sessions.list("1")
    # The shell itself is read by one task and looked after by some; those of the call are gone.
    await so(lambda: not session.attached)
    kept = len(asyncio.all_tasks())
    for _ in range(5):
        back = front.talk()
        back.open(secret)
        assert (await back.opened()).resumed
        assert await back.output(3) == b"one"
        await back.leave()
        await so(lambda: not session.attached)
    await so(lambda: len(asyncio.all_tasks()) <= kept)
    assert not front.shell.closed
    assert talk.open_requests == 0
    front.shell.end(0)
    front.site.clock.move(60_000)
    await so(lambda: len(asyncio.all_tasks()) <= before)


async def test_a_reader_that_is_cancelled_in_the_middle(front: Front) -> None:
    """A client task that is cancelled while it waits for output leaves as orderly as one that closes."""
    talk, _ = await front.opened()
    waiting = asyncio.ensure_future(talk.output(1))
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    (session,) = await front.site.sessions.list("1")
    await so(lambda: not session.attached)
    assert not front.shell.closed


async def test_tools_run_programs_and_holders_do_not(front: Front) -> None:
    """Without a session; a holder of one is refused, whatever else they know."""
    talk = front.talk({})
    talk.run("python3", "-q", rank=1)
    opened = await talk.opened()
    assert front.shell.argv == ("python3", "-q")
    assert [s.id for s in await front.site.sessions.list("1")] == [opened.session.id]
    talk.type(b"exit 3\r")
    assert (await talk.to_end())[1] == pb.ShellExited(exit_code=3)
    assert await front.site.sessions.list("1") == []
    holder = front.talk(HOLDER)
    holder.run("id")
    assert await refused(holder) == ("FORBIDDEN", "")


async def test_a_programs_end_with_its_call(front: Front) -> None:
    """Nothing that a tool started goes on when the tool is gone."""
    talk = front.talk({})
    talk.run("sleep", "1000")
    await talk.opened()
    await talk.leave()
    await so(lambda: front.shell.closed)
    assert await front.site.sessions.list() == []


async def test_what_is_wrong_is_told_with_its_place(front: Front) -> None:
    """Before something is opened and after; ranks and jobs that are not there as when a session is opened."""
    for first, field in ((pb.ShellRequest(input=b"x"), "input"), (pb.ShellRequest(), "message")):
        talk = front.talk()
        talk.say(first)
        assert await refused(talk) == ("INVALID_REQUEST", field)
    silent_one = front.talk()
    silent_one.say_no_more()
    assert await refused(silent_one) == ("INVALID_REQUEST", "message")
    talk, _ = await front.opened()
    talk.resize(0, 1)
    assert await refused(talk) == ("INVALID_REQUEST", "resize.columns")
    nowhere = front.talk({})
    nowhere.run("id", job_id="9")
    assert (await refused(nowhere))[0] == "JOB_UNKNOWN"
    with refusals() as told:
        guess = front.talk()
        guess.open("guessed")
        assert await refused(guess) == ("SESSION_UNKNOWN", "")
    assert [line["kind"] for line in told] == ["SHELL"]


async def test_whoever_closes_the_session_ends_the_shell(front: Front) -> None:
    """An operator closes one, a job is stopped, a job is suspended: each client is told why."""
    closed, _ = await front.opened("1", 0)
    (session,) = await front.site.sessions.list("1")
    await front.site.sessions.close(session.id)
    assert (await closed.to_end())[1] == pb.ShellExited(why="the session was closed")
    paused, _ = await front.opened("1", 1)
    await front.site.core.changes.suspend(["1"])
    assert "suspended" in (await paused.to_end())[1].why
    stopped, _ = await front.opened("2")
    await terminate(front.site.core, "2")
    await until(front.site.core, "2", lambda row: row.state is State.SUCCESS, front.site.clock)
    assert (await stopped.to_end())[1].why
    await so(lambda: all(shell.closed for _, _, shell in front.site.backend.shells))
    assert await front.site.sessions.list() == []


class Flood(ReachableBackend):
    """Its shells' programs are the test's, and wait for who reads."""

    def __init__(self, machine: InstantMachine) -> None:
        super().__init__(machine)
        self.programs: list[MemoryShell] = []

    async def open_shell(self, job_id: str, rank: int, argv: tuple[str, ...], size: TerminalSize) -> MemoryShell:  # pyright: ignore[reportIncompatibleMethodOverride]  # another Shell
        self.programs.append(MemoryShell(argv, size))
        return self.programs[-1]


async def test_a_server_that_stops_tells_who_is_in_a_shell(tmp_path: Path) -> None:
    """Over the socket, in words and not by a broken connection; and all that the program has written comes first."""
    clock = FakeClock(START_MS)
    backend = Flood(machine_at(clock))
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_server(plan_on(tmp_path), backend, clock, tmp_path / "s.sock", 5_000))
        await server.core.jobs.create([reachable_job("1")])
        await until(server.core, "1", lambda row: row.state is State.RUNNING)
        async with grpc.aio.insecure_channel(f"unix:{tmp_path / 's.sock'}") as channel:
            talk = Talk(lambda requests: over_socket(stubs.SessionsServiceStub(channel))(requests, {}))
            talk.run()
            await talk.opened()
            data = bytes(range(256)) * 8 * 1024
            reading = asyncio.ensure_future(talk.to_end())
            await backend.programs[0].says(data)
            await so(lambda: backend.programs[0].taken == len(data))
            await stack.aclose()
            seen, exited = await reading
    assert seen == data
    assert "being stopped" in exited.why
    assert backend.programs[0].closed


async def test_a_client_that_does_not_read_slows_the_program(front: Front) -> None:
    """On the socket gRPC's own windows fill first, and then the program waits; nothing grows in the server."""
    talk = front.talk({})
    program = MemoryShell((), TerminalSize(80, 24))

    async def open_shell(job_id: str, rank: int, argv: tuple[str, ...], size: TerminalSize) -> MemoryShell:
        return program

    front.site.backend.open_shell = open_shell  # pyright: ignore[reportAttributeAccessIssue]  # a program that waits for who reads
    talk.run()
    await talk.opened()
    data = bytes(range(256)) * 64 * 1024
    saying = asyncio.ensure_future(program.says(data))
    seen = -1
    while seen != program.taken:
        seen = program.taken
        await asyncio.sleep(0.1)
    assert not saying.done()
    assert seen < KEPT + 8 * 1024 * 1024
    assert await talk.output(len(data)) == data
    await saying


async def test_a_cut_while_the_start_is_stored(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same secret comes back to the same shell, and nothing of it is there any more when it is over."""
    store = front.site.core.store.sessions
    redeem, storing, stored = store.redeem, asyncio.Event(), asyncio.Event()

    async def slow(session_id: str, cookie: bytes, at_ms: int, expires_at_ms: int) -> bool:
        storing.set()
        await stored.wait()
        return await redeem(session_id, cookie, at_ms, expires_at_ms)

    monkeypatch.setattr(store, "redeem", slow)
    opened = await front.site.open(SHELL, "1")
    talk = front.talk()
    talk.open(opened.secret)
    opening = asyncio.ensure_future(talk.opened())
    await storing.wait()
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    await so(lambda: not opened.session.attached)
    stored.set()
    back = front.talk()
    back.open(opened.secret)
    assert (await back.opened()).resumed
    await front.site.sessions.close(opened.session.id)
    await back.to_end()
    assert await front.site.sessions.list() == []


async def test_a_start_that_failed_for_now_is_tried_again(front: Front) -> None:
    """With the same secret, within the time that a new session has; then it is over."""
    opened = await front.site.open(SHELL, "1")
    for _ in range(2):
        front.site.backend.away = True
        talk = front.talk()
        talk.open(opened.secret)
        assert (await refused(talk))[0] == "BACKEND_UNAVAILABLE"
        front.site.clock.move(299_999)
    assert not opened.session.expired(front.site.clock.now_ms())
    front.site.backend.away = False
    back = front.talk()
    back.open(opened.secret)
    assert (await back.opened()).session.expires_at_ms == 0
