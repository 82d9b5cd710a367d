"""A whole Serai that is set up for the conformance kit: its Core is the kit, at an address that is free."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

from serai_conformance import Generation, Target
from serai_conformance.tokens import generate_key, public_pem

from fakes.license_stack import adding
from fakes.lmgrd import FakeLmgrd
from fakes.nomad_agents import AGENTS
from fakes.stack import Stack, free_port, local_text, stack
from fakes.up import up

LOCAL, ENVOY = "local", "local-envoy"
PLACES = (LOCAL, ENVOY, *AGENTS)
"""Where jobs can run, and whether Envoy stands in front."""
UNIT = "example-unit"
"""Billed when a job starts: nobody has to wait a minute for a charge."""
_USERS = """
[gateway.users]
public_key_file = "users.pem"
"""
_MORE = """
[gateway.web]
mode = "host"
domain = "apps.localhost"
[[licenses.products]]
id = "example-license"
category = "example-license"
description = "An example license"
price_per_unit = 1
"""


@dataclass
class Site:
    serai: Stack
    url: str
    """Where Core calls it."""
    target: Target


@contextlib.asynccontextmanager
async def conformance_site(place: str, folder: Path, generation: Generation) -> AsyncGenerator[Site]:
    """Serai runs below `folder`/serai."""
    async with _not_started(place, folder, generation.value) as (serai, url), FakeLmgrd(solver=4) as lmgrd:
        key, port = generate_key(), free_port()
        (serai.folder / "core.key").write_bytes(public_pem(key))
        (serai.folder / "users.pem").write_text(serai.core.users.public_key_pem)
        config = serai.folder / "serai.toml"
        config.write_text(config.read_text().replace(serai.core.url, f"http://127.0.0.1:{port}") + _MORE)
        await serai.start()
        code, _, problem = await serai.cli(*adding(lmgrd, 4))
        assert code == 0, problem
        yield Site(serai, url, Target(url, "example", key, generation, product=UNIT, listen=("127.0.0.1", port)))


@contextlib.asynccontextmanager
async def _not_started(place: str, folder: Path, generation: str) -> AsyncGenerator[tuple[Stack, str]]:
    """With the address of its way in."""
    home = folder / "serai"
    if place == ENVOY:
        async with up(home, tls=False, generation=generation, envoy=f"drain_ms = 0\napps_port = {free_port()}", started=False) as running:
            yield running, running.front.url
        return
    async with contextlib.AsyncExitStack() as opened:
        agent = None if place == LOCAL else await opened.enter_async_context(AGENTS[place](folder / "agent", 32_000, 32_768))
        backend = (local_text(8) if agent is None else agent.settings_text()) + _USERS
        running = await opened.enter_async_context(stack(home, generation=generation, started=False, backend=backend))
        yield running, running.url
