"""Whose wallet Core lately said to be empty, so that new jobs which could not be paid for are refused at once.

Core tells of missing funds only in answer to a charge, and of new funds not at all: so what is known holds for a while, or until a charge
to the same wallet is paid, and then a job is let in to find out. In memory; at start it is filled from the settlements in the store.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from serai_server.clock import Clock
from serai_server.store.model import Unpaid


@dataclass(frozen=True, slots=True)
class Wallet:
    """Who pays for what: the project if there is one, else the user; one wallet for each category of products (facts today §9)."""

    owner: str
    """`project:{id}` or `user:{name}`."""
    category: str
    """`{provider}/{category}`."""


def wallet_of(owner: str, project: str, product: str) -> Wallet:
    """`product` is "{provider}/{category}/{id}"; `project` empty = personal workspace."""
    return Wallet(f"project:{project}" if project else f"user:{owner}", product.rpartition("/")[0])


class Funds:
    def __init__(self, clock: Clock, keep_ms: int) -> None:
        """`keep_ms`: for how long an empty wallet is believed to be empty; 0 = not at all."""
        self._clock = clock
        self._keep_ms = keep_ms
        self._empty_since: dict[Wallet, int] = {}

    def __len__(self) -> int:
        return len(self._empty_since)

    def load(self, unpaid: Iterable[Unpaid]) -> None:
        for charge in unpaid:
            self.short(wallet_of(charge.owner, charge.project, charge.product), charge.at_ms)

    def short(self, wallet: Wallet, at_ms: int) -> None:
        """Core said at that time that the wallet could not pay."""
        if self._keep_ms:
            self._empty_since[wallet] = max(at_ms, self._empty_since.get(wallet, 0))

    def paid(self, wallet: Wallet) -> None:
        """A charge to the wallet was paid."""
        self._empty_since.pop(wallet, None)

    def is_short(self, wallet: Wallet) -> bool:
        since = self._empty_since.get(wallet)
        if since is None:
            return False
        if self._clock.now_ms() - since < self._keep_ms:
            return True
        del self._empty_since[wallet]
        return False
