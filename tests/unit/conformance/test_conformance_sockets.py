"""The kit's WebSocket: it speaks to the provider under test and to nobody else."""

from __future__ import annotations

import asyncio

import pytest
from serai_conformance.sockets import Refused, wire


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    """The provider's answer to the handshake is the redirect; whoever it names is not called, with or without a token."""
    called: list[str] = []

    async def elsewhere(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.append("called")
        writer.close()

    async with await asyncio.start_server(elsewhere, "127.0.0.1", 0) as other:
        target = f"http://127.0.0.1:{other.sockets[0].getsockname()[1]}/"

        async def provider(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 {status} Elsewhere\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(provider, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ucloud/jobs.provider.example/websocket"
            with pytest.raises(Refused) as told:
                async with wire(url, {"Authorization": "Bearer secret"}, todays=True, timeout_s=5):
                    pass
    assert (told.value.status, called) == (status, [])
