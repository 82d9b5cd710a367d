"""`serai events`: who reads the log of events, as the operator sees them and puts them out."""

from __future__ import annotations

from collections.abc import Sequence, Set
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text
from serai.events.v1 import events_service_pb2 as pb
from serai.events.v1.events_service_pb2_grpc import EventsServiceStub
from serai.tokens.v1 import tokens_service_pb2
from serai.tokens.v1.tokens_service_pb2_grpc import TokensServiceStub

from serai_server.cli import output
from serai_server.cli.client import CALL_S, service_of
from serai_server.cli.options import config_option, json_option, server_of, socket_option


@click.group()
def command() -> None:
    """See who reads the log of events, give it to another tool, and drop those that read no more."""


@command.command()
@json_option
@config_option
@socket_option
def consumers(*, as_json: bool, config: Path, socket: Path | None) -> None:
    """Consumers by name: whose they are, how far they have read, and what is kept for them. core is UCloud/Core.

    Where the owner is "over", the token was revoked or has expired: give the consumer to another one, or drop it.

    \b
    serai events consumers
    serai events consumers --json | jq '.consumers[] | select(.subscriptions == 0)'
    """
    server = server_of(config, socket)
    with service_of(EventsServiceStub, server) as service:
        found = service.ListConsumers(pb.ListConsumersRequest(), timeout=CALL_S).consumers
    with service_of(TokensServiceStub, server) as tokens:
        live = {one.id for one in tokens.List(tokens_service_pb2.ListRequest(), timeout=CALL_S).tokens}
    over = {one.owner for one in found if one.owner and not one.owner.startswith("certificate ")} - live
    if as_json:
        output.print_json({"consumers": [_json(one, over) for one in found]})
    elif found:
        console = output.console()
        console.print(_table(found, over, output.room(console)))
    else:
        click.echo("no consumers", err=True)


@command.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@config_option
@socket_option
def drop(*, names: tuple[str, ...], config: Path, socket: Path | None) -> None:
    """Forget consumers: nothing is kept for them any more, and who reads by their names is told so. What they had not read is lost to them.

    \b
    serai events drop old-dashboard
    """
    with service_of(EventsServiceStub, server_of(config, socket)) as service:
        for name in names:
            service.DropConsumer(pb.DropConsumerRequest(consumer=name), timeout=CALL_S)
    click.echo("dropped", err=True)


@command.command()
@click.argument("name")
@click.argument("owner")
@config_option
@socket_option
def give(*, name: str, owner: str, config: Path, socket: Path | None) -> None:
    """Make the consumer NAME another tool's, which goes on where the last one was. Whoever reads by that name is told so.

    OWNER is a token's id, "certificate NAME", or "" for nobody but administrators.

    \b
    serai tokens create --role operator --name dashboard     # says the id of the new token
    serai events give dashboard 4f1c2ab0
    """
    with service_of(EventsServiceStub, server_of(config, socket)) as service:
        service.GiveConsumer(pb.GiveConsumerRequest(consumer=name, owner=owner), timeout=CALL_S)
    click.echo("given", err=True)


def _json(one: pb.Consumer, over: Set[str]) -> output.Json:
    return {
        "name": one.name,
        "owner": one.owner or None,
        "owner_over": one.owner in over,
        "settled_to": one.settled_to,
        "unsettled_events": one.unsettled_events,
        "oldest_unsettled_at_ms": one.oldest_unsettled_at_ms or None,
        "last_seen_at_ms": one.last_seen_at_ms or None,
        "subscriptions": one.subscriptions,
    }


def _table(found: Sequence[pb.Consumer], over: Set[str], room: int | None) -> Table:
    rows = [
        (
            Text(output.clean(one.name)),
            Text(output.clean(one.owner) + (" (over)" if one.owner in over else "")),
            Text(str(one.settled_to)),
            Text(str(one.unsettled_events)),
            Text(output.when(one.oldest_unsettled_at_ms)),
            Text("now" if one.subscriptions else output.when(one.last_seen_at_ms)),
        )
        for one in found
    ]
    return output.fitted(("CONSUMER", "OWNER", "READ TO", "LEFT", "OLDEST LEFT", "SEEN"), rows, ("OLDEST LEFT", "OWNER"), room)
