"""A whole Serai as an operator runs it: settings file, stand-in for Core, `serai serve` as a process of its own that a test may kill.

Nothing in here is a fake but Core: the process, its store, its socket and its sandboxes are the real ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from serai_devcore.accounts import Product
from serai_devcore.core import DevCore, Settings
from serai_devcore.wire import Generation

ROOT = Path(__file__).resolve().parents[2]
TINY_PRODUCT = Product(id="example-tiny", category="example-compute", provider="example")
"""64 MiB of memory."""
UNIT_PRODUCT = Product(id="example-unit", category="example-compute", provider="example")
"""A machine type that is billed once, when a job starts: for tests that cannot wait a minute."""
START_S = 60.0
"""Longest that a start may take on a busy machine."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def local_text(cpu: int) -> str:
    """The backend's sections of a serai.toml."""
    programs = json.dumps([str(ROOT / "examples" / name) for name in ("acme-batch", "ucloud-etc")])
    return f"""
[backend.local]
drives_dir = "drives"
cpu = {cpu}
memory_gib = 64
program_dirs = {programs}
"""


def settings_text(folder: Path, core_url: str, port: int, *, generation: str, store_url: str = "", backend: str) -> str:
    """A serai.toml in which everything lies in `folder`; `backend`: its sections for the backend."""
    return f"""
[provider]
id = "example"
aliases = ["ucloud"]
[core]
url = "{core_url}"
public_key_file = "core.key"
refresh_token_file = "refresh.token"
generation = "{generation}"
retry_base_ms = 20
retry_cap_ms = 500
[gateway]
port = {port}
stop_grace_ms = 2000
request_timeout_ms = 3000
[server]
state_dir = "state"
socket = "s.sock"
[store]
url = "{store_url}"
{backend}
[[products]]
id = "example-compute-1"
category = "example-compute"
cpu = 1
memory_gib = 2
[[products]]
id = "example-unit"
category = "example-compute"
cpu = 1
memory_gib = 2
price_unit = "unit"
[[products]]
id = "example-tiny"
category = "example-compute"
cpu = 1
memory_gib = 0.0625
"""


@dataclass
class Stack:
    """One Core, one Serai, one folder."""

    folder: Path
    core: DevCore
    port: int
    process: asyncio.subprocess.Process | None = None
    starts: int = 0
    environment: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def socket(self) -> Path:
        return self.folder / "s.sock"

    @property
    def log(self) -> Path:
        return self.folder / "serai.log"

    def work(self, job_id: str, title: str = "Shell", user: str = "user") -> Path:
        """The job's output folder on this machine."""
        return self.folder / "drives" / user / "Jobs" / title / job_id

    async def start(self, *, wait: bool = True) -> None:
        """Run `serai serve` in a process of its own; with `wait` until Core's way in answers."""
        self.process = await self.spawn("all")
        if wait:
            await self.until_ready()

    async def spawn(self, part: str) -> asyncio.subprocess.Process:
        """`serai serve all|server|gateway`; whoever asks for a part ends it."""
        self.starts += 1
        with self.log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "serai_server.cli",
                "serve",
                part,
                "--config",
                str(self.folder / "serai.toml"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
            )

    async def until_ready(self) -> None:
        async with asyncio.timeout(START_S):
            while not await self._answers():
                if self.process is not None and self.process.returncode is not None:
                    raise AssertionError(f"serai ended with {self.process.returncode}: {self.tail()}")
                await asyncio.sleep(0.02)

    async def _answers(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        try:
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return b" 200 " in await reader.readline()
        except OSError:
            return False
        finally:
            writer.close()

    def tail(self, lines: int = 20) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    async def cli(self, *arguments: str) -> tuple[int, bytes, bytes]:
        """Run `serai …` against this server; exit code, stdout, stderr."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "serai_server.cli",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "SERAI_CONFIG": str(self.folder / "serai.toml")},
        )
        async with asyncio.timeout(START_S):
            out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out, err

    async def until_state(self, job_id: str, state: str) -> dict[str, str]:
        """Until `serai jobs show --json` says so; the report."""
        async with asyncio.timeout(START_S):
            while True:
                code, out, err = await self.cli("jobs", "show", job_id, "--json")
                assert code == 0, err
                report = json.loads(out)
                if report["state"] == state:
                    return report
                await asyncio.sleep(0.1)

    async def until_none_active(self) -> None:
        """Until `serai jobs list --active` is empty."""
        async with asyncio.timeout(START_S):
            while True:
                code, out, err = await self.cli("jobs", "list", "--active", "--json")
                assert code == 0, err
                if not json.loads(out)["jobs"]:
                    return
                await asyncio.sleep(0.2)

    async def kill(self) -> None:
        """SIGKILL: the process gets to do nothing more."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)
            await self.process.wait()

    async def stop(self) -> int:
        """SIGTERM, as an operator's service manager does; its exit code."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(START_S):
            return await self.process.wait()

    async def until_final(self, *job_ids: str, timeout_s: float = 60.0) -> None:
        """Until Core has been told a final state of each job."""
        try:
            await self.core.until(lambda: all(self.core.jobs[j].final for j in job_ids), timeout_s)
        except TimeoutError:
            states = {j: (self.core.jobs[j].state, [a.state for a in self.core.jobs[j].arrivals]) for j in job_ids}
            open_jobs = {j: s for j, s in states.items() if not self.core.jobs[j].final}
            raise AssertionError(f"not final: {open_jobs}\n{self.tail(40)}") from None


S = TypeVar("S", bound=Stack)


@contextlib.asynccontextmanager
async def stack(
    folder: Path,
    *,
    generation: str = "2021",
    store_url: str = "",
    started: bool = True,
    cpu: int = 8,
    kind: Callable[..., S] = Stack,
    backend: str = "",
) -> AsyncGenerator[S]:
    """Everything in `folder`; leaving ends the process and every job's supervisor that is left. `kind`: Stack, or one that starts Serai in
    a way of its own. `backend`: sections of serai.toml for another backend than the local one with `cpu` cores."""
    drives = folder / "drives"
    drives.mkdir(parents=True, exist_ok=True)
    for part in (folder, *folder.parents):
        if part == Path("/tmp"):
            break
        with contextlib.suppress(PermissionError):
            part.chmod(0o755)  # a job's own user id must reach its drive
    async with DevCore(Settings(generation=Generation(generation), initial_credits=10**15)) as core:
        port = free_port()
        core.accounts.add_product(UNIT_PRODUCT)
        core.accounts.add_product(TINY_PRODUCT)
        provider = core.add_provider("example", url=f"http://127.0.0.1:{port}")
        (folder / "core.key").write_text(provider.issuer.public_key_pem)
        (folder / "refresh.token").write_text(provider.issuer.refresh_token)
        text = settings_text(folder, core.url, port, generation=generation, store_url=store_url, backend=backend or local_text(cpu))
        (folder / "serai.toml").write_text(text)
        running = kind(folder, core, port)
        try:
            if started:
                await running.start()
            yield running
        finally:
            await running.kill()
            end_supervisors(folder / "state")


def end_supervisors(state: Path) -> None:
    """Kill what outlives the server on purpose, each by its own id, so that a failing test leaves nothing behind."""
    for file in state.glob("local/jobs/*/begun"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            os.kill(int(json.loads(file.read_text())["pid"]), signal.SIGKILL)
