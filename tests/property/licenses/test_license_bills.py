"""Many licenses, wallets of every size, Core away, answers lost, power cuts and stores that are put back: what each owner is charged.

Long form: SERAI_PROPERTY=long. The name of a test has its seed in it; SERAI_PROPERTY_SEED begins with another one.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fakes.lives.licenses import Bills
from serai_devcore.wire import Generation

LONG = os.environ.get("SERAI_PROPERTY") == "long"
FIRST_SEED = int(os.environ.get("SERAI_PROPERTY_SEED", "1"))
WORLDS, LIVES, LICENSES = (40, 60, 100) if LONG else (1, 10, 25)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("generation", list(Generation), ids=lambda g: g.value)
@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + WORLDS))
async def test_nobody_pays_twice_and_nothing_stays_unpaid_unseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, generation: Generation, seed: int
) -> None:
    """At no moment was more taken for a license than it costs, and none counts as paid for which less was taken. In the end every license
    that is there is paid: in generation 2026 by itself, in 2021 by what the operator decided of those that were shown as not settled."""
    world = Bills(tmp_path, seed, LICENSES, generation, monkeypatch)
    await world.run(LIVES)
    print(f"seed {seed}, Core of {generation.value}, {LICENSES} licenses: {dict(world.tried)}")
    assert not world.wrong, "\n".join(dict.fromkeys(world.wrong[:20]))
    never = [what for what in ("crashes", "put back", "LICENSE_PAYMENT_STATE_UNPAID") if not world.tried[what]]
    assert not never, f"nothing was shown about: {never}"
