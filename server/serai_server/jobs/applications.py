"""An application as the server works with it: read once from the message that every one of its jobs carries, and kept.

The same application comes inside every create, and most of the work of a create would be to read it again. So what is read is
kept by the message's bytes, up to a number of applications; nothing in it can change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import msgspec
from serai.jobs.v1.application_pb2 import (
    Application,
    ApplicationParameter,
    ApplicationType,
    AppParameterValue,
    FloatingPointParameter,
    IntegerParameter,
    InvocationParameter,
    ToolBackend,
    VariableInvocation,
    VncDescription,
    WebDescription,
)

_KEPT = 256
_LARGEST_KEPT_BYTES = 128 * 1024
"""So that what is kept stays below 32 MiB of messages."""

_INT64 = 2**63

_WEB, _VNC = ApplicationType.APPLICATION_TYPE_WEB, ApplicationType.APPLICATION_TYPE_VNC
_WEB_PORT, _VNC_PORT = 80, 5900

TAKES: Mapping[str, tuple[str, ...]] = {
    "input_file": ("file",),
    "input_directory": ("file",),
    "text": ("text",),
    "textarea": ("text", "textarea"),
    "integer": ("integer",),
    "floating_point": ("floating_point",),
    "boolean": ("boolean",),
    "enumeration": ("text",),
    "peer": ("peer",),
    "license_server": ("license_server",),
    "ingress": ("ingress",),
    "network_ip": ("network",),
    "modules": ("modules",),
    "workflow": ("workflow",),
    "private_network": ("private_network",),
}
"""Kinds of value that each kind of parameter takes (facts 2021 §8.6; today's Core sends a textarea's value as text)."""

_MAY_BE_LEFT_OUT = {"modules", "workflow", "readme", "private_network"}
"""Kinds that say nothing about the command line; Core declares some of them as not optional and sends no value."""


@dataclass(frozen=True, slots=True)
class Declared:
    """A parameter that the application declares."""

    name: str
    kind: str
    """A key of TAKES, "readme", or "" for one that is not known here."""
    takes: tuple[str, ...]
    required: bool
    """A job must have a value for it: it is not optional and has no default."""
    default: AppParameterValue | None = None
    least: float | None = None
    most: float | None = None
    options: Mapping[str, str] | None = None
    """Enumerations: what the user picks to what the program gets."""
    when_true: str = ""
    when_false: str = ""


@dataclass(frozen=True, slots=True)
class Word:
    word: str


@dataclass(frozen=True, slots=True)
class Variables:
    """Affixes are trimmed (facts 2021 §9.1 rule 3); "" adds nothing."""

    names: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    prefix: str
    suffix: str
    glued_prefix: str
    glued_suffix: str


@dataclass(frozen=True, slots=True)
class Flag:
    name: str
    flag: str


@dataclass(frozen=True, slots=True)
class EnvironmentName:
    name: str


@dataclass(frozen=True, slots=True)
class Template:
    source: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """A kind of element that this server does not know."""


Element = Word | Variables | Flag | EnvironmentName | Template | Unknown


@dataclass(frozen=True, slots=True)
class App:
    name: str
    version: str
    title: str
    type: ApplicationType.ValueType
    tool: ToolBackend.ValueType
    image: str
    declared: Mapping[str, Declared]
    required: tuple[str, ...]
    """Names of the parameters that every job must have a value for."""
    defaults: Mapping[str, tuple[Declared, str, AppParameterValue]]
    """Parameters that have a default, with the kind of its value."""
    command: tuple[Element, ...]
    environment: tuple[tuple[str, Element], ...]
    """Sorted by name."""
    multi_node: bool
    change_working_directory: bool
    run_as_root: bool
    run_as_real_user: bool
    web_port: int | None = None
    """TCP port of its web page, as it was sent (facts 2021 §4.2); None = it has no page."""
    vnc_port: int | None = None
    """TCP port of its desktop, as it was sent (facts 2021 §4.3); None = it has no desktop."""
    vnc_password: str | None = field(default=None, repr=False)
    """None = the desktop has none."""

    @property
    def script(self) -> Template | None:
        """The template that is the whole command; None for a command line."""
        first = self.command[0] if len(self.command) == 1 else None
        return first if isinstance(first, Template) else None

    def templates(self) -> tuple[Template, ...]:
        """Every template, in the order of the command and then of the environment."""
        elements = (*self.command, *(element for _, element in self.environment))
        return tuple(e for e in elements if isinstance(e, Template))


def app_of(encoded: bytes) -> App:
    """The application of a message in its deterministic form."""
    return _kept(encoded) if len(encoded) <= _LARGEST_KEPT_BYTES else _read(encoded)


@lru_cache(maxsize=_KEPT)
def _kept(encoded: bytes) -> App:
    return _read(encoded)


def _read(encoded: bytes) -> App:
    message = Application.FromString(encoded)
    invocation = message.invocation
    tool = invocation.tool.tool.description
    container = invocation.container
    declared = {d.name: d for d in _declarations(invocation.parameters)}
    return App(
        name=message.metadata.name,
        version=message.metadata.version,
        title=message.metadata.title,
        type=invocation.application_type,
        tool=tool.backend,
        image=tool.image or tool.container,
        declared=declared,
        required=tuple(d.name for d in declared.values() if d.required),
        defaults={d.name: (d, d.default.WhichOneof("value") or "", d.default) for d in declared.values() if d.default is not None},
        command=tuple(_element(e) for e in invocation.invocation),
        environment=tuple((name, _element(e)) for name, e in sorted(invocation.environment.items())),
        multi_node=invocation.allow_multi_node,
        change_working_directory=container.change_working_directory if container.HasField("change_working_directory") else True,
        run_as_root=container.run_as_root,
        run_as_real_user=container.run_as_real_user,
        web_port=_port(invocation.web, _WEB_PORT) if invocation.HasField("web") or invocation.application_type == _WEB else None,
        vnc_port=_port(invocation.vnc, _VNC_PORT) if invocation.HasField("vnc") or invocation.application_type == _VNC else None,
        vnc_password=invocation.vnc.password or None,
    )


def _port(description: WebDescription | VncDescription, default: int) -> int:
    return description.port if description.HasField("port") else default


def _declarations(parameters: Iterable[ApplicationParameter]) -> Iterable[Declared]:
    for parameter in parameters:
        kind = parameter.WhichOneof("parameter")
        if kind is None:
            continue
        one = getattr(parameter, kind)
        name: str = one.name  # every member of the union has these two
        optional: bool = one.optional
        default = _default(kind, one.default_value) if "default_value" in one.DESCRIPTOR.fields_by_name else None
        boolean, choices = parameter.boolean, parameter.enumeration.options
        yield Declared(
            name=name,
            kind=kind,
            takes=TAKES.get(kind, ()),
            required=not optional and default is None and kind not in _MAY_BE_LEFT_OUT,
            default=default,
            least=_limit(one, "min"),
            most=_limit(one, "max"),
            options={o.name: o.value for o in choices} if kind == "enumeration" else None,
            when_true=boolean.true_value,
            when_false=boolean.false_value,
        )


def _limit(parameter: object, which: str) -> float | None:
    if not isinstance(parameter, IntegerParameter | FloatingPointParameter):
        return None
    if which == "min":
        return parameter.min if parameter.HasField("min") else None
    return parameter.max if parameter.HasField("max") else None


def _default(kind: str, text: str) -> AppParameterValue | None:
    """A default stands bare or as `{"type":…,"value":…}`; one that is not of its parameter's kind is no default, as in the reference."""
    try:
        found: object = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None
    if isinstance(found, dict):
        found = found.get("value")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - checked by its class below
    value = AppParameterValue()
    match kind, found:
        case (("text" | "textarea" | "enumeration"), str()):
            value.text.value = found
        case "boolean", bool():
            value.boolean.value = found
        case "integer", int() if not isinstance(found, bool) and -_INT64 <= found < _INT64:
            value.integer.value = found
        case "floating_point", (int() | float()) if not isinstance(found, bool):
            value.floating_point.value = found
        case _:  # pyright: ignore[reportUnknownVariableType] - whatever it is, it is not looked at
            return None
    return value


def _element(message: InvocationParameter) -> Element:
    match message.WhichOneof("parameter"):
        case "word":
            return Word(message.word.word)
        case "var":
            return _variables(message.var)
        case "bool_flag":
            return Flag(message.bool_flag.variable_name, message.bool_flag.flag.strip())
        case "env":
            return EnvironmentName(message.env.variable)
        case "jinja":
            return Template(message.jinja.template)
        case _:
            return Unknown()


def _variables(var: VariableInvocation) -> Variables:
    prefix, suffix = var.prefix_variable.strip(), var.suffix_variable.strip()
    before, after = var.prefix_global.strip(), var.suffix_global.strip()
    glue_prefix, glue_suffix = var.is_prefix_variable_part_of_arg, var.is_suffix_variable_part_of_arg
    return Variables(
        names=tuple(var.variable_names),
        before=(before,) if before else (),
        after=(after,) if after else (),
        prefix="" if glue_prefix else prefix,
        suffix="" if glue_suffix else suffix,
        glued_prefix=prefix if glue_prefix else "",
        glued_suffix=suffix if glue_suffix else "",
    )
