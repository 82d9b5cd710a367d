"""What is known of a job: words of Nomad in any order, twice, or late; and what is told of it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import msgspec
import pytest
from fakes.nomad_words import FAILED, RUNNING, alloc, view_of
from serai_backends.model import End, Phase, Why
from serai_backends.nomad.jobfile import codes
from serai_backends.nomad.records import Stage, StopReason
from serai_backends.nomad.view import COLLECTED, View

if TYPE_CHECKING:
    from serai_backends.nomad.wire import Allocation

NOW = 1_800_000_000_000


def see(view: View, found: Allocation, now_ms: int = NOW) -> bool:
    return view.see(found, lambda ms: ms, now_ms)


def life(view: View, rank: int, code: int) -> list[Allocation]:
    """What Nomad says of one rank, from its place to its end."""
    return [
        alloc(view, rank=rank, index=10),
        alloc(view, rank=rank, index=11, address=f"10.0.0.{rank}"),
        alloc(view, rank=rank, index=12, status="running", task="running", address=f"10.0.0.{rank}"),
        alloc(
            view, rank=rank, index=13, status="complete" if code == 0 else "failed", task="dead", exit_code=code, address=f"10.0.0.{rank}"
        ),
    ]


@pytest.mark.parametrize("seed", range(20))
def test_words_may_come_in_any_order_and_twice(seed: int) -> None:
    """The newest counts, the end stays the end, and every fact is there."""
    view = view_of(Stage.OPENED, replicas=3, index=5, gate=True)
    words = [word for rank in range(3) for word in life(view, rank, rank)] * 2
    random.Random(seed).shuffle(words)
    over = False
    for word in words:
        see(view, word)
        assert view.over or not over
        over = view.over
    assert [rank.facts.exit_code for rank in view.ranks] == [0, 1, 2]
    assert [rank.facts.address for rank in view.ranks] == ["10.0.0.0", "10.0.0.1", "10.0.0.2"]
    assert not any(see(view, word) for word in words)


def test_words_of_others_are_not_heard() -> None:
    """Another job, another attempt, a group that is no rank."""
    view, other = view_of(Stage.OPENED, index=5), view_of(Stage.OPENED, job_id="other", index=5)
    assert not see(view, alloc(other))
    assert not see(view, alloc(view_of(Stage.OPENED, replicas=9), rank=8))
    assert not view.placed


def test_a_list_without_addresses_does_not_take_them_away() -> None:
    """Lists have no network status; an address that comes later, alone, is taken with the same index."""
    view = view_of(Stage.RELEASED, replicas=2, index=5)
    assert see(view, alloc(view, index=11))
    assert see(view, alloc(view, index=11, address="10.0.0.1"))
    assert see(view, alloc(view, index=12, status="running", task="running"))
    assert view.ranks[0].address == "10.0.0.1"
    assert view.observation().replicas[0].address == "10.0.0.1"


def test_it_runs_when_every_rank_has_started() -> None:
    """Since the last of them did, by our clock: not before it was taken on, not later than now."""
    view = view_of(Stage.OPENED, replicas=2, index=5, gate=True)
    see(view, alloc(view, rank=0, **RUNNING))
    assert view.observation().phase is Phase.WAITING
    early = 1_000_000
    see(view, alloc(view, rank=1, **RUNNING), early)
    found = view.observation()
    assert found.phase is Phase.RUNNING
    assert found.replicas[1].started_at_ms == early
    assert found.running_since_ms == found.replicas[0].started_at_ms


def test_a_start_that_failed_has_no_time() -> None:
    """Though the task had begun: nobody pays for it."""
    view = view_of(Stage.OPENED, index=5, gate=True)
    see(view, alloc(view, **FAILED))
    found = view.ending(NOW)
    assert (found.replicas[0].end, found.running_since_ms, found.why) == (End.START_FAILED, None, Why.SANDBOX_FAILED)
    assert found.reason == found.replicas[0].cause


def test_the_ranks_that_are_ended_for_another_ones_sake_say_so() -> None:
    """The first cause is the one that is told."""
    view = view_of(Stage.STOPPING, replicas=3, index=5, stop=StopReason.RANK_FAILED)
    see(view, alloc(view, rank=0, status="failed", task="dead", started=False))
    see(view, alloc(view, rank=1, index=20, status="complete", desired="stop", task="dead", started=False))
    found = view.ending(NOW)
    assert [rank.end for rank in found.replicas] == [End.START_FAILED, End.START_FAILED, End.CANCELED]
    assert found.replicas[2].why is Why.ANOTHER_RANK_FAILED
    assert found.why is Why.SANDBOX_FAILED


def test_an_allocation_that_nomad_collected_is_lost() -> None:
    """Unless its end was seen before."""
    view = view_of(Stage.OPENED, replicas=2, index=5, gate=True)
    for word in life(view, 0, 0):
        see(view, word)
    see(view, alloc(view, rank=1, **RUNNING))
    view.lose(0, COLLECTED, NOW)
    view.lose(1, COLLECTED, NOW)
    assert [rank.facts.end for rank in view.ranks] == [End.EXITED, End.LOST]
    assert view.over


def test_the_first_allocation_of_a_rank_is_the_one_that_counts() -> None:
    """Also when the second is heard of first."""
    view = view_of(Stage.OPENED, index=5, gate=True)
    see(view, alloc(view, id="second", created=30, index=30, status="running", task="running"))
    see(view, alloc(view, id="first", created=6, index=29, status="complete", desired="stop", task="dead", exit_code=0))
    assert view.ranks[0].alloc_id == "first"
    assert not view.over
    see(view, alloc(view, id="second", created=30, index=31, status="complete", task="dead", exit_code=213))
    assert view.over


def test_what_is_stored_is_where_the_next_server_goes_on() -> None:
    """After a restart an old entry of the stream may come first: what ran still runs, what ended has ended, addresses are known."""
    view = view_of(Stage.OPENED, replicas=2, index=5, gate=True)
    for word in [*life(view, 0, 0), *life(view, 1, 0)[:3]]:
        see(view, word)
    again = View(msgspec.structs.replace(view.record, observation=view.observation()))
    assert again.addresses == ["10.0.0.0", "10.0.0.1"]
    assert see(again, life(view, 1, 0)[0])
    again.lose(0, COLLECTED, NOW)
    assert again.observation() == view.observation()


def test_an_attempt_that_is_taken_back_ends_nothing() -> None:
    """What is ended with it is told as waiting, so the next attempt takes nothing back."""
    view = view_of(Stage.TAKEN_BACK, replicas=2, index=5)
    see(view, alloc(view, rank=0, index=13, status="complete", desired="stop", task="dead", started=False))
    assert view.ranks[0].over
    assert {facts.phase for facts in view.observation().replicas} == {Phase.WAITING}


def test_a_job_that_was_told_as_running_does_not_wait_again() -> None:
    """Also when a rank that Nomad had started turns out not to have come to its program."""
    view = view_of(Stage.OPENED, replicas=2, index=5, gate=True)
    for word in [*life(view, 0, 0)[:3], *life(view, 1, codes.NOT_FOUND)[:3]]:
        see(view, word)
    told = view.observation()
    assert told.phase is Phase.RUNNING
    view.record = msgspec.structs.replace(view.record, observation=told)
    see(view, life(view, 1, codes.NOT_FOUND)[3])
    assert view.ranks[1].facts.end is End.START_FAILED
    now = view.observation()
    assert (now.phase, now.running_since_ms) == (told.phase, told.running_since_ms)
    assert view.ending(NOW).running_since_ms == told.running_since_ms


def test_a_slow_clock_of_a_node_bills_no_wait() -> None:
    """Nothing of it ran before it was given to Nomad."""
    view = view_of(Stage.OPENED, index=5, gate=True)
    view.record = msgspec.structs.replace(view.record, submitted_at_ms=NOW - 60_000, released_at_ms=NOW - 1_000)
    see(view, alloc(view, **RUNNING))
    assert view.observation().running_since_ms == NOW - 1_000


def test_a_second_allocation_out_of_reach_holds_up_no_end() -> None:
    """The job is deregistered: Nomad ends it when its node is back."""
    view = view_of(Stage.STOPPING, index=5, stop=StopReason.RANK_FAILED)
    see(view, alloc(view, id="first", status="complete", desired="stop", task="dead", index=20))
    see(view, alloc(view, id="second", created=30, index=30, status="unknown", task="running"))
    assert view.nothing_lives
