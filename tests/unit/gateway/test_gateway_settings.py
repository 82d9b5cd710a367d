"""The gateway's sections of serai.toml: defaults, limits, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from serai_gateway.settings import CoreSettings, GatewaySettings, ProviderSettings

CORE: dict[str, Any] = {"url": "http://core:8080", "public_key_file": "core.pem", "refresh_token_file": "/etc/serai/refresh"}


def test_defaults() -> None:
    """What must be given is little; the rest is as the facts want it."""
    core = msgspec.convert(CORE, CoreSettings)
    assert (core.generation, core.timeout_ms, core.batch_size) == ("2021", 10_000, 1_000)
    gateway = GatewaySettings()
    assert (gateway.address, gateway.body_limit_bytes) == ("127.0.0.1", 16 * 1024 * 1024)
    assert GatewaySettings(host="::1").address == "::1"
    assert gateway.upstream_timeout_ms < 5_000  # Core's own patience


def test_the_providers_names() -> None:
    """The id and its aliases may stand in a path."""
    provider = msgspec.convert({"id": "example", "aliases": ["ucloud"]}, ProviderSettings)
    assert provider.names == {"example", "ucloud"}


@pytest.mark.parametrize(
    ("section", "given", "where"),
    [
        (CoreSettings, {**CORE, "urll": "x"}, "urll"),
        (CoreSettings, {**CORE, "url": "core:8080"}, "url"),
        (CoreSettings, {**CORE, "url": "ftp://core"}, "url"),
        (CoreSettings, {**CORE, "generation": "2022"}, "generation"),
        (CoreSettings, {**CORE, "batch_size": 1_001}, "batch_size"),
        (CoreSettings, {**CORE, "window": 0}, "window"),
        (CoreSettings, {"url": "http://core"}, "public_key_file"),
        (GatewaySettings, {"port": 70_000}, "port"),
        (GatewaySettings, {"body_limit_bytes": 0}, "body_limit_bytes"),
        (GatewaySettings, {"port": "8889"}, "port"),
        (ProviderSettings, {"id": "a/b"}, "id"),
        (ProviderSettings, {"id": "a,b"}, "id"),
        (ProviderSettings, {"id": ""}, "id"),
        (ProviderSettings, {"id": "a", "aliases": ["b c"]}, "aliases"),
        (ProviderSettings, {"id": "a", "url": "javascript:alert(1)"}, "url"),
        (GatewaySettings, {"public_url": "provider.example.org"}, "public_url"),
        (GatewaySettings, {"public_url": "https://provider.example.org/serai"}, "public_url"),
        (CoreSettings, {**CORE, "reconcile_every_ms": -1}, "reconcile_every_ms"),
    ],
)
def test_what_is_wrong_is_named(section: type, given: dict[str, Any], where: str) -> None:
    """An unknown key, a wrong type, a value out of its limits: the error names the key."""
    with pytest.raises(msgspec.ValidationError, match=where):
        msgspec.convert(given, section)


def test_files_are_relative_to_the_settings_file() -> None:
    """A name that is not absolute is taken from the folder of serai.toml."""
    core = msgspec.convert(CORE, CoreSettings).relative_to(Path("/srv/serai"))
    assert (core.public_key_file, core.refresh_token_file) == ("/srv/serai/core.pem", "/etc/serai/refresh")
