"""How much is logged of strangers."""

from __future__ import annotations

from serai_telemetry.quiet import Quiet


def test_so_many_lines_in_a_window_and_the_rest_is_counted() -> None:
    """The first line of the next window says how many were left out; the one after it, none."""
    now = 0.0
    quiet = Quiet(lines=2, window_s=60, monotonic=lambda: now)
    assert [quiet.line() for _ in range(5)] == [0, 0, None, None, None]
    now = 59.9
    assert quiet.line() is None
    now = 60.0
    assert [quiet.line() for _ in range(3)] == [4, 0, None]
