"""`serai licenses list` and `serai licenses show`: the licenses that users have, as the operator sees them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text
from serai.core.v1.resources_pb2 import Permission
from serai.licenses.v1 import licenses_service_pb2 as pb
from serai.licenses.v1.license_pb2 import JobBindKind, License, LicenseState, LicenseUpdate
from serai.licenses.v1.licenses_service_pb2_grpc import LicensesServiceStub

from serai_server.cli import output
from serai_server.cli.client import CALL_S, service_of
from serai_server.cli.exits import CliError, Exit
from serai_server.cli.options import config_option, json_option, server_of, socket_option

_STATE = "LICENSE_STATE_"
_PAGE = 250
_USES = {"BIND": "uses it", "UNBIND": "does not use it any more"}
_COLOURS = {"READY": "green", "PREPARING": "yellow", "UNAVAILABLE": "red"}


@click.command("list")
@click.option("--owner", default="", help="Only licenses that this UCloud user made.")
@click.option("--product", default="", metavar="CATEGORY/ID", help="Only licenses of this product.")
@click.option("--text", default="", help="Only licenses with this text in an id, product, owner or status.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(min=0), help="Most licenses to show; 0 = all.")
@json_option
@config_option
@socket_option
def list_licenses(*, owner: str, product: str, text: str, limit: int, as_json: bool, config: Path, socket: Path | None) -> None:
    """Licenses that users have, newest first.

    \b
    serai licenses list --product licenses/solver
    serai licenses list --text "does not answer" --limit 0 --json | jq -r '.licenses[].id'
    """
    category, _, name = product.partition("/")
    if product and not (category and name):
        raise CliError(f"--product {product!r} is not a product like CATEGORY/ID", Exit.USAGE)
    flags = pb.LicenseIncludeFlags(filter_created_by=owner, filter_product_category=category, filter_product_id=name)
    with service_of(LicensesServiceStub, server_of(config, socket)) as service:
        found = [one for one, _ in zip(_pages(service, flags, text), range(limit or 2**62), strict=False)]
        if product and not found:
            _check_sold(service, product)
    if as_json:
        output.print_json({"licenses": [license_json(one) for one in found]})
    elif found:
        console = output.console()
        console.print(_table(found, output.room(console)))
    else:
        output.console().print("no licenses")


@click.command("show")
@click.argument("license_id", metavar="LICENSE")
@json_option
@config_option
@socket_option
def show_license(license_id: str, *, as_json: bool, config: Path, socket: Path | None) -> None:
    """All of one license: state, jobs, permissions of others, and its history. UCloud's id of it will do.

    \b
    serai licenses show 5123
    """
    flags = pb.LicenseIncludeFlags(include_others=True, include_updates=True)
    with service_of(LicensesServiceStub, server_of(config, socket)) as service:
        found = service.Retrieve(pb.RetrieveRequest(id=license_id, flags=flags), timeout=CALL_S).license
    if as_json:
        output.print_json(license_json(found))
        return
    console = output.console()
    console.print(_card(found))
    console.print(_history(found.updates))


def _check_sold(service: LicensesServiceStub, product: str) -> None:
    """Raises CliError. Licenses of what is not sold any more are shown all the same, while there are any."""
    answer = service.RetrieveProducts(pb.RetrieveProductsRequest(), timeout=CALL_S).products_by_provider
    sold = [f"{one.product.category.name}/{one.product.name}" for provider in answer.values() for one in provider.supports]
    if product not in sold:
        there = ", ".join(sold[:10]) or "none"
        raise CliError(f"no license product {product} is in the settings ([[licenses.products]]; there: {there})", Exit.USAGE)


def license_json(found: License) -> output.Json:
    product, owner = found.specification.product, found.owner
    return {
        "id": found.id,
        "core_id": found.core_id or None,
        "state": _state(found.status.state),
        "product": output.product_json(product),
        "owner": {"created_by": owner.created_by, "project": owner.project or None},
        "created_at_ms": found.created_at,
        "bound_to": list(found.status.bound_to),
        "others": [
            {
                "user": entry.entity.user.username or None,
                "project": entry.entity.project_group.project_id or None,
                "group": entry.entity.project_group.group or None,
                "permissions": [Permission.Name(p).removeprefix("PERMISSION_") for p in entry.permissions],
            }
            for entry in found.permissions.others
        ],
        "updates": [
            {
                "at_ms": update.timestamp,
                "state": _state(update.state) if update.HasField("state") else None,
                "status": update.status or None,
                "binding": _bind(update) if update.HasField("binding") else None,
                "job": update.binding.job or None,
            }
            for update in found.updates
        ],
    }


def _pages(service: LicensesServiceStub, flags: pb.LicenseIncludeFlags, text: str) -> Iterator[License]:
    token = ""
    while True:
        if text:
            searched = pb.SearchRequest(flags=flags, query=text, items_per_page=_PAGE, next=token or None)
            page: pb.SearchResponse | pb.BrowseResponse = service.Search(searched, timeout=CALL_S)
        else:
            page = service.Browse(pb.BrowseRequest(flags=flags, items_per_page=_PAGE, next=token or None), timeout=CALL_S)
        yield from page.items
        token = page.next
        if not token:
            return


def _table(found: Sequence[License], room: int | None) -> Table:
    rows = [
        (
            Text(output.clean(one.id)),
            _coloured(one.status.state),
            Text(output.clean(f"{one.specification.product.category}/{one.specification.product.id}")),
            Text(output.clean(one.owner.created_by)),
            Text(output.clean(one.owner.project)),
            Text(output.when(one.created_at)),
            Text(output.clean(", ".join(one.status.bound_to))),
        )
        for one in found
    ]
    return output.fitted(("LICENSE", "STATE", "PRODUCT", "OWNER", "PROJECT", "CREATED", "JOBS"), rows, ("CREATED", "PROJECT"), room)


def _card(found: License) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    product, owner = found.specification.product, found.owner
    others = [
        f"{e.entity.user.username or e.entity.project_group.group} "
        f"({', '.join(Permission.Name(p).removeprefix('PERMISSION_') for p in e.permissions)})"
        for e in found.permissions.others
    ]
    for name, value in (
        ("license", Text(output.clean(found.id))),
        *([("at UCloud", Text(output.clean(found.core_id)))] if found.core_id else []),
        ("state", _coloured(found.status.state)),
        ("product", Text(output.clean(output.product_name(product)))),
        ("owner", Text(output.clean(owner.created_by + (f", project {owner.project}" if owner.project else "")))),
        ("created", Text(output.when(found.created_at))),
        ("jobs", Text(output.clean(", ".join(found.status.bound_to)) or "none")),
        ("others", Text(output.clean(", ".join(others)) or "nobody")),
    ):
        table.add_row(Text(name, style="dim"), value)
    return table


def _history(updates: Sequence[LicenseUpdate]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("AT", "STATE", "WORDS"):
        table.add_column(heading)
    for update in updates:
        words = f"job {update.binding.job} {_USES[_bind(update)]}" if update.HasField("binding") else update.status
        state = _coloured(update.state) if update.HasField("state") else Text("")
        table.add_row(output.when(update.timestamp), state, Text(output.clean(words)))
    return table


def _coloured(state: LicenseState.ValueType) -> Text:
    return Text(_state(state), style=_COLOURS.get(_state(state), ""))


def _state(state: LicenseState.ValueType) -> str:
    return LicenseState.Name(state).removeprefix(_STATE)


def _bind(update: LicenseUpdate) -> str:
    return JobBindKind.Name(update.binding.kind).removeprefix("JOB_BIND_KIND_")
