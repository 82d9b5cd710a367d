"""A small catalogue of applications, and what a user asks for when starting one. `documents` makes the job's JSON of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from serai_devcore.accounts import Product
from serai_devcore.wire import Json, JsonObject


@dataclass(frozen=True, slots=True)
class Application:
    """An application of the catalogue, with the tool that holds its image."""

    name: str
    version: str
    title: str
    description: str
    image: str
    invocation: tuple[JsonObject, ...]
    """Elements `{"type": "word" | "var" | "bool_flag" | "env" | "jinja", …}`."""
    parameters: tuple[JsonObject, ...] = ()
    allow_multi_node: bool = False
    environment: JsonObject | None = None
    kind: Literal["BATCH", "WEB", "VNC"] = "BATCH"
    """What its users see of it: nothing while it runs, its web page, or its desktop."""
    port: int | None = None
    """TCP port of that page or desktop; None = the usual one of its kind, which is not written down."""
    password: str | None = None
    """Of a desktop."""


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What a user asks for."""

    application: Application
    product: Product
    parameters: JsonObject = field(default_factory=dict[str, Json])
    """`{"name": {"type": …, "value": …}}`."""
    resources: tuple[JsonObject, ...] = ()
    replicas: int = 1
    name: str | None = None
    hours: int = 1
    minutes: int = 0
    seconds: int = 0
    username: str = "user"
    project: str | None = None


def word(value: str) -> JsonObject:
    return {"type": "word", "word": value}


def var(*names: str, prefix_global: str = "") -> JsonObject:
    return {
        "type": "var",
        "variableNames": list(names),
        "prefixGlobal": prefix_global,
        "suffixGlobal": "",
        "prefixVariable": "",
        "suffixVariable": "",
        "isPrefixVariablePartOfArg": False,
        "isSuffixVariablePartOfArg": False,
    }


def text_parameter(name: str, description: str, *, optional: bool = False) -> JsonObject:
    return {"type": "text", "name": name, "optional": optional, "defaultValue": None, "title": "", "description": description}


def boolean_parameter(name: str, description: str) -> JsonObject:
    return {
        "type": "boolean",
        "name": name,
        "optional": False,
        "defaultValue": None,
        "title": "",
        "description": description,
        "trueValue": "true",
        "falseValue": "false",
    }


def license_parameter(name: str, description: str, *tagged: str) -> JsonObject:
    return {
        "type": "license_server",
        "name": name,
        "optional": False,
        "defaultValue": None,
        "title": "",
        "description": description,
        "tagged": list(tagged),
    }


ACME_BATCH = Application(
    name="acme-batch",
    version="1.0.0",
    title="Acme batch",
    description="An example application",
    image="acme/batch:1.0.0",
    invocation=(word("acme-batch"), var("debug", prefix_global="--debug "), var("value")),
    parameters=(
        boolean_parameter("debug", "Should debug be enabled?"),
        text_parameter("value", "The value for the batch application"),
    ),
)
"""The seed's application."""

UCLOUD_ETC = Application(
    name="ucloud-etc",
    version="1.0.0",
    title="Show etc",
    description="Prints what a replica is told about its job",
    image="serai/ucloud-etc:1.0.0",
    invocation=(word("ucloud-etc"),),
    allow_multi_node=True,
)

ACME_SOLVER = Application(
    name="acme-solver",
    version="1.0.0",
    title="Acme solver",
    description="An example of software that needs a license",
    image="acme/solver:1.0.0",
    invocation=(word("acme-solver"), var("license", prefix_global="--license ")),
    parameters=(license_parameter("license", "The license to use", "acme"),),
)
"""Its program lies in examples/acme-licensed."""

EXAMPLE_PRODUCT = Product(id="example-compute-1", category="example-compute", provider="example")
"""The seed's machine type."""

EXAMPLE_LICENSE = Product(
    id="example-license",
    category="example-license",
    provider="example",
    price_per_unit=1,
    unit="PER_UNIT",
    cpu=0,
    memory_gib=0,
    description="An example license",
    kind="license",
)
"""That of the seed on licenses."""


def acme_request(value: str = "Hello, World!", *, debug: bool = True, product: Product = EXAMPLE_PRODUCT) -> JobRequest:
    """What the seed's user asks for."""
    parameters: JsonObject = {"debug": {"type": "boolean", "value": debug}, "value": {"type": "text", "value": value}}
    return JobRequest(ACME_BATCH, product, parameters)


def licensed_request(
    license_id: str, *, product: Product = EXAMPLE_PRODUCT, username: str = "user", project: str | None = None
) -> JobRequest:
    """A job of acme-solver that uses a license."""
    parameters: JsonObject = {"license": {"type": "license_server", "id": license_id}}
    return JobRequest(ACME_SOLVER, product, parameters, username=username, project=project)


def shell_request(
    script: str,
    *,
    replicas: int = 1,
    product: Product = EXAMPLE_PRODUCT,
    license_id: str = "",
    kind: Literal["BATCH", "WEB", "VNC"] = "BATCH",
    port: int | None = None,
    password: str | None = None,
) -> JobRequest:
    """A job that runs a line of POSIX shell, with a license if that is named: for those who try a provider out. `kind`, `port` and
    `password` are the application's."""
    # A parameter and no resource: Core of 2021 looks at no other licenses.
    declared = (license_parameter("license", "The license to use", "acme"),) if license_id else ()
    given: JsonObject = {"script": {"type": "text", "value": script}}
    if license_id:
        given["license"] = {"type": "license_server", "id": license_id}
    application = Application(
        name="shell",
        version="1.0.0",
        title="Shell",
        description="Runs a line of shell",
        image="debian:stable-slim",
        invocation=(word("/bin/sh"), word("-c"), var("script")),
        parameters=(text_parameter("script", "What to run"), *declared),
        allow_multi_node=True,
        kind=kind,
        port=port,
        password=password,
    )
    return JobRequest(application, product, given, replicas=replicas)
