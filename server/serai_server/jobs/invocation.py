"""Command lines and environments from an application's invocation and the user's values.

No shell is ever involved: the result is an argument vector. Rules and worked examples: facts on the wire of 2021, §9.1 and §9.2.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from serai.jobs.v1.application_pb2 import (
    Application,
    ApplicationParameter,
    AppParameterValue,
    FlagInvocation,
    InvocationParameter,
    VariableInvocation,
)

from serai_server.errors import InvalidRequest, Unsupported

Values = Mapping[str, AppParameterValue]

_MAX_ARGUMENT_BYTES = 131_071
"""Linux refuses a longer single argument (MAX_ARG_STRLEN)."""
_MAX_TOTAL_BYTES = 1_048_576
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Command:
    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]


def build_command(application: Application, values: Values, path: str) -> Command:
    """The job's command. `path` is where the values stand in the request ("items[0].specification.parameters").

    Raises InvalidRequest for values or invocations that give no command, Unsupported for kinds that this server does not know.
    """
    options = _enumeration_options(application.invocation.parameters)
    argv: list[str] = []
    for parameter in application.invocation.invocation:
        argv += _arguments(parameter, values, options, path)
    if not argv:
        raise InvalidRequest("the application's invocation gives an empty command line", field=path)
    environment: list[tuple[str, str]] = []
    for name, parameter in sorted(application.invocation.environment.items()):
        words = (
            [f"$({parameter.env.variable})"] if parameter.WhichOneof("parameter") == "env" else _arguments(parameter, values, options, path)
        )
        if words:
            environment.append((_checked_name(name, path), " ".join(words)))
    _check_sizes([*argv, *(f"{k}={v}" for k, v in environment)], path)
    return Command(tuple(argv), tuple(environment))


def _arguments(parameter: InvocationParameter, values: Values, options: Mapping[str, Mapping[str, str]], path: str) -> list[str]:
    match parameter.WhichOneof("parameter"):
        case "word":
            return [parameter.word.word]
        case "var":
            return _variable(parameter.var, values, options, path)
        case "bool_flag":
            return _flag(parameter.bool_flag, values, path)
        case "env":
            return []
        case "jinja":
            raise Unsupported("this server does not run applications whose command line is a jinja template")
        case _:
            raise Unsupported("the application's invocation has a kind of parameter that this server does not know")


def _variable(var: VariableInvocation, values: Values, options: Mapping[str, Mapping[str, str]], path: str) -> list[str]:
    present = [
        text(values[name], options.get(name, {}), f'{path}["{name}"]')
        for name in var.variable_names
        if name in values and values[name].WhichOneof("value") is not None
    ]
    if not present:
        return []
    prefix, suffix = var.prefix_variable.strip(), var.suffix_variable.strip()
    words: list[str] = []
    for value in present:
        glued = f"{prefix if var.is_prefix_variable_part_of_arg else ''}{value}{suffix if var.is_suffix_variable_part_of_arg else ''}"
        if prefix and not var.is_prefix_variable_part_of_arg:
            words.append(prefix)
        words.append(glued)
        if suffix and not var.is_suffix_variable_part_of_arg:
            words.append(suffix)
    before, after = var.prefix_global.strip(), var.suffix_global.strip()
    return [*([before] if before else ()), *words, *([after] if after else ())]


def _flag(flag: FlagInvocation, values: Values, path: str) -> list[str]:
    value = values.get(flag.variable_name)
    if value is None or value.WhichOneof("value") is None:
        return []
    if value.WhichOneof("value") != "boolean":
        raise InvalidRequest("expected a boolean, because the application uses it as a flag", field=f'{path}["{flag.variable_name}"]')
    return [flag.flag.strip()] if value.boolean.value else []


def text(value: AppParameterValue, options: Mapping[str, str], path: str) -> str:  # noqa: PLR0911 - one line for each kind of value
    """A value as an argument. `options` maps an enumeration's names to its values; {} = not an enumeration."""
    match value.WhichOneof("value"):
        case "text":
            return options.get(value.text.value, value.text.value)
        case "textarea":
            return value.textarea.value
        case "boolean":
            return "true" if value.boolean.value else "false"
        case "integer":
            return str(value.integer.value)
        case "floating_point":
            return double_text(value.floating_point.value)
        case "file":
            return work_path(value.file.path)
        case "peer":
            return value.peer.hostname
        case "license_server":
            return value.license_server.id
        case "network":
            return value.network.id
        case "ingress":
            return value.ingress.id
        case _:
            raise Unsupported("a value of this kind cannot be used on a command line", field=path)


def work_path(path: str) -> str:
    """Where an input file or folder is seen by the program: `/work/{last component}`."""
    return f"/work/{path.rstrip('/').rsplit('/', 1)[-1]}"


def double_text(value: float) -> str:
    """A floating-point value as Java's Double.toString writes it: 1.0, 1.0E10, 1.0E-4 (facts 2021 §9.1 rule 7)."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if value == 0:
        return "-0.0" if str(value).startswith("-") else "0.0"
    sign, magnitude = ("-", -value) if value < 0 else ("", value)
    mantissa, _, exponent = repr(magnitude).partition("e")
    digits, point = mantissa.replace(".", ""), mantissa.find(".")
    point = (point if point >= 0 else len(mantissa)) + int(exponent or 0)
    lead = len(digits) - len(digits.lstrip("0"))
    digits, point = digits[lead:].rstrip("0") or "0", point - lead
    if 1e-3 <= magnitude < 1e7:
        whole = digits[:point].ljust(point, "0") if point > 0 else "0"
        part = digits[point:] if point > 0 else "0" * -point + digits
        return f"{sign}{whole}.{part or '0'}"
    return f"{sign}{digits[0]}.{digits[1:] or '0'}E{point - 1}"


def _enumeration_options(parameters: Iterable[ApplicationParameter]) -> dict[str, dict[str, str]]:
    return {
        p.enumeration.name: {o.name: o.value for o in p.enumeration.options}
        for p in parameters
        if p.WhichOneof("parameter") == "enumeration"
    }


def _checked_name(name: str, path: str) -> str:
    if not _ENVIRONMENT_NAME.fullmatch(name):
        raise InvalidRequest(f"the application sets an environment variable with a name that no system takes: {name[:64]!r}", field=path)
    return name


def _check_sizes(words: Iterable[str], path: str) -> None:
    total = 0
    for word in words:
        size = len(word.encode("utf-8", "surrogatepass"))
        if "\0" in word:
            raise InvalidRequest("an argument of the command line holds a NUL character", field=path)
        if size > _MAX_ARGUMENT_BYTES:
            raise InvalidRequest(f"an argument of the command line is longer than {_MAX_ARGUMENT_BYTES} bytes", field=path)
        total += size + 1
    if total > _MAX_TOTAL_BYTES:
        raise InvalidRequest(f"the command line is longer than {_MAX_TOTAL_BYTES} bytes in all", field=path)
