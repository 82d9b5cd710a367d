"""What a license server told of its seats, and what that leaves for jobs of ours: pure rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from serai_server.licenses.servers.lmstat import FeatureUse

KEEP_MS = 600_000
"""For so long what a server told last counts after it has begun not to tell, and after this process was started anew."""


@dataclass(frozen=True, slots=True)
class Observation:
    """The server's last answer."""

    at_ms: int
    features: Mapping[str, FeatureUse]
    held: int
    """Seats of each feature that jobs of ours held at that time, and that are among those in use."""


def limit_of(seats: Sequence[tuple[str, int]], seen: Observation | None) -> int | None:
    """Seats that jobs of ours may hold in all: the scarcest feature decides. `seats` = (feature, as configured); None = not counted."""
    return min((_left(feature, configured, seen) for feature, configured in seats), default=None)


def capacity_of(seats: Sequence[tuple[str, int]], seen: Observation | None) -> int | None:
    """As `limit_of`, were nobody but jobs of ours to use any."""
    return min((_all(configured, use_of(feature, seen)) for feature, configured in seats), default=None)


def use_of(feature: str, seen: Observation | None) -> FeatureUse | None:
    """None = the server was not asked, or did not tell."""
    return seen.features.get(feature.lower()) if seen is not None else None


def _left(feature: str, configured: int, seen: Observation | None) -> int:
    use = use_of(feature, seen)
    if seen is None or use is None:
        return configured
    others = max(0, use.used - seen.held)
    return max(0, _all(configured, use) - others)


def _all(configured: int, use: FeatureUse | None) -> int:
    return configured if use is None else min(configured, use.total)


def encoded(seen: Observation) -> bytes:
    """As the store keeps it."""
    return msgspec.json.encode(seen)


def decoded(stored: bytes, now_ms: int) -> Observation | None:
    """What counts of it still. None = there is none, or it is too old, or of a time to come, as after a clock was set back."""
    try:
        seen = msgspec.json.decode(stored, type=Observation)
    except msgspec.DecodeError:
        return None
    return seen if 0 <= now_ms - seen.at_ms < KEEP_MS else None
