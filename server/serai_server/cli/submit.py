"""`serai jobs submit`: a program as a job of the site's own, without UCloud."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from serai.core.v1.resources_pb2 import ProductReference
from serai.jobs.v1 import jobs_service_pb2 as pb
from serai.jobs.v1.jobs_service_pb2_grpc import JobsServiceStub

from serai_server.cli import output
from serai_server.cli.changes import Span
from serai_server.cli.client import CALL_S, service_of
from serai_server.cli.exits import CliError, Exit
from serai_server.cli.options import config_option, json_option, server_of, socket_option


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("program", nargs=-1, required=True, metavar="PROGRAM [ARGUMENT]...")
@click.option("--owner", required=True, metavar="USER", help="UCloud username of whom it is for; the output goes to their drive.")
@click.option("--project", default="", help="Project of the owner, to whose drive the output goes then.")
@click.option("--image", default="", help="The container's image, where jobs run in containers: debian:12.")
@click.option("--product", default="", metavar="[CATEGORY/]NAME", help="The machine type; without, the first that runs such a program.")
@click.option("--replicas", default=1, show_default=True, type=click.IntRange(min=1), help="How many run the program at the same time.")
@click.option(
    "--time-limit", "time_limit_ms", default=0, type=Span(), help="Longest time that it may run: 1h30m, 45m, 90s; without, no limit."
)
@click.option("--env", "environment", multiple=True, metavar="NAME=VALUE", help="An environment variable; may be repeated.")
@click.option("--name", default="", help="For people; part of the output folder's name.")
@click.option(
    "--submission-id", default="", metavar="ID", help="Makes it safe to ask again: the same ID and job once more is the same job."
)
@json_option
@config_option
@socket_option
def submit(
    *,
    program: tuple[str, ...],
    owner: str,
    project: str,
    image: str,
    product: str,
    replicas: int,
    time_limit_ms: int,
    environment: tuple[str, ...],
    name: str,
    submission_id: str,
    as_json: bool,
    config: Path,
    socket: Path | None,
) -> None:
    """Run a program as a job of the site's own, of which UCloud is told nothing.

    Options stand before the program; from its name on, every word is the program's, and no shell is between. Prints the job's id as soon
    as the job is stored; it runs later.

    \b
    serai jobs submit --owner alice --image debian:12 echo Hello
    serai jobs submit --owner alice --replicas 4 --time-limit 2h --env MODE=fast sh -c 'run --mode $MODE'
    serai jobs submit --owner ci --submission-id nightly-2026-03-01 ./nightly     # in a loop until it succeeds: runs once
    serai jobs logs --follow "$(serai jobs submit --owner alice date)"
    """
    request = pb.SubmitRequest(
        owner=owner,
        project=project,
        image=image,
        command=program,
        environment=_environment(environment),
        product=_product(product),
        replicas=replicas,
        time_limit_ms=time_limit_ms,
        name=name,
        submission_id=submission_id,
    )
    with service_of(JobsServiceStub, server_of(config, socket)) as service:
        made = service.Submit(request, timeout=CALL_S)
    if as_json:
        output.print_json({"id": made.job_id, "state": output.state_name(made.state)})
    else:
        click.echo(made.job_id)


def _environment(pairs: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise CliError(f"--env {pair}: expected NAME=VALUE", Exit.USAGE)
        found[name] = value
    return found


def _product(text: str) -> ProductReference | None:
    """None = not named."""
    if not text:
        return None
    parts = text.split("/")
    if len(parts) > 3 or not all(parts):
        raise CliError(f"--product {text}: expected NAME, CATEGORY/NAME or PROVIDER/CATEGORY/NAME", Exit.USAGE)
    provider, category, name = ["", "", *parts][-3:]
    return ProductReference(id=name, category=category, provider=provider)
