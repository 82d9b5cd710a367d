"""What may be asked of jobs that exist: more time, a pause, an end, a second look, another list of people. Use cases without gRPC.

Each stores what is asked, for all items or none, and answers; the reconciler does the rest. Only for jobs that the store did not have is
the backend asked, and those that it has are ended there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import structlog
from serai.jobs.v1.job_pb2 import Job, JobState
from serai.jobs.v1.jobs_service_pb2 import ExtendItem, UpdateAclItem
from serai_backends.api import Backend, TellsLimits

from serai_server.clock import Clock
from serai_server.errors import InvalidRequest, JobUnknown, Unsupported, WrongState
from serai_server.events.log import CORE
from serai_server.jobs import causes, notes
from serai_server.jobs.bodies import update_body
from serai_server.jobs.decision import Update
from serai_server.jobs.durations import LONGEST_MS, duration_ms
from serai_server.jobs.products import Catalog, Feature
from serai_server.jobs.requests import MOST_ITEMS, is_job_id
from serai_server.jobs.tombstones import is_young, tombstone
from serai_server.own_jobs import is_own
from serai_server.store.api import Store
from serai_server.store.model import EventKind, JobChange, NewEvent, NewJob, State, StopRequest, StoredJob, Target

log = structlog.get_logger("serai.jobs")

_Item = TypeVar("_Item", UpdateAclItem, Job)

_MANY = 20
_SHORTEST_MS = 1_000
"""Of time that is asked for."""


class JobChanges:
    def __init__(
        self,
        *,
        store: Store,
        backend: Backend,
        catalog: Catalog,
        clock: Clock,
        wall: Callable[[], int],
        look: Callable[[str], None],
        knows_suspended: bool,
    ) -> None:
        """`wall` is the time of day in ms, for what is compared with Core's times. `look` has the reconciler look at a job.
        `knows_suspended`: Core has a state SUSPENDED (generation 2026)."""
        self._store = store
        self._backend = backend
        self._catalog = catalog
        self._clock = clock
        self._wall = wall
        self._look = look
        self._knows_suspended = knows_suspended

    async def extend(self, items: Sequence[ExtendItem]) -> None:
        """Add time to the limits of jobs; Core is told the new total (facts 2021 §1.7, today §9). Asked twice, it is added twice.

        Raises InvalidRequest, JobUnknown, WrongState, Unsupported.
        """
        check_count(items)
        added = [duration_ms(item.requested_time, f"items[{i}].requestedTime") for i, item in enumerate(items)]
        ids = [item.job.id for item in items]
        await self._extend(ids, "items", lambda place, now: now + added[place], lambda place: f"items[{place}].requestedTime")

    async def extend_by(self, job_ids: Sequence[str], added_ms: int) -> None:
        """Add the same time to the limits of jobs, as `extend` does."""
        check_count(job_ids, "job_ids")
        _check_time(added_ms, "added_ms")
        await self._extend(job_ids, "job_ids", lambda _, limit_ms: limit_ms + added_ms, lambda _: "added_ms")

    async def extend_to(self, job_ids: Sequence[str], time_limit_ms: int) -> None:
        """Give jobs at least this limit, ms of RUNNING in all; one that has as much already is left as it is, so that to ask again changes
        nothing. Raises as `extend`."""
        check_count(job_ids, "job_ids")
        _check_time(time_limit_ms, "time_limit_ms")
        await self._extend(job_ids, "job_ids", lambda _, limit_ms: max(limit_ms, time_limit_ms), lambda _: "time_limit_ms")

    async def _extend(self, job_ids: Sequence[str], at: str, extended: Callable[[int, int], int], time_at: Callable[[int], str]) -> None:
        """`at`: the list's name in the request; `extended`: (place, limit that the job has) → the one that it gets, ms; `time_at`: the path
        of the time that is asked for it."""
        now_ms = self._clock.now_ms()

        def longer(place: int, job: StoredJob | None) -> JobChange | None:
            job_id = job_ids[place]
            known = self._open(job_id, job, f"{at}[{place}]", "time_extension")
            if not known.time_limit_ms:
                raise WrongState(f"job {job_id} has no time limit that could be extended")
            if known.target.stop:
                raise WrongState(f"job {job_id} is being ended already")
            limit_ms = extended(place, known.time_limit_ms)
            if limit_ms == known.time_limit_ms:
                return None
            if limit_ms > LONGEST_MS:
                raise InvalidRequest(f"job {job_id} would have more than {causes.duration(LONGEST_MS)} in all", field=time_at(place))
            told = Update(None, causes.extended(limit_ms), limit_ms - known.ran_ms)
            left_ms = limit_ms - known.ran_until_ms(now_ms)
            return JobChange(
                job_id=job_id,
                expected_version=known.version,
                time_limit_ms=limit_ms,
                status=told.status,
                # Marks that are ahead again are told again.
                warned_ms=0 if left_ms > known.warned_ms else None,
                # A running job's times are counted anew; a waiting one's time to wake is for other things.
                wake_at_ms=now_ms if known.state is State.RUNNING else None,
                events=(_event(job_id, told, now_ms),),
            )

        _check_ids(job_ids, at)
        for job in await self._store.decide(job_ids, longer):
            if job is not None and isinstance(self._backend, TellsLimits):
                self._backend.tell_limit(job.id, job.time_limit_ms)

    async def suspend(self, job_ids: Sequence[str], at: str = "items") -> None:
        """Stop every process of running jobs. Suspended ones are left as they are. `at`: the list's name in the request.

        Raises JobUnknown, WrongState, Unsupported.
        """
        await self._aim(job_ids, Target.SUSPEND, at)

    async def unsuspend(self, job_ids: Sequence[str], at: str = "items") -> None:
        """Have suspended jobs go on. One that runs is left as it is. Raises as `suspend`."""
        await self._aim(job_ids, Target.RUN, at)

    async def _aim(self, job_ids: Sequence[str], target: Target, at: str) -> None:
        check_count(job_ids, at)

        def aimed(place: int, job: StoredJob | None) -> JobChange | None:
            job_id = job_ids[place]
            known = self._open(job_id, job, f"{at}[{place}]", "suspension")
            if known.target is target:
                return None
            if known.target.stop:
                raise WrongState(f"job {job_id} is being ended already")
            if known.state not in (State.RUNNING, State.SUSPENDED):
                raise WrongState(f"job {job_id} does not run yet; only a running job can be suspended")
            return JobChange(job_id=job_id, expected_version=known.version, target=target)

        _check_ids(job_ids, at)
        await self._store.decide(job_ids, aimed)
        for job_id in job_ids:
            self._look(job_id)  # also when nothing changed: whoever asks again wants it looked at again

    def _open(self, job_id: str, job: StoredJob | None, at: str, feature: Feature) -> StoredJob:
        """The job, known and not over, of a product that can do this. `at`: its path."""
        if job is None:
            raise JobUnknown(f"no job {job_id!r} is known here", field=at)
        if not self._catalog.able(job.product, feature):
            raise Unsupported(f"this provider does not {_DOES[feature]}", field=at)
        if job.state.final:
            raise WrongState(f"job {job_id} is over")
        return job

    async def terminate(self, items: Sequence[Job], *, for_core: bool) -> None:
        """Ask for the jobs to be stopped; unknown and final ones count as done. Core, which asks about jobs that it thinks to be alive, is
        told the end of such a one (once more)."""
        check_count(items)
        mine = [item for item in items if is_job_id(item.id)]
        undelivered = await self._store.undelivered_among([item.id for item in mine], CORE) if for_core else frozenset[str]()
        now_ms = self._clock.now_ms()

        def ended(place: int, job: StoredJob | None) -> JobChange | NewJob | None:
            if job is not None and not job.state.final:
                return None if job.target.stop else _stop(job, now_ms)
            return self._told_again(mine[place], job, undelivered, now_ms) if for_core else None

        await self._end_strangers(mine, await self._store.decide([item.id for item in mine], ended))

    async def verify(self, items: Sequence[Job], *, cautious: bool = False) -> None:
        """Bring Core's view and ours together; see the seed's verify example for jobs that are unknown here.

        `cautious`: raises WrongState, with nothing done, when most of many jobs are unknown here.
        """
        check_count(items)
        mine = [item for item in items if is_job_id(item.id)]
        ids = [item.id for item in mine]
        if cautious:
            unknown = sum(row is None for row in await self._store.decide(ids, lambda _place, _job: None))
            if unknown > _MANY and unknown * 2 > len(mine):
                raise WrongState(
                    f"{unknown} of {len(mine)} jobs that Core has as active are unknown here, and Core was told nothing about them: is "
                    "store.url the right store, and not an old copy? If they are really lost, set core.end_lost_jobs for one start"
                )
        undelivered = await self._store.undelivered_among(ids, CORE)
        now_ms, wall_ms = self._clock.now_ms(), self._wall()

        def agreed(place: int, job: StoredJob | None) -> JobChange | NewJob | None:
            item = mine[place]
            return None if job is None and is_young(item, wall_ms) else self._told_again(item, job, undelivered, now_ms)

        await self._end_strangers(mine, await self._store.decide(ids, agreed))
        for job_id in ids:
            self._look(job_id)

    def _told_again(self, item: Job, job: StoredJob | None, undelivered: frozenset[str], now_ms: int) -> JobChange | NewJob | None:
        """An unknown job becomes a tombstone; where Core's state of a known one is not ours although Core has settled everything, ours is
        told once more. What is over at Core is left so: today's Core takes even one end over another (facts today §9)."""
        if _final(item.status.state):
            return None
        if job is None:
            return tombstone(item, now_ms)
        if job.id in undelivered or job.target is Target.STOP_DISOWNED or self._agrees(job, item.status.state):
            return None
        event = _event(job.id, Update(job.state, job.status or None), now_ms)
        return JobChange(job_id=job.id, expected_version=job.version, events=(event,))

    async def _end_strangers(self, items: Sequence[Job], rows: Sequence[StoredJob | None]) -> None:
        """A job that was told to be lost may still run: of a store that was put back, or another one. Nobody would ever end or bill it.
        What gets lost here is found at the next start."""
        for item, row in zip(items, rows, strict=True):
            if row is None or row.digest or await self._backend.inspect(item.id) is None:
                continue
            log.error("jobs.stranger_ended", job=item.id, why="Core was told that it is lost, because the store does not have it")
            await self._backend.cancel(item.id)

    def _agrees(self, job: StoredJob, core: JobState.ValueType) -> bool:
        """Whether Core's word on the job is ours. None given agrees with a job that is not over."""
        if not core:
            return not job.state.final
        if job.state is State.SUSPENDED and not self._knows_suspended:
            return core == State.RUNNING
        return core == job.state or (core == State.CANCELING and not job.state.final)

    async def update_acl(self, items: Sequence[UpdateAclItem]) -> None:
        """Note who else may see jobs. Jobs that are not known here are passed over."""
        check_count(items)
        await self._note([(item.resource.id, item) for item in items], notes.with_acl)

    async def update_labels(self, items: Sequence[Job]) -> None:
        """Note the labels of jobs. Jobs that are not known here are passed over."""
        check_count(items)
        await self._note([(item.id, item) for item in items], notes.with_labels)

    async def _note(self, items: Sequence[tuple[str, _Item]], with_it: Callable[[bytes, _Item], bytes]) -> None:
        known = [(job_id, item) for job_id, item in items if is_job_id(job_id)]

        def noted(place: int, job: StoredJob | None) -> JobChange | None:
            if job is None:
                return None
            return JobChange(job_id=job.id, expected_version=job.version, notes=with_it(job.notes, known[place][1]))

        await self._store.decide([job_id for job_id, _ in known], noted)

    async def disown(self, job_ids: Sequence[str]) -> None:
        """Stop jobs that Core does not know; the site's own it need not know."""
        check_count(job_ids, field="job_ids")
        now_ms = self._clock.now_ms()
        await self._store.request_stops([StopRequest(i, Target.STOP_DISOWNED, now_ms) for i in job_ids if is_job_id(i) and not is_own(i)])


_DOES: dict[Feature, str] = {"time_extension": "extend the time of these jobs", "suspension": "suspend these jobs"}


def check_count(items: Sequence[object], field: str = "items") -> None:
    """Raises InvalidRequest."""
    if not 1 <= len(items) <= MOST_ITEMS:
        raise InvalidRequest(f"expected 1 to {MOST_ITEMS} items, found {len(items)}", field=field)


def _check_time(asked_ms: int, field: str) -> None:
    """Raises InvalidRequest."""
    if not _SHORTEST_MS <= asked_ms <= LONGEST_MS:
        raise InvalidRequest(f"expected {_SHORTEST_MS} to {LONGEST_MS} ms, found {asked_ms}", field=field)


def _check_ids(job_ids: Sequence[str], at: str) -> None:
    """Raises JobUnknown for what no job can be called."""
    for place, job_id in enumerate(job_ids):
        if not is_job_id(job_id):
            raise JobUnknown(f"no job {job_id[:64]!r} is known here", field=f"{at}[{place}]")


def _stop(job: StoredJob, now_ms: int) -> JobChange:
    return JobChange(job_id=job.id, expected_version=job.version, target=Target.STOP, stop_requested_at_ms=now_ms)


def _final(state: JobState.ValueType) -> bool:
    return State.SUCCESS <= state <= State.EXPIRED


def _event(job_id: str, update: Update, now_ms: int) -> NewEvent:
    return NewEvent(job_id, EventKind.JOB_UPDATE, update_body(update), now_ms)
