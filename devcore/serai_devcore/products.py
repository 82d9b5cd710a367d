"""Products as a provider registers and reads them: `/api/products` of 2021, `/api/products/v2` of 2026.

No I/O. facts 2021 §8.4; today §2 step 9 and the reference of its products API. Only of a provider's own; a known name makes a new
version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from serai_devcore.accounts import Accounts, Product
from serai_devcore.documents import product_document
from serai_devcore.queries import page_size
from serai_devcore.wire import (
    CoreError,
    Generation,
    Json,
    JsonObject,
    as_list,
    as_object,
    bad_request,
    dig_text,
    integer,
    integer_or,
    text,
)

AREAS = {
    "compute": "COMPUTE",
    "license": "LICENSE",
    "storage": "STORAGE",
    "ingress": "INGRESS",
    "network_ip": "NETWORK_IP",
    "private_network": "PRIVATE_NETWORK",
}
"""`type` of a product → what it is called everywhere else."""
UNITS_2021 = frozenset(
    {
        "PER_UNIT",
        "CREDITS_PER_MINUTE",
        "CREDITS_PER_HOUR",
        "CREDITS_PER_DAY",
        "UNITS_PER_MINUTE",
        "UNITS_PER_HOUR",
        "UNITS_PER_DAY",
    }
)
UNIT_OF = {
    "ONCE": "PER_UNIT",
    "PERIODIC_MINUTE": "CREDITS_PER_MINUTE",
    "PERIODIC_HOUR": "CREDITS_PER_HOUR",
    "PERIODIC_DAY": "CREDITS_PER_DAY",
}
"""`accountingFrequency` of 2026 → `unitOfPrice` of 2021."""


def create(accounts: Accounts, provider: str, items: Sequence[JsonObject]) -> None:
    """All or nothing. A product of somebody else is a 403."""
    read = _read_2021 if accounts.generation is Generation.G2021 else _read_2026
    products = [read(item, f"items[{index}]") for index, item in enumerate(items)]
    if any(product.provider != provider for product in products):
        raise CoreError(403, "Forbidden")
    for product in products:
        accounts.add_product(product)


def retrieve(accounts: Accounts, query: Mapping[str, str]) -> JsonObject:
    """The newest version of one product."""
    name, category, provider = (query.get(key, "") for key in ("filterName", "filterCategory", "filterProvider"))
    if not (name and category and provider):
        raise CoreError(400, "name, category and provider must be supplied")
    product = accounts.products.get((provider, category, name))
    if product is None:
        raise CoreError(404, "unknown product")
    return _document(product, accounts.generation)


def browse(accounts: Accounts, query: Mapping[str, str]) -> JsonObject:
    """A page of products, by provider, category and name."""
    area = query.get("filterArea" if accounts.generation is Generation.G2021 else "filterProductType")
    size = page_size(query)
    found = [
        product
        for key, product in sorted(accounts.products.items())
        if _matches(product, query) and area in {None, AREAS.get(product.kind)} and "@".join(key) > query.get("next", "")
    ]
    page = found[:size]
    items: list[Json] = [_document(product, accounts.generation) for product in page]
    return {"itemsPerPage": size, "items": items, "next": "@".join(page[-1].key) if len(found) > size else None}


def _matches(product: Product, query: Mapping[str, str]) -> bool:
    exact = {"filterName": product.id, "filterCategory": product.category, "filterProvider": product.provider}
    return all(query.get(flag, value) == value for flag, value in exact.items())


def _document(product: Product, generation: Generation) -> JsonObject:
    """As in `resolvedProduct`, and with `type`, which only the products API of 2021 has (facts 2021 §7 Sealed types)."""
    return {"type": product.kind} | product_document(product, generation) | (product.registered or {}) | _counted(product, generation)


def _counted(product: Product, generation: Generation) -> JsonObject:
    return {"version": product.version} if generation is Generation.G2021 else {}


def _read_2021(item: JsonObject, path: str) -> Product:
    """Keys without a default must be there (facts 2021 §7 Keys in, §8.4)."""
    unit = item.get("unitOfPrice") or ("PER_UNIT" if item.get("type") == "license" else "CREDITS_PER_MINUTE")
    if not isinstance(unit, str) or unit not in UNITS_2021:
        raise bad_request(f"{path}.unitOfPrice", "one of " + ", ".join(sorted(UNITS_2021)))
    return _product(item, path, price=integer(item, "pricePerUnit", path), unit=unit)


def _read_2026(item: JsonObject, path: str) -> Product:
    """today §2 step 9: `type`, `productType`, `category`, `price` and `fraction` must be sent."""
    category = as_object(item.get("category"), f"{path}.category")
    accounting_unit = as_object(category.get("accountingUnit"), f"{path}.category.accountingUnit")
    for key in ("name", "namePlural"):
        text(accounting_unit, key, f"{path}.category.accountingUnit")
    frequency = text(category, "accountingFrequency", f"{path}.category")
    if frequency not in UNIT_OF:
        raise bad_request(f"{path}.category.accountingFrequency", "one of " + ", ".join(UNIT_OF))
    for owner, where in ((item, path), (category, f"{path}.category")):
        area = text(owner, "productType", where)
        if area != AREAS.get(dig_text(item, "type")):
            raise bad_request(f"{where}.productType", f"{area} is not the type's own")
    fraction = as_object(item.get("fraction"), f"{path}.fraction")
    for key in ("numerator", "denominator"):
        integer(fraction, key, f"{path}.fraction")
    return _product(item, path, price=integer(item, "price", path), unit=UNIT_OF[frequency])


def _product(item: JsonObject, path: str, *, price: int, unit: str) -> Product:
    kind = text(item, "type", path)
    if kind not in AREAS:
        raise bad_request(f"{path}.type", "one of " + ", ".join(AREAS))
    category = as_object(item.get("category"), f"{path}.category")
    tags = as_list(item.get("tags") or [], f"{path}.tags")
    return Product(
        id=text(item, "name", path),
        category=text(category, "name", f"{path}.category"),
        provider=text(category, "provider", f"{path}.category"),
        price_per_unit=price,
        unit=unit,
        cpu=integer_or(item, "cpu", path, 0),
        memory_gib=integer_or(item, "memoryInGigs", path, 0),
        gpu=integer_or(item, "gpu", path, 0),
        description=dig_text(item, "description"),
        tags=tuple(tag for tag in tags if isinstance(tag, str)),
        kind=kind,
        registered=item,
    )
