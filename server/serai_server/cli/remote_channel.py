"""A server somewhere else, for the command line: its tools' door, by address, with a token or a certificate."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from serai_server.cli.exits import CliError, Exit
from serai_server.cli.remote import Remote

_ADDRESS = re.compile(r"(?:(https?)://)?(\[[0-9a-fA-F:.]+\]|[^\s/:\[\]]+)(?::([0-9]{1,5}))?/?").fullmatch


def open_remote(remote: Remote, options: list[tuple[str, object]]) -> grpc.Channel:
    """A channel to the server's tools' door. Raises CliError for what is not right."""
    channel = _plain_or_tls(remote, options)
    return channel if remote.token_file is None else grpc.intercept_channel(channel, _Bearer(_token(remote.token_file)))


def _plain_or_tls(remote: Remote, options: list[tuple[str, object]]) -> grpc.Channel:
    if remote.address.startswith("unix:"):
        path = Path(remote.address.removeprefix("unix:")).absolute()
        return grpc.insecure_channel(f"unix:{path}", options=options)
    found = _ADDRESS(remote.address)
    if found is None or (found[1] is None and found[3] is None):
        raise CliError(f"--server {remote.address!r} is neither unix:PATH nor an address like provider.example.org:443", Exit.USAGE)
    scheme, host, port = found[1] or "https", found[2], found[3]
    target = f"{host}:{port or (80 if scheme == 'http' else 443)}"
    if scheme == "https":
        return grpc.secure_channel(target, _credentials(remote), options=options)
    if remote.token_file is not None and not _is_loopback(host):
        raise CliError(f"a token is not sent to {host} without TLS, where everybody on the way could read it; use https://", Exit.USAGE)
    return grpc.insecure_channel(target, options=options)


def _credentials(remote: Remote) -> grpc.ChannelCredentials:
    if (remote.cert is None) != (remote.key is None):
        raise CliError("--cert and --key: one does nothing without the other", Exit.USAGE)
    return grpc.ssl_channel_credentials(_read(remote.ca), _read(remote.key), _read(remote.cert))


class _Details(NamedTuple):
    """What grpc takes for a ClientCallDetails."""

    method: str
    timeout: float | None
    metadata: Sequence[tuple[str, str | bytes]] | None
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


class _Bearer(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor, grpc.StreamStreamClientInterceptor):
    """Sends the token with each call."""

    def __init__(self, token: str) -> None:
        self._pair = ("authorization", f"Bearer {token}")

    # What these are given and give back is grpc's own business.
    def intercept_unary_unary(self, continuation: Any, client_call_details: grpc.ClientCallDetails, request: Any) -> Any:
        return continuation(self._with(client_call_details), request)

    def intercept_unary_stream(self, continuation: Any, client_call_details: grpc.ClientCallDetails, request: Any) -> Any:
        return continuation(self._with(client_call_details), request)

    def intercept_stream_stream(self, continuation: Any, client_call_details: grpc.ClientCallDetails, request_iterator: Any) -> Any:
        return continuation(self._with(client_call_details), request_iterator)

    def _with(self, call: grpc.ClientCallDetails) -> _Details:
        metadata = (*(call.metadata or ()), self._pair)
        return _Details(call.method, call.timeout, metadata, call.credentials, call.wait_for_ready, call.compression)


def _token(file: Path) -> str:
    """Raises CliError, which has nothing of what is in the file."""
    text = (_read(file) or b"").decode(errors="replace").strip()
    if not text or not text.isascii() or len(text.split()) != 1:
        raise CliError(f"{file} does not hold a token and nothing else", Exit.USAGE)
    return text


def _read(file: Path | None) -> bytes | None:
    """Raises CliError."""
    if file is None:
        return None
    try:
        return file.read_bytes()
    except OSError as error:
        raise CliError(f"{file} cannot be read: {error.strerror}", Exit.USAGE) from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
