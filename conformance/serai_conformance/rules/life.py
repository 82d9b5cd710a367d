"""The life of a job as Core is told of it: states, their order, what the end is called, where the output lies.

The states' meanings are of each generation: seed Jobs, 2021 §8.1; today §9.
"""

from __future__ import annotations

from serai_conformance.documents import items
from serai_conformance.judge import rule
from serai_conformance.model import G2021, G2026, Broken, NotObserved, only
from serai_conformance.visit import Job, Visit
from serai_conformance.watch import FINAL
from serai_conformance.wire import JsonObject, is_whole

_SEED = "seed Jobs, life-cycle example"
_HOUR_MS = 3_600_000


async def _end(visit: Visit, job: Job) -> str:
    """The final state that Core was told first. Broken when it is told none."""
    if not await visit.seen.until(lambda: any(state in FINAL for state in visit.seen.states(job.id)), visit.target.patience_s):
        told = ", ".join(visit.seen.states(job.id)) or "nothing"
        raise Broken(f"Core was told no end of job {job.id} within {visit.target.patience_s:g} s; it was told: {told}")
    visit.jobs.pop(job.id, None)
    return next(state for state in visit.seen.states(job.id) if state in FINAL)


async def _must_end(visit: Visit, job: Job, wanted: str, what: str) -> None:
    state = await _end(visit, job)
    if state != wanted:
        raise Broken(f"{what} ended as {state}, where {wanted} was expected")


@rule("life.success", "A job whose program succeeds is RUNNING, and then SUCCESS.", f"{_SEED}; today §9", needs_core=True)
async def success(visit: Visit) -> None:
    job = await visit.made(visit.program("sleep 2"))
    await _must_end(visit, job, "SUCCESS", "a job whose program exited with 0")
    if "RUNNING" not in visit.seen.states(job.id):
        raise Broken("Core was never told that a job of two seconds was RUNNING")


@rule(
    "life.exit-code",
    "A program that exits with another code than 0 ends its job as SUCCESS.",
    "2021 §8.1: FAILURE is the scheduler's fault",
    generations=only(G2021),
    needs_core=True,
)
async def exit_code(visit: Visit) -> None:
    await _must_end(visit, await visit.made(visit.program("exit 3")), "SUCCESS", "a job whose program exited with 3")


@rule(
    "life.exit-code-2026",
    "A program that exits with another code than 0 ends its job as FAILURE.",
    "today §9",
    generations=only(G2026),
    needs_core=True,
)
async def exit_code_2026(visit: Visit) -> None:
    await _must_end(visit, await visit.made(visit.program("exit 3")), "FAILURE", "a job whose program exited with 3")


@rule(
    "life.terminated",
    "A job that was terminated ends as SUCCESS.",
    "2021 §10.4; today §9: SUCCESS or cancelled by the user",
    needs_core=True,
)
async def terminated(visit: Visit) -> None:
    job = await visit.running(visit.program("exec sleep 3600"))
    answer = await visit.terminate(job)
    if not answer.ok:
        raise NotObserved(f"the job could not be terminated: {answer.words}")
    await _must_end(visit, job, "SUCCESS", "a job that was terminated")


@rule(
    "life.expired",
    "A job that reaches its time limit ends as EXPIRED.",
    "2021 §8.1, §10.3; today §9, §11: the provider enforces it",
    needs_core=True,
)
async def expired(visit: Visit) -> None:
    await _must_end(visit, await visit.made(visit.program("exec sleep 3600", limit_s=2)), "EXPIRED", "a job that ran into its limit of 2 s")


@rule(
    "life.folder",
    "Core is told where a job's output lies, by the job's end at the latest.",
    "seed Jobs, /work; 2021 §10.2",
    needs_core=True,
)
async def folder(visit: Visit) -> None:
    job = await visit.made(visit.program("echo here > kit.txt"))
    await _end(visit, job)
    found = visit.seen.known[job.id].output_folder
    if not found:
        raise Broken("a job ended, and Core was never told an outputFolder of it")
    if not found.startswith("/"):
        raise Broken(f"outputFolder is {found!r}, where /drive/path was expected")


@rule("life.unknown", "A terminated job that the provider does not know gets a final state.", "2021 §10.4; today §11", needs_core=True)
async def unknown(visit: Visit) -> None:
    job = visit.stranger()
    if not (await visit.terminate(job)).ok:
        raise NotObserved("the job could not be terminated")
    await _end(visit, job)


@rule(
    "life.verify",
    "A job that Core verifies and the provider does not know is FAILURE, with words.",
    "seed Jobs, in-sync example",
    generations=only(G2021),
    needs_core=True,
)
async def verify(visit: Visit) -> None:
    job = visit.stranger()
    visit.seen.known[job.id].state = "RUNNING"
    if not (await visit.client.post("/jobs/verify", items(visit.document_of(job)))).ok:
        raise NotObserved("the job could not be verified")
    await _must_end(visit, job, "FAILURE", "a job that the provider does not know")
    if not any(told.state == "FAILURE" and told.status for told in visit.seen.of(job.id)):
        raise Broken("Core was told FAILURE without a status that its user could read")


@rule(
    "life.extended",
    "After an extend Core is told the new total of time, in ms.",
    "today §6.3, §9",
    generations=only(G2026),
    needs=("timeExtension",),
    needs_core=True,
)
async def extended(visit: Visit) -> None:
    async with visit.having(visit.program("exec sleep 3600")) as job:
        await visit.until_running(job)
        more: JsonObject = {"hours": 1, "minutes": 0, "seconds": 0}
        answer = await visit.client.post("/jobs/extend", items({"job": visit.document_of(job), "requestedTime": more}), username="kit")
        if not answer.ok:
            raise NotObserved(f"the job could not be extended: {answer.words}")

        def totals() -> list[object]:
            return [told.update["newTimeAllocation"] for told in visit.seen.of(job.id) if told.update.get("newTimeAllocation") is not None]

        if not await visit.seen.until(lambda: bool(totals()), visit.target.patience_s):
            raise Broken("a job was extended, and Core was not told newTimeAllocation: its user sees the old limit")
        total = totals()[-1]
        if not isinstance(total, int) or not is_whole(total) or total != 2 * _HOUR_MS:
            raise Broken(f"a job of 1 h got 1 h more, and newTimeAllocation is {total}, where {2 * _HOUR_MS} was expected")


RULES = (success, exit_code, exit_code_2026, terminated, expired, folder, unknown, verify, extended)
