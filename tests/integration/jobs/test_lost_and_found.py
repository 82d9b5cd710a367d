"""When Core, the store and the backend have different jobs: who is believed, who is told, and what is never done by mistake."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from fakes.backends import InstantBackend, InstantMachine, Wrapped
from fakes.clock import FakeClock
from fakes.core_on import START_MS, core_on, job, states, until
from serai.jobs.v1.job_pb2 import Job, JobState
from serai_backends.model import Features, JobObservation, Phase
from serai_server.errors import JobConflictError, WrongState
from serai_server.store.model import State, Target


class Able(InstantBackend):
    @property
    def features(self) -> Features:
        return Features(logs=True, suspension=True)


def at_core(job_id: str, state: JobState.ValueType = JobState.JOB_STATE_RUNNING) -> Job:
    message = job(job_id, "hang")
    message.status.state = state
    message.created_at = START_MS - 3_600_000
    return message


async def test_a_job_that_was_told_to_be_lost_does_not_run_on(tmp_path: Path) -> None:
    """A store that was put back: the backend still has the job. Whoever tells Core that it is over also ends it; at once, or at the next
    start when the server died in between. Its end is tidied away then."""
    clock, machine = FakeClock(START_MS), InstantMachine()
    first, second, other = tmp_path / "first", tmp_path / "second", tmp_path / "other"
    for folder in (first, second, other):
        folder.mkdir()
    async with core_on(first, Able(machine), clock) as core:
        await core.jobs.create([job("1", "hang"), job("2", "hang")])
        for job_id in ("1", "2"):
            await until(core, job_id, lambda row: row.state is State.RUNNING)
    backend = Able(machine)
    async with core_on(second, backend, clock) as core:
        await core.changes.verify([at_core("1")])
        assert await states(core, "1") == ["FAILURE"]
        ended = await backend.inspect("1")
        assert ended is not None
        assert ended.phase is Phase.ENDED
        running = await backend.inspect("2")
        assert running is not None
        assert running.phase is Phase.RUNNING

    class Away(Wrapped):
        async def inspect(self, job_id: str) -> JobObservation | None:
            raise RuntimeError("the server ends here")

    async with core_on(other, Away(backend), clock) as core:
        with pytest.raises(RuntimeError):
            await core.changes.terminate([at_core("2")], for_core=True)
    async with core_on(other, backend, clock) as core, asyncio.timeout(10):
        while (found := await backend.inspect("2")) is not None and found.phase is not Phase.ENDED:
            await asyncio.sleep(0.01)
        assert await states(core, "2") == ["FAILURE"]
    async with core_on(other, backend, clock), asyncio.timeout(10):
        while await backend.inspect("2") is not None:
            await asyncio.sleep(0.01)


async def test_a_wrong_store_does_not_end_everybody_s_jobs(tmp_path: Path) -> None:
    """Cautious: with most of many jobs unknown here, Core is told nothing; half of them known, it is told."""
    clock = FakeClock(START_MS)
    lost = [at_core(f"lost-{n}") for n in range(21)]
    async with core_on(tmp_path, Able(InstantMachine()), clock) as core:
        known = [job(f"known-{n}", "hang") for n in range(21)]
        await core.jobs.create(known)
        with pytest.raises(WrongState, match=r"21 of 22 jobs.*core.end_lost_jobs"):
            await core.changes.verify([*lost, at_core("known-0")], cautious=True)
        assert await core.store.job("lost-0") is None
        await core.changes.verify([*lost, *(at_core(one.id) for one in known)], cautious=True)
        assert await states(core, "lost-20") == ["FAILURE"]


async def test_a_job_that_core_does_not_date_may_be_young(tmp_path: Path) -> None:
    clock = FakeClock(START_MS)
    async with core_on(tmp_path, Able(InstantMachine()), clock) as core:
        undated = at_core("1")
        undated.ClearField("created_at")
        await core.changes.verify([undated])
        assert await core.store.job("1") is None


@pytest.mark.parametrize("first", ["create", "terminate"])
async def test_an_end_and_a_creation_at_the_same_time(tmp_path: Path, first: str) -> None:
    """Core made a job and somebody ends it before the call has come through: one of two stories, and in neither does it run on."""
    clock = FakeClock(START_MS)
    async with core_on(tmp_path, Able(InstantMachine()), clock) as core:
        calls = [core.jobs.create([job("1", "hang")]), core.changes.terminate([at_core("1")], for_core=True)]
        answers = await asyncio.gather(*(calls if first == "create" else reversed(calls)), return_exceptions=True)
        row = await until(core, "1", lambda row: row.state.final)
        refused = [one for one in answers if isinstance(one, JobConflictError)]
        assert (len(refused), row.state) in ((0, State.SUCCESS), (1, State.FAILURE)), answers
        assert [one for one in answers if isinstance(one, BaseException)] == refused


async def test_a_pause_that_a_backend_let_fall_is_asked_for_again(tmp_path: Path) -> None:
    """A backend keeps no note of it, as when its supervisor dies between the answer and the act."""
    clock, machine = FakeClock(START_MS), InstantMachine()

    class Deaf(Able):
        heard = 0

        async def resume(self, job_id: str) -> None:
            self.heard += 1
            if self.heard > 1:
                await super().resume(job_id)

    backend = Deaf(machine)
    async with core_on(tmp_path, backend, clock) as core:
        await core.jobs.create([job("1", "hang")])
        await until(core, "1", lambda row: row.state is State.RUNNING)
        await core.changes.suspend(["1"])
        await until(core, "1", lambda row: row.state is State.SUSPENDED)
        await core.changes.unsuspend(["1"])
        await until(core, "1", lambda row: row.target is Target.RUN and row.state is State.RUNNING, clock)
        assert backend.heard > 1
