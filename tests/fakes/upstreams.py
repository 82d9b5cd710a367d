"""What stands behind Envoy, in place of gateway and server: answers what a test wants, and remembers what reached it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import grpc
import grpc.aio
from aiohttp import web
from serai_gateway.settings import GatewaySettings

OK = b'{"from":"gateway"}'


@dataclass(frozen=True)
class Seen:
    """A request as the gateway got it; `size` of the body that came."""

    method: str
    path: str
    headers: dict[str, str]
    """Names in lower case."""
    size: int = 0


async def _ok(_: web.Request) -> web.StreamResponse:
    return web.Response(body=OK, content_type="application/json")


@dataclass
class Upstreams:
    """`answer` is the gateway. The tools' door echoes: one message back for each, and for a call of one message as many as `many` says."""

    answer: Callable[[web.Request], Awaitable[web.StreamResponse]] = _ok
    seen: list[Seen] = field(default_factory=list[Seen])
    """By the gateway."""
    called: list[tuple[str, dict[str, str]]] = field(default_factory=list[tuple[str, dict[str, str]]])
    """Methods and metadata that reached the tools' door."""
    messages: list[bytes] = field(default_factory=list[bytes])
    """Of calls at the tools' door, in the order in which they came."""
    abort: tuple[grpc.StatusCode, str] | None = None
    many: int = 1
    before: Callable[[], Awaitable[object]] | None = None
    """What a call waits for before its first message."""
    after: Callable[[], Awaitable[object]] | None = None
    """What a stream waits for after each of its messages."""
    reply: bytes | None = None
    """Of the tools' door, in place of the echo."""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.seen.append(Seen(request.method, request.raw_path, headers, len(body)))
        return await self.answer(request)


class _Door(grpc.GenericRpcHandler):
    """Takes every method as one of streams, which on the wire all are."""

    def __init__(self, upstreams: Upstreams) -> None:
        self._upstreams = upstreams

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        async def handle(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]) -> AsyncGenerator[bytes]:
            given = cast("tuple[tuple[str, str], ...]", context.invocation_metadata() or ())
            upstreams = self._upstreams
            upstreams.called.append((handler_call_details.method, dict(given)))
            async for request in requests:
                upstreams.messages.append(request)
                if upstreams.abort is not None:
                    await context.abort(*upstreams.abort)
                if upstreams.before is not None:
                    await upstreams.before()
                for _ in range(upstreams.many):
                    yield request if upstreams.reply is None else upstreams.reply
                    if upstreams.after is not None:
                        await upstreams.after()

        return grpc.stream_stream_rpc_method_handler(handle)  # pyright: ignore[reportArgumentType] - grpc's types know no coroutines


@asynccontextmanager
async def upstreams(gateway: GatewaySettings, tools_socket: Path) -> AsyncGenerator[Upstreams]:
    """Both, at the places where an Envoy with these settings looks for them, for the time of the block."""
    found = Upstreams()
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", found.serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, max_field_size=1 << 17, max_line_size=1 << 17)
    await runner.setup()
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((_Door(found),))
    server.add_insecure_port(f"unix:{tools_socket}")
    try:
        if gateway.socket:
            await web.UnixSite(runner, gateway.socket).start()
        else:
            await web.TCPSite(runner, "127.0.0.1", gateway.port, reuse_address=True).start()
        await server.start()
        yield found
    finally:
        await server.stop(0)
        await runner.cleanup()
        await asyncio.to_thread(tools_socket.unlink, missing_ok=True)
