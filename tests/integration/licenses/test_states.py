"""Licenses follow their server, maintenance, what is sold and what was paid.

Each change is a line of history and told to Core, in order."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from fakes.license_inside import ALICE, HOUR_MS, MESHER, SOLVER, START_MS, Inside, inside
from fakes.licensed import license_message
from serai.events.v1.events_service_pb2 import Event
from serai.licenses.v1.license_pb2 import MAINTENANCE_AVAILABILITY_MINOR_DISRUPTION, MAINTENANCE_AVAILABILITY_NO_SERVICE
from serai_server.licenses import words
from serai_server.licenses.ports import Standing
from serai_server.store.license_model import LicenseState, Payment
from serai_server.store.model import Outcome

PREPARING, READY, UNAVAILABLE = LicenseState.PREPARING, LicenseState.READY, LicenseState.UNAVAILABLE
CHARGE = ("charge", "license-5123-1")


@pytest.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Inside]:
    async with inside(tmp_path) as made:
        yield made


async def test_the_life_of_a_license(site: Inside) -> None:
    """PREPARING until its server answers; READY and charged, once; UNAVAILABLE while it is down; READY again."""
    await site.bought()
    site.servers.stands(SOLVER, Standing.UNKNOWN)
    await site.passes()
    assert (await site.state(), await site.told()) == (PREPARING, [])
    site.servers.stands(SOLVER, Standing.UP)
    await site.passes()
    site.servers.stands(SOLVER, Standing.DOWN, "it refused")
    await site.passes(1_000)
    site.servers.stands(SOLVER, Standing.UP)
    await site.passes(1_000)
    await site.passes()
    assert await site.told() == [("update", "READY"), CHARGE, ("update", "UNAVAILABLE"), ("update", "READY")]
    assert await site.history() == [
        (PREPARING, words.PREPARING),
        (READY, words.READY),
        (None, words.asked_to_pay("license-5123-1")),
        (UNAVAILABLE, words.down("it refused")),
        (READY, words.READY),
    ]
    assert site.moved == [SOLVER.key] * 3
    row = await site.row()
    assert (row.payment, row.charges) == (Payment.ASKED, 1)


async def test_what_core_is_told_of_a_charge(site: Inside) -> None:
    """One unit of one license, at the price of the settings, for who owns it."""
    await site.bought(project="p")
    site.servers.stands(SOLVER, Standing.UP)
    await site.passes()
    charge = Event.FromString((await site.unsettled())[-1].body).charge
    assert (charge.units, charge.number_of_products, charge.total_units, charge.total_usage) == (1, 1, 1, 7)
    assert (charge.owner.created_by, charge.owner.project, charge.product.id) == ("alice", "p", "solver")


async def test_a_product_without_a_price_charges_nothing(site: Inside) -> None:
    await site.bought(product=MESHER)
    site.servers.stands(MESHER, Standing.UP)
    await site.passes()
    assert await site.told() == [("update", "READY")]
    assert (await site.row()).payment is Payment.PAID


async def test_a_product_without_a_server(site: Inside) -> None:
    """A license that never had one is still being prepared; one that had becomes UNAVAILABLE, and comes back with another server."""
    await site.bought()
    await site.passes()
    assert (await site.state(), await site.told()) == (PREPARING, [])
    site.servers.stands(SOLVER, Standing.UP)
    await site.passes()
    await site.bought("5124")
    site.servers.stands(SOLVER, Standing.NONE)
    await site.passes()
    assert ((await site.row()).status, await site.state()) == (words.NO_SERVER, UNAVAILABLE)
    assert await site.state("5124") is PREPARING
    site.servers.stands(SOLVER, Standing.UNKNOWN)
    await site.passes()
    assert await site.state() is UNAVAILABLE
    site.servers.stands(SOLVER, Standing.UP)
    await site.passes()
    assert [await site.state(one) for one in ("5123", "5124")] == [READY, READY]


async def test_a_new_license_of_a_server_that_is_down_is_told_so(site: Inside) -> None:
    """It never was READY, so nothing is charged."""
    site.servers.stands(SOLVER, Standing.DOWN)
    await site.bought()
    await site.passes()
    assert await site.told() == [("update", "UNAVAILABLE")]
    assert (await site.row()).payment is Payment.OPEN


async def test_words_that_change_are_told_without_a_state(site: Inside) -> None:
    """Why a server is down may change; Core of 2021 refuses nothing of that kind, and no state is told twice."""
    site.servers.stands(SOLVER, Standing.DOWN, "one reason")
    await site.bought()
    await site.passes()
    site.servers.stands(SOLVER, Standing.DOWN, "another reason")
    await site.passes()
    await site.passes()
    assert await site.told() == [("update", "UNAVAILABLE"), ("update", words.down("another reason"))]


async def test_windows_open_and_close_by_time(site: Inside) -> None:
    """A pass is wanted at each edge, to the millisecond, when that is sooner than the next pass would be."""
    site.servers.stands(SOLVER, Standing.UP)
    await site.bought()
    await site.passes()
    await site.window("a", START_MS + 10_000, START_MS + 20_500, MAINTENANCE_AVAILABILITY_NO_SERVICE)
    await site.window("b", START_MS + 20_500, START_MS + 30_000, MAINTENANCE_AVAILABILITY_MINOR_DISRUPTION)
    assert await site.passes() == 10.0
    assert await site.state() is READY
    assert await site.passes(9_999) == 0.001
    assert await site.state() is READY
    assert await site.passes(1) == 10.5
    assert (await site.state(), "Work a." in (await site.row()).status) == (UNAVAILABLE, True)
    assert await site.passes(10_500) == 9.5
    row = await site.row()
    assert (row.state, "minor disruptions" in row.status) == (READY, True)
    assert await site.passes(9_500) == 15.0
    assert (await site.row()).status == words.READY
    assert [word for kind, word in await site.told() if kind == "update"] == ["READY", "UNAVAILABLE", "READY", words.READY]


async def test_a_window_stays_closed_while_the_server_is_down(site: Inside) -> None:
    """After maintenance without an end was dropped, the server's own standing counts."""
    site.servers.stands(SOLVER, Standing.UP)
    await site.bought()
    await site.window("a", START_MS, 0, MAINTENANCE_AVAILABILITY_NO_SERVICE)
    await site.passes()
    assert await site.told() == [("update", "UNAVAILABLE")]
    site.servers.stands(SOLVER, Standing.DOWN)
    await site.licenses.remove_window("a")
    await site.passes()
    assert (await site.row()).status == words.down("")


async def test_what_the_settings_sell_no_more(tmp_path: Path) -> None:
    """Licenses that are left cannot be used, whatever their server says; when it is back, so are they. Nothing is charged twice."""
    async with inside(tmp_path) as site:
        site.servers.stands(SOLVER, Standing.UP)
        await site.bought()
        await site.passes()
        less = Inside(site.store, site.clock, MESHER)
        less.servers.stands(SOLVER, Standing.UP)
        await less.passes()
        assert ((await less.row()).status, await less.state()) == (words.NOT_SOLD, UNAVAILABLE)
        again = Inside(site.store, site.clock)
        again.servers.stands(SOLVER, Standing.UP)
        await again.passes()
        assert await again.state() is READY
        assert (await again.told()).count(CHARGE) == 1


async def test_a_deleted_license_is_left_alone(site: Inside) -> None:
    """Neither moved nor charged again; another one that could not be paid is, after an hour."""
    site.servers.stands(SOLVER, Standing.UP)
    await site.bought("5123")
    await site.bought("5124")
    await site.passes()
    await site.settle(Outcome.INSUFFICIENT_FUNDS, kind="charge")
    await site.settle(Outcome.DELIVERED)
    await site.service.delete(["5123"], ALICE)
    await site.settle(Outcome.DELIVERED)
    await site.passes(HOUR_MS + 1)
    assert await site.told() == [("charge", "license-5124-1")]


async def test_many_licenses_of_a_product_move_together(site: Inside) -> None:
    """More than fit into one transaction."""
    site.servers.stands(SOLVER, Standing.UP)
    for begin in (0, 250):
        await site.of_core.create([license_message(str(10_000 + n), product=SOLVER) for n in range(begin, begin + 250)])
    await site.passes()
    told = await site.told()
    assert (len(told), told.count(("update", "READY"))) == (1_000, 500)
    assert {await site.state(str(10_000 + n)) for n in range(500)} == {READY}
