"""Brings a database to the schema of this Serai: numbered SQL files, each applied once, in order, in one transaction of its own.

What was applied is kept with the file's checksum. So a database from a newer Serai, one whose history differs from ours, and one of
another program are each refused in words instead of being damaged. kill -9 in the middle leaves whole migrations only.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from serai_server.store.api import StoreUnusable
from serai_server.store.link import Link

_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")

_HISTORY = "schema_migrations"


@dataclass(frozen=True, slots=True)
class Migration:
    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations(dialect: str) -> list[Migration]:
    """Those that this Serai knows for "sqlite" or "postgresql", numbered from 1 without a gap."""
    folder = resources.files("serai_server.store") / "migrations" / dialect
    known = sorted(
        (Migration(int(m[1]), f.name, f.read_text(encoding="utf-8")) for f in folder.iterdir() if (m := _NAME.fullmatch(f.name))),
        key=lambda m: m.number,
    )
    if [m.number for m in known] != list(range(1, len(known) + 1)):
        raise RuntimeError(f"the {dialect} migrations are not numbered 1, 2, 3…")
    return known


def migrate(link: Link, known: Sequence[Migration]) -> None:
    """Apply what is missing. The link is connected. Raises StoreUnusable, and StoreUnavailable."""
    applied = _history(link)
    for number, checksum in applied.items():
        _check(number, checksum, known)
    for migration in known[len(applied) :]:
        link.begin()
        try:
            link.script(migration.sql)
            link.execute(
                f"INSERT INTO {_HISTORY} (number, name, checksum) VALUES (?, ?, ?)",  # noqa: S608  # no value in it
                migration.number,
                migration.name,
                migration.checksum,
            )
            link.commit()
        except BaseException:
            link.rollback()
            raise


def _history(link: Link) -> dict[int, str]:
    """Number → checksum of what was applied, in order; makes the table when the database is empty."""
    there = link.tables()
    if _HISTORY in there:
        rows = link.query(f"SELECT number, checksum FROM {_HISTORY} ORDER BY number")  # noqa: S608
        return {int(r[0]): str(r[1]) for r in rows}
    if there:
        raise StoreUnusable(f"the database belongs to another program (it has a table {min(there)!r}); give Serai one of its own")
    link.execute(f"CREATE TABLE {_HISTORY} (number integer NOT NULL PRIMARY KEY, name text NOT NULL, checksum text NOT NULL)")
    return {}


def _check(number: int, checksum: str, known: Sequence[Migration]) -> None:
    if number > len(known):
        raise StoreUnusable(
            f"the database was made by a newer Serai (its schema is number {number}, this one knows {len(known)}); install that version"
        )
    if checksum != known[number - 1].checksum:
        raise StoreUnusable(
            f"migration {number} of the database is not the one that this Serai has; install the version that made the database"
        )
