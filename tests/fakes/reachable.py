"""InstantBackend whose replicas can be reached: shells (OpensShells) and ports (Endpoints), with the rules of `serai_backends.api`.

A shell is a FakeShell: what is typed comes back; the line "exit N" ends it with that code, "size" answers with its size. It ends with
its replica, and then nobody sees its exit code. A port is reached at the replica's own address.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from serai_backends.errors import BackendUnavailable, JobNotThere
from serai_backends.model import Endpoint, Features, Phase, TerminalSize

from fakes.instant import InstantBackend, InstantMachine


class FakeShell:
    def __init__(self, argv: tuple[str, ...], size: TerminalSize) -> None:
        self.argv, self.size = argv, size
        self.typed = bytearray()
        self.closed = False
        self._exit_code: int | None = None
        self._output: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self._line = b""

    async def output(self) -> AsyncIterator[bytes]:
        while (piece := await self._output.get()) is not None:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    @property
    def exit_code(self) -> int | None:
        return self._exit_code

    async def write(self, data: bytes) -> None:
        self.typed += data
        self.say(data)
        *lines, self._line = (self._line + data).replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            match line.split():
                case [b"exit", code]:
                    self.end(int(code))
                case [b"size"]:
                    self.say(f"{self.size.columns}x{self.size.rows}\r\n".encode())
                case _:
                    pass

    async def resize(self, size: TerminalSize) -> None:
        self.size = size

    async def close(self) -> None:
        self.closed = True
        self.end(None)

    # The program's side

    def say(self, data: bytes) -> None:
        """The program writes."""
        self._output.put_nowait(data)

    def end(self, exit_code: int | None) -> None:
        """The program ends; None = nobody saw how."""
        self._exit_code = exit_code
        self._output.put_nowait(None)

    def break_off(self) -> None:
        """The connection to it breaks."""
        self._output.put_nowait(BackendUnavailable("the connection broke"))


class ReachableBackend(InstantBackend):
    def __init__(self, machine: InstantMachine | None = None, *, away: bool = False) -> None:
        super().__init__(machine)
        self.away = away
        """Nothing can be reached for now."""
        self.shells: list[tuple[str, int, FakeShell]] = []
        """Every shell that was opened: job, rank, shell."""
        self.asked: list[tuple[str, int, int]] = []
        """Job, rank and port of each question for an endpoint."""

    @property
    def features(self) -> Features:
        return Features(logs=True, suspension=True, terminal=True, web=True, vnc=True)

    async def open_shell(self, job_id: str, rank: int, argv: tuple[str, ...], size: TerminalSize) -> FakeShell:
        self._check_reachable()
        self._address(job_id, rank)
        shell = FakeShell(argv, size)
        self.shells.append((job_id, rank, shell))
        return shell

    async def endpoint(self, job_id: str, rank: int, port: int) -> Endpoint:
        self.asked.append((job_id, rank, port))
        self._check_reachable()
        address = self._address(job_id, rank)
        if port not in self.machine.jobs[job_id].spec.ports:
            raise JobNotThere(f"{job_id} has no port {port}")
        return Endpoint(address, port)

    def end(self, job_id: str, rank: int, *args: object, **kwargs: object) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]  # the same arguments, not looked at
        super().end(job_id, rank, *args, **kwargs)  # pyright: ignore[reportArgumentType]  # as above
        for job, of, shell in self.shells:
            if (job, of) == (job_id, rank):
                shell.end(None)

    def _check_reachable(self) -> None:
        if self.away:
            raise BackendUnavailable("not now")

    def _address(self, job_id: str, rank: int) -> str:
        """Raises JobNotThere."""
        job = self.machine.jobs.get(job_id)
        if job is None or not 0 <= rank < job.spec.replicas or job.observation.replicas[rank].phase is not Phase.RUNNING:
            raise JobNotThere(job_id)
        return job.observation.replicas[rank].address
