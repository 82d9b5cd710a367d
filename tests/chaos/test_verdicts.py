"""The judge of the chaos tests finds what it is there to find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.chaos.points import Aim, Fate
from fakes.chaos.verdicts import FINISHED, Case, is_replay
from fakes.chaos.wishes import Wish
from serai_devcore.accounts import Accounts, Charge
from serai_devcore.applications import EXAMPLE_PRODUCT, shell_request
from serai_devcore.clock import SystemClock
from serai_devcore.jobs import Arrival, Job, JobBook
from serai_devcore.wire import Generation

BEGAN_MS = 1_000_000


def arrival(state: str, status: str, at_ms: int) -> Arrival:
    return Arrival(at_ms, {"state": state, "status": status}, kept=True, applied=True)


def charge(charge_id: str, units: int, charged: int) -> Charge:
    return Charge(BEGAN_MS, "1001", charge_id, units, 2, charged, charged)


def good(work: Path) -> Case:
    """Two replicas ran for 3 s and ended well; one period is a second."""
    accounts = Accounts(Generation.G2021, SystemClock(), JobBook(Generation.G2021, SystemClock()))
    accounts.add_product(EXAMPLE_PRODUCT)
    price = EXAMPLE_PRODUCT.price_per_unit * 2
    accounts.charges += [charge("1001-0", 2, 2 * price), charge("1001-0", 2, 0), charge("1001-2", 1, price)]
    job = Job("1001", "example", "example-compute", EXAMPLE_PRODUCT.id, "user", None, 2, None, BEGAN_MS, {}, state="SUCCESS")
    job.arrivals += [arrival("RUNNING", "runs", BEGAN_MS + 50), arrival("SUCCESS", FINISHED, BEGAN_MS + 3_100)]
    work.joinpath("runs").write_text("1\n0\n")
    for rank in (0, 1):
        work.joinpath(f"began-{rank}").write_text(f"{BEGAN_MS}\n")
        work.joinpath(f"alive-{rank}").write_text(f"{BEGAN_MS + 3_000}\n")
    wish = Wish(Aim.ANY, shell_request("true", replicas=2), "1001", accepted=True)
    return Case(wish, job, work, accounts, frozenset(), 1_000, "2021")


def test_a_good_end_has_no_problem(tmp_path: Path) -> None:
    """Also when updates and charges came twice."""
    case = good(tmp_path)
    case.job.arrivals[1:1] = [case.job.arrivals[0]]
    case.job.arrivals += case.job.arrivals[-2:]
    assert case.problem() == ""


def charged_twice(case: Case) -> None:
    case.accounts.charges.append(charge("1001-3", 3, 3 * 2 * EXAMPLE_PRODUCT.price_per_unit))


def not_billed(case: Case) -> None:
    case.accounts.charges.clear()


def ran_twice(case: Case) -> None:
    case.work.joinpath("runs").write_text("0\n1\n0\n")


def rank_missing(case: Case) -> None:
    case.work.joinpath("runs").write_text("0\n")


def never_told_to_run(case: Case) -> None:
    del case.job.arrivals[0]


def ran_on_after_its_end(case: Case) -> None:
    case.job.arrivals.reverse()


def wrong_words(case: Case) -> None:
    case.job.arrivals[-1] = arrival("SUCCESS", "The job was stopped.", BEGAN_MS)


def two_ends(case: Case) -> None:
    case.job.arrivals.append(arrival("FAILURE", "was lost", BEGAN_MS))


def not_over(case: Case) -> None:
    del case.job.arrivals[-1]


@pytest.mark.parametrize(
    "spoil",
    [charged_twice, not_billed, ran_twice, rank_missing, never_told_to_run, ran_on_after_its_end, wrong_words, two_ends, not_over],
)
def test_what_is_wrong_is_told(spoil: Callable[[Case], None], tmp_path: Path) -> None:
    case = good(tmp_path)
    spoil(case)
    assert case.problem() != ""


def test_the_death_of_a_supervisor_must_not_be_silent(tmp_path: Path) -> None:
    """A job whose supervisor was ended while it ran may not end as if nothing had happened."""
    case = good(tmp_path)
    assert replace(case, fates=frozenset({Fate.LOST})).problem() != ""
    assert replace(case, fates=frozenset({Fate.EITHER})).problem() == ""


@pytest.mark.parametrize(
    ("paused", "fine"),
    [((200, 2_800), False), ((-3_500, -5), True), ((3_005, 6_500), True), ((-500, 1_500), False), ((0, 0), True)],
)
def test_only_a_pause_between_the_stamps_makes_the_bill_less(paused: tuple[int, int], fine: bool, tmp_path: Path) -> None:
    """A job of 3 periods. One that is suspended before it could write that it began, or between its last stamp and its end, has run all of
    that time; one that was suspended in between has not."""
    case = good(tmp_path)
    case.wish.pause_asked, case.wish.paused = True, (BEGAN_MS + paused[0], BEGAN_MS + paused[1])
    case.accounts.charges.append(charge("1001-3", 1, 2 * EXAMPLE_PRODUCT.price_per_unit))
    assert (case.problem() == "") is fine


@pytest.mark.parametrize(
    ("told", "fine"),
    [
        ("RS", True),
        ("RRS", True),
        ("RSRS", True),
        ("RSS", True),
        ("S", False),
        ("R", False),
        ("SR", False),
        ("RSR", False),
        ("SRS", False),
    ],
)
def test_updates_may_come_again_and_only_in_order(told: str, fine: bool) -> None:
    assert is_replay(told, "RS") is fine
