"""What a provider may read of Core's jobs: `jobs/control/retrieve` and `jobs/control/browse`.

facts 2021 §2.4, §7.1, §7.2; today §9.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias, TypeVar

from serai_devcore.jobs import Job, JobBook
from serai_devcore.wire import CoreError, Generation, Json, JsonObject, dig

PAGE_SIZES = frozenset({10, 25, 50, 100, 250})
DEFAULT_PAGE_SIZE = 50

UPDATE_2026: JsonObject = {
    "state": None,
    "outputFolder": None,
    "status": None,
    "expectedState": None,
    "expectedDifferentState": None,
    "newTimeAllocation": None,
    "allowRestart": None,
    "resourceList": None,
}
"""An update as today's Core gives it back: every key is there."""
ALL_2026 = {"includeUpdates": "true", "includeProduct": "true", "includeApplication": "true", "includeParameters": "true"}


class Numbered(Protocol):
    id: str


class Filtered(Numbered, Protocol):
    """A job or a license."""

    username: str
    provider_generated_id: str | None
    created_at_ms: int

    @property
    def key(self) -> tuple[str, str, str]: ...


T = TypeVar("T", bound=Numbered)
ProductOf: TypeAlias = "Callable[[Job], Json]"
"""Gives `resolvedProduct` of a job; None when Core knows no such product."""


def retrieve(book: JobBook, generation: Generation, provider: str, query: Mapping[str, str], product_of: ProductOf) -> JsonObject:
    """One job. Unknown or foreign: 404 in 2021, 403 today."""
    job = book.get(query.get("id", ""))
    if job is None or job.provider != provider:
        if generation is Generation.G2021:
            raise CoreError(404, "Not found")
        raise CoreError(403, "Write permission is required")
    return render(job, generation, query, product_of)


def browse(book: JobBook, generation: Generation, provider: str, query: Mapping[str, str], product_of: ProductOf) -> JsonObject:
    """A page of the provider's confirmed jobs, newest first."""
    found = [job for job in book if job.provider == provider and job.confirmed and _matches(job, query)]
    return page_of(found, generation, query, lambda job: render(job, generation, query, product_of))


def page_of(found: list[T], generation: Generation, query: Mapping[str, str], show: Callable[[T], JsonObject]) -> JsonObject:
    """One page of what was found, newest first unless asked otherwise."""
    size = page_size(query)
    if query.get("consistency", "PREFER") not in {"PREFER", "REQUIRE"}:
        raise CoreError(400, "consistency: PREFER or REQUIRE")
    found.sort(key=_number, reverse=query.get("sortDirection") != "ascending")
    start = _start(found, generation, query.get("next"))
    page = found[start : start + size]
    following = None
    if len(page) == size and start + size < len(found):
        following = f"{start + size}-" if generation is Generation.G2021 else page[-1].id
    items: list[Json] = [show(one) for one in page]
    return {"itemsPerPage": size, "items": items, "next": following}


def render(job: Job, generation: Generation, query: Mapping[str, str], product_of: ProductOf) -> JsonObject:
    """The job's JSON as it is now, with what the flags ask for."""

    def wanted(flag: str) -> bool:
        return query.get(flag) == "true"

    document = dict(job.document)
    every_key = UPDATE_2026 if generation is Generation.G2026 else {}
    history: list[Json] = [{**every_key, **a.update, "timestamp": a.at_ms} for a in job.arrivals if a.kept]
    document["updates"] = history if wanted("includeUpdates") else []
    document["output"] = {"outputFolder": job.output_folder}
    if generation is Generation.G2026:
        document["specification"] = _specification(job)
        if job.provider_generated_id is not None:
            document["providerGeneratedId"] = job.provider_generated_id
    if wanted("includeOthers"):
        permissions = dig(document, "permissions")
        known: JsonObject = dict(permissions) if isinstance(permissions, dict) else {}
        known["others"] = job.others.copy()
        document["permissions"] = known
    status = dig(document, "status")
    new_status: JsonObject = dict(status) if isinstance(status, dict) else {}
    new_status |= {"state": job.state, "startedAt": job.started_at_ms, "expiresAt": job.expires_at_ms}
    hidden = {"resolvedProduct": "includeProduct", "resolvedSupport": "includeSupport"}
    if generation is Generation.G2026:
        hidden |= {"resolvedApplication": "includeApplication", "jobParametersJson": "includeParameters"}
    for key, flag in hidden.items():
        if not wanted(flag):
            new_status[key] = None
    if wanted("includeProduct"):
        new_status["resolvedProduct"] = product_of(job)
    document["status"] = new_status
    return document


def _specification(job: Job) -> JsonObject:
    """2026: labels and the allotted time change in a job's life; the captured one shows the sum after an extension."""
    specification = dig(job.document, "specification")
    now: JsonObject = dict(specification) if isinstance(specification, dict) else {}
    now["labels"] = job.labels
    if job.time_allocation_ms is not None:
        minutes, seconds = divmod(job.time_allocation_ms // 1000, 60)
        hours, minutes = divmod(minutes, 60)
        now["timeAllocation"] = {"hours": hours, "minutes": minutes, "seconds": seconds}
    return now


def for_provider(job: Job, generation: Generation, product: Json, support: Json) -> JsonObject:
    """The job as Core sends it with a call after its create: 2021 without product, support and history (facts 2021 §0.2 #1); 2026 with
    all of them, and what the acting user may do (today §7)."""
    if generation is Generation.G2021:
        return render(job, generation, {}, lambda _: None)
    document = render(job, generation, ALL_2026, lambda _: product)
    status = dig(document, "status")
    document["status"] = (status if isinstance(status, dict) else {}) | {"resolvedSupport": support}
    document["permissions"] = {"myself": ["ADMIN", "READ", "EDIT"], "others": job.others.copy()}
    return document


def _number(one: Numbered) -> tuple[int, str]:
    return (int(one.id) if one.id.isdecimal() else 0, one.id)


def page_size(query: Mapping[str, str]) -> int:
    """`itemsPerPage` if it is one of those that Core knows, else 50."""
    given = query.get("itemsPerPage", "")
    return int(given) if given.isdecimal() and int(given) in PAGE_SIZES else DEFAULT_PAGE_SIZE


def _start(found: Sequence[Numbered], generation: Generation, token: str | None) -> int:
    if token is None:
        return 0
    if generation is Generation.G2021:
        offset = token.removesuffix("-")
        if not (token.endswith("-") and offset.isdecimal()):
            raise CoreError(400, "next: this is not a page token")
        return int(offset)
    return next((index + 1 for index, job in enumerate(found) if job.id == token), len(found))


def _matches(job: Job, query: Mapping[str, str]) -> bool:
    if "filterState" in query and query["filterState"] != job.state:
        return False
    return fits(job, query)


def fits(one: Filtered, query: Mapping[str, str]) -> bool:
    """The filters that every type of resource has (2021 §2.4; seed 003 for `hide…`)."""
    provider, category, product = one.key
    named = {"Provider": provider, "ProductId": product, "ProductCategory": category}
    exact = {"filterCreatedBy": one.username} | {f"filter{name}": value for name, value in named.items()}
    if any(flag in query and query[flag] != value for flag, value in exact.items()):
        return False
    if any(query.get(f"hide{name}") == value for name, value in named.items()):
        return False
    listed = {"filterIds": one.id, "filterProviderIds": one.provider_generated_id}
    if any(flag in query and value not in query[flag].split(",") for flag, value in listed.items()):
        return False
    if query.get("filterCreatedAfter", "").isdecimal() and one.created_at_ms < int(query["filterCreatedAfter"]):
        return False
    return not (query.get("filterCreatedBefore", "").isdecimal() and one.created_at_ms > int(query["filterCreatedBefore"]))
