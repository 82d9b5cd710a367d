"""What a client that is cut off and comes back is promised, tried with random lives of a connection.

Each connection sees the program's output from one byte on, without a gap and without a repetition, as long as it lasts. That byte is the
first one, or the one that KEPT bytes lie behind when it comes back. So nothing is lost but what was written more than KEPT bytes before
somebody came back.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from fakes.clock import FakeClock
from fakes.shells import MemorySessions, MemoryShell, MemoryShells, Talk
from hypothesis import example, given, settings
from hypothesis import strategies as st
from serai_server.jobs.registry import Registry
from serai_server.sessions.open_shell import KEPT
from serai_server.sessions.shells import ShellHub

if TYPE_CHECKING:
    from collections.abc import Sequence

_DATA = random.Random(7).randbytes(4 * 1024 * 1024)
_STEP = st.one_of(
    st.tuples(st.just("write"), st.one_of(st.integers(1, 300), st.integers(1, KEPT), st.integers(KEPT, 2 * KEPT))),
    st.tuples(st.just("wait"), st.just(100)),
    st.tuples(st.just("read"), st.integers(1, 12)),
    st.tuples(st.just("cut"), st.integers(0, 59_999)),
)
"""("write", bytes), ("wait", turns of the loop in which nobody reads), ("read", answers), ("cut", ms until somebody comes back)."""


class Life:
    """A program that writes _DATA, and who looks at it."""

    def __init__(self, hub: ShellHub, clock: FakeClock, backend: MemoryShells) -> None:
        self._hub, self._clock, self._backend = hub, clock, backend
        self._pieces: asyncio.Queue[int] = asyncio.Queue()
        self.written = 0
        """Bytes that the program was told to write."""
        self.left_at = 0
        """The end of what the connection before has seen."""

    @property
    def shell(self) -> MemoryShell:
        return self._backend.opened[0]

    async def program(self) -> None:
        """In a task of its own, because its terminal makes it wait."""
        at = 0
        while length := await self._pieces.get():
            await self.shell.says(_DATA[at : at + length])
            at += length
        await self.shell.exits(0)

    def write(self, length: int) -> None:
        length = min(length, len(_DATA) - self.written)
        self.written += length
        if length:
            self._pieces.put_nowait(length)

    def end(self) -> None:
        self._pieces.put_nowait(0)

    async def come(self) -> tuple[Talk, int]:
        """A connection and the place of the byte at which it begins."""
        talk = Talk(lambda requests: self._hub.shell(requests, holder=True))
        talk.open("a")
        resumed = (await talk.opened()).resumed
        return talk, max(0, self.written - KEPT) if resumed else 0


@settings(max_examples=60, deadline=None)
@example([("write", 2 * KEPT), ("wait", 100), ("read", 1), ("cut", 0), ("write", 2 * KEPT), ("wait", 100), ("cut", 59_999)])
@given(st.lists(_STEP, max_size=25))
def test_output_comes_whole_from_one_byte_on(steps: Sequence[tuple[str, int]]) -> None:
    """See above; and no byte but those is missing at the end."""
    asyncio.run(_live(steps))


async def _live(steps: Sequence[tuple[str, int]]) -> None:
    clock, backend = FakeClock(), MemoryShells(("1", 0))
    sessions = MemorySessions(backend)
    sessions.opened("a")
    async with (
        ShellHub(backend=backend, sessions=sessions, jobs=Registry(), clock=clock, detached_ms=60_000) as hub,
        asyncio.TaskGroup() as group,
    ):
        life = Life(hub, clock, backend)
        talk, start = await life.come()
        program = group.create_task(life.program())
        seen = b""
        for what, number in steps:
            if what == "write":
                life.write(number)
            elif what == "wait":
                for _ in range(number):
                    await asyncio.sleep(0)
            elif what == "read":
                for _ in range(number):
                    if start + len(seen) < life.written:
                        seen += (await anext(talk.answers)).output
            else:
                await talk.leave()
                assert seen == _DATA[start : start + len(seen)]
                life.left_at = start + len(seen)
                while life.shell.taken < life.written:
                    await asyncio.sleep(0)
                await asyncio.sleep(0)
                clock.move(number)
                talk, start = await life.come()
                assert start <= life.left_at or life.written - KEPT > life.left_at
                seen = b""
        life.end()
        rest, exited = await talk.to_end()
        seen += rest
        assert seen == _DATA[start : life.written]
        assert exited.exit_code == 0
        await program
    assert len(backend.opened) == 1
