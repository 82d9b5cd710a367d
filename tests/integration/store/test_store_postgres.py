"""A PostgreSQL server that goes away and comes back, at the worst moments, done to a real one."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import Iterator

import psycopg
import pytest
from fakes.license_rows import PRODUCT, job_with, new_license, note, submitted
from fakes.postgres import Postgres, PostgresMissing
from fakes.store_rows import new_job
from serai_server.store import owner as owner_module
from serai_server.store.api import StoreUnavailable, VersionConflict
from serai_server.store.license_model import LicenseChange, SeatsFull, StoredLicense
from serai_server.store.model import Committed, JobChange, State
from serai_server.store.open import open_store
from serai_server.store.sql_store import SqlStore


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[Postgres]:
    """One that may be stopped."""
    try:
        server = Postgres()
    except PostgresMissing as error:
        pytest.skip(str(error))
    with server:
        yield server


def admin(url: str, sql: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(sql.encode())
        return cursor.fetchall() if cursor.description else []


OTHERS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


async def test_lost_connections_are_replaced(own_postgres: Postgres) -> None:
    """Sessions ended from outside while nothing is under way: the next write and the next reads work, and sequences go on."""
    url = own_postgres.schema()
    async with open_store(url, lambda _: None) as store:
        await store.create_jobs([new_job("1")])
        await asyncio.gather(*(store.job("1") for _ in range(8)))
        await asyncio.to_thread(admin, url, OTHERS)
        await store.create_jobs([new_job("2")])
        assert await store.job("2") is not None
        assert [e.sequence for e in await store.events("core", 0, 10)] == [1, 2]


async def test_a_server_that_is_down_is_unavailable_and_comes_back(own_postgres: Postgres) -> None:
    """While it is down every call says so; afterwards all that was answered is there and all works again."""
    url = own_postgres.schema()
    told: list[Committed] = []
    async with open_store(url, told.extend) as store:
        await store.create_jobs([new_job("1")])
        own_postgres.stop(signal.SIGQUIT)
        try:
            for call in (store.create_jobs([new_job("2")]), store.job("1"), store.ping()):
                with pytest.raises(StoreUnavailable):
                    await call
        finally:
            own_postgres.start()
        await store.ping()
        assert [r.id for r in await store.active_records()] == ["1"]
        await store.create_jobs([new_job("2")])
        assert [r.id for c in told for r in c.records] == ["1", "2"]


async def test_a_commit_whose_answer_was_lost_is_told_when_it_is_known(own_postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """COMMIT waits for a standby that is not there; the session is ended, though its transaction is on disk already. The callers hear
    StoreUnavailable; the listener hears how the jobs are, without anybody writing again; and repeating is harmless."""
    monkeypatch.setattr(owner_module, "_DOUBT_RETRY_S", 0.02)
    url = own_postgres.schema()
    told: asyncio.Queue[Committed] = asyncio.Queue()

    def listener(changes: list[Committed]) -> None:
        for change in changes:
            told.put_nowait(change)

    async with open_store(url, listener) as store:
        await store.create_jobs([new_job("1")])
        await store.change_job(JobChange("1", 1, state=State.SUCCESS))
        await told.get()
        await told.get()
        await asyncio.to_thread(admin, url, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        await asyncio.to_thread(admin, url, "SELECT pg_reload_conf()")
        try:
            last, creating = await stuck_create(store, url)
            while not told.empty():
                told.get_nowait()
            await asyncio.to_thread(admin, url, OTHERS + " AND wait_event = 'SyncRep'")
            with pytest.raises(StoreUnavailable):
                await creating
            change = await told.get()
            assert ([r.id for r in change.records], change.last_event) == ([str(last)], last)
        finally:
            await asyncio.to_thread(admin, url, "ALTER SYSTEM RESET synchronous_standby_names")
            await asyncio.to_thread(admin, url, "SELECT pg_reload_conf()")
        await store.create_jobs([new_job(str(last))])
        await store.create_jobs([new_job(str(last + 1))])
        expected = [(n, str(n)) for n in range(1, last + 2)]
        assert [(e.sequence, e.job_id) for e in await store.events("core", 0, 1_000_000)] == expected


async def stuck_create(store: SqlStore, url: str) -> tuple[int, asyncio.Task[None]]:
    """Creates jobs 2, 3, … until the server has read its new settings and one hangs in its COMMIT; that one's number, and its task."""
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    async with asyncio.timeout(60):
        for number in itertools.count(2):
            creating = asyncio.create_task(store.create_jobs([new_job(str(number))]))
            while not creating.done():
                if await asyncio.to_thread(admin, url, waiting):
                    return number, creating
    raise AssertionError("not reached")


async def test_seats_whose_commit_was_lost_are_held_once(own_postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session is ended while a job that takes its seats hangs in COMMIT. Its caller hears StoreUnavailable, the listener how the job
    is; asking again is a VersionConflict, a repeated decision about a license finds what it did, and nobody else gets those seats."""
    monkeypatch.setattr(owner_module, "_DOUBT_RETRY_S", 0.02)
    url = own_postgres.schema()
    told: asyncio.Queue[Committed] = asyncio.Queue()

    def listener(changes: list[Committed]) -> None:
        for change in changes:
            told.put_nowait(change)

    def charge(_: int, row: StoredLicense | None) -> LicenseChange | None:
        assert row is not None
        return None if row.charges else LicenseChange("m", row.version, charges=1, notes=(note("m", "paid", event="E"),))

    async with open_store(url, listener) as store:
        await store.licenses.create([new_license("m")])
        await store.create_jobs([job_with("a", ("m", PRODUCT, 1)), job_with("b", ("m", PRODUCT, 1))])
        await asyncio.to_thread(admin, url, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        await asyncio.to_thread(admin, url, "SELECT pg_reload_conf()")
        try:
            _, creating = await stuck_create(store, url)
            taking = asyncio.create_task(store.licenses.take_seats(submitted("a"), {PRODUCT: 1}))
            charging = asyncio.create_task(store.licenses.decide(["m"], charge))
            await asyncio.to_thread(admin, url, OTHERS + " AND wait_event = 'SyncRep'")
            with pytest.raises(StoreUnavailable):
                await creating
            while not (taking.done() and charging.done()):
                await asyncio.to_thread(admin, url, OTHERS + " AND wait_event = 'SyncRep'")
            assert isinstance(taking.exception(), StoreUnavailable)
            assert isinstance(charging.exception(), StoreUnavailable)
            while not any(r.id == "a" and r.version == 2 for r in (await told.get()).records):
                pass
        finally:
            await asyncio.to_thread(admin, url, "ALTER SYSTEM RESET synchronous_standby_names")
            await asyncio.to_thread(admin, url, "SELECT pg_reload_conf()")
        with pytest.raises(VersionConflict):
            await store.licenses.take_seats(submitted("a"), {PRODUCT: 1})
        assert await store.licenses.take_seats(submitted("b"), {PRODUCT: 1}) == (None, SeatsFull(PRODUCT, 1, 1, 0))
        await store.licenses.decide(["m"], charge)
        assert await store.licenses.history(["m"], 5) == {"m": (b"first", b"paid")}
        assert [e.body for e in await store.events("core", 0, 1_000_000) if e.license_id] == [b"E"]


async def test_commits_are_durable_even_where_the_server_says_otherwise(own_postgres: Postgres) -> None:
    """An address, a role or a database that turns synchronous_commit off does not turn it off for the store."""
    url = own_postgres.schema() + "%20-csynchronous_commit%3Doff"
    assert await asyncio.to_thread(admin, url, "SHOW synchronous_commit") == [("off",)]
    async with open_store(url, lambda _: None) as store:
        assert store._owner._link.query("SHOW synchronous_commit") == [("on",)]
