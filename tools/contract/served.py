"""The methods that the server answers, from the descriptors: who may call each, and its ways in `/v1`.

Source of the rules: `google.api.http` and `serai.access.v1.access`, the options of the methods.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor, MethodDescriptor
from serai.access.v1 import access_pb2

from contract.standard import is_choice, map_entry

_VARIABLE = re.compile(r"\{([a-z0-9_.]+)\}")
_VERBS = ("get", "put", "post", "delete", "patch")


@dataclass(frozen=True, slots=True)
class Binding:
    """One way of a method in HTTP. `path` has its variables by the fields' names; `body` is "*" or ''."""

    verb: str
    path: str
    body: str

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the fields in the path."""
        return tuple(_VARIABLE.findall(self.path))

    def shown_path(self, request: Descriptor) -> str:
        """The path with the variables by their JSON names."""
        return _VARIABLE.sub(lambda found: "{" + request.fields_by_name[found[1]].json_name + "}", self.path)


@dataclass(frozen=True, slots=True)
class Served:
    """A method with what its options say. `role` is None where no tool may call it."""

    method: MethodDescriptor
    bindings: tuple[Binding, ...]
    role: str | None
    of_project: bool
    callers: tuple[str, ...]


def served(files: Iterable[FileDescriptor]) -> Iterator[Served]:
    """Every method with an access rule or a way in `/v1`, in the order of the files.

    ValueError for a rule that Envoy's transcoder refuses, or that this module does not know to describe.
    """
    for file in files:
        for service in file.services_by_name.values():
            for method in cast("Iterable[MethodDescriptor]", service.methods):
                options = method.GetOptions()
                rule = http_rule(method)
                bindings = tuple(_bindings(rule)) if rule is not None else ()
                for binding in bindings:
                    check(method, binding)
                if bindings or options.HasExtension(access_pb2.access):
                    access = options.Extensions[access_pb2.access]
                    role = _word(access_pb2.Role.Name(access.role), "ROLE_") if access.role else None
                    callers = tuple(_word(access_pb2.Caller.Name(caller), "CALLER_") for caller in access.callers)
                    yield Served(method, bindings, role, access.of_project, callers)


def http_rule(method: MethodDescriptor) -> http_pb2.HttpRule | None:
    """The method's `google.api.http`; None = it has no way in JSON."""
    options = method.GetOptions()
    # googleapis' stubs know extensions as plain fields.
    http = cast("Any", annotations_pb2.http)
    return cast("http_pb2.HttpRule", options.Extensions[http]) if options.HasExtension(http) else None


def _word(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower()


def _bindings(rule: http_pb2.HttpRule) -> Iterator[Binding]:
    verb = rule.WhichOneof("pattern")
    if verb not in _VERBS:
        raise ValueError(f"a way in /v1 is one of {', '.join(_VERBS)}, found {verb}")
    yield Binding(verb, cast("str", getattr(rule, verb)), rule.body)
    for other in rule.additional_bindings:
        yield from _bindings(other)


def check(method: MethodDescriptor, binding: Binding) -> None:
    """ValueError for a rule that is not sensible: each field of the request has one place, and that can hold it."""
    where = f"{method.full_name}: {binding.verb} {binding.path}"
    request = method.input_type
    if not binding.path.startswith("/v1/"):
        raise ValueError(f"{where}: the paths of tools begin with /v1/")
    if "{" in _VARIABLE.sub("", binding.path) or any("." in name for name in binding.variables):
        raise ValueError(f"{where}: a variable is one field's name and one segment")
    for name in binding.variables:
        field = request.fields_by_name.get(name)
        if field is None or field.is_repeated or field.message_type is not None or field.containing_oneof is not None:
            raise ValueError(f"{where}: {name} is not a plain field of the request")
    if binding.body not in {"", "*"}:
        raise ValueError(f"{where}: a body is the whole request, *")
    if binding.verb in {"get", "delete"} and binding.body:
        raise ValueError(f"{where}: {binding.verb} has no body")
    if method.client_streaming:
        raise ValueError(f"{where}: a stream of requests has no form in JSON")


def query_fields(message: Descriptor, without: Iterable[str], around: str = "") -> Iterator[tuple[str, FieldDescriptor]]:
    """Keys of a query and their fields: all that have a form there and are not in the path.

    Fields of messages have dots in their keys; lists of messages and maps have no form in a query.
    """
    for field in message.fields:
        key = f"{around}{field.json_name}"
        if field.name in without or map_entry(field) is not None:
            continue
        oneof = field.containing_oneof
        if field.message_type is None:
            if oneof is None or not is_choice(oneof):
                yield key, field
        elif not field.is_repeated:
            yield from query_fields(field.message_type, (), f"{key}.")
