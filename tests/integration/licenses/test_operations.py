"""The operator's use cases where jobs hold seats, and what a window's coming and going tells to others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog
from fakes.license_servers import CATEGORY, PROVIDER, Site, product, server
from serai.core.v1.resources_pb2 import ProductReference
from serai.licenses.v1 import license_servers_service_pb2 as pb
from serai.licenses.v1.license_pb2 import MAINTENANCE_AVAILABILITY_NO_SERVICE, Maintenance
from serai_server.errors import InvalidRequest, LicenseServerUnknown, WrongState
from serai_server.licenses.products import LicenseCatalog, LicenseProduct
from serai_server.licenses.servers.operations import LicenseServerOperations
from serai_server.licenses.servers.registry import Servers
from serai_server.store.license_model import Line

SOLVER = product("solver")
REFERENCE = ProductReference(id="solver", category=CATEGORY, provider=PROVIDER)


@dataclass
class Operator:
    site: Site
    servers: Servers
    does: LicenseServerOperations


@pytest.fixture
async def operator(tmp_path: Path) -> AsyncIterator[Operator]:
    site = Site(tmp_path)
    catalog = LicenseCatalog([LicenseProduct("solver", CATEGORY, PROVIDER)])
    async with site.running() as servers:
        yield Operator(site, servers, LicenseServerOperations(servers, site.store, catalog, lambda: site.clock.now_ms() + site.stepped_ms))


async def test_seats_that_are_held(operator: Operator) -> None:
    """They are in the report, and keep the server from being removed unless that is forced."""
    await operator.does.add(server(solver=5), b"")
    operator.site.store.held_lines[SOLVER] = Line(SOLVER, held=3, holders=2, waiting=4)
    operator.site.store.counts[SOLVER] = 17
    report = await operator.does.get("solver")
    assert (report.seats[0].held, report.waiting_jobs, report.licenses) == (3, 4, 17)
    assert not report.seats[0].HasField("observed_used")
    assert list(await operator.does.list()) == [report]
    with pytest.raises(WrongState, match="2 jobs hold 3 seats of license server 'solver'; wait until they are over"):
        await operator.does.remove("solver", force=False)
    await operator.does.remove("solver", force=True)
    assert await operator.does.list() == []


async def test_a_key_that_cannot_be_read(operator: Operator) -> None:
    """The operator sees it wherever the server is shown, with what to do, until the file is right again."""
    await operator.does.add(server(solver=5), b"a-vendors-key")
    operator.site.key_file.chmod(0o644)
    for report in (await operator.does.get("solver"), *await operator.does.list(), await operator.does.probe("solver")):
        assert report.words.startswith("jobs wait for its key: others can read or write"), report.words
        assert report.has_key
    operator.site.key_file.chmod(0o600)
    assert "key" not in (await operator.does.get("solver")).words


async def test_a_server_that_has_begun_to_fail(operator: Operator) -> None:
    """It is UP until it has failed often enough, and says how often it has; whether it is asked for its seats is told too."""
    await operator.does.add(server(solver=5), b"")
    assert ((await operator.does.probe("solver")).words, (await operator.does.get("solver")).is_asked) == ("", False)
    operator.site.network.refusing.add("solver-1")
    for failures in (1, 2):
        report = await operator.does.probe("solver")
        assert report.state == pb.LICENSE_SERVER_STATE_UP
        assert report.words.startswith(f"{failures} of 3 looks in a row have failed; "), report.words
    report = await operator.does.probe("solver")
    assert (report.state, "looks in a row" in report.words) == (pb.LICENSE_SERVER_STATE_DOWN, False)


async def test_each_change_is_in_the_log(operator: Operator) -> None:
    """A line for each, with what was changed and never the key; a refused one has none."""
    now_ms = operator.site.clock.now_ms()
    key = b"a-vendors-key"
    with structlog.testing.capture_logs() as lines:
        await operator.does.add(server(solver=5), key)
        await operator.does.set_key("solver", key)
        await operator.does.set_seats("solver", server(solver=3).features)
        await operator.does.set_addresses("solver", [pb.LicenseServerAddress(host="lic2")], 27_011)
        await operator.does.rotate_key()
        planned = Maintenance(description="d", availability=MAINTENANCE_AVAILABILITY_NO_SERVICE, starts_at=now_ms)
        window = await operator.does.add_maintenance(REFERENCE, planned)
        await operator.does.remove_maintenance(window.id)
        await operator.does.remove("solver", force=False)
        with pytest.raises(LicenseServerUnknown):
            await operator.does.remove("solver", force=False)
    told = [{key: value for key, value in line.items() if key != "log_level"} for line in lines]
    expected = [
        {"event": "license_server.added", "server": "solver", "product": SOLVER, "features": 1, "has_key": True},
        {"event": "license_server.key_set", "server": "solver", "has_key": True},
        {"event": "license_server.seats_set", "server": "solver", "seats": {"solver": 3}},
        {"event": "license_server.addresses_set", "server": "solver", "addresses": ["27000@lic2"], "vendor_port": 27_011},
        {"event": "license_servers.key_rotated", "resealed": 1},
        {
            "event": "license_maintenance.added",
            "window": window.id,
            "product": SOLVER,
            "availability": "NO_SERVICE",
            "starts_at_ms": now_ms,
            "ends_at_ms": 0,
        },
        {"event": "license_maintenance.removed", "window": window.id, "product": SOLVER},
        {"event": "license_server.removed", "server": "solver", "product": SOLVER, "held": 0},
    ]
    assert [line for line in told if line in expected] == expected
    assert key.decode() not in str(lines)


async def test_fewer_seats_than_are_held(operator: Operator) -> None:
    """Taken; the limit is what decides from now on."""
    await operator.does.add(server(solver=5), b"")
    operator.site.store.held_lines[SOLVER] = Line(SOLVER, held=3, holders=3, waiting=0)
    features = server(solver=1).features
    assert (await operator.does.set_seats("solver", features)).seats[0].seats == 1
    assert operator.servers.limits() == {SOLVER: 1}


async def test_windows(operator: Operator) -> None:
    """Whoever asked to be told hears of each; one that is over is not listed, and can still be dropped; others cannot."""
    now_ms = operator.site.clock.now_ms()
    planned = Maintenance(
        description="d", availability=MAINTENANCE_AVAILABILITY_NO_SERVICE, starts_at=now_ms, estimated_ends_at=now_ms + 5_000
    )
    window = await operator.does.add_maintenance(REFERENCE, planned)
    assert operator.site.told == [SOLVER]
    assert list(await operator.does.list_maintenance()) == [window]
    operator.site.clock.move(5_000)
    assert list(await operator.does.list_maintenance()) == []
    await operator.does.remove_maintenance(window.id)
    assert operator.site.told == [SOLVER, SOLVER]
    with pytest.raises(LicenseServerUnknown, match="no maintenance window"):
        await operator.does.remove_maintenance(window.id)


async def test_windows_are_of_the_time_of_day(operator: Operator) -> None:
    """As licenses and Core know it, also after somebody has set it forward: what is over by it is not listed and cannot be planned."""
    now_ms = operator.site.clock.now_ms()
    planned = Maintenance(
        description="d", availability=MAINTENANCE_AVAILABILITY_NO_SERVICE, starts_at=now_ms, estimated_ends_at=now_ms + 60_000
    )
    await operator.does.add_maintenance(REFERENCE, planned)
    operator.site.stepped_ms = 3_600_000
    assert list(await operator.does.list_maintenance()) == []
    with pytest.raises(InvalidRequest, match="over"):
        await operator.does.add_maintenance(REFERENCE, planned)
