"""Targets `codec` and `query`: every body and every query of a call that comes in, for each of the calls.

Rules: a body is read, or refused as WireError with words of its own; the compiled reader, the reader without a cache and the slow one that
finds the path agree; what was read is a message, is the same when it is written and read again, and is what google.protobuf.json_format
reads where that can be compared.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import cast
from urllib.parse import quote

from golden.oracle import map_value, parse, same_raw_json
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from serai.wire.v1 import options_pb2
from serai_gateway.codec import Codec, WireError

from fuzz.reader import Reader, Wrong, choosing, chosen
from fuzz.seeds import Call, calls
from fuzz.trees import SPLICES, TEXTS, Trees

_TWICE = "expected each key once"
_UNEXPLAINED = "the body cannot be read"
_LONGEST_WORDS = 2_000
"""Of a refusal: it must not carry the body back."""
_COMPARED = 8
"""One body of so many is compared with json_format, which is slow; which ones is told by their bytes."""
_CACHED = Codec()
_PLAIN = Codec(cache_entries=0)

BODIES: tuple[Call, ...] = tuple(call for call in calls() if call.route.verb != "GET" and call.route.request.fields)
QUERIES: tuple[Call, ...] = tuple(call for call in calls() if call.route.verb == "GET" and call.route.request.fields)


def codec() -> Reader:
    """An input: which call, then the body."""
    seeds = [bytes([at]) + body for at, call in enumerate(BODIES) for body in call.bodies]

    def change(chance: random.Random) -> Callable[[bytes], bytes]:
        bodies = sorted({body for call in BODIES for body in call.bodies})
        return choosing(Trees(chance, bodies).body, len(BODIES), chance)

    return Reader("codec", seeds, change, _read_body)


def query() -> Reader:
    """An input: which call, then the query."""
    seeds = [bytes([at]) + b"&".join(pairs) for at in range(len(QUERIES)) for pairs in (_PAIRS, _PAIRS[:3], _PAIRS[-2:])]

    def change(chance: random.Random) -> Callable[[bytes], bytes]:
        return choosing(lambda text: changed_query(chance, text), len(QUERIES), chance)

    return Reader("query", seeds, change, _read_query)


def _read_body(content: bytes) -> str:
    at, body = chosen(content, len(BODIES))
    request = BODIES[at].route.request
    try:
        wire = _CACHED.read(request, body)
    except WireError as refused:
        _check_words(refused)
        try:
            _PLAIN.read(request, body)
        except WireError as alike:
            if str(alike) != str(refused):
                raise Wrong(f"with a cache: {refused}; without: {alike}") from alike
            return "refused"
        raise Wrong(f"refused with a cache of subtrees only: {refused}") from refused
    try:
        plain = _PLAIN.read(request, body)
    except WireError as refused:
        if _TWICE in refused.text:
            return "read"  # the first of two values of a subtree that is looked up by its bytes is not looked at
        raise
    if plain != wire:
        raise Wrong("read otherwise without a cache of subtrees")
    message = same_raw_json(GetMessageClass(request).FromString(wire))
    if not _says_all(message):
        return "read"
    again = same_raw_json(GetMessageClass(request).FromString(_CACHED.read(request, _CACHED.write(message))))
    if again != _filled_in(message):
        raise Wrong("written and read again, it is another message")
    if zlib.crc32(body) % _COMPARED == 0:
        _compare(BODIES[at], body, message)
    return "read"


def _check_words(refused: WireError) -> None:
    if refused.text == _UNEXPLAINED:
        raise Wrong("the compiled reader refuses what the slow one finds nothing wrong with")
    if len(str(refused)) > _LONGEST_WORDS:
        raise Wrong(f"a refusal of {len(str(refused))} characters")
    str(refused).encode()  # half a surrogate could not be answered


def _says_all(message: Message) -> bool:
    """UCloud's JSON has a form for each of its values. It has none for an unknown word in a list, or where one is required."""
    if not all(_says_all(inner) for inner in _messages_in(message)):
        return False
    for field in _fields(message):
        if field.enum_type is not None:
            value = getattr(message, field.name)
            if not all(value) if field.is_repeated else not value and _form(field).required:
                return False
    return True


def _forget_unknown_words(message: Message) -> None:
    """json_format sets an enum's zero value, where the codec leaves the field alone."""
    for field in _fields(message):
        if field.enum_type is not None and not field.is_repeated and not getattr(message, field.name):
            message.ClearField(field.name)
    for inner in _messages_in(message):
        _forget_unknown_words(inner)


def _fields(message: Message) -> list[FieldDescriptor]:
    # The type stubs of protobuf name the same class in two ways.
    return cast("list[FieldDescriptor]", list(message.DESCRIPTOR.fields))


def _form(field: FieldDescriptor) -> options_pb2.FieldForm:
    return field.GetOptions().Extensions[options_pb2.field]


def _lacks(message: Message) -> bool:
    """A message that is required is not there."""
    fields = _fields(message)
    if any(
        _form(one).required and one.message_type is not None and not one.is_repeated and not message.HasField(one.name) for one in fields
    ):
        return True
    return any(_lacks(inner) for inner in _messages_in(message))


def _filled_in(message: Message) -> Message:
    """A copy with the objects that are written for what is absent, so they come back."""
    copy = type(message)()
    copy.CopyFrom(message)
    _fill_in(copy)
    return copy


def _fill_in(message: Message) -> None:
    for field in _fields(message):
        if _form(field).null_rule == options_pb2.NULL_RULE_DEFAULT_OBJECT:
            cast("Message", getattr(message, field.name)).SetInParent()
    for inner in _messages_in(message):
        _fill_in(inner)


def _messages_in(message: Message) -> Iterator[Message]:
    """One step down: single ones, those of lists, and the values of maps."""
    for field, value in message.ListFields():
        values = map_value(field)
        if values is not None:
            yield from cast("Mapping[str, Message]", value).values() if values.message_type is not None else ()
        elif field.message_type is not None:
            yield from cast("list[Message]", value if field.is_repeated else [value])


def _compare(call: Call, body: bytes, message: Message) -> None:
    value = cast("object", json.loads(body))
    try:
        oracle = same_raw_json(parse(call.route.request, value))
    except (json_format.ParseError, KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError):
        return  # numbers as text: a form that standard JSON does not have
    _forget_unknown_words(oracle)
    if oracle != message and not _lacks(oracle):  # bare items: standard JSON does not have them either
        raise Wrong("json_format reads another message")


_PAIRS = [
    b"id=5123",
    b"itemsPerPage=50",
    b"next=abc%20d",
    b"includeOthers=false",
    b"includeProduct=true",
    b"filterProductId=x+y",
    b"sortBy=",
]


def _read_query(content: bytes) -> str:
    at, text = chosen(content, len(QUERIES))
    request = QUERIES[at].route.request
    try:
        GetMessageClass(request).FromString(_CACHED.read_query(request, text))
    except WireError as refused:
        _check_words(refused)
        return "refused"
    return "read"


def changed_query(chance: random.Random, text: bytes) -> bytes:
    pairs = text.split(b"&")
    at = chance.randrange(len(pairs))
    key, _, value = pairs[at].partition(b"=")
    match chance.randrange(8):
        case 0:
            pairs.append(pairs[chance.randrange(len(pairs))])
        case 1:
            del pairs[at]
        case 2 | 3:
            pairs[at] = key + b"=" + quote(chance.choice(TEXTS).encode("utf-8", "replace"), safe="").encode()
        case 4:
            pairs[at] = key + b"=" + value + chance.choice([*SPLICES, b"%", b"%f", b"%zz", b"%ff", b"%00", b"+", b";", b"=", b"#", b"?"])
        case 5:
            pairs[at] = chance.choice([*_PAIRS, b"includeUpdates=TRUE", b"hideCreatedBy=%0a", b"filterState=ready", b"sortDirection=x"])
        case 6:
            pairs = (pairs * chance.choice([2, 20, 2_000]))[:5_000]
        case _:
            pairs[at] = pairs[at][: chance.randrange(len(pairs[at]) + 1)] + chance.randbytes(chance.randrange(5))
    return b"&".join(pairs)
