"""The use cases of tokens, without gRPC: make one, see them, take one back."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

import structlog

from serai_server.clock import Clock
from serai_server.errors import InvalidRequest, TokenUnknown
from serai_server.store.api import Store
from serai_server.store.token_model import Role, StoredToken
from serai_server.tokens import secret as secrets

log = structlog.get_logger("serai.tokens")

LONGEST_NAME = 100
LONGEST_PROJECT = 250
LONGEST_LIFETIME_MS = 100 * 366 * 86_400_000


class TokensService:
    def __init__(self, store: Store, clock: Clock, doubt: Callable[[], None]) -> None:
        """`doubt`: told when a write failed and may be on disk all the same."""
        self._doubt = doubt
        self._store = store
        self._clock = clock

    async def create(self, name: str, role: int, project: str, lifetime_ms: int | None, created_by: str) -> tuple[StoredToken, str]:
        """The token and its text, which nobody can be told again. `lifetime_ms` None = it does not expire.

        Raises InvalidRequest, and the store's StoreUnavailable.
        """
        _check_text("name", name, LONGEST_NAME)
        _check_text("project", project, LONGEST_PROJECT)
        if role not in (Role.VIEWER, Role.OPERATOR, Role.ADMIN):
            raise InvalidRequest("expected VIEWER, OPERATOR or ADMIN", field="role")
        if project and role == Role.ADMIN:
            raise InvalidRequest("an administrator is not limited to a project; use the role OPERATOR", field="project")
        if lifetime_ms is not None and not 1 <= lifetime_ms <= LONGEST_LIFETIME_MS:
            raise InvalidRequest("expected 1 ms to 100 years, or nothing for no end", field="lifetime_ms")
        now_ms = self._clock.now_ms()
        secret = secrets.new_secret()
        row = StoredToken(
            id=secrets.new_id(),
            secret=secrets.hash_of(secret),
            name=name,
            role=Role(role),
            project=project,
            created_at_ms=now_ms,
            created_by=created_by,
            expires_at_ms=now_ms + lifetime_ms if lifetime_ms else 0,
            used_day_ms=0,
            revoked_at_ms=0,
        )
        with self._in_doubt_if_it_fails():
            await self._store.tokens.add(row)
        log.info("token.created", token=row.id, name=name, role=row.role.name, project=project, by=created_by or "the server's socket")
        return row, secrets.text_of(row.id, secret)

    @contextmanager
    def _in_doubt_if_it_fails(self) -> Generator[None]:
        try:
            yield
        except BaseException:
            self._doubt()
            raise

    async def list(self, *, every: bool) -> list[StoredToken]:
        """Newest first; without `every` those that open the door now."""
        now_ms = self._clock.now_ms()
        rows = [row for row in await self._store.tokens.all() if every or is_live(row, now_ms)]
        return sorted(rows, key=lambda row: (row.created_at_ms, row.id), reverse=True)

    async def revoke(self, token_id: str, by: str) -> StoredToken:
        """Raises TokenUnknown."""
        with self._in_doubt_if_it_fails():
            row = None if "\0" in token_id else await self._store.tokens.revoke(token_id, self._clock.now_ms())
        if row is None:
            raise TokenUnknown(f"no token {token_id[:64]!r} is known here; `serai tokens list` shows them", field="token_id")
        log.info("token.revoked", token=row.id, by=by or "the server's socket")
        return row


def is_live(row: StoredToken, now_ms: int) -> bool:
    return not row.revoked_at_ms and not 0 < row.expires_at_ms <= now_ms


def _check_text(field: str, text: str, longest: int) -> None:
    """Raises InvalidRequest."""
    if len(text) > longest or not text.isprintable() or text != text.strip():
        raise InvalidRequest(f"expected at most {longest} printable characters without blanks at the ends", field=field)
