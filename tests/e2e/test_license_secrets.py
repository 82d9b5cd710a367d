"""A vendor's key through a whole session: it reaches the programs of jobs, and nothing else that can be read afterwards or meanwhile.

Searched are log, database with its journal, state, drives, what Core was sent, events, every answer of the APIs, outputs and errors of the
command line, command lines and environments of all processes, and at Nomad all that its API tells.
"""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path

import pytest
from fakes.canary import Canary, Watch
from fakes.license_session import CANARY, KEY, Session
from fakes.license_stack import LOCAL, PLACES, licensed_site
from fakes.lmgrd import FakeLmgrd

pytestmark = pytest.mark.timeout(240)


@pytest.mark.parametrize("form", list(CANARY.forms))
def test_the_canary_is_found(form: str) -> None:
    """Whatever form it has and whatever stands around it: a search that finds nothing would prove nothing."""
    assert form in CANARY.seen_in(b"\0\xff" + CANARY.forms[form] + b"\n")
    assert Canary("another-secret-of-somebody").seen_in(CANARY.forms[form]) == []


def test_the_canary_is_found_in_files_that_hold_a_key_encoded(tmp_path: Path) -> None:
    """In base64 at any offset, or in hex."""
    for behind in range(3):
        (tmp_path / f"{behind}").write_bytes(base64.b64encode(b"x" * behind + KEY))
        (tmp_path / f"{behind}-url").write_bytes(base64.urlsafe_b64encode(b"x" * behind + KEY))
    (tmp_path / "hex").write_text(KEY.hex())
    (tmp_path / "clean").write_bytes(b"x" * 1_000)
    found, names = CANARY.seen_below(tmp_path)
    assert {Path(line.partition(":")[0]).name for line in found} == names - {"clean"}
    assert len(names) == 8


@pytest.mark.parametrize("place", PLACES)
async def test_a_vendors_key_is_nowhere_but_in_its_job(place: str, tmp_path: Path) -> None:
    """Given by file and by stdin, sealed anew, refused in every way; used by jobs that run, wait and fail, over kill -9 and a restart."""
    if place != LOCAL and os.geteuid() != 0:
        pytest.skip("raw_exec tasks make a mount namespace of their own: needs root")
    async with FakeLmgrd(solver=8) as lmgrd, licensed_site(place, tmp_path / "site") as site:
        watch = Watch(CANARY, site.serai.folder / "state")
        session = Session(site, lmgrd, tmp_path / "operator")
        with watch.watching():
            await session.give_keys()
            license_id = (await site.bought()).id
            job_id = await session.a_job_with_the_key(license_id)
            await session.jobs_that_cannot_start(license_id)
            await session.a_job_while_the_ring_is_lost(license_id)
            await session.users(license_id)
            await session.events(job_id)
            await session.look()
            if site.agent is not None:
                await session.nomad(site.agent, "in the end")
            await session.command("licenses", "server", "remove", "acme")
            assert await site.serai.stop() == 0
        assert [what for what, content in session.said.items() if CANARY.seen_in(content)] == []
        assert watch.leaks == set()
        for words in ("serai_server.cli licenses server add", "serai_server.cli serve", "sleep 0.05"):
            assert any(words in line for line in watch.seen), words
        leaks, names = CANARY.seen_below(site.serai.folder)
        assert leaks == []
        assert {"serai.log", "serai.db", "licenses.key", "stdout.txt"} <= names
        if site.agent is not None:
            assert CANARY.seen_below(site.agent.folder)[0] == []
        assert re.search(r'"level": ?"debug"', site.serai.log.read_text()), "the log was to be at its most talkative"
