"""Seats in use as license servers tell them, asked with a real program over TCP: what they leave, and how often they are asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.license_servers import Site, product, server, settle
from fakes.lmgrd import FakeLmgrd, FakeLmutil, Mode, write_lmutil
from serai.licenses.v1 import license_servers_service_pb2 as pb
from serai_server.licenses.ports import Standing
from serai_server.licenses.servers import Servers
from serai_server.store.license_model import Line

SOLVER = product("solver")
MINUTE_MS = 60_000


@pytest.fixture
def lmutil(tmp_path: Path) -> FakeLmutil:
    return write_lmutil(tmp_path)


@pytest.fixture
def site(tmp_path: Path, lmutil: FakeLmutil) -> Site:
    return Site(tmp_path, str(lmutil.program))


def at(real: FakeLmgrd, **seats: int) -> pb.LicenseServer:
    wanted = server("solver", hosts=1, vendor_port=0, **seats)
    wanted.addresses[0].CopyFrom(pb.LicenseServerAddress(host="127.0.0.1", port=real.port))
    return wanted


async def asked(site: Site, servers: Servers, times: int) -> None:
    """Time passes until the server was asked so often, and stands still until what it told or did not tell is known."""
    await site.until(lambda: len(site.store.questions) == times, 1_000)
    await site.until(lambda: not servers.watcher("solver")._asking.locked())


async def test_what_others_use_is_not_given_out(site: Site) -> None:
    """Ours are not counted twice, whatever the case of the feature's name; a change is told."""
    async with FakeLmgrd(solver=5) as real, site.running() as servers:
        real.check_out("solver", "somebody", 2)
        real.check_out("solver", "a-job-of-ours")
        site.store.held_lines[SOLVER] = Line(SOLVER, held=1, holders=1, waiting=0)
        await servers.add(at(real, Solver=4), b"")
        await asked(site, servers, 1)
        assert servers.limits() == {SOLVER: 2}
        assert site.told == [SOLVER] * 3, "added, up, fewer seats"
        real.check_in("solver", "somebody")
        await asked(site, servers, 2)
        assert servers.limits() == {SOLVER: 4}


async def test_one_question_a_minute(site: Site, lmutil: FakeLmutil) -> None:
    """However many ask for one, for all features, and across starts of the process."""
    async with FakeLmgrd(solver=5, mesher=2) as real:
        async with site.running() as servers:
            await servers.add(at(real, solver=5, mesher=2), b"")
            await asked(site, servers, 1)
            for _ in range(20):
                servers.look_soon(SOLVER)
                await servers.watcher("solver").ask()
                await site.pass_time(2_000)
            assert servers.limits() == {SOLVER: 2}
        for _ in range(3):
            async with site.running() as servers:
                await site.pass_time(6_000)
                assert servers.status(SOLVER).standing is Standing.UP
        assert len(lmutil.runs) == real.asked == 1
        async with site.running() as servers:
            await asked(site, servers, 2)
        first, second = site.store.questions
        assert MINUTE_MS <= second - first <= MINUTE_MS + 2_000


async def test_it_is_stored_before_it_is_asked(site: Site, lmutil: FakeLmutil) -> None:
    """A store that is away means no question: a process that dies in between must not ask twice."""
    async with FakeLmgrd(solver=5) as real, site.running() as servers:
        await servers.add(at(real, solver=5), b"")
        await asked(site, servers, 1)
        site.store.away = True
        await site.pass_time(3 * MINUTE_MS)
        assert len(lmutil.runs) == 1
        assert servers.status(SOLVER).standing is Standing.UP
        site.store.away = False
        await asked(site, servers, 2)


async def test_a_clock_that_was_set_back(site: Site) -> None:
    """It does not keep the server from being asked until the old time has come again."""
    async with FakeLmgrd(solver=5) as real:
        async with site.running() as servers:
            await servers.add(at(real, solver=5), b"")
            await asked(site, servers, 1)
        site.clock.step_back(86_400_000)
        async with site.running() as servers:
            await asked(site, servers, 2)


async def test_ten_minutes_without_an_answer(site: Site) -> None:
    """What was told last counts for ten minutes more, then only our own seats do; the reason stands in the report all the time."""
    async with FakeLmgrd(solver=5) as real, site.running() as servers:
        real.check_out("solver", "somebody", 3)
        await servers.add(at(real, solver=5), b"")
        await asked(site, servers, 1)
        real.mode = Mode.WRONG
        watcher = servers.watcher("solver")
        for times in range(2, 12):
            await asked(site, servers, times)
            assert servers.limits() == {SOLVER: 2}
            assert "Invalid returned data from license server system. (-12,16); what it told last still counts" in watcher.details
        await asked(site, servers, 12)
        await site.until(lambda: servers.limits() == {SOLVER: 5})
        assert watcher.details.endswith("only seats of our own jobs are counted")
        real.mode = Mode.UP
        await asked(site, servers, 13)
        await site.until(lambda: servers.limits() == {SOLVER: 2})
        assert watcher.details == ""


async def test_a_server_that_is_down_is_not_asked(site: Site, lmutil: FakeLmutil) -> None:
    """It could not tell; when it is back it is asked at once."""
    async with FakeLmgrd(solver=5) as real, site.running(probes_to_fail=1) as servers:
        await servers.add(at(real, solver=5), b"")
        await asked(site, servers, 1)
        site.network.refusing.add("127.0.0.1")
        await site.pass_time(5 * MINUTE_MS)
        assert servers.status(SOLVER).standing is Standing.DOWN
        assert "the server does not answer" in servers.watcher("solver").details
        runs = len(lmutil.runs)
        site.network.refusing.clear()
        await site.until(lambda: servers.status(SOLVER).standing is Standing.UP, 1_000)
        await site.until(lambda: len(lmutil.runs) == runs + 1)


async def test_a_slow_answer_holds_up_no_look(site: Site) -> None:
    """The server is looked at on its timer while lmutil waits; after half a minute that is given up."""
    async with FakeLmgrd(solver=5) as real, site.running(probes_to_fail=1) as servers:
        real.mode = Mode.SLOW
        await servers.add(at(real, solver=5), b"")
        await site.until(lambda: bool(real.connections))
        site.network.refusing.add("127.0.0.1")
        await site.pass_time(29_000)
        await settle()
        servers.look_soon(SOLVER)
        await settle()
        assert servers.status(SOLVER).standing is Standing.DOWN
        await site.until(lambda: "not told" in servers.watcher("solver").details, 1_000)


async def test_seats_that_are_not_counted_are_not_asked_for(site: Site, lmutil: FakeLmutil) -> None:
    """Until the operator says that they are."""
    async with FakeLmgrd(solver=5) as real, site.running() as servers:
        real.check_out("solver", "somebody", 3)
        await servers.add(at(real), b"")
        await site.pass_time(3 * MINUTE_MS)
        assert lmutil.runs == []
        await servers.set_seats("solver", [pb.LicenseFeature(name="solver", seats=5)])
        await asked(site, servers, 1)
        assert servers.limits() == {SOLVER: 2}
