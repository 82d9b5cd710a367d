"""What is true of all calls together: looked at when the test is over."""

from __future__ import annotations

from serai_conformance.judge import rule
from serai_conformance.model import G2026, Broken, NotObserved, Phase, only
from serai_conformance.visit import Visit
from serai_conformance.wire import dig, kind_of, shown, text_at

_LAST = Phase.LAST


@rule("whole.in-time", "Every call is answered while Core waits for it.", "today §4, §6.1: 5 s", phase=_LAST)
async def in_time(visit: Visit) -> None:
    slowest = max(visit.client.answers, key=lambda answer: answer.took_s)
    if slowest.took_s > visit.target.answer_within_s:
        raise Broken(f"{slowest.call} took {slowest.took_s:.1f} s, and Core waits {visit.target.answer_within_s:g} s")


@rule("whole.answered", "Every call is answered: no connection is cut, and none is left waiting.", "2021 §1.8; today §6.1", phase=_LAST)
async def answered(visit: Visit) -> None:
    for answer in visit.client.answers:
        if not answer.status:
            raise Broken(answer.words)


@rule("whole.no-5xx", "No call, good or bad, is answered with an error of the server.", "2021 §7.3; today §6.1", phase=_LAST)
async def no_5xx(visit: Visit) -> None:
    for answer in visit.client.answers:
        if answer.status >= 500:
            raise Broken(answer.words)


@rule(
    "whole.errors",
    "Every error is an object with `why`, a text, and `errorCode`, a text or null.",
    "seed: CommonErrorMessage of each call; 2021 §7",
    phase=_LAST,
)
async def errors(visit: Visit) -> None:
    for answer in visit.client.answers:
        if answer.status < 400:
            continue
        if not text_at(answer.body, "why"):
            raise Broken(f"{answer.call} was answered {answer.status} without `why`: {shown(answer.raw) or 'an empty body'}")
        code = dig(answer.body, "errorCode")
        if not isinstance(code, str | None):
            raise Broken(f"{answer.call} was answered {answer.status} with an errorCode that is {kind_of(code)}")


@rule(
    "whole.objects",
    "Every good answer is an object in JSON: Core makes an error of anything else.",
    "today §6.1, §6.3",
    generations=only(G2026),
    phase=_LAST,
)
async def objects(visit: Visit) -> None:
    for answer in visit.client.answers:
        if answer.ok and not isinstance(answer.body, dict):
            raise Broken(f"{answer.call} was answered {answer.status} with {shown(answer.raw) or 'an empty body'}")


@rule(
    "whole.ids",
    "The provider's own ids are unique over jobs and licenses.",
    "2021 §1.1; today §6.1: a repeated one makes Core exit",
    phase=_LAST,
)
async def ids(visit: Visit) -> None:
    if not visit.own_ids:
        raise NotObserved("the provider gives no ids of its own, which is fine")
    repeated = {own for own in visit.own_ids if visit.own_ids.count(own) > 1}
    if repeated:
        raise Broken(f"the provider gave the id {sorted(repeated)[0]} to more than one job or license")


@rule(
    "whole.ended",
    "When all jobs were terminated, Core is told an end of each that the provider took.",
    "seed Jobs, terminate; today §11",
    needs_core=True,
    phase=_LAST,
)
async def ended(visit: Visit) -> None:
    forgotten = visit.control.mischief.forgotten

    def left() -> list[str]:
        return [one.id for one in visit.seen.known.values() if one.taken and not one.final and one.id not in forgotten]

    if not await visit.seen.until(lambda: not left(), visit.target.patience_s):
        raise Broken(f"{len(left())} jobs were terminated, and Core was told no end of them: {', '.join(left()[:3])}")


RULES = (in_time, answered, no_5xx, errors, objects, ids, ended)
