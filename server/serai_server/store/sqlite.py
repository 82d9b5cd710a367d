"""SQLite: the writing connection, the readers' connections, and the lock that keeps a second server out.

WAL with synchronous=FULL: a commit is on disk before it is answered (facts on speed §5: in group commit that costs a sixth over NORMAL).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
from collections.abc import Callable, Collection, Generator, Sequence
from pathlib import Path

from sqlalchemy import Table

from serai_server.store import tables
from serai_server.store.api import StoreError, StoreUnavailable, StoreUnusable, WriteRefused
from serai_server.store.link import Cell
from serai_server.store.rows import Row, Value

_BUSY_S = 5.0
"""How long a write waits for a lock of somebody else's, a backup tool's for example."""


@contextlib.contextmanager
def _told(doing: str) -> Generator[None]:
    """SQLite's exceptions in the store's words. Its texts name tables and columns but hold no values."""
    try:
        yield
    except (sqlite3.OperationalError, sqlite3.NotSupportedError) as error:
        raise StoreUnavailable(f"SQLite could not {doing}: {error}") from error
    except (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError, sqlite3.InterfaceError) as error:
        raise WriteRefused(f"SQLite refused to {doing}: {error}") from error
    except sqlite3.Error as error:
        raise StoreUnavailable(f"SQLite could not {doing}, the file may be damaged: {error}") from error
    except (OverflowError, UnicodeError) as error:
        raise WriteRefused(f"SQLite cannot keep this value: {type(error).__name__}") from error


class FileLock:
    """One server for each database file, held as long as the process lives, whatever ends it."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(database.name + ".lock")
        self._handle: int | None = None

    def take(self) -> None:
        """Raises StoreUnusable when another server has it."""
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(handle, 32).decode(errors="replace").strip()
            os.close(handle)
            raise StoreUnusable(
                f"another Serai server{f' (process {holder})' if holder else ''} is using {self._path.with_suffix('')}; stop it first"
            ) from error
        os.ftruncate(handle, 0)
        os.write(handle, f"{os.getpid()}\n".encode())
        self._handle = handle

    def release(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def make_file(path: Path) -> None:
    """Create the database's file for its owner's eyes only: job bodies are in it. Raises StoreUnusable."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreUnusable(f"the database file {path} cannot be opened for writing: {error.strerror}") from error


class SqliteLink:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def connect(self) -> bool:
        if self._connection is not None:
            return False
        with _told(f"open {self._path}"):
            connection = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False, cached_statements=256)
            try:
                for pragma in (
                    "journal_mode=WAL",
                    "synchronous=FULL",
                    "foreign_keys=ON",
                    "journal_size_limit=67108864",
                    "secure_delete=ON",
                ):
                    connection.execute(f"PRAGMA {pragma}")
            except BaseException as error:
                connection.close()
                if type(error) is sqlite3.DatabaseError:
                    text = f"{self._path} is not a SQLite database, or it is damaged; name another file or restore a copy"
                    raise StoreUnusable(text) from error
                raise
            self._connection = connection
        return True

    @property
    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreUnavailable("the database is closed")
        return self._connection

    def begin(self) -> None:
        with _told("begin a transaction"):
            self._open.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        with _told("commit"):
            self._open.execute("COMMIT")

    def rollback(self) -> None:
        if self._connection is None or not self._connection.in_transaction:
            return
        try:
            self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            self.close()

    def query(self, sql: str, *values: Cell) -> list[Row]:
        with _told("read"):
            return self._open.execute(sql, values).fetchall()

    def execute(self, sql: str, *values: Cell) -> int:
        with _told("write"):
            return self._open.execute(sql, values).rowcount

    def among(self, column: str) -> str:
        return f"{column} IN (SELECT value FROM json_each(?))"  # noqa: S608  # a column's name, no value

    def listed(self, values: Collection[Value]) -> Cell:
        return json.dumps(list(values))

    def insert(self, table: Table, rows: Sequence[tuple[Value, ...]], *, ignore: bool = False) -> None:
        names = tables.columns(table)
        sql = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608  # no value in it
        with _told(f"write {table.name}"):
            self._open.executemany(sql + " ON CONFLICT DO NOTHING" if ignore else sql, rows)

    def update(self, table: Table, names: Sequence[str], rows: Sequence[tuple[Value, ...]]) -> None:
        with _told(f"write {table.name}"):
            self._open.executemany(f"UPDATE {table.name} SET {', '.join(f'{c} = ?' for c in names)} WHERE id = ?", rows)  # noqa: S608

    def script(self, sql: str) -> None:
        """Not executescript, which would commit first."""
        with _told("change the schema"):
            statement = ""
            for line in sql.splitlines(keepends=True):
                statement += line
                if sqlite3.complete_statement(statement):
                    self._open.execute(statement)
                    statement = ""
            if statement.strip():
                raise StoreError("a migration ends within a statement")

    def tables(self) -> set[str]:
        return {str(r[0]) for r in self.query("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")}

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def reader_factory(path: Path) -> Callable[[], sqlite3.Connection]:
    """Makes connections that can read what is committed and change nothing."""

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA query_only=ON")
        return connection

    return connect
