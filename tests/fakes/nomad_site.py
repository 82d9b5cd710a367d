"""What tests of the whole on Nomad hold: a Serai, its agent, and short words for what they do all the time."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from fakes.stack import Stack, stack

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from serai_devcore.applications import JobRequest

    from fakes.nomad_agents import Agent


@dataclass
class Site:
    serai: Stack
    agent: Agent

    async def submit(self, request: JobRequest) -> str:
        sent = await self.serai.core.submit(request)
        assert sent.accepted, sent.answer
        return sent.job_id

    async def running(self, request: JobRequest) -> str:
        job_id = await self.submit(request)
        await self.serai.core.until(lambda: self.serai.core.jobs[job_id].state == "RUNNING", 60)
        return job_id

    async def ended(self, job_id: str) -> tuple[str, str]:
        """State and words of the end, as Core has them; told in order. What was not acknowledged before a kill comes again."""
        await self.serai.until_final(job_id)
        job = self.serai.core.jobs[job_id]
        states = [state for state, _ in groupby(arrival.state for arrival in job.arrivals if arrival.state)]
        assert states == list(dict.fromkeys(states)), states
        return job.state, job.arrivals[-1].status

    async def told(self, request: JobRequest) -> tuple[str, str]:
        return await self.ended(await self.submit(request))

    def text(self, job_id: str, name: str = "stdout.txt") -> str:
        return (self.serai.work(job_id) / name).read_text()

    async def until_text(self, job_id: str, words: str) -> None:
        """Until its program has said that."""
        await self.serai.core.until(lambda: words in self.text(job_id), 60)


@contextlib.asynccontextmanager
async def site_on(agent: Agent, folder: Path, backend: str = "") -> AsyncGenerator[Site]:
    """`backend`: sections of serai.toml; empty = the agent's own."""
    async with stack(folder, backend=backend or agent.settings_text()) as serai:
        yield Site(serai, agent)
