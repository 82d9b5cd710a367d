"""The store's part about licenses, `Store.licenses`: same database, same owner thread, same rules as store/api.py.

Raises what store/api.py raises, and:

StoreError
├── LicenseConflict   a license of this id with other content exists
├── QuotaReached      there would be more licenses than the quota lets be
└── ServerConflict    the name or the product has a license server already
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from serai_server.store.api import StoreError
from serai_server.store.license_model import (
    Claim,
    LicenseChange,
    LicenseFilter,
    LicensePage,
    LicenseState,
    Line,
    NewLicense,
    Quota,
    SeatsAnswer,
    StoredLicense,
    StoredServer,
    StoredWindow,
)
from serai_server.store.model import JobChange, StoredJob

DecideLicense = Callable[[int, StoredLicense | None], LicenseChange | NewLicense | None]
"""(place in the list of ids, row or None) → what becomes of it; None = nothing. Pure and quick, as store/api.py's Decide."""

ANY_NUMBER: Mapping[str, int] = MappingProxyType({})
"""Capacities: a job may need as many seats as it likes of every product."""

Reseal = Callable[[str, bytes], bytes]
"""(name of a server, its sealed key) → the key sealed anew. Runs on the thread that owns all writes."""


class LicenseConflict(StoreError):
    """A license of this id with another digest exists; nothing of the batch was stored."""

    def __init__(self, license_id: str, index: int) -> None:
        super().__init__(f"license {license_id} exists with other content")
        self.license_id = license_id
        self.index = index


class QuotaReached(StoreError):
    """There would be more licenses than the quota lets be; nothing of the batch was stored."""


class ServerConflict(StoreError):
    """The name or the product has a license server already; nothing was stored."""


class LicenseStore(Protocol):
    # Licenses

    async def create(self, licenses: Sequence[NewLicense], quota: Quota | None = None) -> None:
        """Store them with their notes, all or none. One that is there with the same digest is left as it is, also when it was deleted.
        Raises LicenseConflict, QuotaReached."""
        ...

    async def decide(self, ids: Sequence[str], decide: DecideLicense) -> list[StoredLicense | None]:
        """As Store.decide, for licenses: one transaction, all or none; what `decide` raises is raised here."""
        ...

    async def license(self, license_id: str) -> StoredLicense | None:
        """By its id; a deleted one too."""
        ...

    async def find(self, names: Sequence[str]) -> dict[str, StoredLicense]:
        """By id or core_id, as Core and jobs name them; the name as it was given → the row. Deleted ones too."""
        ...

    async def page(self, condition: LicenseFilter, limit: int, token: str, skip: int = 0) -> LicensePage:
        """In the order of `condition.sort`, then by id. Raises ValueError for a token that is not of this store's making or of another
        order. The first pages of a workspace cost the same however many licenses there are (sort CREATED_AT)."""
        ...

    async def history(self, ids: Sequence[str], limit: int) -> dict[str, tuple[bytes, ...]]:
        """The newest `limit` lines of each, oldest first: serai.licenses.v1.LicenseUpdate. Kept are the newest 1,000.
        Every id that was asked for is there."""
        ...

    async def bound_to(self, ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """The jobs that hold seats of each, in order of arrival; every id that was asked for is there."""
        ...

    async def to_move(
        self, product: str, state: LicenseState, status: str, limit: int, *, keep: LicenseState | None = None
    ) -> list[StoredLicense]:
        """Licenses of the product that are there, neither lost to Core nor kept away by their payment, and have another state or status;
        not those in state `keep`."""
        ...

    async def to_settle(self, product: str, before_ms: int, limit: int) -> list[StoredLicense]:
        """Licenses of the product that are there, not lost to Core, and UNPAID or UNSURE since before that time, oldest first."""
        ...

    async def unsettled_events(self, consumer: str) -> dict[int, str]:
        """Sequence → license of every event of a license that the consumer has not settled. To a consumer that is not known, all are."""
        ...

    async def count(self) -> dict[str, int]:
        """Licenses that are there, by product."""
        ...

    # Seats. Claims are made with their job (NewJob.claims) and go with its final state, whichever way it came to that.

    async def claims(self, job_id: str) -> list[Claim]: ...

    async def take_seats(
        self, change: JobChange, limits: Mapping[str, int | None], capacities: Mapping[str, int] = ANY_NUMBER
    ) -> tuple[StoredJob | None, SeatsAnswer]:
        """All of the job's seats or none, and with them `change`, in one transaction: the row after, or None and why not.

        `limits`: product → seats that jobs may hold in all; None = not counted; a product that is missing has no server, and its jobs
        wait (SeatsFull with limit 0). `capacities`: product → the most seats that a job could ever have of it now, were nobody else to use
        any; one that is missing can have any number. Strictly in the order of arrival for each product: one that needs more than is free
        holds up all behind it. A job that waits for a license that is not READY, or that needs more than a capacity (SeatsTooFew), holds up
        nobody, at any of its products. Seats that came free in an earlier write, also of
        the same transaction, can be had. A job that holds its seats already (it was suspended) keeps them: they are asked for nothing.
        They count as held since `change.submitted_at_ms`. Raises VersionConflict, and ValueError for a job that is over.
        """
        ...

    async def first_in_line(self, product: str, limit: int, capacities: Mapping[str, int] = ANY_NUMBER) -> list[str]:
        """Jobs that wait for the product's seats, in order of arrival. Not those that wait for a license that is not READY, or for more
        seats than there are (`capacities` as for take_seats); those with one that was deleted, for they never run and must be told so."""
        ...

    async def waiting(self, product: str, limit: int) -> list[str]:
        """All jobs that wait for the product's seats, whatever keeps them, in order of arrival."""
        ...

    async def without_license(self, product: str) -> list[str]:
        """All jobs that wait for a license of the product that was deleted, in order of arrival. Looks at the whole line."""
        ...

    async def lines(self) -> dict[str, Line]:
        """Every product of which seats are held or waited for."""
        ...

    # Servers and maintenance

    async def add_server(self, server: StoredServer) -> None:
        """Raises ServerConflict."""
        ...

    async def change_server(
        self,
        name: str,
        *,
        body: bytes | None = None,
        sealed: bytes | None = None,
        observed_at_ms: int | None = None,
        observed: bytes | None = None,
    ) -> bool:
        """False = there is none of this name."""
        ...

    async def remove_server(self, name: str) -> bool:
        """False = there was none of this name."""
        ...

    async def servers(self) -> list[StoredServer]:
        """By name."""
        ...

    async def reseal(self, reseal: Reseal) -> int:
        """Every sealed key anew, all in one transaction; how many it were. What `reseal` raises is raised here."""
        ...

    async def add_window(self, window: StoredWindow) -> None: ...

    async def remove_window(self, window_id: str) -> bool: ...

    async def windows(self) -> list[StoredWindow]:
        """By their start."""
        ...
