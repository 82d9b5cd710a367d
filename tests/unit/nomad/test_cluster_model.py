"""The model of a cluster keeps the rules that a real agent showed (facts: nomad-tried §0, §3, §5)."""

from __future__ import annotations

import random

import pytest
from fakes.nomad_cluster.cluster import Cluster
from fakes.nomad_cluster.history import History
from serai_backends.model import End, Phase, Why
from serai_backends.nomad import names
from serai_backends.nomad.client import Event, EventBatch
from serai_backends.nomad.observed import Around, is_over, observe

NOW = 1_700_000_000_000
OURS = (End.CANCELED, None, None, Why.NONE)


def history(*indexes: int, kept: int = 5) -> History:
    found = History(random.Random(1), kept)
    for index in indexes:
        found.index = index
        found.add(Event("Job", "JobRegistered", "x", index))
    return found


def read(found: History, place: int) -> list[int]:
    entries = found.read(place)
    assert entries is not None
    return [batch.index for _, batch in entries]


def test_where_a_stream_starts() -> None:
    """At the index, inclusive; at the oldest that is kept when the index is gone; at the newest when it is to come. Nothing says so."""
    found = history(*range(11, 21))
    assert read(found, found.start(18)) == [18, 19, 20]
    assert read(found, found.start(0)) == [16, 17, 18, 19, 20]
    assert read(found, found.start(99)) == [20]


def test_a_slow_reader_is_put_out() -> None:
    """It is not told what it missed."""
    found = history(11, 12)
    place = found.start(11)
    for index in range(13, 20):
        found.index = index
        found.add(Event("Job", "JobRegistered", "x", index))
    assert found.read(place) is None


def test_one_index_comes_as_two_lines_too() -> None:
    """As often as not, with the same index in both."""
    found = History(random.Random(1), 100)
    for index in range(20):
        found.index = index
        found.add(Event("Job", "a", "x", index), Event("Evaluation", "b", "y", index))
    entries = found.read(0)
    assert entries is not None
    lines: dict[int, list[EventBatch]] = {}
    for _, batch in entries:
        lines.setdefault(batch.index, []).append(batch)
    assert {len(batches) for batches in lines.values()} == {1, 2}
    assert {sum(len(batch.events) for batch in batches) for batches in lines.values()} == {2}


def test_old_entries_come_again_after_a_restart() -> None:
    """Under their old indexes, and every stream has ended."""
    found = history(*range(11, 40), kept=20)
    before = found.generation
    found.restart()
    again = read(found, found.start(0))
    assert found.generation != before
    assert set(again) <= set(range(11, 40))
    assert again == sorted(again)


def cluster(groups: int = 2, seed: int = 1) -> Cluster:
    found = Cluster(random.Random(seed), now_ms=NOW)
    meta = {names.META_JOB: "a", names.META_PROVIDER: "serai"}
    assert found.register("ucloud-a", tuple(names.group(rank) for rank in range(groups)), meta) is not None
    return found


def let(found: Cluster, steps: int = 60) -> None:
    for _ in range(steps):
        found.now_ms += 10
        found.step()


def open_gate(found: Cluster) -> None:
    lives = [lives[0] for lives in found.jobs["ucloud-a"].placed.values()]
    nodes = "\n".join(life.wire.network_status.address for life in lives if life.wire.network_status is not None)
    found.put_variable(names.variable("ucloud-a"), {names.NODES: nodes}, 0)


def test_nothing_starts_before_the_variable() -> None:
    """However long it takes; then everything does, and ends."""
    found = cluster()
    let(found)
    lives = list(found.allocations.values())
    assert len(lives) == 2
    assert not any(life.ran or life.over for life in lives)
    open_gate(found)
    let(found, 200)
    assert all(life.over for life in lives)
    assert found.jobs["ucloud-a"].wire.status == "dead"
    assert not found.wrong


def test_a_wrong_gate_is_noticed() -> None:
    """Ranks that start with other addresses than they have: the backend's mistake."""
    found = cluster(seed=3)
    let(found)
    found.put_variable(names.variable("ucloud-a"), {names.NODES: ""}, 0)
    let(found, 200)
    assert found.wrong


def test_a_job_is_created_once_and_a_purged_one_again() -> None:
    """Create if absent; a purge takes its allocations away without a word of them, and their programs do not run again."""
    found = cluster(groups=1)
    meta = {names.META_JOB: "a"}
    assert found.register("ucloud-a", ("rank-0",), meta) is None
    found.put_variable(names.variable("ucloud-a"), {names.NODES: "self"}, 0)
    let(found, 100)
    told = found.history.told
    found.deregister("ucloud-a", purge=True, verdict=OURS)
    assert not found.allocations
    assert found.history.told == told + 2
    assert found.register("ucloud-a", ("rank-0",), meta) is not None
    let(found, 100)
    assert found.bodies["a", 0].runs <= 1


@pytest.mark.parametrize("seed", range(30))
def test_what_is_said_is_what_is_true(seed: int) -> None:
    """In the backend's own words: each allocation that is over is told as it ended, by fields alone."""
    found = cluster(groups=4, seed=seed)
    let(found)
    open_gate(found)
    for _ in range(120):
        found.step()
        found.now_ms += 10
        if found.rng.random() < 0.05:
            found.disturb()
    found.calm()
    let(found, 200)
    lives = [life for life in found.bodies["a", 0].lives if not life.erased]
    for life in lives:
        mark = found.bodies["a", 0].mark
        marks = frozenset[int]() if mark is None else frozenset({mark})
        seen = observe(0, life.wire, Around(stopped=False, ours=lambda ms: ms, program="run", image="", marks=marks))
        assert is_over(life.wire) == (seen.phase is Phase.ENDED)
        if life.over:
            assert (seen.end, seen.exit_code, seen.signal, seen.why) in life.verdicts
