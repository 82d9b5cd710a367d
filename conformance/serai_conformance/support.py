"""What the provider declares, read once: the product that jobs run on, and what it can do."""

from __future__ import annotations

from dataclasses import dataclass, field

from serai_conformance.client import Answer
from serai_conformance.documents import Product
from serai_conformance.model import CannotTest, Target
from serai_conformance.wire import JsonObject, dig, objects_at, text_at

BLOCKS = {"docker": "DOCKER", "native": "NATIVE", "virtualMachine": "VIRTUAL_MACHINE"}
"""Support block → backend of the tools that it is about."""
FLAGS = {
    "docker": ("enabled", "web", "vnc", "logs", "terminal", "peers", "timeExtension", "utilization"),
    "virtualMachine": ("enabled", "logs", "vnc", "terminal", "timeExtension", "suspension", "utilization"),
}
"""Those of the seed."""


@dataclass(frozen=True, slots=True)
class Support:
    product: Product | None = None
    """The machine type; None = there is none on which jobs can run."""
    backend: str = "DOCKER"
    flags: frozenset[str] = frozenset()
    """What is true in its block."""
    backends: frozenset[str] = frozenset()
    """Backends of tools that the product runs."""
    license_product: Product | None = None
    entries: tuple[JsonObject, ...] = field(default=())

    def has(self, flag: str) -> bool:
        return self.license_product is not None if flag == "licenses" else flag in self.flags


def read_support(target: Target, jobs: Answer, licenses: Answer) -> Support:
    """CannotTest when what was asked for by name is not there."""
    entries = tuple(objects_at(jobs.body, "responses"))
    license_product = _license_product(target, licenses)
    for entry in entries:
        product = _product(entry)
        backends = [backend for block, backend in BLOCKS.items() if dig(entry, block, "enabled") is True]
        if product is None or not backends or target.product not in {"", product.id}:
            continue
        block = next(name for name, backend in BLOCKS.items() if backend == backends[0])
        declared = dig(entry, block)
        flags = frozenset(name for name, value in declared.items() if value is True) if isinstance(declared, dict) else frozenset[str]()
        return Support(product, backends[0], flags, frozenset(backends), license_product, entries)
    if target.product:
        raise CannotTest(f"the provider declares no product {target.product} on which jobs can run; leave --product out to see any")
    return Support(license_product=license_product, entries=entries)


def _license_product(target: Target, answer: Answer) -> Product | None:
    found = [product for entry in objects_at(answer.body, "responses") if (product := _product(entry)) is not None]
    chosen = next((product for product in found if target.license_product in {"", product.id}), None)
    if chosen is None and target.license_product:
        raise CannotTest(f"the provider declares no license {target.license_product}")
    return chosen


def _product(entry: JsonObject) -> Product | None:
    found = Product(*(text_at(entry, "product", key) for key in ("id", "category", "provider")))
    return found if found.id and found.category else None
