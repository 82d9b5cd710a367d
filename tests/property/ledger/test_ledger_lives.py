"""Random lives of jobs on a real server with its real gateway, over crashes and days without Core: each bill is exact, and made once.

A short form in `make test`; `make property` (SERAI_PROPERTY=long) lives 10,000 lives in each generation of Core. The name of a test has its
seed in it; SERAI_PROPERTY_SEED begins with another one.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fakes.lives.oracle import Judge
from fakes.lives.world import World
from serai_devcore.wire import Generation

LONG = os.environ.get("SERAI_PROPERTY") == "long"
FIRST_SEED = int(os.environ.get("SERAI_PROPERTY_SEED", "1"))
WORLDS, LIVES = (40, 250) if LONG else (1, 150)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("generation", list(Generation), ids=lambda g: g.value)
@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + WORLDS))
async def test_bills_are_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, errors: list[str], generation: Generation, seed: int
) -> None:
    """What Core took for each job is what its running time costs, to one second; each period once, under one id. The states at Core are the
    machine's, EXPIRED only at the limit, and a charge that came again ended nobody's job."""
    judge = Judge(await World(tmp_path, seed, LIVES, generation, monkeypatch).run())
    judge.judge()
    print(f"seed {seed}, Core of {generation.value}, {LIVES} lives: {dict(judge.tried)}")
    assert not judge.wrong, "\n".join(judge.wrong[:20])
    assert not errors, "\n".join(errors[:5])
    never = [what for what in ("crashes", "charges that came again", "paused", "ended EXPIRED") if not judge.tried[what]]
    assert not never, f"nothing was shown about: {never}"
