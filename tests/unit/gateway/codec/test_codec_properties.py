"""Properties of the codec over messages and bodies that nobody thought of; strategies are made from the descriptors."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from golden.load import as_list, as_object, seed_request
from golden.oracle import map_value, parse, same_raw_json
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serai.jobs.v1 import jobs_service_pb2
from serai.wire.v1 import options_pb2
from serai_gateway.codec import Codec, WireError
from serai_gateway.codec.diagnosis import diagnose
from serai_gateway.codec.shape import Shapes
from serai_gateway.codec.text import byte_text
from serai_gateway.routes import ROUTES, Route

CODEC = Codec()
SHAPES = Shapes()
CREATE = jobs_service_pb2.CreateRequest.DESCRIPTOR
QUIET = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], max_examples=60, derandomize=True)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(["x" * 127, "é" * 64, "x" * 20_000, "\x00", '"\\/'])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
NUMBERS = [0, 1, -1, 127, 128, 2**14 - 1, 2**14, 2**28, 1633329776235, 2**42, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63)]
FLOATS = [0.0, -0.0, 1.0, -1.5, 1e-300, 1.7976931348623157e308, 0.1]
TEXTS = ["", "a", "é", "😀", "x" * 127, "é" * 64, "x" * 20_000, "\x00", "\x1f\x7f\u2028", '"\\/', "\\u00e9", "null", "Ã©"]
VALUES: list[Any] = [True, 7, 1.5, "text é", [], {}, [None, {"a": "\u0000é"}], {"é": [1]}]


def _scalar(field: FieldDescriptor, random: Random) -> Any:
    if field.enum_type is not None:
        return random.choice([value.number for value in field.enum_type.values if value.number])
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return random.choice(TEXTS)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return random.random() < 0.5
    if field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE:
        return random.choice([*FLOATS, random.uniform(-1e6, 1e6)])
    bits = 31 if field.cpp_type == FieldDescriptor.CPPTYPE_INT32 else 63
    return random.choice([*(one for one in NUMBERS if -(1 << bits) <= one < 1 << bits), random.randrange(-(1 << bits), 1 << bits)])


def _value(field: FieldDescriptor, random: Random) -> Any:
    form = field.GetOptions().Extensions[options_pb2.field]
    if form.scalar == options_pb2.SCALAR_FORM_RAW_JSON:
        return json.dumps(random.choice(VALUES), ensure_ascii=random.random() < 0.5)
    return _message(field.message_type, random) if field.message_type is not None else _scalar(field, random)


def _must_be_set(field: FieldDescriptor) -> bool:
    """A bulk request's items; and what would come back set: required messages, and those whose absence is spelled as an object."""
    form = field.GetOptions().Extensions[options_pb2.field]
    return field.name == "items" or form.required or form.null_rule == options_pb2.NULL_RULE_DEFAULT_OBJECT


def _message(descriptor: Descriptor, random: Random) -> Message:
    """Any message that UCloud's wire can say. From a Random, not from draws: a job has hundreds of them, and Hypothesis is slow at that."""
    message = GetMessageClass(descriptor)()
    form = descriptor.GetOptions().Extensions[options_pb2.message]
    fields = [random.choice(list(descriptor.fields))] if form.union_key else list(descriptor.fields)
    for field in fields:
        if field.GetOptions().Extensions[options_pb2.field].internal:
            continue  # never on Core's wire
        if not form.union_key and not _must_be_set(field) and random.random() < 0.4:
            continue
        inner = map_value(field)
        if inner is not None:
            for key in random.sample(TEXTS, random.randrange(3)):
                if inner.message_type is None:
                    getattr(message, field.name)[key] = _value(inner, random)
                else:
                    getattr(message, field.name)[key].CopyFrom(_value(inner, random))
        elif field.is_repeated:
            least = 1 if field.name == "items" else 0
            getattr(message, field.name).extend([_value(field, random) for _ in range(random.randint(least, 2))])
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(_value(field, random))
        else:
            setattr(message, field.name, _value(field, random))
    return message


SPOKEN = sorted({one.full_name: one for route in ROUTES for one in (route.request, route.response)}.values(), key=lambda one: one.full_name)


@pytest.mark.parametrize("descriptor", SPOKEN, ids=lambda one: one.name)
@given(random=st.randoms(use_true_random=True))
@settings(QUIET, max_examples=15)
def test_any_message_survives_json(descriptor: Descriptor, random: Random) -> None:
    """Written and read again, it is the same message, and json_format reads the JSON alike."""
    message = _message(descriptor, random)
    written = CODEC.write(message)
    # A raw JSON value may come back with its escapes spelled out, when the body has escapes.
    assert same_raw_json(type(message).FromString(CODEC.read(descriptor, written))) == same_raw_json(message)
    assert same_raw_json(parse(descriptor, json.loads(written))) == same_raw_json(message)
    # Spelled in ASCII with escapes, it is the same message too.
    escaped = json.dumps(json.loads(written), ensure_ascii=True).encode()
    assert same_raw_json(type(message).FromString(CODEC.read(descriptor, escaped))) == same_raw_json(message)


def _bulk_answers() -> list[Route]:
    return [route for route in ROUTES if route.answers]


@pytest.mark.parametrize("route", _bulk_answers(), ids=lambda route: route.method)
@given(random=st.randoms(use_true_random=True))
@settings(QUIET, max_examples=10)
def test_bulk_answers_differ_in_empty_elements_only(route: Route, random: Random) -> None:
    """write_bulk says what write says, but for elements without any field set."""
    message = _message(route.response, random)
    written = json.loads(CODEC.write_bulk(message, route.empty_element))["responses"]
    plain = json.loads(CODEC.write(message))["responses"]
    elements = list(message.responses)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType, reportUnknownMemberType, reportUnknownArgumentType] -- by reflection
    assert len(written) == len(plain) == len(elements)  # pyright: ignore[reportUnknownArgumentType] -- by reflection
    nothing: object = {} if route.empty_element == options_pb2.EMPTY_ELEMENT_OBJECT else None
    for element, one, other in zip(elements, written, plain, strict=True):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] -- by reflection
        assert one == (other if element.ByteSize() else nothing)  # pyright: ignore[reportUnknownMemberType] -- by reflection


def _containers(value: Any) -> list[dict[str, Any] | list[Any]]:
    """Every list and object of a tree that is not empty, the tree itself first."""
    entries, elements = as_object(value), as_list(value)
    found: list[dict[str, Any] | list[Any]] = [one for one in (entries, elements) if one]
    for inner in list((entries or {}).values()) + (elements or []):
        found += _containers(inner)
    return found


def _same_verdict(body: bytes) -> None:
    """The quick reader and the diagnosis agree; whatever is refused is refused as WireError."""
    shape = SHAPES.message(CREATE)
    try:
        wire = CODEC.read(CREATE, body)
    except WireError as wrong:
        assert wrong.text != "the body cannot be read", body
    else:
        jobs_service_pb2.CreateRequest.FromString(wire)
        assert diagnose(shape, byte_text(body), bulk=True).text == "the body cannot be read"


@given(data=st.data())
@settings(QUIET, max_examples=200)
def test_a_changed_tree_is_read_or_refused_with_a_reason(data: st.DataObject) -> None:
    """Any value of the seed replaced by any JSON: a message, or WireError that names what is wrong."""
    tree = json.loads(seed_request())
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.sampled_from(_containers(tree)))
        if isinstance(place, dict):
            place[data.draw(st.sampled_from(sorted(place)))] = data.draw(JSON)
        else:
            place[data.draw(st.integers(0, len(place) - 1))] = data.draw(JSON)
    _same_verdict(json.dumps(tree, ensure_ascii=data.draw(st.booleans())).encode())


@given(data=st.data())
@settings(QUIET, max_examples=200)
def test_changed_bytes_are_read_or_refused(data: st.DataObject) -> None:
    """Any bytes of the seed replaced by any others: never an exception but WireError."""
    body = bytearray(seed_request())
    start = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(start, min(start + 4, len(body))))
    body[start:end] = data.draw(
        st.binary(max_size=4) | st.sampled_from([b"\\u", b'\\u00e9"', b"\xc3\xa9", b"\\", b'"', b"null", b"1e9", b"{", b"-"])
    )
    _same_verdict(bytes(body))


@given(body=st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()))
@settings(QUIET, max_examples=100)
def test_any_bytes_are_refused(body: bytes) -> None:
    """Bytes from nowhere are no request."""
    with pytest.raises(WireError):
        CODEC.read(CREATE, body)
