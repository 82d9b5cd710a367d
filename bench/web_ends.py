"""The two ends of bench/web.py, each a process of its own: an application that does next to nothing, and a gateway with one open session.

`python -m bench.web_ends application` and `… gateway FOLDER PORT_OF_APPLICATION` print one JSON line with their port, and serve until their
input ends.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import msgspec
import structlog
import uvloop
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from serai.sessions.v1 import sessions_service_pb2 as pb2
from serai_gateway.gateway import Gateway
from serai_gateway.settings import CoreSettings, GatewaySettings, ProviderSettings, Settings

SMALL = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 100
LARGE_BYTES = 256 * 1024 * 1024
_PIECE = bytes(256 * 1024)


class Application(asyncio.Protocol):
    """Answers `GET /large…` with LARGE_BYTES, and anything else with the small answer."""

    _transport: asyncio.Transport
    _left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
        self._writable = True

    def data_received(self, data: bytes) -> None:
        for _ in range(data.count(b"\r\n\r\n")):
            if data.startswith(b"GET /large"):
                self._left = LARGE_BYTES
                self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE_BYTES)
                self._pour()
            else:
                self._transport.write(SMALL)

    def _pour(self) -> None:
        while self._left and self._writable:
            part = min(self._left, len(_PIECE))
            self._left -= part
            self._transport.write(_PIECE[:part])

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._pour()


class OneSession:
    """An Upstream: whatever is shown opens the application."""

    def __init__(self, port: int) -> None:
        authorized = pb2.AuthorizeResponse(session=pb2.Session(id="1", job_id="1"), host="127.0.0.1", port=port)
        self._authorized = authorized.SerializeToString()
        self._held = pb2.HoldResponse(authorized=authorized).SerializeToString()

    async def unary(self, method: str, request: bytes, metadata: Mapping[str, str], timeout_s: float) -> bytes:
        return self._authorized

    async def stream(self, method: str, request: bytes, metadata: Mapping[str, str]) -> AsyncIterator[bytes]:
        if method.endswith("/Hold"):
            yield self._held
        await asyncio.Event().wait()

    async def exchange(self, method: str, requests: AsyncIterator[bytes], metadata: Mapping[str, str]) -> AsyncIterator[bytes]:
        raise NotImplementedError(method)
        yield b""


async def application() -> None:
    server = await asyncio.get_running_loop().create_server(Application, "127.0.0.1", 0)
    await _until_done(int(server.sockets[0].getsockname()[1]))


async def gateway(folder: Path, application_port: int) -> None:
    """`gateway.json` in the folder: its settings."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    (folder / "core.pem").write_bytes(key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    (folder / "token").write_text("x")
    core = CoreSettings(url="http://127.0.0.1:9", public_key_file="core.pem", refresh_token_file="token", reconcile_every_ms=0)
    settings = Settings(
        provider=ProviderSettings(id="bench"),
        core=core.relative_to(folder),
        gateway=msgspec.json.decode((folder / "gateway.json").read_bytes(), type=GatewaySettings),
    )
    async with Gateway(settings, OneSession(application_port)) as running:
        await _until_done(running.port)


async def _until_done(port: int) -> None:
    gc.collect()
    gc.freeze()
    print(json.dumps({"port": port}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    uvloop.run(application() if sys.argv[1] == "application" else gateway(Path(sys.argv[2]), int(sys.argv[3])))
