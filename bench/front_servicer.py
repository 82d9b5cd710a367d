"""A bare grpc.aio servicer for bench/front.py: reads a create, answers it, and does nothing else. Argument: its Unix socket.

Prints a line when it serves, and serves until its input ends.
"""

from __future__ import annotations

import asyncio
import gc
import sys

import grpc
import grpc.aio
import uvloop
from serai.jobs.v1 import jobs_service_pb2 as jobs_pb2


async def create(request: jobs_pb2.CreateRequest, context: object) -> jobs_pb2.CreateResponse:
    return jobs_pb2.CreateResponse(responses=[jobs_pb2.CreatedJob() for _ in request.items])


async def serve(socket: str) -> None:
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        create,  # pyright: ignore[reportArgumentType] - grpc's types know the synchronous handlers only
        jobs_pb2.CreateRequest.FromString,
        jobs_pb2.CreateResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("serai.jobs.v1.JobsService", {"Create": handler}),))
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    gc.collect()
    gc.freeze()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(0)


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
