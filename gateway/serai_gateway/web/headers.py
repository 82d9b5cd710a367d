"""Which headers pass between a client and an application, and which end here.

Away go: what concerns one connection only (RFC 9110 §7.6.1, also by way of `Connection: name`), what says who asked and where (we say it
ourselves), and names with underscores, which many servers take for the same with hyphens.
"""

from __future__ import annotations

from collections.abc import Iterable

from serai_gateway.http import Headers
from serai_gateway.web.cookies import sets_ours

Pairs = list[tuple[bytes, bytes]]

_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer transfer-encoding upgrade".split()
)
_REPLACED = frozenset(b"host cookie expect forwarded x-real-ip x-original-url x-rewrite-url".split())
_PREFIXES = (b"x-serai-", b"x-envoy-", b"x-forwarded-")
_KEPT_ANYWAY = frozenset(b"content-length authorization origin".split())


def to_application(
    headers: Headers, *, host: str, cookie: bytes | None, client: str, scheme: str, prefix: str, upgrade: bool = False
) -> Pairs:
    """A request's headers as the application gets them. `client`: its IP address, "" = not known; `prefix`: what was cut off the path;
    `upgrade`: this is a WebSocket's handshake, which keeps Upgrade."""
    dropped = named_by_connection(headers)
    kept: Pairs = [(b"host", host.encode())]
    for name, value in headers:
        if name in _HOP or name in _REPLACED or name in dropped or b"_" in name or name.startswith(_PREFIXES):
            continue
        kept.append((name, value))
    if upgrade:
        kept += [(b"connection", b"Upgrade"), (b"upgrade", b"websocket")]
    if cookie is not None:
        kept.append((b"cookie", cookie))
    if client:
        kept.append((b"x-forwarded-for", client.encode()))
    kept += [(b"x-forwarded-proto", scheme.encode()), (b"x-forwarded-host", host.encode())]
    if prefix:
        kept.append((b"x-forwarded-prefix", prefix.encode()))
    return kept


def to_client(headers: Iterable[tuple[bytes, bytes]], *, shared_origin: bool, body: bool = True) -> Pairs:
    """An application's answer's headers as the client gets them. `shared_origin`: other pages are on the same origin, so nothing may reach
    beyond its path; `body` False = an answer that has none, whatever its length says."""
    lower = [(name.lower(), value) for name, value in headers]
    dropped = named_by_connection(lower)
    kept: Pairs = []
    for name, value in lower:
        if name in _HOP or name in dropped or name.startswith((b"x-serai-", b"x-envoy-")):
            continue
        if name == b"set-cookie" and sets_ours(value):
            continue
        if shared_origin and name in (b"service-worker-allowed", b"clear-site-data"):
            continue
        if name == b"content-length" and not body:
            continue
        kept.append((name, value))
    return kept


def named_by_connection(headers: Headers) -> frozenset[bytes]:
    """Further names that concern this connection only. Not those without which a request would mean something else."""
    named: set[bytes] = set()
    for name, value in headers:
        if name == b"connection":
            named.update(part.strip().lower() for part in value.split(b","))
    return frozenset(named) - _KEPT_ANYWAY
