"""What a job costs: charges of 2021 by periods with an id that means one period; today a total in a scope of the job's own.

Seed Jobs, Accounting; 2021 §2.2, §10.6; today §9, where chargeCredits with `periods` is taken too.
"""

from __future__ import annotations

from serai_conformance.judge import rule
from serai_conformance.model import G2021, G2026, Broken, NotObserved, Phase, only
from serai_conformance.rules.replicas import COUNT, ONE
from serai_conformance.visit import Job, Visit
from serai_conformance.watch import FINAL, Charge
from serai_conformance.wire import JsonObject, dig, is_whole, kind_of, text_at

_SEED = "seed Jobs, Accounting"


def _whole(item: JsonObject, key: str, fewest: int, what: str) -> None:
    value = item.get(key)
    if not isinstance(value, int) or not is_whole(value) or value < fewest:
        raise Broken(f"{key} of {what} is {value!r}, where a whole number of {fewest} or more was expected")


def _form(charge: Charge) -> None:
    item, what = charge.item, f"a {charge.call} for {charge.of or 'nobody'}"
    if charge.call == "reportUsage":
        if not isinstance(item.get("isDeltaCharge", False), bool):
            raise Broken(f"isDeltaCharge of {what} is {kind_of(item.get('isDeltaCharge'))}")
        if text_at(item, "owner", "type") not in {"user", "project"}:
            raise Broken(f"owner.type of {what} is {dig(item, 'owner', 'type')!r}, where user or project was expected")
        for key in ("name", "provider"):
            if not text_at(item, "categoryIdV2", key):
                raise Broken(f"categoryIdV2.{key} of {what} is {kind_of(dig(item, 'categoryIdV2', key))}, where a text was expected")
        _whole(item, "usage", 0, what)
        if item.get("isDeltaCharge") is not True and not charge.scope:
            raise Broken(f"{what} is absolute and has no scope: it would replace everything that its owner has used")
        return
    if not charge.of or not text_at(item, "chargeId"):
        raise Broken(f"{what} has no {'chargeId' if charge.of else 'id'}")


@rule(
    "charges.form",
    "A charge has an id, a chargeId, and at least one unit of at least one product.",
    f"{_SEED}; 2021 §2.2",
    generations=only(G2021),
    needs_core=True,
    phase=Phase.LAST,
)
async def form(visit: Visit) -> None:
    _some(visit)
    for charge in visit.seen.charges:
        _form(charge)
        _whole(charge.item, "units", 1, f"the charge {charge.scope}")
        if charge.item.get("numberOfProducts") is not None:
            _whole(charge.item, "numberOfProducts", 1, f"the charge {charge.scope}")


@rule(
    "charges.form-2026",
    "Usage has an owner, a category and a scope; a charge has periods.",
    "today §9",
    generations=only(G2026),
    needs_core=True,
    phase=Phase.LAST,
)
async def form_2026(visit: Visit) -> None:
    _some(visit)
    for charge in visit.seen.charges:
        _form(charge)
        if charge.call == "chargeCredits":
            _whole(charge.item, "periods", 1, f"the charge {charge.scope} (without it Core charges nothing)")


def _some(visit: Visit) -> None:
    if not visit.seen.charges:
        raise NotObserved("Core was told of no usage: use a product that costs something")


@rule(
    "charges.ids",
    "A chargeId means one charge: it never comes with another amount or for another job.",
    f"{_SEED}; 2021 §0.2: unique per provider",
    generations=only(G2021),
    needs_core=True,
    phase=Phase.LAST,
)
async def ids(visit: Visit) -> None:
    _some(visit)
    seen: dict[str, tuple[object, ...]] = {}
    for charge in visit.seen.charges:
        content = (charge.of, charge.item.get("units"), charge.item.get("numberOfProducts"))
        if seen.setdefault(charge.scope, content) != content:
            raise Broken(f"chargeId {charge.scope} came with {seen[charge.scope]} and with {content} (job, units, products)")


@rule(
    "charges.scopes",
    "A scope's usage never falls, and belongs to one owner.",
    "today §9: absolute, the last one counts",
    generations=only(G2026),
    needs_core=True,
    phase=Phase.LAST,
)
async def scopes(visit: Visit) -> None:
    _some(visit)
    last: dict[str, tuple[str, int]] = {}
    for charge in visit.seen.charges:
        usage = charge.item.get("usage")
        if not charge.scope or charge.call != "reportUsage" or charge.item.get("isDeltaCharge") is True or not isinstance(usage, int):
            continue
        owner, before = last.get(charge.scope, (charge.of, 0))
        if owner != charge.of:
            raise Broken(f"scope {charge.scope} is told of {owner} and of {charge.of}")
        if usage < before:
            raise Broken(f"the usage in scope {charge.scope} was told as {before}, and later as {usage}")
        last[charge.scope] = (owner, usage)


async def _ended(visit: Visit, *, replicas: int, owner: str) -> Job:
    """A short job of its own payer that has ended."""
    if visit.target.replicas < replicas:
        raise NotObserved(ONE)
    job = await visit.made(visit.program("sleep 2", replicas=replicas, username=owner))
    found = await visit.seen.until(lambda: any(state in FINAL for state in visit.seen.states(job.id)), visit.target.patience_s)
    if not found:
        raise NotObserved("Core was not told the job's end")
    visit.jobs.pop(job.id, None)
    return job


@rule(
    "charges.amount",
    "A job of 2 replicas that ran for seconds costs one or two periods of 2 products.",
    f"{_SEED}; 2021 §10.6",
    generations=only(G2021),
    needs_core=True,
)
async def amount(visit: Visit) -> None:
    job = await _ended(visit, replicas=COUNT, owner="kit-payer")
    if not await visit.seen.until(lambda: bool(visit.seen.paid(job.id, job.id)), visit.target.patience_s):
        raise Broken(f"job {job.id} has ended, and Core was not asked for money within {visit.target.patience_s:g} s")
    units = 0
    for charge in {charge.scope: charge for charge in visit.seen.paid(job.id, job.id)}.values():
        products, given = charge.item.get("numberOfProducts", 1), charge.item.get("units")
        if products != COUNT:
            raise Broken(f"a job of {COUNT} replicas was charged with numberOfProducts {products}")
        units += given if isinstance(given, int) else 0
    if not 1 <= units <= 2:
        raise Broken(f"a job that ran for a few seconds was charged {units} units")


@rule(
    "charges.amount-2026",
    "A job that ran is told as usage of its owner, in its product's category.",
    "today §9, §11",
    generations=only(G2026),
    needs_core=True,
)
async def amount_2026(visit: Visit) -> None:
    owner = f"kit-payer-{visit.new_id()}"
    job = await _ended(visit, replicas=1, owner=owner)
    if not await visit.seen.until(lambda: bool(visit.seen.paid(job.id, owner)), visit.target.patience_s):
        raise Broken(f"job {job.id} of {owner} has ended, and no usage of it was told within {visit.target.patience_s:g} s")
    for charge in visit.seen.paid(job.id, owner):
        category = text_at(charge.item, "categoryIdV2", "name")
        if charge.call == "reportUsage" and category != visit.product.category:
            raise Broken(f"usage of a job on {visit.product.key} was told in category {category}")


@rule(
    "charges.repeated",
    "A charge whose answer was lost comes again, with the same id or scope.",
    f"{_SEED}: a repeated chargeId is ignored",
    needs_core=True,
    phase=Phase.DISTURBING,
)
async def repeated(visit: Visit) -> None:
    owner = f"kit-lost-{visit.new_id()}"
    job = visit.job(visit.program("sleep 2", username=owner))
    names = {job.id, owner}
    visit.control.mischief.lose_once |= names
    try:
        if not (await visit.create(job)).ok:
            raise NotObserved("no job could be made")

        def charges() -> list[Charge]:
            return visit.seen.paid(job.id, owner)

        if not await visit.seen.until(lambda: bool(charges()), visit.target.patience_s):
            raise NotObserved("Core was told of no usage of the job")
        first = charges()[0]
        if not await visit.seen.until(lambda: any(charge.scope == first.scope for charge in charges()[1:]), visit.target.patience_s):
            again = [charge.scope for charge in charges()[1:]]
            raise Broken(f"the answer to the charge {first.scope} was lost, and it did not come again (but: {again or 'nothing'})")
        second = next(charge for charge in charges()[1:] if charge.scope == first.scope)
        if visit.todays and first.call == "reportUsage":
            return
        if second.item != first.item:
            raise Broken(f"the charge {first.scope} came again with another content")
    finally:
        visit.control.mischief.lose_once -= names
        await visit.end(job)


@rule(
    "charges.broke",
    "A job whose owner has no money left is ended by the provider.",
    f"{_SEED}: Core does not do this; today §9",
    needs_core=True,
)
async def broke(visit: Visit) -> None:
    owner = f"kit-broke-{visit.new_id()}"
    job = visit.job(visit.program("exec sleep 3600", username=owner))
    names = {job.id, owner}
    visit.control.mischief.broke |= names
    if not (await visit.create(job)).ok:
        raise NotObserved("no job could be made")
    try:
        if not await visit.seen.until(lambda: bool(visit.seen.paid(job.id, owner)), visit.target.patience_s):
            raise NotObserved(
                f"Core was told of no usage of a running job within {visit.target.patience_s:g} s: "
                "use a product that is charged sooner, or --patience"
            )
        if not await visit.seen.until(lambda: any(s in FINAL for s in visit.seen.states(job.id)), visit.target.patience_s):
            raise Broken(
                f"Core said that the owner of job {job.id} has no money, and it was not ended within {visit.target.patience_s:g} s"
            )
    finally:
        await visit.end(job)


RULES = (form, form_2026, ids, scopes, amount, amount_2026, repeated, broke)
