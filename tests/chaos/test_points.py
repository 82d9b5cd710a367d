"""kill -9 of server, launchers and supervisors at every fault point, with a Core that is away, slow or talks nonsense.

How it works, the table of points and the record of what was found: README.md beside this file. Short form in `make test`; `make chaos`
(SERAI_CHAOS=long) makes SERAI_CHAOS_RUNS runs, 1,000 by default.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from fakes.chaos import victim
from fakes.chaos.points import MOMENT, POINTS, TABLE, Aim, Point
from fakes.chaos.sites import Score, play, points_here, possible, site
from fakes.chaos.wishes import Users

LONG = os.environ.get("SERAI_CHAOS") == "long"
RUNS = int(os.environ.get("SERAI_CHAOS_RUNS", "1000"))
AT_ONCE = int(os.environ.get("SERAI_CHAOS_SITES", "2"))
IN_A_SITE = 20
SHORT = 10
SHORT_MOMENTS = 1
MOMENTS = 8
"""Kills by the clock for each round of all points."""
ACTIONS = {"launcher.started", "launcher.anywhen", "supervisor.running"}
"""Not places of the code but things that the server's process does to a job's; they need no proof that they are passed."""
HERE = "tests/chaos/test_points.py"


def a_seed() -> int:
    return int(os.environ.get("SERAI_CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)


async def site_of(folder: Path, generation: str, seed: int, points: Sequence[Point]) -> Score:
    """One site; a failure says how to have it again."""
    try:
        return await play(folder, generation, seed, points)
    except (AssertionError, TimeoutError, ExceptionGroup) as error:
        names = ",".join(point.name for point in points)
        again = f"SERAI_CHAOS_SEED={seed} SERAI_CHAOS_POINTS={names} .venv/bin/python -m pytest -q '{HERE}::test_one_site[{generation}]'"
        raise AssertionError(f"{error!r}\nagain:\n{again}") from error


async def sample(seed: int) -> list[Point]:
    """The points of one short site: those that the environment names, or some of all in turn with those of the other generation."""
    named = os.environ.get("SERAI_CHAOS_POINTS", "")
    if named:
        return [POINTS[name] for name in named.split(",")]
    points = await points_here()
    random.Random(seed).shuffle(points)
    return [*points[: SHORT - SHORT_MOMENTS], *[MOMENT] * SHORT_MOMENTS]


@pytest.mark.timeout(300)
@pytest.mark.skipif(LONG and not os.environ.get("SERAI_CHAOS_POINTS"), reason="the long form does more")
@pytest.mark.parametrize("generation", ["2021", "2026"])
async def test_one_site(tmp_path: Path, generation: str) -> None:
    """After some kills, each at its point, every job that Core knows is final with the right state, words and bill, each replica ran at
    most once, and exactly once unless somebody ended it, Core was told every state in order, and nothing is left on the machine."""
    seed = a_seed()
    print(f"SERAI_CHAOS_SEED={seed}")
    score = await site_of(tmp_path, generation, seed, await sample(seed))
    print(score, *score.unreached, sep="\n  ")


async def test_every_point_is_passed(tmp_path: Path) -> None:
    """No point of the table is dead: an ordinary life, in which nobody is killed, passes each of them."""
    passed = tmp_path / "passed"
    names = {point.name for point in await points_here()} - ACTIONS

    def missing() -> set[str]:
        return names - set(passed.read_text().split()) if passed.exists() else names

    asked = await possible()
    async with site(tmp_path, "2021") as running:
        await running.live(passed=passed)
        await running.until_ready()
        users = Users(running.core, random.Random(4), possible=asked)
        for _ in range(5):  # which points a job passes depends on what comes first, as of its end and its pause
            async with asyncio.TaskGroup() as group:
                for aim in (Aim.BILL, *(asked & {Aim.EXTEND, Aim.PAUSE}), Aim.STOP, Aim.QUEUE):
                    group.create_task(users.one(aim))
            await running.until_final(*(wish.job_id for wish in users.wishes))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5):
                    while missing():
                        await asyncio.sleep(0.1)
            if not missing():
                break
        assert missing() == set()


def test_a_point_that_nobody_passes_is_told(tmp_path: Path) -> None:
    """The wrapping counts: the n-th passing of the one that was asked for, and no other."""
    points = victim.Points(victim.Life(config="", log="", hurt=str(tmp_path / "hurt"), kill={"store.commit.before": 2}))
    assert [points.reached(name) for name in ("store.commit.before", "store.commit.after", "store.commit.before")] == [False, False, True]
    assert not points.reached("store.commit.before")


def test_the_record_shows_the_table() -> None:
    """README.md lists every point with what is true there."""
    text = (Path(__file__).parent / "README.md").read_text()
    missing = [point.name for point in (*TABLE, MOMENT) if f"| `{point.name}` | {point.truth} |" not in text]
    assert missing == []


@pytest.mark.timeout(4 * 3600)
@pytest.mark.skipif(not LONG, reason="the long form: `make chaos`")
async def test_a_thousand_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every point again and again, in sites of their own, under all moods of both generations of Core."""
    seed = a_seed()
    total, failed = Score(), list[str]()
    turn = asyncio.Semaphore(AT_ONCE)
    order = random.Random(seed)
    points: list[Point] = []
    while len(points) < RUNS:
        round_ = [*await points_here(), *[MOMENT] * MOMENTS]
        order.shuffle(round_)
        points += round_
    sites = [points[i : i + IN_A_SITE] for i in range(0, RUNS, IN_A_SITE)]
    sites[-1] = sites[-1][: RUNS - IN_A_SITE * (len(sites) - 1)]

    folders = [tmp_path / str(number) for number in range(len(sites))]

    def tell(words: str) -> None:
        with capsys.disabled():
            print(words, flush=True)

    async def one(number: int) -> None:
        generation = ("2021", "2026")[number % 2]
        folder = folders[number]
        async with turn:
            try:
                score = await site_of(folder, generation, seed + number, sites[number])
            except AssertionError as error:
                failed.append(str(error))
                tell(f"site {number}: {error}")
            else:
                total.add(score)
                shutil.rmtree(folder)
                tell(f"site {number} of {len(sites)}: {score}; in all {total}")

    for folder in folders:
        folder.mkdir()
    tell(f"SERAI_CHAOS_SEED={seed}")
    async with asyncio.TaskGroup() as group:
        for number in range(len(sites)):
            group.create_task(one(number))
    tell(f"{total}; {len(failed)} sites failed")
    assert not failed, "\n\n".join(failed)
    unreached = collections.Counter(words.partition(":")[0] for words in total.unreached)
    tell(f"not at their point: {dict(unreached)}")
    assert total.kills >= RUNS
    assert len(total.unreached) < RUNS // 5
