"""Why a job ended or waits, told to people: one table of words, so that they stay alike, can be tested and can be looked up.

Each cause has a key, words, and whose doing it is: a program's own end is SUCCESS in generation 2021 and FAILURE in 2026, a fault of the
provider or of what the user asked for is FAILURE in both (facts on today's Core §10). Texts name the rank only when there is more than one.
Source of the words for missing credits and lost jobs: the seed's accounting and verify examples. docs/causes.md shows the table.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from serai_backends.model import End, ReplicaObservation, Waiting, Why

QUEUED = "The job is queued and starts as soon as there is room for it."
FINISHED = "The job has finished processing!"
STOPPED = "The job was stopped."
NO_CREDITS = "The job was terminated (No credits)"
LOST = "Your job is no longer available"
DISOWNED = "UCloud does not know this job; it was stopped."
LICENSE_PAYING = "UCloud has not said yet whether it is paid for."
LICENSE_GONE = "The job could not be started: a license that it uses was deleted."
LICENSE_NOT_SOLD = "The job could not be started: the provider does not sell a license that it uses any more."
SUSPENDED = "The job is suspended: it keeps its memory and does not run, and that time is free."
RESUMED = "The job goes on."

_NUMBER_OR_END = re.compile("[0-9:.]")

_SHOWN = 3
"""How many ranks a text names before it says "and N more"."""


class Blame(Enum):
    """Whose doing the end was; decides the state that Core is told."""

    PROGRAM = "the program's own"
    PROVIDER = "the provider's, or of what was asked for"
    ASKED = "asked for"
    NOBODY = "still to come"


@dataclass(frozen=True, slots=True)
class Cause:
    """One line of the table."""

    key: str
    words: str
    """Of a replica: what follows "The program " or "rank N ", with {detail}, {code}, {signal} and {name} to be filled in. Of a job: a
    sentence, where it depends on numbers with some for example."""
    blame: Blame


_EXIT = Cause("exit-code", "ended with exit code {code}", Blame.PROGRAM)
_SIGNAL = Cause("signal", "was ended by signal {signal} ({name}){detail}", Blame.PROGRAM)
_MEMORY = Cause("out-of-memory", "used more memory than its machine type has and was ended", Blame.PROGRAM)
_OUTSIDE = Cause("ended-from-outside", "was ended from outside{detail}", Blame.PROVIDER)
_START = Cause("start-failed", "could not be started{detail}", Blame.PROVIDER)
_VANISHED = Cause("vanished", "was lost{detail}", Blame.PROVIDER)

_BY_END: Mapping[End, Cause] = {
    End.EXITED: _EXIT,
    End.SIGNALED: _SIGNAL,
    End.OUT_OF_MEMORY: _MEMORY,
    End.CANCELED: _OUTSIDE,
    End.START_FAILED: _START,
    End.LOST: _VANISHED,
}

_BY_WHY: Mapping[Why, Cause] = {
    Why.COMMAND_NOT_FOUND: Cause("command-not-found", "could not be started: there is no program {detail} on the machine", Blame.PROVIDER),
    Why.COMMAND_NOT_EXECUTABLE: Cause(
        "command-not-executable", "could not be started: the file {detail} is not a program that may be executed", Blame.PROVIDER
    ),
    Why.IMAGE_NOT_FOUND: Cause("image-not-found", "could not be started: there is no image {detail}", Blame.PROVIDER),
    Why.NO_SPACE: Cause("no-space", "could not be started: there is no space left on {detail}", Blame.PROVIDER),
    Why.INPUT_MISSING: Cause("input-missing", "could not be started: the input {detail} does not exist", Blame.PROVIDER),
    Why.INPUT_FORBIDDEN: Cause("input-forbidden", "could not be started: the job may not use the input {detail}", Blame.PROVIDER),
    Why.MOUNT_FAILED: Cause("mount-failed", "could not be started: an input could not be mounted: {detail}", Blame.PROVIDER),
    Why.PEER_GONE: Cause(
        "peer-gone", "could not be started: the job that it wants to reach as {detail} is not running any more", Blame.PROVIDER
    ),
    Why.SANDBOX_FAILED: Cause("sandbox-failed", "could not be started: its sandbox could not be made: {detail}", Blame.PROVIDER),
    Why.TOO_LARGE: Cause("too-large", "could not be started: {detail}", Blame.PROVIDER),
    Why.NODE_LOST: Cause("node-lost", "was lost: the machine {detail} went away", Blame.PROVIDER),
    Why.NODE_RESTARTED: Cause("node-restarted", "was lost: the machine {detail} was restarted while it ran", Blame.PROVIDER),
    Why.NODE_DRAINED: Cause("node-drained", "was ended: the machine {detail} was taken out of service", Blame.PROVIDER),
    Why.PREEMPTED: Cause("preempted", "was ended: its place on the machine {detail} was given to a job of higher priority", Blame.PROVIDER),
    Why.STOPPED_BY_OPERATOR: Cause("stopped-by-operator", "was ended: an operator of the cluster stopped {detail}", Blame.PROVIDER),
    Why.FORGOTTEN_BY_CLUSTER: Cause("forgotten-by-cluster", "was lost: the cluster does not know it any more ({detail})", Blame.PROVIDER),
    Why.CLUSTER_LIMIT: Cause("cluster-limit", "was ended by the cluster's own limit of time", Blame.PROVIDER),
    Why.IMAGE_NOT_FETCHED: Cause("image-not-fetched", "could not be started: its image could not be fetched: {detail}", Blame.PROVIDER),
    Why.ANOTHER_RANK_FAILED: Cause("another-rank-failed", "was ended because another rank was lost or could not start", Blame.PROVIDER),
    Why.KILLED_FROM_OUTSIDE: Cause("killed-from-outside", "was lost: {detail} was ended by somebody on the machine", Blame.PROVIDER),
}

_CHILD = Cause("child-out-of-memory", "; one of its processes had been ended by its memory limit", Blame.PROGRAM)

TABLE: tuple[Cause, ...] = (
    Cause("finished", FINISHED, Blame.PROGRAM),
    *_BY_END.values(),
    _CHILD,
    *_BY_WHY.values(),
    Cause("stopped", STOPPED, Blame.ASKED),
    Cause("no-credits", NO_CREDITS, Blame.ASKED),
    Cause("time-limit", "The job has reached its time limit of 1 hour.", Blame.ASKED),
    Cause("no-longer-available", LOST, Blame.PROVIDER),
    Cause("disowned", DISOWNED, Blame.PROVIDER),
    Cause("queued", QUEUED, Blame.NOBODY),
    Cause(
        "waiting-for-cores",
        "The job is waiting for 2 cores (1 of 4 are free); 3 jobs are before it; it starts within 25 minutes.",
        Blame.NOBODY,
    ),
    Cause("waiting-for-memory", "The job is waiting for 8.0 GiB of memory (2.0 GiB are free).", Blame.NOBODY),
    Cause("waiting-for-its-turn", "The job is waiting for its turn; 1 job is before it.", Blame.NOBODY),
    Cause("waiting-for-seats", "The job is waiting for a seat of its license: 3 of 3 seats in use.", Blame.NOBODY),
    Cause("waiting-for-more-seats", "The job needs 4 seats of its license and there are 3. It waits until there are more.", Blame.NOBODY),
    Cause(
        "waiting-for-license",
        "The job is waiting for its license. The license cannot be used now: its license server does not answer. It is tried again and"
        " again.",
        Blame.NOBODY,
    ),
    Cause("waiting-for-key", "The job is waiting for the key of its license, which the provider cannot read now.", Blame.NOBODY),
    Cause("license-gone", LICENSE_GONE, Blame.PROVIDER),
    Cause("license-not-sold", LICENSE_NOT_SOLD, Blame.PROVIDER),
    Cause(
        "time-nearly-over", "The job ends in 10 minutes, when its time limit is reached. Save what is needed, or extend it.", Blame.NOBODY
    ),
    Cause("suspended", SUSPENDED, Blame.NOBODY),
)
"""Every cause, for the documents and for the tests that provoke each."""


def running(replicas: int) -> str:
    return "The job is now running!" if replicas == 1 else f"All {replicas} replicas of the job are now running!"


def expired(limit_ms: int) -> str:
    return f"The job has reached its time limit of {duration(limit_ms)}."


def nearly_over(left_ms: int) -> str:
    """Rounded up, to minutes or at the end to ten seconds: nobody plans by less."""
    step_ms = 60_000 if left_ms > 60_000 else 10_000
    about_ms = max(-(-left_ms // step_ms), 1) * step_ms
    return f"The job ends in {duration(about_ms)}, when its time limit is reached. Save what is needed, or extend it."


def extended(limit_ms: int) -> str:
    return f"The time limit of the job is now {duration(limit_ms)}."


def duration(span_ms: int) -> str:
    """ "2 hours 5 minutes", "30 seconds"; parts that are 0 are left out."""
    seconds = max(span_ms // 1000, 0)
    parts = ((seconds // 3600, "hour"), (seconds % 3600 // 60, "minute"), (seconds % 60, "second"))
    return " ".join(f"{n} {unit}{'' if n == 1 else 's'}" for n, unit in parts if n) or "0 seconds"


def waiting(reason: str) -> str:
    return f"The job is {reason}."


def queue_place(place: Waiting, now_ms: int) -> str:
    """For what it waits, how many are before it, and when it starts at the latest if that is known."""
    needs = [f"{_count(place.cpu, 'core')} ({place.free_cpu} of {place.all_cpu} are free)"] if place.cpu else []
    if place.memory_bytes:
        needs.append(f"{_size(place.memory_bytes)} of memory ({_size(place.free_memory_bytes)} are free)")
    said = f"The job is waiting for {' and '.join(needs) or 'its turn'}"
    if place.ahead:
        said += f"; {_count(place.ahead, 'job')} {'is' if place.ahead == 1 else 'are'} before it"
    if place.latest_start_ms is not None:
        said += f"; it starts within {_about(place.latest_start_ms - now_ms)}"
    return f"{said}."


def waits_for_seats(used: int, limit: int, ahead: int) -> str:
    """`used` of `limit` seats of its license are held by jobs, and `ahead` jobs came before it."""
    others = f", and {_count(ahead, 'job')} came before it" if ahead and used < limit else ""
    return f"The job is waiting for a seat of its license: {used} of {limit} seats in use{others}."


def waits_for_more_seats(needed: int, capacity: int) -> str:
    """It needs more than there are, were all of them free; an operator may raise the number."""
    there = {0: "there are none", 1: "there is 1"}.get(capacity, f"there are {capacity}")
    return f"The job needs {_count(needed, 'seat')} of its license and {there}. It waits until there are more."


def waits_for_license(status: str) -> str:
    """`status` = the license's own words."""
    return f"The job is waiting for its license. {status}"


def alike(one: str, other: str) -> bool:
    """Whether two of the reasons above differ in their numbers, or in the words of a license, at most."""
    return _NUMBER_OR_END.split(one, 1)[0] == _NUMBER_OR_END.split(other, 1)[0]


def failed(replicas: Sequence[ReplicaObservation], total: int) -> str:
    """What ended the replicas, with rank, exit code or signal. `replicas` are those that matter, `total` how many the job has."""
    if total == 1:
        return f"The program {_say(replicas[0])}."
    said = [f"rank {r.rank} {_say(r)}" for r in replicas[:_SHOWN]]
    more = len(replicas) - len(said)
    if more:
        said.append(f"{more} more likewise")
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}."


def refused(why: Why, detail: str) -> str:
    """The job was never started, and no replica has anything to say."""
    cause = _BY_WHY.get(why)
    return f"The job {cause.words.format(detail=detail.rstrip('.'))}." if cause is not None else detail


def cause_of(replica: ReplicaObservation) -> Cause:
    return _BY_WHY.get(replica.why) or _BY_END[replica.end or End.LOST]


def _say(replica: ReplicaObservation) -> str:
    cause, detail = cause_of(replica), replica.cause.rstrip(".")
    if cause in _BY_END.values():
        # Words that the machine gave, where no kind of cause fits.
        detail = f": {detail}" if detail else ""
    said = cause.words.format(detail=detail, code=replica.exit_code, signal=replica.signal, name=_signal_name(replica.signal))
    return said + _CHILD.words if replica.why is Why.CHILD_OUT_OF_MEMORY else said


def _signal_name(number: int | None) -> str:
    try:
        return signal.Signals(number or 0).name
    except ValueError:
        return "unknown"


def _count(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def _about(span_ms: int) -> str:
    """Rounded up, so that the words change seldom: minutes, from an hour on quarters of an hour, from a day on hours."""
    minutes = max(-(-span_ms // 60_000), 1)
    step = 1 if minutes <= 10 else 5 if minutes <= 60 else 15 if minutes <= 24 * 60 else 60
    return duration(-(-minutes // step) * step * 60_000)
