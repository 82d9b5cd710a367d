"""The values that a job runs with: what its user gave and what the application's defaults add, each with its declaration.

What UCloud/Core leaves unchecked is checked here, in words and with the path of the field: limits, choices, wrong types, what is
missing and what nobody declared (facts on today's Core §7).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from serai.jobs.v1.application_pb2 import AppParameterValue
from serai.jobs.v1.job_pb2 import JobSpecification
from serai_backends.model import Features

from serai_server.errors import InvalidRequest, Unsupported
from serai_server.jobs.applications import App, Declared

_NEVER: Mapping[str, str] = {
    "block_storage": "block storage",
    "network": "public IP addresses",
    "ingress": "public links",
    "modules": "software modules",
    "workflow": "workflows",
    "private_network": "private networks",
    "api_server": "inference servers",
}
"""Kinds of value that need machinery this server does not have; a job is refused rather than run without what it asked for."""


_PLAIN = frozenset({"text", "textarea", "integer", "floating_point", "boolean"})
"""Kinds of value that every provider can give."""


@dataclass(frozen=True, slots=True)
class Given:
    """A parameter with its value."""

    declared: Declared
    kind: str
    """Of the value."""
    value: AppParameterValue


Values = Mapping[str, Given]


def values_of(app: App, spec: JobSpecification, features: Features, path: str, *, undeclared: bool) -> Values:
    """Every parameter that has a value, by name. `path` is where the specification stands in the request; `undeclared` = values of
    parameters that the application does not declare are left out rather than refused.

    Raises InvalidRequest, and Unsupported for a value that `features` or this server cannot give.
    """
    found: dict[str, Given] = {}
    for name, value in spec.parameters.items():
        kind = value.WhichOneof("value")
        if kind is None or (kind == "modules" and value.modules.modules in ("", "null", "[]")):
            continue
        if kind not in _PLAIN:
            check_possible(kind, features, parameter_path(path, name))
        declared = app.declared.get(name)
        wrong = _wrong(declared, kind, value) if declared is not None or not undeclared else ""
        if wrong:
            raise InvalidRequest(wrong, field=parameter_path(path, name))
        if declared is not None:
            found[name] = Given(declared, kind, value)
    for name in app.required:
        if name not in found:
            raise InvalidRequest("the application needs a value for this parameter", field=parameter_path(path, name))
    for name, (declared, kind, value) in app.defaults.items():
        if name not in found:
            found[name] = Given(declared, kind, value)
    for index, value in enumerate(spec.resources):
        check_possible(value.WhichOneof("value") or "", features, f"{path}.resources[{index}]")
    return found


def parameter_path(path: str, name: str) -> str:
    """Where a parameter's value stands; `path` is the specification's."""
    return f'{path}.parameters["{name}"]'


def check_possible(kind: str, features: Features, where: str) -> None:
    """Raises Unsupported for a kind of value that this provider cannot give a job."""
    words = _NEVER.get(kind, "")
    if kind == "file" and not features.inputs:
        words = "input files and folders"
    elif kind == "peer" and not features.peers:
        words = "connections to other jobs"
    elif kind == "license_server" and not features.secrets:
        words = "software licenses"
    if words:
        raise Unsupported(f"{where}: this provider does not support {words}", field=where)


def _wrong(declared: Declared | None, kind: str, value: AppParameterValue) -> str:
    """What is wrong with a value, in words; "" = nothing. A step is not looked at: UCloud's own form uses it for the arrows beside the
    field and takes any number that is typed in."""
    if declared is None:
        return "the application declares no parameter of this name"
    if kind not in declared.takes:
        expected = " or ".join(declared.takes)
        return f"expected a value of type {expected}, found {kind}" if expected else "this parameter takes no value"
    return _wrong_value(declared, kind, value)


def _wrong_value(declared: Declared, kind: str, value: AppParameterValue) -> str:
    match kind:
        case "text":
            text = value.text.value
            if declared.options and text not in declared.options:
                return f"expected one of {_some(list(declared.options))}, found {_short(text)}"
            return _NUL if "\0" in text else ""
        case "textarea":
            return _NUL if "\0" in value.textarea.value else ""
        case "integer":
            return _outside(declared, value.integer.value)
        case "floating_point":
            return _outside(declared, value.floating_point.value)
        case _:
            return ""


_NUL = "expected a text without NUL characters, which no program can be given"


def _outside(declared: Declared, number: float) -> str:
    if math.isnan(number):
        return "expected a number"
    if declared.least is not None and number < declared.least:
        return f"expected {declared.least:,} or more, found {number:,}"
    if declared.most is not None and number > declared.most:
        return f"expected {declared.most:,} or less, found {number:,}"
    return ""


def _some(names: list[str]) -> str:
    shown = ", ".join(_short(n) for n in names[:10])
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:39] + "…")
