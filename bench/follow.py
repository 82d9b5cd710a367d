"""What following a job costs over sending its file through a WebSocket of a few lines; and what the gateway adds to a keystroke's echo.

Server and clients are processes of their own; rounds interleave all measurements. Throughput is for each second of the server's CPU: on a
busy machine that is what carries over. The gateway reads the log as the server does, decodes it, cuts it into messages of JSON and tells
the job's end; the floor sends the file's text as it is, so it also has no quotes to escape and nothing to wrap.
"""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import TypedDict

from bench.follow_load import Found, Plan
from bench.gateway import start
from bench.ratio import Ratio

LOG_MIB = 32
ROUNDS = 9
KEYS = 200
_MIB = 1 << 20


class _Server(TypedDict):
    port: int
    pid: int
    token: str
    session: str


def _line(n: int) -> str:
    return f"[2026-01-01T00:00:00.{n:06d}Z] step {n}: loss=0.{n * 7919 % 100000:05d} größe=π accuracy=0.9{n % 1000:03d} lr=1e-4\n"


def _plans(server: _Server, log: Path) -> dict[str, Plan]:
    size = log.stat().st_size
    call = "jobs.compute.example.shell.open"

    def plan(
        path: str, *, headers: str = "", first: str = "", skip: int = 0, read: int = 0, echoes: list[str] | None = None, answers: int = 1
    ) -> Plan:
        return Plan(
            port=server["port"],
            pid=server["pid"],
            path=path,
            headers=headers,
            first=first,
            skip=skip,
            read_bytes=read,
            echoes=echoes or [],
            answers=answers,
        )

    follow = {"call": "jobs.provider.example.follow", "streamId": "0", "payload": {"type": "init", "job": {"id": "1"}}, "bearer": ""}
    old, path = follow | {"bearer": server["token"]}, "/ucloud/jobs.provider.example/websocket"
    initialize = {"type": "initialize", "sessionIdentifier": server["session"]}
    keys = [json.dumps({"call": call, "streamId": str(n), "payload": {"type": "input", "data": "x"}}) for n in range(1, KEYS + 1)]
    return {
        "floor": plan("/floor/log", first="go", read=size),
        "2021": plan(path, first=json.dumps(old), skip=1, read=size),
        "2026": plan(path, headers=f"Authorization: Bearer {server['token']}\r\n", first=json.dumps(follow), read=size),
        "echo": plan("/floor/echo", echoes=keys),
        # Two messages for each key: the echo and the acknowledgement.
        "keys": plan(
            "/ucloud/example/websocket",
            first=json.dumps({"call": call, "streamId": "0", "payload": initialize}),
            skip=1,
            echoes=keys,
            answers=2,
        ),
    }


def _measure(log: Path) -> dict[str, list[Found]]:
    with ExitStack() as stack:
        _, told, pid = start(stack, "bench.follow_server", 0, str(log))
        server: _Server = json.loads(told.readline()) | {"pid": pid}
        ask, answer, _ = start(stack, "bench.follow_load", 1)
        plans = _plans(server, log)
        found: dict[str, list[Found]] = {name: [] for name in plans}
        for round_number in range(ROUNDS + 1):
            for name, plan in plans.items():
                ask.write(json.dumps(plan) + "\n")
                ask.flush()
                line = answer.readline()
                if not line:
                    raise RuntimeError("the clients died")
                if round_number:  # the first is for warming up
                    found[name].append(json.loads(line))
        return found


def run() -> list[Ratio]:
    """The rows of the table of speed that belong to follows and shells."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "stdout.txt")
        lines = "".join(_line(n) for n in range(10_000))
        with log.open("w") as file:
            for _ in range(LOG_MIB * _MIB // len(lines.encode()) + 1):
                file.write(lines)
        size_mib = log.stat().st_size / _MIB
        found = _measure(log)

    def rates(name: str) -> list[float]:
        """MiB of the file for each second of the server's CPU, by round."""
        return [size_mib / max(one["server_cpu_s"], 0.01) for one in found[name]]

    def over(name: str) -> float:
        return median(rate / below for rate, below in zip(rates(name), rates("floor"), strict=True))

    def detail(name: str) -> str:
        wall = median(size_mib / one["seconds"] for one in found[name])
        return f"{median(rates(name)):.0f} MiB/s per core, {wall:.0f} MiB/s; floor {median(rates('floor')):.0f} per core"

    def percentile(name: str, part: float) -> float:
        """us, of the calmest round: others use the machine too."""
        return min(sorted(one["echo_us"])[int(len(one["echo_us"]) * part)] for one in found[name])

    def added(part: float) -> Ratio:
        keys, floor = percentile("keys", part), percentile("echo", part)
        name = f"added to a keystroke's echo (p{part * 100:.0f})"
        detail = f"{keys:.0f} us with its acknowledgement; bare WebSocket echo {floor:.0f} us"
        return Ratio(name=name, value=(keys - floor) / 1_000, limit=5.0, direction="at most", unit="ms", detail=detail)

    def follow(name: str) -> Ratio:
        title = f"follow of {name} over the file as it is"
        return Ratio(name=title, value=over(name), limit=0.25, direction="at least", unit="x", detail=detail(name))

    return [follow("2021"), follow("2026"), added(0.50), added(0.99)]
