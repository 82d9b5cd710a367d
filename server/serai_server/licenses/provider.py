"""The use cases of licenses for UCloud/Core, without gRPC. Core has made them and has checked its users' permissions.

Each stores and answers; the first word on a new license goes to Core when its server was looked at (`states`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog
from serai.licenses.v1.license_pb2 import LICENSE_STATE_UNAVAILABLE, LICENSE_STATE_UNSPECIFIED, License, LicenseSupport
from serai.licenses.v1.licenses_provider_service_pb2 import ProviderUpdatedAcl

from serai_server.errors import InvalidRequest, LicenseConflictError
from serai_server.licenses import access, acl, maintenance, requests, words
from serai_server.licenses.bodies import history_line, registration_note, specification_of, told_again
from serai_server.licenses.products import LicenseCatalog
from serai_server.licenses.states import revived
from serai_server.licenses.views import Shown
from serai_server.store.license_api import LicenseConflict, LicenseStore
from serai_server.store.license_model import AtCore, LicenseChange, LicenseFilter, LicenseNote, LicenseState, NewLicense, StoredLicense

log = structlog.get_logger("serai.licenses")

Decided = Callable[[StoredLicense, int], LicenseChange | None]
"""(row of a license that is or was there, place of its item) → what becomes of it."""

DELETING_MS = 600_000
"""Longest that Core goes on with a delete that its provider has answered: until then it still shows what is going."""


class LicensesOfCore:
    def __init__(self, *, store: LicenseStore, catalog: LicenseCatalog, look: Callable[[str], None], wall: Callable[[], int]) -> None:
        """`wall` is the time of day in ms. `look` has the licenses of a product moved to where they ought to be, and their server looked
        at."""
        self._store = store
        self._catalog = catalog
        self._look = look
        self._wall = wall

    async def create(self, items: Sequence[License]) -> None:
        """All or none. Raises InvalidRequest, LicenseConflictError."""
        requests.check_count(items)
        now_ms = self._wall()
        rows = [requests.of_core(item, index, self._catalog, now_ms) for index, item in enumerate(items)]
        if len({row.id for row in rows}) < len(rows):
            raise InvalidRequest("a license is in the request twice", field="items")
        known = await self._known(items)
        # One that is known under another id is not a second license.
        new = {place: row for place, (row, there) in enumerate(zip(rows, known, strict=True)) if there is None or there.id == row.id}
        try:
            await self._store.create(list(new.values()))
        except LicenseConflict as error:
            raise LicenseConflictError(
                f"a license {error.license_id} with other content exists already; an id cannot be used again",
                field=f"items[{list(new)[error.index]}].id",
            ) from error
        for product in {row.product for row in new.values()}:
            self._look(product)
        await self._change(items, _made_again(items, now_ms), known)

    async def delete(self, items: Sequence[License]) -> None:
        """What is unknown or gone already counts as done. Raises InvalidRequest."""
        now_ms = self._wall()

        def gone(row: StoredLicense, _: int) -> LicenseChange | None:
            if row.deleted_at_ms:
                return None
            note = LicenseNote(row.id, now_ms, history_line(now_ms, None, words.DELETED_AT_CORE))
            return LicenseChange(row.id, row.version, status=words.DELETED_AT_CORE, deleted_at_ms=now_ms, notes=(note,))

        await self._change(items, gone)

    async def update_acl(self, items: Sequence[ProviderUpdatedAcl]) -> None:
        """Licenses that are not known here are passed over. Raises InvalidRequest."""

        def changed(row: StoredLicense, place: int) -> LicenseChange | None:
            if row.deleted_at_ms:
                return None
            item = items[place]
            # The item has the list before the change (facts 2021 §1.6), so an earlier change that got lost does not matter.
            before = item.resource.permissions.others or access.others_of(row)
            others = acl.changed(before, item.added, item.deleted)[: requests.MOST_ENTRIES]
            others = [entry for entry in others if requests.names_somebody(entry.entity)]
            return LicenseChange(
                row.id, row.version, acl=requests.acl_bytes(others), readers=access.readers_of(row.owner, row.project, others)
            )

        await self._change([item.resource for item in items], changed)

    async def update_labels(self, items: Sequence[License]) -> None:
        """Licenses that are not known here are passed over. Raises InvalidRequest."""
        for place, item in enumerate(items):
            requests.check_labels(item.specification.labels, f"items[{place}].specification.labels")

        def labelled(row: StoredLicense, place: int) -> LicenseChange | None:
            if row.deleted_at_ms:
                return None
            body = License.FromString(row.body)
            body.specification.ClearField("labels")
            body.specification.labels.update(items[place].specification.labels)
            return LicenseChange(row.id, row.version, body=body.SerializeToString())

        await self._change(items, labelled)

    async def verify(self, items: Sequence[License]) -> None:
        """What Core has. Licenses that are not known here are taken on, unless they are of what is not sold here; that Core had forgotten
        comes back; those that stand otherwise at Core are told once more. Raises InvalidRequest."""
        requests.check_count(items)
        now_ms = self._wall()
        known = await self._known(items)
        await self._take_on([item for item, row in zip(items, known, strict=True) if row is None], now_ms)
        await self._change(items, lambda row, place: agreed(row, items[place], now_ms), known)

    async def _take_on(self, items: Sequence[License], now_ms: int) -> None:
        registering = _Registering(self._store, self._catalog)
        new: dict[str, NewLicense] = {}
        refused: list[str] = []
        for index, item in enumerate(items):
            try:
                row = requests.of_core(item, index, self._catalog, now_ms, is_new=False)
            except InvalidRequest as error:
                refused.append(f"{item.id[:64]}: {error.text}")
                continue
            if row.at_core is AtCore.WANTED or not await registering.like(row):
                new.setdefault(row.id, row)
        if refused:
            log.warning("licenses.not_taken_on", licenses=len(refused), first=refused[:5])
        for row in new.values():
            # One at a time: whoever made it meanwhile was first.
            try:
                await self._store.create([row])
            except LicenseConflict:
                continue
            self._look(row.product)
        if new:
            log.warning("licenses.taken_on", licenses=len(new), first=list(new)[:10])

    async def support(self) -> list[LicenseSupport]:
        shown = Shown(self._catalog, maintenance.told(await self._store.windows(), self._wall()))
        return [shown.support(product) for product in self._catalog.all()]

    async def init(self) -> None:
        for product in self._catalog.all():
            self._look(product.key)

    async def _known(self, items: Sequence[License]) -> list[StoredLicense | None]:
        """The row of each: by its id, ours or Core's, or else by the id of ours that Core tells with it, for Core may name a license before
        it is stored here under which id it knows it. Deleted ones too."""
        names = [[name for name in _names(item) if requests.is_license_id(name)] for item in items]
        found = await self._store.find([name for each in names for name in each])
        return [next((found[name] for name in each if name in found), None) for each in names]

    async def _change(self, items: Sequence[License], decided: Decided, known: Sequence[StoredLicense | None] | None = None) -> None:
        """What becomes of each item's license, if there is or was one. `known`: as it was found already."""
        requests.check_count(items)
        rows = await self._known(items) if known is None else known
        there = [(place, row.id) for place, row in enumerate(rows) if row is not None]

        def change(position: int, row: StoredLicense | None) -> LicenseChange | None:
            return None if row is None else decided(row, there[position][0])

        changed = await self._store.decide([license_id for _, license_id in there], change) if there else []
        for product in {row.product for row in changed if row is not None}:
            self._look(product)


class _Registering:
    """Licenses that are being registered. Core of 2021 does not tell which of them one is that nobody here knows: such a one is left for
    the next time, by when its registration has come to an end, and it is known."""

    def __init__(self, store: LicenseStore, catalog: LicenseCatalog) -> None:
        self._store = store
        self._catalog = catalog
        self._asked: dict[tuple[str, str], set[str]] = {}
        """Projects, by owner and product."""

    async def like(self, license_: NewLicense) -> bool:
        key = license_.owner, license_.product
        if key not in self._asked:
            self._asked[key] = await self._projects(*key)
        return license_.project in self._asked[key]

    async def _projects(self, owner: str, key: str) -> set[str]:
        product = self._catalog.by_key(key)
        if product is None:
            return set()
        condition = LicenseFilter(owner=owner, provider=product.provider, category=product.category, product_id=product.id)
        projects: set[str] = set()
        token = ""
        while True:
            page = await self._store.page(condition, requests.MOST_ITEMS, token)
            projects |= {row.project for row in page.licenses if row.at_core is AtCore.WANTED}
            token = page.next_token
            if not token:
                return projects


def _names(item: License) -> list[str]:
    ours = item.provider_generated_id
    return [item.id, ours] if requests.is_ours(ours) else [item.id]


def agreed(row: StoredLicense, item: License, now_ms: int) -> LicenseChange | None:
    """What becomes of a license that Core has. Pure."""
    known = replace(row, at_core=AtCore.KNOWN, core_id="" if item.id == row.id else item.id)
    # Core of 2026 has no states (facts today §7): the gateway leaves them out, and nothing stands otherwise.
    is_otherwise = item.status.state not in (LICENSE_STATE_UNSPECIFIED, int(row.state))
    if row.at_core is AtCore.WANTED:
        # Its registration is on its way and does the rest, also of one that was deleted.
        return None
    if row.deleted_at_ms:
        return _undeleted(known, item, now_ms)
    match row.at_core:
        case AtCore.UNTOLD:
            # Core has it after all. Its registration finds it there, and does the rest.
            spec = specification_of(row)
            note = registration_note(row.id, row.owner, row.project, spec, now_ms)
            return LicenseChange(row.id, row.version, at_core=AtCore.WANTED, notes=(note,))
        case AtCore.LOST:
            return replace(revived(known, now_ms), core_id=known.core_id)
        case AtCore.KNOWN if is_otherwise or known.core_id != row.core_id:
            return LicenseChange(row.id, row.version, core_id=known.core_id, notes=(told_again(known, now_ms),))
        case AtCore.KNOWN:
            return None


def _undeleted(row: StoredLicense, item: License, now_ms: int) -> LicenseChange | None:
    """Core deletes a license only when its provider has, and may then fail to (facts 2021 §5.1): what it asked to be deleted and still has
    is there again. What was deleted here stays so, and Core is told once more."""
    if row.status == words.DELETED_AT_CORE:
        if now_ms - row.deleted_at_ms < DELETING_MS:
            return None
        log.warning("licenses.undeleted", license=row.id, why="UCloud had it deleted and has it still")
        readers = access.readers_of(row.owner, row.project, access.others_of(row))
        return replace(revived(row, now_ms), core_id=row.core_id, deleted_at_ms=0, readers=readers)
    if item.status.state in (LICENSE_STATE_UNSPECIFIED, LICENSE_STATE_UNAVAILABLE):
        return None
    gone = replace(row, state=LicenseState.UNAVAILABLE, status=words.DELETED)
    return LicenseChange(row.id, row.version, at_core=AtCore.KNOWN, core_id=row.core_id, notes=(told_again(gone, now_ms),))


def _made_again(items: Sequence[License], now_ms: int) -> Decided:
    """Of a license that was there before its create came."""

    def decided(row: StoredLicense, place: int) -> LicenseChange | None:
        if row.deleted_at_ms:
            log.warning(
                "licenses.made_again",
                license=row.id,
                why="UCloud makes a license that was deleted here; its id is taken, so it stays deleted",
            )
            return None
        return agreed(row, items[place], now_ms) if row.at_core is not AtCore.KNOWN else None

    return decided
