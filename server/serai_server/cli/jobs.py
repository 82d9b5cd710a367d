"""`serai jobs`: what operators ask of a running server, over gRPC."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import click
import grpc
from serai.jobs.v1 import jobs_service_pb2 as pb
from serai.jobs.v1.jobs_service_pb2_grpc import JobsServiceStub

from serai_server.cli import output
from serai_server.cli.changes import extend, resume, suspend
from serai_server.cli.client import CALL_S, service_of
from serai_server.cli.exec import exec_
from serai_server.cli.exits import CliError, Exit
from serai_server.cli.logs import logs
from serai_server.cli.options import config_option, json_option, server_of, socket_option
from serai_server.cli.submit import submit

_PAGE = 500
_MOST_STOPS = 1_000


@click.group()
def command() -> None:
    """Submit jobs, look at them and into them, stop them, give them more time, suspend them."""


for _more in (submit, logs, exec_, extend, suspend, resume):
    command.add_command(_more)


@command.command("list")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(output.state_names(), case_sensitive=False),
    help="Only this state; may be repeated.",
)
@click.option("--owner", default="", help="Only jobs of this UCloud user.")
@click.option("--project", default="", help="Only jobs of this project.")
@click.option("--active", is_flag=True, help="Only jobs that are not over.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(min=0), help="Most jobs to show; 0 = all.")
@json_option
@config_option
@socket_option
def list_jobs(
    *, states: tuple[str, ...], owner: str, project: str, active: bool, limit: int, as_json: bool, config: Path, socket: Path | None
) -> None:
    """Jobs, newest first.

    A narrow terminal gets fewer columns; a pipe gets all, and --json gets everything.

    \b
    serai jobs list --active
    serai jobs list --state FAILURE --owner alice --limit 10
    serai jobs list --json --limit 0 | jq '.jobs[] | select(.replicas > 1) | .id'
    """
    request = pb.ListRequest(states=[output.state_number(s) for s in states], owner=owner, project=project, active_only=active)
    with service_of(JobsServiceStub, server_of(config, socket)) as service:
        reports = [report for report, _ in zip(_pages(service, request, limit), range(limit or 2**62), strict=False)]
    if as_json:
        output.print_json({"jobs": [output.job_json(r) for r in reports]})
    elif reports:
        console = output.console()
        console.print(output.jobs_table(reports, output.room(console)))
    else:
        click.echo("no jobs", err=True)


def _pages(service: JobsServiceStub, request: pb.ListRequest, limit: int) -> Iterator[pb.JobReport]:
    token = ""
    while True:
        request.page_size, request.page_token = min(limit or _PAGE, _PAGE), token
        page = service.List(request, timeout=CALL_S)
        yield from page.jobs
        token = page.next_page_token
        if not token:
            return


@command.command()
@click.argument("job_id")
@json_option
@config_option
@socket_option
def show(job_id: str, as_json: bool, config: Path, socket: Path | None) -> None:
    """All that is known of a job, replica by replica.

    \b
    serai jobs show 4711
    serai jobs show 4711 --json | jq .ranks
    """
    with service_of(JobsServiceStub, server_of(config, socket)) as service:
        report = service.Get(pb.GetRequest(job_id=job_id), timeout=CALL_S).job
    if as_json:
        output.print_json(output.job_json(report))
        return
    console = output.console()
    console.print(output.job_card(report))
    if report.replica_reports:
        console.print()
        console.print(output.replicas_table(report.replica_reports, output.room(console)))


@command.command()
@click.argument("job_ids", nargs=-1, required=True, metavar="JOB_ID...")
@click.option("--wait", is_flag=True, help="Return when the jobs are over.")
@click.option("--timeout", default=60.0, show_default=True, type=click.FloatRange(min=0, min_open=True), help="Longest wait, in seconds.")
@json_option
@config_option
@socket_option
def stop(*, job_ids: tuple[str, ...], wait: bool, timeout: float, as_json: bool, config: Path, socket: Path | None) -> None:
    """Ask for jobs to be stopped. A job that is over already is left as it is.

    Nothing is stopped when one of the jobs is not known. Without --wait the answer comes as soon as the request is stored: from then on
    nothing but time is needed.

    \b
    serai jobs stop 4711 4712
    serai jobs stop 4711 --wait --timeout 120
    """
    unique = list(dict.fromkeys(job_ids))
    if len(unique) > _MOST_STOPS:
        raise CliError(f"at most {_MOST_STOPS} jobs at once", Exit.USAGE)
    until = time.monotonic() + timeout
    with service_of(JobsServiceStub, server_of(config, socket)) as service:
        for job_id in unique:
            service.Get(pb.GetRequest(job_id=job_id), timeout=CALL_S)
        service.Terminate(pb.TerminateRequest(job_ids=unique), timeout=CALL_S)
        reports = [_over(service, i, until) if wait else service.Get(pb.GetRequest(job_id=i), timeout=CALL_S).job for i in unique]
    if as_json:
        output.print_json({"jobs": [output.job_json(r) for r in reports]})
    else:
        console = output.console()
        console.print(output.jobs_table(reports, output.room(console)))


def _over(service: JobsServiceStub, job_id: str, until: float) -> pb.JobReport:
    """The job's last report, once it is final. Raises CliError (NOT_YET)."""
    last = pb.JobReport()
    try:
        for answer in service.Watch(pb.WatchRequest(job_id=job_id), timeout=max(until - time.monotonic(), 0.001)):
            last = answer.job
    except grpc.RpcError as error:
        if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            text = f"job {job_id} is not over yet; its stop is stored and goes on ({output.state_name(last.state)})"
            raise CliError(text, Exit.NOT_YET) from error
        raise
    return last
