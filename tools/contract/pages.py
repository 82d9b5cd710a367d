"""Pages for people, docs/api/*.md: every method with who may call it and how, every message with its fields, in the words of the protos.

One page for each package; what no method takes or answers is left out. `make generate` writes them, so they are never behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import cast

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, FileDescriptor, MethodDescriptor, ServiceDescriptor
from serai.wire.v1 import options_pb2
from serai_gateway.codec.shape import enum_prefix

from contract.comments import Comments, summary_of
from contract.served import Served, served
from contract.standard import is_choice, map_entry
from contract.v1 import access_words

_CALLERS = {
    "core": "UCloud/Core",
    "user": "users of UCloud, each with a token of their own",
    "session": "whoever holds a session's secret",
    "console": "operators at Serai's own page",
}
_SCALARS = {
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_DOUBLE: "double",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_INT64: "int64",
}
_NULL_RULES = {
    options_pb2.NULL_RULE_OMIT: "UCloud: left out when not set.",
    options_pb2.NULL_RULE_DEFAULT_OBJECT: "UCloud: an object without values when not set.",
    options_pb2.NULL_RULE_NULL_WHEN_EMPTY: "UCloud: null when empty.",
}
_INDEX = Path(__file__).with_name("index.md")
"""What stands before the list of services."""
_GENERATED = "<!-- Made from the protos by `make generate`: change the comments there. -->\n"


class Pages:
    """Makes the pages."""

    def __init__(self, files: Sequence[FileDescriptor], comments: Comments) -> None:
        self._files = files
        self._comments = comments
        self._served = {one.method.full_name: one for one in served(files)}
        self._reached = _Reached(files)

    def make(self) -> dict[str, str]:
        """Text by the file's name."""
        found = {f"{_page(package)}.md": "".join(self._package(package)) for package in self._packages() if self._has_anything(package)}
        return {"README.md": "".join(self._index()), **found}

    def _packages(self) -> list[str]:
        """Those that tools call first."""
        ours = {one.method.containing_service.file.package for one in self._served.values() if one.role}
        return sorted(dict.fromkeys(file.package for file in self._files), key=lambda package: (package not in ours, package))

    def _of(self, package: str) -> list[FileDescriptor]:
        return [file for file in self._files if file.package == package]

    def _services(self, package: str) -> list[ServiceDescriptor]:
        return [service for file in self._of(package) for service in file.services_by_name.values()]

    def _has_anything(self, package: str) -> bool:
        return any(name.startswith(f"{package}.") for name in (*self._reached.messages, *self._reached.enums))

    def _package(self, package: str) -> Iterator[str]:
        yield f"{_GENERATED}\n# {package}\n\n"
        files = self._of(package)
        for file in [file for file in files if file.services_by_name] or files:
            text = self._comments.of_file(file.name)
            if text:
                yield f"{text}\n\n"
        yield "[All packages](README.md)\n\n"
        for service in self._services(package):
            yield from self._service(service)
        messages = [one for name, one in sorted(self._reached.messages.items()) if name.startswith(f"{package}.")]
        enums = [one for name, one in sorted(self._reached.enums.items()) if name.startswith(f"{package}.")]
        if messages:
            yield "## Messages\n\n"
        for message in messages:
            yield from self._message(message)
        if enums:
            yield "## Enums\n\n"
        for enum in enums:
            yield from self._enum(enum)

    def _service(self, service: ServiceDescriptor) -> Iterator[str]:
        text = self._comments.of(service.full_name)
        yield f"## {service.name}\n\n{text}\n\n" if text else f"## {service.name}\n\n"
        for method in _methods(service):
            yield from self._method(service, method)

    def _method(self, service: ServiceDescriptor, method: MethodDescriptor) -> Iterator[str]:
        yield f"### {service.name}.{method.name}\n\n"
        deprecated = "Deprecated.\n\n" if method.GetOptions().deprecated else ""
        yield f"{deprecated}{self._comments.of(method.full_name)}\n\n"
        asks = f"{'stream of ' if method.client_streaming else ''}{self._link(method.input_type)}"
        answers = f"{'stream of ' if method.server_streaming else ''}{self._link(method.output_type)}"
        yield f"| | |\n|---|---|\n| takes | {asks} |\n| answers | {answers} |\n"
        rows: list[tuple[str, str]] = list(_ucloud_rows(method))
        one = self._served.get(method.full_name)
        if one is not None:
            rows += _tool_rows(service, one)
        yield "".join(f"| {name} | {text} |\n" for name, text in rows) + "\n"

    def _message(self, message: Descriptor) -> Iterator[str]:
        yield f"### {message.name}\n\n"
        text = self._comments.of(message.full_name) or self._purpose(message)
        if text:
            yield f"{text}\n\n"
        form = message.GetOptions().Extensions[options_pb2.message]
        if form.union_key:
            yield f"On UCloud's wire: the object of the one field that is set, with one more key, `{form.union_key}`, that tells which.\n\n"
        if form.only:
            yield "On UCloud's wire it is the value of its one field.\n\n"
        if not message.fields:
            yield "No fields.\n\n"
            return
        yield "| field | type | |\n|---|---|---|\n"
        for field in message.fields:
            yield f"| `{field.name}` | {self._type(field)} | {_cell(self._field_words(field))} |\n"
        yield "\n"

    def _purpose(self, message: Descriptor) -> str:
        """Of a message without words: the method that takes or answers it."""
        takes = [one for one in self._reached.methods if one.input_type is message]
        answers = [one for one in self._reached.methods if one.output_type is message]
        said = [f"What {_name_of(one)} takes." for one in takes] + [f"What {_name_of(one)} answers." for one in answers]
        return " ".join(said)

    def _field_words(self, field: FieldDescriptor) -> str:
        form = field.GetOptions().Extensions[options_pb2.field]
        words = ["Deprecated."] if field.GetOptions().deprecated else []
        words.append(self._comments.of_field(field))
        oneof = field.containing_oneof
        if oneof is not None and is_choice(oneof):
            words.append(f"One of `{oneof.name}`.")
        if form.required:
            words.append("Has to be given.")
        if form.internal:
            words.append("Not on UCloud's wire.")
        words.append(_NULL_RULES.get(form.null_rule, ""))
        return " ".join(word for word in words if word)

    def _type(self, field: FieldDescriptor) -> str:
        entry = map_entry(field)
        if entry is not None:
            return f"map of {self._type(entry.fields_by_name['value'])}"
        one = self._link(field.message_type or field.enum_type) if field.message_type or field.enum_type else _SCALARS[field.type]
        if field.is_repeated:
            return f"list of {one}"
        oneof = field.containing_oneof
        return f"{one}, optional" if oneof is not None and not is_choice(oneof) else one

    def _enum(self, enum: EnumDescriptor) -> Iterator[str]:
        yield f"### {enum.name}\n\n"
        text = self._comments.of(enum.full_name)
        if text:
            yield f"{text}\n\n"
        form = enum.GetOptions().Extensions[options_pb2.enum]
        prefix = enum_prefix(enum.name)
        yield "| value | number | on UCloud's wire | |\n|---|---|---|---|\n"
        for value in enum.values:
            word = value.name.removeprefix(prefix)
            spelled = f'`"{word.lower() if form.lower_case else word}"`' if value.number else "null"
            text = self._comments.of(f"{enum.full_name}.{value.name}") or ("Not given." if value.number == 0 else "")
            yield f"| `{value.name}` | {value.number} | {spelled} | {_cell(text)} |\n"
        yield "\n"

    def _link(self, one: Descriptor | EnumDescriptor | None) -> str:
        assert one is not None
        return f"[{one.name}]({_page(one.file.package)}.md#{one.name.lower()})"

    def _index(self) -> Iterator[str]:
        yield f"{_GENERATED}\n{_INDEX.read_text('utf-8')}\n"
        for package in self._packages():
            for service in self._services(package):
                page = f"{_page(package)}.md"
                yield f"### [{service.name}]({page}#{service.name.lower()})\n\n"
                yield f"{summary_of(self._comments.of(service.full_name))}.\n\n| | role | `/v1` | UCloud | |\n|---|---|---|---|---|\n"
                for method in _methods(service):
                    yield self._index_row(page, service, method)
                yield "\n"

    def _index_row(self, page: str, service: ServiceDescriptor, method: MethodDescriptor) -> str:
        one = self._served.get(method.full_name)
        ways = [f"`{way.verb.upper()} {way.shown_path(method.input_type)}`" for way in one.bindings] if one is not None else []
        routes = [f"`{verb} {path}`" for verb, path in _routes(method)]
        many = len(routes) > 1
        summary = _cell(summary_of(self._comments.of(method.full_name)))
        link = f"[{method.name}]({page}#{service.name.lower()}{method.name.lower()})"
        role = one.role if one is not None and one.role else ""
        return f"| {link} | {role} | {', '.join(ways)} | {routes[0] + (' …' if many else '') if routes else ''} | {summary} |\n"


def _methods(service: ServiceDescriptor) -> Iterable[MethodDescriptor]:
    return cast("Iterable[MethodDescriptor]", service.methods)


def _name_of(method: MethodDescriptor) -> str:
    return f"{method.containing_service.name}.{method.name}"


def _routes(method: MethodDescriptor) -> list[tuple[str, str]]:
    options = method.GetOptions()
    if not options.HasExtension(options_pb2.route):
        return []
    route = options.Extensions[options_pb2.route]
    return [(route.verb, path) for path in (route.path, *route.also)]


def _ucloud_rows(method: MethodDescriptor) -> Iterator[tuple[str, str]]:
    routes = _routes(method)
    if not routes:
        return
    route = method.GetOptions().Extensions[options_pb2.route]
    if route.direction == options_pb2.DIRECTION_OUTGOING:
        who = "Serai calls UCloud/Core"
    else:
        who = "users call" if route.users else "UCloud/Core calls, without a token" if route.open else "UCloud/Core calls"
    answers = ", one answer for each" if "responses" in method.output_type.fields_by_name else ""
    bulk = f"; 1 to 1,000 items{answers}" if route.bulk else ""
    yield "UCloud", f"{', '.join(f'`{verb} {path}`' for verb, path in routes)}: {who}{bulk}"


def _tool_rows(service: ServiceDescriptor, one: Served) -> Iterator[tuple[str, str]]:
    yield "gRPC", f"`/{service.full_name}/{one.method.name}`"
    for way in one.bindings:
        yield "`/v1`", f"`{way.verb.upper()} {way.shown_path(one.method.input_type)}`{', body as the message' if way.body else ''}"
    yield "tools", access_words(one)
    if one.callers:
        yield "others", f"The gateway calls it for {'; for '.join(_CALLERS[caller] for caller in one.callers)}."


def _page(package: str) -> str:
    return package.removeprefix("serai.").removesuffix(".v1")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n\n", "<br>").replace("\n", " ")


class _Reached:
    """What methods take and answer, and all that is in it, by full name."""

    def __init__(self, files: Sequence[FileDescriptor]) -> None:
        self.messages: dict[str, Descriptor] = {}
        self.enums: dict[str, EnumDescriptor] = {}
        self.methods = [method for file in files for service in file.services_by_name.values() for method in _methods(service)]
        for method in self.methods:
            self._add(method.input_type)
            self._add(method.output_type)

    def _add(self, message: Descriptor) -> None:
        if message.full_name in self.messages:
            return
        if not message.GetOptions().map_entry:
            self.messages[message.full_name] = message
        for field in message.fields:
            if field.message_type is not None:
                self._add(field.message_type)
            if field.enum_type is not None:
                self.enums[field.enum_type.full_name] = field.enum_type
