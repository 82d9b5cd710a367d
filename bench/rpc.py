"""gRPC Create through the whole chain, over a bare grpc.aio echo of the same message on the same kind of socket.

Both servers live in one process of their own and are asked in turn, round by round. A rate is calls for each second of that
process's CPU time: on a busy machine, and with a client in Python, that is what carries over. The use case behind Create does nothing,
so what is compared is gRPC, chain, reading and answering.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import grpc
import grpc.aio
import uvloop
from serai.jobs.v1 import jobs_service_pb2 as pb
from serai_gateway.codec import Codec
from serai_server.rpc.server import grpc_server

from bench.nothing import services_of_nothing
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


async def _serve(folder: Path) -> None:
    front = services_of_nothing()
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
