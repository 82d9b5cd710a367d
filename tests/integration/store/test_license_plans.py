"""What licenses cost when there are many, or a long line for their seats: readers find what they show by an index, on both databases."""

from __future__ import annotations

import re

from fakes.license_rows import OTHER, PRODUCT, job_with, new_license
from fakes.store_plans import Asked, asked_of, explained, rows_read, take_statistics
from serai_server.store.license_model import LicenseChange, LicenseState, Payment, StoredLicense
from serai_server.store.open import open_store
from serai_server.store.sql_store import SqlStore

WAITING = 10_000
LICENSES = 5_000


async def fill(store: SqlStore) -> None:
    """A long line for one product, in which each job waits for another one too; many licenses that are as they should be, some of them
    unpaid."""
    for start in range(0, LICENSES, 1_000):
        await store.licenses.create([new_license(f"l{n}") for n in range(start, start + 1_000)])
    unpaid = [f"l{n}" for n in range(0, LICENSES, 5)]

    def decide(_: int, row: StoredLicense | None) -> LicenseChange:
        assert row is not None
        away = LicenseState.UNAVAILABLE
        return LicenseChange(row.id, row.version, state=away, payment=Payment.UNPAID, payment_at_ms=int(row.id[1:]), core_id=f"c{row.id}")

    await store.licenses.decide(unpaid, decide)
    await store.licenses.create([new_license("a", product=OTHER), new_license("m"), new_license("wrong", status="down")])
    for start in range(0, WAITING, 1_000):
        await store.create_jobs([job_with(f"{n:05}", ("m", PRODUCT, 1), ("a", OTHER, 1)) for n in range(start, start + 1_000)])


async def ask(store: SqlStore) -> Asked:
    with asked_of(store) as asked:
        assert await store.licenses.first_in_line(PRODUCT, 3) == ["00000", "00001", "00002"]
        assert await store.licenses.first_in_line(PRODUCT, 3, {PRODUCT: 1, OTHER: 1}) == ["00000", "00001", "00002"]
        assert [row.id for row in await store.licenses.to_move(PRODUCT, LicenseState.READY, "", 5)] == ["wrong"]
        assert [row.id for row in await store.licenses.to_settle(PRODUCT, 1_000_000, 3)] == ["l0", "l5", "l10"]
        assert set(await store.licenses.find(["l7", "cl0", "nobody"])) == {"l7", "cl0"}
        assert await store.licenses.history(["l7", "m"], 5) == {"l7": (b"first",), "m": (b"first",)}
        assert await store.licenses.bound_to(["l7", "l8"]) == {"l7": (), "l8": ()}
        assert len(await store.licenses.claims("00007")) == 2
    return asked


async def test_what_is_asked_often_reads_what_it_shows(url: str, dialect: str) -> None:
    """Who is next, what is to be moved or charged again, licenses by their names: a few rows, with 10,000 jobs in line and 5,000 licenses.
    SQLite says so by its plan, PostgreSQL by the rows that it has read."""
    async with open_store(url, lambda _: None) as store:
        await fill(store)
        asked = await ask(store)
        plans = explained(store, asked)
        take_statistics(url)
    async with open_store(url, lambda _: None) as store:
        plans += explained(store, asked)
    if dialect == "sqlite":
        assert not [plan for plan in plans if re.search(r"SCAN (licen\w+|claims|c|o)\b", plan)]
        assert not [plan for plan in plans[:2] if "TEMP B-TREE" in plan]
        assert "number>?" in plans[asked.index(next(a for a in asked if "license_history" in a[0]))]
    else:
        after = plans[len(asked) :]
        assert [plan for plan in after if rows_read(plan) > 100] == []
