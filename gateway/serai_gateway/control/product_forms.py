"""What is sold, in the form in which each generation of Core is told of it.

2021 (facts 2021 §8.4) has a price for each unit of time, or for each license, in millionths of a krone. Today's Core (facts today §2
step 9, §7) counts each category in one unit of accounting and one frequency, which can never change. Machine types are counted in
kroner there too: a unit that is shown divided by a million is exactly the price of 2021. Licenses are counted in licenses, once each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from google.protobuf.message import Message
from serai.control.v1 import control_pb2
from serai.core.v1 import resources_pb2
from serai.core.v1.resources_pb2 import ProductPriceUnit
from serai.licenses.v1 import license_pb2

from serai_gateway.settings import Generation

PriceUnit = Literal["minute", "hour", "day", "unit"]
UNITS: dict[PriceUnit, tuple[ProductPriceUnit.ValueType, control_pb2.AccountingFrequency.ValueType]] = {
    "minute": (resources_pb2.PRODUCT_PRICE_UNIT_CREDITS_PER_MINUTE, control_pb2.ACCOUNTING_FREQUENCY_PERIODIC_MINUTE),
    "hour": (resources_pb2.PRODUCT_PRICE_UNIT_CREDITS_PER_HOUR, control_pb2.ACCOUNTING_FREQUENCY_PERIODIC_HOUR),
    "day": (resources_pb2.PRODUCT_PRICE_UNIT_CREDITS_PER_DAY, control_pb2.ACCOUNTING_FREQUENCY_PERIODIC_DAY),
    "unit": (resources_pb2.PRODUCT_PRICE_UNIT_PER_UNIT, control_pb2.ACCOUNTING_FREQUENCY_ONCE),
}


@dataclass(frozen=True, slots=True)
class Sold:
    """A machine type of the settings."""

    id: str
    category: str
    provider: str
    cpu: int
    memory_in_gigs: int
    gpu: int
    price_unit: PriceUnit
    price: int
    """Millionths of a krone for one unit of one replica."""


@dataclass(frozen=True, slots=True)
class SoldLicense:
    """A license product of the settings."""

    id: str
    category: str
    provider: str
    description: str
    tags: tuple[str, ...]
    price: int
    """Of one license: millionths of a krone to Core of 2021, units of the category to today's."""


Product = Sold | SoldLicense


def request_of(products: Sequence[Product], generation: Generation) -> Message:
    """The request that tells Core of these."""
    if generation == "2021":
        return control_pb2.CreateRequest(items=[_of_2021(product) for product in products])
    return control_pb2.CreateV2Request(items=[_of_2026(product) for product in products])


def _of_2021(product: Product) -> control_pb2.Product:
    if isinstance(product, SoldLicense):
        return control_pb2.Product(license=_license_of_2021(product))
    return control_pb2.Product(compute=_machine_of_2021(product))


def _of_2026(product: Product) -> control_pb2.ProductV2:
    if isinstance(product, SoldLicense):
        return control_pb2.ProductV2(license=_license_of_2026(product))
    return control_pb2.ProductV2(compute=_machine_of_2026(product))


def _machine_of_2021(product: Sold) -> resources_pb2.ComputeProduct:
    return resources_pb2.ComputeProduct(
        name=product.id,
        price_per_unit=product.price,
        category=resources_pb2.ProductCategoryId(name=product.category, provider=product.provider),
        description=_description(product),
        cpu=product.cpu,
        memory_in_gigs=product.memory_in_gigs,
        gpu=product.gpu or None,
        version=1,
        unit_of_price=UNITS[product.price_unit][0],
        charge_type=resources_pb2.CHARGE_TYPE_ABSOLUTE,
        product_type=resources_pb2.PRODUCT_TYPE_COMPUTE,
    )


def _machine_of_2026(product: Sold) -> control_pb2.ComputeProductV2:
    return control_pb2.ComputeProductV2(
        category=control_pb2.ProductCategory(
            name=product.category,
            provider=product.provider,
            product_type=resources_pb2.PRODUCT_TYPE_COMPUTE,
            accounting_unit=control_pb2.AccountingUnit(name="DKK", name_plural="DKK", floating_point=True),
            accounting_frequency=UNITS[product.price_unit][1],
            allow_sub_allocations=True,
        ),
        name=product.id,
        description=_description(product),
        product_type=resources_pb2.PRODUCT_TYPE_COMPUTE,
        price=product.price,
        fraction=control_pb2.Fraction(numerator=1, denominator=1),
        cpu=product.cpu,
        memory_in_gigs=product.memory_in_gigs,
        gpu=product.gpu,
    )


def _description(product: Sold) -> str:
    gpus = f", {product.gpu} GPU" if product.gpu else ""
    return f"{product.cpu} vCPU, {product.memory_in_gigs} GB memory{gpus}"


def _license_of_2021(product: SoldLicense) -> license_pb2.LicenseProduct:
    return license_pb2.LicenseProduct(
        name=product.id,
        price_per_unit=product.price,
        category=resources_pb2.ProductCategoryId(name=product.category, provider=product.provider),
        description=product.description,
        tags=product.tags,
        version=1,
        allow_allocation_requests_from=license_pb2.ALLOCATION_REQUESTS_GROUP_ALL,
        unit_of_price=resources_pb2.PRODUCT_PRICE_UNIT_PER_UNIT,
        charge_type=resources_pb2.CHARGE_TYPE_ABSOLUTE,
        product_type=resources_pb2.PRODUCT_TYPE_LICENSE,
    )


def _license_of_2026(product: SoldLicense) -> control_pb2.LicenseProductV2:
    return control_pb2.LicenseProductV2(
        category=control_pb2.ProductCategory(
            name=product.category,
            provider=product.provider,
            product_type=resources_pb2.PRODUCT_TYPE_LICENSE,
            accounting_unit=control_pb2.AccountingUnit(name="License", name_plural="Licenses"),
            accounting_frequency=control_pb2.ACCOUNTING_FREQUENCY_ONCE,
            allow_sub_allocations=True,
        ),
        name=product.id,
        description=product.description,
        product_type=resources_pb2.PRODUCT_TYPE_LICENSE,
        price=product.price,
        fraction=control_pb2.Fraction(numerator=1, denominator=1),
    )
