"""Nomad's times in ms since epoch: RFC 3339 with ns and any offset in task states, ns in events and allocations.

A time that is not known is null, "" or the year 1 (Go's zero time). What cannot be read is not known either: no text of a cluster may stop
the rest of an observation.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from serai_backends.nomad.wire import TaskEvent

_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def from_text(text: str | None) -> int | None:
    found = _RFC3339.fullmatch(text or "")
    if found is None:
        return None
    seconds, fraction, zone = found.groups()
    try:
        at = datetime.fromisoformat(seconds + ("+00:00" if zone == "Z" else zone)) - _EPOCH
    except (ValueError, OverflowError):
        return None
    return at // timedelta(milliseconds=1) + int((fraction or "0").ljust(9, "0")) // 1_000_000 if at > timedelta(0) else None


def from_ns(ns: int) -> int | None:
    return ns // 1_000_000 if ns > 0 else None


def of_event(event: TaskEvent | None) -> int | None:
    return None if event is None else from_ns(event.time)
