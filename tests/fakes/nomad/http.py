"""What all answers of the agent have in common: faults that a test ordered, the token, namespaces, pages, headers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import cast

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from fakes.nomad.spec import Json


class Refused(Exception):
    """An answer in plain text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


class Conflict(Exception):
    """409 with the variable that is stored."""

    def __init__(self, stored: Json) -> None:
        super().__init__("conflict")
        self.stored = stored


@dataclass
class Fault:
    method: str
    path: str
    status: int
    text: str
    after: bool
    """The call is carried out before its answer is lost."""
    left: int = 1


@dataclass
class Faults:
    """What the next calls run into."""

    failures: list[Fault] = field(default_factory=list[Fault])
    delays: dict[str, float] = field(default_factory=dict[str, float])
    """Path prefix → seconds before a call is looked at."""

    def next(self, request: web.Request) -> Fault | None:
        for fault in self.failures:
            if fault.left and fault.method in {"*", request.method} and request.path.startswith(fault.path):
                fault.left -= 1
                return fault
        return None

    async def wait(self, request: web.Request) -> None:
        for prefix, seconds in self.delays.items():
            if request.path.startswith(prefix):
                await asyncio.sleep(seconds)


def middleware(faults: Faults, token: str | None) -> Middleware:
    @web.middleware
    async def around(request: web.Request, handler: Handler) -> web.StreamResponse:
        await faults.wait(request)
        fault = faults.next(request)
        refusal = _refusal(request, fault, token)
        if refusal is not None:
            return refusal
        try:
            answer = await handler(request)
        except Refused as refused:
            return web.Response(status=refused.status, text=refused.text, headers=_headers(1))
        except Conflict as conflict:
            return web.Response(status=409, text=msgspec.json.encode(conflict.stored).decode(), headers=_headers(0))
        except web.HTTPException as other:
            return web.Response(status=other.status, text="Invalid method" if other.status == 405 else "")
        if fault is not None:
            return web.Response(status=fault.status, text=fault.text)
        return answer

    return around


def _refusal(request: web.Request, fault: Fault | None, token: str | None) -> web.Response | None:
    """What is answered before the call is looked at."""
    if fault is not None and not fault.after:
        return web.Response(status=fault.status, text=fault.text)
    if token is not None and not _open(request) and request.headers.get("X-Nomad-Token", "") != token:
        return web.Response(status=403, text="Permission denied")
    return None


def _open(request: web.Request) -> bool:
    """The stream answers 200 to everyone and then says nothing; the leader is no secret."""
    return request.path in {"/v1/event/stream", "/v1/status/leader"}


def _headers(index: int) -> dict[str, str]:
    return {"X-Nomad-Index": str(index), "X-Nomad-KnownLeader": "true", "X-Nomad-LastContact": "0"}


def answer(body: object, index: int, next_token: str = "", status: int = 200) -> web.Response:
    headers = _headers(index)
    if next_token:
        headers["X-Nomad-NextToken"] = next_token
    return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/json", headers=headers)


async def body(request: web.Request) -> Json:
    text = await request.read()
    if not text.strip():
        raise Refused(400, "EOF")
    try:
        return msgspec.json.decode(text, type=dict[str, object])
    except msgspec.DecodeError as wrong:
        raise Refused(400, "unexpected EOF" if "truncated" in str(wrong) else str(wrong)) from wrong


def inner(raw: Json, name: str) -> Json:
    value = raw.get(name)
    return cast("Json", value) if isinstance(value, dict) else {}


def namespace(request: web.Request) -> str:
    return request.query.get("namespace") or "default"


def flag(request: web.Request, name: str, default: bool = False) -> bool:
    text = request.query.get(name)
    if text is None or text == "":
        return default
    if text.lower() not in {"true", "false", "1", "0", "t", "f"}:
        raise Refused(400, f'Failed to parse value of "{name}" ({text}) as a bool: strconv.ParseBool: parsing "{text}": invalid syntax')
    return text.lower() in {"true", "1", "t"}


def number(request: web.Request, name: str, default: int = 0) -> int:
    text = request.query.get(name)
    if not text:
        return default
    try:
        return int(text)
    except ValueError as wrong:
        raise Refused(400, f"Failed to parse {name}: {text}") from wrong


@dataclass(frozen=True)
class Row:
    """An entry of a list, before it is known whether it is on the page."""

    token: str
    told: Callable[[], Json]


def page(request: web.Request, rows: Iterable[Row], index: int, key: Callable[[str], tuple[int, str]] | None = None) -> web.Response:
    """Sorted by token; `per_page` of them from `next_token` on, itself included."""
    order = key or by_text
    rows = sorted(rows, key=lambda r: order(r.token))
    start = request.query.get("next_token", "")
    if start:
        rows = [r for r in rows if order(r.token) >= order(start)]
    if flag(request, "reverse"):
        rows.reverse()
    size = number(request, "per_page")
    following = rows[size].token if size and len(rows) > size else ""
    return answer([r.told() for r in (rows[:size] if size else rows)], index, following)


def by_text(token: str) -> tuple[int, str]:
    return 0, token


def by_index(token: str) -> tuple[int, str]:
    """`<create index>.<id>`"""
    first, _, rest = token.partition(".")
    return int(first), rest
