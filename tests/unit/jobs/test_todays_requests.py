"""Requests recorded from today's Core, read by the gateway's codec and checked as a create: each is taken, and what was changed in it
to be wrong or new is told apart."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from golden.load import RECORDED
from serai.jobs.v1.job_pb2 import Job
from serai_backends.model import Features, Resources
from serai_gateway.codec import Codec, WireError
from serai_server.errors import InvalidRequest, SeraiError, Unsupported
from serai_server.jobs.products import MINUTE_MS, Catalog, Product
from serai_server.jobs.requests import Policy, new_job
from serai_server.store.model import NewJob

POLICY = Policy(most_replicas=64, undeclared_parameters=True, drive=lambda user, project: project or user, todays_texts=True)
CODEC = Codec()
PARAMS = next(f for f in RECORDED if f.name == "POST_jobs.json")


def jobs_of(file: Path) -> list[dict[str, Any]]:
    """The jobs that a recorded request holds, bare or with something beside them."""
    request: dict[str, Any] = json.loads(file.read_text())["request"]
    items: list[dict[str, Any]] = request.get("items", [request])
    found: list[dict[str, Any]] = [item.get("job", item) for item in items]
    return [job for job in found if "resolvedApplication" in job.get("status", {})]


def read(job: dict[str, Any]) -> Job:
    return Job.FromString(CODEC.read(Job.DESCRIPTOR, json.dumps(job).encode()))


def create(job: dict[str, Any]) -> NewJob:
    message = read(job)
    wanted = message.specification.product
    product = Product(wanted.id, wanted.category, wanted.provider, Resources(1, 1 << 30), MINUTE_MS)
    return new_job(message, 0, Catalog([product], Features(peers=True, inputs=True)), POLICY, 5)


def with_jobs() -> list[Path]:
    return [file for file in RECORDED if file.name.startswith("POST_jobs") and jobs_of(file)]


@pytest.mark.parametrize("file", with_jobs(), ids=lambda f: f.name)
def test_every_recorded_job_is_taken(file: Path) -> None:
    """Flat unions, ucMetricSampleRate, an integer as text, null limits, a jinja element among others, runAsRoot. Two of them ask for a
    license, which is refused by its path."""
    for job in jobs_of(file):
        licenses = [f'parameters["{name}"]' for name, value in values(job).items() if value["type"] == "license_server"]
        licenses += [f"resources[{i}]" for i, value in enumerate(job["specification"]["resources"]) if value["type"] == "license_server"]
        if licenses:
            with pytest.raises(Unsupported) as error:
                create(job)
            assert error.value.field == f"items[0].specification.{licenses[0]}"
        else:
            assert create(job).id == job["id"]


def test_there_are_recorded_jobs() -> None:
    """So that the test above tests something."""
    assert len(with_jobs()) >= 5


def flat(kind: str, **own: object) -> dict[str, object]:
    """A value in the flat form: every key of every kind, most of them empty."""
    empty: dict[str, object] = {
        "path": "", "mountPath": "", "readOnly": False, "value": None, "hostname": "", "jobId": "", "id": "", "modules": None, "port": 0,
        "specification": {"applicationName": "", "language": "", "init": None, "job": None, "readme": None, "inputs": None},
        "tls": False, "server": "", "token": "", "tokenType": "",
    }  # fmt: skip
    return {"type": kind, **empty, **own}


def parameter(kind: str, name: str) -> dict[str, object]:
    """A declaration in the flat form."""
    return {
        "type": kind, "name": name, "optional": False, "defaultValue": None, "title": "T", "description": "d", "min": None, "max": None,
        "step": None, "unitName": "", "trueValue": "", "falseValue": "", "options": None, "tagged": None, "supportedModules": None,
    }  # fmt: skip


Change = Callable[[dict[str, Any]], object]


def changed(change: Change) -> dict[str, Any]:
    (job,) = copy.deepcopy(jobs_of(PARAMS))
    change(job)
    return job


def values(job: dict[str, Any]) -> dict[str, Any]:
    return job["specification"]["parameters"]


def declarations(job: dict[str, Any]) -> list[dict[str, Any]]:
    return job["status"]["resolvedApplication"]["invocation"]["parameters"]


WRONG: list[tuple[Change, type[SeraiError], str]] = [
    (lambda j: values(j).update(i=flat("integer", value=0)), InvalidRequest, 'specification.parameters["i"]'),
    (lambda j: values(j).update(i=flat("integer", value="10")), InvalidRequest, 'specification.parameters["i"]'),
    (lambda j: values(j).update(i=flat("text", value="7")), InvalidRequest, 'specification.parameters["i"]'),
    (lambda j: values(j).update(e=flat("text", value="three")), InvalidRequest, 'specification.parameters["e"]'),
    (lambda j: j["specification"].update(replicas=2), InvalidRequest, "specification.replicas"),
    (lambda j: values(j).update(p=flat("peer", hostname="node-0", jobId="6")), InvalidRequest, 'specification.parameters["p"].hostname'),
    (lambda j: values(j).update(n=flat("private_network", id="8")), Unsupported, 'specification.parameters["n"]'),
    (lambda j: j["specification"]["resources"].append(flat("private_network", id="8")), Unsupported, "specification.resources[0]"),
    (
        lambda j: j["specification"]["resources"].append(flat("api_server", server="https://a", token="s", tokenType="Inference")),
        Unsupported,
        "specification.resources[0]",
    ),
    (
        lambda j: j["specification"]["resources"].append(flat("file", path="/other/a", mountPath="")),
        InvalidRequest,
        "specification.resources[0].path",
    ),
]


@pytest.mark.parametrize(("change", "error", "field"), WRONG)
def test_what_core_lets_through_is_refused_here(change: Change, error: type[SeraiError], field: str) -> None:
    """With the path of the field (facts on today's Core §7: what it does not check)."""
    with pytest.raises(error) as caught:
        create(changed(change))
    assert caught.value.field == f"items[0].{field}"


def test_an_integer_as_text_is_a_number_or_an_error() -> None:
    """Core passes it on as it came: "7" is 7, and what is no number is told with its path before it is a job."""
    assert read(changed(lambda j: values(j).update(i=flat("integer", value="8")))).specification.parameters["i"].integer.value == 8
    with pytest.raises(WireError) as error:
        read(changed(lambda j: values(j).update(i=flat("integer", value="x"))))
    assert "parameters" in str(error.value)


RIGHT: list[Change] = [
    lambda j: values(j).update(e=flat("text", value="one")),
    lambda j: values(j).update(p=flat("peer", hostname="db", jobId="6")),
    lambda j: declarations(j).append(parameter("private_network", "n")),
    lambda j: declarations(j).append(parameter("workflow", "n")),
    lambda j: declarations(j).append(parameter("readme", "n")),
    lambda j: declarations(j).append({**parameter("modules", "n"), "defaultValue": [], "supportedModules": []}),
    lambda j: (declarations(j).append(parameter("modules", "n")), values(j).update(n=flat("modules", modules=[]))),
    lambda j: j["specification"]["resources"].append(flat("file", path=f"/{j['owner']['project']}/a")),
]


@pytest.mark.parametrize("change", RIGHT)
def test_what_a_job_does_not_need_does_not_break_it(change: Change) -> None:
    """Kinds of parameter that this server has no value for, a choice by its name, a peer, a file of the job's own drive."""
    assert create(changed(change)).id == "7"


def test_a_private_network_and_an_inference_server_are_read() -> None:
    """Their kinds are known, so that a job that asks for one is refused in words; the server's token stays outside."""
    job = read(
        changed(
            lambda j: (
                declarations(j).append(parameter("private_network", "n")),
                values(j).update(n=flat("private_network", id="8")),
                j["specification"]["resources"].append(flat("api_server", server="https://a", token="s3cret", tokenType="Inference")),
            )
        )
    )
    assert job.status.resolved_application.invocation.parameters[-1].private_network.name == "n"
    assert job.specification.parameters["n"].private_network.id == "8"
    assert job.specification.resources[0].api_server.server == "https://a"
    assert b"s3cret" not in job.SerializeToString()
