"""The document of `/v1` and a real Envoy say the same: each way, each place of a field, each form of an answer."""

from __future__ import annotations

import json
from urllib.parse import quote, urlencode

import grpc
import pytest
from contract.files import descriptor_set, own_files
from contract.served import Binding, Served, query_fields, served
from fakes import openapi
from fakes.whole_messages import whole
from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from .conftest import AS_TOOL, Front

WAYS = [(one, binding) for one in served(own_files(descriptor_set())) for binding in one.bindings]


def named(one: object) -> str:
    return one.method.full_name if isinstance(one, Served) else f"{one.verb} {one.path}" if isinstance(one, Binding) else ""


def in_query(message: Message, binding: Binding) -> list[tuple[str, str]]:
    """What the document says may stand there, as texts."""
    standard = json_format.MessageToDict(message)
    found: list[tuple[str, str]] = []
    for key, _ in query_fields(message.DESCRIPTOR, binding.variables):  # pyright: ignore[reportArgumentType] - upb's own class
        value: object = standard
        for step in key.split("."):
            value = value.get(step) if isinstance(value, dict) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        values: list[object] = value if isinstance(value, list) else [value]  # pyright: ignore[reportUnknownVariableType]
        found += [(key, json.dumps(one) if isinstance(one, bool) else str(one)) for one in values if one is not None]
    return found


@pytest.mark.parametrize(("one", "binding"), WAYS, ids=named)
async def test_each_way(front: Front, one: Served, binding: Binding) -> None:
    """A request with every field set, told as the document says, reaches the method as that message; the whole answer fits the schema."""
    request = next(iter(whole(one.method.input_type)))
    standard = json_format.MessageToDict(request)
    path = binding.path
    for name in binding.variables:
        key = one.method.input_type.fields_by_name[name].json_name
        path = path.replace("{" + name + "}", quote(standard.pop(key), safe=""))
    body = json.dumps(standard).encode() if binding.body else None
    query = "" if binding.body else urlencode(in_query(request, binding))
    answer = next(iter(whole(one.method.output_type)))
    front.behind.reply = answer.SerializeToString()

    got = await front.door.curl(f"{path}?{query}" if query else path, *AS_TOOL, "-X", binding.verb.upper(), body=body, h2=False)

    assert got.status == 200, got
    method, _ = front.behind.called[0]
    assert method == f"/{one.method.containing_service.full_name}/{one.method.name}"
    reached = GetMessageClass(one.method.input_type).FromString(front.behind.messages[0])
    if (one.method.name, binding.verb) == ("Follow", "get"):
        request.ClearField("offsets")  # a list of messages has no form in a query, and is none of the document's parameters
    assert reached == request
    assert got.header("content-type") == "application/json"
    check = openapi.answer("v1", binding.verb.upper(), binding.shown_path(one.method.input_type))
    assert check.faults(json.loads(got.body)) == []
    assert json_format.ParseDict(json.loads(got.body), GetMessageClass(one.method.output_type)()) == answer


async def test_errors_fit(front: Front) -> None:
    """Of the server, and of Envoy itself."""
    check = openapi.answer("v1", "GET", "/v1/jobs/{jobId}", "default")
    front.behind.abort = grpc.StatusCode.NOT_FOUND, "no such job"
    of_server = await front.door.curl("/v1/jobs/1", *AS_TOOL)
    of_envoy = await front.door.curl("/v1/jobs/1?nope=1", *AS_TOOL)
    assert (of_server.status, of_envoy.status) == (404, 400)
    assert check.faults(of_server.json) == check.faults(of_envoy.json) == []
    assert not check.takes({}), "an error says something"


async def test_a_path_that_the_document_does_not_have(front: Front) -> None:
    """Is nowhere, so the document is all of it."""
    for path in ("/v1/nope", "/v1/jobs:nope", "/v1/jobs/1:verify", "/v1/tokens/1/2"):
        # Over HTTP/2, Envoy refuses before the body has come, and curl takes that for a broken stream.
        assert (await front.door.curl(path, *AS_TOOL, body=b"{}", h2=False)).status == 404, path
    assert front.behind.called == []
