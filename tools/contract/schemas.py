"""JSON Schemas of UCloud's wire, made from the same shapes as the gateway's codec.

One message has two schemas, because Serai is lenient in what it takes and exact in what it says:

- `request.…`: what the gateway reads. Keys that it does not know are passed over; a key that is not required may be missing or null; a word
  that an enum does not have reads as null unless the enum is strict.
- `answer.…`: what the gateway writes. Each key is there, with null where there is nothing to say, but for those that are left out then.

The rules: proto/serai/wire/v1/options.proto.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import cast

from serai_gateway.codec.shape import Absent, FieldShape, Kind, MessageShape

from contract.comments import Comments

Schema = dict[str, object]

_PACKAGE = "serai."
_LENIENT_NUMBER = "^-?[0-9]{1,18}$"
_LENIENT_DECIMAL = r"^-?[0-9]{1,15}(\.[0-9]{1,15})?$"


def short_name(full_name: str) -> str:
    """`serai.jobs.v1.Job` as `jobs.Job`."""
    package, _, name = full_name.removeprefix(_PACKAGE).partition(".v1.")
    return f"{package}.{name}"


def nullable(schema: Schema) -> Schema:
    """The same, or null."""
    kind = schema.get("type")
    if isinstance(kind, str) and "const" not in schema and "enum" not in schema:
        return {**schema, "type": [kind, "null"]}
    if not schema:
        return {}  # anything, so null too
    return {"anyOf": [schema, {"type": "null"}]}


def described(schema: Schema, text: str) -> Schema:
    """With words for people, where there are any."""
    return {**schema, "description": text} if text else schema


class Schemas(ABC):
    """Schemas of messages in one direction; `components` grows with each message that is asked for."""

    prefix: str

    def __init__(self, comments: Comments) -> None:
        self.components: dict[str, Schema] = {}
        self._comments = comments

    def of(self, message: MessageShape) -> Schema:
        """A reference to the message's schema."""
        name = f"{self.prefix}.{short_name(message.full_name)}"
        if name not in self.components:
            self.components[name] = {}  # keeps the place: what is around comes before what is in it
            self.components[name] = described(self._message(name, message), self._comments.of(message.full_name))
        return _ref(name)

    def properties(self, message: MessageShape) -> dict[str, Schema]:
        """Schemas of the message's keys, each with its comment."""
        return {
            field.key: described(self._field(field), self._comments.of(f"{message.full_name}.{field.name}")) for field in message.fields
        }

    def _message(self, name: str, message: MessageShape) -> Schema:
        if message.only:
            return self._field(message.fields[0])
        if message.empty:
            return {"type": "object"}
        if message.union_key:
            return self._union(name, message)
        return self._object(message, {})

    def _union(self, name: str, message: MessageShape) -> Schema:
        members: dict[str, str] = {}
        for field in message.fields:
            member = f"{name}.{field.tag}"
            tag: dict[str, Schema] = {message.union_key: {"type": "string", "const": field.tag}}
            text = self._comments.of(f"{message.full_name}.{field.name}") or self._comments.of(field.submessage.full_name)
            self.components[member] = described(self._object(field.submessage, tag), text)
            members[field.tag] = cast("str", _ref(member)["$ref"])
        return {
            "oneOf": [{"$ref": ref} for ref in members.values()],
            "discriminator": {"propertyName": message.union_key, "mapping": members},
        }

    def _object(self, message: MessageShape, tag: Mapping[str, Schema]) -> Schema:
        required = [*tag, *(field.key for field in message.fields if self._is_required(field))]
        found: Schema = {"type": "object", "properties": {**tag, **self.properties(message)}}
        return {**found, "required": required} if required else found

    @abstractmethod
    def _is_required(self, field: FieldShape) -> bool:
        """The key has to be there."""

    @abstractmethod
    def _field(self, field: FieldShape) -> Schema:
        """The schema of a field with all that may stand there."""

    @abstractmethod
    def value(self, field: FieldShape) -> Schema:
        """The schema of one value of the field: of an element where there are many."""

    def _several(self, field: FieldShape) -> Schema:
        """A list or an object of values, or the one value."""
        if field.repeated:
            return {"type": "array", "items": self.value(field)}
        if field.is_map:
            return {"type": "object", "additionalProperties": self.value(field)}
        return self.value(field)


class RequestSchemas(Schemas):
    """What the gateway reads."""

    prefix = "request"

    def _is_required(self, field: FieldShape) -> bool:
        return field.required

    def _field(self, field: FieldShape) -> Schema:
        found = self._several(field)
        return found if field.required else nullable(found)

    def value(self, field: FieldShape) -> Schema:
        match field.kind:
            case Kind.MESSAGE:
                return self.of(field.submessage)
            case Kind.ENUM:
                words: Schema = {"type": "string", "enum": list(field.words.numbers)}
                return (
                    words if field.words.strict else {"anyOf": [words, {"type": "string", "description": "Any other word reads as null."}]}
                )
            case Kind.INTEGER if field.lenient:
                return {"anyOf": [_integer(field), {"type": "string", "pattern": _LENIENT_NUMBER}]}
            case Kind.DOUBLE if field.lenient:
                return {"anyOf": [_DOUBLE, {"type": "string", "pattern": _LENIENT_DECIMAL}]}
            case Kind.BOOLEAN if field.lenient:
                return {"anyOf": [{"type": "boolean"}, {"type": "string", "enum": ["true", "false"]}]}
            case _:
                return _plain(field)


class AnswerSchemas(Schemas):
    """What the gateway writes."""

    prefix = "answer"

    def _is_required(self, field: FieldShape) -> bool:
        return field.absent is not Absent.OMIT

    def _field(self, field: FieldShape) -> Schema:
        found = self._several(field)
        if field.repeated or field.is_map:
            return nullable(found) if field.absent is Absent.NULL_WHEN_EMPTY else found
        if field.absent is Absent.OMIT or field.absent is Absent.DEFAULT_OBJECT or field.required:
            return found
        # The zero value of an enum, and words that this build does not know, are null.
        return nullable(found) if field.presence or field.kind is Kind.ENUM else found

    def value(self, field: FieldShape) -> Schema:
        match field.kind:
            case Kind.MESSAGE:
                return self.of(field.submessage)
            case Kind.ENUM:
                words: Schema = {"type": "string", "enum": list(field.words.names.values())}
                return nullable(words) if field.repeated or field.is_map else words
            case _:
                return _plain(field)


_DOUBLE: Schema = {"type": "number", "format": "double"}


def _integer(field: FieldShape) -> Schema:
    return {"type": "integer", "format": "int32" if field.high < 1 << 31 else "int64", "minimum": field.low, "maximum": field.high}


def _plain(field: FieldShape) -> Schema:
    match field.kind:
        case Kind.INTEGER:
            return _integer(field)
        case Kind.DOUBLE:
            return _DOUBLE
        case Kind.BOOLEAN:
            return {"type": "boolean"}
        case Kind.RAW_JSON:
            return {}
        case _:
            return {"type": "string"}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}
