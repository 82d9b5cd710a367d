"""The tests' fake Nomad in a process of its own, so that its work is nobody else's: what measurements of the Nomad backend start.

Orders are lines of JSON on standard input, each answered by one on standard output; the end of the input ends it. Programs are played. What
a start script would leave in the job's folder is left there, because the backend tells no start without it.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

import uvloop
from fakes.nomad import FakeAgent, NodeSpec
from fakes.nomad.cluster import Allocation
from fakes.nomad.spec import Task

PER_NODE = 500


class Order(TypedDict, total=False):
    do: str
    """exits, cut."""
    jobs: list[str]
    """Nomad's ids of the jobs whose rank 0 is to end."""
    per_s: float


class _Agent:
    def __init__(self, replicas: int, drives: Path) -> None:
        per_node = NodeSpec(drivers=("raw_exec",), cpu_mhz=PER_NODE * 1_000, memory_mb=PER_NODE * 1_024, max_allocs=4 * PER_NODE)
        count = -(-replicas // PER_NODE)
        specs = [replace(per_node, name=f"node-{number}") for number in range(count)]
        self.agent = FakeAgent(specs, simulated=True)
        self._drives = drives
        self.agent.clients.start_trouble = self._begin  # type: ignore[method-assign]  # called when a task is started

    def _begin(self, alloc: Allocation, task: Task) -> str:
        """As the start script does; no trouble."""
        own = self._drives / (alloc.job.spec.meta or {}).get("serai_output_folder", "") / ".ucloud"
        if task.name == "main" and own.is_dir():
            rank = alloc.group.name.removeprefix("rank-")
            (own / f"rank-{rank}").mkdir(exist_ok=True)
            (own / f"began-{rank}").mkdir(exist_ok=True)
        return ""

    async def exits(self, jobs: Sequence[str], per_s: float) -> None:
        """Ranks end at random times, so many a second."""
        chance = random.Random(5)
        for job in jobs:
            await asyncio.sleep(chance.expovariate(per_s))
            self.agent.finish(self.agent.allocs_of(job)[0].id)


async def main(replicas: int, drives: Path) -> None:
    reader = asyncio.StreamReader(limit=64 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    fake = _Agent(replicas, drives)
    async with fake.agent:
        print(json.dumps({"address": fake.agent.address}), flush=True)
        while line := await reader.readline():
            order: Order = json.loads(line)
            match order.get("do"):
                case "exits":
                    await fake.exits(order.get("jobs", []), order.get("per_s", 1.0))
                case "cut":
                    fake.agent.cut_streams()
                case other:
                    raise ValueError(f"no such order: {other}")
            print("{}", flush=True)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), Path(sys.argv[2])))
