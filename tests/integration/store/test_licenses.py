"""Licenses, their history, servers and windows, on both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes.license_rows import OTHER, PRODUCT, job_with, move, new_license, note, over, submitted
from fakes.store_rows import new_job
from serai_server.store import license_writes
from serai_server.store.api import WriteRefused
from serai_server.store.license_api import DecideLicense, LicenseConflict, QuotaReached, ServerConflict
from serai_server.store.license_model import (
    AtCore,
    LicenseChange,
    LicenseFilter,
    LicenseState,
    NewLicense,
    Payment,
    Quota,
    StoredLicense,
    StoredServer,
    StoredWindow,
)
from serai_server.store.model import Committed, EventKind, EventSettlement, JobChange, LedgerRow, Outcome, State, StoredJob
from serai_server.store.open import open_store
from serai_server.store.sql_store import SqlStore


def steps(*made: LicenseChange | NewLicense | None) -> DecideLicense:
    return lambda place, _: made[place]


async def test_a_license_is_read_back_as_it_was_given(store: SqlStore) -> None:
    """Row and first line of history; whoever asks by its id gets it, deleted or not, and nobody is None."""
    given = replace(new_license("77", owner="ünïcode 'quoted' %s ?", status="waits"), body=bytes(range(256)), acl=b"\x00a")
    await store.licenses.create([given])
    row = await store.licenses.license("77")
    assert row == StoredLicense(
        id="77",
        state=LicenseState.READY,
        version=1,
        digest=given.digest,
        owner=given.owner,
        project="",
        product=PRODUCT,
        created_at_ms=1_000,
        deleted_at_ms=0,
        at_core=AtCore.KNOWN,
        core_id="",
        payment=Payment.OPEN,
        charges=0,
        payment_at_ms=0,
        status="waits",
        body=given.body,
        acl=given.acl,
    )
    assert await store.licenses.history(["77", "nobody"], 10) == {"77": (b"first",), "nobody": ()}
    await move(store, "77", deleted=True)
    gone = await store.licenses.license("77")
    assert gone is not None
    assert (gone.deleted_at_ms, gone.version) == (9_000, 2)
    assert await store.licenses.license("nobody") is None
    assert await store.licenses.license("nul\0nul") is None


async def test_a_create_repeated_changes_nothing_and_other_content_is_a_conflict(store: SqlStore) -> None:
    """Also of a deleted license; the error names the license and its place, and nothing of its batch is stored."""
    await store.licenses.create([new_license("1"), new_license("1")])
    await move(store, "1", deleted=True)
    await store.licenses.create([new_license("1"), new_license("2")])
    assert await store.licenses.history(["1", "2"], 10) == {"1": (b"first",), "2": (b"first",)}
    for bulk in ([new_license("3"), new_license("1", text="other")], [new_license("4"), new_license("4", text="other")]):
        with pytest.raises(LicenseConflict) as caught:
            await store.licenses.create(bulk)
        assert caught.value.index == 1
    assert [await store.licenses.license(i) for i in ("3", "4")] == [None, None]


async def test_a_decision_is_whole_and_each_step_sees_the_ones_before(store: SqlStore, told: list[Committed]) -> None:
    """Two steps of one license, a new one that is changed at once, and what Core is told, in order; the listener hears of the events."""
    await store.licenses.create([new_license("1")])
    told.clear()
    seen: list[StoredLicense | None] = []

    def decide(place: int, row: StoredLicense | None) -> LicenseChange | NewLicense | None:
        seen.append(row)
        made: list[LicenseChange | NewLicense | None] = [
            LicenseChange("1", 1, state=LicenseState.UNAVAILABLE, status="down", notes=(note("1", "a", event="A"),)),
            new_license("2"),
            LicenseChange("1", 2, payment=Payment.PAID, charges=1, payment_at_ms=5, core_id="9", at_core=AtCore.WANTED),
            LicenseChange("2", 1, acl=b"others", body=b"b", readers=("u:bob",), notes=(note("2", "", event="B"),)),
            None,
        ]
        return made[place]

    rows = await store.licenses.decide(["1", "2", "1", "2", "nobody"], decide)
    first = await store.licenses.license("1")
    second = await store.licenses.license("2")
    assert rows == [first, second, first, second, None]
    assert first is not None
    assert second is not None
    assert (first.state, first.status, first.version, first.payment, first.charges) == (
        LicenseState.UNAVAILABLE,
        "down",
        3,
        Payment.PAID,
        1,
    )
    assert (first.payment_at_ms, first.core_id, first.at_core, first.body) == (5, "9", AtCore.WANTED, new_license("1").body)
    assert (second.version, second.acl, second.body) == (2, b"others", b"b")
    assert [r and r.version for r in seen] == [1, None, 2, 1, None]
    assert await store.licenses.history(["1", "2"], 10) == {"1": (b"first", b"a"), "2": (b"first",)}
    events = await store.events("core", 0, 10)
    assert [(e.job_id, e.license_id, e.kind, e.body, e.at_ms) for e in events] == [
        ("", "1", EventKind.LICENSE, b"A", 2_000),
        ("", "2", EventKind.LICENSE, b"B", 2_000),
    ]
    assert told == [Committed((), (), 2)]
    page = await store.licenses.page(LicenseFilter(readers=("u:bob",)), 10, "")
    assert [r.id for r in page.licenses] == ["2"]


@pytest.mark.parametrize(
    "step",
    [
        LicenseChange("1", 7),
        LicenseChange("2", 1),
        new_license("1"),
        LicenseChange("1", 1, notes=(note("2"),)),
    ],
    ids=["other version", "other license", "there already", "note of another"],
)
async def test_a_step_that_does_not_fit_is_refused_and_nothing_is_stored(store: SqlStore, step: LicenseChange | NewLicense) -> None:
    """Neither it nor the steps before it; what a decision raises itself comes back in the same way."""
    await store.licenses.create([new_license("1"), new_license("2")])
    with pytest.raises(ValueError, match="license 1"):
        await store.licenses.decide(["2", "1"], steps(LicenseChange("2", 1, status="x"), step))
    with pytest.raises(IndexError):
        await store.licenses.decide(["2", "1"], steps(LicenseChange("2", 1, status="x")))
    row = await store.licenses.license("2")
    assert row is not None
    assert (row.version, row.status) == (1, "")


async def test_a_license_is_found_by_either_name(store: SqlStore) -> None:
    """By its id and by Core's, deleted ones too; names that nobody has are missing."""
    await store.licenses.create([new_license("1"), new_license("2")])
    await store.licenses.decide(["1"], steps(LicenseChange("1", 1, core_id="54")))
    await move(store, "2", deleted=True)
    found = await store.licenses.find(["54", "1", "2", "", "3", "nul\0"])
    assert {name: row.id for name, row in found.items()} == {"54": "1", "1": "1", "2": "2"}


async def test_history_keeps_the_newest_lines(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oldest first, at most as many as asked for, and no more are kept than the limit says, however they come."""
    assert license_writes.KEPT_LINES == 1_000
    monkeypatch.setattr(license_writes, "KEPT_LINES", 5)
    await store.licenses.create([new_license("1"), new_license("2")])
    await store.licenses.decide(["1"], steps(LicenseChange("1", 1, notes=tuple(note("1", str(n)) for n in range(12)))))
    assert (await store.licenses.history(["1"], 100))["1"] == (b"7", b"8", b"9", b"10", b"11")
    await store.create_jobs([new_job("j")])
    await store.change_job(JobChange("j", 1, license_notes=(note("1", "12"), note("2", "x"))))
    assert await store.licenses.history(["2", "1"], 2) == {"1": (b"11", b"12"), "2": (b"first", b"x")}
    assert await store.licenses.history(["1"], 0) == {"1": ()}
    assert (await store.licenses.history(["1"], 100))["1"] == (b"8", b"9", b"10", b"11", b"12")


async def test_a_jobs_step_tells_of_licenses_that_are_there(store: SqlStore, told: list[Committed]) -> None:
    """Lines and events of the same transaction, after the job's own events; for a deleted or unknown license nothing is written. Such
    events are no job's: they are not counted as undelivered of any, and settled like others."""
    await store.licenses.create([new_license("1"), new_license("2")])
    await move(store, "2", deleted=True)
    await store.create_jobs([new_job("j", events=1)])
    told.clear()
    notes = (note("1", "bound", event="E1"), note("2", "bound", event="E2"), note("nobody", "bound", event="E3"))
    await store.change_job(JobChange("j", 1, license_notes=notes))
    assert await store.licenses.history(["1", "2"], 10) == {"1": (b"first", b"bound"), "2": (b"first",)}
    assert [(e.sequence, e.job_id, e.license_id, e.body) for e in await store.events_at([2, 3])] == [(2, "", "1", b"E1")]
    assert told[-1].last_event == 2
    assert await store.undelivered_count("j", "core") == 1
    assert await store.undelivered_among(["j"], "core") == {"j"}
    await store.settle("core", [EventSettlement(1, Outcome.DELIVERED, "", 5), EventSettlement(2, Outcome.INSUFFICIENT_FUNDS, "", 5)])
    assert await store.undelivered_among(["j"], "core") == frozenset()
    assert await store.events("core", 0, 10) == []
    assert await store.unpaid(0) == []


async def test_notes_of_a_decision_that_the_database_refuses_are_gone_with_it(store: SqlStore) -> None:
    """A decision about several jobs: the last one's value is refused, and neither the first one's step nor its line is there."""
    await store.licenses.create([new_license("1")])
    await store.create_jobs([new_job("a"), new_job("b")])

    def decide(place: int, job: StoredJob | None) -> JobChange:
        assert job is not None
        charges = (LedgerRow("nobody", 0, 1, 1, "x", 1),) if place else ()
        return JobChange(job.id, 1, license_notes=(note("1", job.id),), charges=charges)

    with pytest.raises(WriteRefused):
        await store.decide(["a", "b"], decide)
    job = await store.job("a")
    assert job is not None
    assert job.version == 1
    assert await store.licenses.history(["1"], 10) == {"1": (b"first",)}


async def test_licenses_to_move_are_those_that_differ(store: SqlStore) -> None:
    """In state or words; not the unpaid, not the deleted, not of another product."""
    await store.licenses.create(
        [
            new_license("as it is", status="s"),
            new_license("lower", state=LicenseState.PREPARING, status="s"),
            new_license("higher", state=LicenseState.UNAVAILABLE, status="s"),
            new_license("silent"),
            new_license("other words", status="t"),
            new_license("unpaid", status="t"),
            new_license("deleted", status="t"),
            new_license("other product", product=OTHER, status="t"),
        ]
    )
    await store.licenses.decide(["unpaid"], steps(LicenseChange("unpaid", 1, payment=Payment.UNPAID, payment_at_ms=7)))
    await move(store, "deleted", status="t", deleted=True)
    rows = await store.licenses.to_move(PRODUCT, LicenseState.READY, "s", 10)
    assert {r.id for r in rows} == {"lower", "higher", "silent", "other words"}
    assert len(await store.licenses.to_move(PRODUCT, LicenseState.READY, "s", 3)) == 3
    assert [r.id for r in await store.licenses.to_move(PRODUCT, LicenseState.READY, "", 1)] != []
    assert await store.licenses.to_move("nothing", LicenseState.READY, "", 1) == []


async def test_the_unpaid_come_oldest_first(store: SqlStore) -> None:
    """Those found unpaid before the given time that are still there."""
    await store.licenses.create([new_license(i) for i in ("a", "b", "c", "d")])
    for license_id, at_ms in (("a", 30), ("b", 20), ("c", 40), ("d", 10)):
        change = LicenseChange(license_id, 1, payment=Payment.UNPAID, payment_at_ms=at_ms)
        await store.licenses.decide([license_id], steps(change))
    await move(store, "d", deleted=True)
    assert [r.id for r in await store.licenses.to_settle(PRODUCT, 40, 10)] == ["b", "a"]
    assert [r.id for r in await store.licenses.to_settle(PRODUCT, 41, 2)] == ["b", "a"]
    assert await store.licenses.to_settle(OTHER, 41, 2) == []


async def test_licenses_that_are_there_are_counted_by_product(store: SqlStore) -> None:
    await store.licenses.create([new_license("1"), new_license("2"), new_license("3"), new_license("4", product=OTHER)])
    await move(store, "1", deleted=True)
    assert await store.licenses.count() == {PRODUCT: 2, OTHER: 1}


async def test_a_product_and_a_name_have_one_server(store: SqlStore) -> None:
    """A second one is refused in words that name what is in the way; once the first is gone it may come."""
    first = StoredServer("lm", PRODUCT, b"body", b"sealed", 0)
    await store.licenses.add_server(first)
    with pytest.raises(ServerConflict, match="lm already"):
        await store.licenses.add_server(replace(first, product=OTHER))
    with pytest.raises(ServerConflict, match=r"matlab has a license server already: lm"):
        await store.licenses.add_server(replace(first, name="other"))
    await store.licenses.add_server(StoredServer("a", OTHER, b"", b"", 0))
    assert await store.licenses.change_server("lm", body=b"b", sealed=b"s", observed_at_ms=5, observed=b"o")
    assert await store.licenses.change_server("lm", observed_at_ms=6)
    assert await store.licenses.servers() == [StoredServer("a", OTHER, b"", b"", 0), StoredServer("lm", PRODUCT, b"b", b"s", 6, b"o")]
    assert not await store.licenses.change_server("nobody", body=b"")
    assert await store.licenses.remove_server("lm")
    assert not await store.licenses.remove_server("lm")
    await store.licenses.add_server(replace(first, name="other"))


async def test_keys_are_sealed_anew_all_or_none(store: SqlStore) -> None:
    """Servers without a key are left alone; when one key cannot be sealed, all stay as they were."""
    for name in ("a", "b", "c"):
        await store.licenses.add_server(StoredServer(name, name, b"", b"" if name == "b" else name.encode(), 0))

    def fails_at_c(name: str, key: bytes) -> bytes:
        if name == "c":
            raise LookupError("no such key")
        return key + b"!"

    with pytest.raises(LookupError):
        await store.licenses.reseal(fails_at_c)
    assert [s.sealed for s in await store.licenses.servers()] == [b"a", b"", b"c"]
    assert await store.licenses.reseal(lambda name, key: name.encode() + key) == 2
    assert [s.sealed for s in await store.licenses.servers()] == [b"aa", b"", b"cc"]


async def test_windows_come_by_their_start(store: SqlStore) -> None:
    """One that is added again is left as it is."""
    late, early = StoredWindow("1", PRODUCT, 20, 0, b"late"), StoredWindow("2", PRODUCT, 10, 15, b"early")
    for window in (late, early, replace(late, body=b"again")):
        await store.licenses.add_window(window)
    assert await store.licenses.windows() == [early, late]
    assert await store.licenses.remove_window("1")
    assert not await store.licenses.remove_window("1")


async def test_all_is_there_after_opening_again(url: str) -> None:
    """Licenses, lines, claims, and that jobs say how many they have."""
    async with open_store(url, lambda _: None) as store:
        await store.licenses.create([new_license("1")])
        await store.create_jobs([job_with("j", ("1", PRODUCT, 2))])
        row, claims = await store.licenses.license("1"), await store.licenses.claims("j")
    async with open_store(url, lambda _: None) as store:
        assert await store.licenses.license("1") == row
        assert await store.licenses.claims("j") == claims
        job = await store.job("j")
        assert job is not None
        assert job.claims == 1
        await store.change_job(over("j", 1, State.FAILURE))
        assert await store.licenses.claims("j") == []


async def test_a_quota_counts_what_is_there_and_what_comes(store: SqlStore) -> None:
    """All of a request or none of it; repetitions and deleted licenses do not count, and other keys have quotas of their own."""
    quota = Quota("u:alice", 2)
    await store.licenses.create([new_license("1"), new_license("1")], quota)
    with pytest.raises(QuotaReached):
        await store.licenses.create([new_license("2"), new_license("3")], quota)
    await store.licenses.create([new_license("2")], quota)
    await store.licenses.create([new_license("1"), new_license("2")], quota)
    await move(store, "1", deleted=True)
    await store.licenses.create([new_license("4")], quota)
    with pytest.raises(QuotaReached):
        await store.licenses.create([new_license("5")], quota)
    await store.licenses.create([new_license("6", readers=("u:bob",))], Quota("u:bob", 1))
    assert [await store.licenses.license(i) is not None for i in "123456"] == [True, True, False, True, False, True]


async def test_events_of_licenses_that_a_consumer_has_not_settled(store: SqlStore) -> None:
    """Above what is settled and, when later ones were settled first, below it; those of jobs are not there."""
    await store.register_consumer("core", from_now=False)
    for name in ("1", "2", "3"):
        await store.licenses.create([new_license(name)])
        await store.licenses.decide([name], steps(LicenseChange(name, 1, notes=(note(name, event=f"e{name}"),))))
    await store.create_jobs([job_with("j", events=1)])
    first, second, third = sorted(await store.licenses.unsettled_events("core"))
    assert (await store.licenses.unsettled_events("core"))[second] == "2"
    await store.settle("core", [EventSettlement(second, Outcome.DELIVERED, "", 0)], [])
    assert await store.licenses.unsettled_events("core") == {first: "1", third: "3"}
    assert set(await store.licenses.unsettled_events("nobody")) == {first, second, third}


async def test_jobs_that_hold_seats_are_noted_with_a_license(store: SqlStore) -> None:
    """In the same transaction, in order of arrival; not those that wait."""
    await store.licenses.create([new_license("1"), new_license("2")])
    await store.create_jobs([job_with(job_id, ("1", PRODUCT, 1)) for job_id in ("a", "b", "c")])
    for job_id in ("a", "b"):
        await store.licenses.take_seats(submitted(job_id), {PRODUCT: None})
    change = LicenseChange("1", 1, notes=(note("1", "known"),), note_of_holder=lambda job_id: note("1", f"uses {job_id}"))
    await store.licenses.decide(["1"], steps(change))
    assert (await store.licenses.history(["1"], 3))["1"] == (b"known", b"uses a", b"uses b")
