"""What a release has promised in the options of the protos, and whether another set of protos keeps it.

buf compares names, numbers and types and does not look into options; there stand the paths, the JSON forms, who may call, and what errors
become, and each of these breaks somebody when it changes. The rules in words: CONTRIBUTING.md, "Changing the API".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)
from serai.access.v1 import access_pb2
from serai.wire.v1 import options_pb2

from contract.files import FOLDER

_Value = str | int | bool | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Promise:
    """One thing that others rely on.

    `subject` is a full name, or verb and path of a call; `owner` is what has to be deprecated before the subject may go.
    """

    kind: str
    subject: str
    owner: str
    forms: Mapping[str, _Value]


@dataclass(frozen=True, slots=True)
class Promises:
    """All of one release."""

    by_key: Mapping[tuple[str, str], Promise]
    deprecated: frozenset[str]

    @staticmethod
    def of(descriptors: FileDescriptorSet) -> Promises:
        """Read from the descriptors of our own files."""
        read = _Reader()
        promises = [promise for file in descriptors.file if file.name.startswith(FOLDER) for promise in read.file(file.package, file)]
        return Promises({(promise.kind, promise.subject): promise for promise in promises}, frozenset(read.deprecated))


def broken(releases: Sequence[Promises], now: Promises) -> list[str]:
    """In words, each promise of the last release that is not kept; `releases` from the oldest to the last.

    What was deprecated in the last two releases may be gone.
    """
    if not releases:
        return []
    last = releases[-1]
    may_go = releases[-1].deprecated & releases[-2].deprecated if len(releases) > 1 else frozenset[str]()
    found: list[str] = []
    for key, old in last.by_key.items():
        new = now.by_key.get(key)
        if new is not None:
            found += _changes(old, new)
        elif old.owner not in may_go:
            found.append(f"{old.kind} {old.subject} is gone; first it has to be deprecated for two releases")
    return found + [
        f"field {new.subject} is new and required: those who do not know it leave it out"
        for key, new in now.by_key.items()
        if new.kind == "field"
        and key not in last.by_key
        and new.forms["required"]
        and ("message", new.owner.rpartition(".")[0]) in last.by_key
    ]


def _changes(old: Promise, new: Promise) -> Iterator[str]:
    for name, before in old.forms.items():
        after = new.forms[name]
        if before != after and not _is_wider(name, before, after):
            yield f"{old.kind} {old.subject}: {name} was {before!r} and is {after!r}"


def _is_wider(name: str, before: _Value, after: _Value) -> bool:
    """All that was right before is right after."""
    match name:
        case "required" | "strict" | "internal":
            return after is False
        case "of_project":
            return after is True
        case "role":
            # 0 is no tool at all; then a smaller role lets more tools in.
            return before == 0 or 0 < cast("int", after) < cast("int", before)
        case "callers":
            return set(cast("tuple[int, ...]", before)) <= set(cast("tuple[int, ...]", after))
        case "scalar":
            return before == options_pb2.SCALAR_FORM_UNSPECIFIED and after in _LENIENT
        case _:
            return False


_LENIENT = {options_pb2.SCALAR_FORM_LENIENT_NUMBER, options_pb2.SCALAR_FORM_LENIENT_BOOLEAN}


class _Reader:
    def __init__(self) -> None:
        self.deprecated: set[str] = set()

    def file(self, package: str, file: Any) -> Iterator[Promise]:
        for message in cast("Sequence[DescriptorProto]", file.message_type):
            yield from self._message(f"{package}.{message.name}", message)
        for enum in cast("Sequence[EnumDescriptorProto]", file.enum_type):
            yield from self._enum(f"{package}.{enum.name}", enum)
        for service in cast("Sequence[ServiceDescriptorProto]", file.service):
            for method in service.method:
                yield from self._method(f"{package}.{service.name}.{method.name}", method)

    def _note(self, name: str, *, deprecated: bool) -> None:
        if deprecated:
            self.deprecated.add(name)

    def _message(self, name: str, message: DescriptorProto) -> Iterator[Promise]:
        form = message.options.Extensions[options_pb2.message]
        self._note(name, deprecated=message.options.deprecated)
        yield Promise("message", name, name, {"union_key": form.union_key, "empty": form.empty, "only": form.only})
        for field in message.field:
            its = field.options.Extensions[options_pb2.field]
            inner = f"{name}.{field.name}"
            # A member's tag is its name unless the option says another one; of other fields it means nothing.
            tag = its.tag or field.name if form.union_key else ""
            self._note(inner, deprecated=field.options.deprecated)
            forms: dict[str, _Value] = {
                "json_name": field.json_name,
                "null_rule": its.null_rule,
                "scalar": its.scalar,
                "tag": tag,
                "required": its.required,
                "internal": its.internal,
                "flat": its.flat,
            }
            yield Promise("field", inner, inner, forms)
        for nested in message.nested_type:
            if not nested.options.map_entry:  # which the compiler makes of a map
                yield from self._message(f"{name}.{nested.name}", nested)
        for enum in message.enum_type:
            yield from self._enum(f"{name}.{enum.name}", enum)

    def _enum(self, name: str, enum: EnumDescriptorProto) -> Iterator[Promise]:
        form = enum.options.Extensions[options_pb2.enum]
        self._note(name, deprecated=enum.options.deprecated)
        yield Promise("enum", name, name, {"strict": form.strict, "lower_case": form.lower_case})
        for value in enum.value:
            its = value.options.Extensions[options_pb2.error]
            inner = f"{name}.{value.name}"
            self._note(inner, deprecated=value.options.deprecated)
            forms = {"grpc_code": its.grpc_code, "http_status": its.http_status, "error_code": its.error_code}
            yield Promise("value", inner, inner, forms)

    def _method(self, name: str, method: MethodDescriptorProto) -> Iterator[Promise]:
        options = method.options
        self._note(name, deprecated=options.deprecated)
        access = options.Extensions[access_pb2.access]
        callers = tuple(sorted(access.callers))
        yield Promise("method", name, name, {"role": access.role, "of_project": access.of_project, "callers": callers})
        if options.HasExtension(options_pb2.route):
            route = options.Extensions[options_pb2.route]
            forms: dict[str, _Value] = {
                "method": name,
                "bulk": route.bulk,
                "empty_element": route.empty_element,
                "call": route.call,
                "open": route.open,
                "users": route.users,
            }
            direction = options_pb2.Direction.Name(route.direction).removeprefix("DIRECTION_").lower()
            for path in (route.path, *route.also):
                yield Promise("route", f"{direction} {route.verb} {path}", name, forms)
        http = cast("Any", annotations_pb2.http)  # googleapis' stubs know extensions as plain fields
        if options.HasExtension(http):
            yield from _ways(name, cast("http_pb2.HttpRule", options.Extensions[http]))


def _ways(name: str, rule: http_pb2.HttpRule) -> Iterator[Promise]:
    verb = rule.WhichOneof("pattern")
    if verb is not None:
        yield Promise(
            "way", f"{verb.upper()} {getattr(rule, verb)}", name, {"method": name, "body": rule.body, "response_body": rule.response_body}
        )
    for other in rule.additional_bindings:
        yield from _ways(name, other)
