"""The work queue: merging, order, back-off, later times; with a clock that only the test moves."""

from __future__ import annotations

import asyncio

from fakes.clock import FakeClock
from serai_backends.common.work_queue import WorkQueue


def make() -> tuple[WorkQueue, FakeClock]:
    clock = FakeClock()
    return WorkQueue(clock, jitter=lambda: 1.0), clock


async def test_duplicates_merge_and_order_is_kept() -> None:
    """A key that waits already is not added again; keys come in the order of their first add."""
    queue, _ = make()
    for key in ("a", "b", "a", "c", "b"):
        queue.add(key)
    assert [await queue.take() for _ in range(3)] == ["a", "b", "c"]
    assert len(queue) == 0


async def test_a_key_added_while_worked_on_comes_again_afterwards() -> None:
    """Two workers never have the same key, and no wake-up is lost."""
    queue, _ = make()
    queue.add("a")
    assert await queue.take() == "a"
    queue.add("a")
    queue.add("a")
    assert len(queue) == 0
    queue.done("a")
    assert await queue.take() == "a"
    queue.done("a")
    assert queue.idle


async def test_back_off_doubles_and_success_ends_it() -> None:
    """Failures in a row wait 0.2, 0.4, 0.8 s … up to 30 s; a success begins anew."""
    queue, clock = make()
    waits: list[int] = []
    for attempt in range(11):
        queue.retry("a")
        waited = 0
        while not len(queue):
            clock.move(100)
            waited += 100
            queue.release()
        waits.append(waited)
        await queue.take()
        queue.done("a")
        if attempt == 9:
            queue.succeeded("a")
    assert waits == [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000, 200]


async def test_the_newest_time_of_a_key_counts() -> None:
    """A key has one time of its own: the newest replaces the one before, earlier or later."""
    queue, clock = make()
    for ms in (500, 900, 300):
        queue.add_at("a", clock.now_ms() + ms)
    clock.move(300)
    queue.release()
    assert len(queue) == 1
    await queue.take()
    queue.done("a")
    clock.move(1000)
    queue.release()
    assert len(queue) == 0


async def test_a_retry_does_not_cost_the_key_its_own_time() -> None:
    """A job that waits for its time limit still gets it after a step in between failed and was done again."""
    queue, clock = make()
    queue.add_at("a", clock.now_ms() + 5_000)
    queue.retry("a")
    clock.move(200)
    queue.release()
    assert await queue.take() == "a"
    queue.succeeded("a")
    queue.done("a")
    clock.move(4_800)
    queue.release()
    assert await queue.take() == "a"


async def test_the_timer_wakes_for_an_earlier_time_that_comes_while_it_sleeps() -> None:
    """run_timer releases keys as time passes, without polling."""
    queue, clock = make()
    timer = asyncio.create_task(queue.run_timer())
    queue.add_at("late", clock.now_ms() + 800)
    await _settle()
    queue.add_at("soon", clock.now_ms() + 100)
    await _settle()
    clock.move(100)
    assert await asyncio.wait_for(queue.take(), 5) == "soon"
    clock.move(700)
    assert await asyncio.wait_for(queue.take(), 5) == "late"
    timer.cancel()


async def test_a_waiting_worker_that_is_cancelled_takes_nothing_with_it() -> None:
    """Cancelling `take` loses no key."""
    queue, _ = make()
    waiting = asyncio.create_task(queue.take())
    await _settle()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    queue.add("a")
    assert await asyncio.wait_for(queue.take(), 5) == "a"


async def _settle() -> None:
    """Let every task that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_second_looks_come_after_all_that_is_new() -> None:
    """One that is added meanwhile is promoted and comes once; one that is worked on comes again."""
    queue, _ = make()
    for key in ("a", "b", "c"):
        queue.look(key)
    queue.add("c")
    queue.add("d")
    assert [await queue.take() for _ in range(4)] == ["c", "d", "a", "b"]
    assert len(queue) == 0
    queue.look("a")
    queue.done("a")
    assert await queue.take() == "a"


async def test_soon_is_a_second_from_now() -> None:
    queue, clock = make()
    queue.add_at("a", clock.now_ms() + 60_000)
    queue.add_soon("a")
    clock.move(999)
    queue.release()
    assert len(queue) == 0
    clock.move(1)
    queue.release()
    assert await queue.take() == "a"
    queue.done("a")
    clock.move(59_000)
    queue.release()
    assert await queue.take() == "a"


async def test_it_says_how_long_the_next_key_waits() -> None:
    """From its first add; second looks and what is worked on do not count."""
    queue, clock = make()
    queue.look("later")
    clock.move(5_000)
    assert queue.oldest_ms == 0
    queue.add("a")
    clock.move(1_500)
    queue.add("b")
    queue.add("a")
    assert queue.oldest_ms == 1_500
    assert await queue.take() == "a"
    assert (queue.oldest_ms, queue.working) == (0, 1)
    clock.move(200)
    queue.add("a")
    assert await queue.take() == "b"
    queue.done("a")
    clock.move(50)
    assert queue.oldest_ms == 50, "it came again when its worker was done with it"
    queue.add_at("z", clock.now_ms() + 1_000)
    assert queue.later == 1
