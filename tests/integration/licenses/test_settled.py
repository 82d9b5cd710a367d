"""What Core's answers do to licenses: registered, refused, paid or not, unknown there."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from fakes.license_inside import ALICE, SOLVER, Inside, inside
from serai.events.v1.events_service_pb2 import Event
from serai_server.licenses import words
from serai_server.licenses.access import Actor
from serai_server.licenses.ports import Standing
from serai_server.store.license_model import AtCore, LicenseState, Payment
from serai_server.store.model import EventSettlement, Outcome


@pytest.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Inside]:
    async with inside(tmp_path) as made:
        made.servers.stands(SOLVER, Standing.UP)
        yield made


async def test_events_are_held_back_until_core_knows_the_license(site: Inside) -> None:
    """READY long before, and nothing said or charged; then its state and its one charge, under Core's id."""
    (license_id,) = await site.made(Actor("alice", "p", "USER"))
    await site.passes()
    assert await site.state(license_id) is LicenseState.READY
    assert await site.told() == [("register", license_id)]
    (registration,) = await site.settle(Outcome.DELIVERED, core_id="77")
    asked = registration.license_registration
    assert (asked.owner.created_by, asked.owner.project, asked.spec.product.id) == ("alice", "p", "solver")
    assert await site.told() == [("update", "READY"), ("charge", f"license-{license_id}-1")]
    events = [Event.FromString(event.body) for event in await site.unsettled()]
    assert {event.license_core_id for event in events} == {"77"}
    row = await site.row(license_id)
    assert (row.at_core, row.core_id, row.payment) == (AtCore.KNOWN, "77", Payment.ASKED)
    assert (None, words.REGISTERED) in await site.history(license_id)
    assert (await site.licenses.find(["77"]))["77"].id == license_id


async def test_one_that_is_registered_before_it_is_ready(site: Inside) -> None:
    """Core is told how it stands; the charge comes with READY."""
    site.servers.stands(SOLVER, Standing.UNKNOWN)
    (license_id,) = await site.made()
    await site.settle(Outcome.DELIVERED, core_id="77")
    assert await site.told() == [("update", "PREPARING")]
    site.servers.stands(SOLVER, Standing.UP)
    await site.passes()
    assert (await site.told())[1:] == [("update", "READY"), ("charge", f"license-{license_id}-1")]


async def test_an_answer_that_comes_twice_changes_nothing_more(site: Inside) -> None:
    """The server was killed before the answer was stored, and Core answered again; a second id is not believed."""
    (license_id,) = await site.made()
    (event,) = await site.unsettled()
    for core_id in ("77", "77", "78"):
        await site.settlements.settle([(event, EventSettlement(event.sequence, Outcome.DELIVERED, "", 0, core_id))])
    row = await site.row(license_id)
    assert row.core_id == "77"
    assert [kind for kind, _ in await site.told()] == ["register", "update"]


async def test_an_id_of_core_that_is_ours(site: Inside) -> None:
    """Core may call it as we do; then it needs no second name."""
    (license_id,) = await site.made()
    await site.settle(Outcome.DELIVERED, core_id=license_id)
    row = await site.row(license_id)
    assert (row.at_core, row.core_id) == (AtCore.KNOWN, "")


@pytest.mark.parametrize(("outcome", "core_id"), [(Outcome.REFUSED, ""), (Outcome.DELIVERED, ""), (Outcome.JOB_UNKNOWN, "")])
async def test_a_registration_that_core_refuses(site: Inside, outcome: Outcome, core_id: str) -> None:
    """Its owner reads why. The license can be used, Core is told nothing of it and charges nothing, now or later."""
    (license_id,) = await site.made()
    await site.passes()
    await site.settle(outcome, "no such project", core_id)
    assert (await site.row(license_id)).at_core is AtCore.UNTOLD
    assert (await site.history(license_id))[-1] == (None, words.refused_by_core("no such project"))
    assert await site.state(license_id) is LicenseState.READY
    site.servers.stands(SOLVER, Standing.DOWN)
    await site.passes()
    site.servers.stands(SOLVER, Standing.UP)
    await site.passes()
    assert await site.told() == []
    assert (await site.row(license_id)).payment is not Payment.UNPAID


async def test_one_that_is_not_to_be_registered(tmp_path: Path) -> None:
    """The settings say so: Core hears nothing."""
    async with inside(tmp_path, register=False) as site:
        site.servers.stands(SOLVER, Standing.UP)
        (license_id,) = await site.made()
        await site.passes()
        assert (await site.state(license_id), await site.told()) == (LicenseState.READY, [])
        await site.service.delete([license_id], ALICE)


async def test_one_that_was_deleted_before_core_knew_it(site: Inside) -> None:
    """Core has it from then on and is told that it cannot be used; nothing is charged."""
    (license_id,) = await site.made()
    await site.passes()
    await site.service.delete([license_id], ALICE)
    assert await site.told() == [("register", license_id)]
    await site.settle(Outcome.DELIVERED, core_id="77")
    assert await site.told() == [("update", "UNAVAILABLE")]
    (event,) = await site.unsettled()
    assert Event.FromString(event.body).license_update.status == words.DELETED
    assert (await site.row(license_id)).deleted_at_ms
    await site.passes()
    assert await site.told() == [("update", "UNAVAILABLE")]


async def test_what_core_does_not_know_cannot_be_used_and_is_kept(site: Inside) -> None:
    """With a line that says so; a second answer of that kind tells nothing more."""
    await site.bought()
    await site.passes()
    await site.settle(Outcome.JOB_UNKNOWN, "404", kind="license_update")
    lost = await site.row()
    assert (lost.deleted_at_ms, lost.at_core, lost.state) == (0, AtCore.LOST, LicenseState.UNAVAILABLE)
    assert (await site.history())[-1] == (LicenseState.UNAVAILABLE, words.UNKNOWN_AT_CORE)
    await site.settle(Outcome.JOB_UNKNOWN)
    assert (await site.row()).status == words.UNKNOWN_AT_CORE
    assert [status for _, status in await site.history()].count(words.UNKNOWN_AT_CORE) == 1
    await site.passes()
    assert (await site.told(), await site.state()) == ([], LicenseState.UNAVAILABLE)


async def test_a_later_word_on_a_license_that_is_paid_does_not_count(site: Inside) -> None:
    """It is paid for, whatever an answer that was late says."""
    await site.bought()
    await site.passes()
    charge = next(event for event in await site.unsettled() if Event.FromString(event.body).HasField("charge"))
    short = EventSettlement(charge.sequence, Outcome.INSUFFICIENT_FUNDS, "", 0)
    await site.settle(Outcome.INSUFFICIENT_FUNDS, kind="charge")
    await site.settle(Outcome.DELIVERED)
    await site.passes(3_600_001)
    await site.settle(Outcome.DELIVERED, kind="charge")
    await site.passes()
    before = await site.row()
    await site.settlements.settle([(charge, short)])
    assert await site.row() == before
    assert before.state is LicenseState.READY


async def test_a_charge_that_is_refused_for_another_reason_ends_no_use(site: Inside) -> None:
    """Core's faults are no user's; an operator sees that it is not sure."""
    await site.bought()
    await site.passes()
    await site.settle(Outcome.REFUSED, "500")
    assert await site.state() is LicenseState.READY
    assert (await site.row()).payment is Payment.UNSURE
