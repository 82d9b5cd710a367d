"""Core's rules for licenses: what a provider's calls below /api/licenses/control do to them, and what it reads of them.

No I/O. facts 2021 §2, §5.3, §5.4; today §7 "License", §9 "Licenses". 2026 takes updates and does nothing with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from serai_devcore import queries
from serai_devcore.accounts import Product
from serai_devcore.documents import product_document
from serai_devcore.jobs import Arrival
from serai_devcore.resources import LICENSES, Resource, ResourceBook, ResourceRequest, licenses_in
from serai_devcore.wire import (
    CoreError,
    Generation,
    Json,
    JsonObject,
    as_object,
    bad_request,
    dig,
    dig_text,
    integer,
    integer_or,
    text,
    text_or_none,
)

if TYPE_CHECKING:
    from serai_devcore.state import State

STATES = frozenset({"PREPARING", "READY", "UNAVAILABLE"})
KINDS = ("BIND", "UNBIND")
EVERYTHING = {"includeOthers": "true", "includeUpdates": "true", "includeProduct": "true", "includeSupport": "true"}
"""What today's Core sends with every call (core2/pkg/orchestrator/resources_orchestration.go)."""


@dataclass(frozen=True, slots=True)
class Change:
    """One item of `licenses/control/update`, read."""

    license_id: str
    update: JsonObject
    state: str | None
    binding: tuple[str, str] | None
    """Kind and job."""


@dataclass(frozen=True, slots=True)
class Wish:
    """One item of `licenses/control/register`, read."""

    key: tuple[str, str, str]
    own_id: str | None
    username: str
    project: str | None


def update(book: ResourceBook, provider: str, items: Sequence[JsonObject], now_ms: int) -> None:
    """All or nothing as to ids."""
    changes = [_read(item, f"items[{index}]", book.generation) for index, item in enumerate(items)]
    licenses = book.owned_licenses(provider, [change.license_id for change in changes])
    is_today = book.generation is Generation.G2026
    done: set[str] = set()
    for found, change in zip(licenses, changes, strict=True):
        # 2021: one UPDATE … FROM does the batch. Of several items for one license PostgreSQL uses one, and not a certain one; here the
        # first (backend/app-orchestrator-service/src/jvmMain/kotlin/services/JobBoundResource.kt @48ff7680d6, onUpdate).
        applies = not is_today and found.id not in done
        done.add(found.id)
        if applies:
            _apply(found, change)
        found.arrivals.append(Arrival(now_ms, change.update, kept=not is_today, applied=applies))


def _apply(found: Resource, change: Change) -> None:
    if change.state is not None:
        found.state = change.state
    match change.binding:
        case ("BIND", job_id):
            found.bound_to = [*found.bound_to, job_id]
        case ("UNBIND", job_id):
            found.bound_to = [bound for bound in found.bound_to if bound != job_id]
        case _:
            pass


def _read(item: JsonObject, path: str, generation: Generation) -> Change:
    given = as_object(item.get("update"), f"{path}.update")
    where = f"{path}.update"
    state, binding = text_or_none(given, "state", where), None
    text_or_none(given, "status", where)
    if generation is Generation.G2021:
        # Other text is no state at all (2021 §7 coerceInputValues), so the state stays.
        state = state if state in STATES else None
        integer_or(given, "timestamp", where, 0)
    elif "timestamp" in given:
        integer(given, "timestamp", where)
    if given.get("binding") is not None:
        binding = _binding(as_object(given["binding"], f"{where}.binding"), f"{where}.binding", generation)
    return Change(text(item, "id", path), given, state, binding)


def _binding(given: JsonObject, path: str, generation: Generation) -> tuple[str, str]:
    kind, job_id = text(given, "kind", path), text(given, "job", path)
    if kind not in KINDS and generation is Generation.G2021:
        raise bad_request(f"{path}.kind", "BIND or UNBIND")
    if not job_id.isdecimal() and generation is Generation.G2021:
        # 2021 §5.3: it must be a number; Core stumbles over any other.
        raise CoreError(500, "Internal Server Error")
    return kind, job_id


def register(state: State, provider: str, items: Sequence[JsonObject]) -> list[str]:
    """`licenses/control/register`: confirmed at once (2021 §2.3; today §9)."""
    wishes = [_wish(item, f"items[{index}]") for index, item in enumerate(items)]
    named = {wish.key[0] for wish in wishes}
    if state.generation is Generation.G2021 and len(named) > 1:
        raise CoreError(400, "all items must be of one provider")
    if named != {provider}:
        # Today's word is its own, and not the one for a token that it does not take (core2/pkg/orchestrator/license.go).
        raise CoreError(403, "Forbidden" if state.generation is Generation.G2021 else "forbidden")
    return _register_2021(state, wishes) if state.generation is Generation.G2021 else _register_2026(state, wishes)


def _register_2021(state: State, wishes: Sequence[Wish]) -> list[str]:
    """One statement for the whole bulk, that fails as a whole (backend/accounting-service/util/src/jvmMain/kotlin/ResourceService.kt
    @48ff7680d6, register). A product must have exactly one version. An own id that is known is given the new owner, unless that is the old
    one: their entry in the ACL is there already, and unique. Ids come back by number, not in the order of the items."""
    found: list[Resource | None] = []
    for wish in wishes:
        product = state.accounts.products.get(wish.key)
        known = next((r for r in state.resources if wish.own_id and r.provider_generated_id == wish.own_id), None)
        if product is None or product.version > 1 or (known is not None and known.username == wish.username):
            raise CoreError(500, "Internal Server Error")
        found.append(known)
    if len({wish.own_id for wish in wishes if wish.own_id}) < sum(1 for wish in wishes if wish.own_id):
        raise CoreError(500, "Internal Server Error")
    ids: list[str] = []
    for wish, known in zip(wishes, found, strict=True):
        if known is not None:
            known.key, known.username, known.project = wish.key, wish.username, wish.project
        ids.append((known or _registered(state, wish)).id)
    return sorted(ids, key=int)


def _register_2026(state: State, wishes: Sequence[Wish]) -> list[str]:
    """One after the other: what stands before a refused item is done. Of own ids that come again see `own_ids`; whether there is such a
    product is not looked at (core2/pkg/orchestrator/license.go)."""
    return [_registered(state, wish).id for wish in wishes]


def _registered(state: State, wish: Wish) -> Resource:
    license_id, provider = state.jobs.new_id(), wish.key[0]
    if wish.own_id:
        state.jobs.own_ids.register(provider, wish.own_id, license_id)
    product = state.accounts.products.get(wish.key) or Product(wish.key[2], wish.key[1], provider, kind="license", unit="PER_UNIT")
    made = state.resources.insert(ResourceRequest(LICENSES, product, {}, wish.username, wish.project), license_id, state.clock.now_ms())
    made.confirmed, made.provider_generated_id = True, wish.own_id
    return made


def _wish(item: JsonObject, path: str) -> Wish:
    own_id = text_or_none(item, "providerGeneratedId", path)
    if own_id is not None and "," in own_id:
        raise bad_request(f"{path}.providerGeneratedId", "no comma")
    product = as_object(as_object(item.get("spec"), f"{path}.spec").get("product"), f"{path}.spec.product")
    provider, category, name = (text(product, field, f"{path}.spec.product") for field in ("provider", "category", "id"))
    username, project = text_or_none(item, "createdBy", path) or "_ucloud", text_or_none(item, "project", path)
    return Wish((provider, category, name), own_id, username, project)


def retrieve(state: State, provider: str, query: Mapping[str, str]) -> JsonObject:
    """One license. Unknown or foreign: 404 in 2021 (§2.4), 403 today (§9)."""
    found = state.resources.get(query.get("id", ""))
    if found is None or found.namespace != LICENSES or found.provider != provider:
        if state.generation is Generation.G2021:
            raise CoreError(404, "Not found")
        raise CoreError(403, "Write permission is required")
    return render(state, found, query)


def browse(state: State, provider: str, query: Mapping[str, str]) -> JsonObject:
    """A page of the provider's licenses, newest first."""
    found = [r for r in state.resources if r.namespace == LICENSES and r.provider == provider and r.confirmed and queries.fits(r, query)]
    return queries.page_of(found, state.generation, query, lambda one: render(state, one, query))


def update_labels(book: ResourceBook, provider: str, items: Sequence[JsonObject]) -> None:
    """2026: one after the other; what is not the provider's is a 403, and those before it are done (core2/pkg/orchestrator/license.go)."""
    for index, item in enumerate(items):
        license_id, labels = text(item, "id", f"items[{index}]"), as_object(item.get("labels"), f"items[{index}].labels")
        found = book.get(license_id)
        if found is None or found.namespace != LICENSES or found.provider != provider:
            raise CoreError(403, "Failed to update labels - permission denied")
        found.labels = dict(labels)


def render(state: State, found: Resource, query: Mapping[str, str]) -> JsonObject:
    """The resource's JSON as it is now, with what the flags ask for (2021 §5.4, today §7)."""
    today = state.generation is Generation.G2026
    owner: JsonObject = {"createdBy": found.username, "project": found.project}
    document: JsonObject = {"id": found.id, "createdAt": found.created_at_ms, "owner": owner, "status": _status(state, found, query)}
    others: list[Json] | None = found.others.copy() if query.get("includeOthers") == "true" else None
    if not today:
        wanted = query.get("includeUpdates") == "true"
        history: list[Json] = [_LEAST | a.update | {"timestamp": a.at_ms} for a in found.arrivals if a.kept] if wanted else []
        permissions: JsonObject = {"myself": ["ADMIN"], "others": others}
        document.update(billing={}, acl=None, updates=history, permissions=permissions, specification=found.specification)
        return document
    specification: JsonObject = {**found.specification, "labels": found.labels}
    permissions = {"myself": ["ADMIN", "READ", "EDIT"], "others": others or []}
    document.update(permissions=permissions, specification=specification)
    if found.provider_generated_id is not None:
        document["providerGeneratedId"] = found.provider_generated_id
    if found.namespace != LICENSES:
        # A license has no such key at all.
        document["updates"] = []
    return document


_LEAST: JsonObject = {"state": None, "status": None, "binding": None}


def _status(state: State, found: Resource, query: Mapping[str, str]) -> JsonObject:
    known = state.accounts.products.get(found.key)
    product = None if known is None else product_document(known, state.generation)
    status: JsonObject = {"resolvedSupport": None, "resolvedProduct": product if query.get("includeProduct") == "true" else None}
    if state.generation is Generation.G2021:
        status["state"] = found.state
        if query.get("includeSupport") == "true":
            entry = state.support.of(*found.key, found.namespace)
            status["resolvedSupport"] = None if entry is None else {"product": product, "support": entry}
    elif query.get("includeSupport") == "true" and found.namespace == LICENSES:
        status["resolvedSupport"] = state.support.resolved_license(found.key, product)
    if found.namespace == LICENSES:
        bound: list[Json] = list(found.bound_to)
        status |= {"boundTo": bound} if state.generation is Generation.G2021 else {"state": "READY", "boundTo": bound or None}
    return status


def for_provider(state: State, found: Resource, *, is_new: bool = False) -> JsonObject:
    """As Core sends it in its calls to the provider. 2021: without product, support and history (2021 §0.2 #1); 2026: with all of it, and
    in a create with nobody's permissions (core-wire/POST_licenses.json, DELETE_licenses.json)."""
    if state.generation is Generation.G2021:
        return render(state, found, {})
    document = render(state, found, EVERYTHING)
    if is_new:
        document["permissions"] = {"myself": [], "others": []}
    return document


def refusal(state: State, job: JsonObject) -> tuple[int, str] | None:
    """Core's own no to a job because of the licenses that it names: status and words; None = go on. Who is in which project is not known
    here, so a license of a project is usable by whoever starts a job in it.

    2021 §5.3, in the order of its source; today job.go: only whether the user may use it at all, wherever it is named.
    """
    project, username = dig(job, "owner", "project") or None, dig_text(job, "owner", "createdBy")
    of_2021 = state.generation is Generation.G2021
    for license_id in licenses_in(job, state.generation):
        found = state.resources.get(license_id)
        if found is None or found.namespace != LICENSES or not _may_use(found, username, of_2021=of_2021, project=project):
            return (400, "Unable to use all requested resources") if of_2021 else (403, "You cannot use this license")
        if not of_2021:
            continue
        if found.state != "READY":
            return 400, "Not all resources are ready"
        if found.project != project or found.provider != dig_text(job, "specification", "product", "provider"):
            return 400, "Not all resources can be used in this application"
    return None


def _may_use(found: Resource, username: str, *, of_2021: bool, project: Json) -> bool:
    """EDIT: the creator's, a member's of its project, or given by its ACL. Today only from the license's own workspace."""
    given = [dig(entry, "entity", "username") for entry in found.others if "EDIT" in _granted(entry)]
    mine = found.username == username or username in given
    if found.project is None:
        return mine and (of_2021 or project is None)
    return found.project == project or (of_2021 and mine)


def _granted(entry: Json) -> list[Json]:
    permissions = dig(entry, "permissions")
    return permissions if isinstance(permissions, list) else []
