"""`serai products`: the machine types and licenses of the settings, and Core told of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import click
import msgspec
from rich.table import Table
from rich.text import Text
from serai_gateway.clock import SystemClock
from serai_gateway.codec import Codec
from serai_gateway.control.calls import Calls
from serai_gateway.control.product_forms import Product, Sold, SoldLicense, request_of
from serai_gateway.control.products import PATHS, Area, CoreProducts, Known, ProductsError, Pushed, Standing, standing
from serai_gateway.control.transport import HttpTransport
from serai_gateway.tokens import Tokens

from serai_server.cli import output
from serai_server.cli.config import Settings
from serai_server.cli.exits import CliError, Exit
from serai_server.cli.log_setup import only_errors
from serai_server.cli.options import config_option, json_option, settings_or_exit
from serai_server.licenses.products import LicenseProduct
from serai_server.settings import ProductSettings

_AT_CORE = {
    Standing.MISSING: "no",
    Standing.SAME: "yes",
    Standing.DIFFERENT: "differs",
    Standing.CLASH: "clashes",
}
_CLASH = "Core counts this category in another unit or another time and never changes that: give the product a new category"
_PER = {"minute": "per minute", "hour": "per hour", "day": "per day", "unit": "per job"}


@click.group()
def command() -> None:
    """The machine types and licenses that are sold: as the settings have them, and as Core has them."""


@command.command("list")
@click.option("--offline", is_flag=True, help="Do not ask Core.")
@json_option
@config_option
def list_products(*, offline: bool, as_json: bool, config: Path) -> None:
    """The products of the settings, and how they stand at Core.

    AT CORE is "yes", "no", "differs" (`serai products push` changes it), "clashes" (Core can never take it as it is) or "?" (Core cannot be
    asked now).

    \b
    serai products list
    serai products list --offline --json | jq '.products[].id'
    """
    settings = settings_or_exit(config)
    only_errors()
    sold = _all_sold(settings)
    stands: list[Standing | None] = [None] * len(sold)
    if not offline:
        try:
            known = asyncio.run(_ask(settings, sold))
            stands = [standing(one, known.get(_key(one)), settings.core.generation) for one in sold]
        except ProductsError as error:
            click.echo(f"note: Core cannot be asked: {error}", err=True)
    of_machines, of_licenses = stands[: len(settings.products)], stands[len(settings.products) :]
    if as_json:
        machines = [
            {**msgspec.to_builtins(p), "at_core": s.value if s else None} for p, s in zip(settings.products, of_machines, strict=True)
        ]
        licenses = [
            {**msgspec.to_builtins(p), "at_core": s.value if s else None}
            for p, s in zip(settings.licenses.products, of_licenses, strict=True)
        ]
        output.print_json({"products": machines, "licenses": licenses})
        return
    table = _table("PRODUCT", "CATEGORY", "PROVIDER", "CPU", "MEMORY", "GPU", "PRICE", "AT CORE")
    for product, stand in zip(settings.products, of_machines, strict=True):
        price = f"{product.price_per_unit / 1_000_000:g} kr {_PER[product.price_unit]}"
        machine = (str(product.cpu), f"{product.memory_gib:g} GiB", str(product.gpu))
        _add_row(table, product.id, product.category, product.provider, *machine, price, _words_of(stand))
    for license_, stand in zip(settings.licenses.products, of_licenses, strict=True):
        price = _license_price(license_.price_per_unit, settings)
        _add_row(table, license_.id, license_.category, license_.provider, "-", "-", "-", price, _words_of(stand))
    output.console().print(table)


def _words_of(stand: Standing | None) -> str:
    return "?" if stand is None else _AT_CORE[stand]


def _license_price(price: int, settings: Settings) -> str:
    """Today's Core counts licenses and not kroner."""
    return f"{price / 1_000_000:g} kr per license" if settings.core.generation == "2021" else f"{price} per license"


def _add_row(table: Table, *cells: str) -> None:
    table.add_row(*(Text(output.clean(cell)) for cell in cells))


@command.command()
@click.option("--dry-run", is_flag=True, help="Print what Core would be told, and tell it nothing.")
@json_option
@config_option
def push(*, dry_run: bool, as_json: bool, config: Path) -> None:
    """Tell Core of the products of the settings; may be done again at any time.

    What Core has already as it is in the settings is left alone; what differs is changed there (Core of 2021 keeps the old one as an
    earlier version). Nothing is ever removed. Exit code 1 when Core refuses one.

    \b
    serai products push --dry-run
    serai products push
    """
    settings = settings_or_exit(config)
    only_errors()
    sold = _all_sold(settings)
    if settings.core.generation == "2026":
        _refuse_mixed(sold)
    if dry_run:
        _print_request(settings, sold, as_json=as_json)
        return
    try:
        results = asyncio.run(_push(settings, sold))
    except ProductsError as error:
        raise CliError(f"Core cannot be told: {error}") from error
    if as_json:
        rows = [
            {"id": one.id, "category": one.category, "provider": one.provider, "type": _type(one), "outcome": outcome, "why": why or None}
            for one, outcome, why in results
        ]
        output.print_json({"products": rows})
    else:
        table = _table("PRODUCT", "CATEGORY", "OUTCOME")
        for one, outcome, why in results:
            words = f"{_OUTCOMES[outcome]}: {why}" if why else _OUTCOMES[outcome]
            _add_row(table, one.id, one.category, words)
        output.console().print(table)
    refused = sum(outcome == "refused" for _, outcome, _ in results)
    if refused:
        raise CliError(f"Core does not have {refused} of {len(results)} products as they are in the settings")


_OUTCOMES = {"registered": "registered", "changed": "changed", "there": "is there already", "refused": "refused"}
_Result = tuple[Product, str, str]
"""Product, outcome, and why it was refused."""


async def _ask(settings: Settings, sold: Iterable[Product]) -> dict[tuple[str, str, str], Known]:
    """What Core has, by provider, category and name. ProductsError."""
    async with _at_core(settings) as core:
        kinds: dict[tuple[str, Area], None] = dict.fromkeys((one.provider, _AREAS[_type(one)]) for one in sold)
        found = [(provider, await core.known(provider, area)) for provider, area in kinds]
    return {(provider, *key): known for provider, products in found for key, known in products.items()}


async def _push(settings: Settings, sold: Iterable[Product]) -> list[_Result]:
    """One call for each product, so that one that Core refuses does not take the others with it. ProductsError."""
    known = await _ask(settings, sold)
    results: list[_Result] = []
    async with _at_core(settings) as core:
        for one in sold:
            match standing(one, known.get(_key(one)), settings.core.generation):
                case Standing.SAME:
                    results.append((one, "there", ""))
                case Standing.CLASH:
                    results.append((one, "refused", _CLASH))
                case Standing.MISSING:
                    results.append((one, *_outcome(await core.push(one), "registered")))
                case Standing.DIFFERENT:
                    results.append((one, *_outcome(await core.push(one), "changed")))
    return results


def _outcome(pushed: Pushed, done: str) -> tuple[str, str]:
    if pushed.refused:
        return "refused", pushed.refused
    return ("there" if pushed.is_there else done), ""


@asynccontextmanager
async def _at_core(settings: Settings) -> AsyncGenerator[CoreProducts]:
    codec, core = Codec(), settings.core
    async with HttpTransport(core.url, timeout_ms=core.timeout_ms) as transport:
        tokens = Tokens(transport, codec, Path(core.refresh_token_file), SystemClock(), settings.provider.names)
        yield CoreProducts(Calls(transport, tokens), codec, core.generation)


def _sold(product: ProductSettings) -> Sold:
    return Sold(
        id=product.id,
        category=product.category,
        provider=product.provider,
        cpu=product.cpu,
        # Core has whole GiB only; never more than a replica gets, and 0 would mean that nobody knows.
        memory_in_gigs=max(1, int(product.memory_gib)),
        gpu=product.gpu,
        price_unit=product.price_unit,
        price=product.price_per_unit,
    )


def _key(product: Product) -> tuple[str, str, str]:
    return product.provider, product.category, product.id


def _all_sold(settings: Settings) -> list[Product]:
    """Machine types first, then licenses, each in the order of the settings."""
    return [*map(_sold, settings.products), *map(_sold_license, settings.sold_licenses())]


def _sold_license(product: LicenseProduct) -> SoldLicense:
    return SoldLicense(product.id, product.category, product.provider, product.description, product.tags, product.price)


def _type(product: Product) -> str:
    """In Core's words."""
    return "license" if isinstance(product, SoldLicense) else "compute"


_AREAS: dict[str, Area] = {"compute": "COMPUTE", "license": "LICENSE"}


def _refuse_mixed(sold: Iterable[Product]) -> None:
    """Today's Core counts a whole category in one way."""
    first_of: dict[tuple[str, str], Product] = {}
    for one in sold:
        first = first_of.setdefault((one.provider, one.category), one)
        if isinstance(first, Sold) and isinstance(one, Sold):
            difference = "with different price_unit" if first.price_unit != one.price_unit else ""
        else:
            difference = "one of them a machine type and the other a license" if type(first) is not type(one) else ""
        if difference:
            raise CliError(
                f"products {first.id} and {one.id} are in one category, {one.category}, {difference}; "
                "today's Core counts a category in one way: give one of them a category of its own",
                Exit.USAGE,
            )


def _print_request(settings: Settings, sold: list[Product], *, as_json: bool) -> None:
    path = PATHS[settings.core.generation]
    body = msgspec.json.decode(Codec().write(request_of(sold, settings.core.generation)))
    if as_json:
        output.print_json({"path": path, "body": body})
        return
    click.echo(f"POST {settings.core.url.rstrip('/')}{path}", err=True)
    output.print_json(body)


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
