"""Shells for tests of who uses them: a backend whose programs are written by the test, and sessions as the registry knows them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

from serai.sessions.v1 import sessions_service_pb2 as pb
from serai_backends.errors import BackendUnavailable, JobNotThere
from serai_backends.model import TerminalSize
from serai_server.errors import SessionUnknown, WrongState
from serai_server.sessions.session import Session
from serai_server.store.session_model import SessionKind, StoredSession

HELD = 64 * 1024
"""Bytes that a terminal holds for its reader; who writes more waits."""


class MemoryShell:
    """A program at a terminal, as the test plays it. Its output waits for a reader, its end comes after all of its output."""

    def __init__(self, argv: tuple[str, ...], size: TerminalSize) -> None:
        self.argv = argv
        self.sizes = [size]
        self.typed = bytearray()
        self.closed = False
        self.deaf = False
        """It does not read what is typed: who writes waits."""
        self.open_readers = 0
        self.taken = 0
        """Bytes of its output that were read."""
        self.exit_code: int | None = None
        self._held = bytearray()
        self._over: BaseException | int | None = None
        self._changed = asyncio.Condition()

    # The program's side.

    async def says(self, data: bytes) -> None:
        """Writes; waits while the terminal is full. What it writes after its terminal is gone is lost."""
        for at in range(0, len(data), HELD):
            piece = data[at : at + HELD]
            async with self._changed:
                await self._changed.wait_for(lambda piece=piece: len(self._held) + len(piece) <= HELD or self.closed)
                self._held += piece
                self._changed.notify_all()

    async def exits(self, code: int | None) -> None:
        """None = nobody sees how."""
        await self._ends(-1 if code is None else code)

    async def breaks(self, words: str) -> None:
        """The connection to it does."""
        await self._ends(BackendUnavailable(words))

    async def _ends(self, how: BaseException | int) -> None:
        async with self._changed:
            self._over = how
            self._changed.notify_all()

    @property
    def unread(self) -> int:
        return len(self._held)

    # The backend's side.

    async def output(self) -> AsyncGenerator[bytes]:
        self.open_readers += 1
        try:
            while True:
                async with self._changed:
                    await self._changed.wait_for(lambda: self._held or self._over is not None)
                    data, over = bytes(self._held), self._over
                    self._held.clear()
                    self.taken += len(data)
                    self._changed.notify_all()
                if data:
                    yield data
                elif isinstance(over, BaseException):
                    raise over
                else:
                    self.exit_code = over if over != -1 else None
                    return
        finally:
            self.open_readers -= 1

    async def write(self, data: bytes) -> None:
        if self.deaf:
            await asyncio.Event().wait()
        if self._over is not None:
            raise BackendUnavailable("it has ended")
        self.typed += data

    async def resize(self, size: TerminalSize) -> None:
        if self._over is not None:
            raise BackendUnavailable("it has ended")
        self.sizes.append(size)

    async def close(self) -> None:
        async with self._changed:
            self.closed = True
            self._changed.notify_all()


class MemoryShells:
    """A backend that opens shells in the replicas of `running`."""

    def __init__(self, *running: tuple[str, int]) -> None:
        self.running = set(running)
        self.opened: list[MemoryShell] = []
        self.gate = asyncio.Event()
        """Unset: opening one takes its time."""
        self.gate.set()
        self.wrong: Exception | None = None

    async def open_shell(self, job_id: str, rank: int, argv: tuple[str, ...], size: TerminalSize) -> MemoryShell:
        await self.gate.wait()
        if self.wrong is not None:
            raise self.wrong
        if (job_id, rank) not in self.running:
            raise JobNotThere(job_id)
        self.opened.append(MemoryShell(argv, size))
        return self.opened[-1]


class MemorySessions:
    """Sessions by their secret, found until they are over; programs get one of their own for jobs that run."""

    def __init__(self, backend: MemoryShells) -> None:
        self._backend = backend
        self._numbers = itertools.count(1)
        self.by_secret: dict[str, Session] = {}
        self.all: list[Session] = []
        self.begun: list[str] = []
        """Ids of those whose program was to be started."""
        self.wrong: Exception | None = None
        """Raised when one is begun."""

    def opened(self, secret: str, job_id: str = "1", rank: int = 0, user: str = "alice") -> Session:
        session = self._new(job_id, rank, user)
        self.by_secret[secret] = session
        return session

    def _new(self, job_id: str, rank: int, user: str) -> Session:
        row = StoredSession(
            id=f"s{next(self._numbers)}",
            secret=b"",
            cookie=b"",
            kind=SessionKind.SHELL,
            job_id=job_id,
            rank=rank,
            user=user,
            port=0,
            opened_at_ms=1,
            redeemed_at_ms=0,
            expires_at_ms=0,
        )
        self.all.append(Session(row))
        return self.all[-1]

    def close(self, session: Session, why: str) -> None:
        """As when an operator closes it, or its job ends."""
        if not session.over.is_set():
            session.why_over = why
            session.over.set()

    def shell_of(self, secret: str) -> Session:
        session = self.by_secret.get(secret)
        if session is None or session.over.is_set():
            raise SessionUnknown("this session is not known here, or it is over: open a new one in UCloud")
        return session

    async def for_program(self, job_id: str, rank: int) -> Session:
        await asyncio.sleep(0)
        if (job_id, rank) not in self._backend.running:
            raise WrongState(f"rank {rank} of job {job_id} does not run")
        return self._new(job_id, rank, "")

    async def begin(self, session: Session) -> None:
        await asyncio.sleep(0)
        if session.over.is_set():
            raise SessionUnknown("this session is not known here, or it is over: open a new one in UCloud")
        if self.wrong is not None:
            raise self.wrong
        self.begun.append(session.id)

    def not_started(self, session: Session) -> None:
        self.begun.remove(session.id)

    def end(self, session: Session, why: str) -> None:
        self.close(session, why)

    @property
    def open(self) -> Sequence[Session]:
        return [session for session in self.all if not session.over.is_set()]


class Talk:
    """A client of `ShellHub.shell`, or of whatever takes requests and gives answers as it does. Reads only when the test asks for it."""

    def __init__(self, talk: Callable[[AsyncIterator[pb.ShellRequest]], AsyncGenerator[pb.ShellResponse]]) -> None:
        self._requests: asyncio.Queue[pb.ShellRequest | None] = asyncio.Queue()
        self.open_requests = 0
        self.answers = talk(self._each())

    async def _each(self) -> AsyncGenerator[pb.ShellRequest]:
        self.open_requests += 1
        try:
            while (request := await self._requests.get()) is not None:
                yield request
        finally:
            self.open_requests -= 1

    def say(self, request: pb.ShellRequest) -> None:
        self._requests.put_nowait(request)

    def open(self, secret: str, size: tuple[int, int] | None = None) -> None:
        message = pb.ShellOpen(secret=secret)
        if size is not None:
            message.size.columns, message.size.rows = size
        self.say(pb.ShellRequest(open=message))

    def run(self, *argv: str, job_id: str = "1", rank: int = 0) -> None:
        self.say(pb.ShellRequest(open=pb.ShellOpen(program=pb.ShellProgram(job_id=job_id, rank=rank, argv=argv))))

    def type(self, data: bytes) -> None:
        self.say(pb.ShellRequest(input=data))

    def resize(self, columns: int, rows: int) -> None:
        self.say(pb.ShellRequest(resize=pb.TerminalSize(columns=columns, rows=rows)))

    def say_no_more(self) -> None:
        self._requests.put_nowait(None)

    async def opened(self) -> pb.ShellOpened:
        answer = await anext(self.answers)
        assert answer.WhichOneof("message") == "opened", answer
        return answer.opened

    async def output(self, length: int) -> bytes:
        """The next `length` bytes; what comes must end there."""
        seen = b""
        while len(seen) < length:
            answer = await anext(self.answers)
            assert answer.WhichOneof("message") == "output", answer
            seen += answer.output
        assert len(seen) == length, seen[length:]
        return seen

    async def to_end(self) -> tuple[bytes, pb.ShellExited]:
        """All that is left, and the ending."""
        seen = b""
        async for answer in self.answers:
            if answer.WhichOneof("message") == "exited":
                assert [late async for late in self.answers] == []
                return seen, answer.exited
            seen += answer.output
        raise AssertionError("it ended without a word")

    async def leave(self) -> None:
        """The connection is cut, and the server has seen it."""
        await self.answers.aclose()
        await asyncio.sleep(0)
