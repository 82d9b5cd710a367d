"""A local backend on scratch folders, with short words for what its tests do all the time."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from serai_backends.local.backend import LocalBackend, open_local
from serai_backends.local.settings import LocalSettings
from serai_backends.model import JobObservation, Phase, ReplicaSpec, Resources, Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from serai_backends.clock import SteadyClock

DEADLINE_S = 60


async def until(condition: Callable[[], bool], what: str) -> None:
    """Look again every few ms until it is so; fails after a deadline."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"not within {DEADLINE_S} s: {what}") from None


class LocalSite:
    def __init__(self, folder: Path, **settings: object) -> None:
        if shutil.which("bwrap") is None:
            pytest.skip("bubblewrap is not installed")
        self.folder = folder
        self.drives = folder / "drives"
        self.drives.mkdir(exist_ok=True)
        values: dict[str, object] = {"cpu": 64, "memory_bytes": 64 << 30} | settings
        self.settings = LocalSettings(state_dir=str(folder / "state"), drives_dir=str(self.drives), **values)  # type: ignore[arg-type]
        self._backend: LocalBackend | None = None

    @property
    def backend(self) -> LocalBackend:
        assert self._backend is not None
        return self._backend

    async def open(self, clock: SteadyClock | None = None) -> LocalBackend:
        self._backend = await open_local(self.settings, clock)
        report = await self._backend.check()
        if not report.usable:
            await self.close()
            pytest.skip("; ".join(finding.text for finding in report.findings))
        return self._backend

    async def close(self) -> None:
        if self._backend is not None:
            await self._backend.close()
            self._backend = None

    async def clear(self) -> None:
        """End every job, so that nothing outlives the test."""
        if self._backend is None:
            await self.open()
        for found in await self.backend.list():
            await self.backend.cancel(found.job_id)
            await self.ended(found.job_id)
        await self.close()

    def spec(
        self, job_id: str, *argv: str, replicas: int = 1, cpu: int = 1, memory_bytes: int = 256 << 20, drive: str = "drive"
    ) -> ReplicaSpec:
        return ReplicaSpec(
            job_id=job_id,
            replicas=replicas,
            argv=argv,
            environment=(),
            resources=Resources(cpu=cpu, memory_bytes=memory_bytes),
            output_folder=f"{drive}/Jobs/test/{job_id}",
        )

    def work(self, job_id: str, drive: str = "drive") -> Path:
        """The job's folder as the host sees it."""
        return self.drives / drive / "Jobs" / "test" / job_id

    def put(self, path: str, text: str = "x", mode: int = 0o644) -> Path:
        """A file of a drive, with its folders; as root they belong to the drive's user."""
        file = self.drives / path
        drive = self.drives / path.partition("/")[0]
        owner = (drive.stat().st_uid if drive.exists() else 0) or self.settings.uid_first
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
        if os.geteuid() == 0:
            here = self.drives
            for part in path.split("/"):
                here /= part
                os.chown(here, owner, owner)
        return file

    def state(self, job_id: str) -> Path:
        return Path(self.settings.state_dir) / "jobs" / job_id

    async def observed(self, job_id: str, wanted: Callable[[JobObservation], bool]) -> JobObservation:
        async with asyncio.timeout(DEADLINE_S):
            events = self.backend.watch()
            while True:
                found = await self.backend.inspect(job_id)
                if found is not None and wanted(found):
                    return found
                await anext(events)

    async def ended(self, job_id: str) -> JobObservation:
        return await self.observed(job_id, lambda found: found.phase is Phase.ENDED)

    async def running(self, job_id: str) -> JobObservation:
        return await self.observed(job_id, lambda found: found.phase is not Phase.WAITING)

    async def output(self, job_id: str, rank: int = 0, stream: Stream = Stream.STDOUT) -> str:
        data = b"".join([chunk.data async for chunk in self.backend.logs(job_id, rank, stream)])
        return data.decode(errors="replace")

    async def run(self, job_id: str, *argv: str, memory_bytes: int = 256 << 20) -> tuple[JobObservation, str]:
        """Run one replica to its end: what was observed, and its output."""
        await self.backend.submit(self.spec(job_id, *argv, memory_bytes=memory_bytes))
        found = await self.ended(job_id)
        return found, await self.output(job_id)


def processes_of(mark: str) -> list[int]:
    """Pids of all processes that have `mark` as one word of their command line."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if mark.encode() in words:
                found.append(int(entry.name))
    return found
