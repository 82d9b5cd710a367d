"""Requests of gRPC: messages made from the descriptors, golden ones, changed ones, and bytes that are none."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from golden.oracle import map_value
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from serai.core.v1.resources_pb2 import ProductReference
from serai.jobs.v1 import jobs_service_pb2 as jobs
from serai.licenses.v1 import license_servers_service_pb2 as servers
from serai_gateway.codec import Codec, WireError
from serai_gateway.routes import ROUTES

from fuzz.seeds import requests
from fuzz.trees import TEXTS, Trees

_DEEPEST = 5
_NUMBERS = [0, 1, -1, 2, 59, 64, 65, 1_000, 1_001, 2**31 - 1, -(2**31), 2**32 - 1, 2**53, 2**63 - 1, -(2**63), 2**64 - 1, 1_795_687_945_599]
_FLOATS = [0.0, -0.0, 1.5, -1.0, 1e308, 5e-324, float("nan"), float("inf"), float("-inf")]
_JSON = ["null", "{}", "[]", '"x"', "1", "{", "", "[" * 3_000]
_WORDS = [text for text in TEXTS if not any("\ud800" <= one <= "\udfff" for one in text)]
# The server connects to what these name: never anything but this machine, and never bytes that were changed blindly.
_HOST = servers.LicenseServerAddress.DESCRIPTOR.fields_by_name["host"]
_HOSTS = ["127.0.0.1", "::1", "localhost"]
_WITH_HOSTS = frozenset({servers.AddRequest.DESCRIPTOR.full_name, servers.SetAddressesRequest.DESCRIPTOR.full_name})
_JOBS = ("54112", "tool-1")
_OF_TOOLS: Sequence[Message] = (
    jobs.SubmitRequest(
        owner="user",
        image="acme/batch:1.0.0",
        command=["acme-batch", "Hello"],
        environment={"MODE": "fast"},
        product=ProductReference(id="example-compute-1", category="example-compute"),
        replicas=2,
        time_limit_ms=60_000,
        name="try",
        submission_id="nightly",
    ),
    jobs.ExtendRequest(job_ids=_JOBS, added_ms=60_000),
    jobs.ExtendRequest(job_ids=_JOBS, time_limit_ms=7_200_000),
    jobs.SuspendRequest(job_ids=_JOBS),
    jobs.UnsuspendRequest(job_ids=_JOBS),
    jobs.TerminateRequest(job_ids=_JOBS),
)
"""Good requests that have no form on UCloud's wire."""
TIES: Mapping[str, Sequence[str]] = {
    "job_id": ("54112", "1001"),
    "job_ids": _JOBS,
    "id": ("54112", "1001", "lic-1"),
    "consumer": ("core", "tool"),
    "product": ("example-compute-1",),
    "category": ("example-compute",),
    "provider": ("example",),
    "created_by": ("user",),
    "owner": ("user",),
    "command": ("acme-batch", "true"),
    "submission_id": ("nightly", "weekly"),
    "name": ("acme-batch", "example"),
}
"""Field names to texts that mean something, so that calls reach further than "not known here"."""


def golden() -> Mapping[str, list[bytes]]:
    """A message's full name to golden requests on protobuf's wire."""
    codec = Codec()
    found: dict[str, list[bytes]] = {}
    for route in ROUTES:
        for body in requests().get((route.verb, route.path), ()):
            try:
                found.setdefault(route.request.full_name, []).append(codec.read(route.request, body))
            except WireError:
                continue  # of the other generation
    for message in _OF_TOOLS:
        found.setdefault(message.DESCRIPTOR.full_name, []).append(message.SerializeToString())
    return found


class Messages:
    """Makes requests. `secrets`: of sessions, for fields that hold one."""

    def __init__(self, chance: random.Random, secrets: Iterable[str] = ()) -> None:
        self._chance = chance
        self._golden = golden()
        self._trees = Trees(chance, [b'{"a": 1}'])
        self._secrets = tuple(secrets)

    def request(self, descriptor: Descriptor) -> bytes:
        """For a method that takes this."""
        chance = self._chance
        if descriptor.full_name in _WITH_HOSTS:
            return self.message(descriptor).SerializeToString()
        known = self._golden.get(descriptor.full_name)
        dice = chance.random()
        if dice < 0.05:
            return chance.randbytes(chance.choice([0, 1, 2, 10, 300]))
        made = self._changed(descriptor, chance.choice(known)) if known and dice < 0.7 else self.message(descriptor).SerializeToString()
        return self._trees.bytes(made) if chance.random() < 0.2 else made

    def message(self, descriptor: Descriptor, depth: int = 0) -> Message:
        """Any."""
        chance = self._chance
        message = GetMessageClass(descriptor)()
        often = chance.choice([0.1, 0.5, 0.9])
        for field in _fields(descriptor):
            if chance.random() < often:
                self._set(message, field, depth)
        return message

    def _changed(self, descriptor: Descriptor, wire: bytes) -> bytes:
        """One to three fields, anywhere in it."""
        try:
            message = GetMessageClass(descriptor).FromString(wire)
        except DecodeError:
            return wire
        for _ in range(self._chance.choice([1, 1, 2, 3])):
            at, depth = self._inner(message)
            fields = _fields(cast("Descriptor", at.DESCRIPTOR))
            if not fields:
                continue
            field = self._chance.choice(fields)
            if self._chance.random() < 0.3:
                at.ClearField(field.name)
            else:
                self._set(at, field, depth)
        return message.SerializeToString()

    def _inner(self, message: Message) -> tuple[Message, int]:
        """Some message within, and how deep it is."""
        depth = 0
        while self._chance.random() < 0.85:
            inner: list[Message] = []
            for field, value in message.ListFields():
                if field.message_type is not None and map_value(field) is None:
                    inner += cast("list[Message]", value) if field.is_repeated else [cast("Message", value)]
            if not inner:
                break
            message, depth = self._chance.choice(inner), depth + 1
        return message, depth

    def _set(self, message: Message, field: FieldDescriptor, depth: int) -> None:
        chance = self._chance
        # By reflection: what a field takes is known to its descriptor only.
        held: Any = getattr(message, field.name)
        values = map_value(field)
        if field.message_type is not None and depth >= _DEEPEST:
            return
        if values is not None:
            for _ in range(chance.choice([0, 1, 2])):
                key = chance.choice(_WORDS[:20])  # no map of ours has other keys
                if values.message_type is not None:
                    held[key].CopyFrom(self.message(values.message_type, depth + 1))
                else:
                    held[key] = self._scalar(values)
        elif field.is_repeated:
            for _ in range(chance.choice([0, 1, 1, 2, 40 if depth < 2 else 1])):
                if field.message_type is not None:
                    held.add().CopyFrom(self.message(field.message_type, depth + 1))
                else:
                    held.append(self._scalar(field))
        elif field.message_type is not None:
            held.CopyFrom(self.message(field.message_type, depth + 1))
        else:
            setattr(message, field.name, self._scalar(field))

    def _scalar(self, field: FieldDescriptor) -> Any:
        chance = self._chance
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_STRING:
                return chance.randbytes(9) if field.type == FieldDescriptor.TYPE_BYTES else self._text(field)
            case FieldDescriptor.CPPTYPE_BOOL:
                return chance.random() < 0.5
            case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
                return chance.choice(_FLOATS)
            case FieldDescriptor.CPPTYPE_ENUM:
                return chance.choice([*(value.number for value in cast("EnumDescriptor", field.enum_type).values), 99, -1])
            case kind:
                unsigned = kind in (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64)
                bits = 32 if kind in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32) else 64
                low, high = (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
                return chance.choice([number for number in _NUMBERS if low <= number <= high])

    def _text(self, field: FieldDescriptor) -> str:
        chance = self._chance
        if field.full_name == _HOST.full_name:
            return chance.choice(_HOSTS)
        if "secret" in field.name and self._secrets:
            return chance.choice(self._secrets)
        known = TIES.get(field.name)
        if known is not None and chance.random() < 0.6:
            return chance.choice(known)
        return chance.choice([*_WORDS, *_JSON])


def _fields(descriptor: Descriptor) -> list[FieldDescriptor]:
    return list(descriptor.fields)
