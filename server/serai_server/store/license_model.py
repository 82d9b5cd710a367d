"""What the store keeps of licenses: their rows, who may read them, the seats that jobs hold, license servers and maintenance windows.

Bodies are protobuf bytes that the store never opens; times are ms since epoch, 0 = never. A product is named by its key,
"{provider}/{category}/{id}". The key of a vendor is there as the vault sealed it and in no other form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum


class LicenseState(IntEnum):
    """Numbers are those of serai.licenses.v1.LicenseState."""

    PREPARING = 1
    READY = 2
    UNAVAILABLE = 3


class AtCore(IntEnum):
    """Whether UCloud/Core knows a license."""

    KNOWN = 1
    """It made the license, or the license was registered there."""
    WANTED = 2
    """It was made here and is being registered; Core is told nothing else until then."""
    UNTOLD = 3
    """It was made here and stays here, because the settings say so or Core refused it."""
    LOST = 4
    """Core knew it and says now that it does not. It cannot be used, is not charged and Core is told nothing of it, until Core names it
    again: one wrong answer, of a wrong Core too, must not be the end of a license that was paid for."""


class Payment(IntEnum):
    """The one unit of a license. The migrations' partial indexes name the numbers; test_store_opening.py compares."""

    OPEN = 1
    """Not charged yet: it was never READY while Core knew it."""
    ASKED = 2
    """A charge is in the event log and Core has not answered. The license can be used."""
    PAID = 3
    """Core's word, or an operator's; or there was nothing to pay."""
    UNSURE = 4
    """Core's answer does not say whether it was paid. The license can be used, and an operator sees it."""
    UNPAID = 5
    """Core said that the wallet could not pay. The license cannot be used."""
    AGAIN = 6
    """As UNPAID, and a charge is in the event log once more that Core has not answered."""

    @property
    def keeps_away(self) -> bool:
        """The license is UNAVAILABLE for want of credits, whatever its server does."""
        return self >= Payment.UNPAID

    @property
    def to_settle(self) -> bool:
        """Neither paid nor on its way: it is asked again, or an operator decides."""
        return self in (Payment.UNSURE, Payment.UNPAID)


class LicenseSort(IntEnum):
    CREATED_AT = 1
    CREATED_BY = 2
    PRODUCT = 3
    CATEGORY = 4
    PROVIDER = 5
    STATE = 6


@dataclass(frozen=True, slots=True)
class LicenseNote:
    """A line of a license's history, and what Core is told of it."""

    license_id: str
    at_ms: int
    body: bytes
    """serai.licenses.v1.LicenseUpdate; empty = no line."""
    event: bytes = b""
    """serai.events.v1.Event with license_id, license_core_id and the change; empty = Core is told nothing."""


@dataclass(frozen=True, slots=True)
class NewLicense:
    id: str
    digest: bytes
    """SHA-256 of what makes two creates the same."""
    owner: str
    project: str
    """Empty = personal workspace."""
    product: str
    created_at_ms: int
    at_core: AtCore
    payment: Payment
    status: str
    body: bytes
    """serai.licenses.v1.License with its specification."""
    acl: bytes
    """serai.core.v1.ResourcePermissions with `others`."""
    readers: tuple[str, ...]
    """Keys under which lists find it; licenses/access.py makes them."""
    notes: tuple[LicenseNote, ...] = ()
    """The first line of its history, and what Core is told of it."""
    state: LicenseState = LicenseState.PREPARING


@dataclass(frozen=True, slots=True)
class Quota:
    """How many licenses may stand under a key, those of the request included."""

    reader: str
    most: int


@dataclass(frozen=True, slots=True)
class StoredLicense:
    """One row, whole."""

    id: str
    state: LicenseState
    version: int
    """Grows by one with each change of the row."""
    digest: bytes
    owner: str
    project: str
    product: str
    created_at_ms: int
    deleted_at_ms: int
    """0 = it is there. A deleted one is kept: its id is taken, and jobs that use it go on."""
    at_core: AtCore
    core_id: str
    """Under which Core knows a license that was registered; empty = under `id`, or not at all."""
    payment: Payment
    charges: int
    """Charges that Core was asked for; of generation 2021 those with ids of their own, without one that Core has not taken up."""
    payment_at_ms: int
    """When `payment` became what it is; 0 = never."""
    status: str
    """Last words; empty = none."""
    body: bytes
    acl: bytes


@dataclass(frozen=True, slots=True)
class LicenseChange:
    """What becomes true of a license, all in one transaction. None = unchanged."""

    license_id: str
    expected_version: int
    state: LicenseState | None = None
    status: str | None = None
    deleted_at_ms: int | None = None
    at_core: AtCore | None = None
    core_id: str | None = None
    payment: Payment | None = None
    charges: int | None = None
    payment_at_ms: int | None = None
    body: bytes | None = None
    acl: bytes | None = None
    readers: tuple[str, ...] | None = None
    """All of them, in place of those that were."""
    notes: tuple[LicenseNote, ...] = ()
    note_of_holder: Callable[[str], LicenseNote] | None = None
    """Job → what is noted besides, for each job that holds seats of the license in this transaction. Pure and quick."""


@dataclass(frozen=True, slots=True)
class LicenseFilter:
    """None and empty text = no condition; an empty tuple finds nothing. Deleted licenses are in no list."""

    readers: tuple[str, ...] | None = None
    """Any of these; None = whoever (the operator)."""
    owner: str = ""
    created_after_ms: int | None = None
    """That moment too; so with the next one."""
    created_before_ms: int | None = None
    provider: str = ""
    category: str = ""
    product_id: str = ""
    ids: tuple[str, ...] | None = None
    core_ids: tuple[str, ...] | None = None
    """By core_id, or by id where that is empty."""
    hide_provider: str = ""
    hide_category: str = ""
    hide_product_id: str = ""
    text: str = ""
    """In id, product, owner or status, whatever the case."""
    sort: LicenseSort = LicenseSort.CREATED_AT
    descending: bool = True


@dataclass(frozen=True, slots=True)
class LicensePage:
    licenses: tuple[StoredLicense, ...]
    next_token: str
    """Empty = the last page. It names a place in the order, not a number of rows."""


@dataclass(frozen=True, slots=True)
class NewClaim:
    """A license that a new job uses, with the seats that it needs."""

    license_id: str
    product: str
    seats: int
    """Of each feature of the product's server; 1 or more."""


@dataclass(frozen=True, slots=True)
class Claim:
    job_id: str
    license_id: str
    product: str
    seats: int
    needed: int
    """Seats of the product that the job needs in all, for all of its licenses."""
    arrival: int
    """The order in which jobs came; the same for all licenses of one job."""
    held_at_ms: int
    """0 = it waits."""


@dataclass(frozen=True, slots=True)
class SeatsTaken:
    """All seats of the job are held now, and its row is as the change says."""


@dataclass(frozen=True, slots=True)
class SeatsFull:
    """A job that must wait: not enough seats of this product, or others came first. Nothing was changed."""

    product: str
    used: int
    """Held by jobs."""
    limit: int
    ahead: int
    """Jobs that came before it and wait for the same product, those too that wait for a license as well."""


@dataclass(frozen=True, slots=True)
class SeatsTooFew:
    """A job that must wait until the product has more seats: all of them would not do. It holds up nobody. Nothing was changed."""

    product: str
    needed: int
    capacity: int


@dataclass(frozen=True, slots=True)
class LicenseAway:
    """A job that must wait, or never runs: a license of its is not READY, or is gone. Nothing was changed."""

    license_id: str
    deleted: bool
    status: str
    """Its last words."""
    paying: bool = False
    """It is READY, and Core has not said yet whether it is paid: until then nobody gets a seat or a key for it."""


@dataclass(frozen=True, slots=True)
class LicenseNotSold:
    """A job that never runs: the settings do not sell the product of a license of its any more. No store knows that; `licenses.seats`
    answers so."""

    product: str


SeatsAnswer = SeatsTaken | SeatsFull | SeatsTooFew | LicenseAway


@dataclass(frozen=True, slots=True)
class Line:
    """How a product's seats stand."""

    product: str
    held: int
    holders: int
    """Jobs."""
    waiting: int
    """Jobs."""


@dataclass(frozen=True, slots=True)
class StoredServer:
    name: str
    product: str
    body: bytes
    """serai.licenses.v1.LicenseServer"""
    sealed: bytes
    """The vendor's key as the vault sealed it; empty = there is none."""
    observed_at_ms: int
    """When it was last asked for the seats in use: no more than once a minute, across restarts too."""
    observed: bytes = b""
    """Its last answer (`licenses.observation`); empty = it never gave one."""


@dataclass(frozen=True, slots=True)
class StoredWindow:
    """A maintenance window."""

    id: str
    product: str
    starts_at_ms: int
    ends_at_ms: int
    """0 = not known."""
    body: bytes
    """serai.licenses.v1.Maintenance"""
