"""What users want of Serai while it is being killed: jobs of many kinds, each with what must have become of it at the end.

A wish goes on until the server has said yes to it, over as many lives of the server as that takes, as an impatient user does.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field, replace

from serai_devcore.accounts import Product
from serai_devcore.applications import EXAMPLE_PRODUCT, JobRequest, shell_request
from serai_devcore.core import DevCore
from serai_devcore.jobs import Job
from serai_devcore.wire import JsonObject, as_object

from fakes.chaos.points import Aim
from fakes.stack import UNIT_PRODUCT

WIDE_PRODUCT = Product(id="example-wide", category="example-compute", provider="example")
"""As large as the machine: it waits until all others have ended, and they wait behind it."""

# The replica's own record: that it ran, when it began and when it was last alive, in ms.
_BEGIN = 'r=$(cat /etc/ucloud/rank.txt); echo "$r" >> runs; date +%s%3N > "began-$r"; '
_ALIVE = 'date +%s%3N > "alive-$r"'


def script(seconds: float, code: int = 0) -> str:
    """A program that sleeps and ends."""
    return f"{_BEGIN}sleep {seconds}; {_ALIVE}; exit {code}"


def long_script(seconds: int) -> str:
    """A program that is to be ended by somebody, and tells until when it lived."""
    return f"{_BEGIN}n=0; while [ $n -lt {seconds * 4} ]; do n=$((n+1)); {_ALIVE}; sleep 0.25; done"


@dataclass
class Wish:
    """One job and what was asked of it."""

    aim: Aim
    request: JobRequest
    job_id: str = ""
    accepted: bool = False
    code: int = 0
    limit_s: int = 0
    """A time limit that the program does not keep; 0 = it does."""
    stop_asked: bool = False
    """A stop was sent; it may have come in time or too late."""
    extended: bool = False
    """The server said yes to more time."""
    paused: tuple[int, int] = (0, 0)
    """From when to when, at least, it was suspended: from Core's first word of that until it was to go on. ms; (0, 0) = not known."""
    pause_asked: bool = False


@dataclass
class Users:
    """Wish for jobs, whatever the server does meanwhile."""

    core: DevCore
    dice: random.Random
    possible: frozenset[Aim]
    """What can be asked here at all."""
    aim: Aim = Aim.ANY
    """What is asked for more often than else."""
    wishes: list[Wish] = field(default_factory=list[Wish])
    enough: bool = False
    patience_s: float = 0.4

    async def live(self) -> None:
        """One user, until it is enough and everything is asked that was to be asked."""
        async with asyncio.TaskGroup() as followed:
            while not self.enough:
                wish = await self._submit(self._aim())
                if wish.accepted:
                    followed.create_task(self._follow(wish))
                await asyncio.sleep(self.dice.uniform(0.1, 0.8) if wish.accepted else self.dice.uniform(0.2, 0.8))

    async def one(self, aim: Aim) -> None:
        """One job of this kind, and everything that is to be asked of it."""
        wish = await self._submit(aim)
        assert wish.accepted
        await self._follow(wish)

    async def _submit(self, aim: Aim) -> Wish:
        wish = self._wish(aim)
        sent = await self.core.submit(wish.request)
        wish.job_id, wish.accepted = sent.job_id, sent.accepted
        self.wishes.append(wish)
        return wish

    def _aim(self) -> Aim:
        kinds = [Aim.ANY, Aim.ANY, Aim.ANY, *sorted(self.possible - {Aim.ANY, Aim.QUEUE}, key=lambda aim: aim.value)]
        return self.aim if self.aim is not Aim.ANY and self.dice.random() < 0.5 else self.dice.choice(kinds)

    def _wish(self, aim: Aim) -> Wish:
        replicas = self.dice.choice((1, 1, 1, 2, 3))
        product = self.dice.choice((EXAMPLE_PRODUCT, EXAMPLE_PRODUCT, UNIT_PRODUCT))
        match aim:
            case Aim.STOP:
                return Wish(aim, replace(shell_request(long_script(60), replicas=replicas), product=product))
            case Aim.QUEUE:
                return Wish(aim, replace(shell_request(script(0)), product=WIDE_PRODUCT))
            case Aim.EXTEND:
                limit_s = self.dice.choice((1, 2))
                request = replace(shell_request(script(limit_s + 1.5)), hours=0, seconds=limit_s)
                return Wish(aim, request, limit_s=limit_s)
            case Aim.PAUSE:
                return Wish(aim, shell_request(script(self.dice.choice((1, 2)))))
            case Aim.BILL:
                limit_s = self.dice.choice((1, 2))
                request = replace(shell_request(long_script(60), replicas=replicas), hours=0, seconds=limit_s)
                return Wish(aim, request, limit_s=limit_s)
            case Aim.ANY:
                code = self.dice.choice((0, 0, 0, 3))
                body = script(self.dice.choice((0, 0, 0.1, 0.4, 1.2)), code)
                return Wish(aim, replace(shell_request(body, replicas=replicas), product=product), code=code)

    async def _follow(self, wish: Wish) -> None:
        match wish.aim:
            case Aim.STOP | Aim.QUEUE:
                await self._stop(wish)
            case Aim.EXTEND if self.dice.random() < 0.8:
                await self._extend(wish)
            case Aim.PAUSE:
                await self._pause(wish)
            case _:
                pass

    def _job(self, wish: Wish) -> Job:
        return self.core.jobs[wish.job_id]

    async def _pause_between_tries(self) -> None:
        await asyncio.sleep(self.dice.uniform(0.5, 1) * self.patience_s)

    async def _stop(self, wish: Wish) -> None:
        await asyncio.sleep(self.dice.uniform(0, 1))
        while not self._job(wish).final:
            # Also a stop that got no answer may have been stored.
            wish.stop_asked = True
            if (await self.core.terminate(wish.job_id)).accepted:
                return
            await self._pause_between_tries()

    async def _extend(self, wish: Wish) -> None:
        while not self._job(wish).final:
            item: JsonObject = {"job": self._document(wish), "requestedTime": {"hours": 0, "minutes": 5, "seconds": 0}}
            status = await self._call(wish, "extend", item)
            wish.extended = wish.extended or status == 200
            if status in {200, 400}:
                return
            await self._pause_between_tries()

    async def _pause(self, wish: Wish) -> None:
        # A wish whose answer was lost may have come true.
        while not self._job(wish).final and self._job(wish).state != "SUSPENDED":
            if self._job(wish).state == "RUNNING":
                wish.pause_asked = True
                status = await self._call(wish, "suspend", self._paused_item(wish))
                if status == 400:
                    return  # it has ended
                if status == 200:
                    break
            await self._pause_between_tries()
        await asyncio.sleep(self.dice.uniform(0, 1.5))
        since_ms = next((a.at_ms for a in self._job(wish).arrivals if a.state == "SUSPENDED"), None)
        if since_ms is not None:
            wish.paused = since_ms, self.core.clock.now_ms()
        while not self._job(wish).final and await self._call(wish, "unsuspend", self._paused_item(wish)) not in {200, 400}:
            await self._pause_between_tries()

    def _paused_item(self, wish: Wish) -> JsonObject:
        document = self._document(wish)
        return document if self.core.generation.value == "2021" else {"job": document}

    def _document(self, wish: Wish) -> JsonObject:
        job = self._job(wish)
        document = dict(job.document)
        document["status"] = as_object(document.get("status"), "status") | {"state": job.state, "startedAt": job.started_at_ms}
        return document

    async def _call(self, wish: Wish, name: str, item: JsonObject) -> int:
        provider = self.core.providers["example"]
        answer = await self.core.client.call(provider, "POST", f"/jobs/{name}", {"items": [item]}, username=self._job(wish).username)
        return answer.status
