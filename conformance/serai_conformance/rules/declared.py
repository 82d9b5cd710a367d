"""What is declared works, and what is not declared is refused as such: users were told which it is.

What works is opened here only; what comes of it is judged by the rules of its own area.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from serai_conformance.client import Answer
from serai_conformance.documents import items
from serai_conformance.judge import accepted, rule, unsupported
from serai_conformance.model import G2021, G2026, Broken, NotObserved, only
from serai_conformance.sockets import Refused
from serai_conformance.visit import Job, Visit
from serai_conformance.wire import JsonObject, merged

_SEED = "seed Jobs, each call's implementation requirements"
_CODE = "FEATURE_NOT_SUPPORTED_BY_PROVIDER"


def _judge(visit: Visit, flag: str, answer: Answer) -> None:
    if visit.support.has(flag):
        if not answer.ok:
            raise Broken(f"{flag} is declared, and {answer.words}")
        accepted(answer)
    else:
        unsupported(answer)


def session_item(visit: Visit, job: Job, rank: int, kind: str) -> JsonObject:
    """What Core asks for when a session is to be opened."""
    return merged({"job": visit.document_of(job), "rank": rank, "sessionType": kind}, {"target": None} if visit.todays else {})


async def open_session(visit: Visit, job: Job, kind: str) -> Answer:
    """Open a session at rank 0."""
    return await visit.client.post("/jobs/interactiveSession", items(session_item(visit, job, 0, kind)), username="kit")


@rule("declared.timeExtension", f"Extending works where timeExtension is declared, and is refused with {_CODE} where not.", _SEED)
async def time_extension(visit: Visit) -> None:
    job = await visit.talker()
    item: JsonObject = {"job": visit.document_of(job), "requestedTime": {"hours": 0, "minutes": 5, "seconds": 0}}
    _judge(visit, "timeExtension", await visit.client.post("/jobs/extend", items(item), username="kit"))


@rule("declared.terminal", f"A shell opens where terminal is declared, and is refused with {_CODE} where not.", _SEED)
async def terminal(visit: Visit) -> None:
    _judge(visit, "terminal", await open_session(visit, await visit.talker(), "SHELL"))


@rule("declared.web", f"A web page opens where web is declared, and is refused with {_CODE} where not.", _SEED)
async def web(visit: Visit) -> None:
    async with serving(visit, "WEB", "web") as job:
        _judge(visit, "web", await open_session(visit, job, "WEB"))


@rule("declared.vnc", f"A desktop opens where vnc is declared, and is refused with {_CODE} where not.", _SEED)
async def vnc(visit: Visit) -> None:
    async with serving(visit, "VNC", "vnc") as job:
        _judge(visit, "vnc", await open_session(visit, job, "VNC"))


@contextlib.asynccontextmanager
async def serving(visit: Visit, kind: str, flag: str) -> AsyncGenerator[Job]:
    """A running job whose application has a web page or a desktop; where those are not declared, any running job."""
    if not visit.support.has(flag):
        yield await visit.talker()
        return
    async with visit.having(visit.program("exec sleep 3600", kind=kind)) as job:
        await visit.until_running(job)
        yield job


@rule(
    "declared.utilization",
    f"retrieveUtilization works where utilization is declared, and is refused with {_CODE} where not.",
    _SEED,
    generations=only(G2021),
)
async def utilization(visit: Visit) -> None:
    _judge(visit, "utilization", await visit.client.get("/jobs/retrieveUtilization"))


@rule("declared.logs", "A job can be followed where logs are declared, and cannot where not.", _SEED)
async def logs(visit: Visit) -> None:
    job = await visit.talker()
    if visit.support.has("logs"):
        async with visit.follow(job) as stream:
            if (
                not await stream.wire.until(lambda: bool(stream.payloads()) or stream.ended, visit.target.patience_s)
                or not stream.payloads()
            ):
                raise Broken("logs are declared, and nothing came when a running job was followed")
        return
    try:
        async with visit.follow_socket() as socket:
            stream = await visit.begin(socket, job)
            if await stream.wire.until(lambda: "kit-out" in stream.text(0), 1.0):
                raise Broken("logs are not declared, and the output of a job was shown all the same")
    except Refused:
        pass


@rule("declared.backends", f"Jobs run with the kinds of tools that are declared; others are refused with {_CODE}.", _SEED)
async def backends(visit: Visit) -> None:
    other = next((b for b in ("VIRTUAL_MACHINE", "DOCKER", "NATIVE") if b not in visit.support.backends), None)
    if other is None:
        raise NotObserved("every kind of tool is declared")
    job = visit.job(visit.program("exit 0", backend=other))
    answer = await visit.create(job)
    if answer.ok:
        await visit.end(job)
        raise Broken(f"a job with a tool of kind {other} was taken, and no such kind is declared for {visit.product.key}")
    unsupported(answer)


@rule(
    "declared.suspension",
    f"Suspending works, or is refused with {_CODE}: no flag tells Core which it is.",
    "seed Jobs, suspend; today §4: it is forwarded for any job",
    generations=only(G2026),
)
async def suspension(visit: Visit) -> None:
    async with visit.having(visit.program("exec sleep 3600")) as job:
        await visit.until_running(job)
        answer = await visit.client.post("/jobs/suspend", items({"job": visit.document_of(job)}), username="kit")
        if not answer.ok:
            unsupported(answer)
            return
        accepted(answer)
        if visit.core is not None:
            await _told(visit, job, "SUSPENDED", 1)
        accepted(await visit.client.post("/jobs/unsuspend", items({"job": visit.document_of(job)}), username="kit"))
        if visit.core is not None:
            await _told(visit, job, "RUNNING", 2)


async def _told(visit: Visit, job: Job, state: str, times: int) -> None:
    if not await visit.seen.until(lambda: visit.seen.states(job.id).count(state) >= times, visit.target.patience_s):
        raise Broken(f"Core was told {visit.seen.states(job.id)} of job {job.id}, and not {state} (for the {times}. time)")


@rule(
    "declared.suspension-2021",
    f"suspend takes bare jobs, and works, or is refused with {_CODE}.",
    "seed Jobs, suspend; 2021 §1",
    generations=only(G2021),
)
async def suspension_2021(visit: Visit) -> None:
    async with visit.having(visit.program("exec sleep 3600")) as job:
        await visit.until_running(job)
        answer = await visit.client.post("/jobs/suspend", items(visit.document_of(job)), username="kit")
        if not answer.ok:
            unsupported(answer)


RULES = (time_extension, terminal, web, vnc, utilization, logs, backends, suspension, suspension_2021)
