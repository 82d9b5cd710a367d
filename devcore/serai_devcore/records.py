"""What went over the wire, in both directions, kept for the demo, for tests and for people; without any secret."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import cast

from serai_devcore.wire import Json, JsonObject

SECRET_KEYS = frozenset({"refreshtoken", "accesstoken", "csrftoken", "bearer", "token"})
HIDDEN = "(hidden)"


class Direction(Enum):
    TO_CORE = "to_core"
    TO_PROVIDER = "to_provider"


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer."""

    number: int
    at_ms: int
    """When the request had been read, or was sent; ms since epoch."""
    direction: Direction
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    """As sent, in order; an Authorization's value is hidden."""
    body: Json
    """The request's JSON; a text when it is not JSON; None when empty. Tokens are hidden."""
    status: int
    """0 = no answer came or was given."""
    answer: Json
    note: str = ""
    """What was odd: a fault that was asked for, a time-out."""

    def to_json(self) -> JsonObject:
        document = cast("JsonObject", asdict(self))
        document["direction"] = self.direction.value
        document["headers"] = dict(self.headers)
        return document


class Recorder:
    """The last exchanges, oldest first."""

    def __init__(self, limit: int = 10_000) -> None:
        self._exchanges: deque[Exchange] = deque(maxlen=limit)
        self._count = 0

    def __len__(self) -> int:
        return len(self._exchanges)

    def add(
        self,
        *,
        at_ms: int,
        direction: Direction,
        method: str,
        path: str,
        query: str = "",
        headers: Mapping[str, str],
        body: bytes,
        status: int,
        answer: bytes,
        note: str = "",
    ) -> Exchange:
        self._count += 1
        exchange = Exchange(
            number=self._count,
            at_ms=at_ms,
            direction=direction,
            method=method,
            path=path,
            query=query,
            headers={key: _hide_header(key, value) for key, value in headers.items()},
            body=_readable(body),
            status=status,
            answer=_readable(answer),
            note=note,
        )
        self._exchanges.append(exchange)
        return exchange

    def find(self, *, path: str = "", direction: Direction | None = None, after: int = 0) -> list[Exchange]:
        """Those whose path begins so, newer than number `after`."""
        return [
            e for e in self._exchanges if e.number > after and e.path.startswith(path) and (direction is None or e.direction is direction)
        ]

    def clear(self) -> None:
        self._exchanges.clear()


def _hide_header(key: str, value: str) -> str:
    if key.lower() == "authorization":
        return f"{value.partition(' ')[0]} {HIDDEN}"
    return HIDDEN if key.lower() in {"cookie", "set-cookie"} else value


def _readable(body: bytes) -> Json:
    if not body:
        return None
    try:
        return _hide(cast("Json", json.loads(body)))
    except (ValueError, RecursionError):
        return body[:2000].decode("utf-8", "replace")


def _hide(value: Json) -> Json:
    if isinstance(value, dict):
        # An empty one tells nothing, and today's unions have one in every value.
        return {key: HIDDEN if inner and key.lower() in SECRET_KEYS else _hide(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_hide(inner) for inner in value]
    return value
