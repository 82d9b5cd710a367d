"""`serai licenses payment` and `serai licenses register`: an operator's word on money, and on a license that UCloud refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text
from serai.licenses.v1 import license_servers_service_pb2 as pb
from serai.licenses.v1.license_servers_service_pb2_grpc import LicenseServersServiceStub

from serai_server.cli import output
from serai_server.cli.client import CALL_S, service_of
from serai_server.cli.options import config_option, json_option, server_of, socket_option

_WHAT = {
    "OPEN": "not charged yet: it was never ready while UCloud knew it",
    "ASKED": "UCloud is asked to charge it and has not answered",
    "PAID": "paid, or nothing to pay",
    "UNSURE": "UCloud's answer does not say whether it was paid; it can be used meanwhile",
    "UNPAID": "UCloud said that the wallet could not pay; it cannot be used",
    "AGAIN": "was not paid; UCloud is asked once more and has not answered",
}
_COLOURS = {"PAID": "green", "UNPAID": "red", "UNSURE": "yellow", "AGAIN": "yellow"}


@click.command("payment")
@click.argument("license_id", metavar="[LICENSE]", default="")
@click.option("--paid", is_flag=True, help="Take it for paid: it can be used again.")
@click.option("--charge-again", is_flag=True, help="Have UCloud asked once more. Look first what it has taken already.")
@json_option
@config_option
@socket_option
def payment(*, license_id: str, paid: bool, charge_again: bool, as_json: bool, config: Path, socket: Path | None) -> None:
    """What became of a license's charge; without LICENSE, all that are UNPAID or UNSURE.

    With core.generation "2026" these are asked again every hour. With "2021" never: UCloud takes what is left of a wallet that is too
    small, and calls a charge that it has seen unpaid. Look at the owner's transactions in UCloud, then decide.

    \b
    serai licenses payment
    serai licenses payment 5123
    serai licenses payment 5123 --paid
    serai licenses payment 5123 --charge-again
    """
    if paid and charge_again:
        raise click.UsageError("--paid and --charge-again exclude each other")
    if not license_id and (paid or charge_again):
        raise click.UsageError("--paid and --charge-again need a license")
    with service_of(LicenseServersServiceStub, server_of(config, socket)) as service:
        if not license_id:
            _show_all(service.ListPayments(pb.ListPaymentsRequest(), timeout=CALL_S).payments, as_json=as_json)
            return
        if paid or charge_again:
            decision = pb.PAYMENT_DECISION_PAID if paid else pb.PAYMENT_DECISION_CHARGE_AGAIN
            found = service.SetPayment(pb.SetPaymentRequest(license_id=license_id, decision=decision), timeout=CALL_S).payment
        else:
            found = service.GetPayment(pb.GetPaymentRequest(license_id=license_id), timeout=CALL_S).payment
    if as_json:
        output.print_json(_json(found))
    else:
        output.console().print(_card(found))


@click.command("register")
@click.argument("license_id", metavar="LICENSE")
@json_option
@config_option
@socket_option
def register(*, license_id: str, as_json: bool, config: Path, socket: Path | None) -> None:
    """Have a license registered at UCloud that UCloud refused, or that was made with licenses.register_at_core = false.

    UCloud is asked first whether it has the license. What comes of it stands in `serai licenses show`.

    \b
    serai licenses register 1000000000000017
    """
    with service_of(LicenseServersServiceStub, server_of(config, socket)) as service:
        service.RegisterAgain(pb.RegisterAgainRequest(license_id=license_id), timeout=CALL_S)
    if as_json:
        output.print_json({})
    else:
        click.echo(f"license {license_id} is being registered; `serai licenses show {license_id}` tells what UCloud says", err=True)


def _show_all(found: Sequence[pb.LicensePayment], *, as_json: bool) -> None:
    if as_json:
        output.print_json({"payments": [_json(one) for one in found]})
        return
    console = output.console()
    if not found:
        console.print("every charge is settled or on its way")
        return
    rows = [
        (
            Text(output.clean(one.license_id)),
            _coloured(one.state),
            Text(output.clean(one.product)),
            Text(output.clean(one.owner.created_by)),
            Text(output.clean(one.owner.project)),
            Text(str(one.attempts)),
            Text(output.when(one.changed_at_ms)),
        )
        for one in found
    ]
    columns = ("LICENSE", "PAYMENT", "PRODUCT", "OWNER", "PROJECT", "ATTEMPTS", "SINCE")
    console.print(output.fitted(columns, rows, ("PROJECT", "SINCE"), output.room(console)))


def _card(found: pb.LicensePayment) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    owner = found.owner
    for name, value in (
        ("license", Text(output.clean(found.license_id))),
        ("at UCloud", Text(output.clean(found.core_id or found.license_id))),
        ("payment", _coloured(found.state)),
        ("", Text(_WHAT.get(_state(found.state), ""))),
        ("attempts", Text(str(found.attempts))),
        ("since", Text(output.when(found.changed_at_ms) if found.changed_at_ms else "never")),
        ("product", Text(output.clean(found.product))),
        ("owner", Text(output.clean(owner.created_by + (f", project {owner.project}" if owner.project else "")))),
        ("again", Text("by itself, every hour" if found.repeats else "only when an operator says so")),
    ):
        table.add_row(Text(name, style="dim"), value)
    return table


def _json(found: pb.LicensePayment) -> output.Json:
    return {
        "id": found.license_id,
        "core_id": found.core_id or None,
        "product": found.product,
        "owner": {"created_by": found.owner.created_by, "project": found.owner.project or None},
        "payment": _state(found.state),
        "attempts": found.attempts,
        "changed_at_ms": found.changed_at_ms,
        "repeats": found.repeats,
    }


def _coloured(state: pb.LicensePaymentState.ValueType) -> Text:
    return Text(_state(state), style=_COLOURS.get(_state(state), ""))


def _state(state: pb.LicensePaymentState.ValueType) -> str:
    return pb.LicensePaymentState.Name(state).removeprefix("LICENSE_PAYMENT_STATE_")
