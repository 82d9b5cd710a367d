"""How long sessions last and how many there may be."""

from __future__ import annotations

from dataclasses import dataclass

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS

CONSOLE_OPEN_WITHIN_MS = MINUTE_MS
"""How long the address of Serai's own page works."""
CONSOLE_MS = 8 * HOUR_MS
"""How long an operator stays at Serai's own page: a working day, however much it is used."""


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """[sessions] of the settings; the words are there."""

    most_per_job: int = 16
    most_shells: int = 100
    shell_detached_ms: int = MINUTE_MS
    idle_ms: int = 10 * HOUR_MS
    open_within_ms: int = 5 * MINUTE_MS
