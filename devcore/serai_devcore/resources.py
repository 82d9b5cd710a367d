"""What Core keeps for a provider beside jobs: licenses, drives, public links, addresses. Only what is needed to send them there and back.

No I/O. facts 2021 §5.1; today §5, §7 "License".
"""

from __future__ import annotations

from dataclasses import dataclass, field

from serai_devcore.accounts import Product
from serai_devcore.documents import product_document
from serai_devcore.wire import CoreError, Generation, Json, JsonObject

TYPES = {
    "licenses": "license",
    "files/collections": "file_collection",
    "ingresses": "ingress",
    "networkips": "network_ip",
    "private-networks": "private_network",
}
"""The namespace in a provider's paths → what `checkExistence` calls it."""


@dataclass(slots=True)
class Resource:
    """A resource as Core knows it."""

    id: str
    namespace: str
    """As in the provider's paths: `licenses`."""
    product: Product
    username: str
    document: JsonObject
    provider_generated_id: str | None = None

    @property
    def type(self) -> str:
        return TYPES[self.namespace]


class ResourceBook:
    """Ids come from the book of jobs: they are unique over all types."""

    def __init__(self) -> None:
        self._resources: dict[str, Resource] = {}

    def __len__(self) -> int:
        return len(self._resources)

    def get(self, resource_id: str) -> Resource | None:
        return self._resources.get(resource_id)

    def insert(self, resource: Resource) -> None:
        self._resources[resource.id] = resource

    def forget(self, resource_id: str) -> bool:
        return self._resources.pop(resource_id, None) is not None

    def exists(self, provider: str, kind: str, resource_id: str) -> bool:
        found = self._resources.get(resource_id)
        return found is not None and found.type == kind and found.product.provider == provider


@dataclass(frozen=True, slots=True)
class ResourceRequest:
    """What a user asks for."""

    namespace: str
    product: Product
    specification: JsonObject = field(default_factory=dict[str, Json])
    """What stands beside `product`: a drive's title, a link's domain."""
    username: str = "user"


def new_resource(request: ResourceRequest, resource_id: str, created_at_ms: int, generation: Generation) -> Resource:
    """Raises CoreError 404 for a namespace that Core does not have."""
    if request.namespace not in TYPES:
        raise CoreError(404, f"there is no type {request.namespace}; there are {', '.join(TYPES)}")
    product, license_ = request.product, request.namespace == "licenses"
    specification: JsonObject = dict(request.specification)
    specification["product"] = {"id": product.id, "category": product.category, "provider": product.provider}
    document: JsonObject = {
        "id": resource_id,
        "createdAt": created_at_ms,
        "owner": {"createdBy": request.username, "project": None},
        "permissions": {"myself": [], "others": []},
        "specification": specification,
    }
    status: JsonObject = {"resolvedSupport": None, "resolvedProduct": None}
    if generation is Generation.G2021:
        document |= {"permissions": {"myself": ["ADMIN"], "others": None}, "updates": [], "billing": {}, "acl": None}
        status["state"] = "PREPARING"
    else:
        specification["labels"] = {}
        status["resolvedProduct"] = product_document(product, generation)
    if license_:
        status |= {"boundTo": []} if generation is Generation.G2021 else {"state": "READY", "boundTo": None}
    elif generation is Generation.G2026:
        # A license has no such key at all (today §7).
        document["updates"] = []
    document["status"] = status
    return Resource(resource_id, request.namespace, product, request.username, document)
