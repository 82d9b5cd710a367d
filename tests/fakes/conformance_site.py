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

LOCAL = "local"
PLACES = (LOCAL, *AGENTS)
"""Where jobs can run."""
UNIT = "example-unit"
"""Billed when a job starts: nobody has to wait a minute for a charge."""
_MORE = """
[gateway.users]
public_key_file = "users.pem"
[gateway.web]
mode = "host"
domain = "localhost"
[[licenses.products]]
id = "example-license"
category = "example-license"
description = "An example license"
price_per_unit = 1
"""


@dataclass
class Site:
    serai: Stack
    target: Target


@contextlib.asynccontextmanager
async def conformance_site(place: str, folder: Path, generation: Generation, *, url: str = "") -> AsyncGenerator[Site]:
    """Serai runs below `folder`/serai."""
    async with contextlib.AsyncExitStack() as opened:
        agent = None if place == LOCAL else await opened.enter_async_context(AGENTS[place](folder / "agent", 32_000, 32_768))
        backend = local_text(8) if agent is None else agent.settings_text()
        home = folder / "serai"
        serai = await opened.enter_async_context(stack(home, generation=generation.value, started=False, backend=backend))
        key, port = generate_key(), free_port()
        (home / "core.key").write_bytes(public_pem(key))
        (home / "users.pem").write_text(serai.core.users.public_key_pem)
        config = home / "serai.toml"
        config.write_text(config.read_text().replace(serai.core.url, f"http://127.0.0.1:{port}") + _MORE)
        await serai.start()
        lmgrd = await opened.enter_async_context(FakeLmgrd(solver=4))
        code, _, problem = await serai.cli(*adding(lmgrd, 4))
        assert code == 0, problem
        yield Site(serai, Target(url or serai.url, "example", key, generation, product=UNIT, listen=("127.0.0.1", port)))
