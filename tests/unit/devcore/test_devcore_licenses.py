"""Core's rules for licenses, by the stand-in's books. Each test names its source: a section of the facts, or a file of UCloud."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import pytest
from fakes.devcore_time import StillClock
from serai_devcore import EXAMPLE_LICENSE, CoreError, Generation, Product, ResourceRequest, Settings, licensed_request
from serai_devcore import licenses as rules
from serai_devcore.documents import job_document, product_document
from serai_devcore.resources import Resource
from serai_devcore.state import State
from serai_devcore.wire import Json, JsonObject, as_list, dig

G2021, G2026 = Generation.G2021, Generation.G2026
GOLDEN = Path(__file__).parents[2] / "golden"
OTHER = Product("other-license", "other-license", "other", kind="license", unit="PER_UNIT")
REFERENCE: JsonObject = {"id": "example-license", "category": "example-license", "provider": "example"}


def core(generation: Generation) -> State:
    """With one confirmed license, 5123."""
    state = State(Settings(generation=generation), StillClock())
    state.accounts.add_product(OTHER)
    own(state)
    return state


def own(
    state: State, license_id: str = "5123", *, product: Product = EXAMPLE_LICENSE, username: str = "user", project: str | None = None
) -> Resource:
    request = ResourceRequest("licenses", product, {}, username, project)
    made = state.resources.insert(request, license_id, 1_633_329_776_235)
    state.resources.confirm(made, None)
    return made


def item(license_id: str = "5123", **update: Json) -> JsonObject:
    return {"id": license_id, "update": update}


def updated(state: State, *items: JsonObject) -> Resource:
    rules.update(state.resources, "example", items, state.clock.now_ms())
    return state.resources.known_license("5123")


def status_of(state: State, *items: JsonObject, provider: str = "example") -> int:
    with pytest.raises(CoreError) as caught:
        rules.update(state.resources, provider, items, state.clock.now_ms())
    return caught.value.status


def test_an_update_of_2021_sets_the_state_and_null_keeps_it() -> None:
    """2021 §5.3: PREPARING until the provider says otherwise; `state` is coalesced, text that is no state counts as none (§7), history is
    kept with Core's clock."""
    state = core(G2021)
    assert state.resources.known_license("5123").state == "PREPARING"
    found = updated(state, item(timestamp=7, state="READY", status="License is ready for use", binding=None))
    assert found.state == "READY"
    assert updated(state, item(state=None, status="still")).state == "READY"
    assert updated(state, item(state="BROKEN")).state == "READY"
    assert updated(state, item(state="UNAVAILABLE", timestamp=None)).state == "UNAVAILABLE"
    shown = rules.retrieve(state, "example", {"id": "5123", "includeUpdates": "true"})
    assert as_list(shown["updates"], "")[0] == {
        "timestamp": state.clock.now_ms(),
        "state": "READY",
        "status": "License is ready for use",
        "binding": None,
    }
    assert len(as_list(shown["updates"], "")) == 4
    assert rules.retrieve(state, "example", {"id": "5123"})["updates"] == []


def test_a_binding_of_2021_adds_and_removes_a_job() -> None:
    """2021 §5.3: several jobs may use one license; UNBIND takes each entry of the job away."""
    state = core(G2021)
    for job in ("7", "8", "7"):
        updated(state, item(binding={"kind": "BIND", "job": job}))
    found = state.resources.known_license("5123")
    assert found.bound_to == ["7", "8", "7"]
    assert updated(state, item(binding={"kind": "UNBIND", "job": "7"})).bound_to == ["8"]


@pytest.mark.parametrize(
    ("binding", "status"),
    [({"kind": "HOLD", "job": "7"}, 400), ({"kind": "BIND"}, 400), ({"kind": "BIND", "job": "lic-7"}, 500), ("7", 400)],
)
def test_a_binding_that_cannot_be_read_fails_the_batch(binding: Json, status: int) -> None:
    """2021 §5.3: `job` is a number as text, or Core stumbles (500); kind has no default (§7)."""
    state = core(G2021)
    assert status_of(state, item(state="READY"), item(binding=binding)) == status
    assert state.resources.known_license("5123").state == "PREPARING"


def test_of_two_updates_of_one_license_in_a_batch_only_one_counts_in_2021() -> None:
    """JobBoundResource.kt @48ff7680d6, onUpdate: one UPDATE … FROM, of which PostgreSQL uses one row for each license; history has both."""
    state = core(G2021)
    found = updated(state, item(state="UNAVAILABLE"), item(state="READY"))
    assert (found.state, [a.applied for a in found.arrivals], [a.kept for a in found.arrivals]) == (
        "UNAVAILABLE",
        [True, False],
        [True] * 2,
    )


def test_today_takes_updates_and_does_nothing() -> None:
    """today §9: state, status and binding all discarded; §7: always READY, no `updates` key, `boundTo` null when free."""
    state = core(G2026)
    found = updated(state, item(state="UNAVAILABLE", status="x", binding={"kind": "BIND", "job": "no number"}))
    assert [(a.kept, a.applied) for a in found.arrivals] == [(False, False)]
    shown = rules.retrieve(state, "example", {"id": "5123", "includeUpdates": "true"})
    assert "updates" not in shown
    assert (dig(shown, "status", "state"), dig(shown, "status", "boundTo")) == ("READY", None)
    assert status_of(state, item(timestamp=None)) == 400


@pytest.mark.parametrize(("generation", "status"), [(G2021, 400), (G2026, 404)])
def test_one_unknown_or_foreign_license_fails_the_whole_batch(generation: Generation, status: int) -> None:
    """2021 §2.1 Permission; today §9. A drive is no license."""
    state = core(generation)
    own(state, "6", product=OTHER)
    state.resources.insert(ResourceRequest("files/collections", EXAMPLE_LICENSE), "7", 0)
    for foreign in ("6", "7", "99"):
        assert status_of(state, item(state="UNAVAILABLE"), item(foreign, state="READY")) == status
    assert status_of(state, item(), provider="other") == status
    assert state.resources.known_license("5123").arrivals == []


def register(state: State, *items: JsonObject, provider: str = "example") -> list[str]:
    return rules.register(state, provider, items)


def wish(own_id: str | None = "lic-a", **more: Json) -> JsonObject:
    """2021 fixture derived-licenses-control-register."""
    spec: JsonObject = {"product": REFERENCE}
    return {"spec": spec, "providerGeneratedId": own_id, "createdBy": "user", "project": None, **more}


@pytest.mark.parametrize(("generation", "first"), [(G2021, "PREPARING"), (G2026, "READY")])
def test_a_provider_registers_a_license_of_its_own(generation: Generation, first: str) -> None:
    """2021 §2.3, today §9: an id comes back, the license is confirmed; createdBy is `_ucloud` unless given."""
    state = core(generation)
    one, two = register(state, wish(), wish(None, createdBy=None, project="p"))
    made, other = state.resources.known_license(one), state.resources.known_license(two)
    assert (made.owner, made.provider_generated_id, made.confirmed, made.state) == ("user:user", "lic-a", True, first)
    assert (other.username, other.owner, other.provider_generated_id) == ("_ucloud", "project:p", None)
    assert len({one, two, "5123"}) == 3


def test_the_same_own_id_again_is_the_same_license_in_2021() -> None:
    """2021 §2.3: upsert keyed by providerGeneratedId."""
    state = core(G2021)
    assert register(state, wish()) == register(state, wish())
    assert state.jobs.own_ids.repeats == []


def test_the_same_own_id_again_is_refused_today_or_the_end_of_core() -> None:
    """core2/pkg/orchestrator/resources.go, ResourceCreateEx: 409 for one that was registered. today §6.1: one that came with the answer to
    a create is taken, and Core exits 20 s later; noted. It is free again when its license is deleted."""
    state = core(G2026)
    (made,) = register(state, wish())
    with pytest.raises(CoreError) as caught:
        register(state, wish())
    assert caught.value.status == 409
    assert [(r.own_id, r.fatal) for r in state.jobs.own_ids.repeats] == [("lic-a", False)]
    state.resources.forget(made)
    register(state, wish())
    state.resources.confirm(state.resources.known_license("5123"), "created")
    assert len(register(state, wish("created"))) == 1
    assert [r.own_id for r in state.jobs.own_ids.crashes] == ["created"]
    state.resources.confirm(own(state, "6"), "created")
    assert [r.own_id for r in state.jobs.own_ids.crashes] == ["created", "created"]


def test_an_own_id_is_unique_over_jobs_and_licenses() -> None:
    """today §6.1: per provider, over all resource types."""
    state = core(G2026)
    state.jobs.insert(job_document(licensed_request("5123"), "1", 0, G2026))
    state.jobs.confirm("1", "shared")
    state.resources.confirm(state.resources.known_license("5123"), "shared")
    assert [(r.provider, r.own_id, r.fatal) for r in state.jobs.own_ids.crashes] == [("example", "shared", True)]


@pytest.mark.parametrize("generation", [G2021, G2026])
def test_what_is_not_the_providers_cannot_be_registered(generation: Generation) -> None:
    """2021 §2.3: 400 when mixed, 403 when foreign; today 403. A comma in an own id is a 400."""
    state = core(generation)
    foreign = wish("b", spec={"product": {"id": "other-license", "category": "other-license", "provider": "other"}})
    for items, status in (([foreign], 403), ([wish(), foreign], 400 if generation is G2021 else 403), ([wish("a,b")], 400)):
        with pytest.raises(CoreError) as caught:
            register(state, *items)
        assert caught.value.status == status
    assert len(state.resources) == 1


@pytest.mark.parametrize(("generation", "status"), [(G2021, 404), (G2026, 403)])
def test_retrieve_refuses_what_is_not_the_callers(generation: Generation, status: int) -> None:
    """2021 §2.4; today §9 and §10 "unknown id"."""
    state = core(generation)
    for provider, license_id in (("example", "9"), ("other", "5123"), ("example", "")):
        with pytest.raises(CoreError) as caught:
            rules.retrieve(state, provider, {"id": license_id})
        assert caught.value.status == status


def browsed(state: State, **query: str) -> list[Json]:
    return [dig(found, "id") for found in as_list(rules.browse(state, "example", query)["items"], "")]


@pytest.mark.parametrize("generation", [G2021, G2026])
def test_browse_filters_and_pages(generation: Generation) -> None:
    """2021 §2.4, §7.1, §7.2: flags are flat, ids are lists with commas, sizes are Core's own, `next` goes on; today §9: newest first."""
    state = core(generation)
    ids = register(state, *[wish(f"own-{number}", createdBy=f"u{number % 2}") for number in range(12)])
    own(state, "8", product=OTHER)
    assert browsed(state, filterProviderIds="own-3,own-5,none") == [ids[5], ids[3]]
    assert browsed(state, filterIds=f"{ids[0]},5123") == ["5123", ids[0]]
    assert browsed(state, filterCreatedBy="u1") == [ids[n] for n in (11, 9, 7, 5, 3, 1)]
    assert browsed(state, filterProductId="none") == browsed(state, hideProductId="example-license") == []
    assert len(browsed(state, filterProductCategory="example-license", hideProvider="other")) == 13
    page = rules.browse(state, "example", {"itemsPerPage": "10"})
    assert (page["itemsPerPage"], len(as_list(page["items"], ""))) == (10, 10)
    assert browsed(state, itemsPerPage="10", next=cast("str", page["next"])) == [ids[2], ids[1], ids[0]]
    assert rules.browse(state, "example", {"itemsPerPage": "11"})["itemsPerPage"] == 50


def test_an_unconfirmed_license_is_not_browsed() -> None:
    """2021 §1.1: it is Core's only when the provider has taken it."""
    state = core(G2021)
    state.resources.insert(ResourceRequest("licenses", EXAMPLE_LICENSE), "6", 0)
    assert browsed(state) == ["5123"]


def test_labels_are_the_providers_to_change_today() -> None:
    """core2/pkg/orchestrator/license.go, LicensesControlUpdateLabels: one after the other, 403 for what is not its own."""
    state = core(G2026)
    with pytest.raises(CoreError) as caught:
        rules.update_labels(state.resources, "example", [{"id": "5123", "labels": {"a": "b"}}, {"id": "9", "labels": {}}])
    assert caught.value.status == 403
    assert dig(rules.retrieve(state, "example", {"id": "5123"}), "specification", "labels") == {"a": "b"}


def test_the_license_of_2021_is_that_of_the_fixture() -> None:
    """2021 fixture derived-licenses-provider-create: no product, no support, `billing` and `acl` constant."""
    state = core(G2021)
    assert rules.for_provider(state, state.resources.known_license("5123"), is_new=True) == {
        "id": "5123",
        "specification": {"product": REFERENCE},
        "owner": {"createdBy": "user", "project": None},
        "createdAt": 1633329776235,
        "status": {"state": "PREPARING", "resolvedSupport": None, "resolvedProduct": None, "boundTo": []},
        "updates": [],
        "permissions": {"myself": ["ADMIN"], "others": None},
        "billing": {},
        "acl": None,
    }


def keys(value: Json) -> Json:
    """The shape of a document: every key, without what stands there."""
    if isinstance(value, dict):
        return {key: keys(inner) for key, inner in value.items()}
    return None


@pytest.mark.parametrize(("name", "is_new"), [("POST_licenses", True), ("DELETE_licenses", False)])
def test_the_license_of_today_has_the_keys_of_the_captured_one(name: str, *, is_new: bool) -> None:
    """core-wire/POST_licenses.json, DELETE_licenses.json: product and support are there, permissions are empty at the create."""
    golden = cast("JsonObject", json.loads((GOLDEN / "ucloud-2026" / f"{name}.json").read_text()))
    request = golden.get("request", golden)
    (captured,) = as_list(dig(request, "items"), "")
    state = core(G2026)
    found = state.resources.known_license("5123")
    state.support.believe("example", "licenses", [{"product": REFERENCE, "maintenance": None}])
    if not is_new:
        found.provider_generated_id, found.bound_to = "lic-40", ["42"]
    document = rules.for_provider(state, found, is_new=is_new)
    assert keys(document) == keys(captured)
    assert dig(document, "permissions", "myself") == dig(captured, "permissions", "myself")
    assert dig(document, "status", "boundTo") == dig(captured, "status", "boundTo")
    unit = ("status", "resolvedProduct", "category", "accountingUnit")
    assert dig(document, *unit) == dig(captured, *unit)
    assert dig(document, "status", "resolvedSupport", "support") == {"product": REFERENCE}


def test_a_license_product_of_2021_has_tags_and_no_machine() -> None:
    """2021 §8.4 Product.License; seed 003 retrieveProducts."""
    shown = product_document(EXAMPLE_LICENSE, G2021)
    assert {key: shown[key] for key in ("name", "pricePerUnit", "unitOfPrice", "productType", "tags", "description")} == {
        "name": "example-license",
        "pricePerUnit": 1,
        "unitOfPrice": "PER_UNIT",
        "productType": "LICENSE",
        "tags": [],
        "description": "An example license",
    }
    assert not {"cpu", "memoryInGigs", "gpu"} & shown.keys()


def refused(state: State, license_id: str = "5123", *, username: str = "user", project: str | None = None) -> tuple[int, str] | None:
    request = licensed_request(license_id, username=username, project=project)
    return rules.refusal(state, job_document(request, "1", 0, state.generation))


def test_core_of_2021_refuses_a_job_whose_license_does_not_fit() -> None:
    """2021 §5.3: not READY, another project's, another provider's, unknown; in this order."""
    state = core(G2021)
    assert refused(state) == (400, "Not all resources are ready")
    updated(state, item(state="READY"))
    assert refused(state) is None
    assert refused(state, project="p") == (400, "Not all resources can be used in this application")
    own(state, "6", product=OTHER).state = "READY"
    assert refused(state, "6") == (400, "Not all resources can be used in this application")
    own(state, "7", username="somebody").state = "READY"
    assert refused(state, "7") == refused(state, "99") == (400, "Unable to use all requested resources")
    own(state, "8", username="somebody", project="p").state = "READY"
    assert refused(state, "8", project="p") is None
    updated(state, item(state="UNAVAILABLE"))
    assert refused(state) == (400, "Not all resources are ready")


def test_a_license_may_be_used_by_whom_its_acl_lets() -> None:
    """2021 §5.3 source: EDIT is needed; READ is not enough."""
    state = core(G2021)
    updated(state, item(state="READY"))
    found = state.resources.known_license("5123")
    entity: JsonObject = {"type": "user", "username": "friend"}
    found.others = [{"entity": entity, "permissions": ["READ"]}]
    assert refused(state, username="friend") == (400, "Unable to use all requested resources")
    found.others = [{"entity": entity, "permissions": ["READ", "EDIT"]}]
    assert refused(state, username="friend") is None


def test_core_of_today_forwards_all_but_what_the_user_may_not_use() -> None:
    """today §10: the state is constantly READY; core2/pkg/orchestrator/job.go: 403 without EDIT, wherever the license is named."""
    state = core(G2026)
    own(state, "6", product=OTHER)
    assert refused(state) is None
    assert refused(state, "6") is None
    assert refused(state, project="p") == refused(state, "99") == (403, "You cannot use this license")
    document = job_document(licensed_request("5123"), "1", 0, G2026)
    specification = cast("JsonObject", document["specification"])
    specification["resources"] = [{"type": "license_server", "id": "99"}]
    assert rules.refusal(state, document) == (403, "You cannot use this license")
    old = job_document(licensed_request("5123"), "1", 0, G2021)
    cast("JsonObject", old["specification"])["resources"] = [{"type": "license_server", "id": "99"}]
    was = core(G2021)
    updated(was, item(state="READY"))
    assert rules.refusal(was, old) is None, "2021 looks at parameters only"


def test_a_license_is_unbound_when_its_job_has_ended() -> None:
    """2021 §2.1 First final state: as an update of Core's own, and once; BIND is never Core's (§5.3). today §7: boundTo is the last job's,
    §9: a final state unbinds."""
    for generation in (G2021, G2026):
        state = core(generation)
        for job_id in ("1", "2"):
            job = state.jobs.insert(job_document(licensed_request("5123"), job_id, 0, generation))
            state.resources.bind(job)
        found = state.resources.known_license("5123")
        assert found.bound_to == ([] if generation is G2021 else ["2"])
        if generation is G2021:
            updated(state, item(binding={"kind": "BIND", "job": "1"}), item("5123"))
            updated(state, item(binding={"kind": "BIND", "job": "2"}))
        state.jobs.update("example", [{"id": "1", "update": {"state": "RUNNING"}}])
        assert "2" in found.bound_to
        before = len(found.arrivals)
        state.jobs.update("example", [{"id": "1", "update": {"state": "SUCCESS"}}])
        state.jobs.update("example", [{"id": "1", "update": {"status": "late"}}])
        assert found.bound_to == ["2"]
        assert len(found.arrivals) - before == (1 if generation is G2021 else 0)
        state.jobs.update("example", [{"id": "2", "update": {"state": "FAILURE"}}])
        assert found.bound_to == []


def test_a_license_is_charged_by_the_rules_of_jobs_in_2021() -> None:
    """2021 §2.2, §0.2 #7 and #8: units times price of its own product from its owner's wallet; a charge id counts once for the provider
    and comes back as a shortage."""
    state = core(G2021)
    charge: JsonObject = {"id": "5123", "chargeId": "5123-2021-10-08", "units": 1, "numberOfProducts": 1, "performedBy": None}
    done = state.accounts.charge_for("example", [charge], state.resources.owned_licenses)
    assert done == {"insufficientFunds": [], "duplicateCharges": []}
    again = state.accounts.charge_for("example", [charge], state.resources.owned_licenses)
    assert again == {"insufficientFunds": [{"id": "5123"}], "duplicateCharges": []}
    assert [(c.job_id, c.charged, c.duplicate) for c in state.accounts.charges] == [("5123", 1, False), ("5123", 0, True)]
    ((key, wallet),) = state.accounts.wallets.items()
    assert (key.owner, key.category, wallet.used) == ("user:user", "example-license", 1)
    with pytest.raises(CoreError) as caught:
        state.accounts.charge_for("example", [charge | {"id": "9"}], state.resources.owned_licenses)
    assert caught.value.status == 400


def test_a_license_is_reported_as_usage_today() -> None:
    """today §9 reportUsage: absolute within its scope, so twice is once; its owner is known by the license alone."""
    state = core(G2026)
    usage: JsonObject = {
        "isDeltaCharge": False,
        "owner": {"type": "user", "username": "user"},
        "categoryIdV2": {"name": "example-license", "provider": "example"},
        "usage": 1,
        "description": {"scope": "license-5123", "description": "License 5123"},
    }
    for _ in range(2):
        assert state.accounts.report_usage("example", [usage]) == {"responses": [True]}
    assert state.accounts.scopes_of("user:user") == {"license-5123": 1}
    assert sum(charge.charged for charge in state.accounts.charges) == 1
