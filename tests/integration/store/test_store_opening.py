"""Opening: migrations, one server for each database, and clear words about what is not a store."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes.store_rows import link_to, new_job
from serai_server.store import postgresql, tables
from serai_server.store.api import StoreError, StoreUnavailable, StoreUnusable
from serai_server.store.migrate import Migration, migrate, migrations
from serai_server.store.model import Committed
from serai_server.store.open import open_store
from sqlalchemy import create_engine, inspect

Schema = dict[str, Any]


def schema(url: str) -> Schema:
    """Tables, columns, keys and indexes as the database itself describes them, in a form that can be compared."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    try:
        inspector = inspect(engine)
        return {
            table: {
                "columns": [(c["name"], str(c["type"]), c["nullable"]) for c in inspector.get_columns(table)],
                "key": inspector.get_pk_constraint(table)["constrained_columns"],
                "foreign": sorted((k["constrained_columns"], k["referred_table"]) for k in inspector.get_foreign_keys(table)),
                "indexes": sorted(
                    (
                        i["name"],
                        i["column_names"],
                        bool(i["unique"]),
                        str(i.get("dialect_options", {}).get(f"{engine.dialect.name}_where", "")).strip("()"),
                    )
                    for i in inspector.get_indexes(table)
                ),
            }
            for table in sorted(inspector.get_table_names())
            if table != "schema_migrations"
        }
    finally:
        engine.dispose()


def ignore(_: list[Committed]) -> None: ...


def test_the_tables_of_the_code_are_those_of_the_migrations(new_url: Callable[[], str], dialect: str) -> None:
    """What tables.py describes equals what the numbered files make, down to the indexes."""
    migrated, described = new_url(), new_url()
    link = link_to(migrated)
    migrate(link, migrations(dialect))
    link.close()
    engine = create_engine(described.replace("postgresql://", "postgresql+psycopg://"))
    tables.metadata.create_all(engine)
    engine.dispose()
    assert schema(migrated) == schema(described)
    assert set(schema(migrated)) == set(tables.metadata.tables)


def test_an_upgraded_schema_equals_a_fresh_one(new_url: Callable[[], str], dialect: str) -> None:
    """A database that met the migrations one by one, opened in between, has the schema of one that met them all at once."""
    fresh, upgraded = new_url(), new_url()
    known = migrations(dialect)
    link = link_to(fresh)
    migrate(link, known)
    link.close()
    for count in range(1, len(known) + 1):
        for _ in range(2):
            link = link_to(upgraded)
            migrate(link, known[:count])
            link.close()
    assert schema(upgraded) == schema(fresh)


def test_a_migration_that_fails_leaves_nothing_behind(new_url: Callable[[], str], dialect: str) -> None:
    """It is one transaction: the next start finds the schema as it was, and can apply a mended file."""
    url = new_url()
    known = migrations(dialect)
    number = len(known) + 1
    broken = Migration(number, "broken.sql", "CREATE TABLE half (id integer);\nCREATE TABLE half (id integer);\n")
    mended = Migration(number, "mended.sql", "CREATE TABLE half (id integer);\n")
    link = link_to(url)
    with pytest.raises(StoreError, match="half"):
        migrate(link, [*known, broken])
    assert "half" not in link.tables()
    migrate(link, [*known, mended])
    assert "half" in link.tables()
    link.close()


def test_a_database_of_the_future_is_refused(new_url: Callable[[], str], dialect: str) -> None:
    """And one whose migrations are not ours: the words say which version is needed."""
    url = new_url()
    known = migrations(dialect)
    link = link_to(url)
    migrate(link, [*known, Migration(len(known) + 1, "later.sql", "CREATE TABLE later (id integer);\n")])
    with pytest.raises(StoreUnusable, match="newer Serai"):
        migrate(link, known)
    with pytest.raises(StoreUnusable, match="is not the one"):
        migrate(link, [Migration(1, known[0].name, known[0].sql + " "), *known[1:]])
    link.close()


def test_both_dialects_have_the_same_migrations() -> None:
    """One number means one step, whatever the database."""
    assert [m.name for m in migrations("sqlite")] == [m.name for m in migrations("postgresql")]


async def test_a_database_of_another_program_is_refused(url: str, dialect: str) -> None:
    """It is named by one of its tables and left as it was."""
    link = link_to(url)
    link.execute("CREATE TABLE shopping (id integer)")
    link.close()
    with pytest.raises(StoreUnusable, match=r"another program .*shopping"):
        async with open_store(url, ignore):
            pass
    link = link_to(url)
    assert link.tables() == {"shopping"}
    link.close()


async def test_a_second_server_is_refused_while_the_first_one_runs(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In words that say what to do; as soon as the first one has stopped, the second one may begin."""
    monkeypatch.setattr(postgresql, "_LOCK_WAIT", "50ms")
    async with open_store(url, ignore) as first:
        with pytest.raises(StoreUnusable, match="another Serai server"):
            async with open_store(url, ignore):
                pass
        await first.create_jobs([new_job("1")])
    async with open_store(url, ignore) as second:
        assert await second.job("1") is not None


@pytest.mark.parametrize("content", [b"not a database at all " * 100, b"SQLite format 3\0" + bytes(range(256)) * 20])
async def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    """The words name the file and what to do; its bytes stay."""
    path = tmp_path / "store.db"
    path.write_bytes(content)
    with pytest.raises(StoreUnusable, match=r"store\.db is not a SQLite database"):
        async with open_store(f"sqlite:///{path}", ignore):
            pass
    assert path.read_bytes() == content


async def test_a_file_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """A folder in its place, and a file where a folder should be."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for name in ("folder", "file/store.db"):
        with pytest.raises(StoreUnusable, match="cannot be opened"):
            async with open_store(f"sqlite:///{tmp_path / name}", ignore):
                pass


async def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Job bodies are in it: nobody else may read it or what stands beside it."""
    path = tmp_path / "made" / "on demand" / "store.db"
    async with open_store(f"sqlite:///{path}", ignore) as store:
        await store.create_jobs([new_job("1")])
        modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()}
    assert modes == dict.fromkeys(("store.db", "store.db-wal", "store.db-shm", "store.db.lock"), 0o600)


async def test_sqlite_is_set_to_keep_what_it_answers(tmp_path: Path) -> None:
    """WAL, synchronous FULL (2) and foreign keys on the writing connection; readers cannot write."""
    async with open_store(f"sqlite:///{tmp_path / 's.db'}", ignore) as store:
        settings = [store._owner._link.query(f"PRAGMA {p}")[0][0] for p in ("journal_mode", "synchronous", "foreign_keys")]
        assert settings == ["wal", 2, 1]
        with store._reader._engine.connect() as reader, pytest.raises(Exception, match=r"readonly|query_only"):
            reader.exec_driver_sql("DELETE FROM jobs")


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "mysql://root:hunter2@h/d", "nonsense", ""])
async def test_an_address_that_is_none_is_refused(url: str) -> None:
    """Without quoting what may be a password."""
    with pytest.raises(StoreUnusable) as caught:
        async with open_store(url, ignore):
            pass
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["postgresql://me:hunter2@127.0.0.1:1/db", "postgresql://me:hunter2@[::1/db", "postgresql://:hunter2@h:port:x/"]
)
async def test_a_password_is_in_no_error(url: str) -> None:
    """Neither when nobody answers nor when the address cannot be read."""
    with pytest.raises((StoreUnusable, StoreUnavailable)) as caught:
        async with open_store(url, ignore):
            pass
    error: BaseException | None = caught.value
    assert "hunter2" not in str(error)


async def test_a_damaged_page_is_an_error_in_words(tmp_path: Path) -> None:
    """Found when it is read: StoreUnavailable, not a driver's exception."""
    path = tmp_path / "s.db"
    async with open_store(f"sqlite:///{path}", ignore) as store:
        await store.create_jobs([new_job(f"{n:04}") for n in range(500)])
    with sqlite3.connect(path) as connection:
        page = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'jobs'").fetchone()[0]
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xaa" * 4096)
    async with open_store(f"sqlite:///{path}", ignore) as store:
        with pytest.raises(StoreUnavailable, match=r"damaged|malformed"):
            await store.job("0001")
        with pytest.raises(StoreUnavailable, match="damaged"):
            await store.create_jobs([new_job("0001")])


def test_the_driver_is_never_asked_with_the_password_in_its_words() -> None:
    """`where` names database and host alone."""
    assert postgresql.where("postgresql://me:hunter2@db.example/serai") == "database serai at db.example"
