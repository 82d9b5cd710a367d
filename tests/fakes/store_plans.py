"""How a database carries out what the store's readers ask it: that a list or a line costs what it shows, whatever else is stored."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator
from typing import Any

import psycopg
from serai_server.store.link import Link
from serai_server.store.postgresql import PostgresLink
from serai_server.store.sql_store import SqlStore
from sqlalchemy import event

from fakes.store_rows import link_to

Asked = list[tuple[str, Any]]
"""Statements and their values."""


@contextlib.contextmanager
def asked_of(store: SqlStore) -> Generator[Asked]:
    """What the readers ask inside the block."""
    asked: Asked = []

    def spy(*arguments: Any) -> None:
        asked.append((arguments[2], arguments[3]))

    event.listen(store._reader._engine, "before_cursor_execute", spy)
    try:
        yield asked
    finally:
        event.remove(store._reader._engine, "before_cursor_execute", spy)


def explained(store: SqlStore, asked: Asked) -> list[str]:
    """A plan for each; PostgreSQL carries the statement out and tells how many rows each step gave."""
    engine = store._reader._engine
    explain = "EXPLAIN QUERY PLAN " if engine.dialect.name == "sqlite" else "EXPLAIN ANALYZE "
    with engine.connect() as connection:
        return ["\n".join(str(row[-1]) for row in connection.exec_driver_sql(explain + sql, values)) for sql, values in asked]


def rows_read(plan: str) -> int:
    """The most rows that one step of PostgreSQL's plan gave or threw away."""
    given = [float(rows) * int(loops) for rows, loops in re.findall(r"actual time=\S+ rows=([\d.]+) loops=(\d+)", plan)]
    return int(max([*given, *(float(n) for n in re.findall(r"Rows Removed by \w+(?: \w+)?: (\d+)", plan))]))


def second_link(url: str) -> Link:
    """A connection beside the store's own, which keeps other servers out and nothing else."""
    if url.startswith("sqlite"):
        return link_to(url)
    link = PostgresLink(url)
    link._connection = psycopg.connect(url, autocommit=True)
    return link


def take_statistics(url: str) -> None:
    link = second_link(url)
    link.execute("ANALYZE")
    link.close()
