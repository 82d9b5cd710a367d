"""Every cause of the table, provoked, and the words that Core is told of it. With real programs: tests/e2e/test_causes.py."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.backends import InstantMachine
from fakes.clock import FakeClock
from fakes.core_on import START_MS, core_on, job, settled, terminate, told, until, updates
from fakes.licensed import SecretsBackend, license_message, licensed_job, licenses_plan, ready, server_message, stands
from fakes.lmgrd import FakeLmgrd
from serai.jobs.v1.job_pb2 import Job
from serai.licenses.v1.license_servers_service_pb2 import LicenseFeature
from serai_backends.model import End, Features, Waiting, Why
from serai_server.jobs import causes
from serai_server.jobs.products import MINUTE_MS
from serai_server.licenses.products import LicenseProduct
from serai_server.licensing import LicensesPlan
from serai_server.main import Core
from serai_server.store.license_model import LicenseState
from serai_server.store.model import EventKind, EventSettlement, Outcome, State

KEY_NOT_READ = "The job is waiting for the key of its license, which the provider cannot read now."


class Able(SecretsBackend):
    @property
    def features(self) -> Features:
        return Features(logs=True, suspension=True, time_extension=True, secrets=True)

    def queue(self, job_id: str, place: Waiting) -> None:
        """A waiting job has this place in a queue now."""
        held = self.machine.jobs[job_id]
        held.observation = replace(held.observation, waiting=place, reason="")
        self._board.publish(held.observation)


class Scene:
    """Job "1" of two replicas, running, at a backend that a test moves by hand."""

    core: Core

    def __init__(self, folder: Path, stack: contextlib.AsyncExitStack) -> None:
        self.folder, self._stack = folder, stack
        self.backend, self.clock = Able(InstantMachine()), FakeClock(START_MS)

    async def start(self, licenses: LicensesPlan) -> None:
        """With these licenses; what ran before is stopped."""
        await self._stack.aclose()
        self.core = await self._stack.enter_async_context(core_on(self.folder, self.backend, self.clock, licenses=licenses))

    async def ends(self, end: End, *, code: int | None = None, signal: int | None = None, why: Why = Why.NONE, cause: str = "") -> None:
        """Rank 1 ends so, rank 0 well."""
        self.backend.end("1", 1, end, exit_code=code, signal=signal, why=why, cause=cause)
        self.backend.end("1", 0, End.EXITED, exit_code=0)
        await until(self.core, "1", settled)

    async def settle(self, outcome: Outcome) -> None:
        """Core says this of job "2"'s charge, or of its first update."""
        kind = EventKind.CHARGE if outcome is Outcome.INSUFFICIENT_FUNDS else EventKind.JOB_UPDATE
        await self.core.jobs.create([job("2", "hang", product="unit")])
        await until(self.core, "2", lambda row: row.state is State.RUNNING)
        event = next(e for e in await told(self.core, "2") if e.kind is kind)
        await self.core.events.acknowledge("core", [EventSettlement(event.sequence, outcome, "", self.clock.now_ms())])
        await until(self.core, "2", settled)

    async def waits(self, place: Waiting) -> None:
        self.backend.machine.cpu = 2
        await self.core.jobs.create([job("2", "hang")])
        await until(self.core, "2", lambda _: "2" in self.backend.machine.jobs)
        self.backend.queue("2", place)
        await until(self.core, "2", lambda row: "waiting for" in row.status, self.clock)


def replica(end: End, **more: object) -> Callable[[Scene], Awaitable[None]]:
    async def provoke(scene: Scene) -> None:
        await scene.ends(end, **more)  # pyright: ignore[reportArgumentType] - names of `ends`

    return provoke


def started(why: Why, detail: str) -> Callable[[Scene], Awaitable[None]]:
    return replica(End.START_FAILED, why=why, cause=detail)


async def finished(scene: Scene) -> None:
    await scene.ends(End.EXITED, code=0)


async def too_large(scene: Scene) -> None:
    scene.backend.machine.cpu = 2
    await scene.core.jobs.create([job("2", "hang", replicas=3)])
    await until(scene.core, "2", settled)


async def stopped(scene: Scene) -> None:
    await terminate(scene.core, "1")
    await until(scene.core, "1", settled)


async def expired(scene: Scene) -> None:
    scene.clock.move(61 * MINUTE_MS)
    await until(scene.core, "1", settled)


async def warned(scene: Scene) -> None:
    scene.clock.move(50 * MINUTE_MS + 1_000)
    await until(scene.core, "1", lambda row: row.warned_ms > 0)


async def unknown(scene: Scene) -> None:
    await scene.core.changes.verify([Job(id="2", created_at=1)])


async def suspended(scene: Scene) -> None:
    await scene.core.changes.suspend(["1"])
    await until(scene.core, "1", lambda row: row.state is State.SUSPENDED)


@contextlib.asynccontextmanager
async def one_seat(scene: Scene) -> AsyncGenerator[FakeLmgrd]:
    """Job "2" has the only seat of a license, and "3" waits for it."""
    async with FakeLmgrd() as server:
        await scene.core.licensing.servers.add(server_message(server.port, 1), b"")
        await scene.core.licensing.of_core.create([license_message("5123")])
        await ready(scene.core)
        await scene.core.jobs.create([licensed_job("2", "hang")])
        await until(scene.core, "2", lambda row: row.state is State.RUNNING)
        await scene.core.jobs.create([licensed_job("3", "hang")])
        await until(scene.core, "3", lambda row: "waiting for a seat" in row.status)
        yield server


async def no_seat(scene: Scene) -> None:
    async with one_seat(scene):
        pass


async def license_away(scene: Scene) -> None:
    async with one_seat(scene) as server:
        await server.go_away()
        await stands(scene.core, LicenseState.UNAVAILABLE, clock=scene.clock)
        await until(scene.core, "3", lambda row: "waiting for its license" in row.status, scene.clock)


async def too_few_seats(scene: Scene) -> None:
    """The operator lowers the number under a job that waits."""
    async with FakeLmgrd() as server:
        await scene.core.licensing.servers.add(server_message(server.port, 4, per_replica=True), b"")
        await scene.core.licensing.of_core.create([license_message("5123")])
        await ready(scene.core)
        await scene.core.jobs.create([licensed_job("2", "hang"), licensed_job("3", "hang", replicas=4)])
        await until(scene.core, "3", lambda row: "waiting for a seat" in row.status)
        await scene.core.licensing.servers.set_seats("lm", [LicenseFeature(name="solver", seats=3)])
        await until(scene.core, "3", lambda row: "there are 3" in row.status, scene.clock)


async def license_not_sold(scene: Scene) -> None:
    """The settings are others at the next start."""
    async with one_seat(scene):
        pass
    await scene.start(licenses_plan(scene.folder, LicenseProduct("another", "example-license", "example")))
    await until(scene.core, "3", settled)


async def license_deleted(scene: Scene) -> None:
    async with one_seat(scene):
        await scene.core.licensing.of_core.delete([license_message("5123")])
        await until(scene.core, "3", settled)


async def key_not_read(scene: Scene) -> None:
    """Somebody has moved the file that vendors' keys are sealed with; when it is back, the job runs."""
    file = scene.folder / "licenses.key"
    async with FakeLmgrd() as server:
        await scene.core.licensing.servers.add(server_message(server.port, 1), b"a-vendors-key")
        await scene.core.licensing.of_core.create([license_message("5123")])
        await ready(scene.core)
        away = file.rename(file.with_name("away"))
        await scene.core.jobs.create([licensed_job("2", "hang")])
        await until(scene.core, "2", lambda row: "waiting for the key" in row.status)
        await until(scene.core, "2", lambda row: row.wake_at_ms < scene.clock.now_ms(), scene.clock)
        assert [u.status for u in await updates(scene.core, "2")].count(KEY_NOT_READ) == 1, "told once, however often it is tried"
        away.rename(file)
        await until(scene.core, "2", lambda row: row.state is State.RUNNING, scene.clock)


async def nothing(_scene: Scene) -> None:
    """It happens to every job."""


def no_credits(scene: Scene) -> Awaitable[None]:
    return scene.settle(Outcome.INSUFFICIENT_FUNDS)


def disowned(scene: Scene) -> Awaitable[None]:
    return scene.settle(Outcome.JOB_UNKNOWN)


def waiting(place: Waiting) -> Callable[[Scene], Awaitable[None]]:
    return lambda scene: scene.waits(place)


PROVOKED: Mapping[str, tuple[Callable[[Scene], Awaitable[None]], str, str]] = {
    "finished": (finished, "1", "The job has finished processing!"),
    "exit-code": (replica(End.EXITED, code=3), "1", "Rank 1 ended with exit code 3."),
    "signal": (replica(End.SIGNALED, signal=11), "1", "Rank 1 was ended by signal 11 (SIGSEGV)."),
    "out-of-memory": (replica(End.OUT_OF_MEMORY), "1", "Rank 1 used more memory than its machine type has and was ended."),
    "ended-from-outside": (replica(End.CANCELED), "1", "Rank 1 was ended from outside."),
    "start-failed": (
        replica(End.START_FAILED, cause="the disk is upside down"),
        "1",
        "Rank 1 could not be started: the disk is upside down.",
    ),
    "vanished": (replica(End.LOST, cause="nobody saw it"), "1", "Rank 1 was lost: nobody saw it."),
    "child-out-of-memory": (
        replica(End.EXITED, code=5, why=Why.CHILD_OUT_OF_MEMORY),
        "1",
        "Rank 1 ended with exit code 5; one of its processes had been ended by its memory limit.",
    ),
    "command-not-found": (
        started(Why.COMMAND_NOT_FOUND, "acme"),
        "1",
        "Rank 1 could not be started: there is no program acme on the machine.",
    ),
    "command-not-executable": (
        started(Why.COMMAND_NOT_EXECUTABLE, "/work/x"),
        "1",
        "Rank 1 could not be started: the file /work/x is not a program that may be executed.",
    ),
    "image-not-found": (started(Why.IMAGE_NOT_FOUND, "acme:1"), "1", "Rank 1 could not be started: there is no image acme:1."),
    "no-space": (started(Why.NO_SPACE, "the job's drive"), "1", "Rank 1 could not be started: there is no space left on the job's drive."),
    "input-missing": (started(Why.INPUT_MISSING, "/home/in"), "1", "Rank 1 could not be started: the input /home/in does not exist."),
    "input-forbidden": (
        started(Why.INPUT_FORBIDDEN, "/home/in"),
        "1",
        "Rank 1 could not be started: the job may not use the input /home/in.",
    ),
    "mount-failed": (started(Why.MOUNT_FAILED, "/in: EIO"), "1", "Rank 1 could not be started: an input could not be mounted: /in: EIO."),
    "peer-gone": (
        started(Why.PEER_GONE, "db"),
        "1",
        "Rank 1 could not be started: the job that it wants to reach as db is not running any more.",
    ),
    "sandbox-failed": (started(Why.SANDBOX_FAILED, "no room"), "1", "Rank 1 could not be started: its sandbox could not be made: no room."),
    "too-large": (too_large, "2", "The job could not be started: it is larger than the machine."),
    "node-lost": (replica(End.LOST, why=Why.NODE_LOST, cause="n7"), "1", "Rank 1 was lost: the machine n7 went away."),
    "node-restarted": (
        replica(End.LOST, why=Why.NODE_RESTARTED, cause="n7"),
        "1",
        "Rank 1 was lost: the machine n7 was restarted while it ran.",
    ),
    "node-drained": (
        replica(End.CANCELED, why=Why.NODE_DRAINED, cause="n7"),
        "1",
        "Rank 1 was ended: the machine n7 was taken out of service.",
    ),
    "preempted": (
        replica(End.CANCELED, why=Why.PREEMPTED, cause="n7"),
        "1",
        "Rank 1 was ended: its place on the machine n7 was given to a job of higher priority.",
    ),
    "stopped-by-operator": (
        replica(End.CANCELED, why=Why.STOPPED_BY_OPERATOR, cause="the job"),
        "1",
        "Rank 1 was ended: an operator of the cluster stopped the job.",
    ),
    "forgotten-by-cluster": (
        replica(End.LOST, why=Why.FORGOTTEN_BY_CLUSTER, cause="it was purged"),
        "1",
        "Rank 1 was lost: the cluster does not know it any more (it was purged).",
    ),
    "cluster-limit": (replica(End.CANCELED, why=Why.CLUSTER_LIMIT), "1", "Rank 1 was ended by the cluster's own limit of time."),
    "image-not-fetched": (
        started(Why.IMAGE_NOT_FETCHED, "acme: refused"),
        "1",
        "Rank 1 could not be started: its image could not be fetched: acme: refused.",
    ),
    "another-rank-failed": (
        replica(End.CANCELED, why=Why.ANOTHER_RANK_FAILED),
        "1",
        "Rank 1 was ended because another rank was lost or could not start.",
    ),
    "killed-from-outside": (
        replica(End.LOST, why=Why.KILLED_FROM_OUTSIDE, cause="its sandbox"),
        "1",
        "Rank 1 was lost: its sandbox was ended by somebody on the machine.",
    ),
    "stopped": (stopped, "1", "The job was stopped."),
    "no-credits": (no_credits, "2", "The job was terminated (No credits)"),
    "time-limit": (expired, "1", "The job has reached its time limit of 1 hour."),
    "no-longer-available": (unknown, "2", "Your job is no longer available"),
    "disowned": (disowned, "2", ""),
    "queued": (nothing, "1", "The job is queued and starts as soon as there is room for it."),
    "waiting-for-cores": (
        waiting(Waiting(ahead=3, cpu=2, free_cpu=1, all_cpu=4)),
        "2",
        "The job is waiting for 2 cores (1 of 4 are free); 3 jobs are before it.",
    ),
    "waiting-for-memory": (
        waiting(Waiting(ahead=0, memory_bytes=8 << 30, free_memory_bytes=2 << 30)),
        "2",
        "The job is waiting for 8.0 GiB of memory (2.0 GiB are free).",
    ),
    "waiting-for-its-turn": (waiting(Waiting(ahead=1)), "2", "The job is waiting for its turn; 1 job is before it."),
    "waiting-for-seats": (no_seat, "3", "The job is waiting for a seat of its license: 1 of 1 seats in use."),
    "waiting-for-license": (
        license_away,
        "3",
        "The job is waiting for its license. The license cannot be used now: its license server does not answer."
        " It is tried again and again.",
    ),
    "waiting-for-more-seats": (
        too_few_seats,
        "3",
        "The job needs 4 seats of its license and there are 3. It waits until there are more.",
    ),
    "waiting-for-key": (key_not_read, "2", KEY_NOT_READ),
    "license-not-sold": (license_not_sold, "3", causes.LICENSE_NOT_SOLD),
    "license-gone": (license_deleted, "3", causes.LICENSE_GONE),
    "time-nearly-over": (warned, "1", "The job ends in 10 minutes, when its time limit is reached. Save what is needed, or extend it."),
    "suspended": (suspended, "1", causes.SUSPENDED),
}
"""Cause → (how it comes about, which job, what Core is told of it; "" = nothing)."""


def test_no_cause_is_left_out() -> None:
    """A new one needs a way to provoke it."""
    assert set(PROVOKED) == {cause.key for cause in causes.TABLE}


@pytest.mark.parametrize("key", PROVOKED)
async def test_core_is_told_in_these_words(tmp_path: Path, key: str) -> None:
    """With the rank, and the exit code or signal, where there is one."""
    provoke, job_id, words = PROVOKED[key]
    async with contextlib.AsyncExitStack() as stack:
        scene = Scene(tmp_path, stack)
        await scene.start(licenses_plan(tmp_path))
        await scene.core.jobs.create([job("1", "hang", replicas=2)])
        await until(scene.core, "1", lambda row: row.state is State.RUNNING)
        await provoke(scene)
        said = [u.status for u in await updates(scene.core, job_id)]
        if words:
            assert words in said
        else:
            row = await scene.core.store.job(job_id)
            assert row is not None
            assert row.status == causes.DISOWNED
            assert causes.DISOWNED not in said
