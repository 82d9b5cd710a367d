"""`serai products`: the machine types of the settings, and Core told of them."""

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
from serai_gateway.control.products import PATHS, CoreProducts, Known, ProductsError, Pushed, Sold, Standing, request_of, standing
from serai_gateway.control.transport import HttpTransport
from serai_gateway.tokens import Tokens

from serai_server.cli import output
from serai_server.cli.config import Settings
from serai_server.cli.exits import CliError, Exit
from serai_server.cli.log_setup import only_errors
from serai_server.cli.options import config_option, json_option, settings_or_exit
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
    """The machine types that are sold: as the settings have them, and as Core has them."""


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
    sold = [_sold(product) for product in settings.products]
    stands: list[Standing | None] = [None] * len(sold)
    if not offline:
        try:
            known = asyncio.run(_ask(settings, sold))
            stands = [standing(one, known.get(_key(one)), settings.core.generation) for one in sold]
        except ProductsError as error:
            click.echo(f"note: Core cannot be asked: {error}", err=True)
    if as_json:
        rows = [{**msgspec.to_builtins(p), "at_core": s.value if s else None} for p, s in zip(settings.products, stands, strict=True)]
        output.print_json({"products": rows})
        return
    table = _table("PRODUCT", "CATEGORY", "PROVIDER", "CPU", "MEMORY", "GPU", "PRICE", "AT CORE")
    for product, stand in zip(settings.products, stands, strict=True):
        price = f"{product.price_per_unit / 1_000_000:g} kr {_PER[product.price_unit]}"
        memory = f"{product.memory_gib:g} GiB"
        at_core = "?" if stand is None else _AT_CORE[stand]
        cells = (product.id, product.category, product.provider, str(product.cpu), memory, str(product.gpu), price, at_core)
        table.add_row(*(Text(output.clean(cell)) for cell in cells))
    output.console().print(table)


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
    sold = [_sold(product) for product in settings.products]
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
            {"id": one.id, "category": one.category, "provider": one.provider, "outcome": outcome, "why": why or None}
            for one, outcome, why in results
        ]
        output.print_json({"products": rows})
    else:
        table = _table("PRODUCT", "CATEGORY", "OUTCOME")
        for one, outcome, why in results:
            words = f"{_OUTCOMES[outcome]}: {why}" if why else _OUTCOMES[outcome]
            table.add_row(*(Text(output.clean(cell)) for cell in (one.id, one.category, words)))
        output.console().print(table)
    refused = sum(outcome == "refused" for _, outcome, _ in results)
    if refused:
        raise CliError(f"Core does not have {refused} of {len(results)} products as they are in the settings")


_OUTCOMES = {"registered": "registered", "changed": "changed", "there": "is there already", "refused": "refused"}
_Result = tuple[Sold, str, str]
"""Product, outcome, and why it was refused."""


async def _ask(settings: Settings, sold: Iterable[Sold]) -> dict[tuple[str, str, str], Known]:
    """What Core has, by provider, category and name. ProductsError."""
    async with _at_core(settings) as core:
        found = {provider: await core.known(provider) for provider in dict.fromkeys(one.provider for one in sold)}
    return {(provider, *key): known for provider, products in found.items() for key, known in products.items()}


async def _push(settings: Settings, sold: Iterable[Sold]) -> list[_Result]:
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


def _key(product: Sold) -> tuple[str, str, str]:
    return product.provider, product.category, product.id


def _refuse_mixed(sold: Iterable[Sold]) -> None:
    """Today's Core counts a whole category in one way."""
    units: dict[tuple[str, str], Sold] = {}
    for one in sold:
        first = units.setdefault((one.provider, one.category), one)
        if first.price_unit != one.price_unit:
            raise CliError(
                f"products {first.id} and {one.id} are in one category, {one.category}, with different price_unit; "
                "today's Core counts a category in one way: give one of them a category of its own",
                Exit.USAGE,
            )


def _print_request(settings: Settings, sold: list[Sold], *, as_json: bool) -> None:
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
