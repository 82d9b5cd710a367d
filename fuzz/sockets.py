"""Target `sockets`: WebSockets that are none, or hardly. An input is one connection: a handshake and up to a dozen frames.

Frames of both generations' follows, of shells, desktops and the console's pages, with wrong opcodes, lengths, masks, fragments and reserved
bits, and messages that are changed as JSON. Rules: as for `heads`. Half of the connections have something to show, see `visits`.
"""

from __future__ import annotations

import asyncio
import json
import random
import struct

from fakes.raw_websocket import MASK
from fakes.raw_websocket import masked as masked_by_it

from fuzz.heads import in_pieces
from fuzz.seeds import frames
from fuzz.site import Site, site
from fuzz.tally import Tally, status_class
from fuzz.trees import Trees
from fuzz.visits import Visit, visit
from fuzz.wires import Said, say

_AT_A_TIME = 48
_LENGTHS = [0, 1, 125, 126, 127, 65_535, 65_536, 2**31, 2**63 - 1, 2**63, 2**64 - 1]
_CLOSES = [b"", b"\x03", b"\x03\xe8", b"\x03\xe8bye", b"\x00\x00", b"\x03\xec", b"\x13\x88\xff", b"\x03\xe8" + b"a" * 124, b"\xff\xff"]
_HANDSHAKES = [
    "Sec-WebSocket-Key: short", "Sec-WebSocket-Key:", "Sec-WebSocket-Version: 8", "Sec-WebSocket-Version: 13, 8", "Upgrade: websocket, h2c",
    "Connection: keep-alive", "Sec-WebSocket-Protocol: binary", "Sec-WebSocket-Protocol: " + "a, " * 200, "Sec-WebSocket-Protocol: \xff",
    "Sec-WebSocket-Extensions: permessage-deflate", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=99",
    "Sec-WebSocket-Extensions: x; y=\"", "Origin: null", "Content-Length: 5", "Transfer-Encoding: chunked", "Expect: 100-continue",
    "Authorization: Bearer x", "UCloud-Username: \xff", "X: " + "y" * 9_000,
]  # fmt: skip


def run(inputs: int, seed: int) -> Tally:
    tally = Tally("sockets", seed)
    asyncio.run(_run(tally, inputs))
    return tally.end()


async def reproduce(content: bytes) -> str:
    """What is only good for one run (tokens, secrets) is not kept in `content`, so its connection may be refused earlier."""
    tally = Tally("sockets", 0)
    async with site(tally) as (serai, _):
        said = await say(serai.port, [content])
    return tally.told(f"statuses {said.statuses}, the connection ended: {said.left}")


async def _run(tally: Tally, inputs: int) -> None:
    async with site(tally) as (serai, watch):
        shown = await visit(serai)

        async def send(chance: random.Random) -> None:
            connections = _Connections(chance, serai, shown)
            while tally.inputs < inputs and not tally.full and serai.alive:
                content = connections.content()
                _judge(tally, content, await say(serai.port, in_pieces(chance, content), cut=chance.random() < 0.1))
                if tally.inputs % 50 == 0:
                    watch.look(tally.inputs)

        async with asyncio.TaskGroup() as group:
            for at in range(_AT_A_TIME):
                group.create_task(send(random.Random(f"{tally.seed} {at}")))


def _judge(tally: Tally, content: bytes, said: Said) -> None:
    statuses = said.statuses
    # 502: a desktop that does not answer, as a table of errors has it.
    tally.add("switched" if 101 in statuses[:1] else status_class(statuses[0] if statuses else 0))
    if any(status >= 500 for status in statuses):
        tally.find(f"statuses {statuses}", content)
    if b"\x03\xf3" in said.content and b"Internal error" in said.content:
        tally.find("close code 1011", content)
    if not said.left:
        tally.find("the server keeps a connection that its client has left", content)


def frame(opcode: int, payload: bytes, *, fin: bool = True, reserved: int = 0, masked: bool = True, length: int | None = None) -> bytes:
    """RFC 6455 §5.2. `length`: what is said of it instead of the truth."""
    said = len(payload) if length is None else length
    head = bytes([(0x80 if fin else 0) | reserved << 4 | opcode])
    bit = 0x80 if masked else 0
    if said < 126:
        head += bytes([bit | said])
    elif said < 65_536:
        head += bytes([bit | 126]) + struct.pack("!H", said)
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", said)
    if not masked:
        return head + payload
    return head + MASK + masked_by_it(payload)


class _Connections:
    """Makes what is sent on one."""

    def __init__(self, chance: random.Random, serai: Site, shown: Visit) -> None:
        self._chance = chance
        self._serai = serai
        self._shown = shown
        self._trees = Trees(chance, frames(), most_bytes=64 * 1024)

    def content(self) -> bytes:
        chance = self._chance
        path, headers, messages = chance.choice([self._follow_2021, self._follow_2026, self._shell, self._desktop, self._console])()
        sent = b"".join(self._frames(messages) for _ in range(chance.choice([1, 1, 2, 4])))
        content = self._handshake(path, headers) + sent
        return self._trees.bytes(content) if chance.random() < 0.1 else content

    def _handshake(self, path: str, headers: list[str]) -> bytes:
        chance = self._chance
        lines = [
            f"Host: 127.0.0.1:{self._serai.port}", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: ht25O0QA2jc+1yBnSqxHHg==", *headers,
        ]  # fmt: skip
        if chance.random() < 0.15:
            lines[chance.randrange(len(lines))] = chance.choice(_HANDSHAKES)
        if chance.random() < 0.1:
            lines.append(chance.choice(_HANDSHAKES))
        return (f"GET {path} HTTP/1.1\r\n" + "\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _frames(self, messages: list[bytes]) -> bytes:
        """A message, mostly: whole or in fragments, and things that must not be."""
        chance = self._chance
        message = chance.choice(messages)
        if chance.random() < 0.7:
            message = self._trees.body(message)
        odd = [
            self._control,
            self._anything,
            self._lying,
            self._fragments,
            self._empty_fragments,
            self._binary,
            self._broken_text,
            self._large,
        ]
        return chance.choice(odd)(message) if chance.random() < 0.7 else frame(1, message)

    def _control(self, message: bytes) -> bytes:
        chance = self._chance
        if chance.random() < 0.5:
            return frame(8, chance.choice(_CLOSES))
        return frame(chance.choice([9, 10]), message[: chance.choice([0, 4, 125, 126, 300])], fin=chance.random() < 0.9)

    def _anything(self, message: bytes) -> bytes:
        chance = self._chance
        fin, masked = chance.random() < 0.5, chance.random() < 0.5
        return frame(chance.randrange(16), message, fin=fin, reserved=chance.randrange(8), masked=masked)

    def _lying(self, message: bytes) -> bytes:
        return frame(1, message, length=self._chance.choice(_LENGTHS))

    def _fragments(self, message: bytes) -> bytes:
        """Without a last one, now and then."""
        size = self._chance.choice([1, 7, 4_096])
        parts = [message[start : start + size] for start in range(0, min(len(message), 200 * size), size)] or [b""]
        last = len(parts) - (self._chance.random() < 0.9)
        return b"".join(frame(1 if not at else 0, part, fin=at == last) for at, part in enumerate(parts))

    def _empty_fragments(self, message: bytes) -> bytes:
        many = frame(0, b"", fin=False) * self._chance.choice([3, 5_000])
        return frame(1, b"", fin=False) + many + frame(self._chance.choice([0, 1]), message)

    def _binary(self, _message: bytes) -> bytes:
        return frame(2, self._chance.randbytes(self._chance.choice([0, 1, 2_000])))

    def _broken_text(self, message: bytes) -> bytes:
        return frame(1, message + self._chance.choice([b"\xff", b"\xed\xa0\x80", b"\xc3"]))

    def _large(self, _message: bytes) -> bytes:
        return frame(1, b" " * self._chance.choice([2_000, 70_000, 600_000, 1_200_000]))

    def _follow_2021(self) -> tuple[str, list[str], list[bytes]]:
        token = self._serai.core_headers()["Authorization"].removeprefix("Bearer ")
        good = self._follow(token if self._chance.random() < 0.7 else "x")
        return "/ucloud/jobs.provider.example/websocket", [], [good, *frames()]

    def _follow_2026(self) -> tuple[str, list[str], list[bytes]]:
        headers = [f"Authorization: {self._serai.core_headers()['Authorization']}"]
        hint = self._chance.choice(["dXNlcg==", "", "%ff", "x" * 900, "_-_-", "&usernameHint=a&;=;"])
        return f"/ucloud/jobs.provider.example/websocket?usernameHint={hint}", headers, [self._follow(""), *frames()]

    def _follow(self, bearer: str) -> bytes:
        job = {"id": self._chance.choice([self._shown.job_id, "54112", ""])}
        call = {"call": "jobs.provider.example.follow", "streamId": str(self._chance.randrange(3)), "bearer": bearer}
        return json.dumps({**call, "payload": {"type": "init", "job": job}}).encode()

    def _shell(self) -> tuple[str, list[str], list[bytes]]:
        secret = self._chance.choice(self._shown.shells)
        call = {"call": "jobs.compute.example.shell.open", "streamId": "1"}
        payloads: list[dict[str, object]] = [
            {"type": "initialize", "sessionIdentifier": secret, "cols": 80, "rows": 24},
            {"type": "input", "data": "ls\n"},
            {"type": "resize", "cols": -1, "rows": 10**9},
        ]
        return "/ucloud/example/websocket", [], [json.dumps({**call, "payload": payload}).encode() for payload in payloads]

    def _desktop(self) -> tuple[str, list[str], list[bytes]]:
        secret = self._chance.choice([*self._shown.desktops, "a" * 43, "x", "%00", "a/b"])
        return f"/ucloud/example/jobs/vnc/{secret}", ["Sec-WebSocket-Protocol: binary"], [b"RFB 003.008\n", b"\1\0\0\0"]

    def _console(self) -> tuple[str, list[str], list[bytes]]:
        chance = self._chance
        name = chance.choice(["jobs", "job", "output", "nothing"])
        queries = [
            f"id={self._shown.job_id}", f"id={self._shown.job_id}&tail=100&ranks=0", "id=x", "state=RUNNING", "state=x", "page=x", "tail=0",
            "tail=00000000000" + "1" * 5_000, "from=0.1.500", "from=9.9.9", "ranks=" + "1," * 900, "%ff", "a&" * 65, "active=1&owner=%00",
        ]  # fmt: skip
        headers = [
            f"Origin: http://127.0.0.1:{self._serai.port}",
            f"Cookie: {chance.choice([self._shown.cookie, self._shown.cookie, 'serai-console=x'])}",
        ]
        return f"/console/live/{name}?{chance.choice(queries)}", headers, [b"", b"hello"]
