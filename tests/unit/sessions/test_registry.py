"""Sessions in memory: what the store's listener tells makes and ends them, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from serai_server.sessions.registry import Registry
from serai_server.sessions.session import hash_of
from serai_server.store.model import Committed, JobRecord, State
from serai_server.store.session_model import SessionKind, StoredSession


def row(session_id: str, job_id: str = "1", kind: SessionKind = SessionKind.WEB, **fields: object) -> StoredSession:
    plain = StoredSession(session_id, hash_of(f"secret of {session_id}"), b"", kind, job_id, 0, "alice", 80, 1_000, 0, 9_000)
    return replace(plain, **fields)  # pyright: ignore[reportArgumentType]  # real fields


def record(job_id: str, state: State) -> JobRecord:
    return JobRecord(job_id, int(state), 1, 1, 1, 0, 0, 0)


@pytest.fixture
def registry() -> Registry:
    """Two sessions of job 1, one of job 2, one of an operator."""
    made = Registry()
    made.committed([Committed(sessions=(row("a"), row("b"), row("c", "2"), row("d", "", SessionKind.CONSOLE)))])
    return made


def ids(registry: Registry) -> str:
    return "".join(session.id for session in registry.all())


@pytest.mark.parametrize("state", [state for state in State if state.final])
def test_a_final_state_ends_the_jobs_sessions(registry: Registry, state: State) -> None:
    """At once, and not only when the backend has forgotten the job too; whoever waits for it is told why."""
    a = registry.by_id("a")
    registry.committed([Committed((record("1", state),))])
    assert a is not None
    assert (a.over.is_set(), a.why_over) == (True, "the job is over")
    assert ids(registry) == "cd"
    assert registry.by_secret("secret of a") is None
    assert (registry.of_job("1"), registry.jobs()) == ([], ["2"])


@pytest.mark.parametrize("state", [state for state in State if not state.final])
def test_other_states_end_none(registry: Registry, state: State) -> None:
    """A suspended job keeps its sessions, and so does one that is being ended."""
    registry.committed([Committed((record("1", state), record("9", State.RUNNING)))])
    assert ids(registry) == "abcd"


def test_a_job_that_is_gone_takes_its_sessions_along(registry: Registry) -> None:
    """Final and forgotten in one step: the listener hears of the id alone."""
    registry.committed([Committed((), ("2", "9"))])
    assert ids(registry) == "abd"


def test_a_first_use_is_of_the_same_session(registry: Registry) -> None:
    """The cookie finds it from now on; whoever had it in hand sees its new row."""
    a = registry.by_id("a")
    used = row("a", cookie=hash_of("cookie"), redeemed_at_ms=2_000, expires_at_ms=50_000)
    assert registry.by_cookie("cookie") is None
    registry.committed([Committed(sessions=(used,))])
    assert a is not None
    assert (registry.by_cookie("cookie"), a.row, a.expires_at_ms) == (a, used, 50_000)
    registry.committed([Committed(sessions_gone=("a", "unknown"))])
    assert registry.by_cookie("cookie") is None
    assert (ids(registry), a.why_over) == ("bcd", "the session was closed")


def test_in_the_order_in_which_it_was_written(registry: Registry) -> None:
    """Opened and ended in one commit, each way round."""
    registry.committed([Committed(sessions=(row("e"),)), Committed((record("1", State.FAILURE),))])
    assert ids(registry) == "cd"
    registry.committed([Committed(sessions_gone=("c",)), Committed(sessions=(row("f", "2"),))])
    assert ids(registry) == "df"


def test_ended_twice_is_ended_once(registry: Registry) -> None:
    """The first reason stays."""
    a = registry.by_id("a")
    assert a is not None
    registry.end(a, "first")
    registry.end(a, "second")
    assert (a.why_over, ids(registry)) == ("first", "bcd")


def test_a_start_takes_up_what_is_not_over() -> None:
    """Expired ones, and shells that had begun, are told to be over."""
    rows = [
        row("a", expires_at_ms=5_000),
        row("b", expires_at_ms=5_001, cookie=hash_of("cookie"), redeemed_at_ms=4_000),
        row("c", kind=SessionKind.SHELL, expires_at_ms=5_001),
        row("d", kind=SessionKind.SHELL, redeemed_at_ms=4_000, expires_at_ms=0),
    ]
    registry = Registry()
    assert registry.load(rows, 5_000) == ["a", "d"]
    assert (ids(registry), len(registry)) == ("bc", 2)
    found = registry.by_cookie("cookie")
    assert found is not None
    assert found.used_at_ms == 4_000
