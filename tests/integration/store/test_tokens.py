"""Tokens in the store and in memory, on both databases: what is kept, what is refused, what holds after a new start."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from fakes.clock import FakeClock
from serai_server.errors import InvalidRequest, TokenUnknown, Unauthenticated
from serai_server.store.api import StoreUnavailable
from serai_server.store.model import Committed
from serai_server.store.open import open_store
from serai_server.store.sql_store import SqlStore
from serai_server.store.token_model import Role, StoredToken
from serai_server.tokens.certificates import Certificates, Client
from serai_server.tokens.registry import DAY_MS, EXPIRED, REVOKED, UNKNOWN, Registry
from serai_server.tokens.running import LOOK_S, Tokens, running_tokens
from serai_server.tokens.secret import parts_of
from serai_server.tokens.service import LONGEST_LIFETIME_MS


@asynccontextmanager
async def tokens_in(url: str, clock: FakeClock) -> AsyncGenerator[tuple[Tokens, SqlStore]]:
    registry = Registry()
    async with (
        open_store(url, registry.committed) as store,
        running_tokens(registry=registry, store=store, clients=(), clock=clock) as tokens,
    ):
        yield tokens, store


def refusal(tokens: Tokens, text: str, now_ms: int) -> str:
    with pytest.raises(Unauthenticated) as caught:
        tokens.registry.holder(text, now_ms)
    return caught.value.text


async def test_a_token_is_read_back_as_it_was_made_and_never_its_secret(url: str) -> None:
    """The hash of the secret is all that is kept of it; every other field comes back after a new start."""
    clock = FakeClock()
    async with tokens_in(url, clock) as (tokens, store):
        row, text = await tokens.service.create("ünïcode \U0001f600", Role.OPERATOR, "pröject", DAY_MS, "certificate ci")
        parts = parts_of(text)
        assert parts is not None
        assert (parts[0], hashlib.sha256(parts[1].encode()).digest()) == (row.id, row.secret)
        assert await store.tokens.all() == [row]
    async with tokens_in(url, clock) as (tokens, store):
        assert await store.tokens.all() == [row]
        holder = tokens.registry.holder(text, clock.now_ms())
        assert (holder.who, holder.role, holder.project) == (row.id, Role.OPERATOR, "pröject")


async def test_it_opens_the_door_as_soon_as_it_is_answered_and_no_longer_than_that(url: str) -> None:
    """Made, revoked, and revoked once more, which leaves the first time as it was; also after a new start."""
    clock = FakeClock()
    async with tokens_in(url, clock) as (tokens, _):
        row, text = await tokens.service.create("", Role.VIEWER, "", None, "")
        assert tokens.registry.holder(text, clock.now_ms()).role is Role.VIEWER
        gone = await tokens.service.revoke(row.id, "")
        assert refusal(tokens, text, clock.now_ms()) == REVOKED
        clock.move(5)
        assert await tokens.service.revoke(row.id, "") == gone
    async with tokens_in(url, clock) as (tokens, _):
        assert refusal(tokens, text, clock.now_ms()) == REVOKED
        assert await tokens.service.list(every=False) == []
        assert [one.id for one in await tokens.service.list(every=True)] == [row.id]


async def test_it_expires_at_its_millisecond(url: str) -> None:
    """Also one that was last seen by another server; a clock that is set back does not bring it to life."""
    clock = FakeClock()
    async with tokens_in(url, clock) as (tokens, _):
        _, text = await tokens.service.create("", Role.VIEWER, "", 1_000, "")
        clock.move(999)
        tokens.registry.holder(text, clock.now_ms())
        clock.move(1)
        assert refusal(tokens, text, clock.now_ms()) == EXPIRED
        clock.step_back(500)
        assert refusal(tokens, text, clock.now_ms()) == EXPIRED
        clock.move(500)
    async with tokens_in(url, clock) as (tokens, _):
        assert refusal(tokens, text, clock.now_ms()) == EXPIRED


async def test_why_a_token_is_refused_is_told_to_its_holder_only(url: str) -> None:
    """Whoever knows the id, which is no secret, learns nothing of it."""
    clock = FakeClock()
    async with tokens_in(url, clock) as (tokens, _):
        row, _text = await tokens.service.create("", Role.VIEWER, "", None, "")
        guess = f"serai_{row.id}_{'A' * 43}"
        assert refusal(tokens, guess, clock.now_ms()) == UNKNOWN
        await tokens.service.revoke(row.id, "")
        assert refusal(tokens, guess, clock.now_ms()) == UNKNOWN
        assert refusal(tokens, f"serai_{'0' * 12}_{'A' * 43}", clock.now_ms()) == UNKNOWN


async def test_a_token_whose_maker_left_is_there_whole_or_not_at_all(url: str) -> None:
    """Cancelled while it is written: what is in memory is what is on disk."""
    clock = FakeClock()
    async with tokens_in(url, clock) as (tokens, store):
        makers = [asyncio.create_task(tokens.service.create("", Role.VIEWER, "", None, "")) for _ in range(20)]
        await asyncio.sleep(0)
        for maker in makers[::2]:
            maker.cancel()
        await asyncio.gather(*makers, return_exceptions=True)
        made = [maker.result()[1] for maker in makers[1::2]]
        for text in made:
            tokens.registry.holder(text, clock.now_ms())
        await tokens.service.create("", Role.VIEWER, "", None, "")  # after all that were queued
        assert len(await store.tokens.all()) >= len(made) + 1


@pytest.mark.parametrize(
    ("name", "role", "project", "lifetime_ms", "field"),
    [
        ("x" * 101, 1, "", None, "name"),
        ("a\nb", 1, "", None, "name"),
        ("a\0", 1, "", None, "name"),
        (" a", 1, "", None, "name"),
        ("", 1, "x" * 251, None, "project"),
        ("", 1, "p\0", None, "project"),
        ("", 3, "p", None, "project"),
        ("", 0, "", None, "role"),
        ("", 4, "", None, "role"),
        ("", 1, "", 0, "lifetime_ms"),
        ("", 1, "", -1, "lifetime_ms"),
        ("", 1, "", LONGEST_LIFETIME_MS + 1, "lifetime_ms"),
    ],
)
async def test_what_is_wrong_is_told_with_its_field_and_nothing_is_stored(
    url: str, name: str, role: int, *, project: str, lifetime_ms: int | None, field: str
) -> None:
    """Before anything is written."""
    async with tokens_in(url, FakeClock()) as (tokens, store):
        with pytest.raises(InvalidRequest) as caught:
            await tokens.service.create(name, role, project, lifetime_ms, "")
        assert caught.value.field == field
        assert await store.tokens.all() == []


@pytest.mark.parametrize("token_id", ["", "nope", "x\0y", "0" * 5_000])
async def test_an_unknown_id_is_told(url: str, token_id: str) -> None:
    """Of whatever form."""
    async with tokens_in(url, FakeClock()) as (tokens, _):
        with pytest.raises(TokenUnknown):
            await tokens.service.revoke(token_id, "")


async def test_a_store_that_is_away_keeps_the_day_of_use_for_later(url: str) -> None:
    """What could not be written is written at the next look."""
    clock = FakeClock()
    async with tokens_in(url, clock) as (tokens, _store):
        row, text = await tokens.service.create("", Role.VIEWER, "", None, "")
        tokens.registry.holder(text, clock.now_ms())
        taken = tokens.registry.take_used()
        assert list(taken) == [row.id]
        tokens.registry.give_back(taken)
    async with tokens_in(url, clock) as (tokens, store):
        (found,) = await store.tokens.all()
        assert found.used_day_ms == clock.now_ms() - clock.now_ms() % DAY_MS
        await store.close()
        with pytest.raises(StoreUnavailable):
            await tokens.service.create("", Role.VIEWER, "", None, "")


def test_certificates_are_known_by_name() -> None:
    """Exactly; and one with the names of two clients is nobody's."""
    known = Certificates([Client("a.example", Role.VIEWER, "p"), Client("b.example", Role.ADMIN, "")])
    holder = known.holder(["x.example", "a.example", "a.example"])
    assert holder is not None
    assert (holder.who, holder.role, holder.project) == ("certificate a.example", Role.VIEWER, "p")
    assert known.holder(["*.example", "A.EXAMPLE", ""]) is None
    assert known.holder([]) is None
    with pytest.raises(Unauthenticated, match="several"):
        known.holder(["b.example", "a.example"])


async def test_a_revocation_whose_outcome_was_lost_holds_as_soon_as_the_store_answers(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is on disk and nobody was told: at the next look the tokens are read again, until that succeeds."""
    clock, registry = FakeClock(), Registry()
    is_lost, failures = asyncio.Event(), [StoreUnavailable("away"), StoreUnavailable("still away")]

    def listener(changes: list[Committed]) -> None:
        if not is_lost.is_set():
            registry.committed(changes)

    async with (
        open_store(url, listener) as store,
        running_tokens(registry=registry, store=store, clients=(), clock=clock) as tokens,
    ):
        row, text = await tokens.service.create("", Role.VIEWER, "", None, "")
        revoke, every = store.tokens.revoke, store.tokens.all

        async def lost(token_id: str, at_ms: int) -> StoredToken | None:
            is_lost.set()
            await revoke(token_id, at_ms)
            raise StoreUnavailable("the connection broke while it was committed")

        async def away_at_first() -> list[StoredToken]:
            if failures:
                raise failures.pop()
            return await every()

        monkeypatch.setattr(store.tokens, "revoke", lost)
        monkeypatch.setattr(store.tokens, "all", away_at_first)
        with pytest.raises(StoreUnavailable):
            await tokens.service.revoke(row.id, "")
        holder = registry.holder(text, clock.now_ms())
        async with asyncio.timeout(20):
            while not holder.over:
                clock.move(int(LOOK_S * 1_000))
                await asyncio.sleep(0.01)
        assert refusal(tokens, text, clock.now_ms()) == REVOKED
        assert not failures
        assert not registry.in_doubt
