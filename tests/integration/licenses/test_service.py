"""Licenses as their users have them: who may do what, what may not be seen is not there, and lists that hold still while they are read."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import pytest
from fakes.license_inside import ALICE, HOUR_MS, MESHER, SOLVER, START_MS, VIEWER, Inside, inside
from fakes.licensed import reference
from serai.core.v1.resources_pb2 import (
    PERMISSION_ADMIN,
    PERMISSION_EDIT,
    PERMISSION_READ,
    AclEntity,
    Permission,
    ProductReference,
    ProjectGroupEntity,
    ResourceAclEntry,
    ResourceOwner,
    UserEntity,
)
from serai.licenses.v1.license_pb2 import MAINTENANCE_AVAILABILITY_NO_SERVICE, LicenseSpecification
from serai.licenses.v1.licenses_service_pb2 import (
    SORT_DIRECTION_ASCENDING,
    BrowseRequest,
    LicenseIncludeFlags,
    SearchRequest,
    UpdatedAcl,
)
from serai_server.errors import Forbidden, InvalidRequest, LicenseUnknown
from serai_server.licenses.access import OPERATOR, Actor
from serai_server.licenses.ports import Standing
from serai_server.licenses.requests import MOST_ITEMS
from serai_server.store.license_model import LicenseState
from serai_server.store.model import Outcome

READ, EDIT, ADMIN = PERMISSION_READ, PERMISSION_EDIT, PERMISSION_ADMIN
PLAIN = LicenseIncludeFlags()
WHOLE = LicenseIncludeFlags(include_others=True, include_updates=True, include_support=True, include_product=True)
PI, MEMBER = Actor("pi", "p", "PI"), Actor("bob", "p", "USER")
MAKER = Actor("alice", "p", "USER")
GROUPED = Actor("cat", "p", "USER", frozenset({"g"}))
NOBODY = [Actor("mallory"), Actor("alice", "p", "PI"), Actor("alice", "q", "ADMIN")]
"""None of whom sees what is alice's own."""


@pytest.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Inside]:
    async with inside(tmp_path) as made:
        yield made


def user(name: str) -> AclEntity:
    return AclEntity(user=UserEntity(username=name))


def group(name: str, project: str = "p") -> AclEntity:
    return AclEntity(project_group=ProjectGroupEntity(project_id=project, group=name))


def given(license_id: str, entity: AclEntity, *permissions: Permission.ValueType) -> UpdatedAcl:
    return UpdatedAcl(id=license_id, added=[ResourceAclEntry(entity=entity, permissions=permissions)])


async def listed(site: Inside, actor: Actor, flags: LicenseIncludeFlags = PLAIN) -> list[str]:
    _, found, _ = await site.service.browse(BrowseRequest(flags=flags, items_per_page=250), actor)
    return [one.id for one in found]


class TestMaking:
    async def test_several_at_once(self, site: Inside) -> None:
        """Ids in order, of 16 digits; PREPARING; the server is looked at soon."""
        ids = await site.made(count=3)
        assert [len(one) for one in ids] == [16] * 3
        assert len(set(ids)) == 3
        shown = await site.service.retrieve(ids[1], PLAIN, ALICE)
        assert (shown.owner.created_by, shown.owner.project, shown.created_at) == ("alice", "", START_MS)
        assert (shown.specification.product, shown.status.state) == (reference(SOLVER), LicenseState.PREPARING)
        assert site.looked == [SOLVER.key]

    async def test_whose_it_is(self, site: Inside) -> None:
        """The caller's, whatever a request says; an operator's tool says for whom."""
        (theirs,) = await site.service.create(
            [LicenseSpecification(product=reference(SOLVER))], ResourceOwner(created_by="bob", project="q"), MAKER
        )
        (by_tool,) = await site.service.create(
            [LicenseSpecification(product=reference(SOLVER))], ResourceOwner(created_by="bob", project="q"), OPERATOR
        )
        owners = [((await site.row(one)).owner, (await site.row(one)).project) for one in (theirs, by_tool)]
        assert owners == [("alice", "p"), ("bob", "q")]

    async def test_no_member_makes_any(self, site: Inside) -> None:
        """Of the project."""
        with pytest.raises(Forbidden):
            await site.made(Actor("alice", "p", ""))
        assert await site.licenses.count() == {}

    @pytest.mark.parametrize(
        ("items", "field"),
        [
            ([], "items"),
            ([LicenseSpecification(product=reference(SOLVER))] * (MOST_ITEMS + 1), "items"),
            ([LicenseSpecification(product=reference(SOLVER)), LicenseSpecification()], "items[1].product"),
            ([LicenseSpecification(product=ProductReference(id="solver", category="licenses", provider="other"))], "items[0].product"),
        ],
    )
    async def test_what_is_wrong_is_said(self, site: Inside, items: list[LicenseSpecification], field: str) -> None:
        """With its place; nothing of the request is stored."""
        with pytest.raises(InvalidRequest) as raised:
            await site.service.create(items, ResourceOwner(), ALICE)
        assert raised.value.field == field
        assert await site.licenses.count() == {}


class TestWhatMayNotBeSeenIsNotThere:
    @pytest.mark.parametrize("actor", NOBODY, ids=lambda actor: f"{actor.user}-{actor.project}")
    async def test_by_any_call(self, site: Inside, actor: Actor) -> None:
        """The words are those for an id that never was, and nothing changes."""
        (license_id,) = await site.made()
        before = await site.row(license_id)
        calls: list[Callable[[str], Awaitable[object]]] = [
            lambda name: site.service.retrieve(name, WHOLE, actor),
            lambda name: site.service.delete([name], actor),
            lambda name: site.service.update_acl([given(name, user("mallory"), READ)], actor),
        ]
        for call in calls:
            said: list[str] = []
            for name in (license_id, "1" * 16):
                with pytest.raises(LicenseUnknown) as raised:
                    await call(name)
                said.append(raised.value.text.replace(name, "ID"))
            assert said[0] == said[1]
        assert await listed(site, actor) == []
        assert await site.row(license_id) == before

    @pytest.mark.parametrize("name", ["", "x" * 49, "../1", "a b", "1\n", "ä"])
    async def test_what_no_license_is_called(self, site: Inside, name: str) -> None:
        """Unknown, without a look into the store; words hold no more of it than a line."""
        with pytest.raises(LicenseUnknown) as raised:
            await site.service.retrieve(name, PLAIN, ALICE)
        assert "\n" not in raised.value.text
        with pytest.raises(LicenseUnknown):
            await site.service.delete([name], ALICE)

    async def test_a_deleted_one(self, site: Inside) -> None:
        """Also for its owner and for the operator; deleting it once more is said to be unknown."""
        (license_id,) = await site.made()
        await site.service.delete([license_id], ALICE)
        for actor in (ALICE, OPERATOR):
            with pytest.raises(LicenseUnknown):
                await site.service.retrieve(license_id, PLAIN, actor)
            with pytest.raises(LicenseUnknown):
                await site.service.delete([license_id], actor)
            assert await listed(site, actor) == []

    async def test_a_bulk_with_one_that_is_not_there_changes_nothing(self, site: Inside) -> None:
        """All or none; the path says which."""
        mine = await site.made(count=2)
        (other,) = await site.made(Actor("bob"))
        with pytest.raises(LicenseUnknown) as raised:
            await site.service.delete([*mine, other], ALICE)
        assert raised.value.field == "items[2].id"
        with pytest.raises(LicenseUnknown):
            await site.service.update_acl([given(one, user("eve"), READ) for one in (*mine, other)], ALICE)
        assert set(await listed(site, ALICE)) == set(mine)
        assert await listed(site, Actor("eve")) == []


class TestPermissions:
    @pytest.mark.parametrize(
        ("actor", "sees", "deletes", "shares"),
        [
            (MAKER, True, True, True),
            (PI, True, True, True),
            (Actor("adm", "p", "ADMIN"), True, True, True),
            (OPERATOR, True, True, True),
            (MEMBER, True, False, False),
            (GROUPED, True, True, False),
            (Actor("dan", "p", "USER"), False, False, False),
            (Actor("cat", "p", "USER"), False, False, False),
            (Actor("alice", "p", ""), False, False, False),
            (ALICE, False, False, False),
        ],
    )
    async def test_of_each_call(self, site: Inside, actor: Actor, sees: bool, deletes: bool, shares: bool) -> None:
        """READ to see, EDIT to delete, ADMIN to share (facts 2021 §5.1). bob has READ, group g has EDIT."""
        (license_id,) = await site.made(MAKER)
        await site.service.update_acl([given(license_id, user("bob"), READ), given(license_id, group("g"), EDIT)], MAKER)
        assert (await listed(site, actor) == [license_id]) is sees
        refused = Forbidden if sees else LicenseUnknown
        for allowed, call in (
            (sees, lambda: site.service.retrieve(license_id, PLAIN, actor)),
            (shares, lambda: site.service.update_acl([given(license_id, user("eve"), READ)], actor)),
            (deletes, lambda: site.service.delete([license_id], actor)),
        ):
            if allowed:
                await call()
            else:
                with pytest.raises(refused):
                    await call()

    async def test_what_is_given_is_seen_and_what_is_taken_is_gone(self, site: Inside) -> None:
        """In lists too. An entity that is given again has the newest permissions alone."""
        (license_id,) = await site.made(MAKER)
        await site.service.update_acl([given(license_id, user("bob"), READ, EDIT)], MAKER)
        await site.service.update_acl([given(license_id, user("bob"), READ), given(license_id, group("g"), READ)], MAKER)
        with pytest.raises(Forbidden) as raised:
            await site.service.delete([license_id], MEMBER)
        assert "needs the permission EDIT" in raised.value.text
        assert await listed(site, GROUPED) == [license_id]
        await site.service.update_acl([UpdatedAcl(id=license_id, deleted=[user("bob"), group("g"), user("never-had-any")])], PI)
        assert (await listed(site, MEMBER), await listed(site, GROUPED)) == ([], [])
        shown = await site.service.retrieve(license_id, WHOLE, MAKER)
        assert list(shown.permissions.others) == []

    @pytest.mark.parametrize(
        "item",
        [
            given("", user("bob"), ADMIN),
            given("", user("bob")),
            given("", user(""), READ),
            given("", AclEntity(), READ),
            given("", group("g", ""), READ),
            given("", user("a\nb"), READ),
            UpdatedAcl(deleted=[AclEntity()]),
        ],
    )
    async def test_what_cannot_be_given(self, site: Inside, item: UpdatedAcl) -> None:
        """ADMIN, nothing, to nobody."""
        (item.id,) = await site.made()
        with pytest.raises(InvalidRequest) as raised:
            await site.service.update_acl([item], ALICE)
        assert str(raised.value.field).startswith("items[0].")

    async def test_too_many_others(self, site: Inside) -> None:
        """A license has room for a thousand."""
        (license_id,) = await site.made()
        entries = [ResourceAclEntry(entity=user(f"u{n}"), permissions=[READ]) for n in range(1_001)]
        with pytest.raises(InvalidRequest):
            await site.service.update_acl([UpdatedAcl(id=license_id, added=entries)], ALICE)
        await site.service.update_acl([UpdatedAcl(id=license_id, added=entries[:1_000])], ALICE)


class TestWhatIsShown:
    async def test_flags(self, site: Inside) -> None:
        """Nothing that was not asked for: permissions, history, product and support come by their flags."""
        site.servers.stands(SOLVER, Standing.UP)
        (license_id,) = await site.made()
        await site.passes()
        await site.window("a", START_MS + HOUR_MS, 0, MAINTENANCE_AVAILABILITY_NO_SERVICE)
        plain = await site.service.retrieve(license_id, PLAIN, ALICE)
        assert (plain.HasField("permissions"), list(plain.updates)) == (False, [])
        assert not plain.status.HasField("resolved_product")
        assert not plain.status.HasField("resolved_support")
        whole = await site.service.retrieve(license_id, WHOLE, ALICE)
        assert list(whole.permissions.myself) == [READ, EDIT, ADMIN]
        assert [update.state for update in whole.updates] == [LicenseState.PREPARING, LicenseState.READY]
        product = whole.status.resolved_product
        assert (product.name, product.price_per_unit, list(product.tags)) == ("solver", 7, ["acme"])
        assert whole.status.resolved_support.support.maintenance.description == "Work a."

    async def test_products(self, site: Inside) -> None:
        """By provider, in the order of the settings, each with the maintenance that is next."""
        await site.window("a", START_MS + HOUR_MS, 0, MAINTENANCE_AVAILABILITY_NO_SERVICE)
        found = await site.service.products()
        names = {provider: [one.product.name for one in offered] for provider, offered in found.items()}
        assert names == {"example": ["solver", "mesher"], "other": ["viewer"]}
        assert [one.support.HasField("maintenance") for one in found["example"]] == [True, False]

    async def test_a_product_that_is_not_sold_any_more(self, site: Inside) -> None:
        """Its licenses are seen, without a product that nobody knows."""
        (license_id,) = await site.made()
        less = Inside(site.store, site.clock, MESHER)
        shown = await less.service.retrieve(license_id, WHOLE, ALICE)
        assert shown.specification.product.id == "solver"
        assert not shown.status.HasField("resolved_product")


class TestLists:
    async def test_pages_survive_what_comes_and_goes(self, site: Inside) -> None:
        """Nothing that was there all the time is missing or twice, whatever is made and deleted between two pages."""
        ids: list[str] = []
        for _ in range(30):
            ids += await site.made()
            site.clock.move(1_000)
        found: list[str] = []
        token = ""
        for turn in range(10):
            size, page, token = await site.service.browse(BrowseRequest(items_per_page=10, next=token), ALICE)
            assert size == 10
            found += [one.id for one in page]
            if not token:
                break
            await site.made()
            # One that was read, the last of the page among them, and one that was not.
            await site.service.delete([found[-1]], ALICE)
            await site.service.delete([ids[turn]], ALICE)
        gone = set(ids) - set(await listed(site, ALICE))
        assert len(found) == len(set(found))
        assert set(ids) - gone <= set(found)
        assert found == sorted(found, key=ids.index, reverse=True)

    async def test_a_token_of_another_list(self, site: Inside) -> None:
        """Or of nobody's making."""
        await site.made(count=11)
        _, _, token = await site.service.browse(BrowseRequest(items_per_page=10), ALICE)
        assert token
        for request in (BrowseRequest(next="rubbish"), BrowseRequest(next=token, sort_by="state"), BrowseRequest(next=token[:-3])):
            with pytest.raises(InvalidRequest) as raised:
                await site.service.browse(request, ALICE)
            assert raised.value.field == "next"

    async def test_a_token_gives_nobody_more_than_they_may_see(self, site: Inside) -> None:
        """It is a place in an order, and no right."""
        await site.made(count=11)
        _, _, token = await site.service.browse(BrowseRequest(items_per_page=10), ALICE)
        _, found, _ = await site.service.browse(BrowseRequest(items_per_page=10, next=token), Actor("mallory"))
        assert found == []

    async def test_filters_and_order(self, site: Inside) -> None:
        """Product, category, provider, who made it and when, ids; newest first unless something else is asked for."""
        await site.bought("1", SOLVER)
        site.clock.move(1_000)
        await site.bought("2", MESHER)
        site.clock.move(1_000)
        await site.bought("3", VIEWER)
        for flags, expected in (
            (PLAIN, ["3", "2", "1"]),
            (LicenseIncludeFlags(filter_product_id="mesher"), ["2"]),
            (LicenseIncludeFlags(filter_product_category="licenses"), ["2", "1"]),
            (LicenseIncludeFlags(filter_provider="other"), ["3"]),
            (LicenseIncludeFlags(hide_provider="other", hide_product_id="solver"), ["2"]),
            (LicenseIncludeFlags(filter_created_by="bob"), []),
            (LicenseIncludeFlags(filter_created_after=START_MS + 1_000), ["3", "2"]),
            (LicenseIncludeFlags(filter_created_before=START_MS + 1_000), ["2", "1"]),
            (LicenseIncludeFlags(filter_ids="1, 3,../x,999"), ["3", "1"]),
            (LicenseIncludeFlags(filter_ids="../x"), []),
            (LicenseIncludeFlags(filter_provider_ids="2"), ["2"]),
        ):
            assert await listed(site, ALICE, flags) == expected, flags
        _, found, _ = await site.service.browse(BrowseRequest(sort_by="product", sort_direction=SORT_DIRECTION_ASCENDING), ALICE)
        assert [one.id for one in found] == ["2", "1", "3"]
        _, found, _ = await site.service.browse(BrowseRequest(items_to_skip=1), ALICE)
        assert [one.id for one in found] == ["2", "1"]

    @pytest.mark.parametrize(
        ("request_", "field"),
        [
            (BrowseRequest(sort_by="price"), "sortBy"),
            (BrowseRequest(items_to_skip=-1), "itemsToSkip"),
            (BrowseRequest(flags=LicenseIncludeFlags(filter_provider="a\0b")), "filterProvider"),
            (BrowseRequest(flags=LicenseIncludeFlags(filter_ids=",".join(str(n) for n in range(1_001)))), "filterIds"),
        ],
    )
    async def test_what_cannot_be_asked(self, site: Inside, request_: BrowseRequest, field: str) -> None:
        with pytest.raises(InvalidRequest) as raised:
            await site.service.browse(request_, ALICE)
        assert raised.value.field == field

    async def test_search(self, site: Inside) -> None:
        """In id, product, owner and words, whatever the case; only among what one may see; % and _ are themselves."""
        await site.bought("1", SOLVER)
        await site.bought("2", MESHER)
        await site.bought("3", SOLVER, owner="bob")

        async def found(text: str) -> list[str]:
            _, page, _ = await site.service.search(SearchRequest(query=text), ALICE)
            return [one.id for one in page]

        assert await found("SOLV") == ["1"]
        assert await found("being prepared") == ["2", "1"]
        assert [await found(text) for text in ("bob", "%", "_", "'")] == [[], [], [], []]
        for text in ("", "x" * 1_001, "a\0"):
            with pytest.raises(InvalidRequest):
                await found(text)

    async def test_by_the_id_of_ucloud(self, site: Inside) -> None:
        """One that was made here is found by both ids; only tools of the operator are told the other, and strangers find neither."""
        (made,) = await site.made()
        await site.settle(Outcome.DELIVERED, core_id="1795665940")
        for name in (made, "1795665940"):
            shown = await site.service.retrieve(name, PLAIN, ALICE)
            assert (shown.id, shown.core_id) == (made, "")
            shown = await site.service.retrieve(name, PLAIN, OPERATOR)
            assert (shown.id, shown.core_id) == (made, "1795665940")
            with pytest.raises(LicenseUnknown, match=name):
                await site.service.retrieve(name, PLAIN, NOBODY[0])
        _, page, _ = await site.service.search(SearchRequest(query="7956659"), ALICE)
        assert [one.id for one in page] == [made]


async def test_init_has_servers_looked_at(site: Inside) -> None:
    """Of every product; a stranger of the project changes nothing."""
    await site.service.init(Actor("x", "p", ""))
    assert site.looked == []
    await site.service.init(ALICE)
    assert sorted(site.looked) == sorted([SOLVER.key, MESHER.key, VIEWER.key])
