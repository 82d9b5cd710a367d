"""What is served by a loop in another thread: what fails there fails the test, and nothing is waited for in vain."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from fakes.elsewhere import Elsewhere, elsewhere


@dataclass
class Thing(Elsewhere):
    thread: int
    steps: list[str]

    async def where(self) -> int:
        await asyncio.sleep(0)
        return threading.get_ident()


@asynccontextmanager
async def thing(steps: list[str], *, fails: str = "") -> AsyncGenerator[Thing]:
    if fails == "start":
        raise OSError("at its start")
    yield Thing(threading.get_ident(), steps)
    steps.append("ended")
    if fails == "end":
        raise OSError("at its end")


def test_it_lives_in_another_thread() -> None:
    """Where its coroutines run too, until the block ends or it is told to stop."""
    steps: list[str] = []
    with elsewhere(thing(steps)) as running:
        assert running.do(running.where()) == running.thread != threading.get_ident()
        assert steps == []
    running.stop()
    assert steps == ["ended"]


@pytest.mark.parametrize("when", ["start", "end"])
def test_a_failure_is_raised_where_it_is_waited_for(when: str) -> None:
    """At the start at once; at the end when the block ends."""
    steps: list[str] = []
    with pytest.raises(OSError, match=f"at its {when}"), elsewhere(thing(steps, fails=when)):
        steps.append("served")
    assert steps == ([] if when == "start" else ["served", "ended"])
