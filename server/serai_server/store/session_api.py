"""The store's part about sessions, `Store.sessions`: same database, same owner thread, same rules and errors as store/api.py.

What is written is told to the store's listener (Committed.sessions, Committed.sessions_gone). Sessions of a job go with its final state,
whichever way it came to that, in the same transaction; the listener is told of the job alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from serai_server.store.session_model import StoredSession


class SessionStore(Protocol):
    async def open(self, sessions: Sequence[StoredSession], versions: Mapping[str, int], instead_of: Sequence[str] = ()) -> None:
        """Store them and drop the sessions `instead_of`, all or none. `versions`: job → the version of its row from which it was concluded
        that its session may be opened. Raises VersionConflict when a job is at another one: read it again and decide anew."""
        ...

    async def redeem(self, session_id: str, cookie: bytes, at_ms: int, expires_at_ms: int) -> bool:
        """Note its first use, which there is once: False = it was used before, or it is not there any more."""
        ...

    async def renew(self, expiries: Mapping[str, int]) -> None:
        """Session → expires_at_ms. The listener is not told. Unknown: passed over."""
        ...

    async def end(self, session_ids: Sequence[str]) -> None:
        """Unknown = done."""
        ...

    async def all(self) -> list[StoredSession]:
        """In no order."""
        ...
