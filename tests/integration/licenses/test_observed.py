"""Seats in use as license servers tell them, asked with a real program over TCP: what they leave, and how often they are asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.license_servers import Site, product, server, settle
from fakes.lmgrd import FakeLmgrd, FakeLmutil, Mode, write_lmutil
from serai.licenses.v1 import license_servers_service_pb2 as pb
from serai_server.licenses.ports import Standing
from serai_server.licenses.servers.registry import Servers
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
        await servers.watcher("solver").look()
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


async def test_what_was_told_counts_after_a_start(site: Site) -> None:
    """Until the next answer: what others use is not given out just because this process was started anew."""
    async with FakeLmgrd(solver=5) as real:
        real.check_out("solver", "somebody", 2)
        real.check_out("solver", "a-job-of-ours")
        site.store.held_lines[SOLVER] = Line(SOLVER, held=1, holders=1, waiting=0)
        async with site.running() as servers:
            await servers.add(at(real, solver=4), b"")
            await asked(site, servers, 1)
            assert (servers.limits(), servers.capacities()) == ({SOLVER: 2}, {SOLVER: 4})
        async with site.running() as servers:
            assert (servers.limits(), servers.capacities()) == ({SOLVER: 2}, {SOLVER: 4})
            real.check_in("solver", "somebody")
            await asked(site, servers, 2)
            await site.until(lambda: servers.limits() == {SOLVER: 4})


@pytest.mark.parametrize(("later_ms", "limit"), [(9 * MINUTE_MS, 2), (11 * MINUTE_MS, 5), (-3_600_000, 5)])
async def test_what_was_told_long_ago_does_not(site: Site, later_ms: int, limit: int) -> None:
    """Nor what was told in a time to come, after the clock was set back."""
    async with FakeLmgrd(solver=5) as real:
        real.check_out("solver", "somebody", 3)
        async with site.running() as servers:
            await servers.add(at(real, solver=5), b"")
            await asked(site, servers, 1)
            assert servers.limits() == {SOLVER: 2}
        if later_ms > 0:
            site.clock.move(later_ms)
        else:
            site.clock.step_back(-later_ms)
        async with site.running() as servers:
            assert servers.limits() == {SOLVER: limit}


async def test_without_lmutil_nothing_that_was_told_counts(site: Site) -> None:
    """Nobody would ever tell anything newer."""
    async with FakeLmgrd(solver=5) as real:
        real.check_out("solver", "somebody", 3)
        async with site.running() as servers:
            await servers.add(at(real, solver=5), b"")
            await asked(site, servers, 1)
        site.lmutil = ""
        async with site.running() as servers:
            assert servers.limits() == {SOLVER: 5}


async def test_a_server_with_fewer_seats_than_are_configured(site: Site) -> None:
    """No job can have more than it has, whoever uses them now; told as a change even where the limit stays as it was."""
    async with FakeLmgrd(solver=4) as real, site.running() as servers:
        real.check_out("solver", "somebody", 4)
        await servers.add(at(real, solver=9), b"")
        assert servers.capacities() == {SOLVER: 9}
        await asked(site, servers, 1)
        assert (servers.limits(), servers.capacities()) == ({SOLVER: 0}, {SOLVER: 4})
        site.told.clear()
        real.features["solver"].total = 3
        real.check_in("solver", "somebody")
        real.check_out("solver", "somebody", 3)
        await asked(site, servers, 2)
        await site.until(lambda: servers.capacities() == {SOLVER: 3})
        assert servers.limits() == {SOLVER: 0}
        assert site.told == [SOLVER]
