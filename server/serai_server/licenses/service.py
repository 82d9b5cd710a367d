"""The use cases of licenses for their users and for the operator's tools, without gRPC.

What an actor may not see is answered in the very words of what is not there. A change is worked out inside the store's transaction, from
the row as it is then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from serai.core.v1.resources_pb2 import PERMISSION_ADMIN, PERMISSION_EDIT, Permission, ResourceOwner
from serai.licenses.v1.license_pb2 import License, LicenseSpecification, ResolvedLicenseSupport
from serai.licenses.v1.licenses_service_pb2 import BrowseRequest, LicenseIncludeFlags, SearchRequest, UpdatedAcl

from serai_server.errors import Forbidden, InvalidRequest, LicenseUnknown, NotEnoughLicenses
from serai_server.licenses import access, acl, maintenance, requests, words
from serai_server.licenses.bodies import update_note
from serai_server.licenses.lists import Asked, browsed, searched
from serai_server.licenses.products import LicenseCatalog
from serai_server.licenses.views import Look, Shown, views
from serai_server.store.license_api import LicenseConflict, LicenseStore, QuotaReached
from serai_server.store.license_model import LicenseChange, LicensePage, LicenseState, Quota, StoredLicense

_ID_ATTEMPTS = 3


class LicensesService:
    def __init__(
        self,
        *,
        store: LicenseStore,
        catalog: LicenseCatalog,
        look: Callable[[str], None],
        wall: Callable[[], int],
        register_at_core: bool,
        most: int = 100,
    ) -> None:
        """`wall` is the time of day in ms, in which maintenance is planned and which users read. `look` has the licenses of a product moved
        to where they ought to be, and their server looked at. `most` licenses are made by one user in one workspace."""
        self._store = store
        self._catalog = catalog
        self._look_at = look
        self._wall = wall
        self._register = register_at_core
        self._most = most

    async def browse(self, request: BrowseRequest, actor: access.Actor) -> tuple[int, list[License], str]:
        """(size of the page, licenses, token of the next page or ""). Raises InvalidRequest."""
        return await self._page(browsed(request, actor), request.flags, actor)

    async def search(self, request: SearchRequest, actor: access.Actor) -> tuple[int, list[License], str]:
        """As `browse`."""
        return await self._page(searched(request, actor), request.flags, actor)

    async def retrieve(self, license_id: str, flags: LicenseIncludeFlags, actor: access.Actor) -> License:
        """By its id, or by the one under which UCloud knows it, which is what users see there. Raises LicenseUnknown."""
        stored = (await self._store.find([license_id])).get(license_id) if requests.is_license_id(license_id) else None
        self._check(stored, license_id, actor, None, "id")
        assert stored is not None  # noqa: S101 - checked above
        return (await views([stored], Look(actor, flags, await self._shown()), self._store))[0]

    async def products(self) -> dict[str, list[ResolvedLicenseSupport]]:
        """By provider, in the order of the settings."""
        shown = await self._shown()
        found: dict[str, list[ResolvedLicenseSupport]] = {}
        for product in self._catalog.all():
            found.setdefault(product.provider, []).append(shown.resolved(product))
        return found

    async def create(self, items: Sequence[LicenseSpecification], owner: ResourceOwner, actor: access.Actor) -> list[str]:
        """Ids, in order. `owner` is looked at for an operator only. Raises InvalidRequest, Forbidden, NotEnoughLicenses."""
        requests.check_count(items)
        if not actor.member:
            raise Forbidden("licenses can be made only by members of the project")
        if not actor.operator:
            owner = ResourceOwner(created_by=actor.user, project=actor.project or None)
        # Operators make as many as they like.
        quota = None if actor.operator else Quota(access.made_by(owner.created_by, owner.project), self._most)
        for attempt in range(_ID_ATTEMPTS):
            rows = [
                requests.of_user(item, owner, index, self._catalog, self._wall(), register=self._register)
                for index, item in enumerate(items)
            ]
            try:
                await self._store.create(rows, quota)
            except QuotaReached as error:
                raise NotEnoughLicenses(
                    f"nobody may make more than {self._most} licenses in one workspace here ({error}); delete some that are not needed"
                ) from error
            except LicenseConflict:
                # Ids are drawn at random: this one is taken.
                if attempt + 1 == _ID_ATTEMPTS:
                    raise
                continue
            break
        else:
            raise AssertionError  # the loop ends by break or by an error
        self._look({row.product for row in rows})
        return [row.id for row in rows]

    async def delete(self, ids: Sequence[str], actor: access.Actor) -> None:
        """All or none; jobs that use them go on. Raises InvalidRequest, LicenseUnknown, Forbidden."""
        requests.check_count(ids)
        now_ms = self._wall()

        def gone(place: int, stored: StoredLicense | None) -> LicenseChange | None:
            self._check(stored, ids[place], actor, PERMISSION_EDIT, f"items[{place}].id")
            assert stored is not None  # noqa: S101 - checked above
            # No provider can take a license away from Core, so that is told how it stands.
            note = update_note(stored, now_ms, LicenseState.UNAVAILABLE, words.DELETED)
            return LicenseChange(stored.id, stored.version, deleted_at_ms=now_ms, notes=(note,))

        self._check_names(ids)
        self._look({row.product for row in await self._store.decide(ids, gone) if row is not None})

    async def update_acl(self, items: Sequence[UpdatedAcl], actor: access.Actor) -> None:
        """All or none. Raises InvalidRequest, LicenseUnknown, Forbidden."""
        requests.check_count(items)
        requests.check_entries(len(item.added) + len(item.deleted) for item in items)
        for place, item in enumerate(items):
            requests.check_acl(item.added, item.deleted, f"items[{place}]")

        def changed(place: int, stored: StoredLicense | None) -> LicenseChange | None:
            item = items[place]
            self._check(stored, item.id, actor, PERMISSION_ADMIN, f"items[{place}].id")
            assert stored is not None  # noqa: S101 - checked above
            others = acl.changed(access.others_of(stored), item.added, item.deleted)
            if len(others) > requests.MOST_ENTRIES:
                raise InvalidRequest(f"expected at most {requests.MOST_ENTRIES:,} others with permissions", field=f"items[{place}].added")
            return LicenseChange(
                stored.id,
                stored.version,
                acl=requests.acl_bytes(others),
                readers=access.readers_of(stored.owner, stored.project, others),
            )

        ids = [item.id for item in items]
        self._check_names(ids)
        await self._store.decide(ids, changed)

    async def init(self, actor: access.Actor) -> None:
        """Servers that have not answered yet are looked at soon."""
        if actor.member:
            self._look({product.key for product in self._catalog.all()})

    def _look(self, products: set[str]) -> None:
        for product in products:
            self._look_at(product)

    async def _page(self, asked: Asked, flags: LicenseIncludeFlags, actor: access.Actor) -> tuple[int, list[License], str]:
        page = await self._found(asked)
        found = await views(page.licenses, Look(actor, flags, await self._shown()), self._store)
        return asked.size, found, page.next_token

    async def _found(self, asked: Asked) -> LicensePage:
        condition = asked.condition
        if condition.readers == () or condition.ids == () or condition.core_ids == ():
            return LicensePage((), "")
        try:
            return await self._store.page(condition, asked.size, asked.token, asked.skip)
        except ValueError as error:
            raise InvalidRequest("not a page that follows one of this list", field="next") from error

    async def _shown(self) -> Shown:
        return Shown(self._catalog, maintenance.told(await self._store.windows(), self._wall()))

    def _check_names(self, ids: Sequence[str]) -> None:
        """Raises LicenseUnknown for what no license can be called."""
        for place, license_id in enumerate(ids):
            if not requests.is_license_id(license_id):
                raise _unknown(license_id, f"items[{place}].id")

    def _check(
        self, stored: StoredLicense | None, license_id: str, actor: access.Actor, needed: Permission.ValueType | None, path: str
    ) -> None:
        """Raises LicenseUnknown for a license that the actor may not see, Forbidden for one that they may only see."""
        may = access.permissions(actor, stored) if stored is not None and not stored.deleted_at_ms else ()
        if not may:
            raise _unknown(license_id, path)
        if needed is not None and needed not in may:
            raise Forbidden(f"{path}: this needs the permission {Permission.Name(needed).removeprefix('PERMISSION_')}", field=path)


def _unknown(license_id: str, path: str) -> LicenseUnknown:
    return LicenseUnknown(f"no license {license_id[:64]!r} is known here", field=path)
