"""Opens the store that a URL names: takes its lock, brings its schema up to date, starts its threads."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import conninfo
from serai_telemetry.spans import Traces
from sqlalchemy import QueuePool, create_engine

from serai_server.counts import StoreCounts
from serai_server.store import postgresql, sqlite
from serai_server.store.api import Listener, StoreUnusable
from serai_server.store.link import Link
from serai_server.store.migrate import migrate, migrations
from serai_server.store.owner import Owner
from serai_server.store.reads import READERS, Reader
from serai_server.store.sql_store import SqlStore

_SQLITE = "sqlite:///"
_POSTGRESQL = ("postgresql://", "postgres://")


@contextlib.asynccontextmanager
async def open_store(
    url: str,
    listener: Listener,
    loop: asyncio.AbstractEventLoop | None = None,
    counts: StoreCounts | None = None,
    traces: Traces | None = None,
) -> AsyncGenerator[SqlStore]:
    """The store at `sqlite:///path/of/file` (relative; a fourth slash makes it absolute) or at `postgresql://…` as libpq reads it.

    `listener` is called on `loop` (None = the running one) after each commit. `counts` None = nobody wants to know; `traces` None = no
    spans. Leaving carries out the writes that wait, then closes.
    Raises StoreUnusable and StoreUnavailable.
    """
    parts = await asyncio.to_thread(_open, url)
    owner = Owner(parts.link, listener, loop or asyncio.get_running_loop(), counts, traces)
    store = SqlStore(owner, parts.reader)
    owner.start()
    try:
        yield store
    finally:
        try:
            await store.close()
        finally:
            parts.release()


@dataclass(frozen=True, slots=True)
class _Parts:
    link: Link
    reader: Reader
    release: Callable[[], None]
    """Gives back what keeps other servers out."""


def _open(url: str) -> _Parts:
    """Blocks."""
    if url.startswith(_SQLITE):
        return _open_sqlite(url.removeprefix(_SQLITE))
    if url.startswith(_POSTGRESQL):
        return _open_postgresql(url)
    scheme = url.partition(":")[0]
    raise StoreUnusable(f"a store's address begins with sqlite:/// or postgresql://, not with {scheme[:20]!r}")


def _open_sqlite(name: str) -> _Parts:
    if not name or name == ":memory:":
        raise StoreUnusable("the store needs a file: sqlite:///path/of/file")
    path = Path(name)
    sqlite.make_file(path)
    lock = sqlite.FileLock(path)
    lock.take()
    try:
        link = sqlite.SqliteLink(path)
        _prepare(link, "sqlite")
        engine = create_engine("sqlite://", creator=sqlite.reader_factory(path), poolclass=QueuePool, pool_size=READERS)
    except BaseException:
        lock.release()
        raise
    return _Parts(link, Reader(engine, str), lock.release)


def _open_postgresql(url: str) -> _Parts:
    try:
        conninfo.conninfo_to_dict(url)
    except psycopg.Error as error:
        # The parser's text quotes the address, password included.
        raise StoreUnusable(
            "the store's address is not one that PostgreSQL understands: postgresql://user:password@host:port/database"
        ) from error
    link = postgresql.PostgresLink(url)
    _prepare(link, "postgresql")
    engine = create_engine("postgresql+psycopg://", creator=postgresql.reader_factory(url), pool_size=READERS)
    return _Parts(link, Reader(engine, postgresql.first_line), lambda: None)


def _prepare(link: Link, dialect: str) -> None:
    try:
        link.connect()
        migrate(link, migrations(dialect))
    except BaseException:
        link.close()
        raise
