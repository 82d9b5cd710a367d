"""The durable row of each job: what was asked, how far it is, and what was seen of it. One SQLite file in the backend's state folder.

One thread owns the connection. What waits is written in one transaction, so a thousand submissions cost a few syncs and not a thousand; a
cancelled caller cannot split one. After `save` has returned the row survives kill -9 and a power cut.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from serai_backends.common import files
from serai_backends.errors import BackendUnavailable
from serai_backends.model import JobObservation, ReplicaSpec, Why

if TYPE_CHECKING:
    from collections.abc import Iterable

_SCHEMA = 1
_MOST_IN_ONE = 500
NAME = "nomad.db"


class Stage(Enum):
    """How far a job is. Stored before what it names is done: a crash in between finds what may have happened."""

    CANCELED_BEFORE = "canceled_before"
    """`cancel` came and the job has not; alone it is nothing that anybody is told of."""
    QUEUED = "queued"
    """In our own line. Of this attempt nothing is at Nomad."""
    RELEASED = "released"
    """It may be registered. No rank has run: the gate is shut, or the job is not registered yet."""
    OPENED = "opened"
    """It may have run: it is never registered again under another name."""
    TAKEN_BACK = "taken_back"
    """The gate stayed shut: everything of this attempt goes, then the job is QUEUED again."""
    STOPPING = "stopping"
    """Everything of it is to end; the job is over when Nomad says that it has."""
    ENDED = "ended"
    """Over, and `observation` is the last word."""


class StopReason(Enum):
    """Why a job is STOPPING."""

    ASKED = "asked"
    """`cancel`."""
    RANK_FAILED = "rank_failed"
    """A rank could not start, or was lost: the others are of no use."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A row. At CANCELED_BEFORE `spec` has nothing but the job's id."""

    job_id: str
    sequence: int
    """Order of arrival."""
    stage: Stage
    spec: ReplicaSpec
    attempt: int = 1
    submitted_at_ms: int = 0
    released_at_ms: int = 0
    """When it was given to Nomad last; 0 = it was not. Nothing of it ran before, whatever a node's clock says."""
    uid: int | None = None
    """User of the job on the nodes, once it has one; None = the server's own."""
    gid: int | None = None
    prepared: bool = False
    """Its folder is made and its inputs were found."""
    registered_index: int = 0
    """Nomad's index of the registration of this attempt; 0 = it is not known to be registered."""
    namespace: str = ""
    """Nomad's namespace in which it is registered; empty = not yet, or it was written before this was noted."""
    stop: StopReason | None = None
    failure: tuple[Why, str] | None = None
    """With RANK_FAILED: why it failed where no rank can say so, and the detail."""
    doors: bool = False
    """Another job was let in through its firewall: what is open there must be kept right."""
    observation: JobObservation | None = None
    """The newest that was told as more than waiting; None = none yet."""
    adopted: bool = False
    """Found at Nomad without a row: its spec is only what the job's meta says."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Record).decode


@dataclass(slots=True)
class _Wish:
    """A write that somebody waits for. `data` None = the row goes."""

    job_id: str
    data: bytes | None
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]


class Records:
    """Made by `open_records`."""

    def __init__(self, database: sqlite3.Connection, lock: int) -> None:
        self._database, self._lock = database, lock
        self._wishes: queue.SimpleQueue[_Wish | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._write, name="serai-nomad-records", daemon=True)
        self._thread.start()

    async def save(self, *records: Record) -> None:
        """Durable when it returns. Raises BackendUnavailable when the disk refuses."""
        await self._wish([(record.job_id, _encode(record)) for record in records])

    async def delete(self, job_id: str) -> None:
        await self._wish([(job_id, None)])

    async def close(self) -> None:
        """What was asked for before is written."""
        if self._closed:
            return
        self._closed = True
        self._wishes.put(None)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)
        os.close(self._lock)

    async def _wish(self, rows: Iterable[tuple[str, bytes | None]]) -> None:
        if self._closed:
            raise BackendUnavailable("the backend is closed")
        loop = asyncio.get_running_loop()
        waiting: list[asyncio.Future[None]] = []
        for job_id, data in rows:
            done: asyncio.Future[None] = loop.create_future()
            waiting.append(done)
            self._wishes.put(_Wish(job_id, data, loop, done))
        for done in waiting:
            await asyncio.shield(done)

    def _write(self) -> None:
        """The owner thread."""
        over = False
        while not over:
            batch: list[_Wish] = []
            wish = self._wishes.get()
            while wish is not None:
                batch.append(wish)
                if len(batch) >= _MOST_IN_ONE:
                    break
                try:
                    wish = self._wishes.get_nowait()
                except queue.Empty:
                    break
            over = wish is None
            if batch:
                self._commit(batch)
        self._database.close()

    def _commit(self, batch: list[_Wish]) -> None:
        error: BackendUnavailable | None = None
        try:
            with self._database:
                for wish in batch:
                    if wish.data is None:
                        self._database.execute("DELETE FROM jobs WHERE job_id = ?", (wish.job_id,))
                    else:
                        self._database.execute("INSERT OR REPLACE INTO jobs (job_id, record) VALUES (?, ?)", (wish.job_id, wish.data))
        except Exception as trouble:
            # Whatever it is: who waits must hear of it, and this thread must go on.
            error = BackendUnavailable(f"the Nomad backend cannot write its records: {trouble}")
        for wish in batch:
            with suppress(RuntimeError):  # its loop is closed: nobody waits any more
                wish.loop.call_soon_threadsafe(_settle, wish.done, error)


def _settle(done: asyncio.Future[None], error: BackendUnavailable | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
        done.exception()  # a caller that was cancelled does not fetch it


def open_records(state_dir: Path) -> tuple[Records, list[Record]]:
    """The records and all rows, in order of arrival. Blocking.

    Raises BackendUnavailable when another server uses the folder, when it cannot be made, or when the file is of a newer Serai.
    """
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            lock = files.try_lock(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise BackendUnavailable(f"the state folder {state_dir} cannot be used: {error.strerror}") from error
    if lock is None:
        raise BackendUnavailable(f"another server uses the state folder {state_dir}")
    try:
        database, rows = _open(state_dir / NAME)
    except sqlite3.Error as error:
        os.close(lock)
        raise BackendUnavailable(f"{state_dir / NAME} cannot be read: {error}") from error
    except BaseException:
        os.close(lock)
        raise
    return Records(database, lock), rows


def _open(file: Path) -> tuple[sqlite3.Connection, list[Record]]:
    database = sqlite3.connect(file, check_same_thread=False)
    try:
        file.chmod(0o600)
        for line in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL"):
            database.execute(line)
        _check_form(database, file)
        with database:
            database.execute("CREATE TABLE IF NOT EXISTS jobs (job_id TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID")
            database.execute(f"PRAGMA user_version = {_SCHEMA}")
        rows = [_decode(blob) for (blob,) in database.execute("SELECT record FROM jobs")]
    except BaseException:
        database.close()
        raise
    return database, sorted(rows, key=lambda row: row.sequence)


def _check_form(database: sqlite3.Connection, file: Path) -> None:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version not in {0, _SCHEMA}:
        raise BackendUnavailable(f"{file} was written by a newer Serai (form {version})")


def read_record(state_dir: Path, job_id: str) -> Record | None:
    """One row, also beside a server that runs. Blocking. None = there is none. Raises BackendUnavailable."""
    file = state_dir / NAME
    if not file.exists():
        return None
    try:
        database = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)
        try:
            row = database.execute("SELECT record FROM jobs WHERE job_id = ?", (job_id,)).fetchone()
        finally:
            database.close()
    except sqlite3.Error as error:
        raise BackendUnavailable(f"{file} cannot be read: {error}") from error
    return None if row is None else _decode(row[0])
