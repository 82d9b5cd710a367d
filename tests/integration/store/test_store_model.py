"""Random groups of concurrent calls against a model of dicts that carries them out one after the other, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from fakes.store_rows import new_job, update
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serai_server.store.api import JobConflict, VersionConflict
from serai_server.store.model import Committed, EventSettlement, JobChange, JobFilter, Outcome, State, StopRequest, Target
from serai_server.store.open import open_store
from serai_server.store.sql_store import SqlStore

IDS = ("a", "b", "c")
CONSUMERS = ("core", "tool")


@dataclass(frozen=True)
class Create:
    jobs: tuple[tuple[str, str], ...]
    """Ids and contents."""


@dataclass(frozen=True)
class Change:
    job_id: str
    version_off: int
    state: State | None
    events: int
    starts: int | None
    ends: int | None


@dataclass(frozen=True)
class Stop:
    job_id: str
    target: Target


@dataclass(frozen=True)
class Settle:
    consumer: str
    sequences: tuple[int, ...]
    stop: str | None


@dataclass(frozen=True)
class Register:
    consumer: str
    from_now: bool


Call = Create | Change | Stop | Settle | Register

ids = st.sampled_from(IDS)
times = st.none() | st.integers(1, 50)
calls: st.SearchStrategy[Call] = st.one_of(
    st.builds(Create, st.lists(st.tuples(ids, st.sampled_from(("", "", "other"))), min_size=1, max_size=3).map(tuple)),
    st.builds(
        Change,
        ids,
        st.sampled_from((0, 0, 0, 1, -1)),
        st.none() | st.sampled_from((State.RUNNING, State.SUCCESS)),
        st.integers(0, 3),
        times,
        times,
    ),
    st.builds(Stop, ids, st.sampled_from((Target.STOP, Target.STOP_EXPIRED))),
    st.builds(Settle, st.sampled_from(CONSUMERS), st.lists(st.integers(0, 15), max_size=6).map(tuple), st.none() | ids),
    st.builds(Register, st.sampled_from(CONSUMERS), st.booleans()),
)


@dataclass
class Job:
    content: str
    state: State = State.IN_QUEUE
    target: Target = Target.RUN
    version: int = 1
    intervals: list[list[int]] = field(default_factory=list[list[int]])


@dataclass
class Model:
    """The rules of the store in their plainest form. Each method gives the kind of answer: a value, or the exception's class."""

    jobs: dict[str, Job] = field(default_factory=dict[str, Job])
    log: list[str] = field(default_factory=list[str])
    """Job ids; the sequence is the place, from 1."""
    settled: dict[str, set[int]] = field(default_factory=dict[str, set[int]])

    def perform(self, call: Call) -> object:
        match call:
            case Create():
                return self.create(call)
            case Change():
                return self.change(call)
            case Stop():
                return self.stop(call.job_id, call.target)
            case Settle():
                done = self.settled.setdefault(call.consumer, set())
                first = frozenset(s for s in call.sequences if 1 <= s <= len(self.log)) - done
                done.update(first)
                if call.stop is not None:
                    self.stop(call.stop, Target.STOP_DISOWNED)
                return first
            case Register():
                if call.consumer not in self.settled:
                    self.settled[call.consumer] = set(range(1, len(self.log) + 1)) if call.from_now else set()
                return None

    def create(self, call: Create) -> object:
        after = {i: j.content for i, j in self.jobs.items()}
        for job_id, content in call.jobs:
            if after.setdefault(job_id, content) != content:
                return JobConflict
        for job_id, content in call.jobs:
            if job_id not in self.jobs:
                self.jobs[job_id] = Job(content)
                self.log.append(job_id)
        return None

    def change(self, call: Change) -> object:
        job = self.jobs.get(call.job_id)
        if job is None or call.version_off:
            return VersionConflict
        job.version += 1
        job.state = call.state or job.state
        self.log += [call.job_id] * call.events
        is_open = bool(job.intervals) and len(job.intervals[-1]) == 1
        if call.starts is not None and not is_open:
            job.intervals.append([call.starts])
        if call.ends is not None and job.intervals and len(job.intervals[-1]) == 1:
            job.intervals[-1].append(max(call.ends, job.intervals[-1][0]))
        return job.version

    def stop(self, job_id: str, target: Target) -> object:
        job = self.jobs.get(job_id)
        if job is None:
            return frozenset[str]()
        if not job.state.final and job.target is Target.RUN:
            job.target = target
            job.version += 1
        return frozenset({job_id})


async def perform(store: SqlStore, call: Call, version: int) -> object:
    try:
        match call:
            case Create():
                return await store.create_jobs([new_job(i, text=text, created_at_ms=ord(i)) for i, text in call.jobs])
            case Change():
                events = tuple(update(call.job_id) for _ in range(call.events))
                row = await store.change_job(
                    JobChange(
                        call.job_id,
                        version + call.version_off,
                        state=call.state,
                        interval_started_at_ms=call.starts,
                        interval_ended_at_ms=call.ends,
                        events=events,
                    )
                )
                return row.version
            case Stop():
                return await store.request_stops([StopRequest(call.job_id, call.target, 1)])
            case Settle():
                stops = [] if call.stop is None else [StopRequest(call.stop, Target.STOP_DISOWNED, 1)]
                return await store.settle(call.consumer, [EventSettlement(s, Outcome.DELIVERED, "", 1) for s in call.sequences], stops)
            case Register():
                return await store.register_consumer(call.consumer, from_now=call.from_now)
    except (JobConflict, VersionConflict) as error:
        return type(error)


def unknowing(call: Call, known: int) -> Call:
    """A consumer settles what it was given, so nothing that was written since; other sequences become ones of no event."""
    if isinstance(call, Settle):
        return replace(call, sequences=tuple(s if s <= known else s + 1_000 for s in call.sequences))
    return call


async def agree(store: SqlStore, model: Model, told: dict[str, int]) -> None:
    """The store, and what its listener was told, are as the model says."""
    page = await store.jobs(JobFilter(), 10, "")
    assert {j.id: (j.state, j.target, j.version) for j in page.jobs} == {i: (j.state, j.target, j.version) for i, j in model.jobs.items()}
    assert [j.id for j in page.jobs] == sorted(model.jobs, reverse=True)
    assert {r.id: r.version for r in await store.active_records()} == told
    for job_id, job in model.jobs.items():
        stored = [[i.started_at_ms, i.ended_at_ms] if i.ended_at_ms else [i.started_at_ms] for i in await store.intervals(job_id)]
        assert stored == job.intervals
    for consumer in CONSUMERS:
        left = [(n, i) for n, i in enumerate(model.log, 1) if n not in model.settled.get(consumer, ())]
        assert [(e.sequence, e.job_id) for e in await store.events(consumer, 0, 1_000)] == left
        for job_id in IDS:
            assert await store.undelivered_count(job_id, consumer) == sum(i == job_id for _, i in left)


async def live(url: str, groups: list[list[Call]]) -> None:
    model, told = Model(), dict[str, int]()

    def listener(changes: list[Committed]) -> None:
        told.update((r.id, r.version) for c in changes for r in c.records)

    for life in (groups[: len(groups) // 2], groups[len(groups) // 2 :]):
        async with open_store(url, listener) as store:
            for group in life:
                known = len(model.log)
                expected: list[object] = []
                tasks: list[asyncio.Task[object]] = []
                for call in (unknowing(c, known) for c in group):
                    # All are asked before any is answered, so the queue has them in this order.
                    job = model.jobs.get(call.job_id) if isinstance(call, Change) else None
                    tasks.append(asyncio.create_task(perform(store, call, job.version if job else 1)))
                    expected.append(model.perform(call))
                assert await asyncio.gather(*tasks) == expected
                await agree(store, model, told)


# Opening a PostgreSQL database takes its time, and the fixtures are only a way to make new ones.
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(groups=st.lists(st.lists(calls, min_size=1, max_size=8), min_size=1, max_size=6))
def test_the_store_is_what_the_model_says(new_url: Callable[[], str], groups: list[list[Call]]) -> None:
    """Whatever is asked, in whatever groups, with the store closed and opened again in the middle."""
    asyncio.run(live(new_url(), groups))
