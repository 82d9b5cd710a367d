"""Core's rules for updates, by the stand-in's book of jobs. Each test names the section of the fact sheet that it holds to."""

from __future__ import annotations

import pytest
from fakes.devcore_time import StillClock
from serai_devcore import CoreError, Generation, acme_request
from serai_devcore.documents import job_document
from serai_devcore.jobs import Job, JobBook
from serai_devcore.wire import Json, JsonObject

G2021, G2026 = Generation.G2021, Generation.G2026


def book(generation: Generation = G2021, *ids: str) -> tuple[JobBook, StillClock]:
    clock = StillClock()
    jobs = JobBook(generation, clock)
    for job_id in ids or ("1",):
        jobs.insert(job_document(acme_request(), job_id, clock.now_ms(), generation))
        jobs.confirm(job_id)
    return jobs, clock


def item(job_id: str = "1", **update: Json) -> JsonObject:
    return {"id": job_id, "update": update}


def refused(jobs: JobBook, items: list[JsonObject], provider: str = "example") -> CoreError:
    with pytest.raises(CoreError) as caught:
        jobs.update(provider, items)
    return caught.value


def states(job: Job) -> tuple[str, list[str], list[bool]]:
    return job.state, [a.state for a in job.arrivals], [a.applied for a in job.arrivals]


def test_an_update_changes_state_and_folder_and_is_kept_with_cores_time() -> None:
    """2021 §2.1 History, outputFolder: the sent timestamp does not count, a null folder keeps the old one."""
    jobs, clock = book()
    jobs.update("example", [item(state="RUNNING", outputFolder="/1/Jobs/x", status="up", timestamp=17)])
    clock.now += 5
    jobs.update("example", [item(state="SUCCESS", outputFolder=None)])
    job = jobs["1"]
    assert (job.state, job.output_folder, job.states) == ("SUCCESS", "/1/Jobs/x", ["RUNNING", "SUCCESS"])
    assert [a.at_ms for a in job.arrivals] == [clock.now - 5, clock.now]
    assert job.arrivals[0].update["timestamp"] == 17


@pytest.mark.parametrize(("generation", "status"), [(G2021, 400), (G2026, 404)])
@pytest.mark.parametrize("foreign", ["unknown", "2"])
def test_one_unknown_or_foreign_id_fails_the_whole_batch(generation: Generation, status: int, foreign: str) -> None:
    """2021 §2.1 Permission; today §9: nothing of the batch is stored."""
    jobs, _ = book(generation)
    document = job_document(acme_request(), "2", 0, generation)
    specification = document["specification"]
    assert isinstance(specification, dict)
    specification["product"] = {"id": "x", "category": "x", "provider": "other"}
    jobs.insert(document)
    error = refused(jobs, [item(state="RUNNING"), item(foreign, state="RUNNING")])
    assert error.status == status
    assert jobs["1"].arrivals == []
    if generation is G2021:
        assert error.why == "Unable to use all requested resources"


def test_a_failed_expectation_keeps_the_entry_and_skips_the_change() -> None:
    """2021 §2.1 expectedState, expectedDifferentState."""
    jobs, _ = book()
    jobs.update("example", [item(state="RUNNING", expectedState="CANCELING", outputFolder="/no")])
    jobs.update("example", [item(state="IN_QUEUE", expectedDifferentState=True, outputFolder="/no")])
    jobs.update("example", [item(state="RUNNING", expectedDifferentState=True, expectedState="IN_QUEUE")])
    job = jobs["1"]
    assert states(job) == ("RUNNING", ["RUNNING", "IN_QUEUE", "RUNNING"], [False, False, True])
    assert job.output_folder is None
    assert all(a.kept for a in job.arrivals)


def test_today_drops_a_failed_expectation_whole() -> None:
    """today §9: silently dropped, still 200."""
    jobs, _ = book(G2026)
    jobs.update("example", [item(state="RUNNING", expectedState="CANCELING", status="words")])
    assert jobs["1"].state == "IN_QUEUE"
    assert [a.kept for a in jobs["1"].arrivals] == [False]


@pytest.mark.parametrize("final", ["SUCCESS", "FAILURE", "EXPIRED"])
def test_a_final_state_stays(final: str) -> None:
    """2021 §2.1 Final states: later states and folders are ignored, words are kept."""
    jobs, _ = book()
    jobs.update("example", [item(state=final)])
    jobs.update("example", [item(state="RUNNING", outputFolder="/late")])
    jobs.update("example", [item(state="FAILURE", status="late")])
    jobs.update("example", [item(status="words after the end")])
    job = jobs["1"]
    assert (job.state, job.output_folder, len(job.arrivals)) == (final, None, 4)
    assert job.states == [final]


def test_today_lets_a_final_state_replace_a_final_one_only() -> None:
    """today §9."""
    jobs, _ = book(G2026)
    for state in ("SUCCESS", "RUNNING", "FAILURE"):
        jobs.update("example", [item(state=state)])
    assert jobs["1"].states == ["SUCCESS", "FAILURE"]


def test_the_clock_of_a_job_starts_with_its_first_running() -> None:
    """2021 §2.1 state RUNNING: startedAt once, expiresAt = startedAt + timeAllocation (1 h)."""
    jobs, clock = book()
    jobs.update("example", [item(state="RUNNING")])
    first = clock.now
    clock.now += 1000
    jobs.update("example", [item(state="IN_QUEUE")])
    jobs.update("example", [item(state="RUNNING")])
    assert (jobs["1"].started_at_ms, jobs["1"].expires_at_ms) == (first, first + 3_600_000)


def test_today_running_again_moves_the_start_and_an_allocation_is_a_total() -> None:
    """today §9: re-entering RUNNING moves startedAt; newTimeAllocation replaces, it does not add."""
    jobs, clock = book(G2026)
    jobs.update("example", [item(state="RUNNING")])
    clock.now += 1000
    jobs.update("example", [item(state="SUSPENDED")])
    jobs.update("example", [item(state="RUNNING")])
    jobs.update("example", [item(newTimeAllocation=60_000)])
    assert (jobs["1"].started_at_ms, jobs["1"].expires_at_ms) == (clock.now, clock.now + 60_000)


def test_all_items_of_a_batch_are_compared_with_the_state_before_it() -> None:
    """2021 §2.1 Bulk with several updates of one job: not with each other."""
    jobs, _ = book()
    jobs.update("example", [item(state="SUCCESS"), item(state="RUNNING"), item(state="FAILURE", expectedState="RUNNING")])
    assert states(jobs["1"]) == ("RUNNING", ["SUCCESS", "RUNNING", "FAILURE"], [True, True, False])


def test_an_unknown_state_is_no_state_in_2021_and_any_state_today() -> None:
    """2021 §2.1 Unknown enum text; today §9 "any string is accepted as a state"."""
    old, _ = book(G2021)
    new, _ = book(G2026)
    for jobs in (old, new):
        jobs.update("example", [item(state="HIBERNATING", status="words")])
    assert (old["1"].state, new["1"].state) == ("IN_QUEUE", "HIBERNATING")
    assert old["1"].arrivals[0].status == "words"


def test_a_pause_and_an_extension_are_words_of_today_only() -> None:
    """2021 §2.1: SUSPENDED and newTimeAllocation came later: a status-only update, and a key that is not looked at. today §9: a state, and
    the new total; going on moves the start, and the end with it."""
    old, _ = book(G2021)
    new, clock = book(G2026)
    for jobs in (old, new):
        jobs.update("example", [item(state="RUNNING")])
        jobs.update("example", [item(state="SUSPENDED", newTimeAllocation=60_000)])
    assert (old["1"].state, new["1"].state) == ("RUNNING", "SUSPENDED")
    assert (old["1"].time_allocation_ms, new["1"].time_allocation_ms) == (3_600_000, 60_000)
    clock.now += 10_000
    new.update("example", [item(state="RUNNING")])
    assert (new["1"].started_at_ms, new["1"].expires_at_ms) == (clock.now, clock.now + 60_000)


def test_a_null_timestamp_is_an_error_today_only() -> None:
    """today §9: `timestamp: null` is a 400; 2021 §7 coerceInputValues."""
    old, _ = book(G2021)
    new, _ = book(G2026)
    old.update("example", [item(state="RUNNING", timestamp=None)])
    assert refused(new, [item(state="RUNNING", timestamp=None)]).status == 400
    new.update("example", [item(state="RUNNING", timestamp=0)])
    new.update("example", [item(status="no timestamp")])
    assert (old["1"].state, new["1"].state) == ("RUNNING", "RUNNING")


@pytest.mark.parametrize(
    "bad",
    [
        {"update": {}},
        {"id": 7, "update": {}},
        {"id": "1"},
        {"id": "1", "update": []},
        {"id": "1", "update": {"state": 3}},
        {"id": "1", "update": {"expectedDifferentState": "yes"}},
        {"id": "1", "update": {"timestamp": "now"}},
    ],
)
def test_an_unreadable_item_fails_the_batch(bad: JsonObject) -> None:
    """2021 §2.5: undecodable is 400, and nothing is stored."""
    jobs, _ = book()
    assert refused(jobs, [item(state="RUNNING"), bad]).status == 400
    assert jobs["1"].state == "IN_QUEUE"


def test_ids_are_numbers_and_never_come_twice() -> None:
    """2021 §8.1 id; a forgotten job's id is not given again."""
    jobs, _ = book()
    first, second = jobs.new_id(), jobs.new_id()
    assert first.isdecimal()
    assert first != second
    document = job_document(acme_request(), first, 0, G2021)
    jobs.insert(document)
    with pytest.raises(CoreError) as caught:
        jobs.insert(document)
    assert caught.value.status == 409
    assert jobs.forget(first)
    assert not jobs.forget(first)
    assert jobs.new_id() not in {first, second}
