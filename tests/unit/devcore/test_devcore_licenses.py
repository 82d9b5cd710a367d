"""Core's rules for licenses, by the stand-in's books. Each test names its source: a section of the facts, or a file of UCloud."""

from __future__ import annotations

from typing import cast

import pytest
from fakes.devcore_licenses import OTHER, REFERENCE, core_with_license, item, own, updated
from serai_devcore import EXAMPLE_LICENSE, CoreError, Generation, ResourceRequest, licensed_request
from serai_devcore import licenses as rules
from serai_devcore.documents import job_document
from serai_devcore.state import State
from serai_devcore.wire import Json, JsonObject, as_list, dig

G2021, G2026 = Generation.G2021, Generation.G2026


def status_of(state: State, *items: JsonObject, provider: str = "example") -> int:
    with pytest.raises(CoreError) as caught:
        rules.update(state.resources, provider, items, state.clock.now_ms())
    return caught.value.status


def test_an_update_of_2021_sets_the_state_and_null_keeps_it() -> None:
    """2021 §5.3: PREPARING until the provider says otherwise; `state` is coalesced, text that is no state counts as none (§7), history is
    kept with Core's clock."""
    state = core_with_license(G2021)
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
    state = core_with_license(G2021)
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
    state = core_with_license(G2021)
    assert status_of(state, item(state="READY"), item(binding=binding)) == status
    assert state.resources.known_license("5123").state == "PREPARING"


def test_of_two_updates_of_one_license_in_a_batch_only_one_counts_in_2021() -> None:
    """JobBoundResource.kt @48ff7680d6, onUpdate: one UPDATE … FROM, of which PostgreSQL uses one row for each license; history has both."""
    state = core_with_license(G2021)
    found = updated(state, item(state="UNAVAILABLE"), item(state="READY"))
    assert (found.state, [a.applied for a in found.arrivals], [a.kept for a in found.arrivals]) == (
        "UNAVAILABLE",
        [True, False],
        [True] * 2,
    )


def test_today_takes_updates_and_does_nothing() -> None:
    """today §9: state, status and binding all discarded; §7: always READY, no `updates` key, `boundTo` null when free."""
    state = core_with_license(G2026)
    found = updated(state, item(state="UNAVAILABLE", status="x", binding={"kind": "BIND", "job": "no number"}))
    assert [(a.kept, a.applied) for a in found.arrivals] == [(False, False)]
    shown = rules.retrieve(state, "example", {"id": "5123", "includeUpdates": "true"})
    assert "updates" not in shown
    assert (dig(shown, "status", "state"), dig(shown, "status", "boundTo")) == ("READY", None)
    assert status_of(state, item(timestamp=None)) == 400


@pytest.mark.parametrize(("generation", "status"), [(G2021, 400), (G2026, 404)])
def test_one_unknown_or_foreign_license_fails_the_whole_batch(generation: Generation, status: int) -> None:
    """2021 §2.1 Permission; today §9. A drive is no license."""
    state = core_with_license(generation)
    own(state, "6", product=OTHER)
    state.resources.insert(ResourceRequest("files/collections", EXAMPLE_LICENSE), "7", 0)
    for foreign in ("6", "7", "99"):
        assert status_of(state, item(state="UNAVAILABLE"), item(foreign, state="READY")) == status
    assert status_of(state, item(), provider="other") == status
    assert state.resources.known_license("5123").arrivals == []


def register(state: State, *items: JsonObject, provider: str = "example") -> list[str]:
    return rules.register(state, provider, items)


def refused_register(state: State, *items: JsonObject) -> int:
    with pytest.raises(CoreError) as caught:
        register(state, *items)
    return caught.value.status


def wish(own_id: str | None = "lic-a", **more: Json) -> JsonObject:
    """2021 fixture derived-licenses-control-register."""
    spec: JsonObject = {"product": REFERENCE}
    return {"spec": spec, "providerGeneratedId": own_id, "createdBy": "user", "project": None, **more}


@pytest.mark.parametrize(("generation", "first"), [(G2021, "PREPARING"), (G2026, "READY")])
def test_a_provider_registers_a_license_of_its_own(generation: Generation, first: str) -> None:
    """2021 §2.3, today §9: an id comes back, the license is confirmed; createdBy is `_ucloud` unless given."""
    state = core_with_license(generation)
    one, two = register(state, wish(), wish(None, createdBy=None, project="p"))
    made, other = state.resources.known_license(one), state.resources.known_license(two)
    assert (made.owner, made.provider_generated_id, made.confirmed, made.state) == ("user:user", "lic-a", True, first)
    assert (other.username, other.owner, other.provider_generated_id) == ("_ucloud", "project:p", None)
    assert len({one, two, "5123"}) == 3


def test_a_known_own_id_of_2021_is_given_another_owner_but_not_the_same_again() -> None:
    """2021 §2.3 upsert; ResourceService.kt @48ff7680d6, register: with the same creator its ACL entry breaks `acl_entry_unique`, so a
    repetition is a 500 and changes nothing; so does an own id twice in one bulk."""
    state = core_with_license(G2021)
    (made,) = register(state, wish())
    for items in ([wish()], [wish("new"), wish()], [wish("new"), wish("new")]):
        assert refused_register(state, *items) == 500
    assert len(state.resources) == 2
    assert register(state, wish(createdBy="heir", project="p")) == [made]
    assert (state.resources.known_license(made).username, state.resources.known_license(made).owner) == ("heir", "project:p")
    assert state.jobs.own_ids.repeats == []


def test_the_answer_of_2021_is_in_the_order_of_numbers() -> None:
    """ResourceService.kt @48ff7680d6, register: `select distinct` of the ids; not in the order of the items when one was known."""
    state = core_with_license(G2021)
    (old,) = register(state, wish())
    new, known = register(state, wish("b"), wish(createdBy="heir"))[::-1]
    assert (known, state.resources.known_license(new).provider_generated_id) == (old, "b")


def test_a_product_of_2021_must_be_known_in_one_version_to_be_registered() -> None:
    """ResourceService.kt @48ff7680d6, register: joined by name alone, so each version is a row, and the number of rows is checked. Today
    products are not looked at (core2/pkg/orchestrator/license.go)."""
    state = core_with_license(G2021)
    unknown: JsonObject = {"product": REFERENCE | {"id": "none"}}
    assert refused_register(state, wish(spec=unknown)) == 500
    state.accounts.add_product(EXAMPLE_LICENSE)
    assert refused_register(state, wish()) == 500
    assert len(state.resources) == 1
    today = core_with_license(G2026)
    today.accounts.add_product(EXAMPLE_LICENSE)
    assert len(register(today, wish(), wish("b", spec=unknown))) == 2


def test_the_same_own_id_again_is_refused_today_or_the_end_of_core() -> None:
    """core2/pkg/orchestrator/resources.go, ResourceCreateEx: 409 for one that was registered. today §6.1: one that came with the answer to
    a create is taken, and Core exits 20 s later; noted. It is free again when its license is deleted."""
    state = core_with_license(G2026)
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
    state = core_with_license(G2026)
    state.jobs.insert(job_document(licensed_request("5123"), "1", 0, G2026))
    state.jobs.confirm("1", "shared")
    state.resources.confirm(state.resources.known_license("5123"), "shared")
    assert [(r.provider, r.own_id, r.fatal) for r in state.jobs.own_ids.crashes] == [("example", "shared", True)]


@pytest.mark.parametrize("generation", [G2021, G2026])
def test_what_is_not_the_providers_cannot_be_registered(generation: Generation) -> None:
    """2021 §2.3: 400 when mixed, 403 when foreign; today 403. A comma in an own id is a 400."""
    state = core_with_license(generation)
    foreign = wish("b", spec={"product": {"id": "other-license", "category": "other-license", "provider": "other"}})
    for items, status in (([foreign], 403), ([wish(), foreign], 400 if generation is G2021 else 403), ([wish("a,b")], 400)):
        with pytest.raises(CoreError) as caught:
            register(state, *items)
        assert caught.value.status == status
    assert len(state.resources) == 1


@pytest.mark.parametrize(("generation", "status"), [(G2021, 404), (G2026, 403)])
def test_retrieve_refuses_what_is_not_the_callers(generation: Generation, status: int) -> None:
    """2021 §2.4; today §9 and §10 "unknown id"."""
    state = core_with_license(generation)
    for provider, license_id in (("example", "9"), ("other", "5123"), ("example", "")):
        with pytest.raises(CoreError) as caught:
            rules.retrieve(state, provider, {"id": license_id})
        assert caught.value.status == status


def browsed(state: State, **query: str) -> list[Json]:
    return [dig(found, "id") for found in as_list(rules.browse(state, "example", query)["items"], "")]


@pytest.mark.parametrize("generation", [G2021, G2026])
def test_browse_filters_and_pages(generation: Generation) -> None:
    """2021 §2.4, §7.1, §7.2: flags are flat, ids are lists with commas, sizes are Core's own, `next` goes on; today §9: newest first."""
    state = core_with_license(generation)
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
    state = core_with_license(G2021)
    state.resources.insert(ResourceRequest("licenses", EXAMPLE_LICENSE), "6", 0)
    assert browsed(state) == ["5123"]


def test_labels_are_the_providers_to_change_today() -> None:
    """core2/pkg/orchestrator/license.go, LicensesControlUpdateLabels: one after the other, 403 for what is not its own."""
    state = core_with_license(G2026)
    with pytest.raises(CoreError) as caught:
        rules.update_labels(state.resources, "example", [{"id": "5123", "labels": {"a": "b"}}, {"id": "9", "labels": {}}])
    assert caught.value.status == 403
    assert dig(rules.retrieve(state, "example", {"id": "5123"}), "specification", "labels") == {"a": "b"}
