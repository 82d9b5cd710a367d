"""A create through Envoy and our gateway, over Envoy's own transcoder before a bare grpc.aio servicer; two processes on a port over one.

What is compared reads the same job and answers; nothing keeps it. Both ways lead through one Envoy with Serai's own configuration, so both
have its limits and its log; ours also has Core's token, which is checked twice. A rate is creates for each second of CPU of all processes
on the way, because on a busy machine that is what carries over; only the row on two processes, of gateway and server as `serai serve`
has them, is of the clock. Each ratio is the median of the rounds' ratios. The honest peer is a small program in Go with grpc-gateway, which
reads standard JSON and answers (bench/peer).
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import IO

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.protobuf import json_format
from serai.jobs.v1 import jobs_service_pb2 as jobs_pb2
from serai_gateway.codec import Codec

from bench.envoys import NAME, free_ports, front_door
from bench.front_load import start_load
from bench.front_peer import start_peer
from bench.gateway import SEED, start
from bench.gateway_load import Found, Plan
from bench.ratio import Ratio

ROUNDS = 9
SECONDS = 0.5
CONNECTIONS = 32
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_OURS = "/ucloud/ucloud/jobs"
_STANDARD = "/v1/jobs"
_TOOL = "serai_bench"
"""Envoy looks no further than at what a token of a tool looks like."""


@dataclass(frozen=True)
class _Way:
    port: int
    path: str
    bodies: list[str]
    token: str
    processes: tuple[int, ...]
    """Ids of all that is on the way."""
    envoy: int = 0
    """Id of the Envoy among them; 0 = there is none."""


@dataclass(frozen=True)
class _Round:
    creates: int
    seconds: float
    cpu_s: float
    """Of all processes on the way."""
    envoy_cpu_s: float

    @property
    def rate(self) -> float:
        """Creates for each second of CPU."""
        return self.creates / self.cpu_s

    @property
    def by_clock(self) -> float:
        return self.creates / self.seconds


def run() -> list[Ratio]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="serai-")))
        ways = _ways(stack, folder)
        *generator, language = start_load(stack, folder, 1)
        for way in ways.values():
            _measure(generator, way, SECONDS / 4)
        rounds = [{name: _measure(generator, way, SECONDS) for name, way in ways.items()} for _ in range(ROUNDS)]
    return [*_through_envoy(rounds), *_two_processes(rounds, language), *_peer(rounds)]


def _through_envoy(rounds: list[dict[str, _Round]]) -> list[Ratio]:
    added = [one["front door"].envoy_cpu_s / one["front door"].creates * 1e6 for one in rounds]
    whole = [1e6 / one["front door"].rate for one in rounds]
    return [
        Ratio(
            "create through Envoy and the gateway, over Envoy's transcoder before a bare grpc.aio servicer",
            _over(rounds, "front door", "transcoder"),
            3.0,
            "at least",
            "x",
            f"{_detail(rounds, 'front door')}; transcoder {_detail(rounds, 'transcoder')}",
        ),
        Ratio(
            "the same, of applications and machines that were never seen before",
            _over(rounds, "front door, cold", "transcoder"),
            0,
            "printed",
            "x",
            _detail(rounds, "front door, cold"),
        ),
        Ratio("what Envoy adds to a create", median(added), 0, "printed", "us CPU", f"of {median(whole):.0f} us in all"),
    ]


def _two_processes(rounds: list[dict[str, _Round]], language: str) -> list[Ratio]:
    over = median(one["two processes"].by_clock / one["one process"].by_clock for one in rounds)
    one, two = (median(found[name].by_clock for found in rounds) for name in ("one process", "two processes"))
    detail = (
        f"{two:,.0f}/s and {one:,.0f}/s by the clock, the load generator (in {language}) on the same {len(os.sched_getaffinity(0))} CPUs"
    )
    return [Ratio("two processes of gateway and server on one port, over one", over, 1.6, "at least", "x", detail)]


def _peer(rounds: list[dict[str, _Round]]) -> list[Ratio]:
    name = "create through the gateway, over a grpc-gateway in Go"
    if "peer" not in rounds[0]:
        return [Ratio(name, 0, 0, "printed", "x", "not measured: go is not on PATH")]
    detail = f"{_detail(rounds, 'gateway')}; grpc-gateway {_detail(rounds, 'peer')}"
    return [Ratio(name, _over(rounds, "gateway", "peer"), 0, "printed", "x", detail)]


def _over(rounds: list[dict[str, _Round]], name: str, floor: str) -> float:
    return median(one[name].rate / one[floor].rate for one in rounds)


def _detail(rounds: list[dict[str, _Round]], name: str) -> str:
    rate, by_clock = median(one[name].rate for one in rounds), median(one[name].by_clock for one in rounds)
    return f"{1e6 / rate:.0f} us CPU each, {by_clock:,.0f}/s"


def _ways(stack: ExitStack, folder: Path) -> Mapping[str, _Way]:
    warm, cold, standard = _bodies()
    public_key = _make_core(folder)
    alone_port, one_port, pair_port = free_ports(3)
    gateway_socket = folder / "gateway.sock"
    token, alone = _start_gateway(stack, folder, alone_port, 0, gateway_socket)
    one = _start_gateway(stack, folder, one_port, 0, "--server")[1]
    pair = [_start_gateway(stack, folder, pair_port, cpu, "--server")[1] for cpu in (0, 1)]
    servicer_socket = folder / "servicer.sock"
    _, ready, servicer = start(stack, "bench.front_servicer", 0, str(servicer_socket))
    ready.readline()
    front_port, front_envoy = front_door(stack, folder, gateway_socket, public_key, servicer_socket)
    ways = {
        "gateway": _Way(alone_port, _OURS, warm, token, (alone,)),
        "one process": _Way(one_port, _OURS, warm, token, (one,)),
        "two processes": _Way(pair_port, _OURS, warm, token, tuple(pair)),
        "front door": _Way(front_port, _OURS, warm, token, (front_envoy, alone), front_envoy),
        "front door, cold": _Way(front_port, _OURS, cold, token, (front_envoy, alone), front_envoy),
        "transcoder": _Way(front_port, _STANDARD, standard, _TOOL, (front_envoy, servicer), front_envoy),
    }
    if (peer := start_peer(stack, folder, min(os.sched_getaffinity(0)))) is not None:
        ways["peer"] = _Way(peer.port, _STANDARD, standard, _TOOL, (peer.pid,))
    return ways


def _bodies() -> tuple[list[str], list[str], list[str]]:
    """The seed's job as Core sends it; with applications and machines that no cache has seen; and in the standard JSON of protobuf."""
    seed = json.dumps(json.loads(SEED.read_text()), separators=(",", ":"))
    named = [("An example application", "An example app {:07d}"), ("An example machine", "An example {:07d}")]
    cold: list[str] = []
    for number in range(2_000):
        body = seed
        for was, name in named:
            body = body.replace(was, name.format(number))
        cold.append(body)
    read = jobs_pb2.CreateRequest.FromString(Codec().read(jobs_pb2.CreateRequest.DESCRIPTOR, seed.encode()))
    return [seed], cold, [json_format.MessageToJson(read, indent=None)]


def _make_core(folder: Path) -> Path:
    """Core's key for all gateways: core.key.pem, and the public one, whose path is returned."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    plain = serialization.NoEncryption()
    (folder / "core.key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    public = folder / "core.pem"
    public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    return public


def _start_gateway(stack: ExitStack, folder: Path, port: int, cpu: int, *more: str | Path) -> tuple[str, int]:
    """A token for it, and its process. `more`: --server, or a socket at which it is reached too."""
    _, said, process = start(stack, "bench.gateway_server", cpu, str(port), str(folder), *map(str, more))
    return json.loads(said.readline())["token"], process


def _measure(generator: Sequence[IO[str]], way: _Way, seconds: float) -> _Round:
    """RuntimeError unless every answer was a right one: the load generator sees that they are one and the same, and 200."""
    ask, answer = generator
    plan = Plan(
        port=way.port,
        host=NAME,
        token=way.token,
        path=way.path,
        bodies=way.bodies,
        connections=CONNECTIONS,
        seconds=seconds,
        probe=False,
        counts_cpu=False,
    )
    before, envoy_before = _cpu_s(*way.processes), _cpu_s(way.envoy)
    ask.write(json.dumps(plan) + "\n")
    ask.flush()
    line = answer.readline()
    if not line:
        raise RuntimeError("the load generator died")
    found: Found = json.loads(line)
    if len(json.loads(found["answer"])["responses"]) != 1:
        raise RuntimeError(f"a create of one job was answered by {found['answer']}")
    cpu_s, envoy_cpu_s = _cpu_s(*way.processes) - before, _cpu_s(way.envoy) - envoy_before
    return _Round(found["requests"], found["seconds"], max(cpu_s, _TICK_S), envoy_cpu_s)


def _cpu_s(*processes: int) -> float:
    """Seconds of CPU so far, of all their threads (proc(5)); of no process: 0."""
    stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in processes if pid]
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) * _TICK_S
