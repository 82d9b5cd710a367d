"""Sockets whose clients have shown nothing yet."""

from __future__ import annotations

import asyncio

import pytest
from serai_gateway.ws.unproven import Proof, Unproven


async def idle(unproven: Unproven, admitted: list[Proof]) -> str:
    try:
        async with unproven.admit() as proof:
            admitted.append(proof)
            await asyncio.Event().wait()
    except TimeoutError:
        return "out"
    return "never"


async def test_the_time_is_short() -> None:
    """Then the work for the socket is broken off."""
    async with asyncio.timeout(10):
        assert await idle(Unproven(within_s=0.01), []) == "out"


async def test_who_shows_something_stays() -> None:
    """Without a limit of time."""
    unproven = Unproven(within_s=0.05)
    async with asyncio.timeout(10), unproven.admit() as proof:
        unproven.prove(proof)
        await asyncio.sleep(0.15)
        assert proof.given


async def test_the_oldest_makes_room() -> None:
    """So a flood of idle sockets pushes out one another, and not a client that is just about to speak; who has shown something stays."""
    unproven, admitted = Unproven(most=2, within_s=60), list[Proof]()
    async with asyncio.timeout(10):
        tasks = [asyncio.create_task(idle(unproven, admitted)) for _ in range(2)]
        await asyncio.sleep(0)
        unproven.prove(admitted[0])
        tasks += [asyncio.create_task(idle(unproven, admitted)) for _ in range(2)]
        await asyncio.wait({tasks[1]})
    assert [task.done() for task in tasks] == [False, True, False, False]
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_who_leaves_makes_room() -> None:
    """Nothing is remembered of a socket that has gone."""
    unproven = Unproven(most=1, within_s=60)
    async with unproven.admit():
        pass
    with pytest.raises(ValueError, match="own"):
        async with unproven.admit():
            raise ValueError("own")
    async with unproven.admit() as proof:
        await asyncio.sleep(0)
        assert not proof.given


@pytest.mark.parametrize("shown", [False, True])
async def test_one_whose_time_is_just_over_harms_nobody(shown: bool) -> None:
    """Its work has not been broken off yet when another one needs the room, or when it shows something after all: it goes, and no error
    comes of that."""
    met: list[str] = []

    def meet(proof: Proof) -> None:
        (proof.accept if shown else proof.demand)()
        met.append("met")

    async with asyncio.timeout(10):
        with pytest.raises(TimeoutError):
            async with Unproven(within_s=0).admit() as proof:
                asyncio.get_running_loop().call_soon(meet, proof)
                await asyncio.Event().wait()
    assert met == ["met"]
