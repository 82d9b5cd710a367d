"""The reconciler at work on a real store: good and bad backends, restarts at every call, stops, limits, bills.

The backend is in memory and the clock is the test's; the store, the machine and the event log are the real ones.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.backends import FailsAt, ForgetfulBackend, InstantBackend, InstantMachine, NeverBackend
from fakes.clock import FakeClock
from fakes.core_on import PRODUCTS, START_MS, charges, core_on, job, settled, states, terminate, told, until
from serai.events.v1.events_service_pb2 import SETTLEMENT_OUTCOME_REFUSED, AcknowledgeRequest, Settlement
from serai.jobs.v1.job_pb2 import JobState, JobUpdate
from serai_backends.errors import BackendUnavailable
from serai_backends.model import End, JobObservation, WatchEvent
from serai_server.errors import JobConflictError
from serai_server.jobs.products import MINUTE_MS
from serai_server.rpc.events import EventsServicer
from serai_server.rpc.methods import Call
from serai_server.store.model import EventKind, EventSettlement, Outcome, State, Target


async def test_a_job_runs_and_is_billed_and_forgotten(tmp_path: Path) -> None:
    """create → RUNNING → SUCCESS, one begun minute for each of 3 replicas, and the backend may drop it; nothing stays in memory."""
    machine, clock = InstantMachine(), FakeClock(START_MS)
    async with core_on(tmp_path, InstantBackend(machine), clock) as core:
        await core.jobs.create([job("1", "exit", "0", replicas=3)])
        row = await until(core, "1", settled)
        assert (row.state, row.target) == (State.SUCCESS, Target.RUN)
        assert await states(core, "1") == ["RUNNING", "SUCCESS"]
        assert await charges(core, "1") == [("1-0", 1, 3)]
        assert (machine.starts, machine.jobs, len(core.registry)) == (["1"], {}, 0)


async def test_the_same_create_again_changes_nothing_and_other_content_is_a_conflict(tmp_path: Path) -> None:
    """A repeated create of the same content runs once; the same id with other content is refused and nothing of that bulk is stored."""
    machine, clock = InstantMachine(), FakeClock(START_MS)
    async with core_on(tmp_path, InstantBackend(machine), clock) as core:
        await core.jobs.create([job("1", "hang")])
        await core.jobs.create([job("1", "hang")])
        with pytest.raises(JobConflictError) as error:
            await core.jobs.create([job("2", "hang"), job("1", "exit", "1")])
        assert error.value.field == "items[1].id"
        await until(core, "1", lambda row: row.state is State.RUNNING)
        assert await core.store.job("2") is None
        assert machine.starts == ["1"]


async def test_stops_at_each_stage(tmp_path: Path) -> None:
    """A stop ends a running job and a waiting one; a finished and an unknown one are as they were."""
    machine, clock = InstantMachine(cpu=1), FakeClock(START_MS)
    async with core_on(tmp_path, InstantBackend(machine), clock) as core:
        await core.jobs.create([job("1", "hang")])
        await until(core, "1", lambda row: row.state is State.RUNNING)
        await core.jobs.create([job("2", "hang")])
        await until(core, "2", lambda row: bool(row.replica_facts))
        await terminate(core, "2", "unknown")
        await until(core, "2", settled)
        assert await states(core, "2") == ["SUCCESS"]
        assert await charges(core, "2") == []
        await terminate(core, "1")
        await until(core, "1", settled)
        assert await states(core, "1") == ["RUNNING", "SUCCESS"]
        await terminate(core, "1", "2")
        assert machine.starts == ["1"]


async def test_waiting_is_told_in_words_once(tmp_path: Path) -> None:
    """While a job waits Core is told for what, once for each reason."""
    machine, clock = InstantMachine(cpu=1), FakeClock(START_MS)
    backend = InstantBackend(machine)
    async with core_on(tmp_path, backend, clock) as core:
        await core.jobs.create([job("1", "hang")])
        await until(core, "1", lambda row: row.state is State.RUNNING)
        await core.jobs.create([job("2", "exit", "0")])
        await until(core, "2", lambda row: row.status == "The job is in the queue.")
        backend.end("1", 0, End.EXITED, exit_code=0)
        await core.jobs.create([job("3", "exit", "0")])  # a submit makes this backend look for room again
        await until(core, "2", settled)
        words = [JobUpdate.FromString(e.body).status for e in await told(core, "2") if e.kind is EventKind.JOB_UPDATE]
        assert words.count("The job is in the queue.") == 1


async def test_a_job_that_can_never_run_is_a_failure_in_words(tmp_path: Path) -> None:
    """The backend's refusal ends the job with the backend's words."""
    async with core_on(tmp_path, InstantBackend(InstantMachine(cpu=1)), FakeClock(START_MS)) as core:
        await core.jobs.create([job("1", "exit", "0", replicas=2)])
        row = await until(core, "1", settled)
        assert (row.state, row.status) == (State.FAILURE, "The job could not be started: it is larger than the machine.")


@pytest.mark.parametrize("late", [False, True], ids=["before its effect", "after its effect"])
@pytest.mark.parametrize("number", range(1, 7))
async def test_any_call_to_the_backend_may_fail(tmp_path: Path, number: int, late: bool) -> None:
    """Whichever call fails, with its effect or without, the job runs exactly once and Core is told each state exactly once."""
    machine, clock = InstantMachine(), FakeClock(START_MS)
    backend = FailsAt(InstantBackend(machine), number, late=late)
    async with core_on(tmp_path, backend, clock) as core:
        await core.jobs.create([job("1", "exit", "0")])
        await until(core, "1", settled, clock)
        assert machine.starts == ["1"]
        assert await states(core, "1") == ["RUNNING", "SUCCESS"]
        assert await charges(core, "1") == [("1-0", 1, 1)]


class Crash(FailsAt):
    """From the n-th call on nothing is answered any more, as when the process was killed there."""

    async def after(self, call: str) -> None:
        if self._late and len(self.calls) >= min(self._numbers):
            await asyncio.Event().wait()

    async def before(self, call: str) -> None:
        self.calls.append(call)
        if not self._late and len(self.calls) >= min(self._numbers):
            await asyncio.Event().wait()


@pytest.mark.parametrize("late", [False, True], ids=["before its effect", "after its effect"])
@pytest.mark.parametrize("number", range(1, 7))
async def test_a_crash_at_any_call_is_made_good_at_the_next_start(tmp_path: Path, number: int, late: bool) -> None:
    """The server stops for ever at its n-th call; a new one on the same store ends what was begun: run once, told once, billed once."""
    machine, clock = InstantMachine(), FakeClock(START_MS)
    crash = Crash(InstantBackend(machine), number, late=late)
    async with core_on(tmp_path, crash, clock) as core:
        await core.jobs.create([job("1", "exit", "0")])
        async with asyncio.timeout(20):
            while len(crash.calls) < number and not settled(await until(core, "1", lambda _: True)):
                await asyncio.sleep(0.005)
    async with core_on(tmp_path, InstantBackend(machine), clock) as core:
        await until(core, "1", settled, clock)
        assert machine.starts == ["1"]
        assert await states(core, "1") == ["RUNNING", "SUCCESS"]
        assert await charges(core, "1") == [("1-0", 1, 1)]


async def test_a_backend_that_never_answers_holds_nobody_else_up(tmp_path: Path) -> None:
    """Creates, stops and lists are answered while the backend is silent."""
    async with core_on(tmp_path, NeverBackend(InstantBackend()), FakeClock(START_MS)) as core:
        await core.jobs.create([job(str(n), "exit", "0") for n in range(40)])
        await terminate(core, "1")
        report = await core.jobs.get("39")
        assert report.state == JobState.JOB_STATE_IN_QUEUE


async def test_a_job_that_the_backend_forgot_is_lost_and_not_run_again(tmp_path: Path) -> None:
    """What was seen and is unknown now ends as FAILURE in the seed's words; it is not submitted a second time."""
    machine, clock = InstantMachine(), FakeClock(START_MS)
    forgetful = ForgetfulBackend(InstantBackend(machine))
    async with core_on(tmp_path, forgetful, clock) as core:
        await core.jobs.create([job("1", "hang")])
        await until(core, "1", lambda row: row.state is State.RUNNING)
        forgetful.forgotten.add("1")
    async with core_on(tmp_path, forgetful, clock) as core:
        row = await until(core, "1", lambda row: row.state.final)
        assert (row.state, row.status, machine.starts) == (State.FAILURE, "Your job is no longer available", ["1"])


async def test_the_time_limit_starts_at_running_and_survives_a_restart(tmp_path: Path) -> None:
    """A job of 30 minutes is EXPIRED 30 minutes after it began to run, also when the server was restarted in between; it is billed 30."""
    machine, clock = InstantMachine(), FakeClock(START_MS)
    async with core_on(tmp_path, InstantBackend(machine), clock) as core:
        await core.jobs.create([job("1", "hang", minutes=30)])
        await until(core, "1", lambda row: row.state is State.RUNNING)
        clock.move(16 * MINUTE_MS)
        await until(core, "1", lambda row: row.charged_periods >= 16)
    async with core_on(tmp_path, InstantBackend(machine), clock) as core:
        await asyncio.sleep(0.05)
        assert (await until(core, "1", lambda _: True)).state is State.RUNNING
        machine.ticks = itertools.count(START_MS + 30 * MINUTE_MS - 10_000)
        clock.move(14 * MINUTE_MS)
        row = await until(core, "1", settled)
        assert (row.state, row.status) == (State.EXPIRED, "The job has reached its time limit of 30 minutes.")
        assert sum(units for _, units, _ in await charges(core, "1")) == 30


async def test_missing_credits_and_a_core_that_does_not_know_the_job_stop_it(tmp_path: Path) -> None:
    """A settlement that says so stops the job: missing credits are told in the seed's words, of a disowned job nothing is told."""
    machine, clock = InstantMachine(), FakeClock(START_MS)
    async with core_on(tmp_path, InstantBackend(machine), clock) as core:
        await core.jobs.create([job("1", "hang", product="unit"), job("2", "hang")])
        await until(core, "1", lambda row: row.state is State.RUNNING)
        await until(core, "2", lambda row: row.state is State.RUNNING)
        charge = next(e for e in await told(core, "1") if e.kind is EventKind.CHARGE)
        running = next(e for e in reversed(await told(core, "2")))
        at_ms = clock.now_ms()
        await core.events.acknowledge("core", [EventSettlement(charge.sequence, Outcome.INSUFFICIENT_FUNDS, "", at_ms)])
        await core.events.acknowledge("core", [EventSettlement(running.sequence, Outcome.JOB_UNKNOWN, "", at_ms)])
        one, two = await until(core, "1", settled), await until(core, "2", settled)
        assert (one.state, one.status) == (State.SUCCESS, "The job was terminated (No credits)")
        assert (two.state, two.status) == (State.FAILURE, "UCloud does not know this job; it was stopped.")
        assert "FAILURE" not in await states(core, "2")


async def test_a_watch_that_breaks_is_taken_up_again(tmp_path: Path) -> None:
    """When the backend's stream breaks, what happened meanwhile is found by asking."""

    class Breaks(InstantBackend):
        broken = False

        async def watch(self, after: int | None = None) -> AsyncIterator[WatchEvent]:  # pyright: ignore[reportIncompatibleMethodOverride]  # a generator is the same to its callers
            if not self.broken:
                type(self).broken = True
                raise BackendUnavailable("cut")
            async for event in InstantBackend.watch(self, after):
                yield event

    backend, clock = Breaks(), FakeClock(START_MS)
    async with core_on(tmp_path, backend, clock) as core:
        await core.jobs.create([job("1", "hang")])
        await until(core, "1", lambda row: row.submitted_at_ms > 0)
        backend.end("1", 0, End.EXITED, exit_code=0)
        await until(core, "1", settled, clock)


async def test_a_failed_step_in_between_costs_a_job_neither_its_limit_nor_its_bill(tmp_path: Path) -> None:
    """A running job whose step fails once is done again, and is stopped and billed at its time all the same."""
    machine, clock = InstantMachine(), FakeClock(START_MS)

    class FailsOnce(InstantBackend):
        fail = False

        async def inspect(self, job_id: str) -> JobObservation | None:
            if self.fail:
                self.fail = False
                raise BackendUnavailable("a hiccup")
            return await super().inspect(job_id)

    backend = FailsOnce(machine)
    async with core_on(tmp_path, backend, clock) as core:
        await core.jobs.create([job("1", "hang", minutes=2, replicas=2)])
        await until(core, "1", lambda row: row.state is State.RUNNING)
        backend.fail = True
        backend.end("1", 0, End.EXITED, exit_code=0)  # makes the reconciler look
        async with asyncio.timeout(20):
            while backend.fail:
                await asyncio.sleep(0.005)
        machine.ticks = itertools.count(START_MS + 2 * MINUTE_MS)
        row = await until(core, "1", settled, clock)
        assert row.state is State.EXPIRED
        assert sum(units for _, units, _ in await charges(core, "1")) == 2  # and not the seconds that its end took


async def test_the_price_unit_of_a_job_is_that_of_its_creation(tmp_path: Path) -> None:
    """Settings that sell the product by the hour, or no more, change nothing of a job that was created by the minute."""
    machine, clock = InstantMachine(), FakeClock(START_MS)
    async with core_on(tmp_path, InstantBackend(machine), clock) as core:
        await core.jobs.create([job("1", "hang")])
        await until(core, "1", lambda row: row.state is State.RUNNING)
    for left in ((replace(PRODUCTS[0], period_ms=60 * MINUTE_MS),), PRODUCTS[1:]):
        clock.move(16 * MINUTE_MS)
        async with core_on(tmp_path, InstantBackend(machine), clock, products=left) as core:
            await until(core, "1", lambda row: row.charged_periods >= 16)
            assert (await core.store.job("1")).charged_periods in (16, 32)  # pyright: ignore[reportOptionalMemberAccess]


async def test_places_in_a_queue_do_not_flood_core(tmp_path: Path) -> None:
    """However often a waiting job's reason changes, Core is told at most one a minute, and then the newest."""
    machine, clock = InstantMachine(cpu=1), FakeClock(START_MS)
    backend = InstantBackend(machine)
    async with core_on(tmp_path, backend, clock) as core:
        await core.jobs.create([job("1", "hang")])
        await until(core, "1", lambda row: row.state is State.RUNNING)
        await core.jobs.create([job("2", "hang")])
        await until(core, "2", lambda row: row.status == "The job is in the queue.")
        for place in range(20, 0, -1):
            backend.wait_for("2", f"waiting, {place} jobs are ahead")
        await asyncio.sleep(0.1)  # not for a result: time in which too much could be told
        words = [JobUpdate.FromString(e.body).status for e in await told(core, "2")]
        assert len(words) == 2
        row = await until(core, "2", lambda row: "ahead" in row.status, clock)
        assert row.status == "The job is waiting, 1 jobs are ahead."


async def test_words_of_core_that_no_store_takes_are_cleaned(tmp_path: Path) -> None:
    """A NUL or an escape in Core's words must not keep an event unsettled for ever."""
    async with core_on(tmp_path, InstantBackend(), FakeClock(START_MS)) as core:
        await core.jobs.create([job("1", "hang")])
        servicer = EventsServicer(core.events, FakeClock(START_MS))
        (first, *_) = await told(core, "1")
        settlement = Settlement(sequence=first.sequence, outcome=SETTLEMENT_OUTCOME_REFUSED, detail="no\0way\x1b[31m" + "x" * 5_000)
        await servicer.Acknowledge(AcknowledgeRequest(consumer="core", settlements=[settlement]), Call("m", "r"))
        assert first.sequence not in [e.sequence for e in await told(core, "1")]
