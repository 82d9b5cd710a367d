"""The other calls for jobs and their users: more time, permissions, looking again, how full it is, labels, connections."""

from __future__ import annotations

from serai_conformance.client import Answer
from serai_conformance.documents import items
from serai_conformance.judge import accepted, done, refused, rule
from serai_conformance.model import G2021, G2026, Broken, NotDeclared, only
from serai_conformance.visit import Job, Visit
from serai_conformance.wire import Json, JsonObject, dig, is_number, is_whole, kind_of, merged

_TIME: JsonObject = {"hours": 1, "minutes": 30, "seconds": 0}
_SEED = "seed Jobs"


async def _extend(visit: Visit, job: Job, more: JsonObject) -> Answer:
    return await visit.client.post("/jobs/extend", items({"job": visit.document_of(job), "requestedTime": more}), username="kit")


@rule("extend.answer", "An extend is answered with {} or null for each item.", f"{_SEED}, extend", needs=("timeExtension",))
async def extend(visit: Visit) -> None:
    done(await _extend(visit, await visit.talker(), _TIME), 1, visit.target.generation)


@rule("extend.unknown", "More time for a job that the provider does not know is refused.", f"{_SEED}, extend", needs=("timeExtension",))
async def extend_unknown(visit: Visit) -> None:
    refused(await _extend(visit, visit.job(visit.program("exit 0")), _TIME))


@rule("extend.time", "A time that is none is 400.", "2021 §8.1: minutes and seconds are 0 to 59", needs=("timeExtension",))
async def extend_time(visit: Visit) -> None:
    refused(await _extend(visit, await visit.talker(), {"hours": 0, "minutes": 61, "seconds": 0}), 400)
    item: JsonObject = {"job": visit.document_of(await visit.talker())}
    refused(await visit.client.post("/jobs/extend", items(item), username="kit"), 400)


@rule("extend.lasts", "A job that got more time lives beyond its first limit.", "2021 §1.7: a time to add", needs=("timeExtension", "logs"))
async def extend_lasts(visit: Visit) -> None:
    script = "echo kit-out; sleep 12; echo kit-beyond; exec sleep 3600"
    async with visit.having(visit.program(script, limit_s=4)) as job:
        found = await _extend(visit, job, _TIME)
        if not found.ok:
            raise Broken(f"more time for a job that has just begun: {found.words}")
        await visit.until_running(job)
        async with visit.follow(job) as stream:
            await stream.until_text(0, "kit-beyond", visit.target.patience_s)


def _acl_item(document: JsonObject) -> JsonObject:
    user: JsonObject = {"entity": {"type": "user", "username": "other"}, "permissions": ["READ", "EDIT"]}
    group: JsonObject = {"entity": {"type": "project_group", "projectId": "p", "group": "g"}, "permissions": ["READ"]}
    return {"resource": document, "added": [user, group], "deleted": [{"type": "user", "username": "gone"}]}


@rule(
    "updateAcl.answer",
    "updateAcl is answered with OK: an error would take the change back.",
    f"{_SEED}, updateAcl",
    generations=only(G2021),
)
async def update_acl(visit: Visit) -> None:
    done(await visit.client.post("/jobs/updateAcl", items(_acl_item(visit.document_of(await visit.talker()))), username="kit"), 1, G2021)


@rule("updateAcl.unknown", "updateAcl is answered with OK for any job.", f"{_SEED}, updateAcl: MUST reply with OK", generations=only(G2021))
async def update_acl_unknown(visit: Visit) -> None:
    document = visit.job(visit.program("exit 0")).document
    done(await visit.client.post("/jobs/updateAcl", items(_acl_item(document)), username="kit"), 1, G2021)


@rule("verify.answer", "verify is answered with OK for jobs that are known.", f"{_SEED}, verify", generations=only(G2021))
async def verify(visit: Visit) -> None:
    job = await visit.talker()
    found = await visit.client.post("/jobs/verify", items(visit.document_of(job)))
    if not found.ok:
        raise Broken(f"{found.words}, where 200 was expected")


@rule("verify.unknown", "verify is answered with OK for jobs that are not known.", f"{_SEED}, in-sync example", generations=only(G2021))
async def verify_unknown(visit: Visit) -> None:
    job = visit.stranger()
    found = await visit.client.post("/jobs/verify", items(merged(job.document, {"status": {"state": "RUNNING"}})))
    if not found.ok:
        raise Broken(f"{found.words}, where 200 was expected")


@rule("verify.keeps", "verify disturbs no job that is known.", f"{_SEED}, verify", generations=only(G2021), needs=("logs",))
async def verify_keeps(visit: Visit) -> None:
    async with visit.having(visit.program("echo kit-out; i=0; while :; do i=$((i+1)); echo kit-$i; sleep 0.2; done")) as job:
        await visit.until_running(job)
        async with visit.follow(job) as stream:
            await stream.until_text(0, "kit-out", visit.target.patience_s)
            await visit.client.post("/jobs/verify", items(visit.document_of(job)))
            said = stream.text(0).count("\n")
            await stream.until_text(0, f"kit-{said + 5}\n", visit.target.patience_s)


@rule(
    "utilization.answer",
    "retrieveUtilization tells cores, bytes and jobs as numbers.",
    f"{_SEED}; 2021 §8.2",
    generations=only(G2021),
    needs=("utilization",),
)
async def utilization(visit: Visit) -> None:
    found = await visit.client.get("/jobs/retrieveUtilization")
    body: Json = accepted(found)
    for block in ("capacity", "usedCapacity"):
        if not is_number(dig(body, block, "cpu")):
            raise Broken(f"{block}.cpu is {kind_of(dig(body, block, 'cpu'))}, where a number was expected")
        if not is_whole(dig(body, block, "memory")):
            raise Broken(f"{block}.memory is {kind_of(dig(body, block, 'memory'))}, where a whole number of bytes was expected")
    for key in ("running", "pending"):
        if not is_whole(dig(body, "queueStatus", key)):
            raise Broken(f"queueStatus.{key} is {kind_of(dig(body, 'queueStatus', key))}, where a whole number was expected")


@rule("labels.answer", "onUpdatedLabels is done, or 404 says that nobody cares.", "today §5", generations=only(G2026))
async def labels(visit: Visit) -> None:
    job = await visit.talker()
    found = await visit.client.post("/jobs/onUpdatedLabels", items(visit.document_of(job)), username="kit")
    if found.status != 404:
        accepted(found)


@rule("dynamicParameters.answer", "requestDynamicParameters is answered with a list of parameters.", "today §5", generations=only(G2026))
async def dynamic_parameters(visit: Visit) -> None:
    job = visit.job(visit.program("exit 0"))
    body: JsonObject = {"owner": job.document["owner"], "application": dig(job.document, "status", "resolvedApplication")}
    found = await visit.client.post("/jobs/requestDynamicParameters", body, username="kit")
    if found.status == 404:
        raise NotDeclared("requestDynamicParameters is not there")
    if not isinstance(accepted(found).get("parameters"), list):
        raise Broken(f"{found.call}: `parameters` is no list")


@rule("integration.manifest", "integration/retrieveManifest tells whether users must connect, or is 404.", "2021 §6.4; today §4")
async def manifest(visit: Visit) -> None:
    found = await visit.client.get("/integration/retrieveManifest")
    if found.status == 404:
        raise NotDeclared("integration/retrieveManifest is not there")
    enabled = accepted(found).get("enabled")
    if not isinstance(enabled, bool):
        raise Broken(f"{found.call}: `enabled` is {kind_of(enabled)}, where true or false was expected")


@rule("integration.init", "integration/init is done, or is 404 where there is nothing to begin.", "2021 §1.3, §6.4; today §6.2")
async def init(visit: Visit) -> None:
    found = await visit.client.post("/integration/init", {"username": "kit"})
    if found.status == 404:
        raise NotDeclared("integration/init is not there")
    if not found.ok:
        raise Broken(f"{found.words}, where 200 was expected")


RULES = (
    extend,
    extend_unknown,
    extend_time,
    extend_lasts,
    update_acl,
    update_acl_unknown,
    verify,
    verify_unknown,
    verify_keeps,
    utilization,
    labels,
    dynamic_parameters,
    manifest,
    init,
)
