"""Core's money: products with prices, wallets by owner, and what a provider's charges do to them.

No I/O. facts 2021 §2.2 (chargeCredits by charge id), today §9 (absolute usage by scope).
A wallet is a quota and what of it is used, both in the product's credits; 2021's balance is the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from serai_devcore.clock import Clock
from serai_devcore.jobs import Job, JobBook
from serai_devcore.wire import (
    CoreError,
    Generation,
    Json,
    JsonObject,
    bad_request,
    boolean_or,
    dig,
    dig_text,
    integer,
    integer_or,
    text,
    text_or_none,
)

SAVE_EVERY_MS = 30_000


@dataclass(frozen=True, slots=True)
class Product:
    """A machine type with its price."""

    id: str
    category: str
    provider: str
    price_per_unit: int = 1_000_000
    """Credits for one period of one replica."""
    unit: str = "CREDITS_PER_MINUTE"
    cpu: int = 1
    memory_gib: int = 2
    gpu: int = 0
    description: str = "An example machine"
    tags: tuple[str, ...] = ()
    """Of a license: words by which applications find it."""
    kind: str = "compute"
    """`compute`, `license`, `storage`, …: `type` of the products API."""
    version: int = 1
    """Counted by Core: registering a known name again makes the next one."""
    registered: JsonObject | None = field(default=None, compare=False)
    """As the provider registered it; None = it was made here."""

    @property
    def key(self) -> tuple[str, str, str]:
        return self.provider, self.category, self.id


class Billed(Protocol):
    """A job or a license: something that has an owner and a price."""

    id: str

    @property
    def owner(self) -> str: ...

    @property
    def key(self) -> tuple[str, str, str]: ...


@dataclass(frozen=True, slots=True)
class WalletKey:
    """Who pays for what: a project if there is one, else the user; one wallet per category of products."""

    owner: str
    """`project:{id}` or `user:{name}`."""
    provider: str
    category: str


@dataclass(slots=True)
class Wallet:
    quota: int
    used: int = 0

    @property
    def left(self) -> int:
        return max(0, self.quota - self.used)


@dataclass(frozen=True, slots=True)
class Usage:
    """What Core has written to its database of what was used."""

    used: dict[WalletKey, int]
    scopes: dict[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class Charge:
    """One item of a charge call as it came, and what it did."""

    at_ms: int
    job_id: str
    """Or a license's."""
    charge_id: str
    periods: int
    """`units` of 2021."""
    number_of_products: int
    price: int
    """What it should cost; credits."""
    charged: int
    """What was taken; credits, negative when an absolute usage was lowered."""
    duplicate: bool = False
    short: bool = False
    """The wallet did not hold the price."""


@dataclass(slots=True)
class Accounts:
    generation: Generation
    clock: Clock
    jobs: JobBook
    initial_credits: int | None = 1_000_000_000
    """What a wallet holds that is asked for the first time; None = an owner has only the wallets that were set."""
    reports_early: bool = False
    """2021's quirk: shortage is reported already when less is left than was just taken (facts 2021 §2.2 "Shortage")."""
    products: dict[tuple[str, str, str], Product] = field(default_factory=dict[tuple[str, str, str], Product])
    wallets: dict[WalletKey, Wallet] = field(default_factory=dict[WalletKey, Wallet])
    charges: list[Charge] = field(default_factory=list[Charge])
    _taken: set[str] = field(default_factory=set[str])
    _scopes: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    _saved: Usage = field(default_factory=lambda: Usage({}, {}))
    _changed_at_ms: int = 0

    def add_product(self, product: Product) -> None:
        """A new one, or a new version of a known one: the newest price counts for all jobs."""
        known = self.products.get(product.key)
        self.products[product.key] = product if known is None else replace(product, version=known.version + 1)

    def scopes_of(self, owner: str) -> dict[str, int]:
        """2026: the amount last reported in each scope of this owner."""
        return {scope: amount for (whose, scope), amount in self._scopes.items() if whose == owner}

    def lose_unsaved_usage(self) -> None:
        """What a crash of today's Core does: usage since its last write is gone; wallets are written every 30 s (today §1)."""
        self._save_if_due()
        for key, wallet in self.wallets.items():
            wallet.used = self._saved.used.get(key, 0)
        self._scopes = dict(self._saved.scopes)

    def _save_if_due(self) -> None:
        """Core writes at each turn of 30 s, so what stood before this turn is safe."""
        now_ms = self.clock.now_ms()
        if now_ms // SAVE_EVERY_MS > self._changed_at_ms // SAVE_EVERY_MS:
            self._saved = Usage({key: wallet.used for key, wallet in self.wallets.items()}, dict(self._scopes))
        self._changed_at_ms = now_ms

    def wallet(self, key: WalletKey) -> Wallet | None:
        if key not in self.wallets and self.initial_credits is not None:
            self.wallets[key] = Wallet(self.initial_credits)
        return self.wallets.get(key)

    def set_credits(self, key: WalletKey, credits_left: int) -> None:
        """Make the balance this, whatever it was."""
        wallet = self.wallets.setdefault(key, Wallet(0))
        wallet.quota = wallet.used + credits_left

    def charge(self, provider: str, items: Sequence[JsonObject]) -> JsonObject:
        """`jobs/control/chargeCredits`; the answer's body."""
        if self.generation is Generation.G2021:
            return self._charge_2021(provider, items)
        return self._charge_2026(provider, items)

    def _charge_2021(self, provider: str, items: Sequence[JsonObject]) -> JsonObject:
        return self.charge_for(provider, items, self.jobs.owned)

    def charge_for(self, provider: str, items: Sequence[JsonObject], find: Callable[[str, list[str]], Sequence[Billed]]) -> JsonObject:
        """`{jobs,licenses}/control/chargeCredits` of 2021, one rule for every type (2021 §2.2). `find` raises CoreError for what is not
        the provider's."""
        orders = [_read_2021(item, f"items[{index}]") for index, item in enumerate(items)]
        jobs = find(provider, [order[0] for order in orders])
        wallets = [wallet for job in jobs if (wallet := self.wallet(payer(job))) is not None]
        if len(wallets) != len(jobs):
            raise CoreError(400, "Unable to fulfill all requests. An owner has no wallet for the product.")
        taken_before = frozenset(self._taken)
        insufficient: list[Json] = []
        for job, wallet, (job_id, charge_id, units, count) in zip(jobs, wallets, orders, strict=True):
            key = f"{provider}-{charge_id}"
            price = units * count * self._price(job)
            if key in taken_before:
                # facts 2021 §0.2 #7: a duplicate costs nothing and comes back among the insufficient.
                insufficient.append({"id": job_id})
                self._book(job_id, charge_id, periods=units, count=count, price=price, charged=0, duplicate=True)
                continue
            self._taken.add(key)
            amount = min(price, wallet.left)
            wallet.used += amount
            short = amount < price or (self.reports_early and wallet.left < amount)
            if short:
                insufficient.append({"id": job_id})
            self._book(job_id, charge_id, periods=units, count=count, price=price, charged=amount, short=short)
        return {"insufficientFunds": insufficient, "duplicateCharges": []}

    def _charge_2026(self, provider: str, items: Sequence[JsonObject]) -> JsonObject:
        """`units` is not looked at, `periods` missing is 0, and the amount is absolute within (owner, chargeId)."""
        orders: list[tuple[Job, str, int]] = []
        for index, item in enumerate(items):
            path = f"items[{index}]"
            job = self.jobs.get(text(item, "id", path))
            if job is None or job.provider != provider:
                raise CoreError(400, "Unknown job")
            orders.append((job, text(item, "chargeId", path), integer_or(item, "periods", path, 0)))
        insufficient: list[Json] = []
        for job, charge_id, periods in orders:
            price = periods * self._price(job) * job.replicas
            if not self._report(payer(job), charge_id, price, job):
                insufficient.append({"id": job.id})
        return {"insufficientFunds": insufficient, "duplicateCharges": []}

    def check(self, provider: str, items: Sequence[JsonObject]) -> JsonObject:
        """`jobs/control/checkCredits`: only whether the wallet has anything left; amounts are not looked at (today §9)."""
        insufficient: list[Json] = []
        for index, item in enumerate(items):
            job = self.jobs.get(text(item, "id", f"items[{index}]"))
            if job is None or job.provider != provider:
                raise CoreError(400, "Unknown job")
            wallet = self.wallet(payer(job))
            if wallet is None or wallet.left == 0:
                insufficient.append({"id": job.id})
        return {"insufficientFunds": insufficient, "duplicateCharges": []}

    def report_usage(self, provider: str, items: Sequence[JsonObject]) -> JsonObject:
        """`accounting/v2/reportUsage` of 2026: each element tells whether the wallet is still open. One after the other: what stands
        before a refused item is done."""
        responses: list[Json] = []
        for index, item in enumerate(items):
            path = f"items[{index}]"
            if dig_text(item, "categoryIdV2", "provider") != provider:
                raise CoreError(403, "You cannot report usage for this product")
            category = dig_text(item, "categoryIdV2", "name")
            if not any(p.provider == provider and p.category == category for p in self.products.values()):
                raise CoreError(403, "This category does not exist")
            key = WalletKey(_owner(item, path), provider, category)
            if not self._knows(key.owner):
                raise CoreError(403, "This user/project does not exist")
            usage = integer(item, "usage", path)
            delta = boolean_or(item, "isDeltaCharge", path, False)
            if usage < 0 and not delta:
                raise CoreError(403, "Absolute usage cannot be negative")
            scope = dig(item, "description", "scope")
            responses.append(self._report(key, scope if isinstance(scope, str) else None, usage, delta=delta))
        return {"responses": responses}

    def _knows(self, owner: str) -> bool:
        return owner in self.jobs.owners or any(key.owner == owner for key in self.wallets)

    def _report(self, key: WalletKey, scope: str | None, amount: int, job: Job | None = None, *, delta: bool = False) -> bool:
        """What is used becomes `amount`, or grows by it when `delta`: of the scope, or without one of the whole wallet.
        True = the quota still holds; the usage is recorded either way."""
        self._save_if_due()
        wallet = self.wallet(key)
        if wallet is None:
            # No grant: what is used is recorded, and nothing may be used.
            wallet = self.wallets.setdefault(key, Wallet(0))
        known = wallet.used if scope is None else self._scopes.get((key.owner, scope))
        before = known or 0
        after = before + amount if delta else amount
        if scope is not None:
            self._scopes[key.owner, scope] = after
        wallet.used += after - before
        short = wallet.used > wallet.quota
        count = 1 if job is None else job.replicas
        self._book(
            "" if job is None else job.id,
            scope or "",
            periods=0 if job is None else amount // max(1, self._price(job) * count),
            count=count,
            price=amount,
            charged=after - before,
            duplicate=known is not None and after == before,
            short=short,
        )
        return not short

    def _price(self, job: Billed) -> int:
        product = self.products.get(job.key)
        if product is None:
            raise CoreError(502, "Bad response from the provider: it does not know the product")
        return product.price_per_unit

    def _book(
        self,
        job_id: str,
        charge_id: str,
        *,
        periods: int,
        count: int,
        price: int,
        charged: int,
        duplicate: bool = False,
        short: bool = False,
    ) -> None:
        self.charges.append(Charge(self.clock.now_ms(), job_id, charge_id, periods, count, price, charged, duplicate, short))


def payer(job: Billed) -> WalletKey:
    provider, category, _ = job.key
    return WalletKey(job.owner, provider, category)


def _read_2021(item: JsonObject, path: str) -> tuple[str, str, int, int]:
    units = integer(item, "units", path)
    count = integer_or(item, "numberOfProducts", path, 1)
    if units < 1 or count < 1:
        raise bad_request(path, "units and numberOfProducts are 1 or more")
    text_or_none(item, "performedBy", path)
    text_or_none(item, "description", path)
    return text(item, "id", path), text(item, "chargeId", path), units, count


def _owner(item: JsonObject, path: str) -> str:
    match dig_text(item, "owner", "type"):
        case "project":
            return f"project:{dig_text(item, 'owner', 'projectId')}"
        case "user":
            return f"user:{dig_text(item, 'owner', 'username')}"
        case _:
            raise bad_request(f"{path}.owner.type", "project or user")
