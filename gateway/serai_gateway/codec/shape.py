"""The wire's rules as plain data: descriptors and `serai.wire.v1` options read once, so that no other part looks at protobuf's reflection.

Source of the rules: proto/serai/wire/v1/options.proto.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from serai.wire.v1 import options_pb2


class Kind(enum.Enum):
    """How a field's value is spelled in JSON and on protobuf's wire."""

    TEXT = "text"
    RAW_JSON = "any JSON value"
    INTEGER = "whole number"
    DOUBLE = "number"
    BOOLEAN = "true or false"
    ENUM = "word"
    MESSAGE = "object"


class Absent(enum.Enum):
    """What stands in JSON for a field that is not set."""

    NULL = "null, or the empty list or object"
    OMIT = "no key"
    DEFAULT_OBJECT = "the message with nothing set"
    NULL_WHEN_EMPTY = "null, for lists and maps too"


@dataclass(frozen=True, slots=True)
class EnumShape:
    """`numbers`: short name to number; aliases keep every name, `names` the first one. The zero value has no name on the wire."""

    full_name: str
    strict: bool
    numbers: Mapping[str, int]
    names: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class FieldShape:
    """One field. `message` is set for Kind.MESSAGE, `enum` for Kind.ENUM, `low` and `high` for Kind.INTEGER (both inclusive)."""

    name: str
    key: str
    number: int
    kind: Kind
    repeated: bool
    is_map: bool
    presence: bool
    required: bool
    lenient: bool
    repeats: bool
    flat: bool
    absent: Absent
    tag: str
    low: int
    high: int
    message: MessageShape | None
    enum: EnumShape | None

    @property
    def submessage(self) -> MessageShape:
        """The message of a Kind.MESSAGE field."""
        if self.message is None:
            raise TypeError(f"{self.name} is not a message field")
        return self.message

    @property
    def words(self) -> EnumShape:
        """The enum of a Kind.ENUM field."""
        if self.enum is None:
            raise TypeError(f"{self.name} is not an enum field")
        return self.enum


@dataclass(frozen=True, slots=True)
class MessageShape:
    """One message. `union_key` '' = a plain object; otherwise `fields` are the members of the oneof named `oneof`.

    `only` = it is spelled as the value of its one field.
    """

    full_name: str
    union_key: str
    oneof: str
    empty: bool
    only: bool
    fields: tuple[FieldShape, ...]

    @property
    def identifier(self) -> str:
        """The full name as a part of a Python name."""
        return self.full_name.replace(".", "_")

    @property
    def is_small(self) -> bool:
        """No lists, maps or unions and few fields: generated code may deal with it in place of a call."""
        if self.union_key or self.only or len(self.fields) > 16:
            return False
        return not any(
            field.repeated or field.is_map or (field.message is not None and not field.message.is_small) for field in self.fields
        )

    @property
    def bare_field(self) -> FieldShape | None:
        """The only field, when it is a required message: generation 2021 sends such an item bare (`SuspendItem`); otherwise None."""
        if self.only or len(self.fields) != 1:
            return None
        only = self.fields[0]
        return only if only.kind is Kind.MESSAGE and only.required and not only.repeated else None


_KINDS = {
    FieldDescriptor.CPPTYPE_STRING: Kind.TEXT,
    FieldDescriptor.CPPTYPE_INT32: Kind.INTEGER,
    FieldDescriptor.CPPTYPE_INT64: Kind.INTEGER,
    FieldDescriptor.CPPTYPE_DOUBLE: Kind.DOUBLE,
    FieldDescriptor.CPPTYPE_BOOL: Kind.BOOLEAN,
    FieldDescriptor.CPPTYPE_ENUM: Kind.ENUM,
    FieldDescriptor.CPPTYPE_MESSAGE: Kind.MESSAGE,
}
# UCloud's wire has none of these, and a codec that nothing exercises would be wrong unseen.
_UNSPOKEN = {
    FieldDescriptor.TYPE_BYTES,
    FieldDescriptor.TYPE_GROUP,
    FieldDescriptor.TYPE_SINT32,
    FieldDescriptor.TYPE_SINT64,
    FieldDescriptor.TYPE_SFIXED32,
    FieldDescriptor.TYPE_SFIXED64,
}
_ABSENT = {
    options_pb2.NULL_RULE_UNSPECIFIED: Absent.NULL,
    options_pb2.NULL_RULE_OMIT: Absent.OMIT,
    options_pb2.NULL_RULE_DEFAULT_OBJECT: Absent.DEFAULT_OBJECT,
    options_pb2.NULL_RULE_NULL_WHEN_EMPTY: Absent.NULL_WHEN_EMPTY,
}
_LENIENT = {options_pb2.SCALAR_FORM_LENIENT_NUMBER, options_pb2.SCALAR_FORM_LENIENT_BOOLEAN}


@dataclass(slots=True)
class Shapes:
    """Shapes by full name; each message is read from its descriptor once."""

    _messages: dict[str, MessageShape] = field(default_factory=dict[str, MessageShape])
    _enums: dict[str, EnumShape] = field(default_factory=dict[str, EnumShape])
    _open: list[str] = field(default_factory=list[str])

    def message(self, descriptor: Descriptor) -> MessageShape:
        """Raises TypeError for what UCloud's wire has no form for: recursive messages, bytes, odd integers, a second oneof."""
        name = descriptor.full_name
        known = self._messages.get(name)
        if known is not None:
            return known
        if name in self._open:
            raise TypeError(f"{name} holds itself; the codec does not speak recursive messages")
        self._open.append(name)
        form = descriptor.GetOptions().Extensions[options_pb2.message]
        fields = tuple(self._fields(descriptor, union=bool(form.union_key)))
        self._open.pop()
        oneof = descriptor.oneofs[0].name if form.union_key else ""
        shape = MessageShape(name, form.union_key, oneof, form.empty, form.only, fields)
        _check_union(shape)
        _check_only(shape)
        self._messages[name] = shape
        return shape

    def _fields(self, descriptor: Descriptor, *, union: bool) -> Iterator[FieldShape]:
        for one in descriptor.fields:
            form = one.GetOptions().Extensions[options_pb2.field]
            if form.internal:
                continue
            if one.type in _UNSPOKEN or one.cpp_type not in _KINDS:
                raise TypeError(f"{one.full_name}: UCloud's wire has no form for this type")
            oneof = one.containing_oneof
            if oneof is not None and len(oneof.fields) > 1 and not union:
                raise TypeError(f"{one.full_name}: a oneof needs a message with union_key")
            yield self._field(one, form)

    def _field(self, one: FieldDescriptor, form: options_pb2.FieldForm) -> FieldShape:
        entry = one.message_type if one.message_type is not None and one.message_type.GetOptions().map_entry else None
        value = entry.fields_by_name["value"] if entry is not None else one
        if entry is not None and entry.fields_by_name["key"].type != FieldDescriptor.TYPE_STRING:
            raise TypeError(f"{one.full_name}: keys of JSON objects are text")
        raw = form.scalar == options_pb2.SCALAR_FORM_RAW_JSON
        kind = Kind.RAW_JSON if raw else _KINDS[value.cpp_type]
        bits = 31 if value.cpp_type == FieldDescriptor.CPPTYPE_INT32 else 63
        message = self.message(value.message_type) if kind is Kind.MESSAGE and value.message_type is not None else None
        if message is not None and message.only and not message.fields[0].repeated:
            # Its null would be the same as that of the field here.
            raise TypeError(f"{one.full_name}: a message spelled as its only field stands in another one only where that is a list")
        return FieldShape(
            name=one.name,
            key=one.json_name,
            number=one.number,
            kind=kind,
            repeated=one.is_repeated and entry is None,
            is_map=entry is not None,
            presence=one.has_presence,
            required=form.required,
            lenient=form.scalar in _LENIENT,
            repeats=form.repeats,
            flat=form.flat,
            absent=_ABSENT[form.null_rule],
            tag=form.tag or one.name,
            low=-(1 << bits),
            high=(1 << bits) - 1,
            message=message,
            enum=self._enum(value.enum_type) if kind is Kind.ENUM and value.enum_type is not None else None,
        )

    def _enum(self, descriptor: EnumDescriptor) -> EnumShape:
        known = self._enums.get(descriptor.full_name)
        if known is not None:
            return known
        prefix = enum_prefix(descriptor.name)
        form = descriptor.GetOptions().Extensions[options_pb2.enum]
        spelled: Callable[[str], str] = str.lower if form.lower_case else str
        numbers = {spelled(value.name.removeprefix(prefix)): value.number for value in descriptor.values if value.number != 0}
        names: dict[int, str] = {}
        for name, number in numbers.items():
            names.setdefault(number, name)
        shape = EnumShape(descriptor.full_name, form.strict, numbers, names)
        self._enums[descriptor.full_name] = shape
        return shape


def enum_prefix(name: str) -> str:
    """What buf's lint puts before each value: `JobState` gives `JOB_STATE_`."""
    words = "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in name)
    return words.removeprefix("_") + "_"


def _check_union(shape: MessageShape) -> None:
    if not shape.union_key:
        return
    for member in shape.fields:
        if member.message is None or member.repeated or member.message.union_key:
            raise TypeError(f"{shape.full_name}.{member.name}: a member of a union is one plain message")
        if any(inner.key == shape.union_key for inner in member.message.fields):
            raise TypeError(f"{member.message.full_name}: has a field of the union's key {shape.union_key!r}")


def _check_only(shape: MessageShape) -> None:
    if shape.only and (len(shape.fields) != 1 or shape.union_key or shape.empty or shape.fields[0].repeats):
        raise TypeError(f"{shape.full_name}: a message spelled as its only field has one, which is of a plain form")
