"""What the machine does with jobs that use licenses."""

from __future__ import annotations

import pytest
from fakes.jobs import stored_job
from serai_server.jobs import causes
from serai_server.jobs.decision import NOTHING, Action, Rules, Unasked
from serai_server.jobs.machine import WAITING_TOLD_MS, NoSeats, step, without_key, without_seats
from serai_server.store.license_model import LicenseAway, LicenseNotSold, SeatsFull, SeatsTooFew
from serai_server.store.model import State, Target

RULES = Rules(exit_code_is_failure=False, charge_every_ms=60_000)
NOW_MS = 1_790_000_000_000
FULL = SeatsFull("p", 3, 3, 0)


def test_a_job_with_licenses_is_submitted_only_with_their_seats() -> None:
    """One without is submitted as ever; one that is to be stopped is over without a look at seats."""
    decision = step(stored_job(claims=2), Unasked.UNASKED, NOW_MS, RULES)
    assert (decision.submitted, decision.actions) == (True, (Action.TAKE_SEATS,))
    assert step(stored_job(), Unasked.UNASKED, NOW_MS, RULES).actions == (Action.SUBMIT,)
    stopped = step(stored_job(claims=2, target=Target.STOP), Unasked.UNASKED, NOW_MS, RULES)
    assert (stopped.state, stopped.actions) == (State.SUCCESS, ())


def test_one_that_has_its_seats_does_not_take_them_again() -> None:
    """It was submitted in the transaction that took them; the crash came before the backend had it."""
    assert step(stored_job(claims=1, submitted_at_ms=5), None, NOW_MS, RULES).actions == (Action.SUBMIT,)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (FULL, "The job is waiting for a seat of its license: 3 of 3 seats in use."),
        (SeatsFull("p", 1, 3, 2), "The job is waiting for a seat of its license: 1 of 3 seats in use, and 2 jobs came before it."),
        (SeatsTooFew("p", 4, 3), "The job needs 4 seats of its license and there are 3. It waits until there are more."),
        (SeatsTooFew("p", 2, 1), "The job needs 2 seats of its license and there is 1. It waits until there are more."),
        (SeatsTooFew("p", 1, 0), "The job needs 1 seat of its license and there are none. It waits until there are more."),
        (LicenseAway("1", False, "It is being maintained."), "The job is waiting for its license. It is being maintained."),
    ],
)
def test_a_job_without_seats_waits_and_says_for_what(answer: NoSeats, words: str) -> None:
    """At once for the first time, and other numbers not before a minute later: Core keeps every text."""
    first = without_seats(stored_job(claims=1), answer, NOW_MS)
    assert [update.status for update in first.updates] == [words]
    assert first.wake_at_ms == NOW_MS + WAITING_TOLD_MS
    assert first.state is None
    early = stored_job(claims=1, status=words.replace("1", "2").replace("3", "4"), wake_at_ms=NOW_MS + 1)
    assert without_seats(early, answer, NOW_MS) is NOTHING
    assert without_seats(stored_job(claims=1, status=words), answer, NOW_MS) is NOTHING


def test_a_job_whose_key_cannot_be_read_says_so() -> None:
    """Once, and not right after other words of the same kind."""
    words, earlier = "The job is waiting for a key.", "The job is waiting for a key. Another one is missing too."
    first = without_key(stored_job(claims=1, submitted_at_ms=5), "waiting for a key", NOW_MS)
    assert ([update.status for update in first.updates], first.state, first.wake_at_ms) == ([words], None, NOW_MS + WAITING_TOLD_MS)
    assert without_key(stored_job(claims=1, submitted_at_ms=5, status=words), "waiting for a key", NOW_MS) is NOTHING
    told = stored_job(claims=1, submitted_at_ms=5, status=earlier, wake_at_ms=NOW_MS + 1)
    assert without_key(told, "waiting for a key", NOW_MS) is NOTHING


@pytest.mark.parametrize(
    ("answer", "words"), [(LicenseAway("1", True, ""), causes.LICENSE_GONE), (LicenseNotSold("p"), causes.LICENSE_NOT_SOLD)]
)
def test_a_job_whose_license_is_gone_never_runs(answer: NoSeats, words: str) -> None:
    """Nothing will bring it back, so the job ends, whatever it was told a moment ago."""
    decision = without_seats(stored_job(claims=1, wake_at_ms=NOW_MS + 1), answer, NOW_MS)
    assert (decision.state, decision.ended_at_ms) == (State.FAILURE, NOW_MS)
    assert [update.status for update in decision.updates] == [words]


def test_that_a_job_waits_for_another_thing_is_told_at_once() -> None:
    """Its license server went away, or is back and all seats are taken."""
    full = stored_job(claims=1, status="The job is waiting for a seat of its license: 3 of 3 seats in use.", wake_at_ms=NOW_MS + 1)
    away = without_seats(full, LicenseAway("1", False, "The license cannot be used now."), NOW_MS)
    assert [update.status for update in away.updates] == ["The job is waiting for its license. The license cannot be used now."]
    back = stored_job(claims=1, status="The job is waiting for its license. The license cannot be used now.", wake_at_ms=NOW_MS + 1)
    assert without_seats(back, FULL, NOW_MS).updates
