"""All tokens that were made, in memory. Fed by the store's listener, so that a token opens the door exactly when it is on disk, whoever was
cancelled while it was written; after kill -9 `load` finds what was stored.

But for one case: a commit whose outcome was lost with the connection to the database. What it wrote of tokens is not told afterwards, so
whoever asked for it says that what is here is in doubt, and it is loaded again, as soon as the store answers.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence
from dataclasses import replace

import structlog

from serai_server.errors import Unauthenticated
from serai_server.store.model import Committed
from serai_server.store.token_model import StoredToken
from serai_server.tokens.holder import Holder
from serai_server.tokens.secret import PREFIX, hash_of, parts_of

log = structlog.get_logger("serai.tokens")

DAY_MS = 86_400_000
REVOKED = "this token was revoked; ask an administrator for another one (`serai tokens create`)"
EXPIRED = "this token has expired; ask an administrator for another one (`serai tokens create`)"
UNKNOWN = "this token is not known here"
FOREIGN = "a token of Serai is needed here, serai_… (`serai tokens create` makes one); UCloud's tokens are for UCloud's own calls"

_NOBODYS = hash_of("nobody's")
"""Compared with for an id that is not known, so that guessing ids takes as long as guessing secrets."""


class _Entry:
    __slots__ = ("holder", "row")

    def __init__(self, row: StoredToken) -> None:
        self.row = row
        self.holder = Holder(row.id, row.role, row.project, row.expires_at_ms)


class Registry:
    def __init__(self) -> None:
        self._by_id: dict[str, _Entry] = {}
        self._used: dict[str, int] = {}
        self.in_doubt = False
        """The store may have what was not told: to be loaded again."""

    def doubt(self) -> None:
        self.in_doubt = True

    def load(self, rows: Iterable[StoredToken]) -> None:
        """The tokens of the store. Who was ended stays so, also when the rows are older than that."""
        for row in rows:
            self._put(row)

    def committed(self, changes: Sequence[Committed]) -> None:
        for change in changes:
            for row in change.tokens:
                self._put(row)

    def holder(self, text: str, now_ms: int) -> Holder:
        """Who shows this token. Raises Unauthenticated."""
        parts = parts_of(text)
        if parts is None:
            raise Unauthenticated(UNKNOWN if text.startswith(PREFIX) else FOREIGN)
        entry = self._by_id.get(parts[0])
        right = hmac.compare_digest(hash_of(parts[1]), entry.row.secret if entry else _NOBODYS)
        if entry is None or not right:
            raise Unauthenticated(UNKNOWN)
        # From here on it is the holder who asks, and may know why.
        self._expire(entry, now_ms)
        if entry.holder.over:
            raise Unauthenticated(entry.holder.over)
        self._note_use(entry, now_ms)
        return entry.holder

    def look(self, now_ms: int) -> None:
        """End the streams of what has expired."""
        for entry in self._by_id.values():
            self._expire(entry, now_ms)

    def take_used(self) -> dict[str, int]:
        """Days of use (token → used_day_ms) that the store does not have; they count as written from then on."""
        taken, self._used = self._used, {}
        return taken

    def give_back(self, used: dict[str, int]) -> None:
        """They were not written after all."""
        self._used = used | self._used

    def _put(self, row: StoredToken) -> None:
        entry = self._by_id.get(row.id)
        if entry is None:
            entry = self._by_id[row.id] = _Entry(row)
        else:
            entry.row = replace(row, used_day_ms=max(row.used_day_ms, entry.row.used_day_ms))
        if row.revoked_at_ms and not entry.holder.over:
            entry.holder.end(REVOKED)

    @staticmethod
    def _expire(entry: _Entry, now_ms: int) -> None:
        if not entry.holder.over and 0 < entry.row.expires_at_ms <= now_ms:
            entry.holder.end(EXPIRED)
            log.info("token.expired", token=entry.row.id)

    def _note_use(self, entry: _Entry, now_ms: int) -> None:
        day_ms = now_ms - now_ms % DAY_MS
        if day_ms > entry.row.used_day_ms:
            entry.row = replace(entry.row, used_day_ms=day_ms)
            self._used[entry.row.id] = day_ms
