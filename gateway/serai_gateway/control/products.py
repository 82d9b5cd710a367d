"""What we sell, as Core is told of it, and as Core has it.

2021 (facts 2021 §8.4) has a price for each unit of time in millionths of a krone; a product that is sent again becomes another version of
itself. Today's Core (facts today §2 step 9, §7) counts each category in one unit of accounting and one frequency, which can never change.
We count in kroner there too: a unit that is shown divided by a million is exactly the price of 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal
from urllib.parse import urlencode

import msgspec
from google.protobuf.message import Message
from serai.control.v1 import control_pb2
from serai.core.v1 import resources_pb2
from serai.core.v1.resources_pb2 import ProductPriceUnit

from serai_gateway.codec import Codec
from serai_gateway.control.calls import Calls, words_of
from serai_gateway.control.transport import Answer, CoreUnreachable
from serai_gateway.settings import Generation
from serai_gateway.tokens import TokenError

PATHS: dict[Generation, str] = {"2021": "/api/products", "2026": "/api/products/v2"}
PriceUnit = Literal["minute", "hour", "day", "unit"]
_MOST_PAGES = 1_000
_UNITS: dict[PriceUnit, tuple[ProductPriceUnit.ValueType, control_pb2.AccountingFrequency.ValueType]] = {
    "minute": (resources_pb2.PRODUCT_PRICE_UNIT_CREDITS_PER_MINUTE, control_pb2.ACCOUNTING_FREQUENCY_PERIODIC_MINUTE),
    "hour": (resources_pb2.PRODUCT_PRICE_UNIT_CREDITS_PER_HOUR, control_pb2.ACCOUNTING_FREQUENCY_PERIODIC_HOUR),
    "day": (resources_pb2.PRODUCT_PRICE_UNIT_CREDITS_PER_DAY, control_pb2.ACCOUNTING_FREQUENCY_PERIODIC_DAY),
    "unit": (resources_pb2.PRODUCT_PRICE_UNIT_PER_UNIT, control_pb2.ACCOUNTING_FREQUENCY_ONCE),
}


class ProductsError(Exception):
    """Core cannot be asked or told; the text says why."""


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


class Standing(Enum):
    """How a product of ours stands at Core."""

    MISSING = "missing"
    SAME = "same"
    DIFFERENT = "different"
    CLASH = "clash"
    """Its category is counted in another way, for ever."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """What became of a product that Core was told of; `refused` '' = Core has taken it."""

    is_there: bool = False
    """Core says that it has it already."""
    refused: str = ""


class _Unit(msgspec.Struct):
    name: str = ""
    floatingPoint: bool = False


class _Category(msgspec.Struct):
    name: str
    provider: str
    accountingFrequency: str = ""
    accountingUnit: _Unit | None = None


class Known(msgspec.Struct):
    """A product as Core has it, of either generation."""

    name: str
    category: _Category
    version: int = 0
    cpu: int | None = None
    memoryInGigs: int | None = None
    gpu: int | None = None
    price: int | None = None
    pricePerUnit: int | None = None
    unitOfPrice: str | None = None


class _Page(msgspec.Struct):
    items: list[msgspec.Raw]
    next: str | None = None


_page_decoder = msgspec.json.Decoder(_Page)
_known_decoder = msgspec.json.Decoder(Known)


class CoreProducts:
    """Products at Core, with our token."""

    def __init__(self, calls: Calls, codec: Codec, generation: Generation) -> None:
        self._calls = calls
        self._codec = codec
        self._generation: Generation = generation

    async def known(self, provider: str) -> dict[tuple[str, str], Known]:
        """The machine types that Core has of a provider, by category and name; of several versions the newest. ProductsError."""
        found: dict[tuple[str, str], Known] = {}
        query = {"itemsPerPage": "250", "filterProvider": provider}
        query |= {"filterArea": "COMPUTE"} if self._generation == "2021" else {"filterProductType": "COMPUTE"}
        for _ in range(_MOST_PAGES):
            page = await self._page(f"{PATHS[self._generation]}/browse?{urlencode(query)}")
            for item in page.items:
                try:
                    one = _known_decoder.decode(item)
                except msgspec.MsgspecError:
                    continue  # another kind of product, or one that is none of ours to judge
                key = (one.category.name, one.name)
                if one.category.provider == provider and (key not in found or found[key].version <= one.version):
                    found[key] = one
            if page.next is None:
                return found
            query["next"] = page.next
        raise ProductsError("the pages of Core's products do not end")

    async def push(self, product: Sold) -> Pushed:
        """Tells Core of one product. ProductsError when Core cannot be told."""
        body = self._codec.write(request_of([product], self._generation))
        try:
            answer = await self._calls.post(PATHS[self._generation], body)
        except (CoreUnreachable, TokenError) as error:
            raise ProductsError(str(error)) from error
        if 200 <= answer.status < 300:
            return Pushed()
        if answer.status == 409:
            return Pushed(is_there=True)
        return Pushed(refused=_words(answer))

    async def _page(self, path: str) -> _Page:
        try:
            answer = await self._calls.get(path)
        except (CoreUnreachable, TokenError) as error:
            raise ProductsError(str(error)) from error
        if not 200 <= answer.status < 300:
            raise ProductsError(_words(answer))
        try:
            return _page_decoder.decode(answer.body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ProductsError("Core's answer cannot be read") from error


def standing(product: Sold, known: Known | None, generation: Generation) -> Standing:
    """Compares what is sold with what Core has."""
    if known is None:
        return Standing.MISSING
    unit, frequency = _UNITS[product.price_unit]
    if generation == "2026":
        category = known.category
        is_money = category.accountingUnit is None or category.accountingUnit.floatingPoint
        if category.accountingFrequency != _word(control_pb2.AccountingFrequency.Name(frequency), "ACCOUNTING_FREQUENCY_") or not is_money:
            return Standing.CLASH
        price = known.price
    else:
        price = known.pricePerUnit if known.unitOfPrice == _word(ProductPriceUnit.Name(unit), "PRODUCT_PRICE_UNIT_") else None
    ours = (product.cpu, product.memory_in_gigs, product.gpu, product.price)
    return Standing.SAME if ours == (known.cpu, known.memoryInGigs, known.gpu or 0, price) else Standing.DIFFERENT


def request_of(products: Sequence[Sold], generation: Generation) -> Message:
    """The request that tells Core of these."""
    if generation == "2021":
        return control_pb2.CreateRequest(items=[control_pb2.Product(compute=_of_2021(product)) for product in products])
    return control_pb2.CreateV2Request(items=[control_pb2.ProductV2(compute=_of_2026(product)) for product in products])


def _of_2021(product: Sold) -> resources_pb2.ComputeProduct:
    return resources_pb2.ComputeProduct(
        name=product.id,
        price_per_unit=product.price,
        category=resources_pb2.ProductCategoryId(name=product.category, provider=product.provider),
        description=_description(product),
        cpu=product.cpu,
        memory_in_gigs=product.memory_in_gigs,
        gpu=product.gpu or None,
        version=1,
        unit_of_price=_UNITS[product.price_unit][0],
        charge_type=resources_pb2.CHARGE_TYPE_ABSOLUTE,
        product_type=resources_pb2.PRODUCT_TYPE_COMPUTE,
    )


def _of_2026(product: Sold) -> control_pb2.ComputeProductV2:
    return control_pb2.ComputeProductV2(
        category=control_pb2.ProductCategory(
            name=product.category,
            provider=product.provider,
            product_type=resources_pb2.PRODUCT_TYPE_COMPUTE,
            accounting_unit=control_pb2.AccountingUnit(name="DKK", name_plural="DKK", floating_point=True),
            accounting_frequency=_UNITS[product.price_unit][1],
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


def _word(name: str, prefix: str) -> str:
    return name.removeprefix(prefix)


def _words(answer: Answer) -> str:
    hint = " (is core.generation right?)" if answer.status == 404 else ""
    return f"{answer.status}: {words_of(answer) or 'no words'}{hint}"
