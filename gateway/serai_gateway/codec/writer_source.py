"""Python source of the writers: one function for each message, from protobuf's message to a tree of Structs that msgspec spells as JSON.

As for the readers, the source is straight-line code. A Struct's fields are the JSON's keys in the order of the message, a tag is the
union's discriminator, None is null, and UNSET leaves a key out. Texts and numbers are handed over as they are: quoting is msgspec's work.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import cast

import msgspec

from serai_gateway.codec.shape import Absent, FieldShape, Kind, MessageShape

_MAKE_STRUCT = cast("Callable[..., type[msgspec.Struct]]", msgspec.defstruct)


class Words(dict[int, str | None]):
    """Number of an enum's value to its short name; None for the zero value and for numbers that this build does not know."""

    def __missing__(self, number: int) -> None:
        return None


def raw_json(text: str) -> msgspec.Raw | None:
    """JSON text as a value; '' is null."""
    return msgspec.Raw(text.encode()) if text else None


class WriterSource:
    """Collects functions and the classes and tables that they use. `namespace` is what the source is to be run in."""

    def __init__(self) -> None:
        self.namespace: dict[str, object] = {"raw_json": raw_json, "UNSET": msgspec.UNSET, "KEY": itemgetter(0)}
        self.functions: dict[str, str] = {}
        self._taken: set[str] = set()

    def take(self) -> str:
        """The source of the functions that were added since the last call."""
        new = [name for name in self.functions if name not in self._taken]
        self._taken.update(new)
        return "\n\n".join(self.functions[name] for name in new)

    def add(self, message: MessageShape) -> str:
        """Writes the function of a message and of all below it; its name."""
        name = f"write_{message.identifier}"
        if name not in self.functions:
            self.functions[name] = ""  # keeps the place: callers come before what they call
            if message.union_key:
                self.functions[name] = self._union(name, message)
            elif message.only:
                self.functions[name] = _function(name, [f"return {self._field(message.fields[0], 'm')}"])
            else:
                self.functions[name] = _function(name, [f"return {self._object(message, 'm', '', '')}"])
        return name

    def _union(self, name: str, message: MessageShape) -> str:
        source: list[str] = []
        entries: list[str] = []
        for field in message.fields:
            member = f"{name}_{field.name}"
            made = self._object(field.submessage, "m", message.union_key, field.tag)
            source.append(_function(member, [f"m = m.{field.name}", f"return {made}"]))
            entries.append(f"    {field.name!r}: {member},\n")
        source.append(f"MEMBERS_{message.identifier} = {{\n    None: lambda m: None,\n{''.join(entries)}}}\n")
        source.append(_function(name, [f"return {self._call(message, 'm')}"]))
        return "\n".join(source)

    def _call(self, message: MessageShape, value: str) -> str:
        name = self.add(message)
        return f"MEMBERS_{message.identifier}[{value}.WhichOneof({message.oneof!r})]({value})" if message.union_key else f"{name}({value})"

    def _object(self, message: MessageShape, local: str, tag_field: str, tag: str) -> str:
        """The expression of the Struct for the message in the variable `local`."""
        struct = f"{tag or 'Object'}_{message.identifier}"
        self.namespace[struct] = _struct(struct, message, tag_field, tag)
        fields = () if message.empty else message.fields
        values = "".join(f"{_NEW_LINE}{self._field(field, local)}," for field in fields)
        # Looking a method up costs more than calling it: the first use binds it. What stands first is evaluated first, and always.
        has = f"{local}.HasField("
        if values.count(has) > 1:
            values = values.replace(has, f"({local}_has := {local}.HasField)(", 1).replace(has, f"{local}_has(")
        return f"{struct}({values})"

    def _field(self, field: FieldShape, local: str) -> str:
        """The expression of a field's value. Slices are lists, which are several times quicker to walk than protobuf's containers."""
        value = f"{local}.{field.name}"
        if field.is_map:
            # protobuf's maps have no order; sorted, equal messages give equal JSON.
            entries = f"{local}_{field.number}"
            found = f"({{k: {self._one(field, 'x')} for k, x in sorted({entries}.items(), key=KEY)}} if ({entries} := {value}) else {{}})"
            return f"{found} or {_NOTHING[field.absent]}" if field.absent in _NOTHING else found
        if field.repeated:
            several = f"{local}_{field.number}"
            nothing = _NOTHING.get(field.absent, "[]")
            if field.kind in _AS_THEY_ARE:
                return f"{several}[:] if ({several} := {value}) else {nothing}"
            return f"[{self._one(field, 'x')} for x in {several}[:]] if ({several} := {value}) else {nothing}"
        if field.kind is Kind.MESSAGE:
            return self._message(field, local)
        one = self._one(field, value)
        return f"{one} if {local}.HasField({field.name!r}) else {self._absent(field)}" if field.presence and not field.required else one

    def _message(self, field: FieldShape, local: str) -> str:
        value = f"{local}.{field.name}"
        # A required message is never null on the wire: one that was not set is written as one with nothing in it.
        test = "" if field.required else f"{local}.HasField({field.name!r})"
        absent = self._absent(field)
        if not field.submessage.is_small:
            call = self._call(field.submessage, value)
            return f"{call} if {test} else {absent}" if test else call
        # Small messages are made in place: a call costs as much as two fields.
        inner = f"{local}_{field.number}"
        made = self._object(field.submessage, inner, "", "")
        bound = f"({inner} := {value}) is not None"
        return f"{made} if {f'{test} and {bound}' if test else bound} else {absent}"

    def _one(self, field: FieldShape, value: str) -> str:
        match field.kind:
            case Kind.MESSAGE:
                return self._call(field.submessage, value)
            case Kind.ENUM:
                table = f"WORDS_{field.words.full_name.replace('.', '_')}"
                self.namespace[table] = Words(field.words.names)
                return f"{table}[{value}]"
            case Kind.RAW_JSON:
                return f"raw_json({value})"
            case Kind.TEXT | Kind.INTEGER | Kind.DOUBLE | Kind.BOOLEAN:
                return value

    def _absent(self, field: FieldShape) -> str:
        if field.absent is Absent.DEFAULT_OBJECT and field.message is not None:
            name = f"NOTHING_{field.message.identifier}"
            self.namespace[name] = nothing_set(field.message)
            return name
        return _NOTHING.get(field.absent, "None")


_NEW_LINE = "\n        "
_AS_THEY_ARE = {Kind.TEXT, Kind.INTEGER, Kind.DOUBLE, Kind.BOOLEAN}
_NOTHING = {Absent.NULL_WHEN_EMPTY: "None", Absent.OMIT: "UNSET"}


def nothing_set(message: MessageShape) -> object:
    """The JSON of a message without any field set."""
    if message.only:
        return _nothing(message.fields[0])
    if message.empty or message.union_key:
        return {}
    return {field.key: _nothing(field) for field in message.fields if field.absent is not Absent.OMIT}


def _nothing(field: FieldShape) -> object:
    if field.is_map or field.repeated:
        empty: object = {} if field.is_map else []
        return None if field.absent is Absent.NULL_WHEN_EMPTY else empty
    if field.absent is Absent.DEFAULT_OBJECT and field.message is not None:
        return nothing_set(field.message)
    return None if field.presence else {Kind.TEXT: "", Kind.BOOLEAN: False, Kind.DOUBLE: 0.0, Kind.INTEGER: 0}.get(field.kind)


def _struct(name: str, message: MessageShape, tag_field: str, tag: str) -> type[msgspec.Struct]:
    fields = [] if message.empty else [(f"f{field.number}", object, msgspec.field(name=field.key)) for field in message.fields]
    return _MAKE_STRUCT(name, fields, gc=False, tag_field=tag_field or None, tag=tag or None)


def _function(name: str, lines: list[str]) -> str:
    return f"def {name}(m):\n" + "".join(f"    {line}\n" for line in lines)
