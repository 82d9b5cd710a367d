"""Machine types: what the settings sell, what a replica of each gets, and what is declared to Core for each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from serai.core.v1.resources_pb2 import ProductReference
from serai.jobs.v1.job_pb2 import ComputeSupport, DockerSupport, NativeSupport, VirtualMachineSupport
from serai_backends.model import Features, Resources

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

Feature = Literal["logs", "terminal", "web", "vnc", "peers", "time_extension", "utilization", "suspension"]
"""What a product may be able to do, as UCloud's support blocks name it."""

Tool = Literal["docker", "native", "virtual_machine"]
"""The kinds of tools whose applications a product runs; each has a support block of its own."""

_FLAGS: Mapping[Tool, tuple[Feature, ...]] = {
    "docker": ("web", "vnc", "logs", "terminal", "peers", "time_extension", "utilization"),
    "virtual_machine": ("logs", "vnc", "terminal", "time_extension", "suspension", "utilization"),
    "native": ("web", "vnc", "logs", "terminal", "time_extension", "utilization"),
}
"""Flags of each support block (seed, first two examples; facts 2021 §8.2)."""


@dataclass(frozen=True, slots=True)
class Product:
    """One machine type of the settings."""

    id: str
    category: str
    provider: str
    resources: Resources
    period_ms: int
    """Length of the price unit; 0 = billed once for each job (PER_UNIT)."""
    price: int = 0
    """For one period of one replica, in the category's unit of accounting; used where Core does not tell the price with the job."""
    tools: frozenset[Tool] = frozenset({"docker"})
    without: frozenset[Feature] = frozenset()
    """What this product does not offer although the backend could."""

    @property
    def key(self) -> str:
        return f"{self.provider}/{self.category}/{self.id}"


class Catalog:
    """The products of the settings, found by reference."""

    def __init__(self, products: Collection[Product], features: Features, needs_image: Callable[[str], bool] | None = None) -> None:
        """`needs_image` as a backend's that is a NeedsImages; None = no machine type does."""
        self._imageless = {p.key for p in products if needs_image is None or not needs_image(f"{p.category}/{p.id}")}
        self._products = {(p.provider, p.category, p.id): p for p in products}
        self._by_key = {p.key: p for p in self._products.values()}
        self._offered = {p.key: replace(features, **dict.fromkeys(p.without, False)) for p in self._products.values()}
        self.features = features

    def find(self, reference: ProductReference) -> Product | None:
        return self._products.get((reference.provider, reference.category, reference.id))

    def matching(self, reference: ProductReference) -> list[Product]:
        """Those that have each part which the reference names, in the order of the settings."""
        return [
            product
            for product in self._products.values()
            if reference.id in ("", product.id)
            and reference.category in ("", product.category)
            and reference.provider in ("", product.provider)
        ]

    def by_key(self, key: str) -> Product | None:
        """`key` is Product.key as the store keeps it; None = the settings do not sell it any more."""
        return self._by_key.get(key)

    def able(self, key: str, feature: Feature) -> bool:
        """Whether jobs of the product can do this: the backend can, and the settings let them."""
        product = self._by_key.get(key)
        return self._backend_can(feature) and (product is None or feature not in product.without)

    def offered(self, product: Product) -> Features:
        """What the backend can do, without what the settings keep from this product."""
        return self._offered[product.key]

    def needs_image(self, product: Product) -> bool:
        """A job of it that names no image can never run."""
        return product.key not in self._imageless

    def unsellable(self) -> list[str]:
        """What the settings sell and the backend cannot run, in words; empty = all is well."""
        return [
            f"product {p.category}/{p.id}: this backend does not run tools of kind {tool}"
            for p in self._products.values()
            for tool in sorted(p.tools)
            if not self._backend_runs(tool)
        ]

    def support(self) -> list[ComputeSupport]:
        """What each product can do. A feature that is lacking is left unset, which is null and means no (seed, second example)."""
        return [self._support_of(p) for p in self._products.values()]

    def _support_of(self, product: Product) -> ComputeSupport:
        support = ComputeSupport(product=ProductReference(id=product.id, category=product.category, provider=product.provider))
        blocks: dict[Tool, DockerSupport | NativeSupport | VirtualMachineSupport] = {
            "docker": support.docker,
            "virtual_machine": support.virtual_machine,
            "native": support.native,
        }
        for tool, block in blocks.items():
            if tool in product.tools:
                block.enabled = True
                for feature in _FLAGS[tool]:
                    if self.able(product.key, feature):
                        setattr(block, feature, True)
        # The wire always has these two; `native` is there for those who run it.
        support.docker.SetInParent()
        support.virtual_machine.SetInParent()
        return support

    def _backend_can(self, feature: Feature) -> bool:
        return bool(getattr(self.features, feature))

    def _backend_runs(self, tool: Tool) -> bool:
        return bool(getattr(self.features, tool))
