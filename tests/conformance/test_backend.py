"""What every backend must do; see serai_backends/api.py. Runs against each harness of conftest.py."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import pytest
from serai_backends.errors import BackendUnavailable, CursorExpired, JobNotThere, SubmissionRefused
from serai_backends.model import End, JobObservation, Phase, Stream, Why

if TYPE_CHECKING:
    from conftest import Site  # pyright: ignore[reportMissingImports]  # pytest's own import of the conftest beside this file

DEADLINE_S = 30


async def read(site: Site, job_id: str, rank: int = 0, stream: Stream = Stream.STDOUT, offset: int = 0, *, follow: bool = False) -> bytes:
    data = b""
    async with asyncio.timeout(DEADLINE_S):
        async for chunk in site.backend.logs(job_id, rank, stream, offset, follow=follow):
            assert chunk.offset == offset + len(data)
            assert 1 <= len(chunk.data) <= 64 * 1024
            data += chunk.data
    return data


def ends(found: JobObservation) -> list[End | None]:
    return [replica.end for replica in found.replicas]


@pytest.mark.parametrize("code", [0, 1, 7, 127, 128])
async def test_the_exit_code_is_told_exactly(site: Site, code: int) -> None:
    """A program's exit code is its own; 0 and others are EXITED."""
    await site.backend.submit(site.spec("job", "exit", str(code)))
    found = await site.ended("job")
    assert ends(found) == [End.EXITED]
    assert found.replicas[0].exit_code == code
    assert found.replicas[0].signal is None


@pytest.mark.parametrize("number", [9, 11, 15])
async def test_a_signal_that_ends_the_program_is_told(site: Site, number: int) -> None:
    """A program that a signal ended is SIGNALED, with the signal's number."""
    await site.backend.submit(site.spec("job", "signal", str(number)))
    found = await site.ended("job")
    assert ends(found) == [End.SIGNALED]
    assert found.replicas[0].signal == number


async def test_every_rank_runs_and_is_observed(site: Site) -> None:
    """N replicas have the ranks 0 to N-1, times in order, a machine and an address each."""
    await site.backend.submit(site.spec("job", "print", "here", "exit", "0", replicas=3))
    found = await site.ended("job")
    assert [replica.rank for replica in found.replicas] == [0, 1, 2]
    assert ends(found) == [End.EXITED] * 3
    assert len({replica.address for replica in found.replicas}) == 3
    assert found.running_since_ms is not None and found.ended_at_ms is not None
    assert found.running_since_ms <= found.ended_at_ms
    for replica in found.replicas:
        assert replica.node
        assert replica.started_at_ms is not None and replica.ended_at_ms is not None
        assert replica.started_at_ms <= found.running_since_ms
        assert replica.started_at_ms <= replica.ended_at_ms <= found.ended_at_ms
        assert await read(site, "job", replica.rank) == b"here"


async def test_the_job_runs_only_while_replicas_run(site: Site) -> None:
    """RUNNING needs every replica started; there is no end yet."""
    await site.backend.submit(site.spec("job", "hang", replicas=2))
    found = await site.running("job")
    assert found.phase is Phase.RUNNING
    assert found.ended_at_ms is None and found.running_since_ms is not None
    assert [replica.phase for replica in found.replicas] == [Phase.RUNNING] * 2


async def test_a_program_that_is_not_there_fails_the_start_in_words(site: Site) -> None:
    """START_FAILED for every rank, never RUNNING, and the program's name as the detail, of each rank and of the job."""
    await site.backend.submit(site.spec("job", "no-such-program", replicas=2))
    found = await site.ended("job")
    assert ends(found) == [End.START_FAILED] * 2
    assert {(replica.why, replica.cause) for replica in found.replicas} == {(Why.COMMAND_NOT_FOUND, "no-such-program")}
    assert (found.why, found.reason) == (Why.COMMAND_NOT_FOUND, "no-such-program")


async def test_a_repeated_submit_runs_nothing_twice(site: Site) -> None:
    """Idempotent by job id: at once, while it runs, when it has ended, and after a restart."""
    if not site.harness.real:
        await site.backend.submit(site.spec("job", "hang"))
        await asyncio.gather(*(site.backend.submit(site.spec("job", "hang")) for _ in range(3)))
        await site.reopen()
        await site.backend.submit(site.spec("job", "hang"))
        assert (await site.running("job")).phase is Phase.RUNNING
        return
    spec = site.raw("job", ("sh", "-c", "echo run >> runs; cat runs"))
    await asyncio.gather(*(site.backend.submit(spec) for _ in range(5)))
    await site.ended("job")
    await site.backend.submit(spec)
    await site.reopen()
    await site.backend.submit(spec)
    assert (await site.ended("job")).phase is Phase.ENDED
    assert await read(site, "job") == b"run\n"


async def test_cancel_before_submit_keeps_the_job_from_starting(site: Site) -> None:
    """A cancel of an unknown job is done; a later submit of that id is ENDED and CANCELED, also after a restart."""
    await site.backend.cancel("job")
    await site.backend.cancel("other")
    await site.reopen()
    await site.backend.submit(site.spec("job", "hang", replicas=2))
    found = await site.ended("job")
    assert ends(found) == [End.CANCELED] * 2
    assert found.running_since_ms is None
    assert await site.backend.inspect("other") is None


async def test_cancel_of_a_running_job_ends_every_replica(site: Site) -> None:
    """CANCELED for each that had not ended; those that had keep their own end."""
    await site.backend.submit(site.spec("job", "hang", replicas=3))
    await site.running("job")
    await site.backend.cancel("job")
    assert ends(await site.ended("job")) == [End.CANCELED] * 3


async def test_cancel_of_a_waiting_job_takes_it_out_of_the_queue(site: Site) -> None:
    """It never starts, and the next one moves up."""
    await site.backend.submit(site.spec("first", "hang", cpu=4))
    await site.backend.submit(site.spec("second", "hang", cpu=4))
    await site.backend.submit(site.spec("third", "exit", "0", cpu=4))
    await site.backend.cancel("second")
    found = await site.ended("second")
    assert ends(found) == [End.CANCELED]
    assert found.running_since_ms is None
    await site.backend.cancel("first")
    assert ends(await site.ended("third")) == [End.EXITED]


async def test_cancel_right_after_submit(site: Site) -> None:
    """Whatever the start has reached, the job is CANCELED in the end."""
    for number in range(5):
        await site.backend.submit(site.spec(f"job{number}", "hang", replicas=2))
        await site.backend.cancel(f"job{number}")
    for number in range(5):
        assert ends(await site.ended(f"job{number}")) == [End.CANCELED] * 2


async def test_cancel_of_an_ended_or_unknown_job_is_done(site: Site) -> None:
    """Nothing changes, nothing is raised; also for ids that no backend would accept."""
    await site.backend.submit(site.spec("job", "exit", "5"))
    before = await site.ended("job")
    await site.backend.cancel("job")
    await site.backend.cancel("../../etc")
    assert await site.backend.inspect("job") == before


async def test_jobs_wait_in_order_of_arrival(site: Site) -> None:
    """First come first served; who waits says for what."""
    await site.backend.submit(site.spec("large", "hang", replicas=3))
    await site.backend.submit(site.spec("larger", "hang", replicas=4))
    await site.backend.submit(site.spec("small", "exit", "0"))
    await site.running("large")
    for waiting in ("larger", "small"):
        found = await site.backend.inspect(waiting)
        assert found is not None
        assert found.phase is Phase.WAITING
        assert bool(found.reason) != (found.waiting is not None)
    assert (await site.backend.capacity()).waiting_jobs == 2
    await site.backend.cancel("large")
    await site.running("larger")
    found = await site.backend.inspect("small")
    assert found is not None and found.phase is Phase.WAITING
    await site.backend.cancel("larger")
    await site.ended("small")
    capacity = await site.backend.capacity()
    assert (capacity.used_cpu, capacity.used_memory_bytes, capacity.running_jobs, capacity.waiting_jobs) == (0, 0, 0, 0)


async def test_a_job_larger_than_the_machine_is_refused(site: Site) -> None:
    """SubmissionRefused, in words; and it is not known afterwards."""
    with pytest.raises(SubmissionRefused) as refused:
        await site.backend.submit(site.spec("cores", "exit", "0", replicas=5))
    with pytest.raises(SubmissionRefused):
        await site.backend.submit(site.spec("memory", "exit", "0", memory_bytes=1 << 40))
    assert refused.value.why is Why.TOO_LARGE
    assert await site.backend.list() == []


async def test_output_is_exact_from_any_offset(site: Site) -> None:
    """1 MiB of every byte value, by chunks of at most 64 KiB; from the middle; from the end; beyond it."""
    if not site.harness.real:
        pytest.skip("has no real output")
    # a stream of pseudo-random bytes that both sides can make
    program = "import hashlib,sys\nfor i in range(32768): sys.stdout.buffer.write(hashlib.sha256(str(i).encode()).digest())"
    await site.backend.submit(site.raw("job", ("/usr/bin/python3", "-c", program)))
    await site.ended("job")
    wanted = b"".join(hashlib.sha256(str(i).encode()).digest() for i in range(32768))
    assert len(wanted) == 1 << 20
    assert await read(site, "job") == wanted
    assert await read(site, "job", offset=777_777) == wanted[777_777:]
    assert await read(site, "job", offset=len(wanted)) == b""
    assert await read(site, "job", offset=len(wanted) + 10, follow=True) == b""
    assert await read(site, "job", stream=Stream.STDERR) == b""


async def test_following_ends_with_the_replica_and_misses_nothing(site: Site) -> None:
    """Followers from before the start, and from an offset, get every byte and then the end."""
    if not site.harness.real:
        pytest.skip("has no real output")
    await site.backend.submit(site.spec("first", "hang", cpu=4))
    await site.backend.submit(site.raw("job", ("sh", "-c", "for i in 1 2 3 4 5; do echo line $i; sleep 0.05; done; echo bad >&2"), cpu=4))
    followers = [
        asyncio.create_task(read(site, "job", follow=True)),
        asyncio.create_task(read(site, "job", offset=7, follow=True)),
        asyncio.create_task(read(site, "job", stream=Stream.STDERR, follow=True)),
    ]
    await site.running("first")
    await site.backend.cancel("first")
    whole = b"".join(b"line %d\n" % i for i in range(1, 6))
    assert await asyncio.gather(*followers) == [whole, whole[7:], b"bad\n"]


async def test_output_of_the_present_is_given_without_following(site: Site) -> None:
    """Without follow the stream ends at its present end, though the replica runs on."""
    await site.backend.submit(site.spec("job", "print", "now", "hang"))
    await site.running("job")
    async with asyncio.timeout(DEADLINE_S):
        assert (await anext(site.backend.logs("job", 0, Stream.STDOUT, follow=True))).data == b"now"
    assert await read(site, "job") == b"now"


async def test_logs_of_what_is_not_there(site: Site) -> None:
    """JobNotThere for unknown jobs and ranks."""
    await site.backend.submit(site.spec("job", "exit", "0"))
    for job_id, rank in (("other", 0), ("job", 1), ("job", -1)):
        with pytest.raises(JobNotThere):
            await read(site, job_id, rank)


async def test_a_forgotten_job_is_not_known(site: Site) -> None:
    """Facts are gone, also for the next instance; a running job is not forgotten; unknown: done."""
    await site.backend.submit(site.spec("job", "hang"))
    await site.running("job")
    await site.backend.forget("job")
    assert await site.backend.inspect("job") is not None
    await site.backend.cancel("job")
    await site.ended("job")
    await site.backend.forget("job")
    await site.backend.forget("job")
    await site.reopen()
    assert await site.backend.inspect("job") is None
    assert await site.backend.list() == []


async def test_output_outlives_the_facts(site: Site) -> None:
    """A forgotten job's output is read by its folder; without the folder, or from one that is not there: JobNotThere."""
    spec = site.spec("job", "print", "kept", "exit", "0")
    await site.backend.submit(spec)
    await site.ended("job")
    await site.backend.forget("job")
    await site.reopen()

    async def kept(folder: str) -> bytes:
        chunks = site.backend.logs("job", 0, Stream.STDOUT, follow=True, output_folder=folder)
        return b"".join([chunk.data async for chunk in chunks])

    assert await kept(spec.output_folder) == b"kept"
    for folder in ("", "drive/Jobs/other", "../state"):
        with pytest.raises(JobNotThere):
            await kept(folder)


async def test_watch_goes_on_from_a_cursor(site: Site) -> None:
    """Events after the cursor come, newest state of each job at least; the last of a job is its end; cursors grow."""
    first = site.backend.watch()
    await site.backend.submit(site.spec("a", "exit", "1"))
    async with asyncio.timeout(DEADLINE_S):
        event = await anext(first)
        assert event.observation.job_id == "a"
        await site.backend.submit(site.spec("b", "exit", "2"))
        await site.ended("a")
        await site.ended("b")
        seen: dict[str, JobObservation] = {"a": event.observation}
        cursor = event.cursor
        async for event in site.backend.watch(cursor):
            assert event.cursor > cursor
            cursor = event.cursor
            seen[event.observation.job_id] = event.observation
            if len(seen) == 2 and all(found.phase is Phase.ENDED for found in seen.values()):
                break
    assert seen["b"] == await site.backend.inspect("b")


async def test_a_cursor_of_an_earlier_instance_has_expired(site: Site) -> None:
    """CursorExpired, so that the server lists everything anew."""
    watch = site.backend.watch()
    await site.backend.submit(site.spec("job", "exit", "0"))
    async with asyncio.timeout(DEADLINE_S):
        cursor = (await anext(watch)).cursor
    await site.ended("job")
    await site.reopen()
    with pytest.raises(CursorExpired):
        await anext(site.backend.watch(cursor))


async def test_a_closed_backend_says_so(site: Site) -> None:
    """Watchers and followers end with BackendUnavailable, calls raise it."""
    await site.backend.submit(site.spec("job", "hang"))
    await site.running("job")
    watch = asyncio.ensure_future(anext(site.backend.watch()))
    follow = asyncio.create_task(read(site, "job", follow=True))
    await asyncio.sleep(0)
    await site.backend.close()
    with pytest.raises(BackendUnavailable):
        await watch
    with pytest.raises(BackendUnavailable):
        await follow
    with pytest.raises(BackendUnavailable):
        await site.backend.submit(site.spec("late", "exit", "0"))
    site.jobs.remove("late")
    await site.reopen()


async def test_the_next_instance_takes_over(site: Site) -> None:
    """Running jobs go on and are seen to end; ended ones are found as they were; waiting ones keep their order."""
    await site.backend.submit(site.spec("over", "print", "x", "exit", "4"))
    before = await site.ended("over")
    await site.backend.submit(site.spec("runs", "hang", replicas=3))
    running = await site.running("runs")
    await site.backend.submit(site.spec("waits", "exit", "6", replicas=3))
    await site.backend.submit(site.spec("waits-longer", "exit", "7", replicas=3))
    await site.reopen()
    assert await site.backend.inspect("over") == before
    again = await site.running("runs")
    assert again == running
    assert (await site.backend.capacity()).used_cpu == 3
    await site.backend.cancel("runs")
    first, second = await site.ended("waits"), await site.ended("waits-longer")
    assert first.running_since_ms is not None and second.running_since_ms is not None
    assert first.running_since_ms <= second.running_since_ms
    assert ends(await site.ended("runs")) == [End.CANCELED] * 3


async def test_callers_may_go_away(site: Site) -> None:
    """A cancelled submit or cancel is either done or not: the backend stays whole."""
    for number in range(8):
        task = asyncio.create_task(site.backend.submit(site.spec(f"job{number}", "exit", "0")))
        for _ in range(number):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await site.backend.submit(site.spec(f"job{number}", "exit", "0"))
        assert ends(await site.ended(f"job{number}")) == [End.EXITED]


async def test_the_check_finds_this_machine_usable(site: Site) -> None:
    """Where the other tests run, nothing is wrong."""
    assert (await site.backend.check()).usable
