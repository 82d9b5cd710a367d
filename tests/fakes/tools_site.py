"""The tools' door over in-memory use cases, with the real tokens in a real store; beside it the server's own socket."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import grpc.aio
from serai_server.clock import Clock, SystemClock
from serai_server.rpc.body import Bodies
from serai_server.rpc.server import grpc_server
from serai_server.rpc.services import dispatcher
from serai_server.rpc.tools_door import Keyring, Place, tools_door
from serai_server.store.open import open_store
from serai_server.store.token_model import Role
from serai_server.tokens.certificates import Client
from serai_server.tokens.registry import Registry
from serai_server.tokens.running import Tokens, running_tokens
from serai_telemetry.spans import Traces
from structlog.typing import FilteringBoundLogger

from fakes.front import Front, silent

CALL_S = 20.0


@dataclass
class ToolsSite:
    front: Front
    tokens: Tokens
    socket: Path
    """The tools' door."""
    own: Path
    """The server's own socket."""
    address: str
    """Of the port; empty = none."""

    async def token(self, role: Role = Role.VIEWER, project: str = "", lifetime_ms: int | None = None) -> str:
        """A new token's text."""
        return (await self.tokens.service.create("", role, project, lifetime_ms, ""))[1]

    def channel(self) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(f"unix:{self.socket}")


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


@asynccontextmanager
async def tools_site(
    folder: Path,
    *,
    place: Place | None = None,
    clients: Sequence[Client] = (),
    clock: Clock | None = None,
    front: Front | None = None,
    log: FilteringBoundLogger | None = None,
    traces: Traces | None = None,
    bodies: Bodies | None = None,
) -> AsyncGenerator[ToolsSite]:
    """`place`: its socket is replaced by one in `folder`. `traces` None = no spans."""
    clock, front, registry = clock or SystemClock(), front or Front(), Registry()
    at = replace(place or Place(folder / "tools.sock"), socket=folder / "tools.sock")
    async with (
        open_store(f"sqlite:///{folder / 'tokens.db'}", registry.committed) as store,
        running_tokens(registry=registry, store=store, clients=clients, clock=clock) as tokens,
    ):
        served = dispatcher(
            jobs=front.jobs,
            changes=front.jobs,
            events=front.events,
            health=front.health,
            tokens=tokens.service,
            clock=clock,
            log=log or silent(),
            traces=traces,
        )
        async with (
            grpc_server(served, folder / "own.sock", 1.0),
            tools_door(served, Keyring(registry, tokens.certificates, clock), at, 1.0, bodies) as door,
        ):
            yield ToolsSite(front, tokens, at.socket, folder / "own.sock", door.address)
