"""A whole Serai that sells one license, on this machine or on Nomad, for tests from end to end: its settings, its operator, its jobs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from pathlib import Path

from serai_devcore import EXAMPLE_LICENSE, JobRequest, Resource, ResourceRequest, shell_request
from serai_devcore.applications import license_parameter, var, word

from fakes.lmgrd import FakeLmgrd
from fakes.nomad_agents import AGENTS, Agent
from fakes.stack import ROOT, START_S, Stack, stack

LOCAL = "local"
PLACES = (LOCAL, *AGENTS)
"""Where jobs can run."""
SOLVER = ROOT / "examples" / "acme-licensed" / "acme-solver"
PRODUCT = "example-license/example-license"
_BACKEND = f"""
[backend.local]
drives_dir = "drives"
cpu = 8
memory_gib = 64
program_dirs = {json.dumps([str(SOLVER.parent)])}
"""
_LICENSES = """
[gateway.users]
public_key_file = "users.pem"
[licenses]
probe_every_ms = 1000
probes_to_fail = 2
[[licenses.products]]
id = "example-license"
category = "example-license"
description = "An example license"
price_per_unit = 1
"""


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    code: int
    out: bytes
    err: bytes


async def serai(running: Stack, *arguments: str, stdin: bytes = b"") -> Ran:
    """`serai …` in a process of its own, as an operator runs it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "serai_server.cli",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "SERAI_CONFIG": str(running.folder / "serai.toml")},
    )
    async with asyncio.timeout(START_S):
        out, err = await process.communicate(stdin)
    assert process.returncode is not None
    return Ran(process.returncode, out, err)


def adding(lmgrd: FakeLmgrd, seats: int, name: str = "acme", product: str = PRODUCT) -> tuple[str, ...]:
    """The command that makes the example license's server known."""
    place = ("--address", lmgrd.port_at_host, "--product", product)
    return ("licenses", "server", "add", name, *place, "--feature", f"solver={seats}")


@dataclass
class Site:
    serai: Stack
    agent: Agent | None
    """None = jobs run on this machine."""

    async def bought(self) -> Resource:
        """A license of Core's that is READY. Core of 2026 is never told that."""
        made, ended = await self.serai.core.create_resource(ResourceRequest("licenses", EXAMPLE_LICENSE))
        assert ended.accepted, ended
        if self.serai.core.settings.generation.value == "2021":
            await self.serai.core.until(lambda: made.state == "READY", START_S)
        return made

    async def submit(self, request: JobRequest) -> str:
        sent = await self.serai.core.submit(request)
        assert sent.accepted, sent.outcome
        return sent.job_id

    async def until_state(self, job_id: str, state: str) -> None:
        await self.serai.core.until(lambda: self.serai.core.jobs[job_id].state == state, START_S)

    async def until_said(self, job_id: str, words: str) -> None:
        """Until Core was told that of the job."""
        await self.serai.core.until(lambda: any(words in arrival.status for arrival in self.serai.core.jobs[job_id].arrivals), START_S)

    async def ended(self, job_id: str) -> tuple[str, str]:
        """State and last words."""
        await self.serai.until_final(job_id)
        job = self.serai.core.jobs[job_id]
        return job.state, job.arrivals[-1].status

    def file(self, job_id: str, name: str = "stdout.txt") -> Path:
        return self.serai.work(job_id) / name


def licensed_shell(license_id: str, script: str, *, replicas: int = 1) -> JobRequest:
    """A job that uses a license, whose script has its argument as $1."""
    plain = shell_request(script, replicas=replicas)
    application = replace(
        plain.application,
        invocation=(*plain.application.invocation, word("shell"), var("license")),
        parameters=(*plain.application.parameters, license_parameter("license", "The license to use", "acme")),
    )
    return replace(plain, application=application, parameters=plain.parameters | {"license": {"type": "license_server", "id": license_id}})


@contextlib.asynccontextmanager
async def licensed_site(place: str, folder: Path, *, generation: str = "2021", more: str = "") -> AsyncGenerator[Site]:
    """Serai runs below `folder`/serai, with everything in its log and no license server yet. `more`: further sections of serai.toml."""
    async with contextlib.AsyncExitStack() as opened:
        agent = None if place == LOCAL else await opened.enter_async_context(AGENTS[place](folder / "agent"))
        home = folder / "serai"
        text = _BACKEND if agent is None else agent.settings_text()
        running = await opened.enter_async_context(stack(home, generation=generation, started=False, backend=text))
        (home / "users.pem").write_text(running.core.users.public_key_pem)
        config = home / "serai.toml"
        config.write_text(config.read_text().replace("[server]", '[server]\nlog_level = "debug"') + _LICENSES + more)
        await running.start()
        yield Site(running, agent)
