"""How backends ask for secrets: who they wait for, what they take, and what they tell of a failure."""

from __future__ import annotations

import asyncio

import pytest
from serai_backends.common.secrets import LARGEST_BYTES, MOST, SecretDesk, check_names
from serai_backends.errors import BackendUnavailable, SubmissionRefused
from serai_backends.model import Secret
from serai_backends.nomad.client import VariableConflict
from serai_backends.nomad.secrets import items_of
from serai_backends.nomad.wire import Variable

KEY = Secret("key", b"canary")


def desk_of(*answers: tuple[Secret, ...] | Exception) -> SecretDesk:
    """Its source gives one answer after the other, the last one for ever."""
    left = list(answers)

    async def source(job_id: str) -> tuple[Secret, ...]:
        assert job_id == "job"
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    desk = SecretDesk()
    desk.take_from(source)
    return desk


async def test_who_asks_before_there_is_a_source_waits() -> None:
    """Jobs of an earlier server are started as soon as the new one has said where secrets are."""
    desk = SecretDesk()
    assert not desk.is_open
    asking = asyncio.ensure_future(desk.ask("job", ("key",)))
    await asyncio.sleep(0)
    assert not asking.done()

    async def source(_job_id: str) -> tuple[Secret, ...]:
        return (KEY,)

    desk.take_from(source)
    assert await asking == (KEY,)


async def test_secrets_come_in_the_order_of_the_job() -> None:
    """Whatever the source's order is."""
    more = Secret("more", b"")
    assert await desk_of((KEY, more)).ask("job", ("more", "key")) == (more, KEY)


async def test_a_fault_of_the_source_is_told_by_its_kind_only() -> None:
    """Its text may be anything, the content of a secret too. It is tried again as what cannot be had now."""
    with pytest.raises(BackendUnavailable) as told:
        await desk_of(ValueError("canary is not a key")).ask("job", ("key",))
    assert "ValueError" in str(told.value) and "canary" not in str(told.value)
    assert told.value.__cause__ is None and told.value.__suppress_context__


async def test_asking_ends_when_it_is_told_to() -> None:
    """While the source has not answered, and between two questions."""

    async def never(_job_id: str) -> tuple[Secret, ...]:
        await asyncio.Event().wait()
        return ()

    hanging = SecretDesk()
    hanging.take_from(never)
    for desk in (hanging, desk_of(BackendUnavailable("later"))):
        stop, words = asyncio.Event(), list[str]()
        asking = asyncio.ensure_future(desk.ask_until("job", ("key",), stop, words.append))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not asking.done()
        stop.set()
        assert await asking is None
    assert words == ["later"]


async def test_what_can_never_be_had_ends_the_asking() -> None:
    """Without another question."""
    with pytest.raises(SubmissionRefused, match="gone"):
        await desk_of(SubmissionRefused("gone")).ask_until("job", ("key",), asyncio.Event(), print)


@pytest.mark.parametrize(
    "given", [(), (KEY, KEY), (Secret("other", b""),), (KEY, Secret("other", b"")), (Secret("key", bytes(LARGEST_BYTES + 1)),)]
)
async def test_only_what_the_job_names_is_taken(given: tuple[Secret, ...]) -> None:
    """Neither less, nor more, nor larger."""
    with pytest.raises(SubmissionRefused):
        await desk_of(given).ask("job", ("key",))


def test_names() -> None:
    """1 to 64 of letters, digits, dot, dash and underscore; no dot in front; each once; 16 at most."""
    check_names(["a", "license-17", "a.b_C-9", "x" * 64, "-"])
    check_names([f"s{number}" for number in range(MOST)])
    for names in ([""], [".a"], ["a/b"], ["ä"], ["a\n"], ["x" * 65], ["a", "a"], [f"s{number}" for number in range(MOST + 1)]):
        with pytest.raises(SubmissionRefused):
            check_names(names)


def test_no_repr_shows_content() -> None:
    """Of what travels through the backends and their errors."""
    stored = Variable(path="nomad/jobs/x/rank-0/main", items=items_of((KEY,)))
    conflict = VariableConflict(stored.path, stored)
    text = repr([KEY, stored, conflict]) + str(conflict)
    assert "canary" not in text and stored.items["secret0"] not in text


def test_what_has_no_room_in_a_variable_is_refused() -> None:
    """48,000 bytes are promised."""
    items_of([Secret(f"s{number}", bytes(3_000)) for number in range(MOST)])
    items_of([Secret("one", bytes(48_000))])
    with pytest.raises(SubmissionRefused, match="48,000"):
        items_of([Secret("one", bytes(LARGEST_BYTES)), Secret("two", bytes(4_000))])
