"""What each life should have cost and how it should have ended, worked out from the machine's own record by the rules of billing.

Nothing of the product is called here. A job is billed for the time that it ran; pauses are free; the last partial period is rounded up,
once; no job is billed beyond its limit; a price per unit is taken once; all times replicas. Core's books say what was taken, the database
what was written.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import dataclass

from serai_backends.model import End
from serai_devcore.accounts import Charge
from serai_devcore.wire import Generation

from fakes.lives.machine import Program
from fakes.lives.plan import PERIODS, PRICE, Life
from fakes.lives.world import Outcome, wallet

TOLERANCE_MS = 1_000
STATES = {4: "SUCCESS", 5: "FAILURE", 6: "EXPIRED"}
NO_CREDITS = "The job was terminated (No credits)"


@dataclass(frozen=True, slots=True)
class Row:
    state: int
    status: str
    time_limit_ms: int
    charged_periods: int
    ran_ms: int


@dataclass(frozen=True, slots=True)
class Billed:
    first: int
    units: int
    products: int
    charge_id: str


class Judge:
    """All that is wrong with a world, in words; and what was tried in it."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._today = outcome.core.generation is Generation.G2026
        self.wrong: list[str] = [*outcome.machine.faults]
        self.tried: Counter[str] = Counter()
        connection = sqlite3.connect(outcome.database)
        self._rows = {
            r[0]: Row(*r[1:]) for r in connection.execute("SELECT id, state, status, time_limit_ms, charged_periods, ran_ms FROM jobs")
        }
        self._ledger: dict[str, list[Billed]] = {}
        for job_id, *rest in connection.execute(
            "SELECT job_id, first_period, units, number_of_products, charge_id FROM ledger ORDER BY 1, 2"
        ):
            self._ledger.setdefault(job_id, []).append(Billed(*rest))
        connection.close()
        self._charges: dict[str, list[Charge]] = {}
        for charge in outcome.core.accounts.charges:
            self._charges.setdefault(charge.charge_id, []).append(charge)

    def judge(self) -> None:
        for life in self._outcome.lives:
            self._life(life)
        self._core_charges()
        self.tried["crashes"] = self._outcome.crashes
        self.tried["answers of Core lost"] = self._outcome.core.lost_answers
        self.tried["charges"] = sum(len(rows) for rows in self._ledger.values())
        self.tried["charges that came again"] = sum(c.duplicate for c in self._outcome.core.accounts.charges)

    def _says(self, life: Life, words: str) -> None:
        self.wrong.append(f"{life.id}: {words}")

    def _life(self, life: Life) -> None:
        row = self._rows.get(life.id)
        if row is None:
            self._says(life, "was never created")
            return
        program = self._outcome.machine.programs.get(life.id)
        if program is not None and program.end is None:
            self._says(life, "still runs on the machine")
            return
        self._state(life, row, program)
        self._bill(life, row, program)
        self._count(life, row, program)

    # --- money ------------------------------------------------------------------------------------------------------------------------

    def _bill(self, life: Life, row: Row, program: Program | None) -> None:
        ran_ms = sum(b - a for a, b in program.stretches) if program is not None and program.started else None
        if ran_ms is not None and row.time_limit_ms:
            ran_ms = min(ran_ms, row.time_limit_ms)
        least, exact, most = (_units(life, ran_ms, off) for off in (-TOLERANCE_MS, 0, TOLERANCE_MS))
        rows = self._ledger.get(life.id, [])
        units = sum(r.units for r in rows)
        if not least <= units <= most:
            self._says(
                life, f"{units} periods billed, {least} to {most} used ({life.product}, ran {ran_ms} ms, limit {row.time_limit_ms} ms)"
            )
        self.tried["bills that are not exact to the ms"] += units != exact
        if row.charged_periods != units:
            self._says(life, f"the row says {row.charged_periods} periods, the ledger {units}")
        at = 0
        for billed in rows:
            if billed.first != at or billed.units < 1:
                self._says(life, f"period {billed.first} is billed where {at} is next")
            at = billed.first + billed.units
            if billed.products != life.replicas:
                self._says(life, f"billed for {billed.products} replicas, it has {life.replicas}")
        self._taken(life, rows, units * life.replicas * PRICE)

    def _taken(self, life: Life, rows: list[Billed], owed: int) -> None:
        purse = self._outcome.core.accounts.wallets.get(wallet(life))
        used = purse.used if purse is not None else 0
        # Core of 2021 takes what there is; today's books usage beyond the quota.
        expected = owed if self._today or life.quota is None else min(owed, life.quota)
        if used != expected:
            self._says(life, f"Core took {used} credits, {expected} are owed")
        if not self._today:
            for billed in rows:
                if {(c.periods, c.number_of_products) for c in self._charges.get(billed.charge_id, [])} != {
                    (billed.units, billed.products)
                }:
                    self._says(life, f"Core's charge {billed.charge_id} is not what the ledger says")

    def _core_charges(self) -> None:
        """A charge id is taken once, and means the same each time it comes. A total is one that the ledger had at some time; one that comes
        again may be an older one, and the newer ones come again after it."""
        totals = {f"job-{life.id}": self._totals(life) for life in self._outcome.lives} if self._today else {}
        known = {r.charge_id for rows in self._ledger.values() for r in rows}
        for charge_id, charges in self._charges.items():
            if charge_id in totals:
                self.tried["totals that were older for a while"] += sum(c.charged < 0 for c in charges)
                if not {c.price for c in charges} <= totals[charge_id]:
                    self.wrong.append(
                        f"totals {[c.price for c in charges]} were reported as {charge_id}, the ledger had {totals[charge_id]}"
                    )
                continue
            if charge_id not in known:
                self.wrong.append(f"Core has a charge {charge_id} that no ledger knows")
            if sum(c.charged != 0 for c in charges) > 1:
                self.wrong.append(f"charge {charge_id} was taken {len(charges)} times")

    def _totals(self, life: Life) -> set[int]:
        return {(r.first + r.units) * life.replicas * PRICE for r in self._ledger.get(life.id, [])}

    # --- states -----------------------------------------------------------------------------------------------------------------------

    def _state(self, life: Life, row: Row, program: Program | None) -> None:
        at_core = self._outcome.core.jobs[life.id]
        state = STATES.get(row.state, f"state {row.state}")
        if at_core.state != state:
            self._says(life, f"Core has {at_core.state}, the store {state}")
        if row.time_limit_ms not in self._outcome.limits_ms[life.id]:
            self._says(life, f"its limit is {row.time_limit_ms} ms, expected one of {self._outcome.limits_ms[life.id]}")
        allowed = self._allowed(life, row, program)
        if (state, row.status == NO_CREDITS) not in allowed:
            self._says(life, f"ended as {state} ({row.status}), expected one of {sorted(allowed)}")
        ran = any(s == "RUNNING" for s in at_core.states)
        if ran != (program is not None and program.started):
            self._says(life, f"Core saw {at_core.states}, the machine {'ran' if program and program.started else 'did not run'} it")
        ran_ms = sum(b - a for a, b in program.stretches) if program is not None else 0
        if abs(row.ran_ms - ran_ms) > TOLERANCE_MS:
            self._says(life, f"the row says that it ran {row.ran_ms} ms, the machine {ran_ms} ms")

    def _allowed(self, life: Life, row: Row, program: Program | None) -> set[tuple[str, bool]]:
        """(state, for want of credits) that it may have ended with."""
        if life.script.refused and program is None:
            return {("FAILURE", False), ("SUCCESS", False)} if life.id in self._outcome.terminated else {("FAILURE", False)}
        if program is not None and program.end is End.EXITED:
            failed = self._today and life.script.exit_code != 0
            return {("FAILURE" if failed else "SUCCESS", False)}
        allowed: set[tuple[str, bool]] = set()
        if life.id in self._outcome.terminated:
            allowed.add(("SUCCESS", False))
        if life.quota is not None:
            allowed.add(("SUCCESS", True))
        if program is not None and row.time_limit_ms and (program.ran_at_cancel_ms or 0) >= row.time_limit_ms:
            allowed.add(("EXPIRED", False))
        return allowed

    def _count(self, life: Life, row: Row, program: Program | None) -> None:
        self.tried[f"ended {STATES[row.state]}"] += 1
        self.tried["ended for want of credits"] += row.status == NO_CREDITS
        self.tried["paused"] += program is not None and len(program.stretches) > 1
        self.tried["extended"] += row.time_limit_ms != life.limit_s * 1_000
        self.tried["never ran"] += program is None or not program.started


def _units(life: Life, ran_ms: int | None, off_ms: int) -> int:
    if ran_ms is None:
        return 0
    period_ms = PERIODS[life.product]
    return 1 if not period_ms else max(-(-(ran_ms + off_ms) // period_ms), 1)
