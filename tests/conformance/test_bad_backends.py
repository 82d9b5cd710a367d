"""The badly behaved backends behave badly in exactly the way that their names say."""

from __future__ import annotations

import asyncio

import pytest
from fakes.backends import FailsAt, ForgetfulBackend, InstantBackend, NeverBackend, SlowBackend
from serai_backends.errors import BackendUnavailable, JobNotThere
from serai_backends.model import ReplicaSpec, Resources, Stream


def spec(job_id: str) -> ReplicaSpec:
    return ReplicaSpec(job_id, 1, ("print", "x", "exit", "0"), (), Resources(1, 0), f"d/{job_id}")


async def test_slow_waits_at_its_gate() -> None:
    """A call has no effect before the gate lets it through; a cancelled caller leaves the gate."""
    inner = InstantBackend()
    slow = SlowBackend(inner)
    first, second = asyncio.create_task(slow.submit(spec("a"))), asyncio.create_task(slow.submit(spec("b")))
    await asyncio.sleep(0)
    assert slow.waiting == 2
    assert await inner.list() == []
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    assert slow.waiting == 1
    slow.step()
    await first
    assert [found.job_id for found in await inner.list()] == ["a"]


async def test_never_answers() -> None:
    """Calls and watches wait until they are cancelled."""
    never = NeverBackend(InstantBackend())
    calls = [asyncio.ensure_future(call) for call in (never.list(), never.submit(spec("a")), anext(never.watch()))]
    done, pending = await asyncio.wait(calls, timeout=0.01)
    assert not done
    for call in pending:
        call.cancel()
    await asyncio.gather(*pending, return_exceptions=True)


@pytest.mark.parametrize("late", [False, True])
async def test_fails_at_the_call_that_was_named(late: bool) -> None:
    """Early: without effect. Late: the effect is there and the answer is lost. Other calls work."""
    inner = InstantBackend()
    fails = FailsAt(inner, 2, late=late)
    await fails.submit(spec("a"))
    with pytest.raises(BackendUnavailable):
        await fails.submit(spec("b"))
    assert (await inner.inspect("b") is not None) == late
    await fails.submit(spec("b"))
    assert fails.calls == ["submit"] * 3
    assert inner.machine.starts == ["a", "b"]


async def test_forgetful_forgets_what_it_took_on() -> None:
    """Unknown by every call, though the job ran."""
    inner = InstantBackend()
    forgetful = ForgetfulBackend(inner)
    await forgetful.submit(spec("a"))
    forgetful.forgotten.add("a")
    assert await forgetful.inspect("a") is None
    assert await forgetful.list() == []
    with pytest.raises(JobNotThere):
        await anext(forgetful.logs("a", 0, Stream.STDOUT))
    assert inner.machine.starts == ["a"]
