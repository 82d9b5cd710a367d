"""`terminate`, the one call that every provider must have: it is done, whatever the job is."""

from __future__ import annotations

from serai_conformance.documents import items
from serai_conformance.judge import done, responses, rule
from serai_conformance.model import G2021, Broken, NotObserved, only
from serai_conformance.visit import Job, Visit
from serai_conformance.wire import with_item, without

_SEED = "seed Jobs, terminate: mandatory"


@rule("terminate.answer", "A terminate is answered with {} or null for each item.", _SEED)
async def answer(visit: Visit) -> None:
    jobs = [await visit.made(visit.program("exec sleep 3600")) for _ in range(2)]
    found = await visit.terminate(*jobs)
    if found.ok:
        for job in jobs:
            visit.jobs.pop(job.id, None)
    done(found, len(jobs), visit.target.generation)


@rule("terminate.again", "Terminating a job twice is done twice.", f"{_SEED}; today §5: Core sends it for final jobs too")
async def again(visit: Visit) -> None:
    job = await visit.made(visit.program("exec sleep 3600"))
    for time in ("once", "twice"):
        found = await visit.terminate(job)
        if not found.ok:
            raise Broken(f"terminated {time}: {found.words}, where 200 was expected")
    visit.jobs.pop(job.id, None)


@rule("terminate.unknown", "Terminating a job that the provider does not know is done.", "today §11: answer for any job, known or not")
async def unknown(visit: Visit) -> None:
    job = visit.stranger()
    done(await visit.terminate(job), 1, visit.target.generation)


@rule("terminate.mixed", "A bulk in which one job is unknown ends the others.", f"{_SEED}; today §11", needs=("logs",))
async def mixed(visit: Visit) -> None:
    unknown_job = visit.stranger()
    job = await visit.running(visit.program("echo kit-out; exec sleep 3600"))
    async with visit.follow(job) as stream:
        await stream.until_text(0, "kit-out", visit.target.patience_s)
        done(await visit.terminate(unknown_job, job), 2, visit.target.generation)
        visit.jobs.pop(job.id, None)
        if not await stream.until_ended(visit.target.patience_s):
            raise Broken(f"a job that was terminated together with an unknown one still ran after {visit.target.patience_s:g} s")


@rule(
    "terminate.many",
    "A bulk of 1,000 jobs is answered, each in its place.",
    "2021 §7: a bulk has 1 to 1,000 items",
    generations=only(G2021),
)
async def many(visit: Visit) -> None:
    jobs: list[Job] = []
    for _ in range(1000):
        full = visit.job(visit.program("exit 0"))
        jobs.append(Job(full.id, full.program, without(with_item(full.document, "status.resolvedApplication", None), "billing")))
        visit.expect(jobs[-1])
    found = await visit.client.post("/jobs/terminate", items(*(job.document for job in jobs)), username="kit")
    if found.status == 413:
        raise NotObserved(f"{found.words}: a body of this size does not come through")
    responses(found, len(jobs))


@rule("terminate.ends", "A terminated job ends: its program does not run on.", _SEED, needs=("logs",))
async def ends(visit: Visit) -> None:
    job = await visit.running(visit.program("trap '' HUP; echo kit-out; while :; do sleep 1; done"))
    async with visit.follow(job) as stream:
        await stream.until_text(0, "kit-out", visit.target.patience_s)
        found = await visit.terminate(job)
        if not found.ok:
            raise NotObserved(f"the job could not be terminated: {found.words}")
        visit.jobs.pop(job.id, None)
        if not await stream.until_ended(visit.target.patience_s):
            raise Broken(f"the output of a terminated job did not end within {visit.target.patience_s:g} s")


RULES = (answer, again, unknown, mixed, many, ends)
