"""Claims and seats: all or none, in order of arrival, and gone with the job's end, on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest
from fakes.license_rows import OTHER, PRODUCT, job_with, move, new_license, note, over, submitted
from fakes.store_rows import new_job
from serai_server.store.api import VersionConflict, WriteRefused
from serai_server.store.license_model import (
    AtCore,
    Claim,
    LicenseAway,
    LicenseChange,
    LicenseState,
    Line,
    Payment,
    SeatsFull,
    SeatsTaken,
    SeatsTooFew,
)
from serai_server.store.model import Committed, JobChange, State, StoredJob
from serai_server.store.open import open_store
from serai_server.store.sql_store import SqlStore


@pytest.fixture
async def store(url: str, told: list[Committed]) -> AsyncIterator[SqlStore]:
    async with open_store(url, told.extend) as opened:
        await opened.licenses.create([new_license("m"), new_license("n"), new_license("a", product=OTHER)])
        yield opened


async def test_claims_come_with_the_job_and_wait(store: SqlStore) -> None:
    """In order of arrival, one number for all licenses of a job; a create repeated makes none anew."""
    job = job_with("1", ("m", PRODUCT, 2), ("a", OTHER, 1))
    await store.create_jobs([new_job("0", events=3), job, job_with("2", ("m", PRODUCT, 1))])
    await store.create_jobs([job])
    assert await store.licenses.claims("1") == [Claim("1", "a", OTHER, 1, 1, 4, 0), Claim("1", "m", PRODUCT, 2, 2, 4, 0)]
    assert await store.licenses.claims("2") == [Claim("2", "m", PRODUCT, 1, 1, 5, 0)]
    assert await store.licenses.claims("0") == []
    row = await store.job("1")
    assert row is not None
    assert row.claims == 2
    assert await store.licenses.lines() == {PRODUCT: Line(PRODUCT, 0, 0, 2), OTHER: Line(OTHER, 0, 0, 1)}


async def test_seats_are_taken_with_the_jobs_step(store: SqlStore, told: list[Committed]) -> None:
    """The row after, the listener told of it, notes written; the seats are held and the licenses bound."""
    await store.create_jobs([job_with("1", ("m", PRODUCT, 2), ("a", OTHER, 1))])
    told.clear()
    change = JobChange("1", 1, submitted_at_ms=77, license_notes=(note("m", "bound", event="E"),))
    row, answer = await store.licenses.take_seats(change, {PRODUCT: 2, OTHER: None})
    assert answer == SeatsTaken()
    assert row == await store.job("1")
    assert row is not None
    assert (row.version, row.submitted_at_ms) == (2, 77)
    assert told == [Committed((row.record,), (), 2)]
    assert [c.held_at_ms for c in await store.licenses.claims("1")] == [77, 77]
    assert await store.licenses.bound_to(["m", "a", "n"]) == {"m": ("1",), "a": ("1",), "n": ()}
    assert await store.licenses.lines() == {PRODUCT: Line(PRODUCT, 2, 1, 0), OTHER: Line(OTHER, 1, 1, 0)}
    assert (await store.licenses.history(["m"], 10))["m"] == (b"first", b"bound")


async def test_without_room_nothing_changes(store: SqlStore, told: list[Committed]) -> None:
    """All or none: one product has room, the other not; who is before it and how many seats are in use is said."""
    await store.create_jobs([job_with("1", ("m", PRODUCT, 2)), job_with("2", ("m", PRODUCT, 1), ("a", OTHER, 1))])
    await store.licenses.take_seats(submitted("1"), {PRODUCT: 2, OTHER: 5})
    told.clear()
    assert await store.licenses.take_seats(submitted("2"), {PRODUCT: 2, OTHER: 5}) == (None, SeatsFull(PRODUCT, 2, 2, 0))
    row = await store.job("2")
    assert row is not None
    assert row.version == 1
    assert [c.held_at_ms for c in await store.licenses.claims("2")] == [0, 0]
    assert told == []
    row, answer = await store.licenses.take_seats(submitted("2"), {PRODUCT: 3, OTHER: 5})
    assert (row is not None, answer) == (True, SeatsTaken())


async def test_who_came_first_is_served_first(store: SqlStore) -> None:
    """A job that would fit waits for one before it that does not; a product that is not counted has no line."""
    await store.create_jobs([job_with("big", ("m", PRODUCT, 4)), job_with("small", ("n", PRODUCT, 1)), job_with("free", ("a", OTHER, 9))])
    limits = {PRODUCT: 3, OTHER: None}
    assert await store.licenses.take_seats(submitted("small"), limits) == (None, SeatsFull(PRODUCT, 0, 3, 1))
    assert await store.licenses.take_seats(submitted("big"), limits) == (None, SeatsFull(PRODUCT, 0, 3, 0))
    assert (await store.licenses.take_seats(submitted("free"), limits))[1] == SeatsTaken()
    assert await store.licenses.first_in_line(PRODUCT, 10) == ["big", "small"]
    await store.change_job(over("big", 1, State.FAILURE))
    assert await store.licenses.first_in_line(PRODUCT, 10) == ["small"]
    assert (await store.licenses.take_seats(submitted("small"), limits))[1] == SeatsTaken()


@pytest.mark.parametrize("gone", [False, True])
async def test_who_waits_for_a_license_holds_up_nobody(store: SqlStore, gone: bool) -> None:
    """Its license is not READY, or was deleted: it hears so, and the ones behind it go on; READY again, it is first again. Who waits for
    one that was deleted is in the line to be told so."""
    await store.create_jobs(
        [job_with("1", ("m", PRODUCT, 1), ("a", OTHER, 1)), job_with("2", ("n", PRODUCT, 1)), job_with("3", ("n", PRODUCT, 1))]
    )
    limits = {PRODUCT: 1, OTHER: 1}
    await move(store, "a", LicenseState.UNAVAILABLE, status="server is down", deleted=gone)
    assert await store.licenses.take_seats(submitted("1"), limits) == (None, LicenseAway("a", gone, "server is down"))
    told = ["1"] if gone else []
    assert await store.licenses.first_in_line(PRODUCT, 10) == [*told, "2", "3"]
    assert await store.licenses.first_in_line(PRODUCT, 1) == [*told, "2"][:1]
    assert await store.licenses.waiting(PRODUCT, 10) == ["1", "2", "3"]
    assert await store.licenses.waiting(PRODUCT, 2) == ["1", "2"]
    assert (await store.licenses.take_seats(submitted("2"), limits))[1] == SeatsTaken()
    await store.change_job(over("2", 2))
    if not gone:
        await move(store, "a", LicenseState.READY)
        assert await store.licenses.first_in_line(PRODUCT, 10) == ["1", "3"]
        assert (await store.licenses.take_seats(submitted("3"), limits))[1] == SeatsFull(PRODUCT, 0, 1, 1)
        assert (await store.licenses.take_seats(submitted("1"), limits))[1] == SeatsTaken()


async def test_a_deleted_license_is_named_before_one_that_is_away(store: SqlStore) -> None:
    """The job never runs, whatever becomes of the other one. A license that was never there counts as deleted."""
    await store.create_jobs([job_with("1", ("a", OTHER, 1), ("m", PRODUCT, 1)), job_with("2", ("ghost", PRODUCT, 1))])
    await move(store, "a", LicenseState.UNAVAILABLE)
    await move(store, "m", deleted=True)
    assert (await store.licenses.take_seats(submitted("1"), {}))[1] == LicenseAway("m", True, "")
    assert (await store.licenses.take_seats(submitted("2"), {}))[1] == LicenseAway("ghost", True, "")


async def test_a_product_without_a_server_has_no_seats(store: SqlStore) -> None:
    await store.create_jobs([job_with("1", ("m", PRODUCT, 1))])
    assert await store.licenses.take_seats(submitted("1"), {OTHER: 5}) == (None, SeatsFull(PRODUCT, 0, 0, 0))


async def test_several_licenses_of_one_product_are_added_up(store: SqlStore) -> None:
    """A job that uses two licenses of a product needs the seats of both, and stands in its line once."""
    await store.create_jobs([job_with("1", ("m", PRODUCT, 2), ("n", PRODUCT, 2)), job_with("2", ("n", PRODUCT, 1))])
    assert await store.licenses.first_in_line(PRODUCT, 10) == ["1", "2"]
    assert await store.licenses.lines() == {PRODUCT: Line(PRODUCT, 0, 0, 2)}
    assert await store.licenses.take_seats(submitted("2"), {PRODUCT: 3}) == (None, SeatsFull(PRODUCT, 0, 3, 1))
    assert await store.licenses.take_seats(submitted("1"), {PRODUCT: 3}) == (None, SeatsFull(PRODUCT, 0, 3, 0))
    assert (await store.licenses.take_seats(submitted("1"), {PRODUCT: 4}))[1] == SeatsTaken()


async def test_who_needs_more_than_there_is_holds_up_nobody(store: SqlStore) -> None:
    """All of the product's seats would not do for its licenses together: it hears so, at none of its products anybody waits for it, and it
    is in no line. With more seats it is first again."""
    await store.create_jobs(
        [
            job_with("1", ("m", PRODUCT, 2), ("n", PRODUCT, 2), ("a", OTHER, 1)),
            job_with("2", ("n", PRODUCT, 1)),
            job_with("3", ("a", OTHER, 1)),
        ]
    )
    limits, capacities = {PRODUCT: 2, OTHER: 1}, {PRODUCT: 3, OTHER: 1}
    take, first = store.licenses.take_seats, store.licenses.first_in_line
    assert await take(submitted("1"), limits, capacities) == (None, SeatsTooFew(PRODUCT, 4, 3))
    assert [await first(PRODUCT, 10, capacities), await first(OTHER, 10, capacities)] == [["2"], ["3"]]
    more = {PRODUCT: 4, OTHER: 1}
    assert [await first(PRODUCT, 10, more), await first(OTHER, 10, more)] == [["1", "2"], ["1", "3"]]
    assert (await take(submitted("2"), limits, more))[1] == SeatsFull(PRODUCT, 0, 2, 1)
    assert (await take(submitted("2"), limits, capacities))[1] == SeatsTaken()
    assert (await take(submitted("3"), limits, capacities))[1] == SeatsTaken()
    await store.change_job(over("2", 2))
    await store.change_job(over("3", 2))
    assert (await take(submitted("1"), more, more))[1] == SeatsTaken()


async def test_all_who_wait_for_a_deleted_license_are_found(store: SqlStore) -> None:
    """Wherever they stand in the line; not those that hold their seats, or wait for another one."""
    await store.create_jobs([job_with(f"{n}", ("mn"[n % 2], PRODUCT, 1)) for n in range(9)] + [job_with("ghost", ("never", PRODUCT, 1))])
    await store.licenses.take_seats(submitted("0"), {PRODUCT: 9})
    assert await store.licenses.without_license(PRODUCT) == ["ghost"]
    await move(store, "m", deleted=True)
    assert await store.licenses.without_license(PRODUCT) == ["2", "4", "6", "8", "ghost"]
    assert await store.licenses.without_license(OTHER) == []


async def test_a_job_that_holds_its_seats_goes_on_with_them(store: SqlStore) -> None:
    """One that was suspended and is handed over again needs no second set, whatever became of limit and license meanwhile."""
    await store.create_jobs([job_with("1", ("m", PRODUCT, 2))])
    await store.licenses.take_seats(submitted("1"), {PRODUCT: 2})
    await move(store, "m", LicenseState.UNAVAILABLE)
    row, answer = await store.licenses.take_seats(submitted("1", 2, at_ms=99), {})
    assert answer == SeatsTaken()
    assert row is not None
    assert (row.version, row.submitted_at_ms) == (3, 99)
    assert [c.held_at_ms for c in await store.licenses.claims("1")] == [3_000]


async def test_a_job_without_claims_needs_no_seats(store: SqlStore) -> None:
    await store.create_jobs([new_job("1")])
    assert (await store.licenses.take_seats(submitted("1"), {}))[1] == SeatsTaken()


async def test_a_step_that_cannot_be_takes_no_seats(store: SqlStore) -> None:
    """Another version, an unknown job, a job that is over, a step that makes no sense."""
    await store.create_jobs([job_with("1", ("m", PRODUCT, 1))])
    for change in (submitted("1", 2), submitted("nobody")):
        with pytest.raises(VersionConflict):
            await store.licenses.take_seats(change, {PRODUCT: 1})
    with pytest.raises(ValueError, match="cannot be forgotten"):
        await store.licenses.take_seats(JobChange("1", 1, forgotten_at_ms=1), {PRODUCT: 1})
    assert [c.held_at_ms for c in await store.licenses.claims("1")] == [0]
    await store.change_job(over("1", 1))
    with pytest.raises(ValueError, match="takes no seats"):
        await store.licenses.take_seats(submitted("1", 2), {PRODUCT: 1})


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("way", ["change", "decide", "take"])
async def test_seats_are_free_when_the_job_is_over(store: SqlStore, held: bool, way: str) -> None:
    """Whichever way it came to its final state, in the same transaction; the next one in line can have them."""
    await store.create_jobs([job_with("1", ("m", PRODUCT, 1), ("a", OTHER, 1)), job_with("2", ("n", PRODUCT, 1))])
    limits = {PRODUCT: 1, OTHER: 1}
    if held:
        await store.licenses.take_seats(submitted("1"), limits)
    change = over("1", 2 if held else 1, State.EXPIRED)

    def decide(_: int, __: StoredJob | None) -> JobChange:
        return change

    if way == "change":
        await store.change_job(change)
    elif way == "decide":
        await store.decide(["1"], decide)
    else:
        await store.licenses.take_seats(change, limits)
    assert await store.licenses.claims("1") == []
    assert await store.licenses.lines() == {PRODUCT: Line(PRODUCT, 0, 0, 1)}
    assert (await store.licenses.take_seats(submitted("2"), limits))[1] == SeatsTaken()


async def test_a_tombstone_claims_nothing(store: SqlStore) -> None:
    """A job that is over from the start stands in no line."""
    await store.create_jobs([msgspec.structs.replace(job_with("1", ("m", PRODUCT, 1)), state=State.FAILURE)])
    assert await store.licenses.claims("1") == []
    assert await store.licenses.lines() == {}


async def test_the_same_license_twice_is_refused(store: SqlStore) -> None:
    """Each license once for each job; nothing of the create is stored."""
    with pytest.raises(WriteRefused):
        await store.create_jobs([job_with("1", ("m", PRODUCT, 1), ("m", PRODUCT, 1))])
    assert await store.job("1") is None


async def test_jobs_without_events_stand_in_line_by_their_ids(store: SqlStore) -> None:
    """They have no sequence of their own, so they came at the same moment."""
    await store.create_jobs([job_with("b", ("m", PRODUCT, 1), events=0), job_with("a", ("m", PRODUCT, 1), events=0)])
    assert await store.licenses.first_in_line(PRODUCT, 5) == ["a", "b"]
    assert await store.licenses.take_seats(submitted("b"), {PRODUCT: 5}) == (None, SeatsFull(PRODUCT, 0, 5, 0))


@pytest.mark.parametrize(
    ("change", "paying"),
    [
        (LicenseChange("m", 1, payment=Payment.ASKED), True),
        (LicenseChange("m", 1, payment=Payment.OPEN, at_core=AtCore.WANTED), True),
        (LicenseChange("m", 1, payment=Payment.OPEN, at_core=AtCore.UNTOLD), False),
        (LicenseChange("m", 1, payment=Payment.PAID), False),
        (LicenseChange("m", 1, payment=Payment.UNSURE), False),
    ],
)
async def test_nobody_gets_a_seat_of_a_license_before_core_has_answered_its_charge(
    store: SqlStore, change: LicenseChange, paying: bool
) -> None:
    """Nor its key, then: who waits for one holds up nobody, and is first when it is paid."""
    await store.licenses.decide(["m"], lambda _place, _row: change)
    await store.create_jobs([job_with("1", ("m", PRODUCT, 1)), job_with("2", ("n", PRODUCT, 1))])
    _, answer = await store.licenses.take_seats(submitted("1"), {PRODUCT: 2})
    assert answer == (LicenseAway("m", False, "", paying=True) if paying else SeatsTaken())
    assert await store.licenses.first_in_line(PRODUCT, 2) == ["2"]
    assert (await store.licenses.take_seats(submitted("2"), {PRODUCT: 2}))[1] == SeatsTaken()
    await store.licenses.decide(["m"], lambda _place, _row: LicenseChange("m", 2, payment=Payment.PAID))
    assert await store.licenses.first_in_line(PRODUCT, 2) == (["1"] if paying else [])
