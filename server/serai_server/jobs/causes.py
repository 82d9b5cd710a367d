"""What is told to people about a job: one place for the words, so that they stay alike and can be tested.

Texts name the rank only when there is more than one. Source of NO_CREDITS and LOST: the seed's accounting and verify examples.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence

from serai_backends.model import End, ReplicaObservation

QUEUED = "The job is queued and starts as soon as there is room for it."
FINISHED = "The job has finished processing!"
STOPPED = "The job was stopped."
NO_CREDITS = "The job was terminated (No credits)"
LOST = "Your job is no longer available"
DISOWNED = "UCloud does not know this job; it was stopped."

_SHOWN = 3
"""How many ranks a text names before it says "and N more"."""


def waiting(reason: str) -> str:
    return f"The job is {reason}."


def running(replicas: int) -> str:
    return "The job is now running!" if replicas == 1 else f"All {replicas} replicas of the job are now running!"


def expired(limit_ms: int) -> str:
    return f"The job has reached its time limit of {duration(limit_ms)}."


def duration(span_ms: int) -> str:
    """ "2 hours 5 minutes", "30 seconds"; parts that are 0 are left out."""
    seconds = max(span_ms // 1000, 0)
    parts = ((seconds // 3600, "hour"), (seconds % 3600 // 60, "minute"), (seconds % 60, "second"))
    return " ".join(f"{n} {unit}{'' if n == 1 else 's'}" for n, unit in parts if n) or "0 seconds"


def failed(replicas: Sequence[ReplicaObservation], total: int) -> str:
    """Programs that ended with something other than exit code 0."""
    return _by_rank(replicas, total, _failure)


def broken(replicas: Sequence[ReplicaObservation], total: int) -> str:
    """Replicas that could not be run to their own end."""
    return _by_rank(replicas, total, _breakage)


def _by_rank(replicas: Sequence[ReplicaObservation], total: int, say: Callable[[ReplicaObservation], str]) -> str:
    if total == 1:
        return f"The program {say(replicas[0])}."
    said = [f"rank {r.rank} {say(r)}" for r in replicas[:_SHOWN]]
    more = len(replicas) - len(said)
    if more:
        said.append(f"{more} more likewise" if more > 1 else "1 more likewise")
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}."


def _failure(replica: ReplicaObservation) -> str:
    match replica.end:
        case End.OUT_OF_MEMORY:
            return "used more memory than its machine type has and was ended"
        case End.SIGNALED:
            return f"was ended by signal {replica.signal} ({_signal_name(replica.signal)})"
        case _:
            return f"ended with exit code {replica.exit_code}"


def _breakage(replica: ReplicaObservation) -> str:
    cause = f": {replica.cause.rstrip('.')}" if replica.cause else ""
    match replica.end:
        case End.START_FAILED:
            return f"could not be started{cause}"
        case End.CANCELED:
            return f"was ended from outside{cause}"
        case _:
            return f"was lost{cause}"


def _signal_name(number: int | None) -> str:
    try:
        return signal.Signals(number or 0).name
    except ValueError:
        return "unknown"
