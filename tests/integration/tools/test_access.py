"""Every method that the server answers has a rule, the rule is in docs/access.md, and every kind of caller gets what stands there."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from fakes.front import Front, silent
from fakes.tools_site import bearer
from google.protobuf import descriptor_pb2, empty_pb2
from google.protobuf.message import Message
from serai_server.clock import SystemClock
from serai_server.rpc.access import NOBODY
from serai_server.rpc.call import Call
from serai_server.rpc.dispatch import Dispatcher
from serai_server.rpc.methods import Method, Request
from serai_server.rpc.server import grpc_server
from serai_server.rpc.services import dispatcher
from serai_server.rpc.tools_door import Keyring, Place, tools_door
from serai_server.store.open import open_store
from serai_server.store.token_model import Role
from serai_server.tokens.registry import Registry
from serai_server.tokens.running import running_tokens

PAGE = Path(__file__).parents[3] / "docs" / "access.md"
DESCRIPTORS = Path(__file__).parents[3] / "proto" / "gen" / "serai" / "descriptors.binpb"
NOT_SERVED = {"serai.control.v1", "serai.integration.v1"}
"""Packages of calls that the gateway makes or answers, and the server does not."""
NONE = "\N{EN DASH}"
"""What stands for nobody."""
ROLES = ("viewer", "operator", "admin")
CALLERS = ("core", "user", "session", "console")


def everything() -> Dispatcher:
    """The server's methods, with every part of it there: who handles them is never called."""
    part = cast("Any", object())
    front = Front()
    return dispatcher(
        jobs=part, changes=part, events=part, health=front.health, clock=SystemClock(), licenses=part, licenses_of_core=part,
        license_servers=part, license_payments=part, sessions=part, shells=part, tokens=part, log=silent(),
    )  # fmt: skip


METHODS: Mapping[str, Method] = everything().methods


@dataclass(frozen=True)
class Row:
    """A line of the page."""

    least: str
    """"anybody", "any token", a role, or NONE."""
    limited: bool
    """Also tokens of one project."""
    callers: frozenset[str]

    def lets(self, kind: str) -> bool:
        if self.least == "anybody" or kind == "socket":
            return True
        if kind in CALLERS:
            return kind in self.callers
        role, _, limit = kind.partition(" ")
        if role not in ROLES or (limit and not self.limited) or self.least == NONE:
            return False
        return self.least == "any token" or ROLES.index(role) >= ROLES.index(self.least)


def rows() -> dict[str, Row]:
    found: dict[str, Row] = {}
    service = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if heading := re.fullmatch(r"\*\*`([a-zA-Z0-9.]+)`\*\*", line):
            service = heading[1]
        elif cells := re.fullmatch(r"\| `(\w+)` \| ([^|]+) \| ([^|]+) \| ([^|]*) \|", line):
            found[f"/{service}/{cells[1]}"] = Row(cells[2], cells[3] == "yes", frozenset(re.findall(r"\w+", cells[4])))
    return found


def declared() -> Iterator[str]:
    """Paths of all methods in the protos of packages that the server answers."""
    files = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file
    for file in files:
        if file.package.startswith("serai.") and file.package not in NOT_SERVED:
            for service in file.service:
                yield from (f"/{file.package}.{service.name}/{method.name}" for method in service.method)


def test_each_method_has_a_rule() -> None:
    """Of each service that is served, health and reflection too; and no service of ours is left out of that."""
    assert set(declared()) <= set(METHODS)
    assert len(METHODS) > len(set(declared()))
    assert [path for path, method in METHODS.items() if method.rule == NOBODY] == []


def test_each_rule_is_on_the_page() -> None:
    """And the page has no method that is not there."""
    page = rows()
    assert set(page) == set(METHODS)
    for path, method in METHODS.items():
        rule, row = method.rule, page[path]
        assert row.callers == {caller.value for caller in rule.callers}, path
        assert row.limited == (rule.of_project or rule.open), path
        if path.startswith("/serai."):
            assert row.least == (rule.role.name.lower() if rule.role else NONE), path


KINDS = ("nobody", "socket", *CALLERS, *ROLES, "viewer limited", "operator limited")


def unread(request: Request) -> object:
    return request


@asynccontextmanager
async def doors(folder: Path, reached: list[str]) -> AsyncGenerator[dict[str, tuple[grpc.aio.Channel, tuple[tuple[str, str], ...]]]]:
    """For each kind of caller, a channel and what it sends. Each call that is let through is noted and answered with nothing."""

    async def once(_request: object, call: Call) -> Message:
        reached.append(call.method)
        return empty_pb2.Empty()

    async def many(_requests: object, call: Call) -> AsyncIterator[Message]:
        reached.append(call.method)
        yield empty_pb2.Empty()

    whole = everything()
    served = Dispatcher(
        whole.chain,
        [replace(m, read=unread, once=once if m.once else None, many=many if m.many else None) for m in whole.methods.values()],
    )
    registry, clock = Registry(), SystemClock()
    async with (
        open_store(f"sqlite:///{folder / 'tokens.db'}", registry.committed) as store,
        running_tokens(registry=registry, store=store, clients=(), clock=clock) as tokens,
        grpc_server(served, folder / "own.sock", 1.0),
        tools_door(served, Keyring(registry, tokens.certificates, clock), Place(folder / "tools.sock"), 1.0),
        grpc.aio.insecure_channel(f"unix:{folder / 'own.sock'}") as own,
        grpc.aio.insecure_channel(f"unix:{folder / 'tools.sock'}") as tools,
    ):
        known = {
            kind: (tools, bearer((await tokens.service.create("", Role[role.upper()], "p" if limit else "", None, ""))[1]))
            for kind in KINDS
            for role, _, limit in [kind.partition(" ")]
            if role in ROLES
        }
        marks = {mark: (own, (("serai-caller", mark), ("serai-user", "alice"))) for mark in CALLERS}
        yield {"nobody": (tools, ()), "socket": (own, ()), **marks, **known}


async def answered(channel: grpc.aio.Channel, method: Method, metadata: tuple[tuple[str, str], ...]) -> str:
    """How one call ended: "OK" or the status."""
    try:
        if method.shape.many_requests:
            call = channel.stream_stream(method.path, bytes, bytes)(iter([b""]), metadata=metadata, timeout=20)
            async for _ in call:
                pass
        elif method.shape.many_answers:
            async for _ in channel.unary_stream(method.path, bytes, bytes)(b"", metadata=metadata, timeout=20):
                pass
        else:
            await channel.unary_unary(method.path, bytes, bytes)(b"", metadata=metadata, timeout=20)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


@pytest.mark.parametrize("kind", KINDS)
async def test_every_method_for_every_kind_of_caller(tmp_path: Path, kind: str) -> None:
    """Over the real sockets: who is let through is exactly who stands on the page; all others are refused before the handler."""
    reached: list[str] = []
    page = rows()
    async with doors(tmp_path, reached) as ways:
        channel, metadata = ways[kind]
        for path, method in METHODS.items():
            reached.clear()
            got = await answered(channel, method, metadata)
            if page[path].lets(kind):
                assert (got, reached) == ("OK", [path])
            else:
                assert (got, reached) == ("UNAUTHENTICATED" if kind == "nobody" else "PERMISSION_DENIED", []), path
