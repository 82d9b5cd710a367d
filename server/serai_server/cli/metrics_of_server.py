"""The server's metrics: what each is called, and from which part of the running server it is read. docs/metrics.md has a row for each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from prometheus_client import Metric as Family
from serai_backends.api import TellsTrouble
from serai_backends.model import Capacity
from serai_telemetry.counts import Labels
from serai_telemetry.families import Metric, Number

from serai_server.clock import Clock
from serai_server.counts import BACKEND_CALLS as CALLS_OF_BACKEND
from serai_server.counts import BACKEND_OUTCOMES, OTHERS
from serai_server.licenses.ports import Standing
from serai_server.licenses.servers.watcher import Watcher
from serai_server.main import Core
from serai_server.rpc.call import Caller
from serai_server.rpc.health import Health
from serai_server.store.license_model import Line
from serai_server.store.model import CORE, Backlog
from serai_server.store.session_model import SessionKind

_MOST_CONSUMERS = 20
"""That are shown by their name, beside Core; any tool may make one, so all others are shown as one."""
_REFUSALS = ("UNAUTHENTICATED", "FORBIDDEN")
"""Reasons of the table of errors that are about the caller: a token that is wrong, expired or revoked, and one that may not do this."""

CALLS = Metric(
    "serai_rpc_calls_total",
    "counter",
    "calls",
    "gRPC calls that ended, from the sockets and from inside the process",
    ("method", "caller", "code", "reason"),
)
REFUSED = Metric(
    "serai_tools_refused_calls_total", "counter", "calls", "Calls at the tools' door that were refused for who makes them", ("reason",)
)
CALL_SECONDS = Metric(
    "serai_rpc_call_duration_seconds",
    "histogram",
    "seconds",
    "Time that gRPC calls with one answer took, refused ones included",
    ("method",),
)
STREAMS = Metric(
    "serai_rpc_streams_open", "gauge", "calls", "gRPC calls with a stream of answers that are open: follows, watches, shells", ("method",)
)
PARTS = Metric("serai_part_up", "gauge", "", "1 = this part of the server works", ("part",))
JOBS = Metric("serai_jobs", "gauge", "jobs", "Jobs that are not both over and cleared away", ("state",))
ENTERED = Metric("serai_job_states_entered_total", "counter", "jobs", "Jobs that came to this state", ("state",))
QUEUE = Metric("serai_reconciler_queue_jobs", "gauge", "jobs", "Jobs that wait for a worker of the reconciler")
QUEUE_AGE = Metric("serai_reconciler_queue_age_seconds", "gauge", "seconds", "For how long the job waits that comes next")
WORKING = Metric("serai_reconciler_working_jobs", "gauge", "jobs", "Jobs that a worker of the reconciler is at")
LATER = Metric("serai_reconciler_scheduled", "gauge", "times", "Times to come at which jobs are looked at again: limits, charges, retries")
RETRIES = Metric("serai_reconciler_retries_total", "counter", "steps", "Steps of jobs that failed and are tried again later", ("cause",))
UNSETTLED = Metric("serai_events_unsettled", "gauge", "events", "Events that the consumer has not settled", ("consumer",))
LAG = Metric(
    "serai_events_oldest_unsettled_age_seconds",
    "gauge",
    "seconds",
    "Age of the oldest event that the consumer has not settled",
    ("consumer",),
)
SETTLED = Metric("serai_events_settled_total", "counter", "events", "Settlements that were stored", ("consumer", "outcome"))
COMMITS = Metric("serai_store_commits_total", "counter", "commits", "Transactions of the store's writer", ("outcome",))
WRITES = Metric("serai_store_writes_total", "counter", "writes", "Writes that were stored; a commit holds those that waited together")
COMMIT_SECONDS = Metric("serai_store_commit_duration_seconds", "histogram", "seconds", "Time from a transaction's begin to its commit")
COMMIT_WRITES = Metric("serai_store_commit_writes", "histogram", "writes", "Writes in each commit")
WAITING_WRITES = Metric("serai_store_waiting_writes", "gauge", "writes", "Writes that wait for their transaction")
BACKEND_UP = Metric(
    "serai_backend_up", "gauge", "", "1 = the backend's last call was answered, and what it follows can be followed", ("backend",)
)
BACKEND_CALLS = Metric(
    "serai_backend_calls_total", "counter", "calls", "The reconciler's calls of the backend", ("backend", "call", "outcome")
)
BACKEND_SECONDS = Metric(
    "serai_backend_call_duration_seconds",
    "histogram",
    "seconds",
    "Time that the reconciler's calls of the backend took",
    ("backend", "call"),
)
CORES = Metric("serai_backend_cores", "gauge", "cores", "Cores for jobs: all of them, and those of running jobs", ("backend", "which"))
MEMORY = Metric(
    "serai_backend_memory_bytes", "gauge", "bytes", "Memory for jobs: all of it, and that of running jobs", ("backend", "which")
)
BACKEND_JOBS = Metric("serai_backend_jobs", "gauge", "jobs", "Jobs at the backend that run, and that wait for room", ("backend", "which"))
SESSIONS = Metric("serai_sessions", "gauge", "sessions", "Sessions of people at jobs that are not over", ("kind",))
SHELLS = Metric("serai_shells_open", "gauge", "shells", "Shells in jobs that are open, also while nobody is connected")
SEATS = Metric("serai_license_seats", "gauge", "seats", "Seats of the license server; none = they are not counted", ("server", "product"))
SEATS_LIMIT = Metric(
    "serai_license_seats_limit",
    "gauge",
    "seats",
    "Seats that jobs may hold in all, given what others use; none = they are not counted",
    ("server", "product"),
)
SEATS_HELD = Metric("serai_license_seats_held", "gauge", "seats", "Seats that jobs hold", ("server", "product"))
SEATS_WAITING = Metric("serai_license_waiting_jobs", "gauge", "jobs", "Jobs that wait for seats", ("server", "product"))
LICENSE_UP = Metric(
    "serai_license_server_up", "gauge", "", "1 = the license server answers; none = it was not looked at yet", ("server", "product")
)
CHARGES = Metric("serai_ledger_charges_total", "counter", "charges", "Charges of jobs that were written")
PERIODS = Metric(
    "serai_ledger_periods_total", "counter", "periods", "Periods of jobs in those charges, each counted once for all its replicas"
)
SHORT = Metric("serai_ledger_insufficient_funds_total", "counter", "charges", "Charges of which Core said that no funds are left for them")
EMPTY = Metric("serai_ledger_empty_wallets", "gauge", "wallets", "Wallets that are believed to be empty, whose owners get no new jobs")

METRICS: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))


class ServerMetrics:
    """A Source (serai_telemetry.exposition)."""

    def __init__(self, core: Core, health: Health, clock: Clock) -> None:
        """`clock`: the server's, by which events have their times."""
        self._core = core
        self._health = health
        self._clock = clock
        self._backlogs: Sequence[Backlog] | None = None
        self._lines: dict[str, Line] | None = None
        self._capacity: Capacity | None = None

    async def fetch(self) -> None:
        self._backlogs = self._lines = self._capacity = None
        outcomes = await asyncio.gather(self._read_backlogs(), self._read_lines(), self._read_capacity(), return_exceptions=True)
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def _read_backlogs(self) -> None:
        self._backlogs = await self._core.store.backlogs()

    async def _read_lines(self) -> None:
        self._lines = await self._core.store.licenses.lines()

    async def _read_capacity(self) -> None:
        self._capacity = await self._core.backend.capacity()

    def collect(self) -> Iterable[Family]:
        yield from self._calls()
        yield from self._jobs()
        yield from self._events()
        yield from self._store()
        yield from self._backend()
        yield from self._people()
        yield from self._licenses()
        yield from self._ledger()

    def _calls(self) -> Iterable[Family]:
        counts = self._core.counts.rpc
        calls = counts.calls.counts() | counts.streams.counts
        yield CALLS.family(calls)
        refused: dict[Labels, Number] = {(reason,): 0 for reason in _REFUSALS}
        for (_, caller, _, reason), count in calls.items():
            if caller == Caller.TOOL.value and reason in _REFUSALS:
                refused[reason,] += count
        yield REFUSED.family(refused)
        yield CALL_SECONDS.spreads(counts.calls.times(1))
        yield STREAMS.family(counts.streams_open.counts)
        yield PARTS.family({(part,): int(up) for part, up in self._health.parts.items()})

    def _jobs(self) -> Iterable[Family]:
        counts, queue = self._core.counts.jobs, self._core.queue
        yield JOBS.family(counts.active.counts)
        yield ENTERED.family(counts.entered.counts)
        yield QUEUE.one(len(queue))
        yield QUEUE_AGE.one(queue.oldest_ms / 1_000)
        yield WORKING.one(queue.working)
        yield LATER.one(queue.later)
        yield RETRIES.family(counts.retries.counts)

    def _events(self) -> Iterable[Family]:
        yield SETTLED.family(self._core.counts.ledger.settled.counts)
        if self._backlogs is None:
            return
        now_ms = self._clock.now_ms()
        waiting: dict[Labels, Number] = {}
        ages: dict[Labels, Number] = {}
        named = 0
        for backlog in self._backlogs:
            name = backlog.consumer
            if name != CORE:
                named += 1
                name = name if named <= _MOST_CONSUMERS else OTHERS
            age = max(now_ms - backlog.oldest_at_ms, 0) / 1_000 if backlog.oldest_at_ms else 0
            waiting[name,] = waiting.get((name,), 0) + backlog.events
            ages[name,] = max(ages.get((name,), 0), age)
        yield UNSETTLED.family(waiting)
        yield LAG.family(ages)

    def _store(self) -> Iterable[Family]:
        counts = self._core.counts.store
        yield COMMITS.family(counts.commits.counts)
        yield WRITES.one(counts.writes)
        yield COMMIT_SECONDS.spreads({(): counts.commit_ns})
        yield COMMIT_WRITES.spreads({(): counts.commit_writes}, scale=1)
        yield WAITING_WRITES.one(self._core.store.waiting_writes)

    def _backend(self) -> Iterable[Family]:
        backend, counts = self._core.backend, self._core.counts.jobs.backend
        name = backend.name
        trouble = backend.trouble if isinstance(backend, TellsTrouble) else ""
        yield BACKEND_UP.family({(name,): int(counts.up and not trouble)})
        calls: dict[Labels, Number] = {(name, call, outcome): 0 for call in CALLS_OF_BACKEND for outcome in BACKEND_OUTCOMES}
        calls.update({(name, *labels): count for labels, count in counts.calls.counts().items()})
        yield BACKEND_CALLS.family(calls)
        yield BACKEND_SECONDS.spreads({(name, *labels): spread for labels, spread in counts.calls.times(1).items()})
        if (capacity := self._capacity) is not None:
            yield CORES.family({(name, "all"): capacity.cpu, (name, "used"): capacity.used_cpu})
            yield MEMORY.family({(name, "all"): capacity.memory_bytes, (name, "used"): capacity.used_memory_bytes})
            yield BACKEND_JOBS.family({(name, "running"): capacity.running_jobs, (name, "waiting"): capacity.waiting_jobs})

    def _people(self) -> Iterable[Family]:
        found: dict[Labels, Number] = {(kind.name,): 0 for kind in SessionKind}
        for session in self._core.sessions.registry.all():
            kind = (session.kind.name,)
            found[kind] = found.get(kind, 0) + 1
        yield SESSIONS.family(found)
        yield SHELLS.one(len(self._core.sessions.shells))

    def _licenses(self) -> Iterable[Family]:
        watchers = self._core.licensing.servers.watchers()
        yield LICENSE_UP.family({_of(watcher): int(up) for watcher in watchers if (up := _is_up(watcher)) is not None})
        yield SEATS.family({_of(watcher): seats for watcher in watchers if (seats := watcher.capacity) is not None})
        yield SEATS_LIMIT.family({_of(watcher): seats for watcher in watchers if (seats := watcher.limit) is not None})
        if (lines := self._lines) is not None:
            none = Line("", 0, 0, 0)
            found = {_of(watcher): lines.get(watcher.product, none) for watcher in watchers}
            yield SEATS_HELD.family({labels: line.held for labels, line in found.items()})
            yield SEATS_WAITING.family({labels: line.waiting for labels, line in found.items()})

    def _ledger(self) -> Iterable[Family]:
        counts = self._core.counts.ledger
        yield CHARGES.one(counts.charges)
        yield PERIODS.one(counts.periods)
        yield SHORT.one(counts.settled.counts.get((CORE, "INSUFFICIENT_FUNDS"), 0))
        yield EMPTY.one(len(self._core.funds))


def _of(watcher: Watcher) -> tuple[str, str]:
    return watcher.stored.name, watcher.product


def _is_up(watcher: Watcher) -> bool | None:
    """None = nobody has looked yet."""
    standing = watcher.status.standing
    return None if standing is Standing.UNKNOWN else standing is Standing.UP
