"""`serai jobs logs`: what a job's programs wrote, byte for byte."""

from __future__ import annotations

import base64
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import click
import grpc
from serai.jobs.v1 import jobs_service_pb2 as pb
from serai.jobs.v1.jobs_service_pb2_grpc import JobsServiceStub

from serai_server.cli import output
from serai_server.cli.client import CALL_S, said, service_of
from serai_server.cli.following import followed
from serai_server.cli.options import config_option, server_of, socket_option

_LONGEST_LINE = 65_536
"""Bytes; a longer line comes in pieces."""
_STREAMS = {"stdout": pb.OUTPUT_STREAM_STDOUT, "stderr": pb.OUTPUT_STREAM_STDERR}
_NAMES = {number: name for name, number in _STREAMS.items()}


@click.command()
@click.argument("job_id")
@click.option("--rank", default=0, show_default=True, type=click.IntRange(min=0), help="Which replica.")
@click.option("--all", "every", is_flag=True, help="Every replica; each line begins with its rank.")
@click.option("--stream", type=click.Choice(tuple(_STREAMS)), help="Only this one, on stdout.")
@click.option("-f", "--follow", is_flag=True, help="Go on until the output ends, also over a restart of the server.")
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object for each piece, a line each.")
@config_option
@socket_option
def logs(
    *, job_id: str, rank: int, every: bool, stream: str | None, follow: bool, as_json: bool, config: Path, socket: Path | None
) -> None:
    """What a job's programs wrote.

    Bytes come out as they were written: the program's stdout on stdout, its stderr on stderr. With --stream the one that was asked for
    is on stdout, whichever it is.

    With -f the output goes on where it stopped when the connection breaks or the server is started anew.

    With --json each line is {"rank", "stream", "offset", "data"}, or "data_base64" in place of "data" for bytes that are no UTF-8 text.

    \b
    serai jobs logs 4711
    serai jobs logs 4711 --rank 2 -f
    serai jobs logs 4711 --stream stderr > errors.txt
    serai jobs logs 4711 --all -f
    """
    request = pb.FollowRequest(job_id=job_id, ranks=[] if every else [rank], follow=follow)
    with service_of(JobsServiceStub, server_of(config, socket)) as service:
        wanted = _only(_followed(service, request) if follow else service.Follow(request, timeout=CALL_S), stream)
        if as_json:
            for chunk in wanted:
                output.print_json_line(_as_json(chunk))
        elif every:
            _with_ranks(wanted, one_stream=stream is not None)
        else:
            for chunk in wanted:
                _write(_target(chunk, one_stream=stream is not None), chunk.data)


def _followed(service: JobsServiceStub, request: pb.FollowRequest) -> Iterator[pb.FollowResponse]:
    """Over cuts and restarts. That there is a server, and the job, is seen first: a command with a mistake must not wait for ever."""
    service.Get(pb.GetRequest(job_id=request.job_id), timeout=CALL_S)
    yield from followed(service.Follow, request, time.sleep, _say_away)


def _say_away(error: grpc.Call) -> None:
    words = error.details() if said(error) is not None else None
    click.echo(f"serai: {words or 'the server does not answer'}; the output goes on when it can (Ctrl-C ends)", err=True)


def _only(chunks: Iterable[pb.FollowResponse], stream: str | None) -> Iterator[pb.FollowResponse]:
    for chunk in chunks:
        if stream is None or chunk.stream == _STREAMS[stream]:
            yield chunk


def _target(chunk: pb.FollowResponse, *, one_stream: bool) -> IO[bytes]:
    to_stderr = chunk.stream == pb.OUTPUT_STREAM_STDERR and not one_stream
    return (sys.stderr if to_stderr else sys.stdout).buffer


def _write(target: IO[bytes], data: bytes) -> None:
    # What a text layer still holds comes first.
    sys.stdout.flush()
    target.write(data)
    target.flush()


def _with_ranks(chunks: Iterable[pb.FollowResponse], *, one_stream: bool) -> None:
    """Whole lines with their rank in front, so that replicas which write at the same time do not cut each other's lines."""
    begun: dict[tuple[int, int], bytes] = {}
    targets: dict[tuple[int, int], IO[bytes]] = {}
    for chunk in chunks:
        key = (chunk.rank, chunk.stream)
        targets[key] = _target(chunk, one_stream=one_stream)
        *whole, rest = (begun.get(key, b"") + chunk.data).split(b"\n")
        if len(rest) > _LONGEST_LINE:  # a line without end must not be kept without end
            whole, rest = [*whole, rest], b""
        begun[key] = rest
        _write(targets[key], b"".join(b"%d| %s\n" % (chunk.rank, line) for line in whole))
    for (rank, _), rest in ((key, rest) for key, rest in begun.items() if rest):
        _write(targets[rank, _], b"%d| %s\n" % (rank, rest))


def _as_json(chunk: pb.FollowResponse) -> output.Json:
    line: dict[str, object] = {"rank": chunk.rank, "stream": _NAMES[chunk.stream], "offset": chunk.offset}
    try:
        line["data"] = chunk.data.decode()
    except UnicodeDecodeError:
        line["data_base64"] = base64.b64encode(chunk.data).decode()
    return line
