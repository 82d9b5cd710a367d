"""Comments of the protos, by the full name of what they stand at.

Only the descriptor set with source info has them; the generated Python has none. In the protos a comment may end with where a rule is known
from. That is for people who work on Serai, who have those sheets; readers of the API get the text without.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from google.protobuf.descriptor import FieldDescriptor, FileDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

_SOURCE = re.compile(r"\s*Source(?: of the rules)?: (?:[^.(]|\([^)]*\)|\.(?=\w))*\.?")
_IN_BRACKETS = re.compile(r"\s*\((?:facts|today|seed)\b[^()]*\)")

# Field numbers of descriptor.proto, of which the paths in source info are made.
_FILE_PACKAGE, _FILE_MESSAGE, _FILE_ENUM, _FILE_SERVICE = 2, 4, 5, 6
_MESSAGE_FIELD, _MESSAGE_NESTED, _MESSAGE_ENUM = 2, 3, 4
_ENUM_VALUE = 2
_SERVICE_METHOD = 2


@dataclass(frozen=True, slots=True)
class Names:
    """What a file of the descriptor set declares, in its order: full names with their paths in the source info."""

    path: tuple[int, ...]
    full_name: str


class Comments:
    """Text by full name; '' for what has none. A file's own is found by its package's name and `of_file`."""

    def __init__(self, descriptors: FileDescriptorSet) -> None:
        self._texts: dict[str, str] = {}
        self._files: dict[str, str] = {}
        for file in descriptors.file:
            found = {
                tuple(location.path): location.leading_comments or location.trailing_comments for location in file.source_code_info.location
            }
            self._files[file.name] = text_of(found.get((_FILE_PACKAGE,), ""))
            for one in _declared(file):
                self._texts[one.full_name] = text_of(found.get(one.path, ""))

    def of(self, full_name: str) -> str:
        """Paragraphs, with a blank line between two. Raises KeyError for a name that no file declares."""
        return self._texts[full_name]

    def of_file(self, name: str) -> str:
        """The comment at the file's `package`."""
        return self._files[name]

    def of_field(self, field: FieldDescriptor) -> str:
        """Of a field, or else those of its message or enum: where a type says it all, the field needs no words."""
        own = self._texts[field.full_name]
        kind = field.message_type or field.enum_type
        if own or kind is None or (field.message_type is not None and field.message_type.GetOptions().map_entry):
            return own
        of_kind = summary_of(self._texts[kind.full_name])
        return f"{of_kind}." if of_kind else ""

    def wordless(self, files: Iterable[FileDescriptor]) -> list[str]:
        """What has no words of its own and none from elsewhere, sorted.

        A method has those of what it takes and answers; a field may have those of its type; the zero value of an enum means "not given".
        """
        methods = [method for file in files for service in file.services_by_name.values() for method in _methods(service)]
        said = {message.full_name for method in methods for message in (method.input_type, method.output_type)}
        fields = [field for file in files for message in file.message_types_by_name.values() for field in message.fields]
        said |= {field.full_name for field in fields if self.of_field(field)}
        own = (name for name in self._texts if name.startswith(OWN))
        return sorted(name for name in own if not self._texts[name] and name not in said and not name.endswith("_UNSPECIFIED"))


OWN = "serai."
"""What our packages' names begin with."""


def _methods(service: ServiceDescriptor) -> Iterable[MethodDescriptor]:
    return cast("Iterable[MethodDescriptor]", service.methods)


def text_of(comment: str) -> str:
    """A comment as people read it: lines joined to paragraphs, without sources."""
    paragraphs = [" ".join(line.strip() for line in part.splitlines()) for part in re.split(r"\n\s*\n", comment)]
    plain = [_IN_BRACKETS.sub("", _SOURCE.sub("", paragraph)).strip() for paragraph in paragraphs]
    return "\n\n".join(paragraph for paragraph in plain if paragraph)


def summary_of(text: str) -> str:
    """The first sentence, without its full stop."""
    first = text.partition("\n\n")[0]
    found = re.match(r"(.+?[.!?])(?= [A-Z`]|$)", first)
    return (found[1] if found else first).removesuffix(".")


def _declared(file: FileDescriptorProto) -> Iterator[Names]:
    package = file.package
    yield from _messages(file.message_type, (_FILE_MESSAGE,), package)
    yield from _enums(file.enum_type, (_FILE_ENUM,), package)
    yield from _services(file.service, package)


def _messages(messages: Sequence[DescriptorProto], path: tuple[int, ...], around: str) -> Iterator[Names]:
    for index, message in enumerate(messages):
        if message.options.map_entry:
            continue
        name, here = f"{around}.{message.name}", (*path, index)
        yield Names(here, name)
        for number, field in enumerate(message.field):
            yield Names((*here, _MESSAGE_FIELD, number), f"{name}.{field.name}")
        yield from _messages(message.nested_type, (*here, _MESSAGE_NESTED), name)
        yield from _enums(message.enum_type, (*here, _MESSAGE_ENUM), name)


def _enums(enums: Sequence[EnumDescriptorProto], path: tuple[int, ...], around: str) -> Iterator[Names]:
    for index, enum in enumerate(enums):
        name, here = f"{around}.{enum.name}", (*path, index)
        yield Names(here, name)
        for number, value in enumerate(enum.value):
            yield Names((*here, _ENUM_VALUE, number), f"{name}.{value.name}")


def _services(services: Sequence[ServiceDescriptorProto], around: str) -> Iterator[Names]:
    for index, service in enumerate(services):
        name, here = f"{around}.{service.name}", (_FILE_SERVICE, index)
        yield Names(here, name)
        for number, method in enumerate(service.method):
            yield Names((*here, _SERVICE_METHOD, number), f"{name}.{method.name}")
