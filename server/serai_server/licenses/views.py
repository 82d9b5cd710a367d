"""Licenses as their users see them, with what the flags of a request ask for and nothing more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from serai.core.v1.resources_pb2 import (
    CHARGE_TYPE_ABSOLUTE,
    PRODUCT_PRICE_UNIT_PER_UNIT,
    PRODUCT_TYPE_LICENSE,
    ProductCategoryId,
    ResourceOwner,
    ResourcePermissions,
)
from serai.licenses.v1.license_pb2 import (
    ALLOCATION_REQUESTS_GROUP_ALL,
    License,
    LicenseProduct,
    LicenseStatus,
    LicenseSupport,
    LicenseUpdate,
    Maintenance,
    ResolvedLicenseSupport,
)
from serai.licenses.v1.license_pb2 import LicenseState as WireState
from serai.licenses.v1.licenses_service_pb2 import LicenseIncludeFlags

from serai_server.licenses import access, products
from serai_server.licenses.bodies import specification_of
from serai_server.store.license_api import LicenseStore
from serai_server.store.license_model import StoredLicense

HISTORY_SHOWN = 100
"""Newest lines of history that are told."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What all licenses of an answer have in common."""

    catalog: products.LicenseCatalog
    maintenance: Mapping[str, Maintenance]
    """By product: the window that is open, or else the next one."""

    def product(self, product: products.LicenseProduct) -> LicenseProduct:
        """As UCloud/Core resolves it. Source of the fields that never change: the seed's example."""
        return LicenseProduct(
            name=product.id,
            price_per_unit=product.price,
            category=ProductCategoryId(name=product.category, provider=product.provider),
            description=product.description,
            tags=product.tags,
            version=1,
            free_to_use=False,
            allow_allocation_requests_from=ALLOCATION_REQUESTS_GROUP_ALL,
            unit_of_price=PRODUCT_PRICE_UNIT_PER_UNIT,
            charge_type=CHARGE_TYPE_ABSOLUTE,
            product_type=PRODUCT_TYPE_LICENSE,
        )

    def support(self, product: products.LicenseProduct) -> LicenseSupport:
        return LicenseSupport(product=product.reference, maintenance=self.maintenance.get(product.key))

    def resolved(self, product: products.LicenseProduct) -> ResolvedLicenseSupport:
        return ResolvedLicenseSupport(product=self.product(product), support=self.support(product))


@dataclass(frozen=True, slots=True)
class Look:
    """Who asks, and for what."""

    actor: access.Actor
    flags: LicenseIncludeFlags
    shown: Shown


async def views(found: Sequence[StoredLicense], look: Look, store: LicenseStore) -> list[License]:
    ids = [stored.id for stored in found]
    bound = await store.bound_to(ids) if ids else {}
    history = await store.history(ids, HISTORY_SHOWN) if ids and look.flags.include_updates else {}
    return [_view(stored, look, bound.get(stored.id, ()), history.get(stored.id, ())) for stored in found]


def _view(stored: StoredLicense, look: Look, bound_to: tuple[str, ...], history: tuple[bytes, ...]) -> License:
    flags, shown = look.flags, look.shown
    status = LicenseStatus(state=WireState.ValueType(int(stored.state)), bound_to=bound_to)
    product = shown.catalog.by_key(stored.product)
    if product is not None and flags.include_support:
        status.resolved_support.CopyFrom(shown.resolved(product))
    if product is not None and flags.include_product:
        status.resolved_product.CopyFrom(shown.product(product))
    view = License(
        id=stored.id,
        specification=specification_of(stored),
        owner=ResourceOwner(created_by=stored.owner, project=stored.project or None),
        created_at=stored.created_at_ms,
        status=status,
        updates=[LicenseUpdate.FromString(line) for line in history],
    )
    if look.actor.operator:
        view.core_id = stored.core_id
    if flags.include_others:
        view.permissions.CopyFrom(ResourcePermissions(myself=access.permissions(look.actor, stored), others=access.others_of(stored)))
    return view
