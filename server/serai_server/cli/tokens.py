"""`serai tokens`: what tools show to be let in, as the operator makes it and takes it back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text
from serai.access.v1 import access_pb2
from serai.events.v1 import events_service_pb2
from serai.events.v1.events_service_pb2_grpc import EventsServiceStub
from serai.tokens.v1 import tokens_service_pb2 as pb
from serai.tokens.v1.tokens_service_pb2_grpc import TokensServiceStub

from serai_server.cli import output
from serai_server.cli.client import CALL_S, service_of
from serai_server.cli.options import config_option, json_option, server_of, socket_option

_ROLES = {"viewer": access_pb2.ROLE_VIEWER, "operator": access_pb2.ROLE_OPERATOR, "admin": access_pb2.ROLE_ADMIN}
_UNITS_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000, "y": 31_536_000_000}
_LIFETIME = re.compile(r"([1-9][0-9]{0,5})([mhdwy])").fullmatch


class _Lifetime(click.ParamType[int]):
    name = "TIME"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = _LIFETIME(str(value))
        if found is None:
            self.fail(f"{value!r} is not a time like 90m, 12h, 30d, 8w or 1y", param, ctx)
        return int(found[1]) * _UNITS_MS[found[2]]


@click.group()
def command() -> None:
    """Let tools in: make tokens, see them, take them back."""


@command.command()
@click.option("--role", required=True, type=click.Choice(list(_ROLES)), help="What its holder may do.")
@click.option("--project", default="", help="The one project whose jobs its holder may see and touch.")
@click.option(
    "--expires", type=_Lifetime(), metavar="TIME", help="How long it can be used: 90m, 12h, 30d, 8w, 1y. Without: until it is revoked."
)
@click.option("--name", default="", help="What it is for, so that people know later.")
@json_option
@config_option
@socket_option
def create(*, role: str, project: str, expires: int | None, name: str, as_json: bool, config: Path, socket: Path | None) -> None:
    """Make a token. It is written to stdout, this once; nothing else is.

    \b
    (umask 077; serai tokens create --role viewer --expires 30d --name dashboard > dashboard.token)
    serai tokens create --role operator --project 4f1a --name ci
    """
    request = pb.CreateRequest(name=name, role=_ROLES[role], project=project, lifetime_ms=expires)
    with service_of(TokensServiceStub, server_of(config, socket)) as service:
        made = service.Create(request, timeout=CALL_S)
    if as_json:
        output.print_json({**token_json(made.token), "token": made.secret})
        return
    click.echo(made.secret)
    click.echo(f"token {made.token.id} may {_may(made.token)}; it is shown this once", err=True)


@command.command("list")
@click.option("--all", "every", is_flag=True, help="Also those that have expired or were revoked.")
@json_option
@config_option
@socket_option
def list_tokens(*, every: bool, as_json: bool, config: Path, socket: Path | None) -> None:
    """Tokens that can be used, newest first. Nobody can get in by what is shown here.

    \b
    serai tokens list
    serai tokens list --all --json | jq '.tokens[] | select(.last_used_day_ms == null)'
    """
    with service_of(TokensServiceStub, server_of(config, socket)) as service:
        found = service.List(pb.ListRequest(all=every), timeout=CALL_S).tokens
    if as_json:
        output.print_json({"tokens": [token_json(one) for one in found]})
    elif found:
        console = output.console()
        console.print(_table(found, output.room(console)))
    else:
        click.echo("no tokens", err=True)


@command.command()
@click.argument("token_ids", nargs=-1, required=True, metavar="TOKEN_ID...")
@json_option
@config_option
@socket_option
def revoke(*, token_ids: tuple[str, ...], as_json: bool, config: Path, socket: Path | None) -> None:
    """Take tokens back: they are refused from now on, and what was being read or followed with them ends.

    TOKEN_ID is what `list` shows, and what stands between the first two underscores of a token. Its consumers of events stay, and events
    are kept for them, until they are given to another token or dropped.

    \b
    serai tokens revoke 8e94a81ea644
    """
    server = server_of(config, socket)
    with service_of(TokensServiceStub, server) as service:
        found = [service.Revoke(pb.RevokeRequest(token_id=token_id), timeout=CALL_S).token for token_id in token_ids]
    if not as_json:
        click.echo("revoked", err=True)
    with service_of(EventsServiceStub, server) as events:
        readers = events.ListConsumers(events_service_pb2.ListConsumersRequest(), timeout=CALL_S).consumers
    left = {one.id: [reader.name for reader in readers if reader.owner == one.id] for one in found}
    if as_json:
        output.print_json({"tokens": [{**token_json(one), "consumers": left[one.id]} for one in found]})
        return
    for name in (name for names in left.values() for name in names):
        words = (
            f"events are kept for its consumer {name}: `serai events give {name} TOKEN-ID` hands it on, `serai events drop {name}` ends it"
        )
        click.echo(words, err=True)


def token_json(token: pb.Token) -> output.Json:
    """A token as programs get it, without its secret."""
    return {
        "id": token.id,
        "name": token.name or None,
        "role": _role(token),
        "project": token.project or None,
        "created_at_ms": token.created_at_ms,
        "created_by": token.created_by or None,
        "expires_at_ms": token.expires_at_ms or None,
        "last_used_day_ms": token.last_used_day_ms or None,
        "revoked_at_ms": token.revoked_at_ms or None,
    }


def _table(found: Sequence[pb.Token], room: int | None) -> Table:
    rows = [
        (
            Text(output.clean(one.id)),
            Text(_role(one)),
            Text(output.clean(one.project)),
            Text(output.clean(one.name)),
            Text(output.when(one.created_at_ms)),
            Text(_ends(one)),
            Text(output.when(one.last_used_day_ms)[:10] or "never"),
        )
        for one in found
    ]
    return output.fitted(("TOKEN", "ROLE", "PROJECT", "NAME", "MADE", "EXPIRES", "LAST USED"), rows, ("MADE", "NAME"), room)


def _role(token: pb.Token) -> str:
    return access_pb2.Role.Name(token.role).removeprefix("ROLE_").lower()


def _may(token: pb.Token) -> str:
    limit = f" of project {output.clean(token.project)}" if token.project else ""
    return {"viewer": f"look at everything{limit}", "operator": f"run jobs{limit}"}.get(_role(token), "do everything")


def _ends(token: pb.Token) -> str:
    if token.revoked_at_ms:
        return f"revoked {output.when(token.revoked_at_ms)}"
    return output.when(token.expires_at_ms) or "no"
