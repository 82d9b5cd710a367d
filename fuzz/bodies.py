"""Target `bodies`: good HTTP with bad content. An input is one request: any call that comes in, with a changed body or query.

Rules: an answer for each, never a 5xx, nothing in the log that nobody expected, no growth. Some of the requests are good: then there are
jobs and licenses, of which Core knows nothing, so they end.
"""

from __future__ import annotations

import asyncio
import random

from serai_gateway.routes import Route

from fuzz.calls import QUERIES, changed_query
from fuzz.pipeline import Hangs, send_all
from fuzz.seeds import Call, calls
from fuzz.site import Site, site
from fuzz.tally import Tally, status_class
from fuzz.trees import Trees

_BATCH = 40
"""Requests on one connection."""
_CONNECTIONS = 6
"""At a time."""
_LARGE = 1 / 100
"""Share of batches that are one body over the limit of 16 MiB. Alone: it is answered before it was read, so the connection is reset, and
answers that are on their way get lost."""
_LARGE_BYTES = 17 << 20


def run(inputs: int, seed: int) -> Tally:
    tally = Tally("bodies", seed)
    asyncio.run(_run(tally, inputs))
    return tally.end()


async def reproduce(content: bytes) -> str:
    """`content`: one request with its head; its tokens are made anew."""
    tally = Tally("bodies", 0)
    async with site(tally) as (serai, _):
        head, _, body = content.partition(b"\r\n\r\n")
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith((b"authorization:", b"content-length:"))]
        given = serai.user_headers() if b" /api/" in lines[0] else serai.core_headers()
        lines += [f"Authorization: {given['Authorization']}".encode(), b"Content-Length: %d" % len(body)]
        statuses = await send_all(serai.port, [b"\r\n".join(lines) + b"\r\n\r\n" + body])
    return tally.told(f"statuses {statuses}")


async def _run(tally: Tally, inputs: int) -> None:
    async with site(tally) as (serai, watch):
        senders = [_Sender(serai, random.Random(f"{tally.seed} {at}"), tally) for at in range(_CONNECTIONS)]

        async def send(sender: _Sender) -> None:
            while tally.inputs < inputs and not tally.full and serai.alive:
                await sender.batch(min(_BATCH, inputs - tally.inputs))
                watch.look(tally.inputs)

        async with asyncio.TaskGroup() as group:
            for sender in senders:
                group.create_task(send(sender))


class _Sender:
    """One connection after the other, with chance of its own: what it sends does not depend on the others."""

    def __init__(self, serai: Site, chance: random.Random, tally: Tally) -> None:
        self._serai = serai
        self._chance = chance
        self._tally = tally
        self._calls = calls()
        self._queries = {call.route.path for call in QUERIES}
        self._trees = Trees(chance, sorted({body for call in self._calls for body in call.bodies}))

    async def batch(self, count: int) -> None:
        core, user = self._serai.core_headers(), self._serai.user_headers()
        large = self._chance.random() < _LARGE
        requests = [self._large(core)] if large else [self._request(core, user) for _ in range(count)]
        try:
            statuses = await send_all(self._serai.port, requests)
        except Hangs as hung:
            self._tally.find(str(hung), b"".join(requests))
            return
        for request, status in zip(requests, statuses, strict=True):
            self._tally.add(status_class(status))
            if status >= 500 or not (status or large):
                self._tally.find(f"status {status} for {request[:200]!r}", request)

    def _large(self, core: dict[str, str]) -> bytes:
        call = self._chance.choice([call for call in self._calls if call.bodies and not call.route.users])
        return _spelled(call.route, call.path, b"", core, b'{"items":[' + b" " * _LARGE_BYTES + b"]}")

    def _request(self, core: dict[str, str], user: dict[str, str]) -> bytes:
        chance = self._chance
        call = chance.choice(self._calls)
        body = self._body(call)
        query = changed_query(chance, b"id=5&itemsPerPage=10") if call.route.path in self._queries else b""
        given = user if call.route.users else core
        return _spelled(call.route, call.path, query, given, body)

    def _body(self, call: Call) -> bytes:
        if not call.bodies:
            return b""
        body = self._chance.choice(call.bodies)
        if self._chance.random() < 0.1:
            # Another id, so that it is not the same job once more.
            body = body.replace(b'"id":"54112"', b'"id":"%d"' % self._chance.randrange(10**6), 1)
            return body if self._chance.random() < 0.2 else self._trees.body(body)
        return self._trees.body(body)


def _spelled(route: Route, path: str, query: bytes, given: dict[str, str], body: bytes) -> bytes:
    target = path.encode() + (b"?" + _in_a_line(query) if query else b"")
    head = "".join(f"{name}: {value}\r\n" for name, value in given.items()).encode()
    return b"%s %s HTTP/1.1\r\nHost: provider\r\n%sContent-Length: %d\r\n\r\n%s" % (route.verb.encode(), target, head, len(body), body)


def _in_a_line(query: bytes) -> bytes:
    """What would end the request's first line is spelled out; broken heads are the target `heads`."""
    return b"".join(b"%%%02x" % byte if byte <= 0x20 or byte in b"#\x7f" or byte > 0x7F else bytes([byte]) for byte in query[:8_000])
