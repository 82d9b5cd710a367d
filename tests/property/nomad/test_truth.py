"""The Nomad backend on a model of a cluster. Streams break, entries are lost or come again, calls fail, machines vanish, operators
interfere, the server is killed at any await: no transition is lost, doubled or told otherwise, and no program runs twice.

A short form in `make test`; `make property` (SERAI_PROPERTY=long) tells a million events. The name of a test has its seed in it;
SERAI_PROPERTY_SEED begins with another one.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from fakes.nomad_cluster.world import World

LONG = os.environ.get("SERAI_PROPERTY") == "long"
FIRST_SEED = int(os.environ.get("SERAI_PROPERTY_SEED", "1"))
WORLDS, EVENTS = (20, 50_000) if LONG else (2, 15_000)
SHOWN = (
    "running", "ended", "exited", "signaled", "out_of_memory", "exited child_out_of_memory", "start_failed sandbox_failed",
    "start_failed command_not_found", "canceled", "canceled another_rank_failed", "canceled node_drained", "canceled preempted",
    "canceled stopped_by_operator", "lost node_lost", "lost forgotten_by_cluster",
)  # fmt: skip


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + WORLDS))
async def test_no_transition_is_lost_or_doubled(tmp_path: Path, errors: list[str], seed: int) -> None:
    """Each job is told as waiting, running and ended at most once each, in this order, running since when it truly ran, ended as it truly
    did; no rank ran twice; ranks start together with the addresses that they have; nothing is left at Nomad."""
    random.seed(seed)
    world = World(seed, EVENTS, str(tmp_path))
    await world.run()
    print(f"seed {seed}: {world.cluster.history.told} events, {world.kills} kills, {world.cuts} cuts, {dict(world.judge.seen)}")
    assert not world.judge.wrong, "\n".join(world.judge.wrong[:20])
    assert not errors, "\n".join(errors[:5])
    never = [what for what in SHOWN if not world.judge.seen[what]]
    assert not never, f"nothing was shown about: {never}"
