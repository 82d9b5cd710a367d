"""`serai sessions`: who is at running jobs by shell, web page or desktop, as the operator sees it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text
from serai.sessions.v1 import sessions_service_pb2 as pb
from serai.sessions.v1.sessions_service_pb2_grpc import SessionsServiceStub

from serai_server.cli import output
from serai_server.cli.client import CALL_S, service_of
from serai_server.cli.options import config_option, json_option, server_of, socket_option

_KIND = "SESSION_KIND_"


@click.group()
def command() -> None:
    """See who is at running jobs, and end that."""


@command.command("list")
@click.option("--job", "job_id", default="", metavar="JOB_ID", help="Only sessions of this job.")
@json_option
@config_option
@socket_option
def list_sessions(*, job_id: str, as_json: bool, config: Path, socket: Path | None) -> None:
    """Sessions that are open, newest first. Nobody can use a session by what is shown here.

    \b
    serai sessions list
    serai sessions list --job 4711 --json | jq -r '.sessions[].id'
    """
    with service_of(SessionsServiceStub, server_of(config, socket)) as service:
        found = service.List(pb.ListRequest(job_id=job_id), timeout=CALL_S).sessions
    if as_json:
        output.print_json({"sessions": [session_json(one) for one in found]})
    elif found:
        console = output.console()
        console.print(_table(found, output.room(console)))
    else:
        click.echo("no sessions", err=True)


@command.command()
@click.argument("session_ids", nargs=-1, required=True, metavar="SESSION...")
@json_option
@config_option
@socket_option
def close(*, session_ids: tuple[str, ...], as_json: bool, config: Path, socket: Path | None) -> None:
    """End sessions and everything that is open by them; what is not known counts as ended. The job goes on.

    \b
    serai sessions close 8e94a81ea644
    """
    with service_of(SessionsServiceStub, server_of(config, socket)) as service:
        for session_id in session_ids:
            service.Close(pb.CloseRequest(session_id=session_id), timeout=CALL_S)
    if as_json:
        output.print_json({})
    else:
        click.echo("closed", err=True)


def session_json(session: pb.Session) -> output.Json:
    """A session as programs get it."""
    return {
        "id": session.id,
        "kind": _kind(session.kind),
        "job": session.job_id or None,
        "rank": session.rank if session.job_id else None,
        "user": session.user or None,
        "opened_at_ms": session.opened_at_ms,
        "expires_at_ms": session.expires_at_ms or None,
        "attached": session.attached,
    }


def _table(found: Sequence[pb.Session], room: int | None) -> Table:
    rows = [
        (
            Text(output.clean(one.id)),
            Text(_kind(one.kind) + (" (connected)" if one.attached else "")),
            Text(output.clean(one.job_id)),
            Text(str(one.rank) if one.job_id else ""),
            Text(output.clean(one.user)),
            Text(output.when(one.opened_at_ms)),
            Text(output.when(one.expires_at_ms) or "with its shell"),
        )
        for one in found
    ]
    return output.fitted(("SESSION", "KIND", "JOB", "RANK", "USER", "OPENED", "EXPIRES"), rows, ("OPENED", "USER"), room)


def _kind(kind: pb.SessionKind.ValueType) -> str:
    return pb.SessionKind.Name(kind).removeprefix(_KIND)
