"""Shells of UCloud's browsers: initialize, input, resize, and how each ends (facts 2021 §4.5, facts today §8)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fakes.clock import FakeClock
from fakes.gateway_sessions import UNKNOWN, FakeSessions, FakeShell, Held, unknown
from fakes.gateway_wire import Wire
from google.rpc import code_pb2, status_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from serai.sessions.v1 import sessions_service_pb2 as pb2
from serai_gateway.upstream import UpstreamError
from serai_gateway.ws.shell import NOT_OPEN, NOT_READ, ShellCalls
from serai_gateway.ws.terminal import PATIENCE_MS, RESET
from serai_gateway.ws.unproven import MOST_IN_VAIN, WORDS, Unproven

CALL = "jobs.compute.example.shell.open"
ACK = {"type": "ack"}


class Breaking(FakeSessions):
    """A server whose connections a test cuts."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = asyncio.Event()
        self.reads = True
        """The program takes what is typed."""

    async def exchange(self, method: str, requests: AsyncIterator[bytes], metadata: Mapping[str, str]) -> AsyncGenerator[bytes]:
        if self.away:
            raise UpstreamError(status_pb2.Status(code=code_pb2.UNAVAILABLE, message="Socket closed"))
        answers = super().exchange(method, requests if self.reads else _first_only(requests), metadata)
        try:
            while True:
                coming, cut = asyncio.ensure_future(anext(answers)), asyncio.ensure_future(self.cut.wait())
                try:
                    await asyncio.wait({coming, cut}, return_when=asyncio.FIRST_COMPLETED)
                    if not coming.done():
                        raise UpstreamError(status_pb2.Status(code=code_pb2.UNAVAILABLE, message="Socket closed"))
                    yield coming.result()
                except StopAsyncIteration:
                    return
                finally:
                    coming.cancel()
                    cut.cancel()
                    await asyncio.wait({coming, cut})
        finally:
            await answers.aclose()  # type: ignore[attr-defined]


async def _first_only(requests: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    yield await anext(requests)
    await asyncio.Event().wait()


async def _outlived(requests: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """An exchange's own task that still waits for the next request when the exchange is over."""
    while (request := await asyncio.shield(asyncio.ensure_future(_next(requests)))) is not None:
        yield request


async def _next(requests: AsyncIterator[bytes]) -> bytes | None:
    return await anext(requests, None)


class Browser:
    """The user's side of one socket."""

    def __init__(self, server: Breaking, clock: FakeClock, wire: Wire) -> None:
        self.server = server
        self.clock = clock
        self.wire = wire

    def say(self, stream_id: str, payload: Any, call: str = CALL) -> None:
        self.wire.say({"call": call, "streamId": stream_id, "payload": payload})

    def initialize(self, secret: str, stream_id: str = "0", **size: int) -> None:
        self.say(stream_id, {"type": "initialize", "sessionIdentifier": secret} | size)

    async def settle(self, seconds: float = 0) -> None:
        for _ in range(40):
            await asyncio.sleep(0)
            self.clock.move(int(seconds * 25))

    def frames(self) -> list[Any]:
        return [json.loads(text) for text in self.wire.sent]

    def shown(self) -> str:
        """What the terminal was given."""
        return "".join(frame["payload"].get("data", "") for frame in self.frames() if frame["type"] == "message")

    def answers(self) -> dict[str, tuple[int, Any]]:
        return {frame["streamId"]: (frame["status"], frame["payload"]) for frame in self.frames() if frame["type"] == "response"}

    async def until_shown(self, text: str) -> None:
        await self.wire.until(lambda: text in self.shown())

    async def answer(self, stream_id: str) -> tuple[int, Any]:
        await self.wire.until(lambda: stream_id in self.answers())
        return self.answers()[stream_id]


@asynccontextmanager
async def browser(server: Breaking, *, within_s: float = 60, query: bytes = b"") -> AsyncGenerator[Browser]:
    clock = FakeClock()
    calls = ShellCalls(server, clock, lambda: 0.5, frozenset({"example"}), Unproven(within_s=within_s))
    wire = Wire(query=query)
    async with wire.served(calls):
        yield Browser(server, clock, wire)


def opened(server: Breaking) -> tuple[Held, FakeShell]:
    server.run("1")
    held = server.open(pb2.SESSION_KIND_SHELL, "1")
    shell = server.shells[held.told.id] = FakeShell()
    return held, shell


@pytest.mark.parametrize("query", [b"", b"session=x&usernameHint=dXNlcg=="])
async def test_a_shell_from_its_first_word_to_its_last(query: bytes) -> None:
    """Browsers of both generations: `initialize` is answered on its stream, then data; input and resize by a response of their own."""
    server = Breaking()
    held, shell = opened(server)
    async with browser(server, query=query) as user:
        user.initialize(held.secret, cols=100, rows=30)
        await user.wire.until(lambda: bool(user.wire.sent))
        assert user.frames()[0] == {"streamId": "0", "payload": {"type": "initialize"}, "type": "message"}
        assert shell.size == (100, 30)
        user.say("1", {"type": "input", "data": "grüße\r"})
        assert await user.answer("1") == (200, ACK)
        await user.until_shown("grüße\r")
        user.say("2", {"type": "resize", "cols": 120, "rows": 40})
        assert await user.answer("2") == (200, ACK)
        await user.settle()
        assert shell.size == (120, 40)
        shell.end(3)
        assert await user.wire.closed() == 1000
        assert user.shown().endswith("\r\nThe shell has ended with exit code 3.\r\n")
        assert user.frames()[-1] == {"streamId": "0", "payload": ACK, "status": 200, "type": "response"}


async def test_output_is_never_cut_inside_a_character() -> None:
    """What is no UTF-8 is shown as such, in its place."""
    server = Breaking()
    held, shell = opened(server)
    async with browser(server) as user:
        user.initialize(held.secret)
        await user.wire.until(lambda: bool(user.wire.sent))
        for byte in "a€🦀".encode():
            shell.write(bytes([byte]))
            await user.settle()
        shell.write(b"\xffz")
        await user.until_shown("z")
        assert user.shown() == "a€🦀�z"


async def test_an_unknown_session_is_a_404_with_words() -> None:
    """Guessed or over: the same words, also on the terminal because browsers show no error; then the socket ends."""
    server = Breaking()
    held, _ = opened(server)
    server.close(held.told.id)
    for secret in ("guess", held.secret, ""):
        async with browser(server) as user:
            user.initialize(secret)
            assert await user.answer("0") == (404, {"why": UNKNOWN, "errorCode": user.answers()["0"][1]["errorCode"]})
            assert user.shown() == f"\r\n{UNKNOWN}\r\n"
            assert await user.wire.closed() == 1000
    assert server.refusals == ["shell"] * 3


async def test_before_initialize_there_is_nothing_to_type_into() -> None:
    """404 for input and resize (facts 2021 §4.5); the socket stays."""
    server = Breaking()
    held, _ = opened(server)
    async with browser(server) as user:
        user.say("5", {"type": "input", "data": "x"})
        user.say("6", {"type": "resize", "cols": 1, "rows": 1})
        assert await user.answer("5") == (404, {"why": NOT_OPEN, "errorCode": None})
        assert (await user.answer("6"))[0] == 404
        user.initialize(held.secret)
        await user.settle()
        user.say("7", {"type": "input", "data": "x"})
        assert (await user.answer("7"))[0] == 200


async def test_one_shell_on_a_socket() -> None:
    """A second `initialize` is refused and changes nothing; so is one of a shell that is open elsewhere."""
    server = Breaking()
    held, _ = opened(server)
    async with browser(server) as user:
        user.initialize(held.secret)
        await user.settle()
        user.initialize(held.secret, "1")
        assert (await user.answer("1"))[0] == 400
        user.say("2", {"type": "input", "data": "x"})
        await user.until_shown("x")
        async with browser(server) as other:
            other.initialize(held.secret)
            status, payload = await other.answer("0")
            assert (status, payload["why"]) == (400, "this shell is open in another window")
            assert await other.wire.closed() == 1000


async def test_a_cut_socket_leaves_the_shell_and_comes_back() -> None:
    """The same secret on a new socket: the same shell with the last of its output."""
    server = Breaking()
    held, shell = opened(server)
    async with browser(server) as user:
        user.initialize(held.secret)
        user.say("1", {"type": "input", "data": "before "})
        await user.until_shown("before ")
    assert (shell.over, held.told.attached) == (False, False)
    shell.write(b"meanwhile ")
    async with browser(server) as user:
        user.initialize(held.secret)
        await user.until_shown("before meanwhile ")
        user.say("1", {"type": "input", "data": "after"})
        await user.until_shown("after")


async def test_a_cut_on_the_servers_side_is_mended() -> None:
    """The browser notices a redrawn screen: a reset, then the last output; what was typed meanwhile arrives, with the size of now."""
    server = Breaking()
    held, shell = opened(server)
    async with browser(server) as user:
        user.initialize(held.secret)
        user.say("1", {"type": "input", "data": "one "})
        await user.until_shown("one ")
        server.away = True
        server.cut.set()
        await user.settle(3)
        server.cut.clear()
        user.say("2", {"type": "resize", "cols": 50, "rows": 20})
        user.say("3", {"type": "input", "data": "two"})
        await user.settle(3)
        server.away = False
        await user.settle(10)
        await user.until_shown("one two")
        assert user.shown() == f"one {RESET}one two"
        assert shell.size == (50, 20)
        assert bytes(shell.typed) == b"one two"
        assert user.wire.code is None


async def test_a_server_that_stays_away_ends_the_shell() -> None:
    """After as long as it would keep it; at once when it is away from the beginning."""
    server = Breaking()
    held, _ = opened(server)
    async with browser(server) as user:
        user.initialize(held.secret)
        await user.settle()
        server.away = True
        server.cut.set()
        await user.settle(PATIENCE_MS / 2_000)
        assert user.wire.code is None
        async with asyncio.timeout(20):
            while user.wire.code is None:
                await user.settle(20)
        assert user.answers()["0"][0] == 503
        assert "cannot be reached" in user.shown()
    async with browser(server) as user:
        user.initialize(held.secret)
        assert (await user.answer("0"))[0] == 503


async def test_a_shell_that_is_gone_when_one_comes_back() -> None:
    """The server's words for a session that is over."""
    server = Breaking()
    held, _ = opened(server)
    async with browser(server) as user:
        user.initialize(held.secret)
        await user.settle()
        server.cut.set()
        held.over.set()
        await user.settle(10)
        assert (await user.answer("0"))[0] == 404
        assert UNKNOWN in user.shown()


async def test_the_end_of_the_job_is_told() -> None:
    """Why, when the program did not end by itself."""
    server = Breaking()
    held, _ = opened(server)
    async with browser(server) as user:
        user.initialize(held.secret)
        await user.settle()
        server.end("1")
        assert await user.wire.closed() == 1000
        assert user.shown() == "\r\nThe shell has ended: the job ended.\r\n"


@pytest.mark.parametrize(
    ("call", "payload", "status"),
    [
        ("jobs.compute.other.shell.open", {"type": "initialize", "sessionIdentifier": "x"}, 404),
        ("jobs.provider.example.follow", {"type": "init", "job": {"id": "1"}}, 404),
        (CALL, {"type": "initialize"}, 400),
        (CALL, {"type": "input"}, 400),
        (CALL, {"type": "input", "data": 1}, 400),
        (CALL, {"type": "resize", "cols": "1", "rows": 1}, 400),
        (CALL, {"type": "other"}, 400),
        (CALL, {}, 400),
    ],
)
async def test_what_is_wrong_is_answered(call: str, payload: Any, status: int) -> None:
    """404 for other calls, 400 with words for payloads; a shell can be opened after it."""
    server = Breaking()
    held, _ = opened(server)
    async with browser(server) as user:
        user.say("9", payload, call)
        assert (await user.answer("9"))[0] == status
        user.initialize(held.secret)
        await user.wire.until(lambda: '"type":"initialize"' in user.wire.sent[-1])


@pytest.mark.parametrize(("asked", "made"), [((0, 0), (1, 1)), ((-5, 10**9), (1, 1_000)), ((1, 1_000), (1, 1_000))])
async def test_sizes_that_no_terminal_has(asked: tuple[int, int], made: tuple[int, int]) -> None:
    """A hidden window has none: the nearest that there is."""
    server = Breaking()
    held, shell = opened(server)
    async with browser(server) as user:
        user.initialize(held.secret, cols=asked[0], rows=asked[1])
        await user.settle()
        assert shell.size == made


async def test_a_long_paste_goes_in_pieces() -> None:
    """Of at most 64 KiB, as the server takes them; in order."""
    server = Breaking()
    held, shell = opened(server)
    shell.echoes = False
    text = "".join(f"{n:06}€" for n in range(30_000))
    async with browser(server) as user:
        user.initialize(held.secret)
        user.say("1", {"type": "input", "data": text})
        assert (await user.answer("1"))[0] == 200
        await user.settle()
        assert bytes(shell.typed) == text.encode()


@pytest.mark.parametrize("pieces", [3, 40])
async def test_a_long_paste_after_a_cut_stays_in_order(pieces: int) -> None:
    """Also while something of the connection that is over still waits for what is typed next: that is for the new one, all of it."""

    class Outliving(Breaking):
        def exchange(self, method: str, requests: AsyncIterator[bytes], metadata: Mapping[str, str]) -> AsyncGenerator[bytes]:
            return super().exchange(method, _outlived(requests), metadata)

    server = Outliving()
    held, shell = opened(server)
    shell.echoes = False
    paste = "".join(f"{n:08}" for n in range(pieces * 8 * 1024))
    async with browser(server) as user:
        user.initialize(held.secret)
        user.say("1", {"type": "input", "data": "one "})
        await user.settle()
        server.away = True
        server.cut.set()
        await user.settle()
        server.cut.clear()
        user.say("2", {"type": "input", "data": paste})
        await user.settle()
        server.away = False
        await user.settle(10)
        async with asyncio.timeout(10):
            while len(shell.typed) < len("one " + paste):
                await user.settle()
        assert bytes(shell.typed) == b"one " + paste.encode()


async def test_a_program_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is typed waits, and so does the browser's next message; after a while it is told that its text was not delivered."""
    monkeypatch.setattr("serai_gateway.ws.terminal.TYPE_S", 0.05)
    server = Breaking()
    server.reads = False
    held, shell = opened(server)
    async with browser(server) as user:
        user.initialize(held.secret)
        await user.settle()
        for n in range(40):
            user.say(str(n + 1), {"type": "input", "data": "x"})
        await user.wire.until(lambda: len(user.answers()) >= 20)
        answers = list(user.answers().values())
        assert answers[0] == (200, ACK)
        assert answers[-1] == (429, {"why": NOT_READ, "errorCode": None})
        shell.write(b"still there")
        await user.until_shown("still there")


async def test_a_browser_that_does_not_read_slows_its_shell_only() -> None:
    """Nothing piles up here: the exchange waits."""
    server = Breaking()
    held, shell = opened(server)
    async with browser(server) as user:
        user.initialize(held.secret)
        await user.wire.until(lambda: bool(user.wire.sent))
        user.wire.reads.clear()
        shell.write(b"y\n" * 1_000_000)
        await user.settle()
        assert len(user.wire.sent) == 1
        user.wire.reads.set()
        await user.wire.until(lambda: len(user.shown()) == 65_536 or len(user.shown()) > 65_536)


async def test_a_socket_without_a_shell_ends() -> None:
    """After half a minute, or after too many frames in vain; one with a shell stays."""
    server = Breaking()
    held, _ = opened(server)
    async with browser(server, within_s=0.05) as user:
        assert await user.wire.closed() == 1008
        assert user.wire.reason == WORDS
    async with browser(server) as user:
        for _ in range(MOST_IN_VAIN + 1):
            user.wire.say("{")
        assert await user.wire.closed() == 1008
    async with browser(server, within_s=1) as user:
        user.initialize(held.secret)
        await asyncio.sleep(1.1)
        assert user.wire.code is None


async def test_a_failure_of_ours_is_an_id() -> None:
    """Nothing of the inside reaches the browser."""

    class Broken(Breaking):
        async def exchange(self, method: str, requests: AsyncIterator[bytes], metadata: Mapping[str, str]) -> AsyncGenerator[bytes]:
            raise ValueError("secret inside")
            yield b""

    async with browser(Broken()) as user:
        user.initialize("x")
        status, payload = await user.answer("0")
        assert (status, "secret" in json.dumps(payload)) == (500, False)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text(max_size=20),
            st.binary(max_size=20),
            st.fixed_dictionaries(
                {
                    "call": st.sampled_from([CALL, "x"]),
                    "streamId": st.sampled_from(["0", "1", ""]),
                    "payload": st.sampled_from(
                        [{}, {"type": "input", "data": "x"}, {"type": "resize", "cols": 1, "rows": 1}, {"type": "initialize"}, {"type": 1}]
                    ),
                }
            ),
        ),
        max_size=30,
    )
)
def test_no_order_of_frames_breaks_a_socket(messages: list[Any]) -> None:
    """Whatever comes before: a good `initialize` opens the shell."""

    async def run() -> None:
        server = Breaking()
        held, _ = opened(server)
        async with browser(server) as user:
            for message in messages:
                user.wire.say(message)
            user.initialize(held.secret, "good")
            await user.wire.until(lambda: any('"streamId":"good"' in text for text in user.wire.sent))

    asyncio.run(run())


def test_unknown_is_unknown() -> None:
    """The fake's refusal is the server's: UNAUTHENTICATED with its own reason."""
    assert unknown().status.code == code_pb2.UNAUTHENTICATED
