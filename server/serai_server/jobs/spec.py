"""A job as a backend must run it, made of what is stored: the one place where requests and submissions agree about it.

`check` runs when a job comes and finds everything that can be known to be wrong; `replica_spec` does the same work once more when
the job is submitted, and renders the application's templates on top.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace

import msgspec
from serai.jobs.v1 import application_pb2
from serai.jobs.v1.application_pb2 import ToolBackend
from serai.jobs.v1.job_pb2 import Job
from serai_backends.model import Features, Peer, ReplicaSpec

from serai_server.errors import InvalidRequest, Unsupported
from serai_server.jobs.applications import App, Template, app_of
from serai_server.jobs.folders import component
from serai_server.jobs.inputs import NO_INPUTS, PARAMETERS_FILE, Drives, Inputs, MappedDrive, inputs_of
from serai_server.jobs.invocation import Command, Writing, build_command
from serai_server.jobs.parameters import Values, parameter_path, values_of
from serai_server.jobs.peers import check_reachable, peers_of
from serai_server.jobs.products import Product
from serai_server.jobs.templates import Context, Renderer, Value, check_templates
from serai_server.jobs.texts import value_text
from serai_server.licenses.in_jobs import NOTHING_TOLD, LicensesInJobs, Told, Used
from serai_server.store.model import StoredJob

_LARGEST_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Policy:
    """What the settings allow, and which generation of Core asks."""

    most_replicas: int
    undeclared_parameters: bool
    """Generation 2026 sends parameters that the application does not declare."""
    drive: Callable[[str, str], str]
    """(username, project or "") → the drive that output goes to."""
    mapped: Mapping[str, MappedDrive] = field(default_factory=dict[str, MappedDrive])
    """Drives that jobs may use beside their own, by id."""
    only_project: bool = False
    """The job reaches what is its project's, and nothing that is its owner's besides."""
    todays_texts: bool = False
    """Generation 2026: numbers as Go writes them, trueValue and falseValue, and the values of `env`."""


@dataclass(frozen=True, slots=True)
class _Parts:
    values: Values
    inputs: Inputs
    peers: tuple[Peer, ...]
    told: Told = NOTHING_TOLD
    """Of licenses; known when the job has their seats."""


def check(job: Job, app: App, product: Product, features: Features, policy: Policy, *, at: str) -> None:
    """Everything about a request that is of its application and its values. `features` are what the product offers, `at` is the job's path.

    Raises InvalidRequest, Unsupported.
    """
    path = f"{at}.specification"
    check_application(app, product, features, at)
    parts = _parts(job, app, features, policy, path)
    build_command(app, _writing(parts, path, policy, {}))
    check_templates(app.templates(), f"{at}.status.resolvedApplication.invocation")


def check_application(app: App, product: Product, features: Features, at: str) -> None:
    """Raises Unsupported for an application that this provider cannot run, whatever its values."""
    check_tool(app, product)
    if app.type == application_pb2.APPLICATION_TYPE_WEB and not features.web:
        raise Unsupported("this provider does not run web applications")
    if app.type == application_pb2.APPLICATION_TYPE_VNC and not features.vnc:
        raise Unsupported("this provider does not run remote desktops")
    invocation = f"{at}.status.resolvedApplication.invocation"
    for name, port in (("web", app.web_port), ("vnc", app.vnc_port)):
        if port is not None and not 1 <= port <= _LARGEST_PORT:
            raise InvalidRequest(f"expected a port of 1 to {_LARGEST_PORT}, found {port}", field=f"{invocation}.{name}.port")
    if app.run_as_root and app.run_as_real_user:
        where = f"{invocation}.container"
        raise InvalidRequest("the application wants to run as root and as the real user, which cannot both be", field=where)


def check_tool(app: App, product: Product) -> None:
    """Raises Unsupported for a kind of tool that the machine type does not run. One that is not told is taken for a container's."""
    name = ToolBackend.Name(app.tool or application_pb2.TOOL_BACKEND_DOCKER).removeprefix("TOOL_BACKEND_").lower()
    if name not in product.tools:
        raise Unsupported(f"this machine type does not run {name.replace('_', ' ')} tools")


@dataclass(frozen=True, slots=True)
class Around:
    """What a submission needs beside the job itself."""

    policy: Policy
    renderer: Renderer
    find: Callable[[str], Awaitable[StoredJob | None]]
    """Another job of this server, by its id."""
    licenses: LicensesInJobs

    async def told_of_licenses(self, stored: StoredJob) -> Told:
        return await self.licenses.told(stored.id) if stored.claims else NOTHING_TOLD


async def replica_spec(stored: StoredJob, product: Product, features: Features, around: Around) -> ReplicaSpec:
    """Raises InvalidRequest, Unsupported and SubmissionRefused for a job that can never run; BackendUnavailable and what `find` raises to
    try again later."""
    policy = around.policy
    job = Job.FromString(stored.body)
    app = app_of(encoded_application(job))
    parts = _parts(job, app, features, policy, "specification")
    await check_reachable(stored, parts.peers, around.find)
    told = await around.told_of_licenses(stored)
    parts = replace(parts, told=told)
    scripts, rendered = await _render(stored, app, _context(stored, app, parts, product, policy), around.renderer)
    command: Command = build_command(app, _writing(parts, "specification", policy, rendered))
    return ReplicaSpec(
        job_id=stored.id,
        replicas=stored.replicas,
        argv=command.argv,
        # What the application sets itself stays.
        environment=tuple((dict(told.environment) | dict(command.environment)).items()),
        resources=product.resources,
        output_folder=stored.output_folder.lstrip("/"),
        image=app.image,
        change_working_directory=app.change_working_directory,
        mounts=parts.inputs.mounts,
        peers=parts.peers,
        files=_files(job),
        scripts=scripts,
        run_as_root=app.run_as_root,
        product=f"{product.category}/{product.id}",
        ports=_ports(app, features),
        secrets=told.secrets,
        time_limit_ms=stored.time_limit_ms,
    )


def _ports(app: App, features: Features) -> tuple[int, ...]:
    """What of the application is reached from outside: its page and its desktop, as far as they are served."""
    wanted = (app.web_port if features.web else None, app.vnc_port if features.vnc else None)
    return tuple(dict.fromkeys(port for port in wanted if port is not None))


def encoded_application(job: Job) -> bytes:
    """The form in which an application is compared and kept."""
    return job.status.resolved_application.SerializeToString(deterministic=True)


def _parts(job: Job, app: App, features: Features, policy: Policy, path: str) -> _Parts:
    spec = job.specification
    values = values_of(app, spec, features, path, undeclared=policy.undeclared_parameters)
    kinds = {given.kind for given in values.values()}
    kinds.update(value.WhichOneof("value") or "" for value in spec.resources)
    if policy.mapped or "file" in kinds:
        owner, project = job.owner.created_by, job.owner.project
        output = component(policy.drive(owner, project))
        own = {output} if policy.only_project else {output, component(policy.drive(owner, ""))}
        drives = Drives(frozenset(own), policy.mapped, "" if policy.only_project else owner, project)
        drives.check_output(output, path.removesuffix("specification") + "owner")
        inputs = inputs_of(spec, values, drives, path)
    else:
        inputs = NO_INPUTS
    return _Parts(values, inputs, peers_of(spec, values, job.id, path) if "peer" in kinds else ())


def licenses_of(job: Job, at: str) -> list[Used]:
    """The licenses that a job names: in values of parameters, then in resources (facts 2021 §5.3). `at` is the job's path."""
    path = f"{at}.specification"
    values = [(parameter_path(path, name), value) for name, value in sorted(job.specification.parameters.items())]
    values += [(f"{path}.resources[{index}]", value) for index, value in enumerate(job.specification.resources)]
    return [Used(value.license_server.id, where) for where, value in values if value.WhichOneof("value") == "license_server"]


def _writing(parts: _Parts, path: str, policy: Policy, rendered: Mapping[Template, str]) -> Writing:
    return Writing(parts.values, parts.inputs.seen_at, path, policy.todays_texts, rendered, parts.told.texts)


async def _render(stored: StoredJob, app: App, context: Context, renderer: Renderer) -> tuple[tuple[str, ...], dict[Template, str]]:
    """The script's texts, () when the command is no script, and what each other template gives."""
    script = app.script
    pieces = [template for template in app.templates() if template is not script]
    if script is None and not pieces:
        return (), {}
    owner = f"project:{stored.project}" if stored.project else f"user:{stored.owner}"
    texts = await renderer.render(owner, script, pieces, context, stored.replicas)
    scripts = tuple(_with_interpreter(text) for text in texts.pop(0)) if script is not None else ()
    if any("\0" in text for text in scripts):
        raise InvalidRequest("The application's template cannot be rendered: it gives a NUL character, which no script can have")
    return scripts, {template: text for template, (text,) in zip(pieces, texts, strict=True)}


def _context(stored: StoredJob, app: App, parts: _Parts, product: Product, policy: Policy) -> Context:
    """What a template sees: each parameter with a value, and `ucloud`. Numbers and booleans are what they are, the rest is text."""
    found: dict[str, Value] = {}
    for name, given in parts.values.items():
        match given.kind:
            case "integer":
                found[name] = given.value.integer.value
            case "floating_point":
                found[name] = given.value.floating_point.value
            case "boolean":
                found[name] = given.value.boolean.value
            case _:
                seen_at, todays = parts.inputs.seen_at, policy.todays_texts
                found[name] = value_text(given.declared, given.kind, given.value, seen_at, parts.told.texts, todays=todays)
    machine: dict[str, Value] = {
        "name": product.id,
        "category": product.category,
        "cpu": product.resources.cpu,
        "memoryInGigs": product.resources.memory_bytes >> 30,
        "gpu": product.resources.gpu,
    }
    application: dict[str, Value] = {"name": app.name, "version": app.version}
    return Context(found, {"jobId": stored.id, "machine": machine, "nodes": stored.replicas, "application": application})


def _with_interpreter(script: str) -> str:
    return script if script.startswith("#!") else f"#!/usr/bin/env bash\n{script}"


def _files(job: Job) -> tuple[tuple[str, str], ...]:
    """JobParameters.json, with which the same job can be asked for again (facts 2021 §10.2)."""
    if not job.status.HasField("job_parameters_json"):
        return ()
    text = job.status.job_parameters_json
    try:
        pretty = msgspec.json.format(text.encode(), indent=2).decode()
    except msgspec.DecodeError:
        pretty = text
    return ((PARAMETERS_FILE, pretty + "\n"),)
