"""Messages with every field set, and with none: the two ends of what an answer may be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from serai.wire.v1 import options_pb2


def whole(descriptor: Descriptor) -> Iterator[Message]:
    """One message for each member of its widest oneof, below it too; one at least. Lists and maps have one element."""
    choices = max((len(oneof.fields) for message in _below(descriptor, []) for oneof in message.oneofs), default=1)
    for choice in range(choices):
        message = GetMessageClass(descriptor)()
        _fill(message, choice)
        yield message


def empty(descriptor: Descriptor) -> Message:
    """Nothing set."""
    return GetMessageClass(descriptor)()


def _below(descriptor: Descriptor, known: list[Descriptor]) -> list[Descriptor]:
    if descriptor not in known:
        known.append(descriptor)
        for field in descriptor.fields:
            if field.message_type is not None:
                _below(field.message_type, known)
    return known


def _fill(message: Message, choice: int) -> None:
    descriptor = cast("Descriptor", message.DESCRIPTOR)
    for field in descriptor.fields:
        oneof = field.containing_oneof
        if oneof is not None and oneof.fields[choice % len(oneof.fields)] is not field:
            continue
        target: Any = getattr(message, field.name)
        entry = field.message_type if field.message_type is not None and field.message_type.GetOptions().map_entry else None
        if entry is not None:
            value = entry.fields_by_name["value"]
            if value.message_type is None:
                target["key"] = _scalar(value)
            else:
                _fill(target["key"], choice)
        elif field.message_type is not None:
            # A message without fields is set all the same.
            inner = target.add() if field.is_repeated else target
            inner.SetInParent()
            _fill(inner, choice)
        elif field.is_repeated:
            target.append(_scalar(field))
        else:
            setattr(message, field.name, _scalar(field))


def _scalar(field: FieldDescriptor) -> object:
    if field.GetOptions().Extensions[options_pb2.field].scalar == options_pb2.SCALAR_FORM_RAW_JSON:
        return '{"any":["value",1]}'
    if field.enum_type is not None:
        return field.enum_type.values[-1].number
    return _VALUES[field.type]


_VALUES: dict[int, object] = {
    FieldDescriptor.TYPE_BYTES: b"\xff\x00",
    FieldDescriptor.TYPE_STRING: "text",
    FieldDescriptor.TYPE_BOOL: True,
    FieldDescriptor.TYPE_DOUBLE: 0.5,
    FieldDescriptor.TYPE_INT32: (1 << 31) - 1,
    FieldDescriptor.TYPE_INT64: (1 << 63) - 1,
}
