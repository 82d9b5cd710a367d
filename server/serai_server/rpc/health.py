"""grpc.health.v1.Health: SERVING while every part that the server needs is up.

A check whose request did not come is told of the server as a whole (body.py).

Own code and not grpc_health's servicer: that one speaks to a gRPC context, so it could not go through the chain.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import cast

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import code_pb2, status_pb2
from grpc_health.v1 import health_pb2 as pb

from serai_server.rpc.call import Call
from serai_server.rpc.status import RpcFailure

_LIST_RESPONSE = GetMessageClass(cast("Descriptor", pb.DESCRIPTOR.message_types_by_name["HealthListResponse"]))
"""Looked up by name, since the type stubs of grpc_health do not know the call List yet."""


class Health:
    """Parts by name, each up or down; what is not told yet is down."""

    def __init__(self, parts: Iterable[str] = ("store", "reconciler")) -> None:
        self._up = dict.fromkeys(parts, False)
        self._changed = asyncio.Event()

    @property
    def serving(self) -> bool:
        return all(self._up.values())

    @property
    def parts(self) -> Mapping[str, bool]:
        """Each part, and whether it is up."""
        return self._up

    @property
    def down(self) -> tuple[str, ...]:
        """Names of the parts that are down."""
        return tuple(name for name, up in self._up.items() if not up)

    def tell(self, part: str, *, up: bool) -> None:
        """Raises KeyError for a part that was not named at the start."""
        if self._up[part] is not up:
            self._up[part] = up
            # Who waits holds the event that is set here; later waiters get a new one.
            self._changed.set()
            self._changed = asyncio.Event()

    async def changed(self) -> None:
        """Return when a part went up or down after this call."""
        await self._changed.wait()


class HealthServicer:
    def __init__(self, health: Health, services: Iterable[str]) -> None:
        self._health = health
        self._services = frozenset(("", *services))

    async def Check(self, request: pb.HealthCheckRequest, _call: Call) -> pb.HealthCheckResponse:
        if request.service not in self._services:
            # The protocol of grpc.health.v1 asks for NOT_FOUND; it is not an error of our table.
            raise RpcFailure(status_pb2.Status(code=code_pb2.NOT_FOUND, message="no such service"))
        return pb.HealthCheckResponse(status=self._status(request.service))

    async def List(self, _request: object, _call: Call) -> Message:
        statuses = {name: pb.HealthCheckResponse(status=self._status(name)) for name in self._services}
        return _LIST_RESPONSE(statuses=statuses)

    async def Watch(self, request: pb.HealthCheckRequest, _call: Call) -> AsyncIterator[pb.HealthCheckResponse]:
        """The state now and after each change, for ever. States that came and went while the caller was slow are left out."""
        told: pb.HealthCheckResponse.ServingStatus.ValueType | None = None
        while True:
            now = self._status(request.service)
            if now != told:
                yield pb.HealthCheckResponse(status=now)
                told = now
            if self._status(request.service) == told:
                await self._health.changed()

    def _status(self, service: str) -> pb.HealthCheckResponse.ServingStatus.ValueType:
        if service not in self._services:
            return pb.HealthCheckResponse.SERVICE_UNKNOWN
        return pb.HealthCheckResponse.SERVING if self._health.serving else pb.HealthCheckResponse.NOT_SERVING
