"""A database of the release before licenses: what is in it afterwards, on both databases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fakes.license_rows import PRODUCT, job_with, new_license, submitted
from fakes.store_rows import link_to, new_job, update
from serai_server.store import tables
from serai_server.store.license_model import SeatsTaken
from serai_server.store.link import Link
from serai_server.store.migrate import migrate, migrations
from serai_server.store.model import EventSettlement, JobChange, LedgerRow, Outcome
from serai_server.store.open import open_store
from serai_server.store.rows import Row, first_row

BEFORE = 2
"""Migrations of the release before."""


def fill(link: Link) -> None:
    """Three jobs, events with gaps in their numbers, a consumer that settled some of them out of order, a bill."""
    names = tables.columns(tables.jobs)[:-1]
    link.begin()
    for number in range(3):
        row = first_row(new_job(str(number)))[:-1]
        link.execute(f"INSERT INTO jobs ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})", *row)
    for sequence in (7, 1, 2, 5, 9, 3):
        link.execute(
            "INSERT INTO events (sequence, job_id, kind, body, at_ms) VALUES (?, ?, ?, ?, ?)",
            sequence,
            str(sequence % 3),
            1 + sequence % 2,
            f"event {sequence} \0".encode(),
            sequence * 10,
        )
    link.execute("INSERT INTO consumers (name, settled_to) VALUES (?, ?)", "core", 7)
    link.insert(tables.unsettled, [("core", 2), ("core", 5)])
    link.insert(tables.settlements, [("core", s, 1, "", 50) for s in (1, 3, 7)])
    link.insert(tables.ledger, [("1", 0, 2, 1, "1-0", 9)])
    link.insert(tables.intervals, [("1", 2, 10, 0)])
    link.commit()


def everything(link: Link) -> Mapping[str, Sequence[Row]]:
    """Rows of the tables that were there before, in order."""
    orders = {
        "events": "sequence",
        "consumers": "name",
        "unsettled": "sequence",
        "settlements": "sequence",
        "ledger": "job_id",
        "intervals": "job_id",
    }
    found = {t: [tuple(r) for r in link.query(f"SELECT * FROM {t} ORDER BY {order}")] for t, order in orders.items()}
    found["jobs"] = [tuple(r) for r in link.query("SELECT * FROM jobs ORDER BY id")]
    return found


async def test_an_upgrade_keeps_every_row(new_url: Callable[[], str], dialect: str) -> None:
    """Jobs, events in their order, and what was settled; jobs have no claims, events no license, and consumers are the
    operator's. Then all goes on, licenses too."""
    url = new_url()
    known = migrations(dialect)
    link = link_to(url)
    migrate(link, known[:BEFORE])
    fill(link)
    before = dict(everything(link))
    migrate(link, known)
    after = dict(everything(link))
    link.close()
    assert after.pop("jobs") == [(*row, 0) for row in before.pop("jobs")]
    assert after.pop("events") == [(*row, "") for row in before.pop("events")]
    assert after.pop("consumers") == [(*row, "", 0) for row in before.pop("consumers")]
    assert after == before
    async with open_store(url, lambda _: None) as store:
        assert [(e.sequence, e.job_id, e.license_id, e.at_ms) for e in await store.events("core", 0, 10)] == [
            (2, "2", "", 20),
            (5, "2", "", 50),
            (9, "0", "", 90),
        ]
        assert await store.undelivered_count("2", "core") == 2
        assert await store.ledger("1") == [LedgerRow("1", 0, 2, 1, "1-0", 9)]
        await store.settle("core", [EventSettlement(s, Outcome.DELIVERED, "", 60) for s in (2, 5, 9)])
        await store.change_job(JobChange("2", 1, events=(update("2"),)))
        assert [e.sequence for e in await store.events("core", 0, 10)] == [10]
        await store.licenses.create([new_license("m")])
        await store.create_jobs([job_with("new", ("m", PRODUCT, 1))])
        assert (await store.licenses.take_seats(submitted("new"), {PRODUCT: 1}))[1] == SeatsTaken()


def test_events_of_jobs_are_still_found_by_their_index(new_url: Callable[[], str], dialect: str) -> None:
    """The table that took the place of the old one has its index too, under the same name and over the same columns."""
    link = link_to(new_url())
    migrate(link, migrations(dialect))
    if dialect == "sqlite":
        plan = [str(r[3]) for r in link.query("EXPLAIN QUERY PLAN SELECT sequence FROM events WHERE job_id = 'x'")]
    else:
        plan = [
            str(r[0]) for r in link.query("SELECT indexdef FROM pg_indexes WHERE tablename = 'events' AND schemaname = current_schema()")
        ]
    link.close()
    assert [step for step in plan if "events_by_job" in step], plan
