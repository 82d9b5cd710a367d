"""The codec's parts: the cache of subtrees, respelled bodies, shapes and forms that the golden messages do not show."""

from __future__ import annotations

import json
from collections.abc import Iterable

import msgspec
import pytest
from golden.load import seed_request
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import Descriptor
from serai.events.v1 import events_service_pb2
from serai.jobs.v1 import application_pb2, job_pb2, jobs_service_pb2
from serai_gateway.codec import Codec, WireError
from serai_gateway.codec.shape import Shapes, enum_prefix
from serai_gateway.codec.subtrees import SubtreeTable
from serai_gateway.codec.text import byte_text, plain
from serai_gateway.codec.wire import RefusedError, varint

CREATE = jobs_service_pb2.CreateRequest.DESCRIPTOR


def table(*, most_entries: int = 4, most_bytes: int = 1000, required: bool = False) -> tuple[SubtreeTable, list[str]]:
    """A table whose subtrees are texts, and what it had to make."""
    made: list[str] = []

    def write(value: object) -> str:
        made.append(str(value))
        return str(value)

    decode = msgspec.json.Decoder(str).decode
    subtrees = SubtreeTable(2, decode, lambda: (write, write), required=required, most_entries=most_entries, most_bytes=most_bytes)
    return subtrees, made


def raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(text).encode())


def twice(subtrees: SubtreeTable, texts: Iterable[str]) -> None:
    """Shows each text to the table twice, with all others in between."""
    for text in (*texts, *texts):
        subtrees(raw(text))


def test_a_repeated_subtree_is_made_once() -> None:
    """The second time in a row its piece is at hand; after others in between, from the third time on."""
    subtrees, made = table()
    assert [subtrees(raw(text)) for text in ("a", "a", "b", "a", "b", "a")] == [f"\x12\x01{text}" for text in "aababa"]
    assert made == ["a", "b", "a", "b"]


def test_what_comes_once_is_not_kept() -> None:
    """A thousand strangers neither fill the table nor drive out what comes often; their marks are bounded too."""
    subtrees, made = table()
    twice(subtrees, ("often",))
    subtrees(raw("x"))
    subtrees(raw("often"))
    for number in range(1000):
        subtrees(raw(str(number)))
    assert len(subtrees) == 1
    made.clear()
    subtrees(raw("often"))
    assert made == []


def test_the_table_keeps_to_its_bounds() -> None:
    """The oldest go first, by number and by bytes; what is too large by itself is not kept."""
    subtrees, made = table(most_entries=2)
    twice(subtrees, ("a", "b", "c"))
    assert len(subtrees) == 2
    made.clear()
    for text in ("b", "a"):
        subtrees(raw(text))
    assert made == ["a"]
    subtrees, made = table(most_entries=1000, most_bytes=1000)
    twice(subtrees, [f"{number:030d}" for number in range(100)])
    assert 0 < subtrees.size_bytes <= 1000
    size = subtrees.size_bytes
    twice(subtrees, ("x" * 500, "y"))
    assert 0 < subtrees.size_bytes <= size + 10
    subtrees.clear()
    assert (len(subtrees), subtrees.size_bytes) == (0, 0)


def test_null_is_no_subtree() -> None:
    """null is an unset field, or refused where the field is required."""
    subtrees, made = table()
    assert subtrees(msgspec.Raw(b"null")) == ""
    assert made == []
    with pytest.raises(RefusedError):
        table(required=True)[0](msgspec.Raw(b"null"))


def test_the_codec_keeps_to_the_bounds_of_its_cache() -> None:
    """However many applications come by, the cache stays as small as it was told."""
    codec = Codec(cache_entries=8, cache_bytes=20_000)
    body = seed_request()
    for number in (one + turn for one in range(0, 50, 2) for turn in (0, 1, 0, 1)):
        one = body.replace(b"An example application", f"application {number}".encode())
        read = jobs_service_pb2.CreateRequest.FromString(codec.read(CREATE, one))
        assert read.items[0].status.resolved_application.metadata.description == f"application {number}"
    assert 0 < codec.cached_bytes <= 3 * 20_000


def test_a_cached_subtree_reads_as_it_did_the_first_time() -> None:
    """Cold, warm and without a cache: the same wire."""
    codec, plain_codec, body = Codec(), Codec(cache_entries=0), seed_request()
    cold, warm = codec.read(CREATE, body), codec.read(CREATE, body)
    assert cold == warm == plain_codec.read(CREATE, body)
    codec.clear()
    assert codec.read(CREATE, body) == cold


def test_a_large_subtree_is_read_too() -> None:
    """Lengths of three bytes, inside the cached part and outside of it."""
    codec = Codec()
    long = "é" * 40_000
    body = seed_request().replace(b"An example application", long.encode()).replace(b'"name":null', f'"name":"{long}"'.encode())
    job = jobs_service_pb2.CreateRequest.FromString(codec.read(CREATE, body)).items[0]
    assert job.status.resolved_application.metadata.description == long
    assert job.specification.name == long


@pytest.mark.parametrize(
    ("body", "spelled"),
    [
        ('{"a":"b"}', '{"a":"b"}'),
        ('"\\n\\u0041\\u0000"', '"\\n\\u0041\\u0000"'),
        ('"é"', '"Ã©"'),
        ('"\\u00e9"', '"Ã©"'),
        ('"\\\\u00e9"', '"\\\\u00e9"'),
        ('"\\\\\\u00e9"', '"\\\\Ã©"'),
        ('"\\ud83d\\ude00"', '"ð\x9f\x98\x80"'),
        ('"\\ud800x"', '"\\ud800x"'),
        ('"\\uzzzz"', '"\\uzzzz"'),
    ],
)
def test_bodies_are_respelled_with_one_character_for_each_byte(body: str, spelled: str) -> None:
    """Escapes of ASCII and broken ones stay for the JSON reader."""
    assert byte_text(body.encode()).decode() == spelled


def test_plain_undoes_the_respelling() -> None:
    """What people read in a path is what was sent."""
    assert plain(json.loads(byte_text('"größe😀"'.encode()))) == "größe😀"


@pytest.mark.parametrize("number", [0, 127, 128, 300, 2**31, 2**63 - 1, -1, -(2**63)])
def test_varints_are_protobufs(number: int) -> None:
    """Protobuf reads them as the number that they were made of."""
    wire = ("\x08" + varint(number)).encode("latin-1")
    assert events_service_pb2.Event.FromString(wire).sequence == number


def test_an_omitted_key_is_left_out() -> None:
    """NULL_RULE_OMIT: no key when unset, the key when set."""
    codec = Codec()
    item = jobs_service_pb2.OpenInteractiveSessionItem(rank=1, session_type=jobs_service_pb2.INTERACTIVE_SESSION_TYPE_SHELL)
    assert "target" not in json.loads(codec.write(item))
    item.target = "t"
    assert json.loads(codec.write(item))["target"] == "t"


def test_a_message_that_no_route_uses_is_compiled_when_it_is_first_used() -> None:
    """Reading and writing work for any message that UCloud's wire has a form for."""
    codec = Codec(routes=())
    update = job_pb2.JobUpdate(state=job_pb2.JOB_STATE_RUNNING, timestamp=5)
    written = codec.write(update)
    assert job_pb2.JobUpdate.FromString(codec.read(job_pb2.JobUpdate.DESCRIPTOR, written)) == update
    assert "def read_serai_jobs_v1_JobUpdate" in codec.source(job_pb2.JobUpdate.DESCRIPTOR)


def test_what_this_build_does_not_know_is_null() -> None:
    """An enum's unknown number, and a union with nothing in it, which another version may have sent."""
    codec = Codec()
    update = job_pb2.JobUpdate.FromString(b"\x08\x63")
    assert json.loads(codec.write(update))["state"] is None
    assert codec.write(application_pb2.AppParameterValue()) == b"null"


def test_unknown_numbers_of_enums_in_lists_are_zero_values() -> None:
    """An unknown permission reads as the zero value, so that the list keeps its length."""
    body = json.dumps({"myself": ["READ", "FROM_THE_FUTURE"], "others": None}).encode()
    codec = Codec()
    message = job_pb2.Job.DESCRIPTOR.fields_by_name["permissions"].message_type
    assert message is not None
    assert codec.read(message, body) == b"\x0a\x02\x01\x00"


def _file(*messages: descriptor_pb2.DescriptorProto) -> dict[str, Descriptor]:
    pool = descriptor_pool.DescriptorPool()
    file = descriptor_pb2.FileDescriptorProto(name="odd.proto", package="odd", syntax="proto3", message_type=messages)
    pool.Add(file)  # pyright: ignore[reportUnknownMemberType] -- the stub leaves the result open
    return {one.name: pool.FindMessageTypeByName(f"odd.{one.name}") for one in messages}


def _message(name: str, kind: int, type_name: str = "") -> descriptor_pb2.DescriptorProto:
    field = descriptor_pb2.FieldDescriptorProto(name="a", number=1, label=1, type=kind, type_name=type_name or None)  # pyright: ignore[reportArgumentType] -- numbers of an enum
    return descriptor_pb2.DescriptorProto(name=name, field=[field])


@pytest.mark.parametrize(
    "message",
    [_message("Bytes", 12), _message("Unsigned", 13), _message("ZigZag", 18), _message("Float", 2), _message("Self", 11, ".odd.Self")],
    ids=lambda message: message.name,
)
def test_what_ucloud_has_no_form_for_is_refused_when_it_is_compiled(message: descriptor_pb2.DescriptorProto) -> None:
    """Bytes, odd numbers and messages that hold themselves: TypeError at start, not wrong bytes later."""
    descriptor = _file(message)[message.name]
    with pytest.raises(TypeError, match=r"no form|holds itself"):
        Shapes().message(descriptor)


def test_the_prefix_of_an_enums_values() -> None:
    """As buf's lint wants it."""
    assert enum_prefix("JobState") == "JOB_STATE_"


def test_a_wire_error_shows_its_place() -> None:
    """In a log, path and words stand together; without a path the words stand alone."""
    assert str(WireError("items[0].id", "expected a text")) == "items[0].id: expected a text"
    assert str(WireError("", "expected JSON")) == "expected JSON"
