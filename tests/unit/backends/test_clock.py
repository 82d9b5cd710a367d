"""The time base that limits and bills are made of."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serai_backends.clock import NAME, SteadyClock, boot_ms, open_clock
from serai_backends.local import journal

if TYPE_CHECKING:
    from pathlib import Path

START_MS = 1_700_000_000_000


class Machine:
    """Two clocks and a boot id that a test sets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.boot, self.wall, self.boot_id = 5_000, START_MS, "first"

    def open(self) -> SteadyClock:
        return open_clock(self.folder, boot=lambda: self.boot, wall=lambda: self.wall, boot_id=lambda: self.boot_id)


@pytest.mark.parametrize("step_ms", [-86_400_000, 86_400_000])
def test_a_stepped_wall_clock_moves_nothing(tmp_path: Path, step_ms: int) -> None:
    """The first server of a boot takes the wall clock; it and every later one of that boot go on by the time since boot only."""
    machine = Machine(tmp_path)
    first = machine.open()
    assert first.now_ms() == START_MS
    machine.boot += 1_000
    machine.wall += step_ms
    assert first.now_ms() == START_MS + 1_000
    second = machine.open()
    assert (second.offset_ms, second.now_ms()) == (first.offset_ms, START_MS + 1_000)


def test_a_new_boot_takes_the_wall_clock_anew(tmp_path: Path) -> None:
    """After a reboot the time since boot began anew, and the offset is another one."""
    machine = Machine(tmp_path)
    machine.open()
    machine.boot, machine.wall, machine.boot_id = 100, START_MS + 60_000, "second"
    assert machine.open().now_ms() == START_MS + 60_000


def test_a_new_boot_never_goes_back(tmp_path: Path) -> None:
    """A wall clock that a reboot set back (no battery) begins where the last server of the earlier boot opened."""
    machine = Machine(tmp_path)
    machine.open()
    machine.boot += 3_600_000
    machine.open()
    machine.boot, machine.wall, machine.boot_id = 100, 0, "second"
    assert machine.open().now_ms() == START_MS + 3_600_000


@settings(deadline=None, max_examples=40)  # each step syncs a file
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(-(10**12), 10**12), st.booleans()), max_size=20))
def test_time_of_later_servers_is_never_earlier(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int, bool]]) -> None:
    """Whatever the wall clock does: what one server saw when it opened, no later one sees again as the future."""
    machine = Machine(tmp_path_factory.mktemp("clock"))
    seen = 0
    for number, (passed, step, reboot) in enumerate(steps):
        machine.boot += passed
        machine.wall = max(0, machine.wall + step)
        if reboot:
            machine.boot, machine.boot_id = passed, f"boot {number}"
        now = machine.open().now_ms()
        assert now >= seen
        seen = now


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"boot_id": "first"}'])
def test_a_broken_file_is_written_anew(tmp_path: Path, text: str) -> None:
    """Nobody has to mend it by hand."""
    (tmp_path / NAME).write_text(text)
    machine = Machine(tmp_path)
    assert machine.open().now_ms() == START_MS
    assert json.loads((tmp_path / NAME).read_text())["boot_id"] == "first"


def test_the_journal_has_the_same_time(tmp_path: Path) -> None:
    """A supervisor computes the time from the plan's offset; it is the server's."""
    clock = open_clock(tmp_path)
    before = clock.now_ms()
    assert before <= journal.now_ms(clock.offset_ms) <= clock.now_ms()
    assert SteadyClock(7).now_ms() - boot_ms() in range(6, 1_000)
