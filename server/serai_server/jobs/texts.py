"""How values look as arguments, by generation of Core: 2021's provider wrote numbers as Java does, today's writes them as Go does."""

from __future__ import annotations

import math
from collections.abc import Mapping

from serai.jobs.v1.application_pb2 import AppParameterValue

from serai_server.jobs.applications import Declared


def value_text(  # noqa: PLR0911 - one line for each kind of value
    declared: Declared, kind: str, value: AppParameterValue, seen_at: Mapping[str, str], licenses: Mapping[str, str], *, todays: bool
) -> str:
    """A value as an argument. `kind` is the value's own; `seen_at` says where each file's path is seen by the program, `licenses` what
    stands for each license: one that is missing counts as its id, for checks before anything is known of its server."""
    match kind:
        case "text":
            text = value.text.value
            return text if declared.options is None else declared.options.get(text, text)
        case "textarea":
            return value.textarea.value
        case "boolean":
            on = value.boolean.value
            words = (declared.when_true if on else declared.when_false) if todays else ""
            return words or ("true" if on else "false")
        case "integer":
            return str(value.integer.value)
        case "floating_point":
            return go_text(value.floating_point.value) if todays else java_text(value.floating_point.value)
        case "file":
            return seen_at[value.file.path]
        case "peer":
            return value.peer.hostname
        case "license_server":
            return licenses.get(value.license_server.id, value.license_server.id)
        case _:
            raise ValueError(kind)  # kinds without a text are refused before


def java_text(value: float) -> str:
    """As Java's Double.toString: 1.0, 1.0E10, 1.0E-4 (facts 2021 §9.1 rule 7)."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if value == 0:
        return "-0.0" if math.copysign(1, value) < 0 else "0.0"
    sign, digits, point = _digits(value)
    if 1e-3 <= abs(value) < 1e7:
        whole = digits[:point].ljust(point, "0") if point > 0 else "0"
        part = digits[point:] if point > 0 else "0" * -point + digits
        return f"{sign}{whole}.{part or '0'}"
    return f"{sign}{digits[0]}.{digits[1:] or '0'}E{point - 1}"


def go_text(value: float) -> str:
    """As Go's fmt.Sprint: 1, 0.5, 1e+06. Today's reference provider writes floating-point values so."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value == 0:
        return "-0" if math.copysign(1, value) < 0 else "0"
    sign, digits, point = _digits(value)
    exponent = point - 1
    if exponent < -4 or exponent >= 6:
        part = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{part}e{'-' if exponent < 0 else '+'}{abs(exponent):02}"
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    part = digits[point:]
    return f"{sign}{digits[:point].ljust(point, '0')}{'.' if part else ''}{part}"


def _digits(value: float) -> tuple[str, str, int]:
    """Sign, shortest digits without zeros around them, and how many of them stand before the point (may be less than 0)."""
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = repr(abs(value)).partition("e")
    digits, point = mantissa.replace(".", ""), mantissa.find(".")
    point = (point if point >= 0 else len(mantissa)) + int(exponent or 0)
    lead = len(digits) - len(digits.lstrip("0"))
    return sign, digits[lead:].rstrip("0") or "0", point - lead
