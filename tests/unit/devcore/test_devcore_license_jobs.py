"""Licenses as Core sends them, in jobs, and what they cost. Each test names its source: a section of the facts, or a file of UCloud."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import pytest
from fakes.devcore_licenses import OTHER, REFERENCE, core_with_license, item, own, updated
from serai_devcore import EXAMPLE_LICENSE, CoreError, Generation, licensed_request
from serai_devcore import licenses as rules
from serai_devcore.documents import job_document, product_document
from serai_devcore.state import State
from serai_devcore.wire import Json, JsonObject, as_list, dig

G2021, G2026 = Generation.G2021, Generation.G2026
GOLDEN = Path(__file__).parents[2] / "golden"


def test_the_license_of_2021_is_that_of_the_fixture() -> None:
    """2021 fixture derived-licenses-provider-create: no product, no support, `billing` and `acl` constant."""
    state = core_with_license(G2021)
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
    state = core_with_license(G2026)
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
    state = core_with_license(G2021)
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
    state = core_with_license(G2021)
    updated(state, item(state="READY"))
    found = state.resources.known_license("5123")
    entity: JsonObject = {"type": "user", "username": "friend"}
    found.others = [{"entity": entity, "permissions": ["READ"]}]
    assert refused(state, username="friend") == (400, "Unable to use all requested resources")
    found.others = [{"entity": entity, "permissions": ["READ", "EDIT"]}]
    assert refused(state, username="friend") is None


def test_core_of_today_forwards_all_but_what_the_user_may_not_use() -> None:
    """today §10: the state is constantly READY; core2/pkg/orchestrator/job.go: 403 without EDIT, wherever the license is named."""
    state = core_with_license(G2026)
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
    was = core_with_license(G2021)
    updated(was, item(state="READY"))
    assert rules.refusal(was, old) is None, "2021 looks at parameters only"


def test_a_license_is_unbound_when_its_job_has_ended() -> None:
    """2021 §2.1 First final state: as an update of Core's own, and once; BIND is never Core's (§5.3). today §7: boundTo is the last job's,
    §9: a final state unbinds."""
    for generation in (G2021, G2026):
        state = core_with_license(generation)
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
    state = core_with_license(G2021)
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
    state = core_with_license(G2026)
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
