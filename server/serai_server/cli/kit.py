"""What a provider needs to meet a stand-in for Core: its keys as files, and settings that name them. For `serai devcore` and the demo."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from serai_devcore import EXAMPLE_LICENSE, EXAMPLE_PRODUCT, DevCore, Generation, Product, Provider

SETTINGS = "serai.toml"
PUBLIC_KEY = "core-public-key.pem"
REFRESH_TOKEN = "refresh-token"  # noqa: S105 - a file's name
USERS_KEY = "users.pem"
"""Public half of the key that signs users' tokens."""


@dataclass(frozen=True, slots=True)
class Kit:
    """What the settings say beside the keys."""

    core_url: str
    generation: Generation
    provider: str = "example"
    aliases: tuple[str, ...] = ("ucloud",)
    """The seed's curl names the provider `ucloud` in its path."""
    gateway_port: int = 8889
    access_log: bool = True
    cpu: int = 4
    """Cores that are given out, whatever the machine has: the examples sleep more than they compute."""
    memory_gib: int = 8
    program_dirs: tuple[Path, ...] = ()
    products: tuple[Product, ...] = field(default=(EXAMPLE_PRODUCT, EXAMPLE_LICENSE))
    """Machines and licenses."""


def write_secret(file: Path, content: bytes) -> None:
    """Write a file that only its owner may read, also when it was there with other rights."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        os.fchmod(descriptor, 0o600)
        out.write(content)


def write_keys(folder: Path, core: DevCore, provider: Provider) -> None:
    """Core's public key for the provider, that of its users, and the provider's refresh token."""
    (folder / USERS_KEY).write_text(core.users.public_key_pem, encoding="utf-8")
    (folder / PUBLIC_KEY).write_text(provider.issuer.public_key_pem, encoding="utf-8")
    write_secret(folder / REFRESH_TOKEN, provider.issuer.refresh_token.encode() + b"\n")


def settings_text(kit: Kit) -> str:
    """A serai.toml for the provider, to stand beside its keys."""
    lines = [
        "# Written by serai for a stand-in of UCloud/Core. Relative paths are relative to this file's folder.",
        "[provider]",
        f"id = {_text(kit.provider)}",
        f"aliases = {_texts(kit.aliases)}",
        "",
        "[core]",
        f"url = {_text(kit.core_url)}",
        f"public_key_file = {_text(PUBLIC_KEY)}",
        f"refresh_token_file = {_text(REFRESH_TOKEN)}",
        f"generation = {_text(kit.generation.value)}",
        "",
        "[gateway]",
        f"port = {kit.gateway_port}",
        f"access_log = {str(kit.access_log).lower()}",
        "",
        "[gateway.web]",
        'mode = "host"',
        "# Browsers take every name below it for this machine.",
        'domain = "localhost"',
        "",
        "# For `serai up`: without certificates, for this machine only.",
        "[gateway.envoy]",
        'host = "127.0.0.1"',
        "port = 8443",
        "apps_port = 8444",
        "",
        "[gateway.users]",
        f"public_key_file = {_text(USERS_KEY)}",
        "",
        "[server]",
        'state_dir = "state"',
        "",
        "[backend.local]",
        'drives_dir = "drives"',
        "# More than the machine may have: the examples sleep more than they compute. 0 = what it has.",
        f"cpu = {kit.cpu}",
        f"memory_gib = {kit.memory_gib}",
        f"program_dirs = {_texts(str(folder) for folder in kit.program_dirs)}",
    ]
    for product in kit.products:
        lines += _license(product) if product.kind == "license" else _machine(product)
    return "\n".join(lines) + "\n"


def _machine(product: Product) -> list[str]:
    return [
        "",
        "[[products]]",
        f"id = {_text(product.id)}",
        f"category = {_text(product.category)}",
        f"cpu = {product.cpu}",
        f"memory_gib = {product.memory_gib}",
        'price_unit = "minute"',
        f"price_per_unit = {product.price_per_unit}",
    ]


def _license(product: Product) -> list[str]:
    return [
        "",
        "[[licenses.products]]",
        f"id = {_text(product.id)}",
        f"category = {_text(product.category)}",
        f"description = {_text(product.description)}",
        f"price_per_unit = {product.price_per_unit}",
    ]


def example_folder() -> Path | None:
    """The examples of a source checkout; None in an installation that has none."""
    folder = Path(__file__).resolve().parents[3] / "examples"
    return folder if (folder / "requests" / "batch.json").is_file() else None


def program_dirs(examples: Path | None) -> tuple[Path, ...]:
    """Folders with the example programs."""
    return () if examples is None else (examples / "acme-batch", examples / "acme-licensed", examples / "ucloud-etc")


def _text(value: str) -> str:
    # A basic string of TOML; JSON's escapes are a part of TOML's.
    return json.dumps(value, ensure_ascii=False)


def _texts(values: Iterable[str]) -> str:
    return "[" + ", ".join(_text(value) for value in values) + "]"
