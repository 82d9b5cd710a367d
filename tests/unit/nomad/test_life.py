"""The table of serai_backends.nomad.life, line by line."""

from __future__ import annotations

import pytest
from fakes.nomad_words import FAILED, RUNNING, Words, alloc, view_of
from serai_backends.model import End, Peer, Why
from serai_backends.nomad.life import START_PATIENCE_MS, Step, next_step
from serai_backends.nomad.records import Stage, StopReason
from serai_backends.nomad.view import PURGED, View

NOW = 1_000_000
DEADLINE_MS = 60_000


def step(view: View, now_ms: int = NOW) -> Step:
    return next_step(view, now_ms, placement_deadline_ms=DEADLINE_MS)


def seen(view: View, *allocs: Words) -> View:
    for words in allocs:
        assert view.see(alloc(view, **words), lambda ms: ms, NOW)
    return view


def test_a_queued_job_waits_for_the_line() -> None:
    """Nothing is done for it before it is released."""
    assert step(view_of(Stage.QUEUED)) is Step.NOTHING


def test_a_released_job_gets_its_folder_before_nomad_hears_of_it() -> None:
    """What it needs on the drives is there when its first rank is placed."""
    assert step(view_of(Stage.RELEASED, prepared=False)) is Step.PREPARE


@pytest.mark.parametrize(
    ("replicas", "peers", "expected"), [(1, (), Step.OPEN), (2, (), Step.REGISTER), (1, (Peer("db", "7"),), Step.REGISTER)]
)
def test_the_start_of_a_lone_rank_is_its_registration(replicas: int, peers: tuple[Peer, ...], expected: Step) -> None:
    """So it is stored as opened first; a gated job is registered behind its shut gate."""
    assert step(view_of(Stage.RELEASED, replicas=replicas, peers=peers)) is expected


def test_the_gate_opens_when_every_address_is_known() -> None:
    """Not before, whatever is placed."""
    view = seen(view_of(Stage.RELEASED, replicas=2, index=5), {"rank": 0, "address": "10.0.0.1"}, {"rank": 1})
    assert step(view) is Step.NOTHING
    seen(view, {"rank": 1, "address": "10.0.0.2", "index": 20})
    assert step(view) is Step.OPEN


def test_a_job_is_taken_back_at_the_deadline_of_its_first_place() -> None:
    """Its first placed rank has waited long enough; a job of which nothing is placed waits on."""
    view = view_of(Stage.RELEASED, replicas=2, index=5)
    assert step(view, NOW * 100) is Step.NOTHING
    seen(view, {"rank": 0, "address": "10.0.0.1"})
    assert step(view, NOW + DEADLINE_MS - 1) is Step.NOTHING
    assert step(view, NOW + DEADLINE_MS) is Step.TAKE_BACK


def test_a_rank_that_is_over_behind_the_gate_ends_the_job() -> None:
    """It could not be set up; nobody will ever start."""
    view = seen(view_of(Stage.RELEASED, replicas=2, index=5), {"rank": 0, "address": "10.0.0.1"}, {"rank": 1, **FAILED})
    assert step(view) is Step.STOP


def test_an_opened_job_writes_its_gate_and_is_registered_once() -> None:
    """In this order, since a lone rank starts with its registration."""
    view = view_of(Stage.OPENED)
    assert step(view) is Step.WRITE_GATE
    view.gate_written = True
    assert step(view) is Step.REGISTER
    assert step(view_of(Stage.OPENED, index=5, gate=True)) is Step.NOTHING


@pytest.mark.parametrize("words", [{"desired": "run", **FAILED}, {"status": "lost"}], ids=["start failed", "lost"])
def test_a_rank_that_fails_on_our_side_ends_the_others(words: Words) -> None:
    """Others of the job still run and are of no use."""
    view = view_of(Stage.OPENED, replicas=2, index=5, gate=True)
    seen(view, {"rank": 0, **RUNNING}, {"rank": 1, **words})
    assert step(view, NOW + START_PATIENCE_MS) is Step.STOP
    # those that could not start either are let to say so
    assert step(view) is (Step.NOTHING if "desired" in words else Step.STOP)


def test_a_program_that_ends_leaves_the_others_alone() -> None:
    """Whatever its exit code; the job is over when all are."""
    view = view_of(Stage.OPENED, replicas=2, index=5, gate=True)
    seen(view, {"rank": 0, **RUNNING}, {"rank": 1, **RUNNING})
    seen(view, {"rank": 1, "index": 20, "status": "failed", "task": "dead", "exit_code": 3})
    assert view.ranks[1].facts.exit_code == 3
    assert step(view) is Step.NOTHING
    seen(view, {"rank": 0, "index": 21, "status": "complete", "task": "dead", "exit_code": 0})
    assert step(view) is Step.FINISH


def test_a_terminal_allocation_with_a_living_task_is_not_over() -> None:
    """Docker's container can outlive the word `complete` by seconds (facts: nomad-tried §0.7)."""
    view = seen(view_of(Stage.OPENED, index=5, gate=True), {"rank": 0, **RUNNING})
    seen(view, {"rank": 0, "index": 20, "status": "complete", "task": "running"})
    assert step(view) is Step.NOTHING


def test_a_second_allocation_of_a_rank_is_stopped() -> None:
    """Somebody asked Nomad for it; the first one's facts count."""
    view = seen(view_of(Stage.OPENED, index=5, gate=True), {"rank": 0, **RUNNING})
    seen(view, {"rank": 0, "id": "second", "created": 30, "index": 30, "status": "pending"})
    assert step(view) is Step.STOP


@pytest.mark.parametrize("stage", [Stage.RELEASED, Stage.OPENED])
def test_a_job_that_nomad_does_not_know_is_over(stage: Stage) -> None:
    """Registered, and gone: purged behind our back, or collected."""
    view = view_of(stage, index=5, gate=True)
    view.gone = PURGED
    assert step(view) is Step.FINISH
    found = view.ending(NOW).replicas[0]
    assert (found.end, found.why, found.cause) == (End.LOST, Why.FORGOTTEN_BY_CLUSTER, PURGED)


@pytest.mark.parametrize(("stage", "last"), [(Stage.STOPPING, Step.FINISH), (Stage.TAKEN_BACK, Step.CLEAR)])
def test_what_is_stopped_is_deregistered_and_waited_for(stage: Stage, last: Step) -> None:
    """Asked of Nomad again after a restart, and over when everything that was placed is."""
    view = seen(view_of(stage, replicas=2, index=5), {"rank": 0, "address": "10.0.0.1"})
    assert step(view) is Step.DEREGISTER
    view.deregistered = True
    assert step(view) is Step.NOTHING
    seen(view, {"rank": 0, "index": 20, "status": "complete", "desired": "stop", "task": "dead"})
    assert step(view) is last


def test_a_stop_that_was_asked_for_cancels_what_never_started() -> None:
    """Also ranks that were never placed."""
    view = view_of(Stage.STOPPING, replicas=2, index=5, stop=StopReason.ASKED)
    view.deregistered = True
    assert [rank.end for rank in view.ending(NOW).replicas] == [End.CANCELED, End.CANCELED]


def test_an_ended_job_is_left_alone() -> None:
    """Until it is forgotten."""
    assert step(view_of(Stage.ENDED, index=5)) is Step.NOTHING


def test_a_gate_is_not_written_before_the_addresses_are_known_again() -> None:
    """A server that died between "opened" and the variable knows no address at first: ranks would start with an empty list."""
    view = view_of(Stage.OPENED, replicas=2, index=5)
    assert step(view) is Step.NOTHING
    seen(view, {"rank": 0, "address": "10.0.0.1"}, {"rank": 1, "address": "10.0.0.2"})
    assert step(view) is Step.WRITE_GATE
