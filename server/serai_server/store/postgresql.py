"""PostgreSQL: the writing connection with its lock, and the readers' connections.

One server writes. Its session holds an advisory lock, so sequences given out in the owner thread become visible in order: a transaction
commits before the next one begins, and a session that was lost has ended, one way or the other, before its lock can be had again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Generator, Sequence
from typing import Any

import psycopg
from psycopg import conninfo
from sqlalchemy import LargeBinary, Table, Text

from serai_server.store import tables
from serai_server.store.api import StoreUnavailable, StoreUnusable, WriteRefused
from serai_server.store.link import Cell, CommitUnknown
from serai_server.store.rows import Row, Value

_LOCK = 0x5E7A1
"""First half of the advisory lock's key; the second is the schema's name."""

_LOCK_WAIT = "5s"
"""A server that was just killed may keep its session for a moment."""

_COPY_FROM = 10
"""Rows from which on COPY beats one INSERT from arrays (twice as quick at 100 rows, one more round trip)."""

_USUAL = {"connect_timeout": "5", "keepalives_idle": "30", "application_name": "serai"}
"""Of a connection, unless the address says otherwise."""


@contextlib.contextmanager
def _told(doing: str) -> Generator[None]:
    """The driver's exceptions in the store's words. Only the server's first line is passed on: its detail quotes values."""
    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise StoreUnavailable(f"PostgreSQL could not {doing}: {first_line(error)}") from error
    except (psycopg.Error, UnicodeError) as error:
        raise WriteRefused(f"PostgreSQL refused to {doing}: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """What the server said, without values; the driver's own words when it said nothing."""
    if isinstance(error, psycopg.Error):
        text = error.diag.message_primary or str(error).partition("\n")[0]
        return text or type(error).__name__
    return type(error).__name__


def where(url: str) -> str:
    """The address in words that hold no secret."""
    try:
        known = conninfo.conninfo_to_dict(url)
    except psycopg.Error:
        return "the given address"
    return f"database {known.get('dbname') or '(default)'} at {known.get('host') or known.get('hostaddr') or 'the local socket'}"


def connect(url: str) -> psycopg.Connection[tuple[Any, ...]]:
    """Raises psycopg.Error."""
    given = conninfo.conninfo_to_dict(url)
    return psycopg.connect(conninfo.make_conninfo(url, **{k: v for k, v in _USUAL.items() if k not in given}), autocommit=True)


class PostgresLink:
    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None

    def connect(self) -> bool:
        if self._connection is not None:
            return False
        with _told(f"reach {where(self._url)}"):
            connection = connect(self._url)
        try:
            with _told("prepare the connection"):
                self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return True

    def _prepare(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        """Take the lock, and see to it that a commit is on disk before it is answered."""
        connection.execute("SELECT set_config('lock_timeout', %s, false)", (_LOCK_WAIT,))
        try:
            connection.execute("SELECT pg_advisory_lock(%s, hashtext(current_schema()))", (_LOCK,))
        except psycopg.errors.LockNotAvailable as error:
            raise StoreUnusable(f"another Serai server is using {where(self._url)}; stop it first") from error
        row = connection.execute("SHOW synchronous_commit").fetchone()
        if row is not None and row[0] == "off":
            connection.execute("SET synchronous_commit = on")

    @property
    def _open(self) -> psycopg.Connection[tuple[Any, ...]]:
        if self._connection is None:
            raise StoreUnavailable("the database is not connected")
        return self._connection

    def begin(self) -> None:
        with self._using("begin a transaction") as connection:
            connection.execute("BEGIN")

    def commit(self) -> None:
        try:
            with self._using("commit") as connection:
                tag = connection.execute("COMMIT").statusmessage
        except StoreUnavailable as error:
            if self._connection is None:
                raise CommitUnknown(str(error)) from error
            raise
        if tag != "COMMIT":
            raise StoreUnavailable("PostgreSQL rolled the transaction back")

    def rollback(self) -> None:
        if self._connection is None:
            return
        try:
            self._connection.execute("ROLLBACK")
        except psycopg.Error:
            self.close()

    def query(self, sql: str, *values: Cell) -> list[Row]:
        with self._using("read") as connection:
            return list(connection.execute(_driver_form(sql), values).fetchall())

    def execute(self, sql: str, *values: Cell) -> int:
        with self._using("write") as connection:
            return connection.execute(_driver_form(sql), values).rowcount

    def among(self, column: str) -> str:
        return f"{column} = ANY(?)"

    def listed(self, values: Collection[Value]) -> Cell:
        """Without texts that PostgreSQL cannot hold, which are in none of its rows."""
        return [v for v in values if not (isinstance(v, str) and "\0" in v)]

    def insert(self, table: Table, rows: Sequence[tuple[Value, ...]], *, ignore: bool = False) -> None:
        names = tables.columns(table)
        with self._using(f"write {table.name}") as connection:
            if len(rows) >= _COPY_FROM and not ignore:
                with connection.cursor().copy(f"COPY {table.name} ({', '.join(names)}) FROM STDIN (FORMAT BINARY)".encode()) as copy:
                    copy.set_types([_kind(table, c) for c in names])
                    for row in rows:
                        copy.write_row(row)
                return
            sql = f"INSERT INTO {table.name} ({', '.join(names)}) SELECT * FROM unnest({', '.join(_array(table, c) for c in names)})"  # noqa: S608
            connection.execute((sql + " ON CONFLICT DO NOTHING" if ignore else sql).encode(), _by_column(rows))

    def update(self, table: Table, names: Sequence[str], rows: Sequence[tuple[Value, ...]]) -> None:
        given = (*names, "id")
        sql = (
            f"UPDATE {table.name} SET {', '.join(f'{c} = n.{c}' for c in names)} "  # noqa: S608
            f"FROM unnest({', '.join(_array(table, c) for c in given)}) AS n({', '.join(given)}) WHERE {table.name}.id = n.id"
        )
        with self._using(f"write {table.name}") as connection:
            connection.execute(sql.encode(), _by_column(rows))

    def script(self, sql: str) -> None:
        with self._using("change the schema") as connection:
            connection.execute(sql.encode())

    def tables(self) -> set[str]:
        return {str(r[0]) for r in self.query("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")}

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextlib.contextmanager
    def _using(self, doing: str) -> Generator[psycopg.Connection[tuple[Any, ...]]]:
        """The connection; one that broke is dropped, so that the next `connect` makes another."""
        connection = self._open
        try:
            with _told(doing):
                yield connection
        finally:
            if connection.closed:
                self._connection = None


def _driver_form(sql: str) -> bytes:
    return sql.replace("%", "%%").replace("?", "%s").encode()


def _kind(table: Table, column: str) -> str:
    kind = table.columns[column].type
    return "text" if isinstance(kind, Text) else "bytea" if isinstance(kind, LargeBinary) else "bigint"


def _array(table: Table, column: str) -> str:
    return f"%b::{_kind(table, column)}[]"


def _by_column(rows: Sequence[tuple[Value, ...]]) -> list[list[Value]]:
    return [list(values) for values in zip(*rows, strict=True)]


def reader_factory(url: str) -> Callable[[], psycopg.Connection[tuple[Any, ...]]]:
    """Makes connections that can read what is committed and change nothing."""

    def make() -> psycopg.Connection[tuple[Any, ...]]:
        connection = connect(url)
        connection.execute("SET default_transaction_read_only = on")
        return connection

    return make
