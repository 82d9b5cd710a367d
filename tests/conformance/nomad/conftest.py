"""The agents that meet the same expectations: the fake one, and a real one where `nomad` is on PATH.

`SERAI_RECORD=1` on the real one writes what it said to tests/golden/nomad; both are compared with that in every run, so that a machine
without Nomad still measures the fake by the real one's words.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Generator

import aiohttp
import pytest
from fakes.nomad import FakeAgent, NodeSpec
from fakes.nomad_calls import Calls
from fakes.nomad_golden import Golden
from fakes.nomad_real import RealAgent, why_not

CPU_MHZ, MEMORY_MB, BUFFER = 4_000, 4_096, 50


@pytest.fixture(scope="session")
def real_address(tmp_path_factory: pytest.TempPathFactory) -> Generator[Callable[[], str]]:
    """One real agent for all tests; it is started when the first one wants it."""
    agent: list[RealAgent] = []

    def address() -> str:
        if not agent:
            made = RealAgent(tmp_path_factory.mktemp("nomad"), cpu_mhz=CPU_MHZ, memory_mb=MEMORY_MB, event_buffer_size=BUFFER)
            asyncio.run(made.__aenter__())
            agent.append(made)
        return agent[0].address

    yield address
    for one in agent:
        asyncio.run(one.__aexit__())


@pytest.fixture(params=["fake", "real"])
def kind(request: pytest.FixtureRequest) -> str:
    chosen = str(request.param)
    reason = why_not() if chosen == "real" else None
    if reason:
        pytest.skip(reason)
    return chosen


@pytest.fixture
def golden(kind: str) -> Golden:
    return Golden(records=kind == "real" and bool(os.environ.get("SERAI_RECORD")))


@pytest.fixture
async def calls(kind: str, real_address: Callable[[], str]) -> AsyncGenerator[Calls]:
    """An agent without jobs."""
    if kind == "fake":
        node = NodeSpec(cpu_mhz=CPU_MHZ, memory_mb=MEMORY_MB, max_allocs=5_000)
        async with (
            FakeAgent([node], event_buffer_size=BUFFER, template_event_s=0.3) as agent,
            aiohttp.ClientSession(agent.address) as session,
        ):
            yield Calls(session)
        return
    async with aiohttp.ClientSession(await asyncio.to_thread(real_address)) as session:
        made = Calls(session)
        yield made
        await _cleared(made)


async def _cleared(calls: Calls) -> None:
    """Each job of the test is stopped, and gone when its tasks are."""
    for row in (await calls.get("/v1/jobs")).rows:
        await calls.call("DELETE", f"/v1/job/{row['ID']}")
        await calls.until(str(row["ID"]), lambda rows: all(a["ClientStatus"] in {"complete", "failed", "lost"} for a in rows))
        await calls.call("DELETE", f"/v1/job/{row['ID']}?purge=true")
    for row in (await calls.get("/v1/vars")).rows:
        await calls.call("DELETE", f"/v1/var/{row['Path']}")
