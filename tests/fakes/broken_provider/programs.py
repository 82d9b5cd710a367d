"""Runs a job's replicas as processes of this machine, and keeps what they write."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path

from fakes.broken_provider.faults import Fault
from fakes.broken_provider.reading import Wanted


@dataclass
class Run:
    """One job."""

    id: str
    wanted: Wanted
    folder: Path
    fault: Fault | None
    limit_s: float = 0.0
    pieces: list[tuple[int, str, str]] = field(default_factory=list[tuple[int, str, str]])
    """Rank, stream, text; in the order in which they came."""
    state: str = "IN_QUEUE"
    stopping: str = ""
    """Why it is ended by us: the state that it will have."""
    settled: bool = False
    """Core was told its end."""
    told: asyncio.Queue[dict[str, object]] = field(default_factory=asyncio.Queue)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    processes: list[asyncio.subprocess.Process] = field(default_factory=list[asyncio.subprocess.Process])
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def replicas(self) -> int:
        return self.wanted.job.specification.replicas

    @property
    def owner(self) -> str:
        return self.wanted.job.owner.createdBy

    async def change(self, **values: object) -> None:
        for name, value in values.items():
            setattr(self, name, value)
        async with self.changed:
            self.changed.notify_all()

    def stop(self, state: str) -> None:
        self.stopping = self.stopping or state
        self._stop.set()

    def extend(self, more_s: float) -> None:
        if self.fault is not Fault.EXTEND_FORGOTTEN:
            self.limit_s += more_s

    async def run(self) -> list[int]:
        """Until all replicas have ended; their exit codes."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        for rank in range(self.replicas):
            self.processes.append(await self._start(rank))
        reading = [
            asyncio.create_task(self._read(rank, name, stream))
            for rank, process in enumerate(self.processes)
            for name, stream in (("stdout", process.stdout), ("stderr", process.stderr))
            if stream is not None
        ]
        ended = asyncio.gather(*(process.wait() for process in self.processes))
        stopped = asyncio.create_task(self._stop.wait())
        try:
            while not ended.done() and not stopped.done():
                left = began + self.limit_s - loop.time()
                if left <= 0:
                    self.stop("FAILURE" if self.fault is Fault.EXPIRED_FAILS else "EXPIRED")
                    break
                await asyncio.wait({ended, stopped}, timeout=min(left, 0.2), return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                self.kill()
            codes = await ended
            await asyncio.gather(*reading)
        finally:
            stopped.cancel()
            self.kill()
        return list(codes)

    def kill(self) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    async def _start(self, rank: int) -> asyncio.subprocess.Process:
        etc = self.folder / f"etc-{rank}"
        etc.mkdir(parents=True)
        work = self.folder / (f"work-{rank}" if self.fault is Fault.OWN_FOLDERS else "work")
        work.mkdir(exist_ok=True)
        first = 1 if self.fault is Fault.RANKS_FROM_1 else 0
        files = {"rank": rank + first, "number_of_nodes": self.replicas, "cores": 1, "job_id": self.id}
        files |= {f"node-{other}": f"127.0.1.{other + 1}" for other in range(self.replicas)}
        if self.fault is Fault.NO_CORES_FILE:
            del files["cores"]
        for name, value in files.items():
            more = "more\n" if self.fault is Fault.TWO_LINES and name == "cores" else ""
            (etc / f"{name}.txt").write_text(f"{value}\n{more}")
        argv = [argument.replace("/etc/ucloud", str(etc)) for argument in self.wanted.argv]
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *argv, cwd=work, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, start_new_session=True
        )

    async def _read(self, rank: int, name: str, stream: asyncio.StreamReader) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("ignore")
        while piece := await stream.read(32768):
            text = piece.decode("utf-8", "ignore") if self.fault is Fault.TORN_CHARACTERS else decoder.decode(piece)
            if self.fault is Fault.NO_STDERR and name == "stderr":
                continue
            if text:
                self.pieces += [(0 if self.fault is Fault.RANK_0_ONLY else rank, name, text)] * (2 if self._twice(text) else 1)
                await self.change()

    def _twice(self, text: str) -> bool:
        return self.fault is Fault.LINES_TWICE and "kit-line-" in text
