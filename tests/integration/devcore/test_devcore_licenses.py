"""Users with licenses, against a provider over HTTP: what Core sends, what it makes of the answers, and the calls that steer it.

Each test names the section of the facts, or the file of UCloud, that it holds to."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import cast

import aiohttp
import jwt
import pytest
from fakes.devcore_provider import PlainProvider, both, lowered
from serai_devcore import (
    ACME_SOLVER,
    EXAMPLE_LICENSE,
    DevCore,
    Generation,
    Resource,
    ResourceRequest,
    licensed_request,
    licenses,
    shell_request,
)
from serai_devcore.documents import job_document
from serai_devcore.tokens import PrivateKey, generate_key
from serai_devcore.wire import Json, JsonObject, as_list, dig, parse

G2021, G2026 = Generation.G2021, Generation.G2026
EXAMPLES = Path(__file__).parents[3] / "examples"
FRIEND: JsonObject = {"type": "user", "username": "alice#1234"}


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return generate_key()


async def bought(core: DevCore, *, username: str = "user", project: str | None = None) -> Resource:
    made, ended = await core.create_resource(ResourceRequest("licenses", EXAMPLE_LICENSE, {}, username, project))
    assert ended.accepted
    return made


async def control(core: DevCore, method: str, path: str, *items: JsonObject, token: bool = True) -> tuple[int, JsonObject]:
    """A call of the provider."""
    headers = {"Authorization": f"Bearer {core.providers['example'].issuer.access_token()}"} if token else {}
    body: Json = {"items": list(items)} if method == "POST" else None
    url = f"{core.url}/api/licenses/control/{path}"
    async with aiohttp.ClientSession() as session, session.request(method, url, json=body, headers=headers) as answer:
        return answer.status, cast("JsonObject", await answer.json())


async def steer(core: DevCore, method: str, path: str, body: Json = None) -> tuple[int, JsonObject]:
    async with aiohttp.ClientSession() as session, session.request(method, f"{core.url}/devcore/{path}", json=body) as answer:
        return answer.status, cast("JsonObject", await answer.json())


def last(provider: PlainProvider) -> tuple[str, str, JsonObject]:
    heard = provider.heard[-1]
    return heard.method, heard.path.removeprefix("/ucloud/example"), parse(heard.body)


def last_path(provider: PlainProvider) -> str:
    return provider.heard[-1].path.removeprefix("/ucloud/example")


@pytest.mark.parametrize("generation", [G2021, G2026])
async def test_a_license_is_bought_made_ready_used_and_deleted(key: PrivateKey, generation: Generation) -> None:
    """2021 §5.3, §5.1; today §5, §7, §9: the whole life; a deletion that the provider answers with 404 or 5xx changes nothing."""
    async with both(key, generation) as (core, provider):
        made = await bought(core, username="bob", project="p")
        method, path, body = last(provider)
        (sent,) = cast("list[JsonObject]", body["items"])
        assert (method, path, dig(sent, "owner")) == ("POST", "/licenses", {"createdBy": "bob", "project": "p"})
        assert "ucloud-username" in lowered(provider.heard[-1])
        ready: JsonObject = {"id": made.id, "update": {"timestamp": 0, "state": "READY", "status": "Ready", "binding": None}}
        assert await control(core, "POST", "update", ready) == (200, {})
        job = await core.submit(licensed_request(made.id, username="bob", project="p"))
        assert job.accepted
        _, shown = await control(core, "GET", f"retrieve?id={made.id}")
        assert dig(shown, "status", "state") == "READY"
        assert dig(shown, "status", "boundTo") == ([] if generation is G2021 else [job.job_id])
        core.jobs.update("example", [{"id": job.job_id, "update": {"state": "SUCCESS"}}])
        assert made.bound_to == []
        for answer in ((404, b'{"why":"Unknown"}'), (500, b""), (200, b"nothing")):
            provider.answers = [answer]
            assert not (await core.delete_resource(made.id)).accepted
            assert core.resources.get(made.id) is made
        provider.answers = [(200, b'{"responses":[{}]}')]
        assert (await core.delete_resource(made.id)).accepted
        assert last(provider)[:2] == ("DELETE", "/licenses")
        assert core.resources.get(made.id) is None
        assert core.repeats == []


async def test_a_provider_may_tell_of_a_license_while_its_create_is_open(key: PrivateKey) -> None:
    """2021 §5.3: the reference says READY inside create, before it answers."""
    async with both(key, G2021) as (core, provider):

        def ready() -> None:
            (item,) = provider.heard[-1].items
            update: JsonObject = {"id": item["id"], "update": {"state": "READY"}}
            licenses.update(core.resources, "example", [update], core.clock.now_ms())

        provider.on_call = ready
        assert (await bought(core)).states == ["READY"]


async def test_core_of_2021_asks_nobody_about_a_license_that_is_not_ready(key: PrivateKey) -> None:
    """2021 §5.3: 400 by Core itself, and no job is left."""
    async with both(key, G2021) as (core, provider):
        made = await bought(core)
        sent = await core.submit(licensed_request(made.id))
        assert (sent.outcome.status, sent.outcome.why, len(core.jobs)) == (400, "Not all resources are ready", 0)
        assert [heard.path for heard in provider.heard] == ["/ucloud/example/licenses"]


async def test_a_line_of_shell_with_a_license(key: PrivateKey) -> None:
    """To try seats out: the license is a parameter, so that Core of 2021 looks at it too, and no word of the command."""
    async with both(key, G2021) as (core, provider):
        made = await bought(core, username="bob")
        early = await core.submit(replace(shell_request("true", license_id=made.id), username="bob"))
        assert early.outcome.why == "Not all resources are ready"
        await control(core, "POST", "update", {"id": made.id, "update": {"state": "READY"}})
        body: JsonObject = {"shell": "sleep 30", "replicas": 2, "license": made.id, "username": "bob"}
        assert (await steer(core, "POST", "jobs", body))[1]["accepted"]
        (sent,) = cast("list[JsonObject]", last(provider)[2]["items"])
        assert dig(sent, "specification", "parameters") == {
            "script": {"type": "text", "value": "sleep 30"},
            "license": {"type": "license_server", "id": made.id},
        }
        assert dig(sent, "specification", "replicas") == 2
        assert dig(sent, "owner", "createdBy") == "bob"
        assert "license" not in str(dig(sent, "status", "resolvedApplication", "invocation", "invocation"))


@pytest.mark.parametrize("generation", [G2021, G2026])
async def test_an_acl_is_changed_with_the_provider_or_without(key: PrivateKey, generation: Generation) -> None:
    """2021 §5.2, fixture derived-licenses-provider-updateAcl: the state before and the raw lists, an error rolls back; today §4: never
    forwarded. Core stores READ and EDIT only (2021 §1.6)."""
    async with both(key, generation) as (core, provider):
        made = await bought(core)
        heard = len(provider.heard)
        provider.answers = [(404, b""), (200, b'{"responses":[{}]}'), (200, b'{"responses":[{}]}')]
        added: list[JsonObject] = [{"entity": FRIEND, "permissions": ["READ", "ADMIN"]}]
        if generation is G2021:
            assert not (await core.update_license_acl(made.id, added)).accepted
            assert made.others == []
        assert (await core.update_license_acl(made.id, added)).accepted
        assert made.others == [{"entity": FRIEND, "permissions": ["READ"]}]
        if generation is G2021:
            (item,) = cast("list[JsonObject]", last(provider)[2]["items"])
            assert last(provider)[1] == "/licenses/updateAcl"
            assert (item["added"], item["deleted"], dig(item, "resource", "id")) == (added, [], made.id)
            assert dig(item, "resource", "permissions", "others") is None
        assert (await core.update_license_acl(made.id, [], [FRIEND])).accepted
        assert made.others == []
        assert len(provider.heard) == heard + (3 if generation is G2021 else 0)


async def test_new_labels_are_told_first_and_kept_when_the_provider_does_not_mind(key: PrivateKey) -> None:
    """core2/pkg/orchestrator/resources_orchestration.go, ResourceUpdateLabelsThroughProvider: 404 = not interested, else as before."""
    async with both(key, G2026) as (core, provider):
        made = await bought(core)
        provider.answers = [(500, b""), (404, b"")]
        assert not (await core.update_license_labels(made.id, {"a": "b"})).accepted
        assert made.labels == {}
        assert dig(provider.heard[-1].items[0], "specification", "labels") == {"a": "b"}
        assert (await core.update_license_labels(made.id, {"a": "b"})).accepted
        assert (last(provider)[1], made.labels) == ("/licenses/onUpdatedLabels", {"a": "b"})
    async with both(key, G2021) as (core, _):
        assert (await steer(core, "POST", f"licenses/{(await bought(core)).id}/labels", {"labels": {}}))[0] == 404


async def test_init_and_verify_are_the_documents(key: PrivateKey) -> None:
    """2021 §5.1, fixtures derived-licenses-provider-init-2023 and -verify: init names a principal and its failure is ignored; verify has no
    user. Today has neither (today §10)."""
    async with both(key, G2021) as (core, provider):
        one, two = await bought(core), await bought(core)
        provider.answers = [(500, b"")]
        assert (await core.init_licenses("user", "p")).accepted
        assert last(provider) == ("POST", "/licenses/init", {"principal": {"createdBy": "user", "project": "p"}})
        await core.verify_licenses()
        assert last(provider)[1] == "/licenses/verify"
        assert [item["id"] for item in provider.heard[-1].items] == [one.id, two.id]
        assert "ucloud-username" not in lowered(provider.heard[-1])
        await core.verify_licenses(two.id)
        assert [item["id"] for item in provider.heard[-1].items] == [two.id]
    async with both(key, G2026) as (core, _):
        assert (await steer(core, "POST", "licenses/init"))[0] == 404
        assert (await steer(core, "POST", "licenses/verify"))[0] == 404


@pytest.mark.parametrize("generation", [G2021, G2026])
async def test_a_provider_reaches_every_control_call_of_licenses(key: PrivateKey, generation: Generation) -> None:
    """2021 §5.2, §5.3; today §9: register, browse by own id, and the calls that only one generation has."""
    async with both(key, generation) as (core, _):
        product: JsonObject = {"id": "example-license", "category": "example-license", "provider": "example"}
        wish: JsonObject = {"spec": {"product": product}, "providerGeneratedId": "own-1", "createdBy": "user", "project": None}
        status, made = await control(core, "POST", "register", wish)
        license_id = str(dig(as_list(made["responses"], "")[0], "id"))
        assert status == 200
        _, page = await control(core, "GET", "browse?filterProviderIds=own-1&includeProduct=true&itemsPerPage=10")
        (found,) = as_list(page["items"], "")
        assert (dig(found, "id"), dig(found, "status", "resolvedProduct", "name"), page["next"]) == (license_id, "example-license", None)
        again = (await control(core, "POST", "register", wish))[0]
        assert (again, len(core.repeats), len(core.resources)) == ((500, 0, 1) if generation is G2021 else (409, 1, 1))
        charge: JsonObject = {"id": license_id, "chargeId": f"license-{license_id}-1", "units": 1, "numberOfProducts": 1}
        assert (await control(core, "POST", "chargeCredits", charge))[0] == (200 if generation is G2021 else 404)
        labels: JsonObject = {"id": license_id, "labels": {"a": "b"}}
        assert (await control(core, "POST", "updateLabels", labels))[0] == (404 if generation is G2021 else 200)
        assert (await control(core, "POST", "update"))[0] == (400 if generation is G2021 else 200)
        refused = 401 if generation is G2021 else 403
        for method, path in (("POST", "update"), ("POST", "register"), ("GET", "browse"), ("GET", f"retrieve?id={license_id}")):
            assert (await control(core, method, path, token=False))[0] == refused
        _, told = await steer(core, "GET", "crashes")
        assert len(as_list(told["items"], "")) == len(core.repeats)


SOLVER_2021: JsonObject = {
    "type": "license",
    "name": "mesh-solver",
    "pricePerUnit": 5,
    "category": {"name": "mesh-solver", "provider": "example"},
    "tags": ["mesh"],
}
UNIT: JsonObject = {"name": "License", "namePlural": "Licenses", "floatingPoint": False, "displayFrequencySuffix": True}
CATEGORY: JsonObject = {
    "name": "mesh-solver",
    "provider": "example",
    "productType": "LICENSE",
    "accountingUnit": UNIT,
    "accountingFrequency": "ONCE",
}
SOLVER_2026: JsonObject = {
    "type": "license",
    "productType": "LICENSE",
    "name": "mesh-solver",
    "description": "Meshes",
    "price": 5,
    "fraction": {"numerator": 1, "denominator": 1},
    "category": CATEGORY,
}


@pytest.mark.parametrize(
    ("generation", "path", "area", "item"),
    [(G2021, "products", "filterArea", SOLVER_2021), (G2026, "products/v2", "filterProductType", SOLVER_2026)],
)
async def test_a_provider_registers_what_licenses_it_sells(
    key: PrivateKey, generation: Generation, path: str, area: str, item: JsonObject
) -> None:
    """2021 §8.4: PER_UNIT unless said otherwise, tags come back; today §2 step 9: LICENSE in both places; found by area, and bought."""
    async with both(key, generation) as (core, _):
        assert await control(core, "POST", f"../../{path}", item) == (200, {})
        _, page = await control(core, "GET", f"../../{path}/browse?filterProvider=example&{area}=LICENSE")
        found = as_list(page["items"], "")
        assert [(dig(one, "type"), dig(one, "name")) for one in found] == [("license", "example-license"), ("license", "mesh-solver")]
        assert dig(found[1], "tags" if generation is G2021 else "price") == (["mesh"] if generation is G2021 else 5)
        _, machines = await control(core, "GET", f"../../{path}/browse?filterProvider=example&{area}=COMPUTE")
        assert "mesh-solver" not in [dig(one, "name") for one in as_list(machines["items"], "")]
        product = core.accounts.products["example", "mesh-solver", "mesh-solver"]
        assert (product.unit, product.price_per_unit, product.kind) == ("PER_UNIT", 5, "license")
        wrong = item | ({"unitOfPrice": "PER_SEAT"} if generation is G2021 else {"productType": "COMPUTE"})
        assert (await control(core, "POST", f"../../{path}", wrong))[0] == 400
        _, made = await steer(core, "POST", "licenses", {"product": "mesh-solver"})
        assert core.resources.known_license(str(made["id"])).key == product.key


async def test_an_own_id_that_two_creates_are_answered_with_is_noted(key: PrivateKey) -> None:
    """today §6.1: create after create with the same id makes Core exit; both users see a license."""
    async with both(key, G2026) as (core, provider):
        provider.answers = [(200, b'{"responses":[{"id":"lic"}]}')] * 2
        await bought(core)
        assert core.repeats == []
        await bought(core)
        assert [(repeat.own_id, repeat.fatal) for repeat in core.repeats] == [("lic", True)]


async def test_licenses_are_steered_over_http(key: PrivateKey) -> None:
    """docs/devcore.md: the example without a body, its state, a job with it, and its end."""
    async with both(key, G2021) as (core, provider):
        _, made = await steer(core, "POST", "licenses")
        license_id = str(made["id"])
        assert (made["accepted"], dig(made, "user", "status")) == (True, 200)
        _, refused = await steer(core, "POST", "jobs", {"license": license_id})
        assert (refused["accepted"], dig(refused, "user", "why")) == (False, "Not all resources are ready")
        await control(core, "POST", "update", {"id": license_id, "update": {"state": "READY"}})
        _, shown = await steer(core, "GET", f"licenses/{license_id}")
        assert (shown["state"], shown["owner"], dig(shown, "license", "status", "state")) == ("READY", "user:user", "READY")
        _, started = await steer(core, "POST", "jobs", {"license": license_id})
        assert started["accepted"] is True
        assert dig(provider.heard[-1].items[0], "specification", "parameters", "license") == {"type": "license_server", "id": license_id}
        _, listed = await steer(core, "GET", "licenses")
        assert [dig(one, "id") for one in as_list(listed["items"], "")] == [license_id]
        provider.answers = [(200, b'{"responses":[{}]}')] * 2
        assert dig((await steer(core, "POST", f"licenses/{license_id}/acl", {"added": []}))[1], "user", "status") == 200
        assert dig((await steer(core, "DELETE", f"licenses/{license_id}"))[1], "user", "status") == 200
        assert len(core.resources) == 0
        for method, path, body in (
            ("POST", "licenses", {"product": "none"}),
            ("GET", "licenses/9", None),
            ("DELETE", "licenses/9", None),
            ("POST", "licenses/9/acl", None),
        ):
            assert (await steer(core, method, path, cast("Json", body)))[0] == 404
        assert (await steer(core, "POST", "jobs", {"license": license_id, "replicas": 2}))[0] == 400


async def test_any_resource_may_be_a_projects_and_support_of_licenses_is_asked(key: PrivateKey) -> None:
    """docs/devcore.md: `project` beside `username`; `GET /devcore/products?type=licenses`. What is heard is believed (today §4)."""
    async with both(key, G2026) as (core, provider):
        product: JsonObject = {"id": "example-license", "category": "example-license", "provider": "example"}
        provider.answers = [(200, json.dumps({"responses": [{"product": product, "maintenance": None}]}).encode())]
        _, told = await steer(core, "GET", "products?type=licenses")
        assert (told["status"], last_path(provider)) == (200, "/licenses/retrieveProducts")
        wish: JsonObject = {"type": "licenses", "category": "example-license", "product": "example-license", "project": "p"}
        _, made = await steer(core, "POST", "resources", wish)
        assert core.resources.known_license(str(made["id"])).owner == "project:p"
        assert dig(provider.heard[-1].items[0], "status", "resolvedSupport", "support") == {"product": product}


async def test_a_users_token_comes_over_http(key: PrivateKey) -> None:
    """It is of the key whose public half is the provider's to have, and in no record of the wire."""
    async with both(key, G2026) as (core, _):
        wish: JsonObject = {"username": "user", "project": "p", "role": "ADMIN", "groups": ["g"]}
        status, answer = await steer(core, "POST", "tokens", wish)
        token = cast("str", answer["accessToken"])
        claims = cast("JsonObject", jwt.decode(token, core.users.public_key_pem, algorithms=["RS256"], audience="all:write"))
        assert (status, claims["sub"], claims["membership"], claims["groups"]) == (200, "user", {"p": "ADMIN"}, {"g": "p"})
        assert token not in json.dumps([exchange.to_json() for exchange in core.requests.find()])
        assert (await steer(core, "POST", "tokens", {"username": "_UCloud"}))[0] == 400
        assert (await steer(core, "POST", "tokens", {}))[0] == 400


def test_the_example_request_is_the_stand_ins_own() -> None:
    """examples/requests/licensed.json is what `{"license": "5123"}` sends in 2021."""
    written = cast("JsonObject", json.loads((EXAMPLES / "requests" / "licensed.json").read_text(encoding="utf-8")))
    assert written == {"items": [job_document(licensed_request("5123"), "54113", 1_633_329_776_235, G2021)]}
    assert (EXAMPLES / "acme-licensed" / ACME_SOLVER.name).stat().st_mode & 0o111
