"""kill -9 of the server at random moments of jobs' lives: no job lost, none run twice, no update lost, final states right.

Short form in `make test`; `make chaos` (SERAI_CHAOS=long) kills 200 times. The seed of each run is printed; SERAI_CHAOS_SEED repeats one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from fakes.stack import UNIT_PRODUCT, Stack, stack
from serai_devcore.accounts import Product
from serai_devcore.applications import EXAMPLE_PRODUCT, shell_request
from serai_devcore.faults import Effect, Fault

LONG = os.environ.get("SERAI_CHAOS") == "long"
KILLS = 200 if LONG else 20


@dataclass
class Wish:
    """One job that a user asked for, and how it must end."""

    job_id: str
    accepted: bool
    code: int
    stopped: bool = False
    """A stop was asked for; it may or may not have come in time."""


@dataclass
class Users:
    """Submit jobs and cancel some, whatever the server does meanwhile."""

    running: Stack
    dice: random.Random
    wishes: list[Wish] = field(default_factory=list[Wish])
    enough: bool = False

    async def live(self) -> None:
        while not self.enough:
            code = self.dice.choice((0, 0, 0, 3))
            script = f"cat /etc/ucloud/rank.txt >> runs; sleep {self.dice.choice((0, 0, 0.1, 0.4, 1.5))}; exit {code}"
            product: Product = self.dice.choice((EXAMPLE_PRODUCT, UNIT_PRODUCT))
            request = replace(shell_request(script, replicas=self.dice.choice((1, 1, 2))), product=product)
            sent = await self.running.core.submit(request)
            wish = Wish(sent.job_id, sent.accepted, code)
            self.wishes.append(wish)
            if sent.accepted and self.dice.random() < 0.15:
                await asyncio.sleep(self.dice.random() * 0.5)
                # Also a stop that got no answer may have been stored.
                wish.stopped = True
                await self.running.core.terminate(sent.job_id)
            await asyncio.sleep(self.dice.random() * (0.2 if sent.accepted else 0.6))


@pytest.mark.timeout(1800 if LONG else 240)
async def test_killed_at_any_moment(tmp_path: Path) -> None:
    """After the last start every job that Core knows is final with the right state, each replica ran at most once, and exactly once unless
    it was stopped, each job was billed once, and nothing is left active."""
    seed = int(os.environ.get("SERAI_CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
    print(f"SERAI_CHAOS_SEED={seed}")
    dice = random.Random(seed)
    async with stack(tmp_path, started=False) as running:
        users = Users(running, dice)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(users.live()) for _ in range(3)]
            for _ in range(KILLS):
                if dice.random() < 0.3:
                    effect = dice.choice((Effect.LOSE_ANSWER, Effect.STATUS, Effect.DROP, Effect.GARBAGE))
                    running.core.faults.add(Fault(effect, path="/api/jobs/control/", times=2))
                await running.start(wait=False)
                # Some in the middle of its start, most while it works.
                if dice.random() < 0.3:
                    await asyncio.sleep(dice.random() * 1.5)
                else:
                    await running.until_ready()
                    await asyncio.sleep(dice.random() * 1.2)
                await running.kill()
            users.enough = True
            await asyncio.wait(tasks)
        await running.start()
        await check(running, users.wishes, seed)


async def check(running: Stack, wishes: list[Wish], seed: int) -> None:
    accepted = [w for w in wishes if w.accepted]
    assert len(accepted) >= KILLS // 4, f"hardly any job was accepted (seed {seed})"
    await running.until_final(*(w.job_id for w in accepted), timeout_s=120)
    await running.until_none_active()
    with contextlib.suppress(TimeoutError):  # the bill comes after the final state; who is still not billed then is found below
        await running.core.until(lambda: not any(_bill(running, w) for w in accepted))
    for wish in accepted:
        problem = verdict(running, wish)
        assert not problem, f"job {wish.job_id}: {problem} (seed {seed})"
    updates = sum(len(running.core.jobs[w.job_id].arrivals) for w in accepted)
    print(f"{running.starts - 1} kills, {len(wishes)} creates, {len(accepted)} accepted, {updates} updates")
    for wish in wishes:
        if not wish.accepted:
            assert most_runs(running, wish) <= 1, f"job {wish.job_id}, which Core forgot, ran twice (seed {seed})"


def verdict(running: Stack, wish: Wish) -> str:
    """What is wrong with how the job went; empty = nothing."""
    return _states(running, wish) or _words(running, wish) or _runs(running, wish) or _bill(running, wish)


def _states(running: Stack, wish: Wish) -> str:
    """An update may come again after a crash, in order: what was told stays told."""
    told = [a.state for a in running.core.jobs[wish.job_id].arrivals if a.state]
    order = [s for i, s in enumerate(told) if i == 0 or told[i - 1] != s]
    letters = "".join(s[0] for s in order)
    while "RSRS" in letters:
        letters = letters.replace("RSRS", "RS")
    if letters != "RS" and not (wish.stopped and letters == "S"):
        return f"Core was told {told}"
    return "" if order[-1] == "SUCCESS" else f"it ended as {order[-1]}"


def _words(running: Stack, wish: Wish) -> str:
    last = running.core.jobs[wish.job_id].arrivals[-1].status
    expected = "The job has finished processing!" if wish.code == 0 else "exit code 3"
    if expected.lower() in last.lower() or (wish.stopped and last == "The job was stopped."):
        return ""
    return f"its last words are {last!r}"


def _runs(running: Stack, wish: Wish) -> str:
    replicas = running.core.jobs[wish.job_id].replicas
    file = running.work(wish.job_id) / "runs"
    ranks = sorted(file.read_text().split()) if file.exists() else []
    once = [str(rank) for rank in range(replicas)]
    if ranks == once or (wish.stopped and set(ranks) < set(once) and len(set(ranks)) == len(ranks)):
        return ""
    return f"these ranks ran: {ranks}, of {replicas}"


def _bill(running: Stack, wish: Wish) -> str:
    taken = [c.charge_id for c in running.core.accounts.charges if c.job_id == wish.job_id and not c.duplicate]
    if len(taken) > 1:
        return f"billed {taken}"
    return "" if taken or wish.stopped else "not billed"


def most_runs(running: Stack, wish: Wish) -> int:
    """How often the rank that ran most often did; 0 = the job never ran."""
    file = running.work(wish.job_id) / "runs"
    ranks = file.read_text().split() if file.exists() else []
    return max((ranks.count(rank) for rank in ranks), default=0)
