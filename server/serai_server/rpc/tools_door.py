"""The tools' door, where nobody is trusted by the place they come from: each call shows a token, or comes with a known certificate.

It is a second listener of the same process, with the same methods and the same chain; only the step that says who calls is another
one. What the gateway says by its marks counts for nothing here and is dropped before the chain sees it. So is a caller's traceparent: a
span begins before it is known who calls, and no stranger decides which traces are kept.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import structlog
from google.rpc import status_pb2
from serai_telemetry.spans import TRACEPARENT

from serai_server.clock import Clock
from serai_server.errors import TooManyStreams, Unauthenticated
from serai_server.rpc.body import Bodies
from serai_server.rpc.call import Call, Caller
from serai_server.rpc.dispatch import Dispatcher
from serai_server.rpc.marks import PREFIX, REQUEST_ID
from serai_server.rpc.socket_place import SocketInUse, listen, socket_place
from serai_server.rpc.status import status_of
from serai_server.rpc.tls import Credentials, Files
from serai_server.rpc.wire import Context, Visit, Wire, pairs
from serai_server.tokens.certificates import Certificates
from serai_server.tokens.holder import Holder
from serai_server.tokens.registry import Registry

log = structlog.get_logger("serai.tools")

MESSAGE_LIMIT_BYTES = 16 * 1024 * 1024
"""Largest request: less than on the server's own socket, where only the operator and the gateway are."""
METADATA_LIMIT_BYTES = 16 * 1024
"""Of one call."""
MOST_STREAMS = 200
"""Streams of answers that one token, or one certificate, may have open at a time."""
STREAMS_OF_A_CONNECTION = 256
"""Calls under way on one connection; more wait at the client. Above MOST_STREAMS, so who has too many is told and does not wait."""
IDLE_MS = 60_000
"""ms after which a connection without calls is closed, whether it ever had one or not; clients connect anew by themselves."""
HANDSHAKE_MS = 5_000
"""ms in which TLS and HTTP/2 must be agreed on; who takes longer is put out, and nobody waits for them."""

MOST_CONNECTIONS = 1_000
"""When the place does not say."""
_SHARE = 4
"""One part in so many of the descriptors that this process may have goes at most to each listener: they are also those of the server, the
gateway and the pages of jobs."""

_AUTHORIZATION = "authorization"
_MISSING = "a token is needed here: authorization: Bearer serai_… (`serai tokens create` makes one)"
_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_send_message_length", 64 * 1024 * 1024),
    ("grpc.max_metadata_size", METADATA_LIMIT_BYTES),
    ("grpc.absolute_max_metadata_size", METADATA_LIMIT_BYTES),
    ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS),
    ("grpc.max_concurrent_streams", STREAMS_OF_A_CONNECTION),
    ("grpc.max_connection_idle_ms", IDLE_MS),
    # Or two servers would share a port without a word, each with tokens that the other one does not know.
    ("grpc.so_reuseport", 0),
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the door is."""

    socket: Path
    socket_mode: int = 0o600
    socket_group: str = ""
    """Empty = the process's own."""
    listen: str = ""
    """"host:port", port 0 = any free one; empty = none."""
    tls: Files | None = None
    """None = `listen` is plain, which the settings allow on loopback only."""
    most_connections: int = MOST_CONNECTIONS
    """At a time, of the socket and of `listen` each; further ones are closed at once, before TLS."""


class Keyring:
    """Everything by which a caller can be known."""

    def __init__(self, tokens: Registry, certificates: Certificates, clock: Clock) -> None:
        self._tokens = tokens
        self._certificates = certificates
        self._clock = clock

    def holder(self, authorization: list[str], names: list[str]) -> Holder:
        """A token that is shown decides, also when it is wrong; without one the certificate does. Raises Unauthenticated."""
        if authorization:
            return self._tokens.holder(_bearer(authorization), self._clock.now_ms())
        if (known := self._certificates.holder(names)) is not None:
            return known
        raise Unauthenticated(
            _MISSING if not names else f"the certificate's name is not one of server.clients, and there is no token; {_MISSING}"
        )

    def visit(self, context: Context) -> Visit:
        """See wire.Door."""
        return ToolsVisit(self, context)


class ToolsVisit:
    def __init__(self, keyring: Keyring, context: Context) -> None:
        self._keyring = keyring
        self._context = context
        self._holder: Holder | None = None
        self._task: asyncio.Task[object] | None = None
        came = pairs(context)
        self._authorization = [value for key, value in came if key == _AUTHORIZATION]
        self.metadata = {key: value for key, value in came if key != _AUTHORIZATION and _may_pass(key)}

    def identify(self, call: Call, metadata: Mapping[str, str]) -> None:
        call.peer = self._context.peer()
        holder = self._keyring.holder(self._authorization, _names(self._context))
        call.caller, call.tool, call.tool_role, call.only_project = Caller.TOOL, holder.who, holder.role, holder.project
        self._holder = holder
        if self._task is not None:
            if len(holder.streams) >= MOST_STREAMS:
                raise TooManyStreams(f"{MOST_STREAMS} streams of this identity are open, and more there may not be: close one")
            holder.streams.add(self._task)

    def streams(self, task: asyncio.Task[object]) -> None:
        self._task = task

    def over(self) -> status_pb2.Status | None:
        if self._holder is None or not self._holder.over:
            return None
        return status_of(Unauthenticated(self._holder.over))

    def leave(self) -> None:
        if self._holder is not None and self._task is not None:
            self._holder.streams.discard(self._task)


def _bearer(authorization: list[str]) -> str:
    """Raises Unauthenticated."""
    kind, _, token = authorization[0].partition(" ")
    if len(authorization) > 1 or kind.lower() != "bearer":
        raise Unauthenticated(f"expected one authorization with one token; {_MISSING}")
    return token.strip()


def _may_pass(key: str) -> bool:
    return key == REQUEST_ID or not (key == TRACEPARENT or key.startswith(PREFIX))


def _names(context: Context) -> list[str]:
    """Names of the client's certificate, which a CA of ours has signed: those of DNS and URI, or where there is no alternative name
    of any kind the common one. Others, as of e-mail, are often free to choose for whoever asks for the certificate."""
    found = context.auth_context()
    kinds = ("peer_dns", "peer_uri") if found.get("x509_subject_alternative_name") else ("x509_common_name",)
    names = [name for kind in kinds for name in found.get(kind) or ()]
    return [name.decode(errors="replace") for name in names]


@dataclass(frozen=True, slots=True)
class Opened:
    """The door, while it stands open."""

    address: str
    """That is listened on; "" = only at the socket."""
    end_streams: Callable[[], None]
    """For good: all streams, those that are still to come too, are told that the server is being stopped. Other calls go on."""


@asynccontextmanager
async def tools_door(
    dispatcher: Dispatcher, keyring: Keyring, place: Place, stop_grace_s: float = 5.0, bodies: Bodies | None = None
) -> AsyncGenerator[Opened]:
    """The door stands open until the block ends. `bodies`: how requests are read; None = with the limits of body.py.

    Stops as server.grpc_server does. Raises SocketInUse, CertificateError, and OSError for a folder that cannot be written.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(socket_place(place.socket, "server.tools.socket", place.socket_group))
        wire = Wire(dispatcher, keyring.visit, bodies or Bodies())
        server = grpc.aio.server(options=(*_OPTIONS, ("grpc.max_allowed_incoming_connections", most_connections(place))))
        server.add_generic_rpc_handlers((wire.handlers(),))
        listen(server, place.socket, place.socket_mode, place.socket_group)
        address = _listen(server, place) if place.listen else ""
        await server.start()
        try:
            yield Opened(address, wire.end_streams)
        finally:
            wire.end_streams()
            await server.stop(stop_grace_s)


def most_connections(place: Place) -> int:
    """That each listener takes."""
    return max(1, min(place.most_connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _SHARE))


def _listen(server: grpc.aio.Server, place: Place) -> str:
    """The address, with the port that it got."""
    try:
        if place.tls is None:
            port = server.add_insecure_port(place.listen)
        else:
            port = server.add_secure_port(place.listen, Credentials(place.tls).grpc)
    except RuntimeError as error:
        raise SocketInUse(f"nobody can listen on {place.listen}; is another program there? Set another server.tools.listen") from error
    return f"{place.listen.rpartition(':')[0]}:{port}"
