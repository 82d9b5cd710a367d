"""The document of `/v1` says what Envoy's transcoder is told: each way of each method, and protobuf's standard JSON."""

from __future__ import annotations

from typing import Any

import pytest
from contract.comments import Comments
from contract.files import descriptor_set, own_files
from contract.served import Binding, Served, check, served
from contract.v1 import V1Document
from fakes import openapi
from fakes.whole_messages import empty, whole
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from serai.jobs.v1 import jobs_service_pb2

METHODS = list(served(own_files(descriptor_set())))
WAYS = [(one, binding) for one in METHODS for binding in one.bindings]


def named(one: Any) -> str:
    return one.method.full_name if isinstance(one, Served) else f"{one.verb} {one.path}" if isinstance(one, Binding) else ""


def shown(one: Served, binding: Binding) -> tuple[str, str]:
    return binding.verb.upper(), binding.shown_path(one.method.input_type)


def standard(message: Message, *, always: bool) -> dict[str, Any]:
    """As the transcoder writes it; `always` = with zero values."""
    return json_format.MessageToDict(message, always_print_fields_with_no_presence=always)


def test_every_way_is_there() -> None:
    """And no other."""
    assert sorted(openapi.calls("v1")) == sorted(shown(one, binding) for one, binding in WAYS)
    assert len(WAYS) > 30


@pytest.mark.parametrize(("one", "binding"), WAYS, ids=named)
def test_who_may_call_is_said(one: Served, binding: Binding) -> None:
    """A way in /v1 is for tools, so a role stands at each, in words and for programs."""
    call = openapi.operation("v1", *shown(one, binding))
    assert one.role in {"viewer", "operator", "admin"}
    assert call["x-serai-access"] == {"role": one.role, "ofProject": one.of_project}
    assert f"Needs the role {one.role}." in call["description"]


@pytest.mark.parametrize(("one", "binding"), WAYS, ids=named)
def test_standard_json_fits(one: Served, binding: Binding) -> None:
    """Requests and answers with everything set and with nothing set, with and without zero values."""
    way = shown(one, binding)
    for message in [empty(one.method.output_type), *whole(one.method.output_type)]:
        for always in (False, True):
            assert openapi.answer("v1", *way).faults(standard(message, always=always)) == []
    if binding.body:
        for message in [empty(one.method.input_type), *whole(one.method.input_type)]:
            assert openapi.request("v1", *way).faults(standard(message, always=False)) == []


@pytest.mark.parametrize(("one", "binding"), WAYS, ids=named)
def test_each_field_has_a_place(one: Served, binding: Binding) -> None:
    """In the path, the query or the body; only what a query cannot say is missing there."""
    call = openapi.operation("v1", *shown(one, binding))
    given = {parameter["name"].partition(".")[0] for parameter in call.get("parameters", [])}
    request = one.method.input_type
    if binding.body:
        schema = call["requestBody"]["content"]["application/json"]["schema"]
        if "$ref" in schema:
            schema = openapi.document("v1")["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        given |= set(schema.get("properties", {}))
    missing = {field.json_name for field in request.fields} - given
    assert missing == ({"offsets"} if (request.name, binding.verb) == ("FollowRequest", "get") else set())


def examples_of(one: Served, binding: Binding) -> list[dict[str, Any]]:
    body = openapi.operation("v1", *shown(one, binding)).get("requestBody", {"content": {"application/json": {}}})
    return [example["value"] for example in body["content"]["application/json"].get("examples", {}).values()]


@pytest.mark.parametrize(("one", "binding"), [(one, binding) for one, binding in WAYS if binding.body], ids=named)
def test_examples_are_requests(one: Served, binding: Binding) -> None:
    """Each call with something in its body has one, which fits the schema and is read as the request, to the last field; what stands in the
    path does not stand in it."""
    request = one.method.input_type
    found = examples_of(one, binding)
    assert bool(found) == bool({field.name for field in request.fields} - set(binding.variables))
    for example in found:
        assert openapi.request("v1", *shown(one, binding)).faults(example) == []
        message = json_format.ParseDict(example, GetMessageClass(request)())  # which refuses fields that do not exist
        given = {field.name for field, _ in message.ListFields()}
        assert given
        assert not given & set(binding.variables)


@pytest.mark.parametrize("name", ["Terminate", "Extend", "Suspend", "Unsuspend"])
def test_tools_name_jobs_by_their_ids(name: str) -> None:
    """And not as UCloud does, by the whole job."""
    ((one, binding),) = ((one, binding) for one, binding in WAYS if one.method.full_name == f"serai.jobs.v1.JobsService.{name}")
    assert examples_of(one, binding)
    for example in examples_of(one, binding):
        assert example["jobIds"]
        assert "items" not in example


def test_wrong_values_do_not_fit() -> None:
    """Numbers where text is promised, unknown words, wrong kinds."""
    report = openapi.answer("v1", "GET", "/v1/jobs/{jobId}")
    assert report.takes({"job": {"createdAtMs": "5", "state": "JOB_STATE_RUNNING"}})
    wrongs: list[dict[str, Any]] = [{"createdAtMs": 5}, {"state": "RUNNING"}, {"replicas": "1"}, {"labels": {"key": 1}}, {"acl": {}}]
    for wrong in wrongs:
        assert not report.takes({"job": wrong})


def test_what_is_deprecated_is_marked() -> None:
    """Methods, fields and parameters, and nothing else: generators of clients warn of it."""
    changed = descriptor_set()
    for file in changed.file:
        for service in file.service:
            for method in service.method:
                method.options.deprecated = (service.name, method.name) == ("JobsService", "Watch")
        for message in file.message_type:
            for field in message.field:
                field.options.deprecated = (message.name, field.name) in {("ListRequest", "owner"), ("JobReport", "name")}
    pool = DescriptorPool()
    for file in changed.file:
        pool.Add(file)  # pyright: ignore[reportUnknownMemberType] - types-protobuf has none for it
    jobs = pool.FindFileByName("serai/jobs/v1/jobs_service.proto")
    made: Any = V1Document(served([jobs]), Comments(changed), "0").make()
    calls = {path: call for path, verbs in made["paths"].items() for call in verbs.values() if "deprecated" in call}
    assert list(calls) == ["/v1/jobs/{jobId}:watch"]
    parameters = made["paths"]["/v1/jobs"]["get"]["parameters"]
    assert [one["name"] for one in parameters if "deprecated" in one] == ["owner"]
    report = made["components"]["schemas"]["answer.jobs.JobReport"]["properties"]
    assert [name for name, schema in report.items() if "deprecated" in schema] == ["name"]


@pytest.mark.parametrize(
    ("binding", "words"),
    [
        (Binding("get", "/jobs/{job_id}", ""), "begin with /v1/"),
        (Binding("get", "/v1/jobs/{job_id=*}", ""), "one field's name"),
        (Binding("get", "/v1/jobs/{job.id}", ""), "one field's name"),
        (Binding("get", "/v1/jobs/{id}", ""), "not a plain field"),
        (Binding("get", "/v1/jobs/{ranks}", ""), "not a plain field"),
        (Binding("post", "/v1/jobs/{job_id}", "offsets"), "the whole request"),
        (Binding("get", "/v1/jobs/{job_id}", "*"), "no body"),
    ],
)
def test_ways_that_make_no_sense_are_refused(binding: Binding, words: str) -> None:
    """With the method's name, so that a wrong option does not get as far as Envoy."""
    method: MethodDescriptor = jobs_service_pb2.DESCRIPTOR.services_by_name["JobsService"].methods_by_name["Follow"]
    with pytest.raises(ValueError, match=words):
        check(method, binding)
