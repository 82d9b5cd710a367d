"""A user's view of money: what a job has cost in all. For tests and for people; Core's own tables say it wallet by wallet.

facts 2021 §2.2: what was taken for each charge id; today §9: the amount that stands in the job's scope, whatever was there before.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from serai_devcore.accounts import Accounts, payer
from serai_devcore.jobs import Job
from serai_devcore.wire import CoreError, Generation, JsonObject


@dataclass(frozen=True, slots=True)
class Bill:
    """`credits` = `periods` * `replicas` * `price` + `odd`."""

    credits: int
    replicas: int
    price: int
    """Of one period of one replica, today."""

    @property
    def periods(self) -> int:
        return self.credits // (self.price * self.replicas) if self.price else 0

    @property
    def odd(self) -> int:
        """Credits that make no whole period: a price that changed, a wallet that ran empty, or a mistake."""
        return self.credits - self.periods * self.replicas * self.price

    def to_json(self) -> JsonObject:
        return {
            "credits": self.credits,
            "periods": self.periods,
            "replicas": self.replicas,
            "price": self.price,
            "odd": self.odd,
        }


def bill(accounts: Accounts, job: Job, scope: str | None = None) -> Bill:
    """What the job has cost. 2026: the amount in `scope`; None = in all scopes of its owner that hold the job's id as a whole number."""
    product = accounts.products.get((job.provider, job.category, job.product))
    if product is None:
        raise CoreError(404, f"Core knows no product {job.product}")
    if accounts.generation is Generation.G2021:
        total = sum(charge.charged for charge in accounts.charges if charge.job_id == job.id)
    else:
        named = re.compile(rf"(?<!\d){re.escape(job.id)}(?!\d)")
        scopes = accounts.scopes_of(payer(job).owner)
        total = sum(amount for name, amount in scopes.items() if (name == scope if scope is not None else named.search(name)))
    return Bill(total, job.replicas, product.price_per_unit)
