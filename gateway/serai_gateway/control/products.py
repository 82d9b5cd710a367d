"""What we sell, as Core has it; the forms in which Core is told of it are in `product_forms`.

In 2021 a product that is sent again becomes another version of itself. Today's Core never changes how a category is counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal
from urllib.parse import urlencode

import msgspec
from serai.control.v1 import control_pb2
from serai.core.v1.resources_pb2 import ProductPriceUnit

from serai_gateway.codec import Codec
from serai_gateway.control.calls import Calls, words_of
from serai_gateway.control.product_forms import UNITS, Product, Sold, SoldLicense, request_of
from serai_gateway.control.transport import Answer, CoreUnreachable
from serai_gateway.settings import Generation
from serai_gateway.tokens import TokenError

Area = Literal["COMPUTE", "LICENSE"]
PATHS: dict[Generation, str] = {"2021": "/api/products", "2026": "/api/products/v2"}
_MOST_PAGES = 1_000


class ProductsError(Exception):
    """Core cannot be asked or told; the text says why."""


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
    description: str = ""
    tags: tuple[str, ...] = ()


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

    async def known(self, provider: str, area: Area) -> dict[tuple[str, str], Known]:
        """The products of a kind that Core has of a provider, by category and name; of several versions the newest. ProductsError."""
        found: dict[tuple[str, str], Known] = {}
        query = {"itemsPerPage": "250", "filterProvider": provider}
        query |= {"filterArea": area} if self._generation == "2021" else {"filterProductType": area}
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

    async def push(self, product: Product) -> Pushed:
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


def standing(product: Product, known: Known | None, generation: Generation) -> Standing:
    """Compares what is sold with what Core has."""
    if known is None:
        return Standing.MISSING
    return _of_license(product, known, generation) if isinstance(product, SoldLicense) else _of_machine(product, known, generation)


def _of_license(product: SoldLicense, known: Known, generation: Generation) -> Standing:
    if generation == "2021":
        ours = (product.price, "PER_UNIT", product.description, product.tags)
        return Standing.SAME if ours == (known.pricePerUnit, known.unitOfPrice, known.description, known.tags) else Standing.DIFFERENT
    if known.category.accountingFrequency != "ONCE":
        return Standing.CLASH
    if (product.price, product.description) == (known.price, known.description):
        return Standing.SAME
    # An operator may have made the category in kroner; it would have to be told of as it is.
    unit = known.category.accountingUnit
    return Standing.DIFFERENT if unit is None or not unit.floatingPoint else Standing.CLASH


def _of_machine(product: Sold, known: Known, generation: Generation) -> Standing:
    unit, frequency = UNITS[product.price_unit]
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


def _word(name: str, prefix: str) -> str:
    return name.removeprefix(prefix)


def _words(answer: Answer) -> str:
    hint = " (is core.generation right?)" if answer.status == 404 else ""
    return f"{answer.status}: {words_of(answer) or 'no words'}{hint}"
