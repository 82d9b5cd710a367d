"""JSON Schemas of protobuf's standard JSON, which tools speak at `/v1`. Source: the JSON mapping of protobuf's documents.

As on UCloud's wire a message has a schema for requests and one for answers: 64-bit integers are text in answers, and text or numbers in
requests. No key is required: what is left out has its zero value, in both directions.
"""

from __future__ import annotations

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, MethodDescriptor, OneofDescriptor
from serai_gateway.codec.shape import enum_prefix

from contract.comments import Comments
from contract.schemas import Schema, described, short_name

_LONG = {FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_SINT64, FieldDescriptor.TYPE_SFIXED64}
_INT32 = {FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_SINT32, FieldDescriptor.TYPE_SFIXED32}


class StandardSchemas:
    """`prefix` is "request" or "answer"; `components` grows with each message that is asked for."""

    def __init__(self, prefix: str, comments: Comments) -> None:
        self.components: dict[str, Schema] = {}
        self._prefix = prefix
        self._comments = comments

    def of(self, message: Descriptor) -> Schema:
        """A reference to the message's schema."""
        name = f"{self._prefix}.{short_name(message.full_name)}"
        if name not in self.components:
            self.components[name] = {}  # keeps the place, also for a message that holds itself
            self.components[name] = described(self.object(message, frozenset()), self._comments.of(message.full_name))
        return {"$ref": f"#/components/schemas/{name}"}

    def object(self, message: Descriptor, without: frozenset[str]) -> Schema:
        """The schema itself, without the fields of these names: they stand in the path."""
        fields = [field for field in message.fields if field.name not in without]
        found: Schema = {"type": "object"}
        if fields:
            found["properties"] = {field.json_name: marked(field, described(self.field(field), self.words(field))) for field in fields}
        return found

    def words(self, field: FieldDescriptor) -> str:
        """The field's comment, and with which other fields it cannot stand."""
        text = self._comments.of(field.full_name)
        oneof = field.containing_oneof
        if oneof is None or not is_choice(oneof):
            return text
        others = [f"`{other.json_name}`" for other in oneof.fields if other is not field]
        return f"{text} Not together with {', '.join(others)}.".strip()

    def field(self, field: FieldDescriptor) -> Schema:
        """With all elements of a repeated or map field."""
        entry = map_entry(field)
        if entry is not None:
            return {"type": "object", "additionalProperties": self.value(entry.fields_by_name["value"])}
        value = self.value(field)
        return {"type": "array", "items": value} if field.is_repeated else value

    def value(self, field: FieldDescriptor) -> Schema:
        """Of one value. Raises TypeError for a kind of number that no proto of ours has."""
        if field.message_type is not None:
            return self.of(field.message_type)
        if field.enum_type is not None:
            return self._enum(field.enum_type)
        if field.type in _LONG:
            text: Schema = {"type": "string", "format": "int64", "pattern": "^-?[0-9]{1,19}$"}
            return text if self._prefix == "answer" else {"anyOf": [text, {"type": "integer", "format": "int64"}]}
        if field.type in _INT32:
            return {"type": "integer", "format": "int32", "minimum": -(1 << 31), "maximum": (1 << 31) - 1}
        found = _PLAIN.get(field.type)
        if found is None:
            raise TypeError(f"{field.full_name}: this type has no schema yet")
        return found

    def _enum(self, enum: EnumDescriptor) -> Schema:
        prefix = enum_prefix(enum.name)
        known = ((value.name.removeprefix(prefix), self._comments.of(f"{enum.full_name}.{value.name}")) for value in enum.values)
        words = [f"{name}: {text}" for name, text in known if text]
        return described({"type": "string", "enum": [value.name for value in enum.values]}, " ".join(words))


_PLAIN: dict[int, Schema] = {
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "format": "byte", "contentEncoding": "base64"},
    FieldDescriptor.TYPE_DOUBLE: {"type": "number", "format": "double"},
}


def marked(one: FieldDescriptor | MethodDescriptor, schema: Schema) -> Schema:
    """With OpenAPI's mark where the proto has it: going to be taken away."""
    return {**schema, "deprecated": True} if one.GetOptions().deprecated else schema


def map_entry(field: FieldDescriptor) -> Descriptor | None:
    """The message of a map's entries; None for other fields."""
    message = field.message_type
    return message if message is not None and message.GetOptions().map_entry else None


def is_choice(oneof: OneofDescriptor) -> bool:
    """It has members to choose from; an `optional` field is a oneof of its own in the descriptors."""
    return len(oneof.fields) > 1
