"""Bodies that are not right: 400 in words, and nothing of the request is done.

2021 §2.5 and §7.3: undecodable, a missing key, none or more than 1,000 items are 400. A create is the call whose body matters most.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from serai_conformance.documents import items
from serai_conformance.judge import refused, rule
from serai_conformance.model import G2021, G2026, Broken, Check, Rule, only
from serai_conformance.visit import Job, Visit
from serai_conformance.wire import Json, JsonObject, dump, with_item, without

_SOURCE = "2021 §2.5, §7.3: undecodable bodies are 400"

RAW: Mapping[str, tuple[str, Callable[[bytes], bytes]]] = {
    "not-json": ("that is no JSON", lambda _good: b"hello"),
    "empty": ("that is empty", lambda _good: b""),
    "cut": ("that is cut off in the middle", lambda good: good[: len(good) // 2]),
    "not-utf8": ("that is not UTF-8", lambda good: good.replace(b"Conformance", b"\xff\xfeonformance", 1)),
    "list": ("that is a list", lambda good: b"[" + good + b"]"),
    "no-items": ("without items", lambda _good: b"{}"),
    "items-object": ("whose items are an object", lambda _good: b'{"items":{}}'),
    "item-null": ("with an item that is null", lambda _good: b'{"items":[null]}'),
    "bare": ("that is a job without items around it", lambda good: good[len(b'{"items":[') : -2]),
}
"""Name → (what is wrong, the body made of a good one)."""
MISSING = ("id", "owner", "specification", "specification.product", "specification.application")
WRONG: Mapping[str, Json] = {
    "id": 5,
    "owner": "user",
    "specification": [],
    "specification.replicas": "many",
    "specification.product": "cpu",
    "specification.parameters": [],
    "status": "IN_QUEUE",
}
"""Place → a value that cannot stand there."""


async def _unwanted(visit: Visit, job: Job) -> None:
    """A job that should have been refused is ended; that Core is told of it is no fault of its own."""
    visit.refused_ids.discard(job.id)
    await visit.end(job)


def _raw(change: Callable[[bytes], bytes]) -> Check:
    async def check(visit: Visit) -> None:
        job = visit.job(visit.program("exit 0"))
        visit.refused_ids.add(job.id)
        answer = await visit.client.post("/jobs", change(dump(items(job.document))), username="kit")
        if answer.ok:
            await _unwanted(visit, job)
        refused(answer, 400)

    return check


async def _refused(visit: Visit, words: str, change: Callable[[JsonObject], JsonObject]) -> None:
    """A create with the changed document is 400."""
    job = visit.job(visit.program("exit 0"))
    visit.refused_ids.add(job.id)
    answer = await visit.client.post("/jobs", items(change(job.document)), username="kit")
    if answer.ok:
        await _unwanted(visit, job)
    if answer.status != 400:
        raise Broken(f"{words}: {answer.words}, where 400 was expected")


async def _each_refused(visit: Visit, place: str, values: Mapping[str, Json]) -> None:
    """Each of the values, with its words, at the place."""
    for words, value in values.items():

        def change(document: JsonObject, value: Json = value) -> JsonObject:
            return with_item(document, place, value)

        await _refused(visit, words, change)


_RAW = tuple(
    Rule(f"bodies.{name}", f"A create with a body {words} is 400.", _SOURCE, _raw(change)) for name, (words, change) in RAW.items()
)


@rule("bodies.missing-key", "A job without a key that it cannot do without is 400.", "2021 §7: a key without default is mandatory")
async def missing_key(visit: Visit) -> None:
    for place in MISSING:

        def change(document: JsonObject, place: str = place) -> JsonObject:
            return without(document, place)

        await _refused(visit, f"a job without {place}", change)


@rule("bodies.wrong-type", "A value of another type than its place has is 400.", _SOURCE)
async def wrong_type(visit: Visit) -> None:
    for place, value in WRONG.items():
        await _each_refused(visit, place, {f"a job whose {place} is {value!r}": value})


@rule("bodies.unknown-type", "A parameter's value of a type that does not exist is 400.", "2021 §8.6: the union's `type`")
async def unknown_type(visit: Visit) -> None:
    value: JsonObject = {"type": "conformance_kit", "value": "x"}
    await _each_refused(visit, "specification.parameters.script", {"a value of type conformance_kit": value})


@rule("bodies.time-allocation", "A time limit of 60 minutes and no hour, or of less than nothing, is 400.", "2021 §8.1: 0 to 59")
async def time_allocation(visit: Visit) -> None:
    wrong: dict[str, Json] = {
        "60 minutes": {"hours": 0, "minutes": 60, "seconds": 0},
        "-1 hours": {"hours": -1, "minutes": 0, "seconds": 0},
        "99 seconds": {"hours": 0, "minutes": 0, "seconds": 99},
    }
    await _each_refused(visit, "specification.timeAllocation", {f"a timeAllocation of {words}": span for words, span in wrong.items()})


@rule("bodies.replicas", "A job of no replicas, or of fewer, is 400.", "2021 §8.1; seed Jobs, Multi-replica Jobs")
async def no_replicas(visit: Visit) -> None:
    await _each_refused(visit, "specification.replicas", {"0 replicas": 0, "-1 replicas": -1})


@rule("bodies.none", "A bulk without items is 400.", "2021 §7: 1 to 1,000 items, else 400", generations=only(G2021))
async def none(visit: Visit) -> None:
    for path in ("/jobs", "/jobs/terminate"):
        refused(await visit.client.post(path, items(), username="kit"), 400)


@rule("bodies.none-2026", "A bulk without items is 400, or is done with an answer in JSON.", "2021 §7; today §9", generations=only(G2026))
async def none_2026(visit: Visit) -> None:
    answer = await visit.client.post("/jobs/terminate", items(), username="kit")
    if not (answer.ok and isinstance(answer.body, dict)):
        refused(answer, 400)


@rule("bodies.too-many", "A bulk of 1,001 items is refused.", "2021 §7: 1 to 1,000 items, else 400", generations=only(G2021))
async def too_many(visit: Visit) -> None:
    jobs = [visit.job(visit.program("exit 0")) for _ in range(1001)]
    light = [without(without(job.document, "status.resolvedApplication"), "specification.parameters") for job in jobs]
    refused(await visit.client.post("/jobs/terminate", items(*light), username="kit"), 400, 413)


RULES = (*_RAW, missing_key, wrong_type, unknown_type, time_allocation, no_replicas, none, none_2026, too_many)
