"""The few words of rtnetlink that connecting two jobs takes, by hand: no ip(8), no library."""

from __future__ import annotations

import os
import socket
import struct

_NEWLINK, _NEWROUTE, _ERROR = 16, 24, 2
_REQUEST, _ACK, _REPLACE, _EXCLUSIVE, _CREATE = 0x1, 0x4, 0x100, 0x200, 0x400
_LINK_NAME, _LINK_INFO, _LINK_NAMESPACE = 3, 18, 28
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_ROUTE_TO, _ROUTE_DEVICE, _ROUTE_SOURCE = 1, 4, 7
_NESTED = 0x8000
_UP = 0x1
_MAIN_TABLE, _BOOT_PROTOCOL, _LINK_SCOPE, _UNICAST = 254, 3, 253, 1


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("HH", 4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


def _link(index: int = 0, flags: int = 0) -> bytes:
    return struct.pack("BxHiII", socket.AF_UNSPEC, 0, index, flags, flags)


def _ask(kind: int, flags: int, body: bytes, what: str) -> None:
    """Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as link:
        link.bind((0, 0))
        link.send(struct.pack("IHHII", 16 + len(body), kind, _REQUEST | _ACK | flags, 1, 0) + body)
        answer = link.recv(65536)
    number = struct.unpack_from("i", answer, 16)[0] if struct.unpack_from("H", answer, 4)[0] == _ERROR else -1
    if number:
        raise OSError(-number, f"{what}: {os.strerror(-number)}")


def add_pair(name: str, first_ns: int, second_ns: int) -> None:
    """A cable between two network namespaces (descriptors of them), called `name` at both ends; nothing of it is ever seen elsewhere."""
    end = _attribute(_LINK_NAME, name.encode() + b"\0")
    other = _link() + end + _attribute(_LINK_NAMESPACE, struct.pack("I", second_ns))
    info = _attribute(_INFO_KIND, b"veth\0") + _attribute(_INFO_DATA | _NESTED, _attribute(_VETH_PEER | _NESTED, other))
    body = _link() + end + _attribute(_LINK_NAMESPACE, struct.pack("I", first_ns)) + _attribute(_LINK_INFO | _NESTED, info)
    _ask(_NEWLINK, _CREATE | _EXCLUSIVE, body, "a cable between two jobs")


def set_up(name: str) -> None:
    """In the namespace of the caller."""
    _ask(_NEWLINK, 0, _link(socket.if_nametoindex(name), _UP), name)


def add_route(block: tuple[int, int], name: str, source: int) -> None:
    """`block` (first address, bits) lies behind the cable `name`; packets there come from `source`. In the namespace of the caller."""
    first, bits = block
    body = struct.pack("BBBBBBBBI", socket.AF_INET, bits, 0, 0, _MAIN_TABLE, _BOOT_PROTOCOL, _LINK_SCOPE, _UNICAST, 0)
    body += _attribute(_ROUTE_TO, struct.pack(">I", first))
    body += _attribute(_ROUTE_DEVICE, struct.pack("i", socket.if_nametoindex(name)))
    body += _attribute(_ROUTE_SOURCE, struct.pack(">I", source))
    _ask(_NEWROUTE, _CREATE | _REPLACE, body, f"a route over {name}")
