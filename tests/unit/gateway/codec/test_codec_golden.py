"""The codec against UCloud's own messages: what comes in is read whole, what goes out is spelled as documented."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from golden.load import INDEX, RECORDED, Golden, as_list, as_object, golden, seed_request
from golden.oracle import parse, same_raw_json
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from serai.control.v1 import control_pb2
from serai.core.v1 import resources_pb2
from serai.jobs.v1 import job_pb2, jobs_service_pb2
from serai_gateway.codec import Codec
from serai_gateway.codec.shape import Absent, MessageShape, Shapes
from serai_gateway.routes import ROUTES, Match, Route, match

CODEC = Codec()
SHAPES = Shapes()
INGOING = [one for one in INDEX if one.kind == "request" and one.direction == "ingoing"]


def _route(verb: str, path: str) -> Route:
    found = [route for route in ROUTES if (route.verb, route.path) == (verb, path)]
    assert len(found) == 1
    return found[0]


def _read(route: Route, body: bytes) -> Message:
    return GetMessageClass(route.request).FromString(CODEC.read(route.request, body))


def _bare_as_sent(route: Route, sent: Any, written: Any) -> Any:
    """Items that came without the key of their job, as they came."""
    if not route.method.endswith("/Suspend"):
        return written
    return {"items": [item if "job" in original else item["job"] for original, item in zip(sent["items"], written["items"], strict=True)]}


def _empty_as_null(shape: MessageShape, value: Any) -> Any:
    """[] and {} as null where the options say that both read alike."""
    entries = as_object(value)
    if shape.union_key or entries is None:
        return value
    found = dict(entries)
    for field in shape.fields:
        one: Any = found.get(field.key)
        if field.absent is Absent.NULL_WHEN_EMPTY and one in ([], {}):
            found[field.key] = None
        elif field.message is not None and field.repeated and one:
            found[field.key] = [_empty_as_null(field.message, element) for element in one]
        elif field.message is not None and not field.is_map and one:
            found[field.key] = _empty_as_null(field.message, one)
    return found


def _without_gone(one: Golden) -> Any:
    """Licenses without what the seed does not have any more (facts 2021 §5.4): nobody reads it here."""
    value = one.json
    if "/licenses" in one.path:
        for item in value.get("items", []):
            for license_ in (item, item.get("resource", {})):
                license_.pop("billing", None)
                license_.pop("acl", None)
    return value


@pytest.mark.parametrize("one", INGOING, ids=lambda one: one.file)
def test_every_request_of_2021_comes_back_as_it_came(one: Golden) -> None:
    """Reading and writing again loses no key and changes no value; only [] and {} may become null, in derived messages."""
    route = _route(one.verb, one.path)
    written = _bare_as_sent(route, one.json, json.loads(CODEC.write(_read(route, one.body))))
    if one.documented:
        assert written == one.json
    else:
        shape = SHAPES.message(job_pb2.Job.DESCRIPTOR if route.method.endswith("/Suspend") else route.request)
        if route.method.endswith("/Suspend"):
            assert written["items"] == [_empty_as_null(shape, item) for item in one.json["items"]]
        else:
            assert written == _empty_as_null(shape, _without_gone(one))


def test_the_seed_is_written_byte_for_byte() -> None:
    """The seed's request, read and written, is the same compact JSON, keys in the same order."""
    body = seed_request()
    assert CODEC.write(jobs_service_pb2.CreateRequest.FromString(CODEC.read(jobs_service_pb2.CreateRequest.DESCRIPTOR, body))) == body


@pytest.mark.parametrize("one", INGOING, ids=lambda one: one.file)
def test_the_oracle_reads_2021_alike(one: Golden) -> None:
    """google.protobuf.json_format, told the options by the test, makes the same message."""
    route = _route(one.verb, one.path)
    value = one.json
    if route.method.endswith("/Suspend"):
        value = {"items": [{"job": item} for item in value["items"]]}
    assert same_raw_json(_read(route, one.body)) == same_raw_json(parse(route.request, value))


def _kept(written: Any, sent: Any, path: str) -> None:
    """What is written says what was sent; unknown keys may be gone, text that stands for a number or boolean may be one."""
    objects = as_object(written), as_object(sent)
    lists = as_list(written), as_list(sent)
    if objects[0] is not None and objects[1] is not None:
        for key, value in objects[0].items():
            _kept(value, objects[1].get(key), f"{path}.{key}")
    elif lists[0] is not None and lists[1] is not None:
        assert len(lists[0]) == len(lists[1]), path
        for index, (one, other) in enumerate(zip(lists[0], lists[1], strict=True)):
            _kept(one, other, f"{path}[{index}]")
    elif written != sent:
        empty: list[Any] = [None, "", 0, False, [], {}]
        is_default = sent in empty and (written in empty or objects[0] is not None)
        assert is_default or (isinstance(sent, str) and json.dumps(written) == sent), f"{path}: {sent!r} became {written!r}"


@pytest.mark.parametrize("file", RECORDED, ids=lambda file: file.stem)
def test_every_request_of_today_is_read(file: Path) -> None:
    """Requests recorded from today's Core are routed and read; nothing that the messages know is lost or changed."""
    recorded = json.loads(file.read_text())
    found = match(recorded["method"], recorded["path"], frozenset({"PROVIDER"}))
    assert isinstance(found, Match)
    if recorded["request"] is None:
        return
    body = json.dumps(recorded["request"]).encode()
    message = _read(found.route, body)
    assert same_raw_json(message) == same_raw_json(parse(found.route.request, recorded["request"]))
    _kept(json.loads(CODEC.write(message)), recorded["request"], "")


def _update(job_id: str, state: job_pb2.JobState.ValueType, status: str) -> control_pb2.UpdateRequest:
    return control_pb2.UpdateRequest(
        items=[control_pb2.JobUpdateAndId(id=job_id, update=job_pb2.JobUpdate(state=state, status=status, timestamp=0))]
    )


def _charges(minute: str) -> control_pb2.ChargeCreditsRequest:
    return control_pb2.ChargeCreditsRequest(
        items=[
            control_pb2.ResourceChargeCredits(
                id=job, charge_id=f"{job}-charge-04-oct-2021-12:{minute}", units=15, number_of_products=replicas
            )
            for job, replicas in (("51231", 1), ("63489", 23))
        ]
    )


def _products(*, containers: bool) -> jobs_service_pb2.RetrieveProductsResponse:
    docker = job_pb2.DockerSupport(
        enabled=True, web=True, vnc=True, logs=True, terminal=True, peers=True, time_extension=True, utilization=True
    )
    return jobs_service_pb2.RetrieveProductsResponse(
        responses=[
            job_pb2.ComputeSupport(
                product=resources_pb2.ProductReference(id=f"example-compute-{number}", category="example-compute", provider="example"),
                docker=docker if containers else None,
                virtual_machine=None if containers else job_pb2.VirtualMachineSupport(enabled=True),
            )
            for number in (1, 2)
        ]
    )


OUTGOING: list[tuple[str, Message]] = [
    ("jobs-provider-01-retrieveproducts.response.json", _products(containers=True)),
    ("jobs-provider-02-retrieveproducts.response.json", _products(containers=False)),
    ("jobs-provider-04-update.request.json", _update("54112", job_pb2.JOB_STATE_RUNNING, "The job is now running!")),
    ("jobs-provider-05-update.request.json", _update("54112", job_pb2.JOB_STATE_SUCCESS, "The job has finished processing!")),
    ("jobs-provider-06-chargecredits.request.json", _charges("30")),
    ("jobs-provider-07-chargecredits.request.json", _charges("45")),
    ("jobs-provider-08-update.request.json", _update("63489", job_pb2.JOB_STATE_SUCCESS, "The job was terminated (No credits)")),
    ("jobs-provider-10-update.request.json", _update("54112", job_pb2.JOB_STATE_FAILURE, "Your job is no longer available")),
    (
        "derived-jobs-control-update-conditional.request.json",
        control_pb2.UpdateRequest(
            items=[
                control_pb2.JobUpdateAndId(
                    id="54112",
                    update=job_pb2.JobUpdate(
                        state=job_pb2.JOB_STATE_RUNNING,
                        output_folder="/123/Jobs/Acme batch/54112",
                        status="The job is now running!",
                        expected_different_state=True,
                    ),
                )
            ]
        ),
    ),
    (
        "derived-jobs-provider-retrieveUtilization.response.json",
        jobs_service_pb2.RetrieveUtilizationResponse(
            capacity=jobs_service_pb2.CpuAndMemory(cpu=128, memory=549755813888),
            used_capacity=jobs_service_pb2.CpuAndMemory(cpu=32.5, memory=137438953472),
            queue_status=jobs_service_pb2.QueueStatus(running=12, pending=3),
        ),
    ),
    (
        "derived-jobs-provider-interactiveSession.response.json",
        jobs_service_pb2.OpenInteractiveSessionResponse(
            responses=[
                jobs_service_pb2.OpenSession(
                    shell=jobs_service_pb2.ShellSession(job_id="54112", session_identifier="a81ea644-58f5-44d9-8e94-89f81666c441")
                ),
                jobs_service_pb2.OpenSession(
                    web=jobs_service_pb2.WebSession(job_id="54112", redirect_client_to="https://gw.provider.example.com/a?t=1")
                ),
                jobs_service_pb2.OpenSession(vnc=jobs_service_pb2.VncSession(job_id="54112", url="/ucloud/example/jobs/vnc/69521c85")),
            ]
        ),
    ),
    (
        "provider-refresh.request.json",
        control_pb2.RefreshRequest(items=[control_pb2.RefreshToken(refresh_token="example-refresh-token")]),
    ),
    (
        "provider-requestapproval.request.json",
        control_pb2.RequestApprovalRequest(
            information=control_pb2.ApprovalInformation(
                specification=control_pb2.ProviderSpecification(
                    id="example",
                    domain="provider.example.com",
                    https=True,
                    product=resources_pb2.ProductReference(provider="ucloud_core"),
                )
            )
        ),
    ),
]


@pytest.mark.parametrize(("file", "message"), OUTGOING, ids=[file for file, _ in OUTGOING])
def test_what_serai_sends_is_what_is_documented(file: str, message: Message) -> None:
    """The same keys in the same order, explicit nulls, integers as numbers."""
    expected = json.dumps(golden(file), separators=(",", ":"), ensure_ascii=False)
    assert CODEC.write(message).decode() == expected


BULK: list[tuple[str, str, Message]] = [
    ("jobs-provider-03-jobs.response.json", "Create", jobs_service_pb2.CreateResponse(responses=[jobs_service_pb2.CreatedJob()])),
    (
        "derived-jobs-provider-create-with-generated-id.response.json",
        "Create",
        jobs_service_pb2.CreateResponse(responses=[jobs_service_pb2.CreatedJob(id="slurm-991")]),
    ),
    ("derived-jobs-provider-extend.response.json", "Extend", jobs_service_pb2.ExtendResponse(responses=[jobs_service_pb2.Acknowledged()])),
    (
        "derived-jobs-provider-terminate.response.json",
        "Terminate",
        jobs_service_pb2.TerminateResponse(responses=[jobs_service_pb2.Acknowledged()]),
    ),
    (
        "derived-jobs-provider-updateAcl.response.json",
        "UpdateAcl",
        jobs_service_pb2.UpdateAclResponse(responses=[jobs_service_pb2.Acknowledged()]),
    ),
]


@pytest.mark.parametrize(("file", "method", "message"), BULK, ids=[file for file, _, _ in BULK])
def test_bulk_answers_are_what_is_documented(file: str, method: str, message: Message) -> None:
    """An element with nothing in it is null or {} as the call's route says."""
    route = next(route for route in ROUTES if route.method == f"/serai.jobs.v1.JobsService/{method}")
    assert json.loads(CODEC.write_bulk(message, route.empty_element)) == golden(file)


def test_answers_of_core_are_read() -> None:
    """The answers that matter: charges that were not paid, a new token, and the token of a registration, which Core's welcome shows."""
    charges = (Path(__file__).parents[3] / "golden/ucloud-2021/jobs-provider-07-chargecredits.response.json").read_bytes()
    read = control_pb2.ChargeCreditsResponse.FromString(CODEC.read(control_pb2.ChargeCreditsResponse.DESCRIPTOR, charges))
    assert [one.id for one in read.insufficient_funds] == ["63489"]
    assert not read.duplicate_charges
    token = json.dumps(golden("provider-refresh.response.json")).encode()
    answer = control_pb2.RefreshResponse.FromString(CODEC.read(control_pb2.RefreshResponse.DESCRIPTOR, token))
    assert [one.access_token for one in answer.responses] == ["example-access-token"]
    approval = json.dumps(golden("provider-requestapproval.response.json")).encode()
    wire = CODEC.read(control_pb2.RequestApprovalResponse.DESCRIPTOR, approval)
    token = control_pb2.RequestApprovalResponse.FromString(wire).requires_signature.token
    assert token == golden("provider-welcome.request.json")["token"]


def test_the_documented_error_has_the_keys_that_serai_sends() -> None:
    """2021 reads `why` and `errorCode`; both stand in Serai's body under these names."""
    message = resources_pb2.CommonErrorMessage(
        status_code=400,
        why="Extension of deadline is not supported by the provider",
        error_code="FEATURE_NOT_SUPPORTED_BY_PROVIDER",
    )
    written = json.loads(CODEC.write(message))
    assert golden("derived-error-feature-not-supported.response.json").items() <= written.items()
    assert written["statusCode"] == 400
    assert written["detailedCode"] == 0


def test_the_index_names_every_file() -> None:
    """No golden message lies around unused by the index, and none is missing."""
    folder = Path(__file__).parents[3] / "golden" / "ucloud-2021"
    assert sorted(file.name for file in folder.glob("*.json") if file.name != "index.json") == [one.file for one in INDEX]
