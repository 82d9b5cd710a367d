"""UCloud's JSON and protobuf's standard JSON, one turned into the other by the options alone.

With this, google.protobuf.json_format judges the codec: it shares no code with it but the descriptors.
"""

from __future__ import annotations

import json
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from serai.wire.v1 import options_pb2


def parse(descriptor: Descriptor, value: Any) -> Message:
    """The message that UCloud's JSON means."""
    message = GetMessageClass(descriptor)()
    json_format.ParseDict(_standard(descriptor, value), message, ignore_unknown_fields=True)
    return message


def prefix(descriptor: EnumDescriptor) -> str:
    """What stands before each name of the enum: the zero value is always `…_UNSPECIFIED`."""
    return descriptor.values_by_number[0].name.removesuffix("UNSPECIFIED")


def map_value(field: FieldDescriptor) -> FieldDescriptor | None:
    """The field of a map's values; None for other fields."""
    entry = field.message_type
    return entry.fields_by_name["value"] if entry is not None and entry.GetOptions().map_entry else None


def _standard(descriptor: Descriptor, value: Any) -> Any:
    form = descriptor.GetOptions().Extensions[options_pb2.message]
    if form.empty:
        return {}
    if form.only:
        only = descriptor.fields[0]
        if value is None:
            return {}
        return {only.json_name: [_value(only, element) for element in value] if only.is_repeated else _value(only, value)}
    if form.union_key:
        for member in descriptor.fields:
            tag = member.GetOptions().Extensions[options_pb2.field].tag or member.name
            if value[form.union_key] == tag:
                return {member.json_name: _value(member, value)}
        raise ValueError(value)
    found: dict[str, Any] = {}
    for field in descriptor.fields:
        one = value.get(field.json_name)
        if one is None:
            continue
        inner = map_value(field)
        if inner is not None:
            found[field.json_name] = {key: _value(inner, element) for key, element in one.items()}
        elif field.is_repeated:
            found[field.json_name] = [_value(field, element) for element in one]
        else:
            found[field.json_name] = _value(field, one)
    return found


def _value(field: FieldDescriptor, value: Any) -> Any:
    form = field.GetOptions().Extensions[options_pb2.field]
    if form.scalar == options_pb2.SCALAR_FORM_RAW_JSON:
        return json.dumps(value)
    if form.scalar == options_pb2.SCALAR_FORM_LENIENT_BOOLEAN and isinstance(value, str):
        return json.loads(value)
    if field.message_type is not None:
        return _standard(field.message_type, value)
    if field.enum_type is not None:
        form_of_enum = field.enum_type.GetOptions().Extensions[options_pb2.enum]
        name = prefix(field.enum_type) + (value.upper() if form_of_enum.lower_case else value)
        return name if name in field.enum_type.values_by_name else 0
    return value


def same_raw_json(message: Message) -> Message:
    """A copy in which every raw JSON value is spelled in one way, so that messages of two readers can be compared."""
    copy = type(message)()
    copy.CopyFrom(message)
    _respell(copy)
    return copy


def _respell(message: Message) -> None:
    for field, value in message.ListFields():
        if field.GetOptions().Extensions[options_pb2.field].scalar == options_pb2.SCALAR_FORM_RAW_JSON:
            setattr(message, field.name, json.dumps(json.loads(value)))
        elif map_value(field) is not None:
            for element in value.values():
                if isinstance(element, Message):
                    _respell(element)
        elif field.message_type is not None:
            for element in value if field.is_repeated else [value]:
                _respell(element)
