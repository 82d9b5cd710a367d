"""What a pass over licenses does when the store fails, when something new overtakes it, and when there is much to do for one product."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fakes.license_money import MESHER, SOLVER, Money, money
from serai_server.licenses.ports import Standing
from serai_server.store.api import StoreUnavailable
from serai_server.store.license_model import LicenseState, Payment
from serai_server.store.model import Outcome


class Failing:
    """The real store of licenses, of which one call of a kind fails, or is preceded by something."""

    def __init__(self, money: Money) -> None:
        self._real = money.store.licenses
        self.fail_decide = 0
        self.before_decide: Any = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    async def decide(self, *values: Any) -> Any:
        self.before_decide()
        if self.fail_decide:
            self.fail_decide -= 1
            raise StoreUnavailable("the database is away")
        return await self._real.decide(*values)


async def test_a_store_that_fails_once(tmp_path: Path) -> None:
    """The products behind are moved in the same pass, and the one that was not is moved by the next one, in a second."""
    async with money(tmp_path, today=False) as site:
        await site.bought("1", product=SOLVER)
        await site.bought("2", product=MESHER)
        failing = Failing(site)
        failing.fail_decide = 1
        other = Money(site.store, site.clock, today=False, licenses=failing)  # pyright: ignore[reportArgumentType] - passes all on
        assert await other.passes() == 1.0
        states = [(await site.row(i)).state for i in ("1", "2")]
        assert sorted(states) == [LicenseState.PREPARING, LicenseState.READY]
        assert await other.passes() > 1.0
        assert {(await site.row(i)).state for i in ("1", "2")} == {LicenseState.READY}


async def test_news_that_overtake_a_pass(tmp_path: Path) -> None:
    """A license that was made while its product was looked at is found by the pass that its making asks for, not ten minutes later."""
    async with money(tmp_path, today=False) as site:
        await site.bought("1")
        failing = Failing(site)
        other = Money(site.store, site.clock, today=False, licenses=failing)  # pyright: ignore[reportArgumentType] - passes all on
        failing.before_decide = lambda: other.states.look(SOLVER.key)
        await other.passes()
        await site.bought("2")
        await other.passes()
        assert (await site.row("2")).state is LicenseState.READY


async def test_the_unpaid_of_one_product_keep_no_other_one_waiting(tmp_path: Path) -> None:
    """300 licenses of a product that is down, older, and one of another product: both are asked again in the same pass."""
    async with money(tmp_path, today=True) as site:
        await site.bought(*(f"1{n:03}" for n in range(300)))
        await site.passes()
        await site.answer(Outcome.INSUFFICIENT_FUNDS)
        await site.rest()
        site.clock.move(1_000)
        await site.bought("2000", product=MESHER)
        await site.passes()
        await site.answer(Outcome.INSUFFICIENT_FUNDS)
        await site.rest()
        await site.passes(hours=1.1)
        asked = await site.charges()
        assert "license-2000-1" in asked
        assert len(asked) == 201
        await site.passes()
        assert len(await site.charges()) == 301


async def test_what_is_down_says_nothing_of_what_is_owed(tmp_path: Path) -> None:
    """Charges are asked again whether the license server answers or not, and one that is paid follows its server again."""
    async with money(tmp_path, today=True) as site:
        await site.bought("5123")
        await site.passes()
        await site.answer(Outcome.INSUFFICIENT_FUNDS)
        await site.rest()
        site.servers.standing = Standing.DOWN
        await site.passes(hours=1.1)
        await site.answer(Outcome.DELIVERED)
        await site.passes()
        row = await site.row()
        assert (row.payment, row.state) == (Payment.PAID, LicenseState.UNAVAILABLE)
        assert "does not answer" in row.status
