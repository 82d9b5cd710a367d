"""License servers watched: up, down and back, each for itself, and what is told of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from fakes.license_servers import Site, product, server, settle
from serai.licenses.v1 import license_servers_service_pb2 as pb
from serai_server.errors import LicenseServerConflict, LicenseServerUnknown
from serai_server.licenses.ports import LicenseServers, SeatPlan, Standing, Status
from serai_server.licenses.servers.vault import VaultError
from serai_server.store.api import StoreUnavailable
from serai_server.store.license_model import StoredServer

SOLVER = product("solver")
CANARY = b"canary-6b86b273ff34fce1"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


class TestStanding:
    async def test_no_server(self, site: Site) -> None:
        """Its products have none, and nothing is known of seats; it has the shape that others rely on."""
        async with site.running() as servers:
            port: LicenseServers = servers
            assert port.status(SOLVER) == Status(Standing.NONE)
            assert port.seats(SOLVER) is None
            assert port.limits() == {}
            assert not await port.has_key(SOLVER)
            port.look_soon(SOLVER)
            with pytest.raises(LicenseServerUnknown):
                await port.reach(SOLVER)

    async def test_up_at_its_first_answer(self, site: Site) -> None:
        """At once after it was added, and after a start of the process."""
        async with site.running() as servers:
            await servers.add(server(), b"")
            await settle()
            assert servers.status(SOLVER) == Status(Standing.UP)
            assert site.network.tried == [("solver-1", 27000)]
        async with site.running() as servers:
            assert servers.status(SOLVER).standing is Standing.UNKNOWN
            await settle()
            assert servers.status(SOLVER).standing is Standing.UP

    async def test_down_after_three_looks_and_back_after_one(self, site: Site) -> None:
        """Until the third it stands as it did; users read no address."""
        async with site.running() as servers:
            await servers.add(server(), b"")
            await settle()
            site.network.refusing.add("solver-1")
            standings = list[Standing]()
            for _ in range(3):
                await site.pass_time(30_000)
                standings.append(servers.status(SOLVER).standing)
            assert standings == [Standing.UP, Standing.UP, Standing.DOWN]
            assert servers.status(SOLVER).words == "its license server does not answer"
            assert servers.watcher("solver").details == "solver-1:27000 refused the connection"
            site.network.refusing.clear()
            await site.pass_time(30_000)
            assert servers.status(SOLVER) == Status(Standing.UP)
            assert site.told == [SOLVER] * 4, "added, up, down, up"

    async def test_unknown_until_it_failed_often_enough(self, site: Site) -> None:
        """After a start of the process one failed look changes nothing for anybody."""
        async with site.running() as servers:
            await servers.add(server(), b"")
        site.network.refusing.add("solver-1")
        async with site.running() as servers:
            standings = [servers.status(SOLVER).standing]
            for _ in range(3):
                await settle()
                standings.append(servers.status(SOLVER).standing)
                await site.pass_time(30_000)
            assert standings == [Standing.UNKNOWN] * 3 + [Standing.DOWN]

    async def test_a_triad_and_a_vendors_port(self, site: Site) -> None:
        """Each host is looked at on both ports."""
        async with site.running(probes_to_fail=1) as servers:
            await servers.add(server(hosts=3, vendor_port=28000), b"")
            await settle()
            assert sorted(site.network.tried) == [(f"solver-{n}", port) for n in (1, 2, 3) for port in (27000, 28000)]
            site.network.refusing |= {"solver-1", "solver-2"}
            await site.pass_time(30_000)
            assert servers.status(SOLVER) == Status(Standing.DOWN, "2 of its 3 license servers do not answer")

    async def test_while_it_is_down_its_words_stay(self, site: Site) -> None:
        """One more that does not answer is told to operators: for users each change would be an event for every license."""
        async with site.running(probes_to_fail=1) as servers:
            await servers.add(server(hosts=3), b"")
            await settle()
            site.network.refusing |= {"solver-1", "solver-2"}
            await site.pass_time(30_000)
            site.told.clear()
            site.network.refusing.add("solver-3")
            await site.pass_time(30_000)
            assert servers.status(SOLVER) == Status(Standing.DOWN, "2 of its 3 license servers do not answer")
            assert "solver-3" in servers.watcher("solver").details
            assert site.told == []
            site.network.refusing.clear()
            await site.pass_time(30_000)
            site.network.refusing |= {"solver-1", "solver-2", "solver-3"}
            await site.pass_time(30_000)
            assert servers.status(SOLVER) == Status(Standing.DOWN, "3 of its 3 license servers do not answer")

    async def test_a_silent_server_holds_up_nobody(self, site: Site) -> None:
        """It fails when its time is over; the others are looked at on their own timers meanwhile."""
        site.network.silent.add("solver-1")
        async with site.running(probes_to_fail=1) as servers:
            await servers.add(server(), b"")
            await servers.add(server("mesher"), b"")
            await settle()
            assert servers.status(product("mesher")).standing is Standing.UP
            assert servers.status(SOLVER).standing is Standing.UNKNOWN
            await site.pass_time(3_000)
            assert servers.status(SOLVER).standing is Standing.DOWN
            assert servers.watcher("solver").details == "solver-1:27000 did not answer within 3000 ms"

    async def test_looked_at_soon(self, site: Site) -> None:
        """Without waiting for its turn, but no more than once a second however many ask; one that is UP not at all."""
        async with site.running() as servers:
            await servers.add(server(), b"")
            await settle()
            await site.pass_time(5_000)
            before = len(site.network.tried)
            for _ in range(100):
                servers.look_soon(SOLVER)
                await settle()
            assert len(site.network.tried) == before
            site.network.refusing.add("solver-1")
            await site.pass_time(120_000)
            assert servers.status(SOLVER).standing is Standing.DOWN
            await site.pass_time(2_000)
            before = len(site.network.tried)
            for _ in range(100):
                servers.look_soon(SOLVER)
                await settle()
            assert len(site.network.tried) == before + 1
            await site.pass_time(1_000)
            assert len(site.network.tried) == before + 2


class TestChanges:
    async def test_one_server_for_each_name_and_product(self, site: Site) -> None:
        """The second is refused, with what is taken; the first stays as it was."""
        async with site.running() as servers:
            await servers.add(server(solver=3), CANARY)
            other = server("other")
            other.product.id = "solver"
            for wanted, field in ((server(solver=5), "server.name"), (other, "server.product")):
                with pytest.raises(LicenseServerConflict) as raised:
                    await servers.add(wanted, b"")
                assert raised.value.field == field
            assert servers.limits() == {SOLVER: 3}

    async def test_seats(self, site: Site) -> None:
        """The feature with the fewest decides; none = not counted."""
        async with site.running() as servers:
            wanted = server(solver=5, mesher=2)
            wanted.seats_per = pb.SEATS_PER_REPLICA
            await servers.add(wanted, b"")
            assert servers.seats(SOLVER) == SeatPlan("mesher", 2, per_replica=True)
            assert servers.limits() == {SOLVER: 2}
            await servers.set_seats("solver", [])
            assert servers.seats(SOLVER) == SeatPlan("", 0, per_replica=True)
            assert servers.limits() == {SOLVER: None}
            assert site.told[-1] == SOLVER

    async def test_how_a_program_reaches_it(self, site: Site) -> None:
        """With the key, also after a start; a triad as LM_LICENSE_FILE has it."""
        async with site.running() as servers:
            await servers.add(server(hosts=3), CANARY)
        async with site.running() as servers:
            reach = await servers.reach(SOLVER)
            assert reach.key == CANARY
            assert reach.port_at_host == "27000@solver-1,27000@solver-2,27000@solver-3"
            assert await servers.has_key(SOLVER)
            await servers.set_key("solver", b"")
            assert not await servers.has_key(SOLVER)
            assert (await servers.reach(SOLVER)).key == b""

    async def test_removed(self, site: Site) -> None:
        """Nobody looks at it any more, and its product has none."""
        async with site.running() as servers:
            await servers.add(server(), b"")
            await settle()
            await servers.remove("solver")
            assert servers.status(SOLVER).standing is Standing.NONE
            looks = len(site.network.tried)
            await site.pass_time(60_000)
            assert len(site.network.tried) == looks
            with pytest.raises(LicenseServerUnknown):
                await servers.remove("solver")

    async def test_a_caller_who_goes_away(self, site: Site) -> None:
        """What was begun is done: memory and store are at one."""
        async with site.running() as servers:
            site.store.gate.clear()
            adding = asyncio.create_task(servers.add(server(), CANARY))
            await settle()
            adding.cancel()
            with pytest.raises(asyncio.CancelledError):
                await adding
            site.store.gate.set()
            await servers.settle()
            assert (await servers.reach(SOLVER)).key == CANARY

    async def test_a_store_that_is_away(self, site: Site) -> None:
        """The change fails, whatever became of it there is known here as soon as the store is back, and looks go on."""
        async with site.running() as servers:
            await servers.add(server(), b"")
            site.store.away = True
            with pytest.raises(StoreUnavailable):
                await servers.remove("solver")
            del site.store.rows["solver"]
            await settle()
            assert servers.status(SOLVER).standing is not Standing.NONE
            site.store.away = False
            await site.until(lambda: servers.status(SOLVER).standing is Standing.NONE, 1_000)

    async def test_the_same_name_for_another_product(self, site: Site) -> None:
        """Removed and added again behind our back: the old product has none, the new one has it."""
        async with site.running() as servers:
            await servers.add(server(), b"")
            other = server()
            other.product.id = "mesher"
            await site.store.remove_server("solver")
            await site.store.add_server(StoredServer("solver", product("mesher"), other.SerializeToString(), b"", 0))
            await servers.load()
            assert servers.status(SOLVER).standing is Standing.NONE
            assert servers.seats(product("mesher")) is not None


class TestRotation:
    async def test_every_key_is_sealed_anew(self, site: Site) -> None:
        """And readable at any time, by jobs that start meanwhile too."""
        async with site.running() as servers:
            await servers.add(server(), CANARY)
            await servers.add(server("mesher"), b"two")
            await servers.add(server("viewer"), b"")
            before = {name: row.sealed for name, row in site.store.rows.items()}
            rotating = asyncio.create_task(servers.rotate())
            while not rotating.done():
                assert (await servers.reach(SOLVER)).key == CANARY
            assert await rotating == 2
            after = {name: row.sealed for name, row in site.store.rows.items()}
            assert [after[name] == before[name] for name in ("solver", "mesher", "viewer")] == [False, False, True]
            assert (await servers.reach(product("mesher"))).key == b"two"
            assert len([line for line in site.key_file.read_text().splitlines() if not line.startswith("#")]) == 1

    async def test_nothing_is_sealed_meanwhile(self, site: Site) -> None:
        """A key that is given while keys are rotated is sealed with the new one, so it is readable afterwards."""
        async with site.running() as servers:
            await servers.add(server(), CANARY)
            site.store.gate.clear()
            rotating = asyncio.create_task(servers.rotate())
            await settle()
            setting = asyncio.create_task(servers.set_key("solver", b"new"))
            await settle()
            site.store.gate.set()
            await asyncio.gather(rotating, setting)
            assert (await servers.reach(SOLVER)).key == b"new"

    async def test_one_that_fails_changes_nothing(self, site: Site) -> None:
        """When one key cannot be read, or the store is away, all that could be read can be read; the next one finishes."""
        async with site.running() as servers:
            await servers.add(server(), CANARY)
            await servers.add(server("mesher"), b"two")
            good = site.store.rows["mesher"]
            site.store.rows["mesher"] = StoredServer(good.name, good.product, good.body, site.store.rows["solver"].sealed, 0)
            with pytest.raises(VaultError, match="'mesher' is that of another one"):
                await servers.rotate()
            assert (await servers.reach(SOLVER)).key == CANARY
            site.store.rows["mesher"] = good
            site.store.gate.clear()
            rotating = asyncio.create_task(servers.rotate())
            await settle()
            site.store.away = True
            site.store.gate.set()
            with pytest.raises(StoreUnavailable):
                await rotating
            site.store.away = False
            await site.until(lambda: True)
            assert await servers.rotate() == 2
            assert (await servers.reach(SOLVER)).key == CANARY

    async def test_a_lost_file_and_the_way_back(self, site: Site) -> None:
        """Without a copy of the file: keys are taken away and given again."""
        async with site.running() as servers:
            await servers.add(server(), CANARY)
            await servers.add(server("mesher"), b"two")
            site.key_file.unlink()
            with pytest.raises(VaultError, match="put your copy of it back"):
                await servers.reach(SOLVER)
            with pytest.raises(VaultError, match="--no-key"):
                await servers.set_key("solver", CANARY)
            await servers.set_key("mesher", b"")
            await servers.set_key("solver", CANARY)
            await servers.set_key("mesher", b"two")
            assert (await servers.reach(product("mesher"))).key == b"two"
