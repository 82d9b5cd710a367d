"""What every backend that suspends must do; see `Suspends` in serai_backends/api.py."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from serai_backends.model import End, Phase, Stream

if TYPE_CHECKING:
    from conftest import Site  # pyright: ignore[reportMissingImports]  # pytest's own import of the conftest beside this file

TICKS = ("sh", "-c", "n=0; while :; do n=$((n+1)); echo $n; sleep 0.01; done")


async def output(site: Site, job_id: str, rank: int = 0) -> bytes:
    return b"".join([chunk.data async for chunk in site.backend.logs(job_id, rank, Stream.STDOUT)])


async def test_a_suspended_job_stands_still_and_goes_on(site: Site) -> None:
    """SUSPENDED with an open pause; then RUNNING with its end; the replicas never end and never start anew."""
    await site.backend.submit(site.spec("job", "hang", replicas=3))
    before = await site.running("job")
    found = await site.suspended("job")
    assert len(found.pauses) == 1 and found.pauses[0].ended_at_ms is None
    assert found.running_since_ms == before.running_since_ms
    assert found.running_since_ms is not None and found.running_since_ms <= found.pauses[0].started_at_ms
    assert [replica.phase for replica in found.replicas] == [Phase.RUNNING] * 3
    await site.suspends.resume("job")
    again = await site.until("job", lambda found: found.phase is Phase.RUNNING)
    assert len(again.pauses) == 1
    assert again.pauses[0].started_at_ms == found.pauses[0].started_at_ms
    assert again.pauses[0].ended_at_ms is not None and again.pauses[0].ended_at_ms >= again.pauses[0].started_at_ms
    assert again.replicas == before.replicas


async def test_nothing_runs_while_suspended(site: Site) -> None:
    """No output of any rank, children and grandchildren included, however often one looks; it goes on where it stood."""
    if not site.harness.real:
        pytest.skip("has no real processes")
    line = "( ( n=0; while :; do n=$((n+1)); echo $n; sleep 0.01; done ) & wait ) & wait"
    await site.backend.submit(site.raw("job", ("sh", "-c", line), replicas=2))
    await site.running("job")
    async with asyncio.timeout(30):
        for rank in (0, 1):
            await anext(site.backend.logs("job", rank, Stream.STDOUT, follow=True))
    await site.suspended("job")
    before = [await output(site, "job", rank) for rank in (0, 1)]
    await asyncio.sleep(0.7)  # not for a result: time in which it would print
    assert [await output(site, "job", rank) for rank in (0, 1)] == before
    await site.suspends.resume("job")
    async with asyncio.timeout(30):
        data = await anext(site.backend.logs("job", 0, Stream.STDOUT, offset=len(before[0]), follow=True))
    assert int((before[0] + data.data).split()[-1]) == len((before[0] + data.data).split())


async def test_asking_again_changes_nothing(site: Site) -> None:
    """Suspend twice is one pause, resume twice one end; a second pause is a second one."""
    await site.backend.submit(site.spec("job", "hang"))
    await site.running("job")
    await site.suspended("job")
    await site.suspends.suspend("job")
    await site.suspends.resume("job")
    await site.suspends.resume("job")
    await site.until("job", lambda found: found.phase is Phase.RUNNING)
    found = await site.suspended("job")
    assert len(found.pauses) == 2
    assert found.pauses[0].ended_at_ms is not None and found.pauses[1].ended_at_ms is None
    assert found.pauses[0].ended_at_ms <= found.pauses[1].started_at_ms


async def test_what_does_not_run_cannot_be_suspended(site: Site) -> None:
    """Unknown, waiting, ended: done, and nothing changes."""
    await site.backend.submit(site.spec("first", "hang", cpu=4))
    await site.running("first")
    await site.backend.submit(site.spec("waits", "exit", "0", cpu=4))
    before = await site.backend.inspect("waits")
    for job_id in ("unknown", "waits", "../x"):
        await site.suspends.suspend(job_id)
        await site.suspends.resume(job_id)
    assert await site.backend.inspect("waits") == before
    await site.backend.cancel("first")
    await site.ended("first")
    ended = await site.ended("waits")
    assert ended.replicas[0].end is End.EXITED
    await site.suspends.suspend("waits")
    assert await site.backend.inspect("waits") == ended


async def test_a_suspended_job_keeps_its_place(site: Site) -> None:
    """Its cores are not given to others."""
    await site.backend.submit(site.spec("job", "hang", cpu=4))
    await site.running("job")
    await site.suspended("job")
    await site.backend.submit(site.spec("next", "exit", "0"))
    assert (await site.backend.capacity()).used_cpu == 4
    found = await site.backend.inspect("next")
    assert found is not None and found.phase is Phase.WAITING


@pytest.mark.parametrize("grace_ms", [0, 60_000])
async def test_a_suspended_job_can_be_canceled(site: Site, grace_ms: int) -> None:
    """At once, and with a grace too: it goes on after its SIGTERM."""
    await site.backend.submit(site.spec("job", "hang", replicas=2))
    await site.running("job")
    await site.suspended("job")
    await site.backend.cancel("job", grace_ms)
    found = await site.ended("job")
    assert [replica.end for replica in found.replicas] == [End.CANCELED] * 2
    assert len(found.pauses) == 1


async def test_a_program_uses_its_grace_after_a_suspension(site: Site) -> None:
    """It wakes up to its SIGTERM and writes its last words; the pause has ended by then."""
    if not site.harness.real:
        pytest.skip("has no real processes")
    await site.backend.submit(site.raw("job", ("sh", "-c", "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.02; done")))
    async with asyncio.timeout(30):
        await site.running("job")
        await anext(site.backend.logs("job", 0, Stream.STDOUT, follow=True))
    await site.suspended("job")
    await site.backend.cancel("job", 60_000)
    found = await site.ended("job")
    assert await output(site, "job") == b"ready\nbye\n"
    assert found.pauses[0].ended_at_ms is not None


async def test_the_next_instance_knows_the_pause(site: Site) -> None:
    """SUSPENDED before and after a restart, with the same times; and it can be resumed."""
    await site.backend.submit(site.spec("job", "hang"))
    await site.running("job")
    found = await site.suspended("job")
    await site.reopen()
    assert await site.backend.inspect("job") == found
    async with asyncio.timeout(30):
        while True:  # a new instance may not have found its way to the job yet: whoever wants it asks again
            await site.suspends.resume("job")
            seen = await site.backend.inspect("job")
            if seen is not None and seen.phase is Phase.RUNNING:
                break
            await asyncio.sleep(0.01)
