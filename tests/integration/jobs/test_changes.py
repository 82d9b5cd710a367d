"""What is asked of jobs that exist, on a real store and with a backend that suspends: more time, pauses, ends, second looks, people."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.backends import InstantBackend, InstantMachine
from fakes.clock import FakeClock
from fakes.core_on import (
    PRODUCTS,
    START_MS,
    charge_messages,
    charges,
    core_on,
    job,
    settled,
    states,
    terminate,
    told,
    until,
    updates,
)
from serai.core.v1.resources_pb2 import AclEntity, Permission, ResourceAclEntry, ResourcePermissions, SimpleDuration, UserEntity
from serai.jobs.v1.job_pb2 import Job, JobState
from serai.jobs.v1.jobs_service_pb2 import ExtendItem, UpdateAclItem
from serai_backends.model import Features, JobObservation
from serai_server.errors import InvalidRequest, JobConflictError, JobUnknown, NotEnoughCredits, SeraiError, Unsupported, WrongState
from serai_server.jobs import causes
from serai_server.jobs.durations import LONGEST_MS
from serai_server.jobs.products import MINUTE_MS
from serai_server.main import Core
from serai_server.store.model import EventKind, EventSettlement, Outcome, State, Target

READ, EDIT = Permission.PERMISSION_READ, Permission.PERMISSION_EDIT
LOST = "Your job is no longer available"


class Able(InstantBackend):
    """Can do all that is asked here."""

    @property
    def features(self) -> Features:
        return Features(logs=True, suspension=True, time_extension=True, utilization=True)


class Unable(InstantBackend):
    @property
    def features(self) -> Features:
        return Features(logs=True)


def machine_at(clock: FakeClock) -> InstantMachine:
    return InstantMachine(ticks=itertools.count(clock.now_ms()))


def more(job_id: str, minutes: int = 0, seconds: int = 0, hours: int = 0) -> ExtendItem:
    return ExtendItem(job=Job(id=job_id), requested_time=SimpleDuration(hours=hours, minutes=minutes, seconds=seconds))


async def settle_all(core: Core, job_id: str, at_ms: int = START_MS) -> None:
    await core.events.acknowledge("core", [EventSettlement(e.sequence, Outcome.DELIVERED, "", at_ms) for e in await told(core, job_id)])


async def test_more_time_for_a_running_and_for_a_waiting_job(tmp_path: Path) -> None:
    """The requested time is added; Core is told the total in words and in numbers; the job ends at the new limit and not at the old."""
    clock = FakeClock(START_MS)
    machine = machine_at(clock)
    machine.cpu = 1
    async with core_on(tmp_path, Able(machine), clock) as core:
        await core.jobs.create([job("1", "hang", minutes=30)])
        await until(core, "1", lambda row: row.state is State.RUNNING)
        await core.jobs.create([job("2", "hang", minutes=30)])
        await until(core, "2", lambda row: bool(row.replica_facts))
        await core.changes.extend([more("1", hours=1), more("2", minutes=5), more("1", seconds=30)])
        one = [u for u in await updates(core, "1") if u.HasField("new_time_allocation")]
        assert [(u.new_time_allocation, u.status) for u in one] == [
            (90 * MINUTE_MS, "The time limit of the job is now 1 hour 30 minutes."),
            (90 * MINUTE_MS + 30_000, "The time limit of the job is now 1 hour 30 minutes 30 seconds."),
        ]
        clock.move(31 * MINUTE_MS)
        await until(core, "1", lambda row: row.charged_periods >= 30)
        assert (await until(core, "1", lambda _: True)).state is State.RUNNING
        machine.ticks = itertools.count(START_MS + 91 * MINUTE_MS)
        clock.move(60 * MINUTE_MS)
        row = await until(core, "1", settled)
        assert (row.state, row.status) == (State.EXPIRED, "The job has reached its time limit of 1 hour 30 minutes 30 seconds.")
        assert (await until(core, "2", lambda _: True)).time_limit_ms == 35 * MINUTE_MS


async def test_a_limit_that_is_asked_for_twice_is_given_once(tmp_path: Path) -> None:
    """So a tool whose answer got lost asks again. A job that has more already keeps it, one without a limit is refused as ever, and Core
    is told of what changed alone."""
    clock = FakeClock(START_MS)
    async with core_on(tmp_path, Able(machine_at(clock)), clock) as core:
        await core.jobs.create([job("1", "hang", minutes=30), job("2", "hang", minutes=300), job("3", "hang", minutes=0)])
        for job_id in ("1", "2"):
            await until(core, job_id, lambda row: row.state is State.RUNNING)
        for _ in range(2):
            await core.changes.extend_to(["1", "2"], 240 * MINUTE_MS)
        found = [await core.store.job(job_id) for job_id in ("1", "2")]
        assert [row and row.time_limit_ms for row in found] == [240 * MINUTE_MS, 300 * MINUTE_MS]
        told_of = [[u.new_time_allocation for u in await updates(core, i) if u.HasField("new_time_allocation")] for i in ("1", "2")]
        assert told_of == [[240 * MINUTE_MS], []]
        for wrong in (999, LONGEST_MS + 1):
            with pytest.raises(InvalidRequest) as error:
                await core.changes.extend_to(["1"], wrong)
            assert error.value.field == "time_limit_ms"
        with pytest.raises(WrongState):
            await core.changes.extend_to(["1", "3"], 250 * MINUTE_MS)
        clock.move(239 * MINUTE_MS)
        await until(core, "1", lambda row: row.state is State.RUNNING)
        clock.move(2 * MINUTE_MS)
        await until(core, "1", lambda row: row.state.final)


async def test_more_time_that_comes_while_the_limit_is_found_to_be_reached(tmp_path: Path) -> None:
    """An extension that was answered counts: the job is not ended by the limit that it had when it was looked at."""
    clock = FakeClock(START_MS)
    machine = machine_at(clock)

    class Late(Able):
        meanwhile: Callable[[], Awaitable[None]] | None = None

        async def inspect(self, job_id: str) -> JobObservation | None:
            meanwhile, self.meanwhile = self.meanwhile, None
            if meanwhile is not None:
                await meanwhile()
            return await super().inspect(job_id)

    backend = Late(machine)
    async with core_on(tmp_path, backend, clock) as core:
        await core.jobs.create([job("1", "hang", minutes=30)])
        await until(core, "1", lambda row: row.state is State.RUNNING)
        backend.meanwhile = lambda: core.changes.extend([more("1", minutes=30)])
        clock.move(31 * MINUTE_MS)
        row = await until(core, "1", lambda row: row.charged_periods == 31)
        assert (row.state, row.target, row.time_limit_ms) == (State.RUNNING, Target.RUN, 60 * MINUTE_MS)
        machine.ticks = itertools.count(START_MS + 61 * MINUTE_MS)
        clock.move(30 * MINUTE_MS)
        assert (await until(core, "1", settled)).state is State.EXPIRED


async def test_an_extension_that_cannot_be_is_refused_whole(tmp_path: Path) -> None:
    """Unknown, over, being ended, without a limit, too long, no time at all: in words, and nothing of the bulk is stored."""
    clock = FakeClock(START_MS)
    async with core_on(tmp_path, Able(machine_at(clock)), clock) as core:
        await core.jobs.create([job("1", "hang"), job("2", "exit", "0"), job("3", "hang", minutes=0)])
        await until(core, "1", lambda row: row.state is State.RUNNING)
        await until(core, "2", settled)
        refused: list[tuple[Sequence[ExtendItem], type[SeraiError], str]] = [
            ([more("1", 1), more("x", 1)], JobUnknown, "no job 'x'"),
            ([more("1", 1), more("2", 1)], WrongState, "job 2 is over"),
            ([more("1", 1), more("3", 1)], WrongState, "no time limit"),
            ([more("1", 1), more("1", hours=90_000)], InvalidRequest, "expected 1 second to 3650 days"),
            ([more("1", hours=87_600)], InvalidRequest, "more than 87600 hours in all"),
            ([more("1", minutes=0)], InvalidRequest, "expected 1 second"),
            ([more("1", minutes=60)], InvalidRequest, "expected 0 to 59"),
            ([], InvalidRequest, "expected 1 to 1000 items"),
        ]
        for items, kind, words in refused:
            with pytest.raises(kind, match="|".join([words.replace("[", r"\[")])):
                await core.changes.extend(items)
        assert (await until(core, "1", lambda _: True)).time_limit_ms == 60 * MINUTE_MS
        await terminate(core, "1")
        with pytest.raises(WrongState):
            await core.changes.extend([more("1", 1)])


async def test_a_warning_ten_minutes_and_one_minute_before_the_end(tmp_path: Path) -> None:
    """Each once, in the job's updates; an extension makes them come again; a short job is not warned of what it never had."""
    clock = FakeClock(START_MS)
    machine = machine_at(clock)
    async with core_on(tmp_path, Able(machine), clock) as core:
        await core.jobs.create([job("1", "hang", minutes=30), job("2", "hang", minutes=5)])
        await until(core, "1", lambda row: row.state is State.RUNNING)
        await until(core, "2", lambda row: row.state is State.RUNNING)
        clock.move(20 * MINUTE_MS + 1_000)  # this backend's clock may be some ms ahead
        await until(core, "1", lambda row: row.warned_ms == 600_000)
        await core.changes.extend([more("1", minutes=30)])
        assert (await until(core, "1", lambda _: True)).warned_ms == 0
        clock.move(30 * MINUTE_MS)
        await until(core, "1", lambda row: row.warned_ms == 600_000)
        clock.move(9 * MINUTE_MS)
        await until(core, "1", lambda row: row.warned_ms == 60_000)
        words = [u.status for u in await updates(core, "1") if "ends in" in u.status]
        assert words == [causes.nearly_over(600_000), causes.nearly_over(600_000), causes.nearly_over(60_000)]
        assert not [u for u in await updates(core, "2") if causes.nearly_over(600_000) == u.status]


async def test_suspended_time_is_neither_billed_nor_counted(tmp_path: Path) -> None:
    """Ten minutes of run, an hour of pause, and the rest: limit and bill count the time that it ran; Core hears of each change."""
    clock = FakeClock(START_MS)
    machine = machine_at(clock)
    async with core_on(tmp_path, Able(machine), clock, today=True, charge_every_ms=1_000) as core:
        await core.jobs.create([job("1", "hang", minutes=30, replicas=2)])
        await until(core, "1", lambda row: row.state is State.RUNNING)
        machine.ticks = itertools.count(START_MS + 10 * MINUTE_MS)
        clock.move(10 * MINUTE_MS)
        await core.changes.suspend(["1"])
        row = await until(core, "1", lambda row: row.state is State.SUSPENDED)
        assert (row.ran_ms // 1000, row.running_since_ms, row.wake_at_ms) == (600, 0, 0)
        await core.changes.suspend(["1"])
        clock.move(60 * MINUTE_MS)
        machine.ticks = itertools.count(START_MS + 70 * MINUTE_MS)
        await core.changes.unsuspend(["1"])
        await until(core, "1", lambda row: row.state is State.RUNNING)
        await core.changes.unsuspend(["1"])
        assert [u.new_time_allocation // MINUTE_MS for u in await updates(core, "1") if u.HasField("new_time_allocation")] == [20]
        clock.move(19 * MINUTE_MS)
        await until(core, "1", lambda row: row.warned_ms == 60_000)
        machine.ticks = itertools.count(START_MS + 90 * MINUTE_MS)
        clock.move(1 * MINUTE_MS)
        row = await until(core, "1", settled)
        assert row.state is State.EXPIRED
        assert await states(core, "1") == ["RUNNING", "SUSPENDED", "RUNNING", "EXPIRED"]
        assert sum(units for _, units, _ in await charges(core, "1")) == 30
        last = (await charge_messages(core, "1"))[-1]
        assert (last.total_units, last.number_of_products, last.owner.created_by, last.product.category) == (
            30,
            2,
            "user",
            "example-compute",
        )
        assert sum(i.ended_at_ms - i.started_at_ms for i in await core.store.intervals("1")) // MINUTE_MS == 30


async def test_who_cannot_be_suspended(tmp_path: Path) -> None:
    """Unknown, over, waiting; and none at a backend or for a product that does not do it."""
    clock = FakeClock(START_MS)
    machine = machine_at(clock)
    machine.cpu = 1
    without = (replace(PRODUCTS[0], without=frozenset({"suspension", "time_extension"})), PRODUCTS[1])
    async with core_on(tmp_path, Able(machine), clock) as core:
        await core.jobs.create([job("1", "hang")])
        await until(core, "1", lambda row: row.state is State.RUNNING)
        await core.jobs.create([job("2", "hang")])
        await until(core, "2", lambda row: bool(row.replica_facts))
        for ids, kind in ((["x"], JobUnknown), (["1", "2"], WrongState), ([], InvalidRequest)):
            with pytest.raises(kind):
                await core.changes.suspend(ids)
        assert (await until(core, "1", lambda _: True)).target is Target.RUN
    async with core_on(tmp_path, Able(machine), clock, products=without) as core:
        with pytest.raises(Unsupported, match="does not suspend"):
            await core.changes.suspend(["1"])
        with pytest.raises(Unsupported, match="does not extend"):
            await core.changes.extend([more("1", 1)])
        (first, second) = core.jobs.products()
        assert (first.docker.time_extension, second.docker.time_extension) == (False, True)
    async with core_on(tmp_path, Unable(machine), clock) as core:
        with pytest.raises(Unsupported):
            await core.changes.suspend(["1"])


@pytest.mark.parametrize("crash", ["before", "after"])
async def test_a_suspension_survives_a_crash_on_either_side_of_its_effect(tmp_path: Path, crash: str) -> None:
    """The wish is stored; whether the backend had heard of it or not, the next start brings the job there, billed for what it ran."""
    clock = FakeClock(START_MS)
    machine = machine_at(clock)

    class Dies(Able):
        async def suspend(self, job_id: str) -> None:
            if crash == "after":
                await super().suspend(job_id)
            raise RuntimeError("the server ends here")

    async with core_on(tmp_path, Dies(machine), clock) as core:
        await core.jobs.create([job("1", "hang")])
        await until(core, "1", lambda row: row.state is State.RUNNING)
        await core.changes.suspend(["1"])
    async with core_on(tmp_path, Able(machine), clock) as core:
        await until(core, "1", lambda row: row.state is State.SUSPENDED)
        await core.changes.unsuspend(["1"])
        await until(core, "1", lambda row: row.state is State.RUNNING)
        await terminate(core, "1")
        row = await until(core, "1", lambda row: row.state.final)
        assert (row.state, await states(core, "1")) == (State.SUCCESS, ["RUNNING", "SUSPENDED", "RUNNING", "SUCCESS"])
        stretches = await core.store.intervals("1")
        assert len(stretches) == 2
        assert row.ran_ms == sum(i.ended_at_ms - i.started_at_ms for i in stretches)


async def test_verify_tells_of_unknown_jobs_and_heals_what_core_has_wrong(tmp_path: Path) -> None:
    """Unknown: FAILURE in the seed's words, once; one that Core made a moment ago: nothing yet; known and told: our state again where
    Core's is another one, and not while something is on its way to Core."""
    clock = FakeClock(START_MS)
    async with core_on(tmp_path, Able(machine_at(clock)), clock) as core:
        await core.jobs.create([job("1", "exit", "0"), job("2", "hang")])
        await until(core, "1", settled)
        await until(core, "2", lambda row: row.state is State.RUNNING)
        young, old = seed("young"), seed("old")
        young.created_at = START_MS - 1_000
        asked = [old, young, seed("1", JobState.JOB_STATE_RUNNING), seed("2", JobState.JOB_STATE_IN_QUEUE)]
        await core.changes.verify(asked)
        assert await states(core, "old") == ["FAILURE"]
        assert [u.status for u in await updates(core, "old")] == [LOST]
        assert await core.store.job("young") is None
        before = len(await told(core, "1"))
        for job_id in ("1", "2", "old"):
            await settle_all(core, job_id)
        await core.changes.verify(asked)
        assert before
        assert [(s, [u.status for u in await updates(core, i)]) for i in ("1", "2") for s in [await states(core, i)]] == [
            (["SUCCESS"], ["The job has finished processing!"]),
            (["RUNNING"], ["The job is now running!"]),
        ]
        assert await states(core, "old") == ["FAILURE"]
        with pytest.raises(JobConflictError):
            await core.jobs.create([job("old", "hang")])
        agreed = [seed("2", JobState.JOB_STATE_RUNNING)]
        await settle_all(core, "2")
        await core.changes.verify(agreed)
        assert await told(core, "2") == []


def seed(job_id: str, state: JobState.ValueType = JobState.JOB_STATE_RUNNING) -> Job:
    message = job(job_id, "hang")
    message.status.state = state
    return message


async def test_core_that_ends_what_is_over_or_unknown_is_told_of_the_end(tmp_path: Path) -> None:
    """Success, and a final update; an operator's tool gets no tombstone for a mistyped id."""
    clock = FakeClock(START_MS)
    async with core_on(tmp_path, Able(machine_at(clock)), clock) as core:
        await core.jobs.create([job("1", "exit", "0")])
        await until(core, "1", settled)
        await settle_all(core, "1")
        await core.changes.terminate([seed("1"), seed("gone")], for_core=True)
        assert (await states(core, "1"), await states(core, "gone")) == (["SUCCESS"], ["FAILURE"])
        await core.changes.terminate([seed("typo")], for_core=False)
        assert await core.store.job("typo") is None
        await settle_all(core, "1")
        await core.changes.terminate([seed("1", JobState.JOB_STATE_SUCCESS)], for_core=True)
        assert await told(core, "1") == []


async def test_permissions_and_labels_are_kept_for_the_tools(tmp_path: Path) -> None:
    """Added to what Core says was there before, deleted ones gone; unknown jobs are passed over; nothing is told to anybody."""
    clock = FakeClock(START_MS)

    def user(name: str) -> AclEntity:
        return AclEntity(user=UserEntity(username=name))

    async with core_on(tmp_path, Able(machine_at(clock)), clock) as core:
        await core.jobs.create([job("1", "hang")])
        before = len(await told(core, "1"))
        first = UpdateAclItem(resource=job("1", "hang"), added=[ResourceAclEntry(entity=user("bob"), permissions=[READ])])
        await core.changes.update_acl([first, UpdateAclItem(resource=Job(id="unknown"))])
        second = UpdateAclItem(
            resource=Job(id="1", permissions=ResourcePermissions(others=[ResourceAclEntry(entity=user("bob"), permissions=[READ])])),
            added=[
                ResourceAclEntry(entity=user("eve"), permissions=[READ, EDIT]),
                ResourceAclEntry(entity=user("bob"), permissions=[EDIT]),
            ],
            deleted=[user("zoe")],
        )
        await core.changes.update_acl([second])
        labelled = job("1", "hang")
        labelled.specification.labels["study"] = "7"
        await core.changes.update_labels([labelled])
        report = await core.jobs.get("1")
        assert [(e.entity.user.username, list(e.permissions)) for e in report.acl] == [("bob", [EDIT]), ("eve", [READ, EDIT])]
        assert dict(report.labels) == {"study": "7"}
        await core.changes.update_acl([UpdateAclItem(resource=Job(id="1"), deleted=[user("bob")])])
        assert [e.entity.user.username for e in (await core.jobs.get("1")).acl] == ["eve"]
        assert len([e for e in await told(core, "1") if e.kind is EventKind.JOB_UPDATE]) - before in (0, 1)


async def test_an_owner_without_funds_gets_no_new_job(tmp_path: Path) -> None:
    """Known from a charge that was not paid, also after a restart; forgotten after five minutes, or as soon as a charge is paid again. A
    repeated create of a job that was taken on is no new job."""
    clock = FakeClock(START_MS)
    machine = machine_at(clock)
    async with core_on(tmp_path, Able(machine), clock) as core:
        await core.jobs.create([job(job_id, "hang", product="unit") for job_id in ("1", "2", "6")])
        for job_id in ("1", "2", "6"):
            await until(core, job_id, lambda row: row.charged_periods == 1)
        charge = next(e for e in await told(core, "1") if e.kind is EventKind.CHARGE)
        await core.events.acknowledge("core", [EventSettlement(charge.sequence, Outcome.INSUFFICIENT_FUNDS, "", clock.now_ms())])
        with pytest.raises(NotEnoughCredits, match=r"^user user has no credits left"):
            other = job("3", "hang")
            other.owner.created_by = "rich"
            await core.jobs.create([other, job("4", "hang")])
        assert await core.store.job("3") is None
        await core.jobs.create([job("1", "hang", product="unit")])
    async with core_on(tmp_path, Able(machine), clock) as core:
        # Of a charge that was sent twice Core's word does not say what is left (the detail tells).
        unsure = next(e for e in await told(core, "6") if e.kind is EventKind.CHARGE)
        await core.events.acknowledge("core", [EventSettlement(unsure.sequence, Outcome.DELIVERED, "sent twice", clock.now_ms())])
        with pytest.raises(NotEnoughCredits):
            await core.jobs.create([job("4", "hang")])
        paid = next(e for e in await told(core, "2") if e.kind is EventKind.CHARGE)
        await core.events.acknowledge("core", [EventSettlement(paid.sequence, Outcome.DELIVERED, "", clock.now_ms())])
        await core.jobs.create([job("4", "hang")])
    async with core_on(tmp_path, Able(machine), clock) as core:
        clock.move(300_001)
        await core.jobs.create([job("5", "hang")])


async def test_how_busy_the_machines_are(tmp_path: Path) -> None:
    """What the backend says; refused where it cannot say."""
    clock = FakeClock(START_MS)
    machine = machine_at(clock)
    async with core_on(tmp_path, Able(machine), clock) as core:
        await core.jobs.create([job("1", "hang", replicas=3)])
        await until(core, "1", lambda row: row.state is State.RUNNING)
        found = await core.jobs.utilization()
        assert (found.used_cpu, found.running_jobs, found.waiting_jobs) == (3, 1, 0)
    async with core_on(tmp_path, Unable(machine), clock) as core:
        with pytest.raises(Unsupported):
            await core.jobs.utilization()
