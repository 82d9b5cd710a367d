"""Jobs over a license's seats, wherever they run: address and key reach the program, and who finds no seat waits for one.

The stand-in for Core, `serai serve` in a process of its own, a license server on loopback, and real programs.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import cast

import pytest
from fakes.license_stack import LOCAL, PLACES, SOLVER, Site, adding, licensed_shell, licensed_site, serai
from fakes.lmgrd import FakeLmgrd

KEY = b"a-vendors-key-of-31-characters!"
HOLD = 'echo "$1" >> runs; while [ ! -e go ]; do sleep 0.05; done'
WAITS = "The job is waiting for a seat of its license: 1 of 1 seats in use."
DONE = ("SUCCESS", "The job has finished processing!")
pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def lmgrd() -> AsyncGenerator[FakeLmgrd]:
    async with FakeLmgrd(solver=2) as server:
        yield server


@pytest.fixture(params=[*((place, "2021") for place in PLACES), (LOCAL, "2026")], ids="-".join)
async def site(request: pytest.FixtureRequest, tmp_path: Path, lmgrd: FakeLmgrd) -> AsyncGenerator[Site]:
    """With one seat."""
    place, generation = cast("tuple[str, str]", request.param)
    if place != LOCAL and os.geteuid() != 0:
        pytest.skip("raw_exec tasks make a mount namespace of their own: needs root")
    async with licensed_site(place, tmp_path, generation=generation) as made:
        added = await serai(made.serai, *adding(lmgrd, 1), "--key-stdin", stdin=KEY)
        assert added.code == 0, added
        yield made
        assert made.serai.core.repeats == [], "today's Core would not live any more"


async def line(site: Site) -> tuple[int, int]:
    """Seats that are held, and jobs that wait."""
    listed = await serai(site.serai, "licenses", "server", "show", "acme", "--json")
    report = json.loads(listed.out)
    return report["seats"][0]["held"], report["waiting_jobs"]


async def shown(site: Site, job_id: str) -> list[tuple[str, int, bool]]:
    """Licenses of a job as its operator sees them: id, seats, whether it holds them."""
    report = json.loads((await serai(site.serai, "jobs", "show", job_id, "--json")).out)
    return [(one["id"], one["seats"], one["held_at_ms"] is not None) for one in report["licenses"]]


async def two_jobs(site: Site, script: str = HOLD) -> tuple[str, str]:
    """One that runs and one that waits."""
    license_id = (await site.bought()).id
    first = await site.submit(licensed_shell(license_id, HOLD))
    await site.until_state(first, "RUNNING")
    second = await site.submit(licensed_shell(license_id, script))
    await site.until_said(second, WAITS)
    assert await line(site) == (1, 1)
    assert [await shown(site, job_id) for job_id in (first, second)] == [[(license_id, 1, True)], [(license_id, 1, False)]]
    return first, second


async def test_address_and_key_reach_the_program(site: Site, lmgrd: FakeLmgrd) -> None:
    """The example program of the manual: variable, command line and file, each as documented."""
    license_id = (await site.bought()).id
    # Nodes of a cluster do not have the program, so it comes along.
    bring = f"cat > solver <<'END'\n{SOLVER.read_text()}END\n"
    job_id = await site.submit(licensed_shell(license_id, f'{bring}sh ./solver --license "$1"'))
    assert await site.ended(job_id) == DONE
    assert await shown(site, job_id) == []
    assert site.file(job_id).read_text().splitlines()[1:] == [
        f"license server: {lmgrd.port_at_host}",
        f"key file: {len(KEY)} bytes",
        "solved",
    ]
    script = 'echo "$1 $LM_LICENSE_FILE"; f=$SERAI_LICENSE_FILE; stat -c %a "$f"; [ -O "$f" ] && md5sum < "$f"'
    second = await site.submit(licensed_shell(license_id, script))
    assert await site.ended(second) == DONE
    where, digest = f"{lmgrd.port_at_host} {lmgrd.port_at_host}", hashlib.md5(KEY, usedforsecurity=False).hexdigest()
    assert site.file(second).read_text().splitlines() == [where, "400", f"{digest}  -"]
    assert await line(site) == (0, 0)


async def test_a_job_waits_for_a_seat_and_starts_when_there_is_one(site: Site) -> None:
    """Its user reads why it waits; the first one's end is what starts it."""
    first, second = await two_jobs(site)
    assert not site.file(second, "runs").exists()
    site.file(first, "go").touch()
    assert await site.ended(first) == DONE
    await site.until_state(second, "RUNNING")
    site.file(second, "go").touch()
    assert await site.ended(second) == DONE
    assert await line(site) == (0, 0)


async def test_a_job_that_is_stopped_while_it_waits_never_runs(site: Site) -> None:
    """And stands in nobody's way; it costs nothing."""
    first, second = await two_jobs(site)
    await site.serai.core.terminate(second)
    assert await site.ended(second) == ("SUCCESS", "The job was stopped.")
    assert await line(site) == (1, 0)
    third = await site.submit(licensed_shell(_license_of(site), "echo once >> runs"))
    await site.until_said(third, WAITS)
    site.file(first, "go").touch()
    assert await site.ended(third) == DONE
    assert not site.file(second, "runs").exists()
    assert site.serai.core.jobs[second].started_at_ms is None


async def test_a_server_that_is_killed_while_a_job_waits_runs_both(site: Site) -> None:
    """Each once. While it is away the first one ends; the seat is given on at the next start."""
    first, second = await two_jobs(site, "echo once >> runs")
    await site.serai.kill()
    site.file(first, "go").touch()
    await site.serai.start()
    for job_id in (first, second):
        assert await site.ended(job_id) == DONE
    assert len(site.file(first, "runs").read_text().splitlines()) == 1
    assert site.file(second, "runs").read_text() == "once\n"
    assert await line(site) == (0, 0)


def _license_of(site: Site) -> str:
    (resource,) = site.serai.core.resources
    return resource.id
