"""A gateway with applications behind it, reached by its own proxy or through Envoy, and a client that says exactly what a test wants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
from serai.sessions.v1 import sessions_service_pb2 as pb2
from serai_gateway.gateway import Gateway
from serai_gateway.settings import CoreSettings, GatewaySettings, ProviderSettings, Settings
from serai_gateway.web_settings import WebSettings
from structlog.typing import EventDict

from fakes.gateway_sessions import FakeSessions, Held
from fakes.gateway_tokens import key, pem
from fakes.notebook import Notebook

WEB = pb2.SESSION_KIND_WEB
DOMAIN = "apps.test"
COOKIE = "serai-session"
TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Answer:
    """`status` 0 = the connection ended without an answer."""

    status: int
    headers: list[tuple[str, str]]
    """Names in lower case."""
    body: bytes

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key == name), "")

    @property
    def echo(self) -> dict[str, Any]:
        """What the application got."""
        return json.loads(self.body)

    def got(self, name: str) -> list[str]:
        """Values of a header as the application got it."""
        return [value for key, value in self.echo["headers"] if key.lower() == name]


@dataclass
class Site:
    """Jobs 1 (ranks 0 and 1) and 2, each rank with an application of its own."""

    port: int
    """Where browsers connect."""
    gateway: Gateway
    sessions: FakeSessions
    notebooks: dict[tuple[str, int], Notebook]
    log: list[EventDict] = field(default_factory=list[EventDict])
    prefix: str = ""
    """Before a page's path; by path only."""

    def host(self, job: str = "1", rank: int = 0) -> str:
        return f"app-{job}-{rank}.{DOMAIN}:{self.port}"

    def app(self, job: str = "1", rank: int = 0) -> Notebook:
        return self.notebooks[job, rank]

    @property
    def seen(self) -> int:
        """Requests that reached any application."""
        return sum(len(notebook.requests) for notebook in self.notebooks.values())

    def causes(self) -> list[str]:
        """Of refusals, from the gateway's log."""
        return [str(line["why"]) for line in self.log if line["event"] == "web.refused"]

    def open(self, job: str = "1", rank: int = 0) -> Held:
        return self.sessions.open(WEB, job, rank)

    async def enter(self, job: str = "1", rank: int = 0) -> str:
        """As a browser does that UCloud sent here; the cookie's secret."""
        answer = await self.get(f"/.serai/open/{self.open(job, rank).secret}", job=job, rank=rank)
        assert answer.status == 302, answer
        return answer.header("set-cookie").partition(";")[0].partition("=")[2]

    async def get(
        self,
        target: str = "/x",
        *,
        job: str = "1",
        rank: int = 0,
        cookie: str = "",
        headers: Mapping[str, str] | None = None,
        **more: str,
    ) -> Answer:
        """A GET with a session's cookie; names of headers with `_` for `-`."""
        given = {name.replace("_", "-"): value for name, value in {**(headers or {}), **more}.items()}
        host = given.pop("Host", self.host(job, rank))
        if cookie:
            given["Cookie"] = f"{COOKIE}={cookie}"
        lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        return await self.say(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n".encode("latin-1"))

    async def say(self, content: bytes) -> Answer:
        """These bytes on a connection of their own; the first answer."""
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 22)
            try:
                writer.write(content)
                return await read_answer(reader, head=content.startswith(b"HEAD "))
            finally:
                writer.close()


async def read_answer(reader: asyncio.StreamReader, *, head: bool = False) -> Answer:
    """The next answer of a connection, its body whole."""
    try:
        first, *lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].decode("latin-1").split("\r\n")
    except (asyncio.IncompleteReadError, OSError):
        return Answer(0, [], b"")
    status = int(first.split(" ")[1])
    if status == 100:
        return await read_answer(reader, head=head)
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    found = dict(headers)
    if head or status in (101, 204, 304):
        return Answer(status, headers, b"")
    if found.get("transfer-encoding") == "chunked":
        return Answer(status, headers, await read_chunks(reader))
    if "content-length" in found:
        return Answer(status, headers, await reader.readexactly(int(found["content-length"])))
    return Answer(status, headers, await reader.read())


async def read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while size := int((await reader.readline()).strip(), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readline()
    return bytes(body)


@asynccontextmanager
async def site(folder: Path, settings: GatewaySettings, port: int | None = None) -> AsyncGenerator[Site]:
    """`port`: Envoy's, None = the gateway's own."""
    (folder / "core.pem").write_bytes(pem(key()))
    (folder / "refresh").write_text("x")
    core = CoreSettings(url="http://127.0.0.1:9", public_key_file="core.pem", refresh_token_file="refresh", reconcile_every_ms=0)
    whole = Settings(provider=ProviderSettings(id="example"), core=core.relative_to(folder), gateway=settings)
    sessions = FakeSessions()
    async with AsyncExitStack() as stack:
        log = stack.enter_context(structlog.testing.capture_logs())
        notebooks: dict[tuple[str, int], Notebook] = {}
        for place in (("1", 0), ("1", 1), ("2", 0)):
            notebook = notebooks[place] = await Notebook(f"{place[0]}-{place[1]}").start()
            stack.push_async_callback(notebook.stop)
            sessions.run(*place, web=("127.0.0.1", notebook.port))
        gateway = await stack.enter_async_context(Gateway(whole, sessions))
        yield Site(port or gateway.port, gateway, sessions, notebooks, log)


def plain_settings(folder: Path, web: WebSettings | None = None) -> GatewaySettings:
    """A gateway alone."""
    found = web or WebSettings(mode="host", domain=DOMAIN)
    return GatewaySettings(port=0, access_log=False, stop_grace_ms=0, web=found).relative_to(folder, folder)
