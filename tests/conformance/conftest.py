"""The backends that the conformance suite runs against: each a Harness that can be opened again, as after a restart of the server.

To add a backend: write a harness, put it into HARNESSES.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest
from fakes.backends import InstantBackend, InstantMachine, SlowBackend
from fakes.nomad_agents import FakeSite, RealSite
from fakes.nomad_images import IMAGE, why_no_images
from fakes.nomad_outside import outside
from serai_backends.api import Suspends
from serai_backends.local.backend import open_local
from serai_backends.local.settings import LocalSettings
from serai_backends.model import JobObservation, Phase, ReplicaSpec, Resources
from serai_backends.nomad.backend import open_nomad
from serai_backends.nomad.settings import Firewall, NomadSettings, Placement

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator

    from fakes.nomad_agents import Agent
    from serai_backends.api import Backend

CPU = 4
MEMORY_BYTES = 4 << 30
DEADLINE_S = 30


class Harness(Protocol):
    real: bool
    """Runs real programs: what a shell can do, a test may ask for."""
    image: str
    """What its programs are in; empty = nothing, they are the machine's own."""
    python: bool
    """/usr/bin/python3 is among them."""
    apart: bool
    """Its replicas have networks of their own."""
    largest_secret: int
    """Bytes."""

    async def open(self) -> Backend: ...

    def argv(self, *words: str) -> tuple[str, ...]:
        """A program in the words of fakes.backends."""
        ...

    def put(self, path: str, text: str) -> None:
        """A file of a drive, `{drive}/{rest}`, that jobs of the drive can read and write, with its folders."""
        ...

    def get(self, path: str) -> str | None:
        """The text of a file of a drive; None = it is not there."""
        ...

    def folders(self) -> list[Path]:
        """Where everything lies that it stores: its state, the drives, and what the cluster has of it."""
        ...


class InstantHarness:
    real = False
    image = ""
    python = apart = False
    largest_secret = 0

    def __init__(self, _folder: Path) -> None:
        self._machine = InstantMachine(cpu=CPU, memory_bytes=MEMORY_BYTES)

    async def open(self) -> Backend:
        return InstantBackend(self._machine)

    def argv(self, *words: str) -> tuple[str, ...]:
        return words

    def put(self, path: str, text: str) -> None:
        pytest.skip("has no drives")

    def get(self, path: str) -> str | None:
        pytest.skip("has no drives")

    def folders(self) -> list[Path]:
        return []


class SlowHarness(InstantHarness):
    """The wrapper of the badly behaved ones adds nothing of its own."""

    async def open(self) -> Backend:
        backend = SlowBackend(await super().open())
        backend.open()
        return backend


class ShellHarness:
    """Runs the words as lines of a shell, and has drives in a folder."""

    real = True
    image = ""
    python = apart = True
    largest_secret = 48 << 10
    drives_dir: str
    state_dir: str
    uid_first: int

    def argv(self, *words: str) -> tuple[str, ...]:
        left, lines = list(words), list[str]()
        while left:
            match left.pop(0):
                case "print":
                    lines.append(f"printf %s {shlex.quote(left.pop(0))}")
                case "exit":
                    lines.append(f"exit {left.pop(0)}")
                case "signal":
                    lines.append(f"kill -{left.pop(0)} $$")
                case "hang":
                    lines.append("exec sleep 600")
                case program:
                    return (program,)
        return ("sh", "-c", "\n".join(lines))

    def put(self, path: str, text: str) -> None:
        here = Path(self.drives_dir)
        drive = here / path.partition("/")[0]
        owner = (drive.stat().st_uid if drive.exists() else 0) or self.uid_first
        for part in path.split("/")[:-1]:
            here /= part
            here.mkdir(exist_ok=True)
            if os.geteuid() == 0:
                # the drive's user; a drive that no job had yet gets one here, as an operator may do it
                os.chown(here, owner, owner)
        file = Path(self.drives_dir, path)
        file.write_text(text)
        if os.geteuid() == 0:
            os.chown(file, owner, owner)

    def get(self, path: str) -> str | None:
        file = Path(self.drives_dir, path)
        return file.read_text() if file.exists() else None

    def folders(self) -> list[Path]:
        return [Path(self.state_dir), Path(self.drives_dir)]


class LocalHarness(ShellHarness):
    def __init__(self, folder: Path) -> None:
        if sys.platform != "linux" or shutil.which("bwrap") is None:
            pytest.skip("bubblewrap is not installed")
        (folder / "drives").mkdir()
        self.settings = LocalSettings(
            state_dir=str(folder / "state"), drives_dir=str(folder / "drives"), cpu=CPU, memory_bytes=MEMORY_BYTES
        )
        self.drives_dir, self.uid_first = self.settings.drives_dir, self.settings.uid_first
        self.state_dir = self.settings.state_dir

    async def open(self) -> Backend:
        backend = await open_local(self.settings)
        report = await backend.check()
        if not report.usable:
            await backend.close()
            pytest.skip("; ".join(finding.text for finding in report.findings))
        return backend


class NomadHarness(ShellHarness):
    """Programs on the agent's node; a real agent also has their networks, with a firewall in each."""

    largest_secret = 48_000

    def __init__(self, folder: Path, agent: Agent, *, firewall: bool, image: str = "", apart: bool = True) -> None:
        """`image`: programs run in containers of it."""
        self.image, self.apart = image, apart
        self.python = not image or not firewall
        if os.geteuid() != 0:
            pytest.skip("raw_exec tasks make a mount namespace of their own: needs root")
        for part in (folder, *folder.parents):
            if part == Path("/tmp"):
                break
            part.chmod(0o755)  # a job's own user id must reach its drive
        (folder / "drives").mkdir()
        self.settings = NomadSettings(
            state_dir=str(folder / "state"),
            provider="conformance",
            address=agent.address,
            drives_dir=str(folder / "drives"),
            placements=(Placement(driver="docker" if image else "raw_exec"),),
            raw_exec=True,
            firewall=Firewall(enabled=firewall, proxies=(f"{agent.node}/32",)),
            mhz_per_core=1_000,
            sweep_ms=2_000,
        )
        self.drives_dir, self.uid_first = self.settings.drives_dir, self.settings.uid_first
        self.state_dir = self.settings.state_dir

    async def open(self) -> Backend:
        return await open_nomad(self.settings)


HARNESSES: dict[str, Callable[[Path], Harness]] = {"instant": InstantHarness, "slow": SlowHarness, "local": LocalHarness}


@contextlib.asynccontextmanager
async def harness_of(name: str, folder: Path, request: pytest.FixtureRequest) -> AsyncGenerator[Harness]:
    if name == "nomad-fake":
        async with FakeSite(folder, mhz=CPU * 1_000, memory_mib=MEMORY_BYTES >> 20) as agent:
            yield NomadHarness(folder, agent, firewall=False, apart=False)
    elif name == "nomad-fake-docker":
        if shutil.which("bwrap") is None:
            pytest.skip("the containers of the fake agent need bubblewrap")
        async with FakeSite(folder, mhz=CPU * 1_000, memory_mib=MEMORY_BYTES >> 20, drivers=("docker",)) as agent:
            yield NomadHarness(folder, agent, firewall=False, image=IMAGE)
    elif name == "nomad-real":
        yield NomadHarness(folder, request.getfixturevalue("real_agent"), firewall=True)
    elif name == "nomad-docker":
        if (why := why_no_images()) is not None:
            pytest.skip(why)
        yield NomadHarness(folder, request.getfixturevalue("real_agent"), firewall=True, image=IMAGE)
    else:
        yield HARNESSES[name](folder)


@pytest.fixture(scope="session")
def real_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealSite]:
    """One for all tests of a process: it takes seconds to start. Each firewall takes a little of the node for itself."""
    mhz, memory_mib = CPU * 1_000 + 20 * CPU, (MEMORY_BYTES >> 20) + 32 * CPU
    # a loop of its own: those of the tests come and go
    with outside() as node, ThreadPoolExecutor(1) as elsewhere:
        site = RealSite(tmp_path_factory.mktemp("nomad"), mhz, memory_mib, outside=node)
        elsewhere.submit(asyncio.run, site.__aenter__()).result()
        yield site
        elsewhere.submit(asyncio.run, site.__aexit__()).result()


class Site:
    """What a test holds: a harness, the open backend, and short words for what tests do all the time."""

    def __init__(self, harness: Harness, backend: Backend) -> None:
        self.harness, self.backend = harness, backend
        self.jobs: list[str] = []

    def spec(self, job_id: str, *words: str, replicas: int = 1, cpu: int = 1, memory_bytes: int = 64 << 20) -> ReplicaSpec:
        return self.raw(job_id, self.harness.argv(*words), replicas=replicas, cpu=cpu, memory_bytes=memory_bytes)

    def raw(
        self, job_id: str, argv: tuple[str, ...], *, replicas: int = 1, cpu: int = 1, memory_bytes: int = 64 << 20, folder: str = ""
    ) -> ReplicaSpec:
        if not self.harness.python and argv[0] == "/usr/bin/python3":
            pytest.skip(f"there is no python3 in the image {self.harness.image}")
        self.jobs.append(job_id)
        return ReplicaSpec(
            job_id=job_id,
            replicas=replicas,
            argv=argv,
            environment=(("GREETING", "a b=c"),),
            resources=Resources(cpu=cpu, memory_bytes=memory_bytes),
            output_folder=folder or f"drive/Jobs/conformance/{job_id}",
            image=self.harness.image,
        )

    async def until(self, job_id: str, wanted: Callable[[JobObservation], bool]) -> JobObservation:
        """The first observation of the job that is as wanted; fails after a deadline."""
        found = await self.backend.inspect(job_id)
        if found is not None and wanted(found):
            return found
        async with asyncio.timeout(DEADLINE_S):
            cursor: int | None = None
            events = self.backend.watch(cursor)
            # the watch begins now; look once more for what came between
            found = await self.backend.inspect(job_id)
            if found is not None and wanted(found):
                return found
            async for event in events:
                if event.observation.job_id == job_id and wanted(event.observation):
                    return event.observation
        raise AssertionError("the watch ended")

    async def ended(self, job_id: str) -> JobObservation:
        return await self.until(job_id, lambda found: found.phase is Phase.ENDED)

    async def running(self, job_id: str) -> JobObservation:
        return await self.until(job_id, lambda found: found.phase is not Phase.WAITING)

    @property
    def suspends(self) -> Suspends:
        """The backend, where it can suspend; elsewhere the test is skipped."""
        if not self.backend.features.suspension:
            pytest.skip("cannot suspend")
        assert isinstance(self.backend, Suspends)
        return self.backend

    async def suspended(self, job_id: str) -> JobObservation:
        """Ask until it is seen, as the server does."""
        await self.suspends.suspend(job_id)
        return await self.until(job_id, lambda found: found.phase is Phase.SUSPENDED)

    async def reopen(self) -> None:
        await self.backend.close()
        self.backend = await self.harness.open()


@pytest.fixture(params=[*HARNESSES, "nomad-fake", "nomad-fake-docker", "nomad-real", "nomad-docker"])
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    async with harness_of(str(request.param), tmp_path, request) as harness:
        site = Site(harness, await harness.open())
        yield site
        for job_id in site.jobs:
            await site.backend.cancel(job_id)
            if await site.backend.inspect(job_id) is not None:
                await site.ended(job_id)
                await site.backend.forget(job_id)
        await site.backend.close()
