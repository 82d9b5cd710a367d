"""Licenses: created, created again, deleted; what Core must hear so that it lets them go."""

from __future__ import annotations

from serai_conformance.documents import Product, items
from serai_conformance.judge import accepted, done, own_id, refused, responses, rule
from serai_conformance.model import G2021, G2026, Broken, NotDeclared, NotObserved, only
from serai_conformance.visit import Visit
from serai_conformance.wire import JsonObject, merged, with_item, without

_SOLD = ("licenses",)
_SOURCE = "2021 §5.1, §5.2; today §5"
_SEED = "seed Licenses"


@rule("licenses.create", "A license is taken, with null or {id} for each item.", f"{_SEED}; {_SOURCE}", needs=_SOLD)
async def create(visit: Visit) -> None:
    count = 1 if visit.todays else 2
    answer = await visit.create_license(*(visit.license() for _ in range(count)))
    found = accepted(answer).get("responses") if visit.todays else responses(answer, count)
    for at, element in enumerate(found if isinstance(found, list) else []):
        own_id(element, f"responses[{at}]")


@rule("licenses.again", "The same license again gives the same answer.", "2021 §1.3: Core repeats a call after 449 and 503", needs=_SOLD)
async def again(visit: Visit) -> None:
    document = await visit.made_license()
    for _ in range(2):
        answer = await visit.client.post("/licenses", items(document), username="kit")
        if not answer.ok:
            raise Broken(f"the same license again: {answer.words}, where 200 was expected")


@rule("licenses.product", "A license of a product that is not declared is refused.", f"{_SEED}, LicenseSupport", needs=_SOLD)
async def product(visit: Visit) -> None:
    found = visit.license_product
    document = visit.license(product=Product("conformance-kit", found.category, found.provider))
    answer = await visit.create_license(document)
    if answer.ok:
        await visit.delete_license(document)
    refused(answer)


@rule("licenses.bodies", "Bodies that are no licenses are 400.", "2021 §2.5, §7.3", needs=_SOLD)
async def bodies(visit: Visit) -> None:
    document = visit.license()
    wrong: dict[str, object] = {
        "no JSON": b"hello",
        "no items": b"{}",
        "a license without id": items(without(document, "id")),
        "a license without specification": items(without(document, "specification")),
        "a license whose product is a text": items(with_item(document, "specification.product", "x")),
    }
    for words, body in wrong.items():
        answer = await visit.client.post("/licenses", body if isinstance(body, bytes) else _object(body), username="kit")
        if answer.status != 400:
            raise Broken(f"{words}: {answer.words}, where 400 was expected")


def _object(value: object) -> JsonObject:
    assert isinstance(value, dict)  # noqa: S101 - made above
    return value  # pyright: ignore[reportUnknownVariableType] - JSON


@rule(
    "licenses.forms",
    "A license is taken in both forms: with `billing` and `acl`, and without.",
    "2021 §5.4",
    generations=only(G2021),
    needs=_SOLD,
)
async def forms(visit: Visit) -> None:
    for document in (
        visit.license(),
        without(without(visit.license(), "billing"), "acl"),
        merged(visit.license(), {"conformanceKit": {"a": [None]}}),
    ):
        answer = await visit.create_license(document)
        if not answer.ok:
            raise Broken(f"a license with the keys {', '.join(document)}: {answer.words}, where 200 was expected")


@rule(
    "licenses.absent",
    "`updates` may be absent, boundTo null, and unknown keys are ignored.",
    "today §7",
    generations=only(G2026),
    needs=_SOLD,
)
async def absent(visit: Visit) -> None:
    answer = await visit.create_license(merged(visit.license(), {"conformanceKit": {"a": [None]}}))
    if not answer.ok:
        raise Broken(f"a license as today's Core writes it: {answer.words}, where 200 was expected")


@rule("licenses.delete", "A delete, with a body, is done.", _SOURCE, needs=_SOLD)
async def delete(visit: Visit) -> None:
    documents = [await visit.made_license() for _ in range(1 if visit.todays else 2)]
    done(await visit.delete_license(*documents), len(documents), visit.target.generation)


@rule("licenses.delete-again", "Deleting what is deleted is done: Core keeps for ever what it cannot delete.", _SOURCE, needs=_SOLD)
async def delete_again(visit: Visit) -> None:
    document = await visit.made_license()
    for time in ("once", "twice"):
        answer = await visit.delete_license(document)
        if not answer.ok:
            raise Broken(f"a license was deleted {time}: {answer.words}, where 200 was expected")


@rule("licenses.delete-unknown", "Deleting what was never there is done.", "today §5: 404 keeps the license alive in Core", needs=_SOLD)
async def delete_unknown(visit: Visit) -> None:
    done(await visit.delete_license(visit.license()), 1, visit.target.generation)


@rule("licenses.token", "No license without Core's token.", "2021 §6.1; today §3", needs=_SOLD)
async def token(visit: Visit) -> None:
    document = visit.license()
    answer = await visit.client.call("POST", "/licenses", items(document), username="kit", authorization=None)
    if answer.ok:
        await visit.delete_license(document)
    refused(answer, 401)
    refused(await visit.client.call("DELETE", "/licenses", items(document), username="kit", authorization="Bearer x"), 401)


@rule(
    "licenses.updateAcl",
    "updateAcl is answered with OK for licenses too.",
    f"{_SEED}; 2021 §1.6, §5.2",
    generations=only(G2021),
    needs=_SOLD,
)
async def update_acl(visit: Visit) -> None:
    document = await visit.made_license()
    user: JsonObject = {"entity": {"type": "user", "username": "other"}, "permissions": ["READ"]}
    item: JsonObject = {"resource": document, "added": [user], "deleted": [{"type": "user", "username": "gone"}]}
    done(await visit.client.post("/licenses/updateAcl", items(item), username="kit"), 1, G2021)


@rule("licenses.verify", "verify of licenses is answered with OK, or is not there.", "2021 §5.2", generations=only(G2021), needs=_SOLD)
async def verify(visit: Visit) -> None:
    document = await visit.made_license()
    answer = await visit.client.post("/licenses/verify", items(document))
    if answer.status == 404:
        raise NotDeclared("licenses/verify is not there")
    if not answer.ok:
        raise Broken(f"{answer.words}, where 200 was expected")


@rule(
    "licenses.init",
    "init of licenses is answered without an error of the server.",
    "2021 §5.1: failures are ignored",
    generations=only(G2021),
    needs=_SOLD,
)
async def init(visit: Visit) -> None:
    answer = await visit.client.post("/licenses/init", {"principal": {"createdBy": "kit", "project": None}}, username="kit")
    if answer.status == 404:
        raise NotDeclared("licenses/init is not there")
    if not answer.ok:
        raise Broken(f"{answer.words}, where 200 was expected")


@rule(
    "licenses.told",
    "Core is told of a license in words that it knows.",
    f"{_SEED}, LicenseUpdate; 2021 §5.3",
    generations=only(G2021),
    needs=_SOLD,
    needs_core=True,
)
async def told(visit: Visit) -> None:
    document = await visit.made_license()
    license_id = str(document["id"])
    if not await visit.seen.until(lambda: bool(visit.seen.of(license_id)), min(visit.target.patience_s, 10.0)):
        raise NotObserved("Core was told nothing of a new license: it stays PREPARING, and no job can use it")
    for update in visit.seen.of(license_id):
        if update.state not in {"", "PREPARING", "READY", "UNAVAILABLE"}:
            raise Broken(f"Core was told that a license is {update.state}: it knows PREPARING, READY and UNAVAILABLE")


RULES = (create, again, product, bodies, forms, absent, delete, delete_again, delete_unknown, token, update_acl, verify, init, told)
