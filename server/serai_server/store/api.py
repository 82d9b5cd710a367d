"""The store as the rest of the server sees it. One implementation over SQLite and PostgreSQL, made by `store.open`.

Every write goes through one owner thread, which gathers the writes that wait into one transaction and answers each when that is on disk. A
cancelled caller never splits a transaction: its write happens or does not, and the listener is told if it did.

StoreError
├── StoreUnavailable   cannot be reached or written now (disk full, connection lost); try again
├── StoreUnusable      opening: not a store of this Serai, or another server has it; a person must act
├── WriteRefused       the database does not take this value (a NUL character in PostgreSQL's text, a period billed twice)
├── JobConflict        a job of this id with other content exists
└── VersionConflict    the job changed since it was read

After StoreUnavailable nothing was changed, but for one case: a connection lost while COMMIT was under way. Then the outcome cannot be known
at once; the listener is told of it as soon as the database answers again, and repeating the write is harmless, but for time
that is added to a job's limit, which would count twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from serai_server.store.model import (
    Backlog,
    Committed,
    EventSettlement,
    Interval,
    JobChange,
    JobFilter,
    JobPage,
    JobRecord,
    LedgerRow,
    NewJob,
    StopRequest,
    StoredEvent,
    StoredJob,
    Unpaid,
)

if TYPE_CHECKING:
    from serai_server.store.license_api import LicenseStore
    from serai_server.store.session_api import SessionStore
    from serai_server.store.token_api import TokenStore

Listener = Callable[[list[Committed]], None]

Decide = Callable[[int, StoredJob | None], JobChange | NewJob | None]
"""(place in the list of ids, row or None) → what becomes of it; None = nothing. Pure and quick: it runs on the thread that owns all writes,
and again when the transaction has to be done anew."""


class StoreError(Exception):
    """Base of what the store raises."""


class StoreUnavailable(StoreError):
    """Cannot be reached or written now; nothing was changed (see above for the one exception)."""


class StoreUnusable(StoreError):
    """Cannot be opened, and trying again does not help; the text says what a person can do."""


class WriteRefused(StoreError):
    """The database does not take this write's values; nothing of it was stored and its neighbours are."""


class JobConflict(StoreError):
    """A job of this id with another digest exists; nothing of the batch was stored."""

    def __init__(self, job_id: str, index: int) -> None:
        super().__init__(f"job {job_id} exists with other content")
        self.job_id = job_id
        self.index = index


class VersionConflict(StoreError):
    """The job changed since it was read: read it again and decide anew."""


class Store(Protocol):
    @property
    def licenses(self) -> LicenseStore: ...

    @property
    def sessions(self) -> SessionStore: ...

    @property
    def tokens(self) -> TokenStore: ...

    async def create_jobs(self, jobs: Sequence[NewJob]) -> None:
        """All or none. A job that exists with the same digest is left as it is, and the listener is told of it once more.

        Raises JobConflict.
        """
        ...

    async def change_job(self, change: JobChange) -> StoredJob:
        """Apply one step; returns the row as it is now (its body included). Raises VersionConflict, also for a job that is not known.

        Raises ValueError when the step makes no sense: forgets a job that is not final, or bills a period twice.
        """
        ...

    async def decide(self, job_ids: Sequence[str], decide: Decide) -> list[StoredJob | None]:
        """One step for each id in its turn, each seeing what the ones before it did; all in one transaction, all or none. The rows after.

        What `decide` raises is raised here, and then nothing was stored.
        """
        ...

    async def request_stops(self, stops: Sequence[StopRequest]) -> frozenset[str]:
        """Raise targets, all in one transaction; returns the ids that are known here (final ones included)."""
        ...

    async def job(self, job_id: str) -> StoredJob | None: ...

    async def jobs(self, condition: JobFilter, limit: int, token: str) -> JobPage:
        """Newest first (created_at_ms, id), without their bodies; fewer than `limit` where their texts are long.

        Raises ValueError for a token that is not of this store's making."""
        ...

    async def active_records(self) -> list[JobRecord]:
        """Every job that is not both final and forgotten."""
        ...

    async def undelivered_count(self, job_id: str, consumer: str) -> int: ...

    async def undelivered_among(self, job_ids: Sequence[str], consumer: str) -> frozenset[str]:
        """Those of the jobs that have events which the consumer has not settled."""
        ...

    async def of_project(self, job_ids: Sequence[str], project: str) -> frozenset[str]:
        """Those that are ids of jobs of this project. What was committed before the call is seen; no write is waited for."""
        ...

    async def events(self, consumer: str, after: int, limit: int) -> list[StoredEvent]:
        """Events above `after` that the consumer has not settled, in order of sequence. To a consumer that is not known, all are new."""
        ...

    async def events_at(self, sequences: Sequence[int]) -> list[StoredEvent]:
        """The events with these sequences that are still kept, in order of sequence."""
        ...

    async def consumers(self) -> Mapping[str, str]:
        """Those that are known, and who made them (Backlog.owner)."""
        ...

    async def last_event(self) -> int:
        """Highest sequence given out; 0 = none."""
        ...

    async def register_consumer(self, consumer: str, *, from_now: bool, owner: str = "", now_ms: int = 0) -> None:
        """Make the consumer known, as its owner's; when it is, note only that it was seen. It begins at the log's start, or at its end."""
        ...

    async def give_consumer(self, consumer: str, owner: str) -> None:
        """It is the owner's from now on. No effect on one that is not known."""
        ...

    async def drop_consumer(self, consumer: str) -> None:
        """As if it had never been there; what it had not settled is kept for it no more. No effect on one that is not known."""
        ...

    async def settle(self, consumer: str, settlements: Sequence[EventSettlement], stops: Sequence[StopRequest] = ()) -> frozenset[int]:
        """Record outcomes (the first one of an event stays) and raise targets in the same transaction. Makes the consumer known.

        The sequences that were not settled before. Those of no event are passed over.
        """
        ...

    async def settled(self, consumer: str, sequences: Sequence[int]) -> list[EventSettlement]:
        """What the consumer has said of these events, in order of sequence; those that it has not settled are left out."""
        ...

    async def intervals(self, job_id: str) -> list[Interval]:
        """In the order in which they began; only the last one may be open."""
        ...

    async def ledger(self, job_id: str) -> list[LedgerRow]:
        """In order of period."""
        ...

    async def unpaid(self, after_ms: int) -> list[Unpaid]:
        """Charges that a wallet could not pay and that were settled after that time."""
        ...

    @property
    def waiting_writes(self) -> int:
        """Writes that wait for their transaction, about."""
        ...

    async def backlogs(self) -> list[Backlog]:
        """Of every known consumer, by name. For a look now and then: it counts what waits."""
        ...

    async def prune(self, settled_before_ms: int) -> int:
        """Drop events that every known consumer settled before that time, and tell how many. None while no consumer is known."""
        ...

    async def ping(self) -> None:
        """Raises StoreUnavailable when the database does not answer."""
        ...

    async def close(self) -> None:
        """Finish the writes that wait, then close."""
        ...
