"""Moves jobs: reads a row, asks the backend, lets the machine decide, stores the change, then acts. Nothing else changes a job's state.

kill -9 between any two lines leaves a row from which the next start goes on: what is stored is decided, what is not stored was not done
or is done again under the same key (submit, cancel and forget are idempotent by job id).
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import structlog
from serai_backends.api import Backend
from serai_backends.common.work_queue import WorkQueue
from serai_backends.errors import BackendUnavailable, CursorExpired, SubmissionRefused
from serai_backends.model import JobObservation, Phase, ReplicaSpec, Why
from serai_telemetry.spans import Traces

from serai_server.clock import Clock
from serai_server.counts import Counts
from serai_server.errors import SeraiError
from serai_server.jobs import facts, notes
from serai_server.jobs.backend_calls import BackendCalls
from serai_server.jobs.bodies import charge_body, update_body
from serai_server.jobs.decision import NOTHING, Action, Decision, Rules, Seen, Unasked
from serai_server.jobs.machine import step, without_key, without_seats
from serai_server.jobs.products import Catalog
from serai_server.jobs.registry import Registry
from serai_server.jobs.spec import Around, Policy, replica_spec
from serai_server.jobs.templates import Renderer
from serai_server.ledger.periods import charge_id
from serai_server.licenses.in_jobs import KeyNotRead, LicensesInJobs
from serai_server.licenses.seats import Seats
from serai_server.store.api import Store, StoreUnavailable, VersionConflict
from serai_server.store.license_model import SeatsTaken
from serai_server.store.model import EventKind, JobChange, JobRecord, LedgerRow, NewEvent, StoredJob

log = structlog.get_logger("serai.reconciler")

_MOST_STEPS = 16
"""Steps of one job in a row before others get their turn; the longest honest chain is 5."""


class Reconciler:
    def __init__(
        self,
        *,
        store: Store,
        backend: Backend,
        catalog: Catalog,
        policy: Policy,
        registry: Registry,
        queue: WorkQueue,
        clock: Clock,
        rules: Rules,
        stop_grace_ms: int = 0,
        workers: int = 16,
        licenses: LicensesInJobs,
        seats: Seats,
        counts: Counts | None = None,
        traces: Traces | None = None,
    ) -> None:
        """`counts` None = nobody wants to know; `traces` None = no spans."""
        counts = counts or Counts()
        self._seats = seats
        self._store = store
        self._backend = BackendCalls(backend, counts.jobs.backend, traces)
        self._retries = counts.jobs.retries
        self._ledger = counts.ledger
        self._traced = traces is not None
        self._catalog = catalog
        self._around = Around(policy, Renderer(clock), store.job, licenses)
        self._registry = registry
        self._queue = queue
        self._clock = clock
        self._rules = rules
        self._stop_grace_ms = stop_grace_ms
        self._workers = workers
        registry.on_change(self._changed)

    def _changed(self, now: JobRecord, before: JobRecord | None) -> None:
        """A commit told of this job: new jobs and raised targets are work, a time to wake is kept."""
        if before is None or before.target != now.target:
            self._queue.add(now.id)
        if now.wake_at_ms:
            self._queue.add_at(now.id, now.wake_at_ms)

    async def run(self, ready: asyncio.Event) -> None:
        """Until cancelled. `ready` is set when the jobs of the store are loaded and the backend is watched."""
        records = await self._store.active_records()
        self._registry.load(records)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.run_timer())
            group.create_task(self._follow_backend())
            for _ in range(self._workers):
                group.create_task(self._work())
            for record in records:
                self._queue.add(record.id)
                if record.wake_at_ms:
                    self._queue.add_at(record.id, record.wake_at_ms)
            ready.set()
            await self._tell_of_strangers()

    async def _tell_of_strangers(self) -> None:
        """Jobs that the backend has and the store does not, as after an old backup was put back: an operator must decide about them. Those
        that Core was told to be over (tombstones) are ended: nobody else would."""
        strangers: list[str] = []
        try:
            for seen in await self._backend.list():
                if self._registry.get(seen.job_id) is not None:
                    continue
                row = await self._store.job(seen.job_id)
                if row is None:
                    strangers.append(seen.job_id)
                elif row.forgotten_at_ms and seen.phase is Phase.ENDED:
                    await self._backend.forget(seen.job_id)
                elif row.forgotten_at_ms:
                    log.error("backend.over_and_running", job=seen.job_id, why="the job is over here and at Core; it is ended")
                    await self._backend.cancel(seen.job_id)
        except (BackendUnavailable, StoreUnavailable) as error:
            log.warning("backend.strangers_unknown", why=str(error))
        if strangers:
            log.error(
                "backend.strangers",
                count=len(strangers),
                first=strangers[:20],
                why="these jobs are not in the store; nobody is billed for them",
            )

    async def _follow_backend(self) -> None:
        """Each observation is a reason to step its job; a watch that broke is a reason to step them all."""
        cursor: int | None = None
        failures = 0
        while True:
            try:
                async with aclosing(self._backend.watch(cursor)) as events:
                    async for event in events:
                        cursor, failures = event.cursor, 0
                        self._queue.add(event.observation.job_id)
            except CursorExpired:
                cursor = None
            except BackendUnavailable as error:
                log.warning("backend.watch_broke", backend=self._backend.name, why=str(error))
            failures += 1
            await self._clock.sleep(min(0.2 * 2 ** min(failures, 7), 15))
            for job_id in self._registry.ids():
                self._queue.look(job_id)

    async def _work(self) -> None:
        while True:
            job_id = await self._queue.take()
            try:
                await self._step_until_still(job_id)
                self._queue.succeeded(job_id)
            except (StoreUnavailable, BackendUnavailable) as error:
                self._retries.add(("backend" if isinstance(error, BackendUnavailable) else "store",))
                log.warning("reconcile.later", job=job_id, why=str(error))
                self._queue.retry(job_id)
            except VersionConflict:
                self._queue.add(job_id)
            except Exception:
                # One job that cannot be stepped must not stop the others; it is tried again, ever more slowly.
                self._retries.add(("fault",))
                log.exception("reconcile.failed", job=job_id)
                self._queue.retry(job_id)
            finally:
                self._queue.done(job_id)

    async def _step_until_still(self, job_id: str) -> None:
        job = await self._store.job(job_id)
        for _ in range(_MOST_STEPS):
            if job is None:
                return
            seen = await self._observe(job)
            decision = step(job, seen, self._clock.now_ms(), self._rules)
            if decision is NOTHING:
                return
            job = await self._carry_out(job, seen, decision)
        self._queue.add(job_id)

    async def _observe(self, job: StoredJob) -> Seen:
        if job.state.final or not job.submitted_at_ms:
            return Unasked.UNASKED
        return await self._backend.inspect(job.id)

    async def _carry_out(self, job: StoredJob, seen: Seen, decision: Decision) -> StoredJob | None:
        """Store, then act; returns the row for the next step, None when this job needs none now. What only takes away (cancel, forget)
        comes before its change is stored: it is idempotent, and once stored nobody would do it. A pause changes nothing by itself."""
        if decision.stop is not None:
            # A change of this very row, because a limit that was moved since it was read is not reached.
            return await self._store.change_job(
                JobChange(job.id, job.version, target=decision.stop, stop_requested_at_ms=self._clock.now_ms())
            )
        if Action.TAKE_SEATS in decision.actions:
            return await self._with_seats(job, decision)
        if Action.FORGET in decision.actions:
            await self._backend.forget(job.id, self._origin(job))
        if Action.CANCEL in decision.actions:
            await self._backend.cancel(job.id, self._stop_grace_ms, self._origin(job))
        await self._pause(job, decision)
        if decision.changes:
            job = await self._stored(job, seen, decision)
        elif Action.SUBMIT not in decision.actions:
            # The watch tells when it has happened.
            return None
        return await self._submit(job) if Action.SUBMIT in decision.actions else job

    async def _stored(self, job: StoredJob, seen: Seen, decision: Decision) -> StoredJob:
        """The row after the decision. With an end the seats of its licenses come back, in the same transaction."""
        change = self._change(job, seen, decision)
        if not job.claims or decision.state is None or not decision.state.final:
            after = await self._store.change_job(change)
        else:
            after = await self._seats.give_back(job, change)
        for charge in change.charges:
            self._ledger.charges += 1
            self._ledger.periods += charge.units
        return after

    def _origin(self, job: StoredJob) -> str:
        """The traceparent of the create that asked for it; empty = none that is traced."""
        return notes.read(job.notes).trace_parent if self._traced else ""

    async def _with_seats(self, job: StoredJob, decision: Decision) -> StoredJob | None:
        """Submitted with all of its seats, or told why it waits for them; then `Seats` has it looked at again."""
        taken, answer = await self._seats.take(job, self._change(job, Unasked.UNASKED, decision))
        if taken is not None:
            return await self._submit(taken)
        assert not isinstance(answer, SeatsTaken)  # noqa: S101 - then there would be a row
        waits = without_seats(job, answer, self._clock.now_ms())
        return await self._stored(job, Unasked.UNASKED, waits) if waits.changes else None

    async def _pause(self, job: StoredJob, decision: Decision) -> None:
        if self._backend.suspends is None:
            return
        if Action.SUSPEND in decision.actions:
            await self._backend.suspend(job.id, self._origin(job))
        elif Action.RESUME in decision.actions:
            await self._backend.resume(job.id, self._origin(job))
        else:
            return
        # A backend keeps no note of this wish and may have let it fall: asked again until it is seen.
        self._queue.add_soon(job.id)

    async def _submit(self, job: StoredJob) -> StoredJob | None:
        try:
            await self._backend.submit(await self._spec(job), self._origin(job))
        except SubmissionRefused as error:
            return await self._refused(job, str(error), error.why)
        except KeyNotRead as error:
            # Told, and then tried again as whatever cannot be had now.
            waits = without_key(job, str(error), self._clock.now_ms())
            if waits.changes:
                await self._stored(job, Unasked.UNASKED, waits)
            raise
        except SeraiError as error:
            return await self._refused(job, str(error), Why.NONE)
        return job

    async def _refused(self, job: StoredJob, reason: str, why: Why) -> StoredJob:
        """The backend can never run it: as if it had taken the job on and ended it at once."""
        now = self._clock.now_ms()
        seen = JobObservation(job_id=job.id, phase=Phase.ENDED, reason=reason, why=why, ended_at_ms=now)
        return await self._stored(job, seen, step(job, seen, now, self._rules))

    async def _spec(self, job: StoredJob) -> ReplicaSpec:
        product = self._catalog.by_key(job.product)
        if product is None:
            raise SubmissionRefused(f"The machine type {job.product} is not sold here any more.")
        return await replica_spec(job, product, self._catalog.offered(product), self._around)

    def _price(self, job: StoredJob) -> int:
        product = self._catalog.by_key(job.product)
        return product.price if product is not None else 0

    def _change(self, job: StoredJob, seen: Seen, decision: Decision) -> JobChange:
        now = self._clock.now_ms()
        charges = ()
        if decision.due is not None:
            due = decision.due
            charges = (LedgerRow(job.id, due.first_period, due.units, job.replicas, charge_id(job.id, due.first_period), now),)
        events = [NewEvent(job.id, EventKind.JOB_UPDATE, update_body(u), now) for u in decision.updates]
        events += [NewEvent(job.id, EventKind.CHARGE, charge_body(row, job, self._price(job)), now) for row in charges]
        status = next((u.status for u in reversed(decision.updates) if u.status is not None), decision.note)
        return JobChange(
            job_id=job.id,
            expected_version=job.version,
            state=decision.state,
            submitted_at_ms=now if decision.submitted else None,
            started_at_ms=decision.started_at_ms,
            ended_at_ms=decision.ended_at_ms,
            forgotten_at_ms=now if decision.forgotten else None,
            status=status,
            replica_facts=facts.encode(seen) if decision.seen and isinstance(seen, JobObservation) else None,
            charged_periods=charges[-1].first_period + charges[-1].units if charges else None,
            wake_at_ms=decision.wake_at_ms,
            interval_started_at_ms=decision.resumed_at_ms,
            interval_ended_at_ms=decision.paused_at_ms if decision.paused_at_ms is not None else decision.ended_at_ms,
            ran_ms=decision.ran_ms,
            warned_ms=decision.warned_ms,
            charges=charges,
            events=tuple(events),
        )
