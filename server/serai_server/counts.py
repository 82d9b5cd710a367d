"""What the server counts of its work. Plain numbers that each part adds to; who shows them, and in which form, is not its matter.

The store's are written by its own thread and read by others: each is one integer, so what is read is at most a moment old.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from serai_telemetry.counts import Outcomes, Spread, Tally

from serai_server.store.model import CORE, Outcome, State

_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""Writes of one commit; 512 are the most (store.owner.GROUP)."""
OTHERS = "others"
"""Consumers that are not shown by their name."""
BACKEND_CALLS = ("submit", "cancel", "inspect", "forget", "suspend", "resume", "list")
BACKEND_OUTCOMES = ("ok", "refused", "unavailable", "failed")


@dataclass(slots=True)
class RpcCounts:
    """Calls that went through the chain, from the socket and from inside the process."""

    calls: Outcomes = field(default_factory=Outcomes)
    """(method, caller, code, reason) of calls with one answer."""
    streams: Tally = field(default_factory=Tally)
    """(method, caller, code, reason) of those with a stream of answers, which have no time that would say anything."""
    streams_open: Tally = field(default_factory=Tally)
    """(method,) of calls with a stream of answers, now."""


@dataclass(slots=True)
class StoreCounts:
    commits: Tally = field(default_factory=lambda: Tally((outcome,) for outcome in ("committed", "unavailable", "failed")))
    """(outcome,): "committed", "unavailable", "failed"."""
    writes: int = 0
    """Writes in commits that were made."""
    commit_ns: Spread = field(default_factory=Spread)
    """From the begin of a transaction to its COMMIT."""
    commit_writes: Spread = field(default_factory=lambda: Spread(_SIZES))
    """Writes in each commit."""


@dataclass(slots=True)
class BackendCounts:
    calls: Outcomes = field(default_factory=Outcomes)
    """(call, outcome): BACKEND_CALLS, BACKEND_OUTCOMES."""
    up: bool = True
    """The last call was answered."""


@dataclass(slots=True)
class JobCounts:
    active: Tally = field(default_factory=lambda: Tally((state.name,) for state in State))
    """(state,): jobs that the reconciler looks after, now."""
    entered: Tally = field(default_factory=lambda: Tally((state.name,) for state in State))
    """(state,): jobs that came to it."""
    retries: Tally = field(default_factory=lambda: Tally((cause,) for cause in ("store", "backend", "fault")))
    """(cause,): steps that failed and are done again."""
    backend: BackendCounts = field(default_factory=BackendCounts)


@dataclass(slots=True)
class LedgerCounts:
    charges: int = 0
    """Charges written."""
    periods: int = 0
    """Periods in them, each once, however many replicas it was for."""
    settled: Tally = field(default_factory=lambda: Tally((consumer, outcome.name) for consumer in (CORE, OTHERS) for outcome in Outcome))
    """Events by (consumer, outcome); consumers but Core are OTHERS."""


@dataclass(frozen=True, slots=True)
class Counts:
    """All of the server's."""

    rpc: RpcCounts = field(default_factory=RpcCounts)
    store: StoreCounts = field(default_factory=StoreCounts)
    jobs: JobCounts = field(default_factory=JobCounts)
    ledger: LedgerCounts = field(default_factory=LedgerCounts)
