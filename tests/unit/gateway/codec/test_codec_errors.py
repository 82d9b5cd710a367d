"""What is wrong with a body, and where: the path and the words of WireError."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from golden.load import as_list, as_object, golden, seed_request
from serai.jobs.v1 import job_pb2, jobs_service_pb2
from serai_gateway.codec import Codec, WireError
from serai_gateway.codec.shape import FieldShape, Kind, MessageShape, Shapes

CODEC = Codec()
CREATE = jobs_service_pb2.CreateRequest.DESCRIPTOR
SUSPEND = jobs_service_pb2.SuspendRequest.DESCRIPTOR
SESSION = jobs_service_pb2.OpenInteractiveSessionRequest.DESCRIPTOR
SEED = json.loads(seed_request())
# Everything that the seed leaves null, filled in, so that each kind of field has a place in the tests.
FULL = copy.deepcopy(SEED)
JOB = FULL["items"][0]
JOB["specification"]["resources"] = [{"type": "file", "path": "/1/a", "readOnly": True}]
JOB["specification"]["parameters"]["n"] = {"type": "integer", "value": 7}
JOB["specification"]["parameters"]["f"] = {"type": "floating_point", "value": 1.5}
JOB["updates"] = [{"state": "RUNNING", "status": "x", "timestamp": 1, "expectedDifferentState": True}]
JOB["permissions"] = {"myself": ["READ"], "others": [{"entity": {"type": "user", "username": "u"}, "permissions": ["EDIT"]}]}
JOB["status"]["resolvedApplication"]["invocation"]["environment"] = {"A": {"type": "word", "word": "b"}}

Step = str | int


def refused(body: bytes, descriptor: Any = CREATE) -> WireError:
    with pytest.raises(WireError) as caught:
        CODEC.read(descriptor, body)
    return caught.value


def changed(steps: tuple[Step, ...], value: object, root: Any = FULL) -> bytes:
    """The body with the value at one place replaced."""
    body = copy.deepcopy(root)
    place = body
    for step in steps[:-1]:
        place = place[step]
    place[steps[-1]] = value
    return json.dumps(body).encode()


def wrong_for(field: FieldShape) -> list[object]:
    """Values of types that the field never takes."""
    match field.kind:
        case Kind.TEXT | Kind.ENUM:
            return [7, True, {}, []]
        case Kind.INTEGER:
            return [1.5, True, {}, [], *([] if field.lenient else ["7"]), field.high + 1, field.low - 1]
        case Kind.DOUBLE:
            return [True, {}, [], *([] if field.lenient else ["7"])]
        case Kind.BOOLEAN:
            return [7, {}, [], *([] if field.lenient else ["true"])]
        case Kind.MESSAGE:
            return [7, "x", True, []]
        case Kind.RAW_JSON:
            return []


def places(shape: MessageShape, value: Any, steps: tuple[Step, ...], path: str) -> Iterator[tuple[tuple[Step, ...], str, object]]:
    """Every value below `value` that can be of a wrong type, as (steps, path in the error's form, wrong value)."""
    if shape.union_key:
        yield (*steps, shape.union_key), f"{path}.{shape.union_key}", "no such tag"
        yield (*steps, shape.union_key), f"{path}.{shape.union_key}", 7
        shape = next(field.submessage for field in shape.fields if field.tag == value[shape.union_key])
    for field in () if shape.empty else shape.fields:
        here, where = (*steps, field.key), f"{path}.{field.key}".lstrip(".")
        if field.required:
            yield here, where, None
        one = value.get(field.key)
        if field.repeated or field.is_map:
            other_container: object = {} if field.repeated else []
            for wrong in (7, "x", other_container):
                yield here, where, wrong
            elements: list[tuple[Step, Any]] = [*enumerate(as_list(one) or []), *(as_object(one) or {}).items()]
            for key, element in elements:
                yield from _below(field, element, (*here, key), f"{where}[{json.dumps(key)}]")
        else:
            yield from _below(field, one, here, where)


def _below(field: FieldShape, value: Any, steps: tuple[Step, ...], path: str) -> Iterator[tuple[tuple[Step, ...], str, object]]:
    for wrong in wrong_for(field):
        yield steps, path, wrong
    if field.kind is Kind.MESSAGE and value is not None:
        yield from places(field.submessage, value, steps, path)


def test_a_wrong_type_is_refused_with_its_path_wherever_it_stands() -> None:
    """Each value of the seed's job, replaced by each wrong type, gives exactly its path: in cached subtrees, unions and maps too."""
    seen = 0
    for steps, path, wrong in places(Shapes().message(CREATE), FULL, (), ""):
        found = refused(changed(steps, wrong))
        assert found.path == path, (steps, wrong, found)
        assert found.text.startswith("expected "), found
        assert "found" in found.text, found
        seen += 1
    assert seen > 500


def test_paths_are_the_same_without_the_cache() -> None:
    """With the cache of subtrees off, one parse reads all; the verdicts do not change."""
    plain = Codec(cache_entries=0)
    for steps, path, wrong in list(places(Shapes().message(CREATE), FULL, (), ""))[::7]:
        with pytest.raises(WireError) as caught:
            plain.read(CREATE, changed(steps, wrong))
        assert caught.value.path == path


@pytest.mark.parametrize(
    ("body", "path", "text"),
    [
        (b"", "", "expected JSON: found an empty body"),
        (b"{}", "items", "expected a list of 1 to 1000 items, found no such key"),
        (b'{"items":null}', "items", "expected a list of 1 to 1000 items, found null"),
        (b'{"items":[]}', "items", "expected 1 to 1000 items, found 0"),
        (b'{"items":{}}', "items", "expected a list, found an object"),
        (b"[]", "", "expected an object, found a list"),
        (b"null", "", "expected an object, found null"),
        (b'{"items":[null]}', "items[0]", "expected an object, found null"),
        (b'{"items":[{}]}', "items[0].id", "expected a text, found no such key"),
        (b'{"items":"\xff"}', "", "expected UTF-8, found a broken character at byte 10"),
    ],
)
def test_the_words_for_bodies_that_are_no_bulk_request(body: bytes, path: str, text: str) -> None:
    """A person is told what was expected and what was found."""
    found = refused(body)
    assert (found.path, found.text) == (path, text)


def test_one_to_a_thousand_items() -> None:
    """1,000 items are read; one more is refused."""
    item = {"id": "1", "owner": SEED["items"][0]["owner"], "specification": SEED["items"][0]["specification"]}
    assert len(jobs_service_pb2.CreateRequest.FromString(CODEC.read(CREATE, json.dumps({"items": [item] * 1000}).encode())).items) == 1000
    found = refused(json.dumps({"items": [item] * 1001}).encode())
    assert (found.path, found.text) == ("items", "expected 1 to 1000 items, found 1001")


@pytest.mark.parametrize(
    "body",
    [
        b'{"items":[{"id":NaN}]}',
        b'{"items":[{"id":"\\ud800"}]}',
        b'{"items":[{"id":"a\nb"}]}',
        b'{"items":[{"id":"a"',
        b'{"items":[]} x',
        b"\xef\xbb\xbf{}",
        b'{"items":' + b"[" * 100_000,
        b'{"items":' + b'{"items":' * 100_000 + b"1" + b"}" * 100_001,
        b'{"items":[{"createdAt":' + b"9" * 5000 + b"}]}",
        b'{"items":[{"unknown":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}",
        b'{"items":[{"status":{"jobParametersJson":' + b"[" * 100_000 + b"]" * 100_000 + b"}}]}",
        seed_request().replace(b'"startedAt":null', b'"startedAt":-Infinity'),
        seed_request().replace(b'"startedAt":null', b'"startedAt":1e999'),
    ],
    ids=range(13),
)
def test_broken_json_is_a_wire_error(body: bytes) -> None:
    """Whatever the bytes, the codec raises WireError: no RecursionError, no UnicodeError, no OverflowError."""
    refused(body)


def test_words_never_repeat_the_content() -> None:
    """A body may hold what a log must not."""
    secret = "s3cr3t-value"
    for steps in (
        ("items", 0, "createdAt"),
        ("items", 0, "specification", "parameters", "debug", "type"),
        ("items", 0, "specification", "parameters", "debug", "value"),
        ("items", 0, "specification", "replicas"),
    ):
        found = refused(changed(steps, secret))
        assert secret not in str(found)


def test_a_key_in_the_path_is_quoted_and_cut() -> None:
    """Names of parameters are the user's: quoted as JSON, as they were meant, no longer than needed to find them."""
    for name, quoted in (('a"b', '"a\\"b"'), ("größe", '"größe"'), ("x" * 100, '"' + "x" * 64 + '…"')):
        found = refused(changed(("items", 0, "specification", "parameters", name), {"type": "text", "value": 7}))
        assert found.path == f"items[0].specification.parameters[{quoted}].value"


def test_null_and_missing_are_unset_unless_required() -> None:
    """Every field that is not required may be null or missing."""
    shape = Shapes().message(job_pb2.Job.DESCRIPTOR)
    optional = [field.key for field in shape.fields if not field.required]
    least = {key: value for key, value in JOB.items() if key not in optional}
    nulls = least | dict.fromkeys(optional)
    wires = [CODEC.read(CREATE, json.dumps({"items": [item]}).encode()) for item in (least, nulls)]
    assert wires[0] == wires[1]
    assert not jobs_service_pb2.CreateRequest.FromString(wires[0]).items[0].HasField("status")


def test_an_unknown_word_of_a_lenient_enum_reads_as_unset() -> None:
    """As Core's own readers do; a strict enum is refused with its words."""
    body = changed(("items", 0, "status", "state"), "FROM_THE_FUTURE")
    assert jobs_service_pb2.CreateRequest.FromString(CODEC.read(CREATE, body)).items[0].status.state == job_pb2.JOB_STATE_UNSPECIFIED
    session = golden("derived-jobs-provider-interactiveSession.request.json")
    found = refused(changed(("items", 0, "sessionType"), "TELEPATHY", session), SESSION)
    assert (found.path, found.text) == ("items[0].sessionType", "expected one of WEB, VNC, SHELL, found another text")


@pytest.mark.parametrize(
    ("parameter", "value", "expected"),
    [
        ({"type": "integer", "value": "-7"}, "integer", -7),
        ({"type": "integer", "value": 7}, "integer", 7),
        ({"type": "floating_point", "value": "2.5e1"}, "floating_point", 25.0),
        ({"type": "floating_point", "value": 2}, "floating_point", 2.0),
        ({"type": "boolean", "value": "true"}, "boolean", True),
        ({"type": "boolean", "value": "false"}, "boolean", False),
    ],
)
def test_text_that_stands_for_a_number_or_boolean(parameter: Any, value: str, expected: object) -> None:
    """Today's Core sends values of parameters as text; they are read as what they stand for."""
    body = changed(("items", 0, "specification", "parameters"), {"p": parameter})
    read = jobs_service_pb2.CreateRequest.FromString(CODEC.read(CREATE, body)).items[0].specification.parameters["p"]
    assert getattr(read, value).value == expected


@pytest.mark.parametrize(
    "parameter",
    [
        {"type": "integer", "value": "7.0"},
        {"type": "integer", "value": "٣"},
        {"type": "integer", "value": ""},
        {"type": "integer", "value": "9223372036854775808"},
        {"type": "floating_point", "value": "nan"},
        {"type": "floating_point", "value": "1e999"},
        {"type": "floating_point", "value": "1_0"},
        {"type": "boolean", "value": "yes"},
    ],
)
def test_text_that_stands_for_nothing_is_refused(parameter: Any) -> None:
    """With the path of the value, although msgspec let the text through."""
    found = refused(changed(("items", 0, "specification", "parameters"), {"p": parameter}))
    assert found.path == 'items[0].specification.parameters["p"].value'


def test_bare_and_wrapped_items_of_suspend() -> None:
    """2021 sends jobs, today's Core sends {job}; both may stand in one request, and paths are as the sender wrote them."""
    job = SEED["items"][0]
    both = json.dumps({"items": [job, {"job": job}]}).encode()
    read = jobs_service_pb2.SuspendRequest.FromString(CODEC.read(SUSPEND, both))
    assert read.items[0] == read.items[1]
    assert read.items[0].job.id == "54112"
    for index, path in ((0, "items[0].createdAt"), (1, "items[1].job.createdAt")):
        broken = [job, {"job": job}]
        broken[index] = broken[index] | {"createdAt": "x"} if index == 0 else {"job": job | {"createdAt": "x"}}
        assert refused(json.dumps({"items": broken}).encode(), SUSPEND).path == path
    assert refused(b'{"items":[{"x":1}]}', SUSPEND).path == "items[0].job"
    assert refused(b'{"items":[7]}', SUSPEND).path == "items[0]"
    assert refused(b'{"items":[]}', SUSPEND).path == "items"
    assert refused(b'{"items":', SUSPEND).path == ""


@pytest.mark.parametrize("name", ["Extend", "Suspend", "Unsuspend", "Terminate"])
def test_the_tools_way_to_name_jobs_is_not_on_the_wire(name: str) -> None:
    """Its keys are passed over as unknown ones are, beside items, and alone they are no request."""
    request = getattr(jobs_service_pb2, f"{name}Request")
    job = SEED["items"][0]
    item = job if name == "Terminate" else {"job": job, "requestedTime": {"hours": 1, "minutes": 0, "seconds": 0}}
    tools = {"jobIds": ["tool-1"], "job_ids": ["tool-1"], "addedMs": 1_000}
    read = request.FromString(CODEC.read(request.DESCRIPTOR, json.dumps({"items": [item], **tools}).encode()))
    assert {field.name for field, _ in read.ListFields()} == {"items"}
    assert refused(json.dumps(tools).encode(), request.DESCRIPTOR).path == "items"


@pytest.mark.parametrize(
    ("before", "after", "path", "key"),
    [
        (b'"name":"acme-batch"', b'"name":5,"name":"acme-batch"', "items[0].specification.application", "name"),
        (b'"value":{"type":"text"', b'"value":{"type":"text"},"value":{"type":"text"', "items[0].specification.parameters", "value"),
        (b'"replicas":1', b'"replicas":1.5,"replicas":1', "items[0].specification", "replicas"),
    ],
)
def test_a_key_that_stands_there_twice_is_named(before: bytes, after: bytes, path: str, key: str) -> None:
    """Of two values both must be good. When the first is not, the words name the key: the last is all that the rest of the path shows."""
    body = seed_request()
    assert before in body
    found = refused(body.replace(before, after, 1))
    assert (found.path, found.text) == (path, f'expected each key once, found "{key}" more than once')
