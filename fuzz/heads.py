"""Target `heads`: HTTP that is none, or hardly. An input is the bytes of one connection, one request or several, in pieces.

Rules: no 5xx, the connection ends when its client leaves, nothing in the log that nobody expected, no growth.
"""

from __future__ import annotations

import asyncio
import random

from fuzz.seeds import calls
from fuzz.site import Site, site
from fuzz.tally import Tally, status_class
from fuzz.trees import Trees
from fuzz.wires import say

_AT_A_TIME = 48
_TOKEN = b"{token}"
"""Where a token of Core is put in: they hold for minutes only."""
_VERBS = [b"GET", b"POST", b"DELETE", b"HEAD", b"OPTIONS", b"PUT", b"PATCH", b"CONNECT", b"TRACE", b"PRI", b"post", b"BREW", b"", b"G\0T"]
_TARGETS = [
    b"/", b"*", b"//", b"/healthz", b"/readyz", b"/console", b"/console/", b"/console/open/x", b"/console/api/site", b"/console/api/jobs",
    b"/console/api/open", b"/console/live/jobs", b"/openapi.json", b"/v1/openapi.json", b"/v1/jobs", b"/app/1/0/", b"/.serai/open/x",
    b"/ucloud/example/websocket", b"/ucloud/jobs.provider.example/websocket", b"/ucloud/example/jobs/%2e%2e", b"/ucloud/%65xample/jobs",
    b"http://provider/ucloud/example/jobs", b"provider:80", b"/ucloud/example/jobs?" + b"a=b&" * 500, b"/" + b"a" * 70_000, b"/%ff%00",
    b"/\xc3\xa9", b"?", b"#", b"/ucloud/example/jobs#x", b"/authz/", b"/\\..\\..", b"/ucloud/{provider}/jobs",
]  # fmt: skip
_VERSIONS = [b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.9", b"http/1.1", b"", b"HTTP/1.1 x"]
_HEADERS = [
    b"Host: a", b"Host:", b"Host: a\r\nHost: b", b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: 5\r\nContent-Length: 6",
    b"Content-Length: 99999999999999999999999", b"Content-Length: 0x10", b"Content-Length: 18446744073709551615", b"Content-Length: 5, 5",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: x",
    b"Transfer-Encoding : chunked", b"Transfer-Encoding:\tchunked", b"Expect: 100-continue", b"Expect: 200-ok", b"Connection: close",
    b"Connection: keep-alive, upgrade", b"Connection: authorization", b"Upgrade: websocket", b"Upgrade: h2c\r\nHTTP2-Settings: AAA",
    b"Authorization: Basic YTpi", b"Authorization:", b"Authorization: Bearer", b"Authorization: Bearer \xff", b"Project: \xff\xfe",
    b"Project: a\r\nProject: b", b"UCloud-Username: \xff", b"UCloud-Username: " + b"a" * 9_000, b"Cookie: serai-console=x; a=b",
    b"Cookie: " + b"a=b; " * 900, b"Origin: null", b"Origin: http://[", b"Sec-Fetch-Site: cross-site", b"X: " + b"y" * 70_000, b"a b: c",
    b": x", b"no colon", b" folded", b"X:\0", b"X\0: a", b"\xff: a", b"Content-Type: application/json", b"If-None-Match: \"x\"",
    b"Sec-WebSocket-Key: ht25O0QA2jc+1yBnSqxHHg==\r\nSec-WebSocket-Version: 13", b"X-Forwarded-Proto: https", b"Content-Encoding: br",
    b"Accept-Encoding: br", b"Range: bytes=0-", b"serai-caller: console", b"x-serai-target: a:1", b"X-Request-Id: \r",
    b"TE: trailers",
]  # fmt: skip
_CHUNKS = [
    b"5\r\nhello\r\n0\r\n\r\n", b"0\r\n\r\n", b"5;a=b\r\nhello\r\n0\r\nTrailer: x\r\n\r\n", b"-1\r\n", b"ffffffffffffffff\r\n",
    b"5\nhello\n0\n\n",
    b"g\r\n", b"1\r\n" * 500, b"0\r\n" + b"a: b\r\n" * 900, b"5\r\nhel", b"00000000000000005\r\nhello\r\n0\r\n\r\n",
    b"5 \r\nhello\r\n0\r\n\r\n",
]  # fmt: skip
_OTHERS = [
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64, b"\r\n" * 2_000, b"\n" * 70_000,
    b"GET / HTTP/1.1\n\n", b"\0" * 3_000, b"SSH-2.0-x\r\n", b"GET /\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n",
]  # fmt: skip


def run(inputs: int, seed: int) -> Tally:
    tally = Tally("heads", seed)
    asyncio.run(_run(tally, inputs))
    return tally.end()


async def reproduce(content: bytes) -> str:
    tally = Tally("heads", 0)
    async with site(tally) as (serai, _):
        said = await say(serai.port, [content.replace(_TOKEN, _token(serai))])
    return tally.told(f"statuses {said.statuses}, the connection ended: {said.left}")


async def _run(tally: Tally, inputs: int) -> None:
    async with site(tally) as (serai, watch):

        async def send(chance: random.Random) -> None:
            connections = _Connections(chance)
            while tally.inputs < inputs and not tally.full and serai.alive:
                content = connections.content()
                await _one(serai, tally, chance, content)
                if tally.inputs % 50 == 0:
                    watch.look(tally.inputs)

        async with asyncio.TaskGroup() as group:
            for at in range(_AT_A_TIME):
                group.create_task(send(random.Random(f"{tally.seed} {at}")))


async def _one(serai: Site, tally: Tally, chance: random.Random, content: bytes) -> None:
    said = await say(serai.port, in_pieces(chance, content.replace(_TOKEN, _token(serai))), cut=chance.random() < 0.05)
    statuses = said.statuses
    tally.add(status_class(statuses[0] if statuses else 0))
    if any(status >= 500 for status in statuses):
        tally.find(f"statuses {statuses}", content)
    if not said.left:
        tally.find("the server keeps a connection that its client has left", content)


def _token(serai: Site) -> bytes:
    return serai.core_headers()["Authorization"].encode()


def in_pieces(chance: random.Random, content: bytes) -> list[bytes]:
    """Mostly whole, sometimes cut anywhere."""
    if chance.random() < 0.7 or len(content) < 3:
        return [content]
    cuts = sorted(chance.randrange(len(content)) for _ in range(chance.randint(1, 4)))
    return [content[start:end] for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True) if start < end]


class _Connections:
    """Makes what is sent on one."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._calls = calls()
        self._trees = Trees(chance, [b'{"a": 1}'])

    def content(self) -> bytes:
        chance = self._chance
        if chance.random() < 0.05:
            return self._trees.bytes(chance.choice(_OTHERS))
        content = b"".join(self._request() for _ in range(chance.choice([1, 1, 1, 2, 3])))
        return self._trees.bytes(content) if chance.random() < 0.3 else content

    def _request(self) -> bytes:
        chance = self._chance
        call = chance.choice(self._calls)
        verb, target, version, body = call.route.verb.encode(), call.path.encode(), b"HTTP/1.1", b""
        headers = [b"Host: provider", b"Authorization: " + _TOKEN]
        if call.bodies:
            body = chance.choice(call.bodies)
            headers.append(b"Content-Length: %d" % len(body))
        for _ in range(chance.choice([1, 1, 2, 3])):
            match chance.randrange(7):
                case 0:
                    verb = chance.choice(_VERBS)
                case 1:
                    target = chance.choice(_TARGETS)
                case 2:
                    version = chance.choice(_VERSIONS)
                case 3 | 4:
                    headers.insert(chance.randint(0, len(headers)), chance.choice(_HEADERS))
                case 5:
                    del headers[chance.randrange(len(headers))]
                    headers = headers or [b"A: b"]
                case _:
                    headers[-1], body = chance.choice(_HEADERS[10:15]), chance.choice(_CHUNKS)
        return verb + b" " + target + b" " + version + b"\r\n" + b"".join(line + b"\r\n" for line in headers) + b"\r\n" + body
