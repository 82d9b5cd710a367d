"""An allocation as the observation of one rank."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from serai_backends.model import End, Phase, ReplicaObservation
from serai_backends.nomad.jobfile import codes
from serai_backends.nomad.names import MAIN
from serai_backends.nomad.observed import times
from serai_backends.nomad.observed.ending import Asked, ending_of, events_of, first, has_started, state_of, terminated
from serai_backends.nomad.observed.network import address_of
from serai_backends.nomad.wire import Allocation, TaskState

_LAST_PLAIN_CODE = 127
"""Those above are signals, or reserved."""
_TERMINAL = frozenset(("complete", "failed", "lost"))


@dataclass(frozen=True, slots=True)
class Around:
    """What Serai itself knows of the job and Nomad does not tell."""

    stopped: bool
    """We asked for the stop."""
    ours: Callable[[int], int]
    """ms since epoch by the node's clock → by ours."""
    program: str
    image: str
    marks: AbstractSet[int] | None = None
    """Codes of jobfile/codes.py of which this rank's start script left its mark in the job's folder; None = nobody can look there."""


def observe(rank: int, alloc: Allocation, around: Around) -> ReplicaObservation:
    """What is known of a rank by its allocation. Never raises, whatever Nomad left out.

    A rank that could not be started has no time of its start, also where the start script had begun: nobody pays for that.
    """
    started_at_ms = _started_at_ms(state_of(alloc, MAIN), around)
    node, address = alloc.node_name, address_of(alloc) or ""
    if not is_over(alloc):
        phase = Phase.WAITING if started_at_ms is None else Phase.RUNNING
        return ReplicaObservation(rank, phase, node=node, address=address, started_at_ms=started_at_ms)
    ending = ending_of(alloc, Asked(around.program, around.image, around.stopped, around.marks))
    if ending.end is End.START_FAILED:
        started_at_ms = None
    ended_at_ms = _ended_at_ms(alloc, around)
    if started_at_ms is not None and (ended_at_ms is None or ended_at_ms < started_at_ms):
        ended_at_ms = started_at_ms
    return ReplicaObservation(
        rank,
        Phase.ENDED,
        end=ending.end,
        exit_code=ending.exit_code,
        signal=ending.signal,
        node=node,
        address=address,
        cause=ending.cause,
        why=ending.why,
        started_at_ms=started_at_ms,
        ended_at_ms=ended_at_ms,
    )


def is_over(alloc: Allocation) -> bool:
    """Whether nothing of it runs any more, as far as anybody can know.

    Nomad calls an allocation terminal while docker still stops its container, so each task must be dead too (facts: nomad-tried §0.7).
    A lost one is over: its node is not heard of, and the guard in the task keeps it from running again.
    """
    if alloc.client_status not in _TERMINAL:
        return False
    return alloc.client_status == "lost" or all(_is_dead(state) for state in (alloc.task_states or {}).values())


def fetching(alloc: Allocation) -> str:
    """The image that its node is fetching; "" = none. Nomad says that it begins and never that it is done (facts: nomad c10)."""
    main = state_of(alloc, MAIN)
    if is_over(alloc) or has_started(main):
        return ""
    last = next((event for event in reversed(events_of(main)) if event.type in {"Driver", "Driver Failure"}), None)
    details = (last.details or {}) if last is not None and last.type == "Driver" else {}
    return details.get("image", "")


def runs(alloc: Allocation) -> bool:
    """Its task was started and is not known to be over; the start script may still be at work."""
    main = state_of(alloc, MAIN)
    return not is_over(alloc) and (has_started(main) or times.from_text(main.started_at) is not None)


def may_be_start(alloc: Allocation) -> bool:
    """It is over, and whether its program ever began only the marks of its start script can say."""
    main = state_of(alloc, MAIN)
    ended = terminated(main)
    if ended is None or not is_over(alloc):
        return False
    began, over = times.from_text(main.started_at), times.of_event(ended)
    quick = began is None or over is None or over - began <= codes.START_MS
    return quick and (ended.exit_code in codes.MEANING or 0 < ended.exit_code <= _LAST_PLAIN_CODE)


def _is_dead(state: TaskState) -> bool:
    if state.state == "dead":
        return terminated(state) is not None or first(state, "Started") is None or times.from_text(state.finished_at) is not None
    # an allocation that was stopped before its node saw it keeps its tasks as pending for ever
    return state.state in {"", "pending"} and not has_started(state) and times.from_text(state.started_at) is None


def _started_at_ms(main: TaskState, around: Around) -> int | None:
    starts = [event for event in events_of(main) if event.type == "Started"]
    # StartedAt is that of the last run; somebody's "restart" must not make the first one free
    at_ms = times.of_event(starts[0]) if len(starts) > 1 else None
    known = (at_ms, times.from_text(main.started_at), times.of_event(starts[0]) if starts else None)
    at_ms = next((at for at in known if at is not None), None)
    return None if at_ms is None else around.ours(at_ms)


def _ended_at_ms(alloc: Allocation, around: Around) -> int | None:
    """The end of the program; where nobody saw it, when Nomad last heard of the allocation."""
    main = state_of(alloc, MAIN)
    last = events_of(main)[-1:]
    known = (
        times.from_text(main.finished_at),
        times.of_event(terminated(main)),
        times.from_ns(alloc.modify_time) if alloc.client_status == "lost" else None,
        times.of_event(last[0]) if last else None,
        times.from_ns(alloc.modify_time),
    )
    at_ms = next((at for at in known if at is not None), None)
    return None if at_ms is None else around.ours(at_ms)
