"""Clients that leave in the middle, by the gateway's own way: nothing goes on for nobody."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fakes.web_site import COOKIE, Site, plain_settings, site


async def test_who_leaves_while_their_session_is_looked_at_leaves_nothing_behind(tmp_path: Path) -> None:
    """An answer without an end is not even asked for: nobody would say a second time that its client has left."""
    async with site(tmp_path, plain_settings(tmp_path)) as web:
        await _leave(web)


async def _leave(web: Site) -> None:
    cookie = await web.enter()
    slow = web.sessions.slow = asyncio.Event()
    asked = len(web.sessions.calls)
    async with asyncio.timeout(20):
        _, writer = await asyncio.open_connection("127.0.0.1", web.port)
        writer.write(f"GET /events HTTP/1.1\r\nHost: {web.host()}\r\nCookie: {COOKIE}={cookie}\r\n\r\n".encode())
        while len(web.sessions.calls) == asked:
            await asyncio.sleep(0.01)
        writer.transport.abort()
        assert (await web.get("/x", Host="elsewhere.test")).status == 404  # by then the gateway has heard of it
        slow.set()
        for _ in range(3):
            assert (await web.get("/x", cookie=cookie)).status == 200
    assert [request.target for request in web.app().requests] == ["/x"] * 3
