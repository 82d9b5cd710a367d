"""Many licenses on a real server with its real gateway, Core with real books, and an operator who looks at them: a world for their bills.

The server's power goes out between any two of its steps, Core is away for hours, answers get lost, and now and then the store is put back
from a copy that was made before.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections import Counter, defaultdict
from pathlib import Path
from random import Random

import pytest
from serai.licenses.v1 import license_servers_service_pb2 as pb
from serai_devcore import Generation, Settings
from serai_devcore import Product as CoreProduct
from serai_devcore import licenses as rules
from serai_devcore.accounts import WalletKey
from serai_devcore.state import State
from serai_devcore.wire import CoreError, JsonObject
from serai_gateway.codec import Codec
from serai_gateway.control.calls import Calls
from serai_gateway.control.client import CoreClient
from serai_gateway.control.deliveries import Deliveries
from serai_gateway.settings import CoreSettings
from serai_gateway.tokens import Tokens
from serai_gateway.upstream import InProcessUpstream
from serai_server import main
from serai_server.errors import LicenseUnknown, WrongState
from serai_server.licenses.access import Actor
from serai_server.licenses.products import LicenseProduct
from serai_server.rpc.health import Health
from serai_server.rpc.services import dispatcher
from serai_server.store import sqlite
from serai_server.store.license_model import LicenseState, Payment, StoredLicense
from serai_server.store.model import CORE

from fakes.clock import FakeClock
from fakes.core_on import core_on
from fakes.devcore_licenses import own
from fakes.instant import InstantBackend, InstantMachine
from fakes.licensed import license_message, licenses_plan, server_message
from fakes.lives.plan import HOUR, MINUTE, SECOND, log_uniform
from fakes.lives.power import Power, powered_link, powered_open_store
from fakes.lives.surroundings import CoreSide, CoreTransport, PoweredUpstream
from fakes.lmgrd import FakeLmgrd

PRICE = 1_000
OURS = LicenseProduct("example-license", "example-license", "example", price=PRICE)
THEIRS = CoreProduct("example-license", "example-license", "example", price_per_unit=PRICE, kind="license", unit="PER_UNIT")
_PATIENCE = 60_000


class LicensesCoreSide(CoreSide):
    """Licenses, and wallets of which some are empty, too small, just enough or not there at all."""

    def __init__(self, generation: Generation, clock: FakeClock, dice: Random) -> None:
        super().__init__(generation, clock, [], dice)
        self.state = State(Settings(generation=generation), clock)
        self.accounts = self.state.accounts
        self.accounts.initial_credits = None
        self.accounts.reports_early = True
        self.accounts.add_product(THEIRS)

    def _result(self, path: str, items: list[JsonObject]) -> JsonObject:
        match path:
            case "/api/licenses/control/update":
                rules.update(self.state.resources, "example", items, self.state.clock.now_ms())
                return {}
            case "/api/licenses/control/chargeCredits" if self.generation is Generation.G2021:
                return self.accounts.charge_for("example", items, self.state.resources.owned_licenses)
            case "/api/accounting/v2/reportUsage" if self.generation is Generation.G2026:
                return self.accounts.report_usage("example", items)
            case _:
                raise CoreError(404, "Not found")

    def taken(self) -> dict[str, int]:
        """Credits, by license."""
        found: dict[str, int] = defaultdict(int)
        for charge in self.accounts.charges:
            found[charge.job_id or charge.charge_id.removeprefix("license-")] += charge.charged
        return found


class Bills:
    """One seed's world, and what is wrong in it."""

    def __init__(self, folder: Path, seed: int, count: int, generation: Generation, patch: pytest.MonkeyPatch) -> None:
        self._folder, self._patch = folder, patch
        self._dice = Random(f"{seed} {generation.value} licenses")
        self._clock = FakeClock()
        self.core = LicensesCoreSide(generation, self._clock, self._dice)
        self._owners = {f"{5_000 + n}": f"user{n}" for n in range(count)}
        self._missing = set(self._owners)
        """Not made yet, or lost with a store that was put back."""
        self._granted: set[str] = set()
        """Licenses that the operator took for paid though Core had not taken all."""
        self.tried: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._ending = False
        self._put_back_ms: list[int] = []
        self._at: dict[str, int] = {}
        for license_id, user in self._owners.items():
            own(self.core.state, license_id, product=THEIRS, username=user)
            quota = self._dice.choice([None, 0, PRICE // 2, PRICE, PRICE * 3 // 2, PRICE * 2, PRICE * 5])
            if quota is not None:
                self.core.accounts.set_credits(_wallet(user), quota)
        (folder / "refresh.token").write_text("the refresh token")

    async def run(self, lives: int) -> None:
        """That many processes, then one that is left alone until all is settled."""
        async with FakeLmgrd(solver=5) as lmgrd:
            for number in range(lives):
                await self._life(lmgrd.port)
                self._away(number)
            self._ending = True
            self.core.away_until_ms = 0
            for user in self._owners.values():
                self.core.accounts.set_credits(_wallet(user), PRICE * 10)
            await self._life(lmgrd.port)

    # One process

    async def _life(self, port: int) -> None:
        power = Power()
        power.left = None if self._ending else self._dice.choice([self._dice.randint(30, 300), self._dice.randint(300, 3_000)])
        self._patch.setattr(main, "open_store", powered_open_store(power))
        self._patch.setattr(sqlite, "SqliteLink", powered_link(power))
        self._settled = False
        process = asyncio.create_task(self._serve(power, port))
        for _ in range(_PATIENCE):
            if not power.on or process.done() or self._settled:
                break
            self._clock.move(self._dice.choice([1, 50, SECOND, MINUTE, 10 * MINUTE if self._dice.random() < 0.1 else SECOND]))
            if not self._ending and self._dice.random() < 0.002:
                self.core.away_until_ms = self._clock.now_ms() + log_uniform(self._dice, SECOND, 3 * HOUR)
            await asyncio.sleep(0)
            if power.busy:
                await power.calm()
        else:
            self.wrong.append("it does not come to an end")
        self.tried["crashes"] += not power.on
        power.cut()
        process.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await process

    async def _serve(self, power: Power, port: int) -> None:
        clock, today = self._clock, self.core.generation is Generation.G2026
        plan = licenses_plan(self._folder, OURS)
        async with core_on(self._folder, InstantBackend(InstantMachine()), clock, today=today, licenses=plan) as core:
            if not await core.store.licenses.servers():
                await core.licensing.servers.add(server_message(port, 5, product=OURS), b"")
            front = dispatcher(jobs=core.jobs, changes=core.changes, events=core.events, health=Health(), clock=clock)
            codec, transport = Codec(), CoreTransport(self.core, power)
            token = self._folder / "refresh.token"
            client = CoreClient(Calls(transport, Tokens(transport, codec, token, clock)), codec, "2026" if today else "2021", clock)
            settings = CoreSettings(url="http://core", public_key_file="", refresh_token_file=str(token), window=20)
            upstream = PoweredUpstream(InProcessUpstream(front), power)
            deliveries = Deliveries(upstream, client, settings, clock, random=self._dice.random)
            async with asyncio.TaskGroup() as group:
                group.create_task(deliveries.run())
                group.create_task(self._people(core))

    async def _people(self, core: main.Core) -> None:
        """Core, users and the operator, in turn."""
        while True:
            for license_id in self._dice.sample(sorted(self._missing), min(3, len(self._missing))):
                await core.licensing.of_core.create([license_message(license_id, self._owners[license_id], product=OURS)])
                self._missing.discard(license_id)
            if not self._ending and self._dice.random() < 0.05:
                await self._delete(core, self._dice.choice(sorted(self._owners)))
            if self._dice.random() < 0.1:
                self._fill(self._dice.choice(sorted(self._owners.values())))
            await self._operate(core)
            self._look(await core.store.licenses.find(sorted(self._owners)))
            if self._ending and await self._over(core):
                self._settled = True
            await self._clock.sleep(self._dice.choice([1, 60, 600]))

    async def _delete(self, core: main.Core, license_id: str) -> None:
        with contextlib.suppress(LicenseUnknown):
            await core.licensing.service.delete([license_id], Actor(user=self._owners[license_id]))
            self.tried["deleted"] += 1

    def _fill(self, user: str) -> None:
        self.core.accounts.set_credits(_wallet(user), self._dice.choice([PRICE // 2, PRICE, PRICE * 3]))

    async def _operate(self, core: main.Core) -> None:
        """Who looks at what Core has really taken before a decision, which is what the documentation asks of them."""
        for one in await core.licensing.payments.list():
            self.tried[pb.LicensePaymentState.Name(one.state)] += 1
            if self.core.generation is Generation.G2026 or (not self._ending and self._dice.random() < 0.7):
                continue
            taken = self.core.taken()[one.license_id]
            # Nothing was taken: another charge. All or a part was: that is settled with the owner elsewhere.
            decision = pb.PAYMENT_DECISION_CHARGE_AGAIN if not taken else pb.PAYMENT_DECISION_PAID
            if 0 < taken < PRICE:
                self._granted.add(one.license_id)
            with contextlib.suppress(WrongState):  # something of it is on its way
                await core.licensing.payments.set(one.license_id, decision)
                self.tried[pb.PaymentDecision.Name(decision)] += 1

    # What must be so

    def _look(self, rows: dict[str, StoredLicense]) -> None:
        """At every moment: nobody was charged twice, and who counts as paid was charged."""
        taken = self.core.taken()
        for license_id, amount in taken.items():
            if amount > PRICE:
                charges = [
                    (c.charge_id, c.at_ms, c.charged) for c in self.core.accounts.charges if c.job_id in ("", license_id) and c.charged
                ]
                self.wrong.append(f"license {license_id}: {amount} were taken, and it costs {PRICE}; {self._put_back_ms} {charges}")
        for row in rows.values():
            if row.payment is Payment.PAID and taken[row.id] != PRICE and row.id not in self._granted:
                self.wrong.append(f"license {row.id} counts as paid, and {taken[row.id]} were taken")
            if row.payment.keeps_away and not row.deleted_at_ms and row.state is not LicenseState.UNAVAILABLE:
                self.wrong.append(f"license {row.id} is {row.payment.name} and {row.state.name}")
            if row.payment is Payment.OPEN and row.state is LicenseState.READY:
                self.wrong.append(f"license {row.id} is READY and was not charged")

    async def _over(self, core: main.Core) -> bool:
        """All that are there are paid and can be used, and Core was told everything."""
        rows = await core.store.licenses.find(sorted(self._owners))
        there = [row for row in rows.values() if not row.deleted_at_ms]
        done = all((row.payment, row.state) == (Payment.PAID, LicenseState.READY) for row in there)
        return done and not self._missing and not await core.store.licenses.unsettled_events(CORE)

    # Between two processes

    def _away(self, number: int) -> None:
        self._clock.move(self._dice.choice([0, 0, log_uniform(self._dice, 1, 5 * HOUR)]))
        copy = self._folder / "copy"
        files = sorted(self._folder.glob("serai.db*"))
        match number % 8:
            case 1:
                _copied(files, copy)
            case 6:
                for file in files:
                    file.unlink()
                _copied(sorted(copy.glob("*")), self._folder)
                self.tried["put back"] += 1
                self._put_back_ms.append(self._clock.now_ms())
                # Core names its licenses at every Verify.
                self._missing = set(self._owners)
            case _:
                pass


def _copied(files: list[Path], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for file in files:
        shutil.copy(file, folder / file.name)


def _wallet(user: str) -> WalletKey:
    return WalletKey(f"user:{user}", "example", "example-license")
