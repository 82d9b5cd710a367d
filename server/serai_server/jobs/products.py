"""Machine types: what the settings sell, what a replica of each gets, and what is declared to Core for each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from serai.core.v1.resources_pb2 import ProductReference
from serai.jobs.v1.job_pb2 import ComputeSupport
from serai_backends.model import Features, Resources

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


@dataclass(frozen=True, slots=True)
class Product:
    """One machine type of the settings."""

    id: str
    category: str
    provider: str
    resources: Resources
    period_ms: int
    """Length of the price unit; 0 = billed once for each job (PER_UNIT)."""

    @property
    def key(self) -> str:
        return f"{self.provider}/{self.category}/{self.id}"


class Catalog:
    """The products of the settings, found by reference."""

    def __init__(self, products: Iterable[Product], features: Features) -> None:
        self._products = {(p.provider, p.category, p.id): p for p in products}
        self._by_key = {p.key: p for p in self._products.values()}
        self.features = features

    def find(self, reference: ProductReference) -> Product | None:
        return self._products.get((reference.provider, reference.category, reference.id))

    def by_key(self, key: str) -> Product | None:
        """`key` is Product.key as the store keeps it; None = the settings do not sell it any more."""
        return self._by_key.get(key)

    def support(self) -> list[ComputeSupport]:
        """What each product can do. A feature that the backend lacks is left unset, which is null and means no (seed, second example)."""
        return [self._support_of(p) for p in self._products.values()]

    def _support_of(self, product: Product) -> ComputeSupport:
        has = self.features
        support = ComputeSupport(product=ProductReference(id=product.id, category=product.category, provider=product.provider))
        docker = support.docker
        docker.enabled = True
        declared = {
            "web": has.web,
            "vnc": has.vnc,
            "logs": has.logs,
            "terminal": has.terminal,
            "peers": has.peers,
            "time_extension": has.time_extension,
            "utilization": has.utilization,
        }
        for name, able in declared.items():
            if able:
                setattr(docker, name, True)
        support.virtual_machine.SetInParent()
        return support
