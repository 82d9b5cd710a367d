"""Who has something to show at a socket: a job that runs until the end, sessions at it, and an operator's cookie for the console."""

from __future__ import annotations

from dataclasses import dataclass

import grpc.aio
from fakes.raw_http import request, say
from serai.sessions.v1 import sessions_service_pb2 as pb2
from serai.sessions.v1 import sessions_service_pb2_grpc
from serai_devcore.applications import EXAMPLE_PRODUCT, Application, JobRequest, word

from fuzz.site import Site

_HANGS = Application("hang", "1.0.0", "Hang", "Runs until it is stopped", "none", (word("hang"),), kind="VNC", password="x")
_SHELLS, _DESKTOPS = 6, 3


@dataclass(frozen=True, slots=True)
class Visit:
    """What may be shown."""

    job_id: str
    shells: tuple[str, ...]
    """Secrets of sessions."""
    desktops: tuple[str, ...]
    cookie: str
    """`name=value`."""


async def visit(serai: Site) -> Visit:
    """Starts the job and opens everything."""
    sent = await serai.core.submit(JobRequest(_HANGS, EXAMPLE_PRODUCT))
    await serai.core.until(lambda: serai.core.jobs[sent.job_id].state == "RUNNING", 60)
    async with grpc.aio.insecure_channel(f"unix:{serai.socket}") as channel:
        service = sessions_service_pb2_grpc.SessionsServiceStub(channel)

        async def opened(kind: pb2.SessionKind.ValueType, job_id: str = "") -> str:
            return (await service.Open(pb2.OpenRequest(kind=kind, job_id=job_id))).secret

        shells = [await opened(pb2.SESSION_KIND_SHELL, sent.job_id) for _ in range(_SHELLS)]
        desktops = [await opened(pb2.SESSION_KIND_VNC, sent.job_id) for _ in range(_DESKTOPS)]
        secret = await opened(pb2.SESSION_KIND_CONSOLE)
    answer = await say(serai.port, request("GET", f"/console/open/{secret}"))
    return Visit(sent.job_id, tuple(shells), tuple(desktops), answer.headers["set-cookie"].partition(";")[0])
