"""[server.tools] and [[server.clients]]: where tools come in, and whose certificates are known."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from serai_server.socket_path import too_long

ToolRole = Literal["viewer", "operator", "admin"]


class ToolsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[server.tools]: the tools' door. Every call there shows a token or comes with a known certificate."""

    socket: str = ""
    """Unix socket for Envoy and for tools on this machine; empty = `tools.sock` in state_dir."""
    socket_mode: Annotated[str, Meta(pattern="^0[0-7]{3}$", description="three octal digits behind a 0, like 0660")] = "0600"
    """Who may connect to it, in octal digits; 0660 with socket_group lets a group in."""
    socket_group: str = ""
    """Group of the socket, as a name or a number; empty = the server's own. A missing folder is made so that the group may enter it."""
    listen: Annotated[
        str, Meta(pattern="^(|[^\\s/:]+:[0-9]{1,5}|\\[[0-9a-fA-F:]+\\]:[0-9]{1,5})$", description="host:port, or nothing")
    ] = ""
    """"host:port" for tools from elsewhere, port 0 = any free one; empty = none. Without a certificate only on loopback."""
    certificate: str = ""
    """PEM file: the server's certificate, then those that lead to its CA. Read again when it changes."""
    key: str = ""
    """PEM file: the certificate's private key, without a password."""
    client_ca: str = ""
    """PEM file: CA of the clients' certificates; then nobody can connect to `listen` without one. empty = clients have none."""

    max_connections: Annotated[int, Meta(ge=1, le=1_000_000)] = 1_000
    """Connections at a time, of `listen` and of the socket each, but never more than a quarter of the descriptors that the process may
    have; further ones are closed at once."""

    def relative_to(self, folder: Path, state_dir: Path) -> ToolsSettings:
        files = {name: str(folder / path) if (path := str(getattr(self, name))) else "" for name in ("certificate", "key", "client_ca")}
        return msgspec.structs.replace(self, socket=str(folder / self.socket if self.socket else state_dir / "tools.sock"), **files)

    def contradictions(self) -> list[str]:
        """What no single value shows to be wrong, a line for each."""
        problems = too_long({"server.tools.socket": self.socket})
        if (self.certificate == "") != (self.key == ""):
            problems.append("server.tools.certificate and server.tools.key: one does nothing without the other")
        if self.client_ca and not self.certificate:
            problems.append("server.tools.client_ca: clients' certificates need TLS, and server.tools.certificate is not set")
        if self.listen and not self.certificate and not _is_loopback(self.listen):
            what = "set server.tools.certificate and server.tools.key"
            problems.append(f"server.tools.listen: without TLS only an address of loopback, like 127.0.0.1:8890; {what}")
        if self.listen and int(self.listen.rpartition(":")[2]) > 65_535:
            problems.append("server.tools.listen: expected a port up to 65535")
        return problems


class ClientSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[[server.clients]]: a client certificate that is an identity at the tools' door."""

    name: Annotated[str, Meta(min_length=1, max_length=250)]
    """An alternative name of the certificate (DNS or URI), or its common name when it has none."""
    role: ToolRole
    """What its holder may do."""
    project: Annotated[str, Meta(max_length=250)] = ""
    """The one project whose jobs its holder may see and touch; empty = not limited."""


def client_contradictions(clients: tuple[ClientSettings, ...]) -> list[str]:
    problems: list[str] = []
    names = [client.name for client in clients]
    for index, client in enumerate(clients):
        at = f"server.clients[{index}]"
        if client.name in names[:index]:
            problems.append(f"{at}.name: {client.name} is there twice")
        if client.project and client.role == "admin":
            problems.append(f"{at}.project: an administrator is not limited to a project; use the role operator")
    return problems


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
