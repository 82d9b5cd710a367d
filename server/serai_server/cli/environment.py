"""Settings of the front door that stand in the environment, where containers have them: SERAI_ENVOY_PORT for gateway.envoy.port.

They stand before those of the file. Lists are written with commas.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import msgspec
from serai_gateway.web_settings import EnvoySettings

PREFIX = "SERAI_ENVOY_"


def merge(raw: dict[str, object], environment: Mapping[str, str]) -> list[str]:
    """Puts them into the file's tables as if they stood there; problems, a line for each. What is no value of a setting is told when the
    whole is checked."""
    fields = {field.name: field for field in msgspec.structs.fields(EnvoySettings)}
    problems: list[str] = []
    for variable, text in environment.items():
        if not variable.startswith(PREFIX):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name not in fields:
            problems.append(f"{variable}: there is no setting gateway.envoy.{name}")
            continue
        section: object = raw
        for key in ("gateway", "envoy"):
            if isinstance(section, dict):
                section = cast("dict[str, object]", section).setdefault(key, {})
        if not isinstance(section, dict):
            continue  # "gateway = 3" in the file is told with the rest of it
        cast("dict[str, object]", section)[name] = _value(text, isinstance(fields[name].default, tuple), fields[name].type)
    return problems


def _value(text: str, many: bool, kind: object) -> object:
    if many:
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return cast("object", msgspec.convert(text, kind, strict=False))
    except msgspec.ValidationError:
        return text
