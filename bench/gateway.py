"""HTTP create without a store, over the same server's no-op endpoint; bulks over single creates; other calls meanwhile.

A server and a load generator, each in a process of its own; rounds interleave all measurements, and each ratio is the median of the
rounds' ratios. A rate is requests for each second of the server's CPU time: on a busy machine that is what carries over.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import IO, TypedDict

from bench.gateway_load import Found, Plan
from bench.ratio import Ratio

SEED = Path(__file__).parent.parent / "tests/golden/ucloud-2021/jobs-provider-03-jobs.request.json"
ROUNDS = 11
SECONDS = 0.25
CONNECTIONS = 32
BULK = 100
_CREATE = "/ucloud/ucloud/jobs"


class _Server(TypedDict):
    port: int
    token: str


@dataclass(frozen=True)
class _Load:
    path: str
    bodies: list[str]
    connections: int
    jobs: int
    """In each request."""
    probe: bool = False


def _loads() -> dict[str, _Load]:
    seed = json.dumps(json.loads(SEED.read_text()), separators=(",", ":"))
    job = seed.removeprefix('{"items":[').removesuffix("]}")

    def other(n: int) -> str:
        """The same job with subtrees that no cache has seen."""
        return job.replace("An example application", f"An example app {n:07d}").replace("An example machine", f"An example {n:07d}")

    def bulk(jobs: list[str]) -> str:
        return '{"items":[' + ",".join(jobs) + "]}"

    singles = [bulk([other(n)]) for n in range(2_000)]
    bulks = [bulk([other(BULK * k + n) for n in range(BULK)]) for k in range(20)]
    return {
        "noop": _Load("/noop", [seed], CONNECTIONS, 1),
        "warm": _Load(_CREATE, [seed], CONNECTIONS, 1),
        "cold": _Load(_CREATE, singles, CONNECTIONS, 1),
        "bulk warm": _Load(_CREATE, [bulk([job] * BULK)], 4, BULK),
        "bulk cold": _Load(_CREATE, bulks, 4, BULK),
        "meanwhile": _Load(_CREATE, bulks, 1, BULK, probe=True),
    }


def start(stack: ExitStack, module: str, cpu: int, *arguments: str) -> tuple[IO[str], IO[str], int]:
    """One of our modules, as start_program."""
    return start_program(stack, cpu, sys.executable, "-m", module, *arguments)


def start_program(stack: ExitStack, cpu: int, *command: str) -> tuple[IO[str], IO[str], int]:
    """A process on a CPU of its own, where there are two: its input, its output, its id."""
    process = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(process.pid, {cpus[cpu % len(cpus)]})
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("no pipes")
    stack.callback(process.stdin.close)
    return process.stdin, process.stdout, process.pid


def _measure(loads: dict[str, _Load]) -> dict[str, list[Found]]:
    found: dict[str, list[Found]] = {name: [] for name in loads}
    with ExitStack() as stack:
        server: _Server = json.loads(start(stack, "bench.gateway_server", 0)[1].readline())
        ask, answer, _ = start(stack, "bench.gateway_load", 1)
        for round_number in range(ROUNDS + 1):
            for name, load in loads.items():
                plan = Plan(
                    port=server["port"],
                    host="bench",
                    token=server["token"],
                    path=load.path,
                    bodies=load.bodies,
                    connections=load.connections,
                    seconds=SECONDS if round_number else SECONDS / 5,
                    probe=load.probe,
                    counts_cpu=True,
                )
                ask.write(json.dumps(plan) + "\n")
                ask.flush()
                line = answer.readline()
                if not line:
                    raise RuntimeError("the load generator died")
                if round_number:  # the first is for warming up
                    found[name].append(json.loads(line))
    return found


def run() -> list[Ratio]:
    """The rows of the table of speed that belong to the gateway."""
    loads = _loads()
    found = _measure(loads)

    def rates(name: str) -> list[float]:
        """Jobs (or no-ops) for each second of the server's CPU, by round."""
        return [loads[name].jobs * one["requests"] / (one["server_cpu_ns"] / 1e9) for one in found[name]]

    def over(name: str, floor: str) -> float:
        return median(rate / below for rate, below in zip(rates(name), rates(floor), strict=True))

    def detail(name: str) -> str:
        wall = median(loads[name].jobs * one["requests"] / one["seconds"] for one in found[name])
        return f"{1e6 / median(rates(name)):.1f} us CPU each, {wall:,.0f}/s"

    def ratio(name: str, value: float, limit: float, text: str) -> Ratio:
        return Ratio(name=name, value=value, limit=limit, direction="at least", unit="x", detail=text)

    latencies = [sorted(one["probe_ms"]) for one in found["meanwhile"]]
    p95 = median(one[int(len(one) * 0.95)] for one in latencies)
    p50 = median(one[len(one) // 2] for one in latencies)
    return [
        ratio("HTTP create over no-op, cold", over("cold", "noop"), 0.30, f"{detail('cold')}; no-op {detail('noop')}"),
        ratio("HTTP create over no-op, warm", over("warm", "noop"), 0.50, detail("warm")),
        ratio("bulk of 100 over single creates, cold", over("bulk cold", "cold"), 1.8, detail("bulk cold")),
        ratio("bulk of 100 over single creates, warm", over("bulk warm", "warm"), 2.8, detail("bulk warm")),
        Ratio(
            name="other calls during bulks of 100 (p95)",
            value=p95,
            limit=5.0,
            direction="at most",
            unit="ms",
            detail=f"median of the rounds; p50 {p50:.2f} ms, {sum(map(len, latencies))} calls",
        ),
    ]
