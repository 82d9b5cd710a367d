"""License products: what the settings sell, and how each reaches the programs of jobs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from serai.core.v1.resources_pb2 import ProductReference

Argument = Literal["port_at_host", "file", "address", "address_and_key"]
"""What stands on the command line for a license parameter."""


@dataclass(frozen=True, slots=True)
class LicenseProduct:
    """One license product of the settings."""

    id: str
    category: str
    provider: str
    description: str = ""
    tags: tuple[str, ...] = ()
    price: int = 0
    """Of one license, charged once."""
    environment: tuple[str, ...] = ("LM_LICENSE_FILE",)
    """Variables that hold `port@host`."""
    key_file: bool = True
    argument: Argument = "port_at_host"

    @property
    def key(self) -> str:
        return f"{self.provider}/{self.category}/{self.id}"

    @property
    def reference(self) -> ProductReference:
        return reference_of(self.key)


class LicenseCatalog:
    """The license products of the settings, found by reference."""

    def __init__(self, products: Iterable[LicenseProduct]) -> None:
        self._by_key = {product.key: product for product in products}

    def __len__(self) -> int:
        return len(self._by_key)

    def find(self, reference: ProductReference) -> LicenseProduct | None:
        return self._by_key.get(key_of(reference))

    def by_key(self, key: str) -> LicenseProduct | None:
        """None = the settings do not sell it any more."""
        return self._by_key.get(key)

    def all(self) -> tuple[LicenseProduct, ...]:
        """In the order of the settings."""
        return tuple(self._by_key.values())


def key_of(reference: ProductReference) -> str:
    """As the store keeps it."""
    return f"{reference.provider}/{reference.category}/{reference.id}"


def reference_of(key: str) -> ProductReference:
    """From the form in which the store keeps it."""
    provider, category, product = [*key.split("/", 2), "", ""][:3]
    return ProductReference(id=product, category=category, provider=provider)
