"""What Core has and what is here are made to agree, on a real store: whatever Core calls a license, there is one row of it.

Each test is one way in which the two came to differ: an answer that was lost, a store or a Core that was put back, a delete that failed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import structlog
from fakes.licensed import PRICED, license_message
from serai.core.v1.resources_pb2 import PERMISSION_READ, ResourceOwner
from serai.events.v1.events_service_pb2 import Event
from serai.licenses.v1.license_pb2 import License, LicenseUpdate
from serai.licenses.v1.license_pb2 import LicenseState as WireState
from serai.licenses.v1.licenses_provider_service_pb2 import ProviderUpdatedAcl
from serai_server.errors import LicenseConflictError
from serai_server.licenses import words
from serai_server.licenses.access import Actor, readers_for
from serai_server.licenses.charges import Charging
from serai_server.licenses.products import LicenseCatalog
from serai_server.licenses.provider import DELETING_MS, LicensesOfCore
from serai_server.licenses.service import LicensesService
from serai_server.licenses.settled import LicenseSettlements
from serai_server.store.license_model import AtCore, LicenseChange, LicenseFilter, LicenseState, Payment, StoredLicense
from serai_server.store.model import EventSettlement, Outcome
from serai_server.store.open import open_store
from serai_server.store.sql_store import SqlStore

OURS = "1000000000000001"
NO_STATE, PREPARING, READY, UNAVAILABLE = (WireState.ValueType(n) for n in range(4))
USER, BOB = Actor("user"), Actor("bob")


class Site:
    """The use cases of both sides on one store."""

    def __init__(self, store: SqlStore) -> None:
        self.store = store
        self.now_ms = 1_790_000_000_000
        self.looked: list[str] = []
        catalog, licenses = LicenseCatalog([PRICED]), store.licenses
        self.core = LicensesOfCore(store=licenses, catalog=catalog, look=self.looked.append, wall=self.wall)
        self.users = LicensesService(store=licenses, catalog=catalog, look=self.looked.append, wall=self.wall, register_at_core=True)
        charging = Charging(repeats=True)
        self.settlements = LicenseSettlements(store=licenses, catalog=catalog, charging=charging, wall=self.wall, look=self.looked.append)

    def wall(self) -> int:
        return self.now_ms

    async def bought_here(self) -> str:
        """A license of a user's, of which Core has not been told yet."""
        [license_id] = await self.users.create([license_message("-").specification], ResourceOwner(), USER)
        return license_id

    async def answered(self, license_id: str, outcome: Outcome, core_id: str = "") -> None:
        """Core's word on the first event of the license that it has not answered."""
        [event, *_] = [event for event in await self.store.events("core", 0, 100) if event.license_id == license_id]
        settlement = EventSettlement(event.sequence, outcome, "", self.now_ms, core_id)
        await self.settlements.settle([(event, settlement)])
        await self.store.settle("core", [settlement])

    async def row(self, name: str) -> StoredLicense:
        return (await self.store.licenses.find([name]))[name]

    async def seen_by(self, actor: Actor) -> list[str]:
        return [row.id for row in (await self.store.licenses.page(LicenseFilter(readers=readers_for(actor)), 100, "")).licenses]

    async def rows(self) -> list[StoredLicense]:
        """All that are there."""
        return list((await self.store.licenses.page(LicenseFilter(), 100, "")).licenses)

    async def change(self, license_id: str, **changes: object) -> None:
        """Whatever it is at."""
        await self.store.licenses.decide([license_id], lambda _, row: LicenseChange(license_id, row.version if row else 0, **changes))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] -- names of its fields

    async def events(self, license_id: str) -> list[Event]:
        """What Core has not answered yet."""
        found = [event for event in await self.store.events("core", 0, 100) if event.license_id == license_id]
        return [Event.FromString(event.body) for event in found]

    async def told(self, license_id: str) -> list[LicenseUpdate]:
        return [event.license_update for event in await self.events(license_id) if event.HasField("license_update")]

    async def history(self, license_id: str) -> list[str]:
        return [LicenseUpdate.FromString(line).status for line in (await self.store.licenses.history([license_id], 100))[license_id]]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Site]:
    async with open_store(f"sqlite:///{tmp_path / 'serai.db'}", lambda _: None) as store:
        yield Site(store)


def at_core(license_id: str, ours: str = "", state: WireState.ValueType = NO_STATE) -> License:
    """As Core shows it. `ours` = the id that Core of 2026 tells of one that was registered."""
    item = license_message(license_id)
    item.status.state = state
    if ours:
        item.provider_generated_id = ours
    return item


# Taken on


async def test_a_license_that_is_unknown_here_is_taken_on_with_all_that_core_says_of_it(site: Site) -> None:
    """Who has it, of what, and who else may see it."""
    item = at_core("7")
    entry = item.permissions.others.add(permissions=[PERMISSION_READ])
    entry.entity.user.username = "bob"
    await site.core.verify([item])
    row = await site.row("7")
    assert (row.owner, row.product, row.at_core, row.state, row.payment) == (
        "user",
        PRICED.key,
        AtCore.KNOWN,
        LicenseState.PREPARING,
        Payment.OPEN,
    )
    assert await site.seen_by(BOB) == ["7"]
    assert PRICED.key in site.looked


async def test_one_that_was_made_here_and_forgotten_gets_its_id_again(site: Site) -> None:
    """A store that was put back: Core of 2026 tells our id. It is registered as at first, for which Core is asked before; so it is known
    under both ids again, and nothing of it is charged before."""
    await site.core.verify([at_core("40", ours=OURS)])
    row = await site.row(OURS)
    assert (row.at_core, row.core_id, [event.WhichOneof("change") for event in await site.events(OURS)]) == (
        AtCore.WANTED,
        "",
        ["license_registration"],
    )
    await site.core.verify([at_core("40", ours=OURS)])
    await site.answered(OURS, Outcome.DELIVERED, "40")
    await site.core.verify([at_core("40", ours=OURS)])
    assert [(row.id, row.core_id, row.at_core) for row in await site.rows()] == [(OURS, "40", AtCore.KNOWN)]
    assert (await site.row("40")).id == OURS


@pytest.mark.parametrize(
    ("state", "payment"),
    [(READY, Payment.UNSURE), (UNAVAILABLE, Payment.UNSURE), (PREPARING, Payment.OPEN), (NO_STATE, Payment.OPEN)],
)
async def test_what_may_have_been_charged_is_not_charged_again_by_itself(site: Site, state: WireState.ValueType, payment: Payment) -> None:
    """Core of 2021 says that it was READY once, and calls a repeated charge unpaid; today's says nothing, and takes it for the same."""
    await site.core.verify([at_core("7", state=state)])
    assert (await site.row("7")).payment is payment
    assert (words.MAYBE_PAID in await site.history("7")) == (payment is Payment.UNSURE)
    await site.core.create([at_core("8", state=READY)])
    assert (await site.row("8")).payment is Payment.OPEN, "today's says READY of each that is new"


async def test_what_is_not_sold_here_is_counted_and_left_out(site: Site) -> None:
    """In one line for all of them; the others are taken on."""
    foreign = at_core("8")
    foreign.specification.product.id = "another"
    with structlog.testing.capture_logs() as logs:
        await site.core.verify([foreign, at_core("7"), foreign])
    assert [row.id for row in await site.rows()] == ["7"]
    assert [line["licenses"] for line in logs if line["event"] == "licenses.not_taken_on"] == [2]


# Between Core's registration and our settlement


async def test_between_registration_and_settlement_there_is_one_license(site: Site) -> None:
    """Core of 2026 names it by both ids: no second row by a verify or a create, and the settlement is what makes it known."""
    ours = await site.bought_here()
    await site.core.verify([at_core("40", ours=ours)])
    await site.core.create([at_core("40", ours=ours)])
    assert [(row.id, row.at_core) for row in await site.rows()] == [(ours, AtCore.WANTED)]
    await site.answered(ours, Outcome.DELIVERED, "40")
    assert [(row.id, row.at_core, row.core_id) for row in await site.rows()] == [(ours, AtCore.KNOWN, "40")]


async def test_core_of_2021_that_tells_no_id_of_ours_makes_no_second_license_either(site: Site) -> None:
    """What looks like one that is being registered is left for the next time; another owner's is not."""
    ours = await site.bought_here()
    other = at_core("41")
    other.owner.created_by = "mallory"
    await site.core.verify([at_core("40"), other])
    assert {row.id for row in await site.rows()} == {ours, "41"}
    await site.answered(ours, Outcome.DELIVERED, "40")
    await site.core.verify([at_core("40"), other, at_core("42")])
    assert {(row.id, row.core_id) for row in await site.rows()} == {(ours, "40"), ("41", ""), ("42", "")}


async def test_a_delete_before_the_settlement_deletes_ours(site: Site) -> None:
    """And so do labels and permissions of one that Core knows before we know that it does reach it."""
    ours = await site.bought_here()
    item = at_core("40", ours=ours)
    item.specification.labels["a"] = "b"
    await site.core.update_labels([item])
    update = ProviderUpdatedAcl(resource=item)
    update.added.add(permissions=[PERMISSION_READ]).entity.user.username = "bob"
    await site.core.update_acl([update])
    row = await site.row(ours)
    assert dict(License.FromString(row.body).specification.labels) == {"a": "b"}
    assert await site.seen_by(BOB) == [ours]
    await site.core.delete([item])
    assert (await site.row(ours)).deleted_at_ms == site.now_ms
    assert await site.rows() == []


async def test_a_license_that_core_refused_and_has_after_all_is_registered(site: Site) -> None:
    """By the same way, in which Core is looked at first."""
    ours = await site.bought_here()
    await site.answered(ours, Outcome.REFUSED)
    assert (await site.row(ours)).at_core is AtCore.UNTOLD
    await site.core.verify([at_core("40", ours=ours)])
    await site.answered(ours, Outcome.DELIVERED, "40")
    row = await site.row("40")
    assert (row.id, row.at_core) == (ours, AtCore.KNOWN)


async def test_a_license_that_core_knows_under_a_new_id_is_told_there(site: Site) -> None:
    """Core's database was put back, and it was registered once more: what comes of it goes to the new id."""
    ours = await site.bought_here()
    await site.answered(ours, Outcome.DELIVERED, "40")
    await site.core.verify([at_core("55", ours=ours)])
    assert (await site.row("55")).id == ours
    assert (await site.events(ours))[-1].license_core_id == "55"


# Lost and found


@pytest.mark.parametrize("call", ["verify", "create"])
async def test_one_that_core_had_forgotten_comes_back_when_it_names_it(site: Site, call: str) -> None:
    """One wrong answer is not the end: it is told anew, and what was paid for stays paid."""
    await site.core.create([at_core("7")])
    await site.change("7", at_core=AtCore.LOST, state=LicenseState.UNAVAILABLE, payment=Payment.PAID)
    await (site.core.verify if call == "verify" else site.core.create)([at_core("7")])
    row = await site.row("7")
    assert (row.at_core, row.state, row.payment) == (AtCore.KNOWN, LicenseState.PREPARING, Payment.PAID)
    assert [update.state for update in await site.told("7")] == [PREPARING]


async def test_one_that_stands_otherwise_at_core_is_told_once_more(site: Site) -> None:
    """Not when it stands there as it does here, and not to a Core that has no states."""
    await site.core.create([at_core("7")])
    await site.change("7", state=LicenseState.READY, status="words")
    await site.core.verify([at_core("7", state=READY)])
    await site.core.verify([at_core("7")])
    assert await site.told("7") == []
    await site.core.verify([at_core("7", state=UNAVAILABLE)])
    assert await site.told("7") == [LicenseUpdate(timestamp=0, state=READY, status="words")]


# Deleted


async def test_a_delete_that_core_took_back_is_taken_back_here(site: Site) -> None:
    """Core deletes when we have, and rolls back when it then fails (facts 2021 §5.1): what it still has after a while is there again, for
    all who could see it; what was paid for stays paid."""
    item = at_core("7")
    item.permissions.others.add(permissions=[PERMISSION_READ]).entity.user.username = "bob"
    await site.core.create([item])
    await site.change("7", payment=Payment.PAID, state=LicenseState.READY)
    await site.core.delete([item])
    assert await site.history("7") == [words.PREPARING, words.DELETED_AT_CORE]
    site.now_ms += DELETING_MS - 1
    await site.core.verify([item])
    assert await site.rows() == [], "Core may just be showing what it is about to delete"
    site.now_ms += 1
    await site.core.verify([item])
    assert [(row.id, row.payment) for row in await site.rows()] == [("7", Payment.PAID)]
    assert await site.seen_by(BOB) == ["7"]


async def test_what_a_user_deleted_here_stays_deleted_and_core_is_told_again(site: Site) -> None:
    """No provider can take it away at Core; it says why it cannot be used. Not again when Core says so already."""
    await site.core.create([at_core("7")])
    await site.users.delete(["7"], USER)
    before = len(await site.told("7"))
    site.now_ms += 2 * DELETING_MS
    await site.core.verify([at_core("7", state=READY)])
    assert [(one.state, one.status) for one in (await site.told("7"))[before:]] == [(UNAVAILABLE, words.DELETED)]
    await site.core.verify([at_core("7", state=UNAVAILABLE)])
    await site.core.verify([at_core("7")])
    assert len(await site.told("7")) == before + 1
    assert await site.rows() == []


async def test_a_create_of_what_was_deleted_is_answered_and_said_in_the_log(site: Site) -> None:
    """The id is taken. Of other content it is a conflict, as ever, with the place of its item."""
    await site.core.create([at_core("7")])
    await site.core.delete([at_core("7")])
    with structlog.testing.capture_logs() as logs:
        await site.core.create([at_core("7")])
    assert await site.rows() == []
    assert [line["license"] for line in logs if line["event"] == "licenses.made_again"] == ["7"]
    other = at_core("7")
    other.owner.created_by = "mallory"
    with pytest.raises(LicenseConflictError) as refused:
        await site.core.create([at_core("8"), other])
    assert refused.value.field == "items[1].id"
    assert await site.rows() == []
