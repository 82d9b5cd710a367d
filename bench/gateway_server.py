"""The gateway's real HTTP front in a process of its own, for bench/gateway.py: the real app, the real codec, no store behind it. With
--server the server's services are in the same process, as `serai serve` has them, and only the use cases behind them are missing.

Prints one JSON line with its port and a token, and serves until its input ends. `/noop` and `/cpu` exist here only. Arguments: a port, 0 or
none = any free one; a port that is given may be shared with others of these. A folder, whose core.key.pem is then Core's key: whoever made
that knows the key, and so may others of these. And a Unix socket, by which it is reached too, as Envoy does it; none = there is none.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import BinaryIO

import jwt
import uvloop
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from serai.jobs.v1 import jobs_service_pb2 as jobs_pb2
from serai_gateway.access import AccessLog
from serai_gateway.app import App
from serai_gateway.auth import PublicKeyFile, TokenCheck
from serai_gateway.clock import SystemClock
from serai_gateway.codec import Codec
from serai_gateway.counts import CountedAccess, GatewayCounts
from serai_gateway.door import Door
from serai_gateway.gateway import EmbeddedServer
from serai_gateway.http import Receive, Scope, Send, read_body, send_json
from serai_gateway.listeners import listen, unix_listener
from serai_gateway.settings import CoreSettings, ProviderSettings, Settings
from serai_gateway.upstream import InProcessUpstream, Upstream
from serai_gateway.ws.paths import SocketPaths

from bench.nothing import services_of_nothing

_BACKLOG = 2048
"""As many connections as wait at the gateway's own listener."""
_NOOP = b'{"responses":[null]}'


@cache
def answer_to(jobs: int) -> bytes:
    return jobs_pb2.CreateResponse(responses=[jobs_pb2.CreatedJob() for _ in range(jobs)]).SerializeToString()


class NoStore:
    """An Upstream that reads the request as a server would and keeps nothing."""

    async def unary(self, method: str, request: bytes, metadata: Mapping[str, str], timeout_s: float) -> bytes:
        if method.endswith("/Create"):
            return answer_to(len(jobs_pb2.CreateRequest.FromString(request).items))
        return b""

    async def stream(self, method: str, request: bytes, metadata: Mapping[str, str]) -> AsyncIterator[bytes]:
        raise NotImplementedError(method)
        yield b""


class BenchApp:
    """The door with the app behind it, and two paths for the measurement."""

    def __init__(self, app: App) -> None:
        self._app = Door(app, SocketPaths((), frozenset({"example"})), Codec(), None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path")
        if path == "/noop":
            await read_body(receive, None, 1 << 24)
            await send_json(send, 200, _NOOP)
        elif path == "/cpu":
            await send_json(send, 200, b"%020d" % time.process_time_ns())
        else:
            await self._app(scope, receive, send)


def main() -> None:
    given = [argument for argument in sys.argv[1:] if argument != "--server"]
    upstream = NoStore() if len(given) == len(sys.argv) - 1 else InProcessUpstream(services_of_nothing())
    port = int(given[0]) if given else 0
    key = core_key(Path(given[1])) if len(given) > 1 else rsa.generate_private_key(public_exponent=65537, key_size=2048)
    now_s = SystemClock().now_ms() // 1000
    claims = {"sub": "_UCloud", "role": "SERVICE", "iss": "cloud.sdu.dk", "aud": "all:write", "iat": now_s, "exp": now_s + 900}
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        nowhere = stack.enter_context(Path(os.devnull).open("wb"))
        sockets = [shared_listener(port) if port else listen("127.0.0.1", 0)]
        if len(given) > 2:
            sockets.append(stack.enter_context(unix_listener(Path(given[2]), "gateway.socket")))
        key_file = Path(folder, "core.pem")
        key_file.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
        uvloop.run(serve(key_file, jwt.encode(claims, key, algorithm="RS256"), nowhere, sockets, upstream))


def core_key(folder: Path) -> rsa.RSAPrivateKey:
    """The key of a Core that several servers know."""
    key = serialization.load_pem_private_key((folder / "core.key.pem").read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


def shared_listener(port: int) -> socket.socket:
    """One that others of the same user may have too: the kernel gives each a part of the connections (SO_REUSEPORT, socket(7))."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener


async def serve(key_file: Path, token: str, log: BinaryIO, sockets: list[socket.socket], upstream: Upstream) -> None:
    """`sockets`: the first one is of TCP."""
    clock = SystemClock()
    settings = Settings(
        provider=ProviderSettings(id="example", aliases=("ucloud",)),
        core=CoreSettings(url="http://127.0.0.1:1", public_key_file=str(key_file), refresh_token_file="none"),
    )

    def write(lines: bytes) -> None:
        log.write(lines)

    access = CountedAccess(GatewayCounts(), AccessLog(clock, write=write))
    app = App(settings, Codec(), upstream, TokenCheck(PublicKeyFile(key_file, clock), clock), access)
    server = EmbeddedServer(BenchApp(app), grace_s=1)
    serving = asyncio.create_task(server.serve(sockets))
    await server.wait_started(serving)
    gc.collect()
    gc.freeze()  # as `serai serve` does once it has started
    print(json.dumps({"port": sockets[0].getsockname()[1], "token": token}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(serving)


if __name__ == "__main__":
    main()
