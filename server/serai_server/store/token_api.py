"""The store's part about tokens, `Store.tokens`: same database, same owner thread, same rules and errors as store/api.py.

Tokens that were added or revoked are told to the store's listener (Committed.tokens). They are never dropped: who had which rights when
stays to be seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from serai_server.store.token_model import StoredToken


class TokenStore(Protocol):
    async def add(self, token: StoredToken) -> None: ...

    async def revoke(self, token_id: str, at_ms: int) -> StoredToken | None:
        """As it is now; the first time stays. None = unknown."""
        ...

    async def used(self, days: Mapping[str, int]) -> None:
        """Token → used_day_ms. The listener is not told. Unknown: passed over."""
        ...

    async def all(self) -> list[StoredToken]:
        """In no order."""
        ...
