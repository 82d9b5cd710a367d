"""Forms of JSON that Core writes, all of which say the same: nulls, absent keys, keys that nobody knows, unions in any order."""

from __future__ import annotations

from serai_conformance.documents import items
from serai_conformance.judge import rule
from serai_conformance.model import G2021, G2026, Broken, only
from serai_conformance.visit import Job, Visit
from serai_conformance.wire import Json, JsonObject, dump, merged, text_at, with_item, without

NULLS_2021 = ("specification.name", "specification.resources", "output", "permissions", "acl", "status.resolvedProduct", "owner.project")
"""What is null in the seed's examples."""
NULLS_2026 = ("specification.hostname", "status.jobParametersJson", "status.resolvedProduct", "status.resolvedSupport", "owner.project")
ABSENT_2021 = ("acl", "billing", "output", "permissions", "updates", "specification.name", "specification.allowDuplicateJob")
ABSENT_2026 = ("updates", "specification.name", "specification.hostname", "specification.labels", "status.allowRestart")
UNKNOWN: JsonObject = {"text": "x", "list": [1, None, {"a": []}], "number": 1.5, "nothing": None}


async def _taken(visit: Visit, job: Job, document: JsonObject, words: str) -> None:
    """The create with this document is taken."""
    answer = await visit.create(job, body=items(document))
    if not answer.ok:
        raise Broken(f"a job {words}: {answer.words}, where 200 was expected")


@rule("forms.nulls", "Null is the same as absent, at every place where Core writes it.", "seed Jobs, batch example; 2021 §7; today §7")
async def nulls(visit: Visit) -> None:
    job = visit.job(visit.program("exit 0"))
    document = job.document
    for place in NULLS_2026 if visit.todays else NULLS_2021:
        document = with_item(document, place, None)
    await _taken(visit, job, document, "with null where Core writes it")


@rule("forms.absent", "Keys that have a default may be absent.", "2021 §7, §8.1; today §7")
async def absent(visit: Visit) -> None:
    job = visit.job(visit.program("exit 0"))
    document = job.document
    for place in ABSENT_2026 if visit.todays else ABSENT_2021:
        document = without(document, place)
    await _taken(visit, job, document, "without the keys that have a default")


@rule("forms.unknown-keys", "Keys that the provider does not know are ignored, wherever they stand.", "2021 §7; today §4, §7")
async def unknown_keys(visit: Visit) -> None:
    job = visit.job(visit.program("exit 0"))
    document = job.document
    places = ("", "owner.", "specification.", "specification.product.", "status.", "status.resolvedApplication.invocation.", "output.")
    for place in places:
        document = with_item(document, f"{place}conformanceKit", UNKNOWN)
    answer = await visit.create(job, body=merged(items(document), {"type": "bulk", "conformanceKit": UNKNOWN}))
    if not answer.ok:
        raise Broken(f"a job with keys that nobody knows: {answer.words}, where 200 was expected")


@rule("forms.type-last", "The `type` of a union may stand behind its other keys.", "2021 §7: JSON objects have no order")
async def type_last(visit: Visit) -> None:
    job = visit.job(visit.program("exit 0"))
    await _taken(visit, job, _types_last(job.document), "whose `type` keys stand last")


def _types_last(value: Json) -> JsonObject:
    found = _turned(value)
    assert isinstance(found, dict)  # noqa: S101 - a document is an object
    return found


def _turned(value: Json) -> Json:
    if isinstance(value, list):
        return [_turned(element) for element in value]
    if isinstance(value, dict):
        last = {"type": value["type"]} if "type" in value else {}
        return {key: _turned(inner) for key, inner in value.items() if key != "type"} | last
    return value


@rule("forms.escapes", "Texts mean the same however JSON writes them.", "RFC 8259 §7")
async def escapes(visit: Visit) -> None:
    job = visit.job(visit.program("exit 0", name="\u00e6\u00f8\u00e5 job"))
    ascii_only = dump(items(job.document)).decode().encode("ascii", "backslashreplace").replace(b"\\xe6", b"\\u00e6")
    ascii_only = ascii_only.replace(b"\\xf8", b"\\u00f8").replace(b"\\xe5", b"\\u00e5")
    answer = await visit.create(job, body=ascii_only)
    if not answer.ok:
        raise Broken(f"a job with escapes in its name: {answer.words}, where 200 was expected")
    again = await visit.client.post("/jobs", items(job.document), username="kit")
    if not again.ok:
        raise Broken(f"the same job without escapes is another one to the provider: {again.words}")


@rule("forms.large-numbers", "Times are 64-bit integers.", "2021 §8.1: createdAt is a Long")
async def large_numbers(visit: Visit) -> None:
    job = visit.job(visit.program("exit 0"))
    await _taken(visit, job, with_item(job.document, "createdAt", 9_007_199_254_740_993), "whose createdAt is 2^53+1")


@rule(
    "forms.products",
    "A job with its product and support resolved, as the seed shows it, is taken.",
    "seed Jobs, batch example",
    generations=only(G2021),
)
async def resolved(visit: Visit) -> None:
    job = visit.job(visit.program("exit 0"))
    category: JsonObject = {"name": visit.product.category, "provider": visit.product.provider}
    product: JsonObject = {"balance": None, "name": visit.product.id, "pricePerUnit": 1, "category": category, "description": ""}
    product |= {"priority": 0, "cpu": 1, "memoryInGigs": 2, "gpu": 0, "version": 1, "freeToUse": False}
    product |= {"unitOfPrice": "CREDITS_PER_MINUTE", "chargeType": "ABSOLUTE", "hiddenInGrantApplications": False, "productType": "COMPUTE"}
    entry = next(entry for entry in visit.support.entries if text_at(entry, "product", "id") == visit.product.id)
    document = with_item(job.document, "status.resolvedProduct", product)
    support: JsonObject = {"product": product, "support": entry}
    document = with_item(document, "status.resolvedSupport", support)
    await _taken(visit, job, document, "with its product and support")


@rule(
    "forms.sample-rate",
    "The parameter ucMetricSampleRate, which no application declares, is taken.",
    "today §7: it is in every job",
    generations=only(G2026),
)
async def sample_rate(visit: Visit) -> None:
    job = visit.job(visit.program("exit 0"))
    document = with_item(job.document, "specification.parameters.ucMetricSampleRate", {"type": "text", "value": "0ms"})
    await _taken(visit, job, document, "with ucMetricSampleRate")


@rule("forms.no-limit", "A job without a time limit is taken.", "today §7, §11: timeAllocation may be null", generations=only(G2026))
async def no_limit(visit: Visit) -> None:
    job = visit.job(visit.program("exit 0", limit_s=None))
    await _taken(visit, job, job.document, "whose timeAllocation is null")


@rule("forms.jinja", "An invocation of one jinja element is taken.", "today §7: all new applications have it", generations=only(G2026))
async def jinja(visit: Visit) -> None:
    job = visit.job(visit.program("exit 0"))
    element: JsonObject = {"type": "jinja", "template": "#!/bin/sh\necho {{ ucloud.jobId }}\n"}
    await _taken(
        visit, job, with_item(job.document, "status.resolvedApplication.invocation.invocation", [element]), "with a jinja template"
    )


RULES = (nulls, absent, unknown_keys, type_last, escapes, large_numbers, resolved, sample_rate, no_limit, jinja)
