"""gRPC Create through the whole chain, over a bare grpc.aio echo of the same message on the same kind of socket.

Both servers live in one process of their own and are asked in turn, round by round. A rate is calls for each second of that
process's CPU time: on a busy machine, and with a client in Python, that is what carries over. The use case behind Create does nothing,
so what is compared is gRPC, chain, reading and answering.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from statistics import median
from typing import Never

import grpc
import grpc.aio
import structlog
import uvloop
from fakes.usecases import MemoryJobs
from serai.core.v1.resources_pb2 import ResourceOwner
from serai.jobs.v1 import jobs_service_pb2 as pb
from serai.jobs.v1.job_pb2 import ComputeSupport, Job
from serai_gateway.codec import Codec
from serai_server.clock import SystemClock
from serai_server.events.consumers import Asker, ConsumerReport
from serai_server.jobs.origin import Tool
from serai_server.rpc.health import Health
from serai_server.rpc.server import grpc_server
from serai_server.rpc.services import dispatcher
from serai_server.store.model import EventSettlement, StoredEvent

from bench.ratio import Ratio

SEED = Path(__file__).parent.parent / "tests/golden/ucloud-2021/jobs-provider-03-jobs.request.json"
ROUNDS = 7
CALLS = 1_500
IN_FLIGHT = 64
_CREATE = "/serai.jobs.v1.JobsService/Create"
_ECHO = "/bench.Echo/Echo"


def run() -> list[Ratio]:
    with tempfile.TemporaryDirectory(prefix="serai-bench-") as name:
        folder = Path(name)
        command = [sys.executable, "-m", "bench.rpc", str(folder)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
            assert server.stdin is not None
            assert server.stdout is not None
            server.stdout.readline()
            found = uvloop.run(_measure(folder, server.pid))
            server.stdin.close()
    chain, echo = found["chain"], found["echo"]
    ratio = median(one / other for one, other in zip(chain, echo, strict=True))
    detail = (
        f"calls for each CPU second of the server: {median(chain):,.0f} through the chain, {median(echo):,.0f} bare; {IN_FLIGHT} in flight"
    )
    return [Ratio("gRPC Create through the chain, over a bare echo", ratio, 0.80, "at least", "x", detail)]


async def _measure(folder: Path, pid: int) -> dict[str, list[float]]:
    request = Codec().read(pb.CreateRequest.DESCRIPTOR, SEED.read_bytes())
    found: dict[str, list[float]] = {"echo": [], "chain": []}
    async with _channel(folder / "echo.sock") as echo, _channel(folder / "chain.sock") as chain:
        calls = {"echo": echo.unary_unary(_ECHO, _raw, _raw), "chain": chain.unary_unary(_CREATE, _raw, _raw)}
        for call in calls.values():
            await _load(call, request, CALLS // 5)
        for _ in range(ROUNDS):
            for name, call in calls.items():
                before = _cpu_ns(pid)
                await _load(call, request, CALLS)
                found[name].append(CALLS / (_cpu_ns(pid) - before) * 1e9)
    return found


def _channel(socket: Path) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(f"unix:{socket}")


def _raw(data: bytes) -> bytes:
    return data


async def _load(call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes], request: bytes, calls: int) -> None:
    async def worker() -> None:
        for _ in range(calls // IN_FLIGHT):
            await call(request)

    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(worker())


def _cpu_ns(pid: int) -> int:
    """CPU time of all threads of the process so far."""
    return sum(int(f.read_text().split()[0]) for f in Path(f"/proc/{pid}/task").glob("*/schedstat"))


class _Nothing:
    """Use cases that take everything and do nothing."""

    async def create(self, items: Sequence[Job], tool: Tool | None = None) -> None:
        for item in items:
            _owner: ResourceOwner = item.owner

    async def submit(self, request: pb.SubmitRequest, tool: Tool | None = None) -> pb.SubmitResponse:
        return pb.SubmitResponse()

    async def of_project(self, job_ids: Sequence[str], project: str) -> list[bool]:
        return [True for _ in job_ids]

    async def utilization(self) -> Never:
        raise NotImplementedError

    def products(self) -> list[ComputeSupport]:
        return []

    async def get(self, job_id: str) -> pb.JobReport:
        return pb.JobReport(id=job_id)

    async def list(self, request: pb.ListRequest) -> pb.ListResponse:
        return pb.ListResponse()

    def watch(self, job_id: str) -> Never:
        raise NotImplementedError

    def follow(self, request: pb.FollowRequest) -> Never:
        raise NotImplementedError

    def subscribe(self, consumer: str, from_now: bool, batch_size: int, asker: Asker) -> AsyncIterator[Sequence[StoredEvent]]:
        raise NotImplementedError

    async def acknowledge(self, consumer: str, settlements: Sequence[EventSettlement], asker: Asker) -> None:
        pass

    async def consumers(self) -> Sequence[ConsumerReport]:
        raise NotImplementedError

    async def drop(self, consumer: str) -> None:
        raise NotImplementedError

    async def give(self, consumer: str, owner: str) -> None:
        raise NotImplementedError


async def _serve(folder: Path) -> None:
    # As a server in production logs: nothing for a call that went well.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO), cache_logger_on_first_use=True)
    nothing = _Nothing()
    front = dispatcher(jobs=nothing, changes=MemoryJobs(), events=nothing, health=Health(), clock=SystemClock())
    echo = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        _echo,  # pyright: ignore[reportArgumentType] - grpc's types know the synchronous handlers only
        pb.CreateRequest.FromString,
        pb.CreateRequest.SerializeToString,
    )
    echo.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Echo", {"Echo": handler}),))
    echo.add_insecure_port(f"unix:{folder / 'echo.sock'}")
    async with grpc_server(front, folder / "chain.sock"):
        await echo.start()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await echo.stop(0)


async def _echo(request: pb.CreateRequest, context: object) -> pb.CreateRequest:
    return request


if __name__ == "__main__":
    uvloop.run(_serve(Path(sys.argv[1])))
