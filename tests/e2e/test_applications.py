"""Applications of today's Core, from its request to the output: defaults, choices and templates; and what is refused or fails in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fakes.stack import Stack, stack
from serai_devcore.applications import EXAMPLE_PRODUCT, Application, JobRequest, text_parameter, word
from serai_devcore.wire import JsonObject

SETTINGS: tuple[JsonObject, ...] = (
    {**text_parameter("name", "Who"), "defaultValue": "it's $HOME"},
    {**text_parameter("often", "How often"), "type": "integer", "defaultValue": {"type": "integer", "value": 2}, "min": 1, "max": 3},
    {
        **text_parameter("mode", "How", optional=True),
        "type": "enumeration",
        "options": [{"name": "Loud", "value": "--loud"}, {"name": "Quiet", "value": "--quiet"}],
    },
)


def jinja(template: str) -> JsonObject:
    return {"type": "jinja", "template": template}


def application(*invocation: JsonObject) -> Application:
    return Application("greet", "1", "Greet", "Greets", "debian:stable-slim", invocation, SETTINGS)


MIXED = replace(
    application(word("/bin/sh"), word("-c"), jinja('echo "$WHO" {{ often }} {{ mode }} {{ ucloud.machine.cpu }} {{ ucloud.jobId }}')),
    environment={"WHO": jinja("{{ name }}")},
)


async def output(running: Stack, request: JobRequest) -> str:
    sent = await running.core.submit(request)
    assert sent.accepted, sent.answer
    await running.until_final(sent.job_id)
    assert running.core.jobs[sent.job_id].state == "SUCCESS"
    return (running.work(sent.job_id, "Greet") / "stdout.txt").read_text().replace(sent.job_id, "ID")


async def test_values_defaults_and_templates(tmp_path: Path) -> None:
    """What was left out has its default, a choice its value, and a template sees the machine and the job; one argument is not quoted."""
    async with stack(tmp_path, generation="2026") as running:
        request = JobRequest(MIXED, EXAMPLE_PRODUCT)
        assert await output(running, request) == "it's $HOME 2 1 ID\n"
        given: JsonObject = {
            "name": {"type": "text", "value": "Ann"},
            "often": {"type": "integer", "value": 3},
            "mode": {"type": "text", "value": "Loud"},
        }
        assert await output(running, replace(request, parameters=given)) == "Ann 3 --loud 1 ID\n"


async def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    """A wrong value, a replica too many and a template that is none are 400 with the field; one that fails when rendered ends its job."""
    async with stack(tmp_path, generation="2026") as running:
        request = JobRequest(MIXED, EXAMPLE_PRODUCT)
        for wrong, why in (
            (
                replace(request, parameters={"often": {"type": "integer", "value": 4}}),
                'items[0].specification.parameters["often"]: expected 3 or less, found 4',
            ),
            (replace(request, replicas=2), "items[0].specification.replicas: the application runs as one replica only, found 2"),
            (
                replace(request, application=application(jinja("a\n{% if"))),
                "items[0].status.resolvedApplication.invocation: the application's template cannot be used: line 2: ",
            ),
        ):
            sent = await running.core.submit(wrong)
            assert sent.answer.status == 400
            assert (sent.answer.why or "").startswith(why)
        sent = await running.core.submit(replace(request, application=application(jinja("a\n{{ 1 / 0 }}"))))
        assert sent.accepted
        await running.until_final(sent.job_id)
        job = running.core.jobs[sent.job_id]
        assert job.state == "FAILURE"
        assert "line 2: division by zero" in (job.arrivals[-1].status or "")
