"""What Core keeps for a provider beside jobs: licenses, drives, public links, addresses. What becomes of licenses is `licenses`'.

No I/O. facts 2021 §5.1, §5.4; today §5, §7 "License".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from serai_devcore.accounts import Product
from serai_devcore.jobs import Arrival, Job, JobBook
from serai_devcore.wire import CoreError, Generation, Json, JsonObject, dig, dig_text

TYPES = {
    "licenses": "license",
    "files/collections": "file_collection",
    "ingresses": "ingress",
    "networkips": "network_ip",
    "private-networks": "private_network",
}
"""The namespace in a provider's paths → what `checkExistence` calls it."""
LICENSES = "licenses"


@dataclass(slots=True)
class Resource:
    """A resource as Core knows it. `specification` is what never changes of it."""

    id: str
    namespace: str
    """As in the provider's paths: `licenses`."""
    key: tuple[str, str, str]
    """Provider, category and id of its product."""
    username: str
    project: str | None
    created_at_ms: int
    specification: JsonObject
    state: str
    """Of 2021 everything has one; of 2026 only licenses do, and theirs is READY for ever."""
    provider_generated_id: str | None = None
    confirmed: bool = False
    """The provider has said yes to its create, or registered it."""
    bound_to: list[str] = field(default_factory=list[str])
    arrivals: list[Arrival] = field(default_factory=list[Arrival])
    """Every update as it came, and 2021's own."""
    labels: JsonObject = field(default_factory=dict[str, Json])
    others: list[Json] = field(default_factory=list[Json])
    """Who else may do what: entries `{entity, permissions}`."""

    @property
    def type(self) -> str:
        return TYPES[self.namespace]

    @property
    def provider(self) -> str:
        return self.key[0]

    @property
    def owner(self) -> str:
        """Who pays: `project:{id}` if there is one, else `user:{name}`."""
        return f"project:{self.project}" if self.project else f"user:{self.username}"

    @property
    def states(self) -> list[str]:
        """The states that it went through, in order, each change once."""
        return [a.state for a in self.arrivals if a.applied and a.state]


@dataclass(frozen=True, slots=True)
class ResourceRequest:
    """What a user asks for."""

    namespace: str
    product: Product
    specification: JsonObject = field(default_factory=dict[str, Json])
    """What stands beside `product`: a drive's title, a link's domain."""
    username: str = "user"
    project: str | None = None


class ResourceBook:
    """Ids come from the book of jobs: they are unique over all types. So are the ids that a provider gives."""

    def __init__(self, generation: Generation, jobs: JobBook) -> None:
        self.generation = generation
        self._jobs = jobs
        self._resources: dict[str, Resource] = {}

    def __len__(self) -> int:
        return len(self._resources)

    def __iter__(self) -> Iterator[Resource]:
        return iter(list(self._resources.values()))

    def get(self, resource_id: str) -> Resource | None:
        return self._resources.get(resource_id)

    def insert(self, request: ResourceRequest, resource_id: str, created_at_ms: int) -> Resource:
        """A new one, not confirmed yet. Raises CoreError 404 for a namespace that Core does not have."""
        if request.namespace not in TYPES:
            raise CoreError(404, f"there is no type {request.namespace}; there are {', '.join(TYPES)}")
        product = request.product
        specification: JsonObject = dict(request.specification)
        labels = specification.pop("labels", None)
        specification["product"] = {"id": product.id, "category": product.category, "provider": product.provider}
        resource = Resource(
            id=resource_id,
            namespace=request.namespace,
            key=product.key,
            username=request.username,
            project=request.project,
            created_at_ms=created_at_ms,
            specification=specification,
            state="PREPARING" if self.generation is Generation.G2021 else "READY",
            labels=dict(labels) if isinstance(labels, dict) else {},
        )
        self._resources[resource_id] = resource
        self._jobs.owners.add(resource.owner)
        return resource

    def confirm(self, resource: Resource, own_id: str | None) -> None:
        """The provider took it, and calls it so."""
        resource.confirmed = True
        if own_id:
            resource.provider_generated_id = own_id
            self._jobs.own_ids.answered(resource.provider, own_id, resource.id)

    def forget(self, resource_id: str) -> bool:
        self._jobs.own_ids.free(resource_id)
        return self._resources.pop(resource_id, None) is not None

    def exists(self, provider: str, kind: str, resource_id: str) -> bool:
        found = self._resources.get(resource_id)
        return found is not None and found.type == kind and found.provider == provider

    def known(self, resource_id: str) -> Resource:
        resource = self._resources.get(resource_id)
        if resource is None:
            raise CoreError(404, "Core knows no such resource")
        return resource

    def known_license(self, license_id: str) -> Resource:
        found = self._resources.get(license_id)
        if found is None or found.namespace != LICENSES:
            raise CoreError(404, "Core knows no such license")
        return found

    def owned_licenses(self, provider: str, license_ids: list[str]) -> list[Resource]:
        """The licenses of one bulk call. One that is unknown or another provider's fails all: facts 2021 §2.1 (400), today §9 (404)."""
        found = [r for i in license_ids if (r := self._resources.get(i)) is not None and r.namespace == LICENSES and r.provider == provider]
        if len(found) != len(license_ids):
            if self.generation is Generation.G2021:
                raise CoreError(400, "Unable to use all requested resources")
            raise CoreError(404, "Not found or permission denied")
        return found

    # --- jobs that use them -----------------------------------------------------------------------------------------------------------

    def bind(self, job: Job) -> None:
        """2026: at a job's create, over whatever was there (today §7 "only the last job"). 2021 calls its hook never (2021 §5.3)."""
        if self.generation is Generation.G2026:
            for resource in self._used_by(job):
                resource.bound_to = [job.id]

    def unbind(self, job: Job) -> None:
        """At a job's final state; 2021 as an update of Core's own, and of licenses in parameters only (2021 §2.1, §5.3; today §9)."""
        for resource in self._used_by(job):
            if self.generation is Generation.G2021:
                binding: JsonObject = {"kind": "UNBIND", "job": job.id}
                update: JsonObject = {"state": None, "status": None, "binding": binding}
                resource.arrivals.append(Arrival(self._jobs.now_ms(), update, kept=True, applied=True))
            resource.bound_to = [bound for bound in resource.bound_to if bound != job.id]

    def _used_by(self, job: Job) -> list[Resource]:
        ids = licenses_in(job.document, self.generation)
        return [found for license_id in ids if (found := self._resources.get(license_id)) is not None and found.namespace == LICENSES]


def licenses_in(document: JsonObject, generation: Generation) -> list[str]:
    """Ids of the licenses that Core sees in a job: 2021 looks at its parameters only."""
    parameters, resources = dig(document, "specification", "parameters"), dig(document, "specification", "resources")
    values = list(parameters.values()) if isinstance(parameters, dict) else []
    if generation is Generation.G2026 and isinstance(resources, list):
        values += resources
    ids = [dig_text(value, "id") for value in values if dig_text(value, "type") == "license_server"]
    return list(dict.fromkeys(ids))
