"""The OpenAPI documents say what the gateway does: each path, each form that it reads, each form that it writes."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from contract import examples
from fakes import openapi
from fakes.whole_messages import empty, whole
from golden.load import INDEX, RECORDED, Golden, as_list, as_object, golden
from openapi_spec_validator import validate
from serai_gateway import errors
from serai_gateway.codec import Codec, WireError
from serai_gateway.routes import ROUTES, Route

CODEC = Codec()
INGOING = [route for route in ROUTES if route.ingoing]
GENERATIONS = ["ucloud-2021", "ucloud-2026"]
COMING_IN = [one for one in INDEX if one.direction == "ingoing" and one.kind in {"request", "response"}]


@pytest.mark.parametrize("name", [*GENERATIONS, "v1"])
def test_each_document_is_openapi(name: str) -> None:
    """By a validator of OpenAPI 3.1 that is not ours."""
    validate(openapi.document(name))  # pyright: ignore[reportArgumentType] - its own type of a document


@pytest.mark.parametrize("name", GENERATIONS)
def test_the_paths_are_the_routes(name: str) -> None:
    """Each call that comes in is there, and no other; a call without a token says so."""
    assert sorted(openapi.calls(name)) == sorted((route.verb, route.path) for route in INGOING)
    for route in INGOING:
        security = openapi.operation(name, route.verb, route.path)["security"]
        assert security == ([] if route.open else [{"user": []}] if route.users else [{"core": []}])


@pytest.mark.parametrize("one", COMING_IN, ids=lambda one: one.file)
@pytest.mark.parametrize("name", GENERATIONS)
def test_golden_messages_fit(name: str, one: Golden) -> None:
    """UCloud's documented and derived messages of ingoing calls fit the schemas of both documents: either form is taken at any time."""
    value = one.json
    if one.file == examples.OLDER:
        value["responses"][0]["maintenance"] = None
    kind = openapi.request if one.kind == "request" else openapi.answer
    assert kind(name, one.verb, one.path).faults(value) == []


@pytest.mark.parametrize("name", GENERATIONS)
def test_the_golden_error_fits(name: str) -> None:
    """The body of an error, as any call may answer it."""
    value = golden("derived-error-feature-not-supported.response.json")
    written = json.loads(CODEC.write(errors.message(next(iter(errors.TABLE.values())), "words")))
    for status in ("400", "401", "500", "503", "default"):
        check = openapi.answer(name, "POST", "/ucloud/{provider}/jobs", status)
        assert check.faults(written) == []
        assert check.faults({**written, **value}) == []


@pytest.mark.parametrize("file", RECORDED, ids=lambda file: file.stem)
@pytest.mark.parametrize("name", GENERATIONS)
def test_recorded_requests_fit(name: str, file: Any) -> None:
    """What today's Core really sent fits, in both documents."""
    recorded = json.loads(file.read_text())
    path = recorded["path"].replace("/PROVIDER/", "/{provider}/")
    if recorded["request"] is None:
        assert "requestBody" not in openapi.operation(name, recorded["method"], path)
    else:
        assert openapi.request(name, recorded["method"], path).faults(recorded["request"]) == []


@pytest.mark.parametrize("name", [*GENERATIONS, "v1"])
def test_examples_fit_their_schemas(name: str) -> None:
    """Each example of a document is one of its schema; there are some for most calls that have a body."""
    seen = 0
    for verb, path in openapi.calls(name):
        call = openapi.operation(name, verb, path)
        bodies = [call.get("requestBody", {}), *(answer for answer in call["responses"].values() if "content" in answer)]
        for content in (body["content"] for body in bodies if body):
            for media in content.values():
                for example in media.get("examples", {}).values():
                    seen += 1
                    assert openapi.Check(name, media["schema"]).faults(example["value"]) == [], (verb, path)
    assert seen > (5 if name == "v1" else 20)


@pytest.mark.parametrize("route", INGOING, ids=lambda route: f"{route.verb} {route.path}")
def test_what_is_written_fits(route: Route) -> None:
    """Answers with everything set and with nothing set, as the codec writes them."""
    check = openapi.answer("ucloud-2021", route.verb, route.path)
    messages = [empty(route.response), *whole(route.response)]
    if route.answers:
        several: Any = empty(route.response)
        several.responses.add()
        messages.append(several)
    for message in messages:
        if not message.ListFields() and "license" in route.response.fields_by_name:
            continue  # a license is never left out of its answer; the server says NOT_FOUND
        written = CODEC.write_bulk(message, route.empty_element) if route.answers else CODEC.write(message)
        assert check.faults(json.loads(written)) == []


def places(value: Any, depth: int, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Paths of the values below, down to a depth, once for each place in lists that are alike."""
    if path:
        yield path
    if len(path) == depth:
        return
    entries, elements = as_object(value), as_list(value)
    for key, inner in (entries or {}).items():
        yield from places(inner, depth, (*path, key))
    if elements:
        yield from places(elements[0], depth, (*path, 0))


def changed(value: Any, path: tuple[Any, ...], to: Any) -> Any:
    """A copy with another value at one place; `...` takes it out."""
    copied = copy.deepcopy(value)
    inner = copied
    for step in path[:-1]:
        inner = inner[step]
    if to is not ...:
        inner[path[-1]] = to
    else:
        del inner[path[-1]]
    return copied


ODD = [..., None, 7, -1, 1 << 40, 1 << 64, 0.5, "word", "7", "true", True, [], {}, [None], {"key": None}]


def codec_takes(route: Route, value: Any) -> bool:
    try:
        CODEC.read(route.request, json.dumps(value).encode())
    except WireError:
        return False
    return True


def changed_requests() -> list[Any]:
    found: dict[str, Any] = {}
    for one in COMING_IN:
        if one.kind == "request":
            found.setdefault(f"{one.verb} {one.path}", (one.verb, one.path, one.json))
    return [pytest.param(*value, id=key) for key, value in found.items()]


@pytest.mark.parametrize(("verb", "path", "value"), changed_requests())
def test_the_schemas_and_the_codec_have_one_verdict(verb: str, path: str, value: Any) -> None:
    """A golden request with another value at any one place is taken by both or refused by both.

    The one difference is meant: text that stands for a number is promised up to 18 digits, and read as far as it fits.
    """
    route = next(route for route in INGOING if (route.verb, route.path) == (verb, path))
    check = openapi.request("ucloud-2021", verb, path)
    verdicts: set[bool] = set()
    # Jobs are the same everywhere: their inside is looked at in one call.
    for place in places(value, 20 if path.endswith("/jobs") else 4):
        for odd in ODD:
            tried = changed(value, place, odd)
            takes = codec_takes(route, tried)
            assert check.takes(tried) == takes, (place, odd, check.faults(tried))
            verdicts.add(takes)
    assert verdicts == {True, False}


def test_suspend_takes_both_forms() -> None:
    """Bare jobs of 2021 and wrapped ones of today; an object that is neither is refused by the schema as by the codec."""
    route = next(route for route in INGOING if route.method.endswith("/Suspend"))
    check = openapi.request("ucloud-2021", "POST", "/ucloud/{provider}/jobs/suspend")
    job = golden("jobs-provider-03-jobs.request.json")["items"][0]
    tried: list[tuple[list[Any], bool]] = [([job], True), ([{"job": job}], True), ([{"job": job}, job], True), ([{}], False), ([], False)]
    for items, fits in tried:
        assert check.takes({"items": items}) == fits
        assert codec_takes(route, {"items": items}) == fits
