"""Runs the rules against a provider: in bounded numbers, with everything that was begun ended again."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from serai_conformance.client import Client
from serai_conformance.core import ControlSide
from serai_conformance.model import CannotTest, Phase, Report, Result, Rule, Status, Target, Verdict
from serai_conformance.rules import RULES
from serai_conformance.support import Support, read_support
from serai_conformance.tokens import Signer
from serai_conformance.visit import UNSEEN, Visit

Progress = Callable[[Result, int, int], None]
"""Called with each result, how many there are, and how many there will be."""


def chosen(target: Target, patterns: Sequence[str] = ()) -> list[Rule]:
    """The rules of the target's generation whose names begin with one of `patterns`; none given = all."""
    return [
        rule
        for rule in RULES
        if target.generation in rule.generations and (not patterns or any(rule.name.startswith(begin) for begin in patterns))
    ]


async def run(target: Target, *, only: Sequence[str] = (), progress: Progress = lambda _result, _done, _all: None) -> Report:
    """Test the provider. CannotTest when it cannot be reached, or does not take the key."""
    began = time.monotonic()
    signer = Signer(target.key, target.generation)
    async with contextlib.AsyncExitStack() as opened:
        client = await opened.enter_async_context(Client(target, signer))
        core = None if target.listen is None else await opened.enter_async_context(ControlSide(target, signer))
        visit = Visit(target, signer, client, core, await _look(target, client))
        results = await _Run(visit, chosen(target, only), progress).all()
    product, license_product = visit.support.product, visit.support.license_product
    return Report(
        target,
        "" if product is None else product.key,
        "" if license_product is None else license_product.key,
        tuple(results),
        int((time.monotonic() - began) * 1000),
    )


async def _look(target: Target, client: Client) -> Support:
    jobs = await client.get("/jobs/retrieveProducts")
    if not jobs.status:
        plain = " (if it wants TLS, its address is https://)" if target.url.startswith("http:") else ""
        raise CannotTest(f"{target.url} does not answer: {jobs.problem}{plain}")
    if jobs.status in {401, 403}:
        raise CannotTest(
            f"the provider does not take the key: {jobs.words}. Give it the public half of the key that --key names, "
            "and compare the clocks of both machines"
        )
    if jobs.status == 404:
        raise CannotTest(f"{jobs.words}: is {target.name} the provider's id? --provider and --path say so")
    return read_support(target, jobs, await client.get("/licenses/retrieveProducts"))


@dataclass(slots=True)
class _Run:
    visit: Visit
    rules: list[Rule]
    progress: Progress

    async def all(self) -> list[Result]:
        """In the order of the rules. Whatever ends this, what was begun at the provider is ended."""
        found: dict[str, Result] = {}
        try:
            await self._phase(Phase.MAIN, self.visit.target.at_once, found)
            await self._phase(Phase.DISTURBING, 1, found)
        finally:
            await self.visit.stop_shared()
            await self.visit.clean_up()
        await self._phase(Phase.LAST, 1, found)
        return [found[rule.name] for rule in self.rules]

    async def _phase(self, phase: Phase, at_once: int, found: dict[str, Result]) -> None:
        places = asyncio.Semaphore(at_once)

        async def one(rule: Rule) -> None:
            async with places:
                found[rule.name] = result = await judged(rule, self.visit)
            self.progress(result, len(found), len(self.rules))

        async with asyncio.TaskGroup() as group:
            for rule in self.rules:
                if rule.phase is phase:
                    group.create_task(one(rule))


async def judged(rule: Rule, visit: Visit) -> Result:
    """What became of one rule."""
    began = time.monotonic()
    status, reason = _before(rule, visit)
    try:
        if status is Status.PASSED:
            await rule.check(visit)
    except Verdict as verdict:
        status, reason = verdict.status, str(verdict)
    except Exception as error:
        # Something came that no rule thought of: that is this rule's trouble, and the others are tried all the same.
        status, reason = Status.FAILED, f"the kit cannot make sense of what came: {type(error).__name__}: {error}"
    return Result(rule, status, reason, int((time.monotonic() - began) * 1000))


def _before(rule: Rule, visit: Visit) -> tuple[Status, str]:
    """What is clear without trying it; PASSED = it is to be tried."""
    lacking = [flag for flag in rule.needs if not visit.support.has(flag)]
    if lacking:
        return Status.NOT_DECLARED, f"{', '.join(lacking)} is not declared"
    if rule.needs_core and visit.core is None:
        return Status.NOT_OBSERVED, UNSEEN
    return Status.PASSED, ""
