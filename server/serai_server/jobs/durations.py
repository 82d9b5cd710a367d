"""UCloud's durations: hours, minutes and seconds, checked, as ms."""

from __future__ import annotations

from serai.core.v1.resources_pb2 import SimpleDuration

from serai_server.errors import InvalidRequest

_DAY_MS = 86_400_000
LONGEST_DAYS = 3_650
LONGEST_MS = LONGEST_DAYS * _DAY_MS
"""No job may have more time than that."""


def duration_ms(span: SimpleDuration, path: str) -> int:
    """1 second to LONGEST_MS. Raises InvalidRequest with the path of the part at fault (facts 2021 §8.1)."""
    if span.hours < 0:
        raise InvalidRequest(f"expected 0 or more, found {span.hours}", field=f"{path}.hours")
    for unit, found in (("minutes", span.minutes), ("seconds", span.seconds)):
        if not 0 <= found <= 59:
            raise InvalidRequest(f"expected 0 to 59, found {found}", field=f"{path}.{unit}")
    total_ms = (span.hours * 3600 + span.minutes * 60 + span.seconds) * 1000
    if not 1_000 <= total_ms <= LONGEST_MS:
        raise InvalidRequest(f"expected 1 second to {LONGEST_DAYS} days", field=path)
    return total_ms
