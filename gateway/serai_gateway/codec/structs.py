"""msgspec Structs for shapes: they carry the names, types, ranges, required keys and union tags, which msgspec checks in C.

Made once at start. `gc=False` because the graph of one body has no cycles and dies with its request.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable
from typing import Annotated, Literal, Union, cast

import msgspec

from serai_gateway.codec.shape import FieldShape, Kind, MessageShape

# What stands for a type in msgspec's eyes: a class or a typing form. The checker has no name for both.
TypeForm = object

NULL = msgspec.Raw(b"null")
_MAKE_STRUCT = cast("Callable[..., type[msgspec.Struct]]", msgspec.defstruct)


def attribute(field: FieldShape) -> str:
    """The Struct's attribute for a field."""
    return f"{field.name}_" if keyword.iskeyword(field.name) else field.name


class Structs:
    """Structs by message and union tag. `cached` = fields that repeat are kept as raw JSON, for the cache of subtrees."""

    def __init__(self, *, cached: bool) -> None:
        self._cached = cached
        self._made: dict[tuple[str, str], type[msgspec.Struct]] = {}

    def is_cached(self, field: FieldShape) -> bool:
        """The field is read as raw JSON and looked up in the cache."""
        return self._cached and field.repeats and field.kind is Kind.MESSAGE and not field.repeated and not field.is_map

    def plain(self, message: MessageShape) -> TypeForm:
        """The type of a message's JSON: one Struct, a union of tagged Structs, or what its only field is."""
        if message.only:
            return self._only(message.fields[0])
        if not message.union_key:
            return self._struct(message, "", "")
        members = tuple(self.member(message, field) for field in message.fields)
        return Union[members]  # noqa: UP007  # pyright: ignore[reportInvalidTypeForm, reportInvalidTypeArguments] -- made at run time

    def _only(self, field: FieldShape) -> TypeForm:
        form = self._form(field)
        if field.required or field.repeated or field.is_map:
            return form
        return Union[form, None]  # noqa: UP007  # pyright: ignore[reportInvalidTypeForm, reportInvalidTypeArguments] -- made at run time

    def member(self, union: MessageShape, field: FieldShape) -> type[msgspec.Struct]:
        """The tagged Struct of a union's member."""
        return self._struct(field.submessage, union.union_key, field.tag)

    def _struct(self, message: MessageShape, tag_field: str, tag: str) -> type[msgspec.Struct]:
        key = (message.full_name, f"{tag_field}={tag}" if tag_field else "")
        made = self._made.get(key)
        if made is None:
            fields = [] if message.empty else [self._member_of(field) for field in message.fields]
            made = _MAKE_STRUCT(
                f"{message.identifier}_{tag}" if tag else message.identifier,
                fields,
                kw_only=True,
                gc=False,
                tag_field=tag_field or None,
                tag=tag or None,
            )
            self._made[key] = made
        return made

    def _member_of(self, field: FieldShape) -> tuple[str, TypeForm, TypeForm]:
        if self.is_cached(field):
            if field.required:
                return attribute(field), msgspec.Raw, msgspec.field(name=field.key)
            return attribute(field), msgspec.Raw, msgspec.field(name=field.key, default=NULL)
        form = self._form(field)
        if field.required:
            return attribute(field), form, msgspec.field(name=field.key)
        if field.kind is Kind.RAW_JSON and not (field.repeated or field.is_map):
            return attribute(field), form, msgspec.field(name=field.key, default=NULL)
        nullable = Union[form, None]  # noqa: UP007  # pyright: ignore[reportInvalidTypeForm, reportInvalidTypeArguments] -- made at run time
        return attribute(field), nullable, msgspec.field(name=field.key, default=None)

    def _form(self, field: FieldShape) -> TypeForm:
        value = self._value(field)
        if field.repeated:
            return list[value]  # pyright: ignore[reportInvalidTypeForm] -- made at run time
        if field.is_map:
            return dict[str, value]  # pyright: ignore[reportInvalidTypeForm] -- made at run time
        return value

    def _value(self, field: FieldShape) -> TypeForm:
        match field.kind:
            case Kind.MESSAGE:
                form = self.plain(field.submessage)
            case Kind.INTEGER:
                number = Annotated[int, msgspec.Meta(ge=field.low, le=field.high)]
                form = number | str if field.lenient else number
            case Kind.DOUBLE:
                form = float | str if field.lenient else float
            case Kind.BOOLEAN:
                form = bool | str if field.lenient else bool
            case Kind.ENUM if field.words.strict:
                form = Literal[tuple(field.words.numbers)]  # pyright: ignore[reportInvalidTypeForm] -- made at run time
            case Kind.TEXT | Kind.ENUM:
                form = str
            case Kind.RAW_JSON:
                form = msgspec.Raw
        return form
