"""Where the server is, and how to talk to it: what both clients have in common."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict
from urllib.parse import urlsplit

import grpc

RECEIVE_LIMIT_BYTES = 64 * 1024 * 1024
"""What the server sends at most."""
SEND_LIMIT_BYTES = 16 * 1024 * 1024
"""What the server takes from tools at most."""

CHANNEL = (
    ("grpc.max_receive_message_length", RECEIVE_LIMIT_BYTES),
    ("grpc.max_send_message_length", SEND_LIMIT_BYTES),
    # A server that is started anew is found again soon by who follows a job.
    ("grpc.initial_reconnect_backoff_ms", 200),
    # How long a connection may take to be made, whatever its name says.
    ("grpc.min_reconnect_backoff_ms", 10_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # A connection that is dead without a word is noticed. Servers refuse to be asked more than every five minutes.
    ("grpc.keepalive_time_ms", 360_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # Also of a quiet stream, whose client sends nothing.
    ("grpc.http2.max_pings_without_data", 0),
)


class Options(TypedDict, total=False):
    """What may be said of a connection."""

    token: str
    """What `serai tokens create` printed; missing or empty = none, for the server's own Unix socket."""
    ca_file: str | Path
    """PEM file of the authorities that may sign the server's certificate; missing = the system's."""
    certificate_file: str | Path
    """PEM file of this client's own certificate, where the server knows it by that; missing = none."""
    key_file: str | Path
    """PEM file of that certificate's key."""
    call_timeout_s: float
    """Seconds after which a call with one answer ends that has no time-out of its own; missing = 30."""
    patience_s: float
    """Seconds that watch and follow wait for a server that is away, from the moment that they notice; missing = 60."""


@dataclass(frozen=True, slots=True)
class Place:
    """A server, as grpc wants it."""

    target: str
    credentials: grpc.ChannelCredentials | None
    """None = no TLS."""


def place_of(address: str, options: Options) -> Place:
    """Raises ValueError for an address or options that cannot be meant, OSError for a file that cannot be read."""
    if address.startswith("unix:"):
        target, tls, local = address, False, True
    else:
        target, tls, local = _parsed(address)
    if options.get("token") and not (tls or local):
        raise ValueError("a token is not sent without TLS to another machine; use an https:// address")
    if tls:
        return Place(target, _credentials(options))
    if "ca_file" in options or "certificate_file" in options:
        raise ValueError("certificates are for https:// addresses only")
    return Place(target, None)


def _parsed(address: str) -> tuple[str, bool, bool]:
    """Target, whether with TLS, whether on this machine."""
    bad = f"{address!r} is no address of a server: expected https://host[:port], http://host[:port] or unix:/path"
    try:
        url = urlsplit(address)
        port = url.port
    except ValueError as error:
        raise ValueError(bad) from error
    if url.scheme not in ("http", "https") or not url.hostname or url.path.strip("/") or url.query:
        raise ValueError(bad)
    tls = url.scheme == "https"
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    return f"dns:///{host}:{port or (443 if tls else 80)}", tls, _is_loopback(url.hostname)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _credentials(options: Options) -> grpc.ChannelCredentials:
    # grpc brings authorities of its own, which know nothing of those that the machine's administrator added.
    ca_file = options.get("ca_file") or ssl.get_default_verify_paths().cafile
    roots = Path(ca_file).read_bytes() if ca_file else None
    if "certificate_file" not in options:
        return grpc.ssl_channel_credentials(roots)
    if "key_file" not in options:
        raise ValueError("certificate_file needs its key_file")
    return grpc.ssl_channel_credentials(roots, Path(options["key_file"]).read_bytes(), Path(options["certificate_file"]).read_bytes())
