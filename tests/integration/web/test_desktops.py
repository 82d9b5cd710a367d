"""Desktops: RFB over a WebSocket, whether a bare RFB server or a websockify is at the port."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from fakes.desktops import GREETING, Listening, redirecting, rfb_server, websockify
from fakes.web_site import Site, plain_settings, site
from serai.sessions.v1 import sessions_service_pb2 as pb2
from serai_gateway.web_settings import WebSettings
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

VNC = pb2.SESSION_KIND_VNC


@pytest.fixture
async def web(tmp_path: Path) -> AsyncGenerator[Site]:
    """Desktops need no pages."""
    async with site(tmp_path, plain_settings(tmp_path, WebSettings())) as found:
        yield found


def socket(web: Site, secret: str, *, binary: bool = True) -> connect:
    protocols = [Subprotocol("binary")] if binary else None
    url = f"ws://127.0.0.1:{web.port}/ucloud/example/jobs/vnc/{secret}"
    return connect(url, proxy=None, subprotocols=protocols, compression=None, max_size=None)


def opened(web: Site, desktop: Listening) -> str:
    web.sessions.run("1", vnc=("127.0.0.1", desktop.port))
    return web.sessions.open(VNC, "1").secret


@pytest.mark.parametrize("kind", [rfb_server, websockify])
@pytest.mark.parametrize("binary", [True, False])
async def test_bytes_pass_both_ways(web: Site, kind: type[object], binary: bool) -> None:
    """From the greeting on, also for clients that ask for no sub-protocol; leaving is told to the desktop."""
    async with asyncio.timeout(60), rfb_server() if kind is rfb_server else websockify() as desktop:
        async with socket(web, opened(web, desktop), binary=binary) as client:
            assert client.subprotocol == ("binary" if binary else None)
            assert await exactly(client, len(GREETING)) == GREETING
            for size in (1, 70_000, 1 << 20):
                await client.send(b"\xff" * size)
                assert await exactly(client, size) == b"\xff" * size
            assert desktop.connections == 1
        while desktop.connections:
            await asyncio.sleep(0.02)
        assert desktop.paths == ([] if kind is rfb_server else ["/websockify"])


async def test_a_desktop_ends_with_its_session(web: Site) -> None:
    """The job ends: the browser is told that it is over, the desktop's connection is closed."""
    async with asyncio.timeout(60), rfb_server() as desktop, socket(web, opened(web, desktop)) as client:
        await exactly(client, len(GREETING))
        web.sessions.end("1")
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        while desktop.connections:
            await asyncio.sleep(0.02)


async def test_secrets_that_open_no_desktop(web: Site) -> None:
    """Guessed, of another kind, over: refused before there is a socket, and logged without a secret."""
    async with rfb_server() as desktop:
        good = opened(web, desktop)
        shell = web.sessions.open(pb2.SESSION_KIND_SHELL, "1").secret
        for secret in ("x", "A" * 43, shell, good + "x"):
            with pytest.raises(InvalidStatus) as refused:
                await socket(web, secret)
            assert refused.value.response.status_code == 401
            assert json.loads(refused.value.response.body or b"")["statusCode"] == 401
        web.sessions.end("1")
        with pytest.raises(InvalidStatus):
            await socket(web, good)
        assert desktop.connections == 0
    assert [line["why"] for line in web.log if line["event"] == "vnc.refused"] == ["session_unknown"] * 5
    assert good not in str(web.log)


async def test_a_port_where_no_desktop_is(web: Site) -> None:
    """Nothing listens; something else speaks: 502 in words."""
    async with rfb_server(b"220 ftp\r\n") as other:
        secret = opened(web, other)
        with pytest.raises(InvalidStatus) as refused:
            await socket(web, secret)
        assert refused.value.response.status_code == 502
        assert "does not answer yet" in json.loads(refused.value.response.body or b"")["why"]
    web.sessions.run("2", vnc=("127.0.0.1", other.port))
    with pytest.raises(InvalidStatus) as refused:
        await socket(web, web.sessions.open(VNC, "2").secret)
    assert refused.value.response.status_code == 502


async def test_a_desktop_cannot_send_the_gateway_elsewhere(web: Site) -> None:
    """Its program redirects the handshake to a port that only the gateway reaches, another job's: nobody connects there."""
    async with asyncio.timeout(60), websockify() as other, redirecting(other.port) as port:
        web.sessions.run("1", vnc=("127.0.0.1", port))
        with pytest.raises(InvalidStatus) as refused:
            await socket(web, web.sessions.open(VNC, "1").secret)
        assert refused.value.response.status_code == 502
        assert other.paths == []


async def exactly(client: ClientConnection, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        message = await client.recv()
        assert isinstance(message, bytes)
        found += message
    return bytes(found)
