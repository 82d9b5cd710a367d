"""The calls by which Core is told: their form, their token, and what a provider does when Core is not well.

2021 §2; today §3, §9. The rules in which Core misbehaves come after all others, one at a time.
"""

from __future__ import annotations

from serai_conformance.judge import rule
from serai_conformance.model import G2026, Broken, NotObserved, Phase, only
from serai_conformance.visit import Job, Visit
from serai_conformance.watch import FINAL
from serai_conformance.wire import is_whole, kind_of

STATES = frozenset({"IN_QUEUE", "RUNNING", "CANCELING", "SUCCESS", "FAILURE", "EXPIRED", "SUSPENDED"})
_SOURCE = "2021 §2.1; today §9"


def _some(visit: Visit) -> None:
    if not visit.seen.told:
        raise NotObserved("Core was told nothing at all: is the provider's Core the kit's address?")


@rule("news.form", "Each update has an id and words and states that Core knows.", _SOURCE, needs_core=True, phase=Phase.LAST)
async def form(visit: Visit) -> None:
    _some(visit)
    for told in visit.seen.told:
        if not told.id:
            raise Broken(f"an update has no id: {told.update}")
        for name in ("state", "status", "outputFolder", "expectedState"):
            value = told.update.get(name)
            if not isinstance(value, str | None):
                raise Broken(f"{name} in an update of {told.id} is {kind_of(value)}, where a text or null was expected")
        if told.kind == "job" and told.state and told.state not in STATES:
            raise Broken(f"an update of job {told.id} has the state {told.state}, which Core does not know")


@rule(
    "news.timestamp",
    "An update's timestamp is a number or absent: null is an error to Core.",
    "today §9",
    generations=only(G2026),
    needs_core=True,
    phase=Phase.LAST,
)
async def timestamp(visit: Visit) -> None:
    _some(visit)
    for told in visit.seen.told:
        if "timestamp" in told.update and not is_whole(told.update["timestamp"]):
            raise Broken(f"timestamp in an update of {told.id} is {kind_of(told.update['timestamp'])}")


@rule("news.token", "Every call to Core carries the access token that Core gave.", "2021 §6.2; today §3", needs_core=True, phase=Phase.LAST)
async def token(visit: Visit) -> None:
    _some(visit)
    if visit.control.refused_tokens:
        raise Broken(f"{visit.control.refused_tokens} calls came to Core without an access token that it gave")


@rule(
    "news.known",
    "Core is told of jobs that were taken, and of no others.",
    "2021 §1.1: a refused job is forgotten; today §6.1",
    needs_core=True,
    phase=Phase.LAST,
)
async def known(visit: Visit) -> None:
    _some(visit)
    named = {told.id for told in visit.seen.told} | {charge.of for charge in visit.seen.charges}
    found = sorted(named & visit.refused_ids)
    if found:
        raise Broken(f"Core was told of job {', '.join(found[:3])}, whose create the provider had refused")


@rule(
    "news.order",
    "A job is RUNNING after it was queued and before it ends, and not queued again.",
    _SOURCE,
    needs_core=True,
    phase=Phase.LAST,
)
async def order(visit: Visit) -> None:
    _some(visit)
    for job_id in visit.seen.known:
        states = visit.seen.states(job_id)
        if "RUNNING" in states and "IN_QUEUE" in states[states.index("RUNNING") :]:
            raise Broken(f"job {job_id} was told as {', '.join(states)}: it is queued after it was running")


@rule(
    "news.end",
    "After its end nothing more is told of a job's state.",
    "2021 §2.1; today §9: another final state would be taken",
    needs_core=True,
    phase=Phase.LAST,
)
async def end(visit: Visit) -> None:
    _some(visit)
    for known_one in visit.seen.known.values():
        states = visit.seen.states(known_one.id)
        first = next((at for at, state in enumerate(states) if state in FINAL), len(states))
        if states[first + 1 :] and known_one.kind == "job":
            raise Broken(f"job {known_one.id} was told as {', '.join(states)}: its end was not the end")


async def _told(visit: Visit, job: Job, state: str, what: str) -> None:
    if not await visit.seen.until(lambda: state in visit.seen.states(job.id), visit.target.patience_s):
        raise Broken(f"{what}, and within {visit.target.patience_s:g} s Core was not told that job {job.id} is {state}")


@rule(
    "news.repeated",
    "What Core did not take, because it was not well, is told again.",
    "2021 §2.5: 5xx; today §1",
    needs_core=True,
    phase=Phase.DISTURBING,
)
async def repeated(visit: Visit) -> None:
    job = visit.job(visit.program("sleep 1"))
    visit.control.mischief.fail_once[job.id] = 503
    try:
        if not (await visit.create(job)).ok:
            raise NotObserved("no job could be made")
        if not await visit.seen.until(lambda: job.id not in visit.control.mischief.fail_once, visit.target.patience_s):
            raise NotObserved("Core was told nothing of the job")
        failed = next(told for told in visit.seen.told if told.id == job.id and not told.taken)
        await _told(visit, job, "SUCCESS", "Core answered 503 to an update")
        if failed.state and failed.state not in visit.seen.states(job.id):
            raise Broken(f"Core answered 503 to an update with {failed.state}, and was not told it again")
    finally:
        visit.control.mischief.fail_once.pop(job.id, None)
        await visit.end(job)


@rule(
    "news.renewed",
    "A token that Core does not take any more is replaced, and the call made again.",
    "2021 §2.5: 401; today §3: 403",
    needs_core=True,
    phase=Phase.DISTURBING,
)
async def renewed(visit: Visit) -> None:
    visit.control.mischief.stale.update(visit.control.tokens)
    async with visit.having(visit.program("exec sleep 3600")) as job:
        await _told(visit, job, "RUNNING", "the provider's access token had expired")


@rule(
    "news.alone",
    "A job that Core does not know keeps no other's news from it.",
    "2021 §2.1; today §9: one id spoils the request",
    needs_core=True,
    phase=Phase.DISTURBING,
)
async def alone(visit: Visit) -> None:
    stranger, jobs = visit.job(visit.program("sleep 1")), [visit.job(visit.program("sleep 1")) for _ in range(3)]
    visit.control.mischief.forgotten.add(stranger.id)
    if not (await visit.create(stranger, *jobs)).ok:
        raise NotObserved("no jobs could be made")
    try:
        for job in jobs:
            await _told(visit, job, "SUCCESS", "Core did not know one of four jobs")
    finally:
        for job in (stranger, *jobs):
            await visit.end(job)


@rule(
    "news.disowned",
    "A job of which Core says that it does not know it is ended.",
    "today §6.1: Core forgot it when its create failed",
    generations=only(G2026),
    needs=("logs",),
    needs_core=True,
    phase=Phase.DISTURBING,
)
async def disowned(visit: Visit) -> None:
    job = visit.job(visit.program("echo kit-out; exec sleep 3600"))
    visit.control.mischief.forgotten.add(job.id)
    if not (await visit.create(job)).ok:
        raise NotObserved("no job could be made")
    try:
        async with visit.follow(job) as stream:
            if not await stream.until_ended(visit.target.patience_s):
                raise Broken(f"Core said 404 of a job, and it still ran after {visit.target.patience_s:g} s, at nobody's expense")
    finally:
        await visit.end(job)


RULES = (form, timestamp, token, known, order, end, repeated, renewed, alone, disowned)
