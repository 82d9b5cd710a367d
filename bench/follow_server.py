"""A real gateway front, and floors beside it, in a process of its own for bench/follow.py: the log is a file, a shell's program echoes.

Prints one JSON line with its port, a token and a session, and serves until its input ends. `/floor/…` exists here only: WebSockets of a few
lines, as one would write them for the one purpose.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import jwt
import uvloop
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from serai.jobs.v1 import job_pb2
from serai.jobs.v1 import jobs_service_pb2 as jobs_pb2
from serai.sessions.v1 import sessions_service_pb2 as sessions_pb2
from serai_backends.common.logs import read_chunks
from serai_gateway.auth import PublicKeyFile, TokenCheck
from serai_gateway.clock import SystemClock
from serai_gateway.codec import Codec
from serai_gateway.door import Door
from serai_gateway.gateway import EmbeddedServer
from serai_gateway.http import Receive, Scope, Send
from serai_gateway.listeners import listen
from serai_gateway.ws import follow, shell
from serai_gateway.ws.follow import FollowCalls
from serai_gateway.ws.following import Following
from serai_gateway.ws.paths import FOLLOW, SHELL, SocketPath, SocketPaths
from serai_gateway.ws.shell import ShellCalls
from serai_gateway.ws.socket import Socket
from serai_gateway.ws.unproven import Unproven

PIECE = 32 * 1024
SESSION = "the session of the measurement"
PROVIDERS = frozenset({"example"})


class OneJob:
    """An Exchanging: each job's output is the file, and it is over; a shell gives back what is typed."""

    def __init__(self, log: Path) -> None:
        self._log = log

    async def unary(self, method: str, request: bytes, metadata: Mapping[str, str], timeout_s: float) -> bytes:
        return jobs_pb2.GetResponse(job=jobs_pb2.JobReport(state=job_pb2.JOB_STATE_SUCCESS)).SerializeToString()

    async def stream(self, method: str, request: bytes, metadata: Mapping[str, str]) -> AsyncIterator[bytes]:
        """As the server reads logs: in batches on a thread, one message for each chunk."""
        asked = jobs_pb2.FollowRequest.FromString(request)
        offset = asked.offsets[0].offset if asked.offsets else 0
        fd = os.open(self._log, os.O_RDONLY)
        try:
            while chunks := await asyncio.to_thread(read_chunks, fd, offset):
                for chunk in chunks:
                    offset = chunk.offset + len(chunk.data)
                    made = jobs_pb2.FollowResponse(rank=0, stream=jobs_pb2.OUTPUT_STREAM_STDOUT, offset=chunk.offset, data=chunk.data)
                    yield made.SerializeToString()
        finally:
            os.close(fd)

    async def exchange(self, method: str, requests: AsyncIterator[bytes], metadata: Mapping[str, str]) -> AsyncIterator[bytes]:
        opened = sessions_pb2.ShellOpened(session=sessions_pb2.Session(id="1"))
        async for raw in requests:
            request = sessions_pb2.ShellRequest.FromString(raw)
            if request.WhichOneof("message") == "open":
                yield sessions_pb2.ShellResponse(opened=opened).SerializeToString()
            else:
                yield sessions_pb2.ShellResponse(output=request.input).SerializeToString()


def floor_of_log(log: Path) -> SocketPath:
    """`tail` over a WebSocket: the file in pieces, each as it is."""

    async def serve(socket: Socket) -> None:
        await socket.accept()
        await socket.receive()
        with log.open(encoding="utf-8") as file:
            while piece := file.read(PIECE):
                await socket.send(piece)

    return SocketPath("/floor/log", serve, follow.RULES)


async def echo(socket: Socket) -> None:
    """A terminal of a few lines: what comes goes back."""
    await socket.accept()
    while (message := await socket.receive()) is not None:
        await socket.send(message)


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    raise NotImplementedError(scope.get("path"))


def main() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    now_s = SystemClock().now_ms() // 1000
    claims = {"sub": "_UCloud", "role": "SERVICE", "iss": "cloud.sdu.dk", "aud": "all:write", "iat": now_s, "exp": now_s + 3_600}
    with tempfile.TemporaryDirectory() as folder:
        key_file = Path(folder, "core.pem")
        key_file.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
        uvloop.run(serve(key_file, jwt.encode(claims, key, algorithm="RS256"), Path(sys.argv[1])))


async def serve(key_file: Path, token: str, log: Path) -> None:
    clock = SystemClock()
    server = OneJob(log)
    unproven = Unproven()
    following = Following(server, TokenCheck(PublicKeyFile(key_file, clock), clock), clock, lambda: 0.5, PROVIDERS, unproven)
    paths = SocketPaths(
        (
            SocketPath(FOLLOW, FollowCalls(following), follow.RULES),
            SocketPath(SHELL, ShellCalls(server, clock, lambda: 0.5, PROVIDERS, unproven), shell.RULES),
            floor_of_log(log),
            SocketPath("/floor/echo", echo, shell.RULES),
        ),
        PROVIDERS,
    )
    door = Door(nothing, paths, Codec(), None)
    listener = listen("127.0.0.1", 0)
    http = EmbeddedServer(door, grace_s=1, sockets=door.rules)
    serving = asyncio.create_task(http.serve([listener]))
    await http.wait_started(serving)
    gc.collect()
    gc.freeze()  # as `serai serve` does once it has started
    print(json.dumps({"port": listener.getsockname()[1], "token": token, "session": SESSION}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await http.stop(serving)


if __name__ == "__main__":
    main()
