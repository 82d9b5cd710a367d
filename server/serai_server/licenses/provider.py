"""The use cases of licenses for UCloud/Core, without gRPC. Core has made them and has checked its users' permissions.

Each stores and answers; the first word on a new license goes to Core when its server was looked at (`states`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog
from serai.licenses.v1.license_pb2 import License, LicenseSupport
from serai.licenses.v1.licenses_provider_service_pb2 import ProviderUpdatedAcl

from serai_server.errors import InvalidRequest, LicenseConflictError
from serai_server.licenses import access, acl, maintenance, requests
from serai_server.licenses.bodies import told_again
from serai_server.licenses.products import LicenseCatalog
from serai_server.licenses.views import Shown
from serai_server.store.license_api import LicenseConflict, LicenseStore
from serai_server.store.license_model import AtCore, LicenseChange, NewLicense, StoredLicense

log = structlog.get_logger("serai.licenses")

Decided = Callable[[StoredLicense, int], LicenseChange | None]
"""(row of a license that is there, place of its item) → what becomes of it."""


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
        try:
            await self._store.create(rows)
        except LicenseConflict as error:
            raise LicenseConflictError(
                f"a license {error.license_id} with other content exists already; an id cannot be used again",
                field=f"items[{error.index}].id",
            ) from error
        for product in {row.product for row in rows}:
            self._look(product)

    async def delete(self, items: Sequence[License]) -> None:
        """What is unknown or gone already counts as done. Raises InvalidRequest."""
        now_ms = self._wall()
        await self._change(items, [item.id for item in items], lambda row, _: LicenseChange(row.id, row.version, deleted_at_ms=now_ms))

    async def update_acl(self, items: Sequence[ProviderUpdatedAcl]) -> None:
        """Licenses that are not known here are passed over. Raises InvalidRequest."""

        def changed(row: StoredLicense, place: int) -> LicenseChange:
            item = items[place]
            # The item has the list before the change (facts 2021 §1.6), so an earlier change that got lost does not matter.
            before = item.resource.permissions.others or access.others_of(row)
            others = acl.changed(before, item.added, item.deleted)[: requests.MOST_ENTRIES]
            others = [entry for entry in others if requests.names_somebody(entry.entity)]
            return LicenseChange(
                row.id, row.version, acl=requests.acl_bytes(others), readers=access.readers_of(row.owner, row.project, others)
            )

        await self._change(items, [item.resource.id for item in items], changed)

    async def update_labels(self, items: Sequence[License]) -> None:
        """Licenses that are not known here are passed over. Raises InvalidRequest."""

        def labelled(row: StoredLicense, place: int) -> LicenseChange:
            body = License.FromString(row.body)
            body.specification.ClearField("labels")
            body.specification.labels.update(items[place].specification.labels)
            return LicenseChange(row.id, row.version, body=body.SerializeToString())

        await self._change(items, [item.id for item in items], labelled)

    async def verify(self, items: Sequence[License]) -> None:
        """Licenses that are not known here are taken on, unless they are of what is not sold here; those that stand otherwise at Core are
        told once more. Raises InvalidRequest."""
        requests.check_count(items)
        now_ms = self._wall()
        names = [name for item in items for name in (item.id, item.provider_generated_id) if requests.is_license_id(name)]
        known = await self._store.find(names)
        new: dict[str, NewLicense] = {}
        for index, item in enumerate(items):
            ours = known.get(item.provider_generated_id)
            if ours is not None and ours.at_core is AtCore.WANTED:
                continue  # made here; that Core has it is on its way to us (`settled`)
            if item.id not in known and item.id not in new:
                try:
                    new[item.id] = requests.of_core(item, index, self._catalog, now_ms)
                except InvalidRequest as error:
                    log.warning("licenses.not_taken_on", license=item.id[:64], why=error.text)
        for row in new.values():
            # One at a time: whoever made it meanwhile was first.
            try:
                await self._store.create([row])
            except LicenseConflict:
                continue
            self._look(row.product)

        def agreed(row: StoredLicense, place: int) -> LicenseChange | None:
            if items[place].status.state == int(row.state) or row.at_core is not AtCore.KNOWN:
                return None
            return LicenseChange(row.id, row.version, notes=(told_again(row, now_ms),))

        await self._change(items, [item.id for item in items], agreed)

    async def support(self) -> list[LicenseSupport]:
        shown = Shown(self._catalog, maintenance.told(await self._store.windows(), self._wall()))
        return [shown.support(product) for product in self._catalog.all()]

    async def init(self) -> None:
        for product in self._catalog.all():
            self._look(product.key)

    async def _change(self, items: Sequence[object], names: Sequence[str], decided: Decided) -> None:
        """Each item's license as Core names it, if it is there."""
        requests.check_count(items)
        found = await self._store.find([name for name in names if requests.is_license_id(name)])
        places = [place for place, name in enumerate(names) if name in found]
        ids = [found[names[place]].id for place in places]

        def change(position: int, row: StoredLicense | None) -> LicenseChange | None:
            return None if row is None or row.deleted_at_ms else decided(row, places[position])

        rows = await self._store.decide(ids, change) if ids else []
        for product in {row.product for row in rows if row is not None}:
            self._look(product)
