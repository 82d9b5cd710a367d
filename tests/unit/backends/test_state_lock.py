"""Who may use the local backend's state folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from serai_backends.common import files
from serai_backends.errors import BackendUnavailable
from serai_backends.local import folder


def held(state: Path) -> int:
    """The lock of a state folder, as another server has it."""
    fd = os.open(state, files.DIRECTORY)
    lock = files.try_lock(fd)
    os.close(fd)
    assert lock is not None
    return lock


def test_a_lock_that_a_killed_servers_child_still_holds_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server killed between fork and exec leaves its lock to the child for some ms: the next start takes it as soon as it is free."""
    pauses: list[float] = []
    lock = held(tmp_path)

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            os.close(lock)  # the child executes its program

    monkeypatch.setattr(folder.time, "sleep", pause)
    _, mine = folder.open_state(tmp_path)
    os.close(mine)
    assert len(pauses) == 3


def test_a_lock_that_stays_held_is_another_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After two seconds it is no child on its way any more, and the start is refused in words."""
    pauses: list[float] = []
    lock = held(tmp_path)
    monkeypatch.setattr(folder.time, "sleep", pauses.append)
    with pytest.raises(BackendUnavailable, match="another server uses the state folder"):
        folder.open_state(tmp_path)
    os.close(lock)
    assert 1 < sum(pauses) < 5
