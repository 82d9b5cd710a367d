"""The agent itself goes away and comes back: tasks live on, streams end without a word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import aiohttp
import pytest
from fakes.nomad import FakeAgent
from fakes.nomad_calls import Calls, Listener, event_of
from fakes.nomad_jobs import job
from fakes.nomad_real import RealAgent


@pytest.fixture
async def agent(kind: str, tmp_path: Path) -> AsyncGenerator[FakeAgent | RealAgent]:
    """One of the test's own."""
    async with FakeAgent() if kind == "fake" else RealAgent(tmp_path / "agent") as made:
        yield made


async def test_a_killed_agent(agent: FakeAgent | RealAgent, tmp_path: Path) -> None:
    """The stream ends; a task that ends meanwhile is told with its code, one that runs on is taken up again; none starts twice."""
    starts, flag = tmp_path / "starts", tmp_path / "flag"
    script = f"echo $NOMAD_GROUP_NAME >> {starts}; while [ ! -e {flag}-$NOMAD_GROUP_NAME ]; do sleep 0.05; done; exit 7"
    async with aiohttp.ClientSession(agent.address) as session:
        calls = Calls(session)
        await calls.started(job("survivor", script, ranks=2))
        await calls.until("survivor", lambda rows: [a["ClientStatus"] for a in rows] == ["running", "running"])
        listener = await Listener.open(calls)
        await listener.until(lambda: bool(listener.events))
        await agent.go_down()
        await listener.until(lambda: listener.ended)
        await listener.close()
        with pytest.raises(aiohttp.ClientError):
            await calls.get("/v1/jobs")
        await asyncio.to_thread(flag.with_name("flag-rank-0").touch)
        await agent.come_back()
        first = await calls.until("survivor", lambda rows: rows[0]["ClientStatus"] == "failed", 40)
        assert first[1]["ClientStatus"] == "running"
        await asyncio.to_thread(flag.with_name("flag-rank-1").touch)
        ended = await calls.ended("survivor", 2)
    assert [event_of(a, "Terminated")["ExitCode"] for a in ended] == [7, 7]
    assert sorted((await asyncio.to_thread(starts.read_text)).split()) == ["rank-0", "rank-1"]
