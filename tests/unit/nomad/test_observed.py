"""What a real Nomad said of each end (tests/golden/nomad/allocations), in the words of serai_backends.model."""

from __future__ import annotations

import pytest
from fakes.nomad_recorded import ALLOCATIONS, allocation, names
from serai_backends.model import End, Phase, ReplicaObservation, Why
from serai_backends.nomad.observed import Around, is_over, observe

IMAGE, NO_IMAGE, PROGRAM = "acme/batch:1.0.0", "127.0.0.1:1/acme/none:1.0.0", "/no/such"
_OPTION = '2 errors occurred: * failed to parse config: * Invalid label: No argument or block type is named "no_such_option".'
_REFUSED = (
    'failed to download artifact "http://127.0.0.1:1/x": getter subprocess failed: exit status 1: failed to download artifact: '
    'Get "http://127.0.0.1:1/x": dial tcp 127.0.0.1:1: connect: connection refused'
)


def around(*, stopped: bool = False, program: str = PROGRAM, image: str = IMAGE) -> Around:
    return Around(stopped=stopped, ours=lambda ms: ms, program=program, image=image)


def exited(code: int, why: Why = Why.NONE) -> tuple[End, int | None, int | None, Why, str]:
    return End.EXITED, code, None, why, ""


def signaled(number: int) -> tuple[End, int | None, int | None, Why, str]:
    return End.SIGNALED, None, number, Why.NONE, ""


def other(end: End, why: Why, cause: str) -> tuple[End, int | None, int | None, Why, str]:
    return end, None, None, why, cause


def not_started(why: Why, cause: str) -> tuple[End, int | None, int | None, Why, str]:
    return other(End.START_FAILED, why, cause)


ENDS = {
    "raw-success": exited(0),
    "raw-exit-3": exited(3),
    "raw-exit-128": exited(128),
    "raw-signal-9": signaled(9),
    "raw-signal-15": signaled(15),
    "raw-signal-11": signaled(11),
    "raw-signaled-by-hand": signaled(2),
    "raw-with-firewall-exit-3": exited(3),
    "docker-success": exited(0),
    "docker-exit-3": exited(3),
    "docker-bridge-exit-3": exited(3),
    "docker-signal-9": signaled(9),
    "docker-signal-15": signaled(15),
    "docker-out-of-memory": (End.OUT_OF_MEMORY, None, 9, Why.NONE, "the memory limit of the replica was reached"),
    "docker-child-out-of-memory": exited(0, Why.CHILD_OUT_OF_MEMORY),
    "docker-child-out-of-memory-exit-3": exited(3, Why.CHILD_OUT_OF_MEMORY),
    # docker's own init says only by its code that there is no program: not to be told from a program that exits so
    "docker-init-no-command": exited(127),
    "exec-exit-3": exited(3),
    "docker-registry-refused": not_started(
        Why.IMAGE_NOT_FETCHED, f'{NO_IMAGE}: Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused'
    ),
    "raw-no-command": not_started(Why.COMMAND_NOT_FOUND, "/no/such"),
    "docker-no-command": not_started(Why.COMMAND_NOT_FOUND, "/no/such"),
    "exec-no-command": not_started(Why.COMMAND_NOT_FOUND, "/no/such"),
    "raw-not-executable": not_started(Why.SANDBOX_FAILED, "it may not execute /etc/hostname"),
    "docker-not-executable": not_started(Why.SANDBOX_FAILED, "it may not execute /etc"),
    "raw-no-user": not_started(Why.SANDBOX_FAILED, "the machine node-1 has no user nouser"),
    "exec-no-user": not_started(Why.SANDBOX_FAILED, "the machine node-1 has no user nouser"),
    "docker-no-user": not_started(Why.SANDBOX_FAILED, "unable to find user nouser: no matching entries in passwd file"),
    "raw-bad-option": not_started(Why.SANDBOX_FAILED, _OPTION),
    "docker-bad-option": not_started(Why.SANDBOX_FAILED, _OPTION),
    "docker-no-source": not_started(Why.MOUNT_FAILED, "/no/such/folder does not exist on the machine node-1"),
    "raw-bad-template": not_started(Why.SANDBOX_FAILED, 'Template failed: (dynamic): parse: template: :1: function "nosuch" not defined'),
    "raw-no-artifact": not_started(
        Why.SANDBOX_FAILED,
        _REFUSED,
    ),
    "raw-firewall-missing": not_started(Why.SANDBOX_FAILED, 'its firewall could not be started: binary "/no/nft" could not be found'),
    "raw-firewall-fails-later": other(End.CANCELED, Why.NONE, "its firewall ended with exit code 4"),
    "raw-limit": other(End.CANCELED, Why.CLUSTER_LIMIT, ""),
    "docker-limit": other(End.CANCELED, Why.CLUSTER_LIMIT, ""),
    "raw-blocked-limit": other(End.CANCELED, Why.CLUSTER_LIMIT, ""),
    "raw-deregistered-obeys": other(End.CANCELED, Why.STOPPED_BY_OPERATOR, "the job"),
    "raw-deregistered-deaf": other(End.CANCELED, Why.STOPPED_BY_OPERATOR, "the job"),
    "docker-deregistered": other(End.CANCELED, Why.STOPPED_BY_OPERATOR, "the job"),
    "docker-deregistered-deaf": other(End.CANCELED, Why.STOPPED_BY_OPERATOR, "the job"),
    "raw-blocked-deregistered": other(End.CANCELED, Why.STOPPED_BY_OPERATOR, "the job"),
    "docker-blocked-deregistered": other(End.CANCELED, Why.STOPPED_BY_OPERATOR, "the job"),
    "raw-stopped-by-hand": other(End.CANCELED, Why.STOPPED_BY_OPERATOR, "its allocation"),
    "raw-stopped-by-hand-plain": other(End.CANCELED, Why.STOPPED_BY_OPERATOR, "its allocation"),
    "raw-restarted-by-hand": other(End.CANCELED, Why.STOPPED_BY_OPERATOR, "its allocation"),
    "preempted": other(End.CANCELED, Why.PREEMPTED, "node-2"),
    "drained": other(End.CANCELED, Why.NODE_DRAINED, "node-2"),
    "drained-deaf": other(End.CANCELED, Why.NODE_DRAINED, "node-2"),
    "returned": other(End.LOST, Why.NODE_LOST, "node-2"),
    "lost": other(End.LOST, Why.NODE_LOST, "node-2"),
}
"""What is observed of each, by hand: end, exit code, signal, kind of cause, detail. A stop in them was not ours."""


def facts(seen: ReplicaObservation) -> tuple[End | None, int | None, int | None, Why, str]:
    return seen.end, seen.exit_code, seen.signal, seen.why, seen.cause


def _image(name: str) -> str:
    return NO_IMAGE if "registry" in name else IMAGE


@pytest.mark.parametrize("name", sorted(ENDS))
def test_how_it_ended(name: str) -> None:
    """Each way to end has its end, code, signal and cause, whether Nomad was asked for the allocation, for a list, or told it by event."""
    recorded = allocation(name)
    for alloc in (recorded.alone, recorded.listed, recorded.events[-1]):
        seen = observe(0, alloc, around(image=_image(name)))
        assert seen.phase is Phase.ENDED
        assert facts(seen) == ENDS[name]


@pytest.mark.parametrize("name", sorted(ENDS))
def test_times_of_an_end(name: str) -> None:
    """What ran has a start and an end in order; what never ran has only an end."""
    seen = observe(0, allocation(name).alone, around(image=_image(name)))
    assert seen.ended_at_ms is not None
    if seen.end is End.START_FAILED or "blocked" in name:
        assert seen.started_at_ms is None
    else:
        assert seen.started_at_ms is not None
        assert seen.started_at_ms <= seen.ended_at_ms < seen.started_at_ms + 120_000


@pytest.mark.parametrize("name", sorted(name for name in ENDS if "deregistered" in name))
def test_our_own_stop(name: str) -> None:
    """A stop that we asked for is told as that, whatever code the program left; so is one before the start."""
    assert facts(observe(0, allocation(name).alone, around(stopped=True))) == (End.CANCELED, None, None, Why.NONE, "")


@pytest.mark.parametrize("name", ["raw-exit-3", "docker-signal-9", "docker-no-source", "lost"])
def test_an_end_before_our_stop(name: str) -> None:
    """What ended by itself just before our stop reached it keeps its own end."""
    assert facts(observe(0, allocation(name).alone, around(stopped=True))) == ENDS[name]


@pytest.mark.parametrize("name", sorted(ENDS))
def test_on_the_way(name: str) -> None:
    """While Nomad tells of it, a rank waits, runs and ends, in this order and for good."""
    order = [Phase.WAITING, Phase.RUNNING, Phase.ENDED]
    told = sorted(allocation(name).events, key=lambda alloc: alloc.modify_index)
    seen = [order.index(observe(0, alloc, around()).phase) for alloc in told]
    assert seen == sorted(seen)
    assert seen[-1] == 2
    assert [is_over(alloc) for alloc in told] == [place == 2 for place in seen]


def test_every_recording_is_expected() -> None:
    """No end was recorded that has no expectation here."""
    assert names(ALLOCATIONS) == {*ENDS}
