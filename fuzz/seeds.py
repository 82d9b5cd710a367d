"""Good inputs to begin from: the tests' golden messages, by the call that they belong to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from golden.load import HERE, INDEX, RECORDED
from serai_gateway.routes import ROUTES, Route

PROVIDER = "example"


@dataclass(frozen=True, slots=True)
class Call:
    """A call of Core or of a user, with bodies that are good for it."""

    route: Route
    bodies: tuple[bytes, ...]
    """JSON, compact; empty for a GET."""

    @property
    def path(self) -> str:
        return self.route.path.replace("{provider}", PROVIDER)


@cache
def requests() -> Mapping[tuple[str, str], tuple[bytes, ...]]:
    """Verb and path of a call to its golden requests."""
    found: dict[tuple[str, str], list[bytes]] = {}
    for golden in INDEX:
        if golden.kind == "request":
            found.setdefault((golden.verb, golden.path), []).append(_compact(golden.json))
    for file in RECORDED:
        recorded = json.loads(file.read_text())
        if recorded.get("request") is not None:
            path = str(recorded["path"]).replace("/PROVIDER/", "/{provider}/")
            found.setdefault((str(recorded["method"]), path), []).append(_compact(recorded["request"]))
    return {key: tuple(bodies) for key, bodies in found.items()}


@cache
def calls() -> tuple[Call, ...]:
    """Every call that comes in. One without a golden request begins from those of all others."""
    known = requests()
    others = tuple(body for bodies in known.values() for body in bodies if len(body) < 500)
    return tuple(
        Call(route, () if route.verb == "GET" else known.get((route.verb, route.path), others)) for route in ROUTES if route.ingoing
    )


@cache
def frames() -> tuple[bytes, ...]:
    """Frames of WebSockets, of both generations."""
    old = [json.loads(file.read_text()) for file in sorted((HERE / "frames-2021").glob("*.json"))]
    today = json.loads((HERE / "frames-2026" / "WS_follow.json").read_text())["firstMessage"]
    return tuple(_compact(frame).replace(b"PROVIDER", PROVIDER.encode()) for frame in (*old, today))


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
