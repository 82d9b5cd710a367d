"""Licenses as Core has them made, changed, looked through and deleted. It repeats what got lost, and may know others than we do."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from fakes.license_inside import ALICE, HOUR_MS, MESHER, SOLVER, START_MS, VIEWER, Inside, inside
from fakes.licensed import license_message
from serai.core.v1.resources_pb2 import PERMISSION_READ, AclEntity, Permission, ProjectGroupEntity, ResourceAclEntry, UserEntity
from serai.licenses.v1.license_pb2 import LICENSE_STATE_PREPARING, LICENSE_STATE_READY, MAINTENANCE_AVAILABILITY_NO_SERVICE, License
from serai.licenses.v1.licenses_provider_service_pb2 import ProviderUpdatedAcl
from serai.licenses.v1.licenses_service_pb2 import BrowseRequest, LicenseIncludeFlags
from serai_server.errors import InvalidRequest, LicenseConflictError
from serai_server.licenses.access import Actor
from serai_server.licenses.ports import Standing
from serai_server.licenses.requests import MOST_ITEMS
from serai_server.store.model import Outcome

BOB = Actor("bob", "p", "USER")
READ = PERMISSION_READ


@pytest.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Inside]:
    async with inside(tmp_path) as made:
        yield made


def of_core(license_id: str = "5123", owner: str = "alice", project: str = "", **labels: str) -> License:
    message = license_message(license_id, owner, project, SOLVER)
    message.specification.labels.update(labels)
    return message


def to_bob(*permissions: Permission.ValueType) -> ResourceAclEntry:
    return ResourceAclEntry(entity=AclEntity(user=UserEntity(username="bob")), permissions=permissions)


async def seen_by(site: Inside, actor: Actor) -> list[str]:
    _, found, _ = await site.service.browse(BrowseRequest(flags=LicenseIncludeFlags()), actor)
    return [one.id for one in found]


class TestCreate:
    async def test_it_is_stored_and_nothing_is_told(self, site: Inside) -> None:
        """The first word to Core is how it stands once its server was looked at."""
        await site.of_core.create([of_core("1"), of_core("2")])
        assert await seen_by(site, ALICE) == ["2", "1"]
        assert (await site.told(), site.looked) == ([], [SOLVER.key])
        site.servers.stands(SOLVER, Standing.DOWN)
        await site.passes()
        assert await site.told() == [("update", "UNAVAILABLE")] * 2

    async def test_a_create_that_is_repeated_changes_nothing(self, site: Inside) -> None:
        """Its answer got lost. Labels may be others by then, and it may be READY or deleted by now."""
        await site.bought()
        site.servers.stands(SOLVER, Standing.UP)
        await site.passes()
        before = await site.row()
        await site.of_core.create([of_core(colour="red")])
        assert await site.row() == before
        await site.of_core.delete([of_core()])
        gone, lines = await site.row(), await site.history()
        await site.of_core.create([of_core()])
        assert (await site.row(), await site.history()) == (gone, lines)

    @pytest.mark.parametrize("other", [of_core(owner="bob"), of_core(project="p"), license_message("5123", "alice", "", MESHER)])
    async def test_an_id_with_other_content(self, site: Inside, other: License) -> None:
        """Is refused with its place, and so is all of the request."""
        await site.bought()
        with pytest.raises(LicenseConflictError) as raised:
            await site.of_core.create([of_core("7"), other])
        assert raised.value.field == "items[1].id"
        assert await site.licenses.license("7") is None

    @pytest.mark.parametrize(
        ("items", "field"),
        [
            ([], "items"),
            ([of_core()] * (MOST_ITEMS + 1), "items"),
            ([of_core(), of_core()], "items"),
            ([of_core(), of_core("a b")], "items[1].id"),
            ([of_core(), license_message("2", "", "", SOLVER)], "items[1].owner.createdBy"),
            ([of_core(), of_core("2", "a\nb")], "items[1].owner.createdBy"),
            ([of_core(), of_core("2", project="a\nb")], "items[1].owner.project"),
            ([of_core(), License(id="2", owner=of_core().owner)], "items[1].specification.product"),
        ],
    )
    async def test_what_is_wrong_is_said(self, site: Inside, items: list[License], field: str) -> None:
        """With its place; nothing of the request is stored."""
        with pytest.raises(InvalidRequest) as raised:
            await site.of_core.create(items)
        assert raised.value.field == field
        assert await site.licenses.count() == {}

    async def test_who_else_may_see_it(self, site: Inside) -> None:
        """As Core says; what names nobody is left out."""
        message = of_core(project="p")
        message.permissions.others.extend([to_bob(READ), ResourceAclEntry(permissions=[READ])])
        await site.of_core.create([message])
        assert await seen_by(site, BOB) == ["5123"]


class TestDelete:
    async def test_what_is_unknown_or_gone_counts_as_done(self, site: Inside) -> None:
        """Or today's Core keeps it for ever. One that is named twice too."""
        await site.bought("1")
        await site.bought("2")
        await site.of_core.delete([of_core("1"), of_core("1"), of_core("999"), of_core("a b")])
        assert await seen_by(site, ALICE) == ["2"]
        before = await site.row("1")
        site.clock.move(1_000)
        await site.of_core.delete([of_core("1")])
        assert await site.row("1") == before

    async def test_by_cores_name(self, site: Inside) -> None:
        """Of a license that was made here."""
        (license_id,) = await site.made()
        await site.settle(Outcome.DELIVERED, core_id="77")
        await site.of_core.delete([of_core("77")])
        assert (await site.row(license_id)).deleted_at_ms

    async def test_too_many(self, site: Inside) -> None:
        for items in ([], [of_core()] * (MOST_ITEMS + 1)):
            with pytest.raises(InvalidRequest):
                await site.of_core.delete(items)


class TestPermissions:
    async def test_a_change_starts_from_what_core_has(self, site: Inside) -> None:
        """The item has the list before the change, so one that got lost is made up for (facts 2021 §1.6)."""
        await site.bought(project="p")
        group = AclEntity(project_group=ProjectGroupEntity(project_id="p", group="g"))
        item = ProviderUpdatedAcl(resource=of_core(project="p"), added=[ResourceAclEntry(entity=group, permissions=[READ])])
        item.resource.permissions.others.append(to_bob(READ))
        await site.of_core.update_acl([item])
        assert await seen_by(site, BOB) == ["5123"]
        assert await seen_by(site, Actor("cat", "p", "USER", frozenset({"g"}))) == ["5123"]
        taken = ProviderUpdatedAcl(resource=of_core(project="p"), deleted=[to_bob(READ).entity])
        await site.of_core.update_acl([taken])
        assert await seen_by(site, BOB) == []
        assert await seen_by(site, Actor("cat", "p", "USER", frozenset({"g"}))) == ["5123"]

    async def test_what_is_not_known_is_passed_over(self, site: Inside) -> None:
        """The others are changed; a deleted one stays as it is."""
        await site.bought("1", project="p")
        await site.bought("2", project="p")
        await site.of_core.delete([of_core("2")])
        await site.of_core.update_acl(
            [ProviderUpdatedAcl(resource=of_core(name, project="p"), added=[to_bob(READ)]) for name in ("999", "2", "1", "")]
        )
        assert await seen_by(site, BOB) == ["1"]
        assert not (await site.row("2")).acl


async def test_labels(site: Inside) -> None:
    """Are replaced as a whole; those of what is not known are passed over."""
    await site.of_core.create([of_core(a="1", b="2")])
    await site.of_core.update_labels([of_core("999", a="x"), of_core(c="3")])
    shown = await site.service.retrieve("5123", LicenseIncludeFlags(), ALICE)
    assert dict(shown.specification.labels) == {"c": "3"}
    assert shown.specification.product.id == "solver"


class TestVerify:
    async def test_what_core_has_and_we_do_not(self, site: Inside) -> None:
        """Is taken on, but for what is not sold here; its life begins as if Core had made it now."""
        await site.of_core.verify([of_core("1"), of_core("1"), license_message("2", "alice", "", MESHER), License(id="3"), of_core("a b")])
        assert sorted(await seen_by(site, ALICE)) == ["1", "2"]
        site.servers.stands(SOLVER, Standing.UP)
        await site.passes()
        assert ("charge", "license-1-1") in await site.told()

    async def test_what_stands_otherwise_at_core_is_told_again(self, site: Inside) -> None:
        """And what stands there as it does here is not; history has no line of it."""
        await site.bought("1")
        await site.bought("2")
        site.servers.stands(SOLVER, Standing.UP)
        await site.passes()
        await site.settle(Outcome.DELIVERED)
        lines = await site.history("2")
        items = [of_core("1"), of_core("2")]
        items[0].status.state, items[1].status.state = LICENSE_STATE_READY, LICENSE_STATE_PREPARING
        await site.of_core.verify(items)
        (event,) = await site.unsettled()
        assert (event.license_id, await site.told()) == ("2", [("update", "READY")])
        assert await site.history("2") == lines

    async def test_one_that_was_deleted_here(self, site: Inside) -> None:
        """Stays so, and Core is told nothing."""
        await site.bought()
        await site.of_core.delete([of_core()])
        await site.of_core.verify([of_core()])
        assert (await seen_by(site, ALICE), await site.told()) == ([], [])

    async def test_one_that_we_made(self, site: Inside) -> None:
        """Is known under Core's name; nothing is taken on a second time."""
        (license_id,) = await site.made()
        await site.settle(Outcome.DELIVERED, core_id="77")
        await site.settle(Outcome.DELIVERED)
        await site.of_core.verify([of_core("77")])
        assert await seen_by(site, ALICE) == [license_id]

    async def test_one_that_we_made_and_that_core_has_only_just_taken_on(self, site: Inside) -> None:
        """Its answer is still on its way to us. Core of 2026 sends our id along, so it is not taken for another one and charged twice."""
        site.servers.stands(SOLVER, Standing.UP)
        (license_id,) = await site.made()
        item = of_core("77")
        item.provider_generated_id = license_id
        await site.of_core.verify([item])
        await site.passes()
        await site.settle(Outcome.DELIVERED, core_id="77")
        assert await seen_by(site, ALICE) == [license_id]
        assert [word for kind, word in await site.told() if kind == "charge"] == [f"license-{license_id}-1"]
        await site.of_core.verify([item])
        assert await seen_by(site, ALICE) == [license_id]


async def test_what_is_sold_is_told(site: Inside) -> None:
    """In the order of the settings, with the maintenance of each."""
    await site.window("a", START_MS + HOUR_MS, 0, MAINTENANCE_AVAILABILITY_NO_SERVICE)
    support = await site.of_core.support()
    assert [one.product.id for one in support] == ["solver", "mesher", "viewer"]
    assert [one.HasField("maintenance") for one in support] == [True, False, False]


async def test_init_has_every_server_looked_at(site: Inside) -> None:
    await site.of_core.init()
    assert site.looked == [SOLVER.key, MESHER.key, VIEWER.key]
