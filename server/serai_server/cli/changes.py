"""`serai jobs extend|suspend|resume`: what operators may ask of jobs that run, over the same calls that Core uses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import click
from serai.jobs.v1 import jobs_service_pb2 as pb
from serai.jobs.v1.jobs_service_pb2_grpc import JobsServiceStub

from serai_server.cli import output
from serai_server.cli.client import CALL_S, service_of
from serai_server.cli.exits import CliError, Exit
from serai_server.cli.options import config_option, json_option, server_of, socket_option

_SPAN = re.compile(r"(?:(\d{1,5})h)?(?:(\d{1,5})m)?(?:(\d{1,5})s)?")


class Span(click.ParamType[int]):
    """ "1h30m", "45m", "90s", as ms."""

    name = "span"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = _SPAN.fullmatch(str(value))
        hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found is not None else (0, 0, 0)
        total_s = hours * 3600 + minutes * 60 + seconds
        if not total_s:
            self.fail(f"{value!r} is not a span of time like 1h30m, 45m or 90s", param, ctx)
        return total_s * 1_000


@click.command()
@click.argument("job_ids", nargs=-1, required=True, metavar="JOB_ID...")
@click.option("--by", "added_ms", default=0, type=Span(), help="Time to add to the limit: 1h30m, 45m, 90s.")
@click.option("--to", "time_limit_ms", default=0, type=Span(), help="The limit to have at least, in all; safe to ask again.")
@json_option
@config_option
@socket_option
def extend(job_ids: tuple[str, ...], added_ms: int, time_limit_ms: int, *, as_json: bool, config: Path, socket: Path | None) -> None:
    """Add time to the limits of jobs, all of them or none. Core is told the new limits.

    --by adds once more each time that it is asked; --to gives what is lacking to that much in all, and takes nothing from a job that has
    more.

    \b
    serai jobs extend 4711 --by 1h30m
    serai jobs extend 4711 4712 --to 4h
    """
    if bool(added_ms) == bool(time_limit_ms):
        raise CliError("expected either --by or --to, such as --by 1h30m", Exit.USAGE)
    unique = list(dict.fromkeys(job_ids))
    with service_of(JobsServiceStub, server_of(config, socket)) as service:
        service.Extend(pb.ExtendRequest(job_ids=unique, added_ms=added_ms, time_limit_ms=time_limit_ms), timeout=CALL_S)
        _show(service, unique, as_json=as_json)


@click.command()
@click.argument("job_ids", nargs=-1, required=True, metavar="JOB_ID...")
@json_option
@config_option
@socket_option
def suspend(job_ids: tuple[str, ...], *, as_json: bool, config: Path, socket: Path | None) -> None:
    """Stop every process of running jobs until `serai jobs resume`. They keep their memory and their place on the machine; the time is
    neither billed nor counted against their limit.

    \b
    serai jobs suspend 4711 4712
    """
    unique = list(dict.fromkeys(job_ids))
    with service_of(JobsServiceStub, server_of(config, socket)) as service:
        service.Suspend(pb.SuspendRequest(job_ids=unique), timeout=CALL_S)
        _show(service, unique, as_json=as_json)


@click.command()
@click.argument("job_ids", nargs=-1, required=True, metavar="JOB_ID...")
@json_option
@config_option
@socket_option
def resume(job_ids: tuple[str, ...], *, as_json: bool, config: Path, socket: Path | None) -> None:
    """Have suspended jobs go on.

    \b
    serai jobs resume 4711
    """
    unique = list(dict.fromkeys(job_ids))
    with service_of(JobsServiceStub, server_of(config, socket)) as service:
        service.Unsuspend(pb.UnsuspendRequest(job_ids=unique), timeout=CALL_S)
        _show(service, unique, as_json=as_json)


def _show(service: JobsServiceStub, job_ids: Sequence[str], *, as_json: bool) -> None:
    reports = [service.Get(pb.GetRequest(job_id=job_id), timeout=CALL_S).job for job_id in job_ids]
    if as_json:
        output.print_json({"jobs": [output.job_json(r) for r in reports]})
    else:
        console = output.console()
        console.print(output.jobs_table(reports, output.room(console)))
