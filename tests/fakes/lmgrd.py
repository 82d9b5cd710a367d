"""A license server for tests, over real TCP on loopback, and a program that talks to it as FlexNet's `lmutil lmstat` does.

The server has seats that anybody can check out and back in, and can be away, slow or wrong. What the two say to each other is their own (a
line each way, JSON back); what the program prints is the text of the real one, as in facts nomad c12.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import TracebackType


class Mode(Enum):
    UP = "up"
    SLOW = "slow"
    """Accepts connections, and answers when `FakeLmgrd.release` is called."""
    WRONG = "wrong"
    """Answers rubbish."""


class NoSeat(Exception):
    """All seats of the feature are taken or kept for others."""


@dataclass
class Pool:
    total: int
    users: dict[str, int] = field(default_factory=dict[str, int])
    reserved: dict[str, int] = field(default_factory=dict[str, int])
    """Group → seats that are kept for it; nobody of these groups is here, so nobody gets them."""
    counted: bool = True

    @property
    def used(self) -> int:
        """Reserved seats are in use, as lmstat has it."""
        return sum(self.users.values()) + sum(self.reserved.values())


class FakeLmgrd:
    """Up between `async with`, but for the time in which it is `away`."""

    def __init__(self, **seats: int) -> None:
        self.features = {name: Pool(total) for name, total in seats.items()}
        self.mode = Mode.UP
        self.port = 0
        self.asked = 0
        """Questions for its status."""
        self.connections = 0
        self._server: asyncio.Server | None = None
        self._released = asyncio.Event()
        self._talks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> FakeLmgrd:
        await self.come_back()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.go_away()
        for talk in self._talks:
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)

    @property
    def port_at_host(self) -> str:
        return f"{self.port}@127.0.0.1"

    async def go_away(self) -> None:
        """Nobody listens on the port any more."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def come_back(self) -> None:
        """On the same port as before."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    @contextlib.asynccontextmanager
    async def away(self) -> AsyncGenerator[None]:
        await self.go_away()
        try:
            yield
        finally:
            await self.come_back()

    def release(self) -> None:
        """What waits in SLOW is answered, now and from now on."""
        self._released.set()

    def check_out(self, feature: str, user: str, seats: int = 1) -> None:
        """Raises NoSeat, and KeyError for a feature that it does not have."""
        pool = self.features[feature]
        if pool.counted and pool.used + seats > pool.total:
            raise NoSeat(feature)
        pool.users[user] = pool.users.get(user, 0) + seats

    def check_in(self, feature: str, user: str) -> None:
        """All that the user has of it."""
        self.features[feature].users.pop(user, None)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.create_task(self._talk(reader, writer))
        self._talks.add(task)
        task.add_done_callback(self._talks.discard)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while words := (await reader.readline()).decode("utf-8", "replace").split():
                if self.mode is Mode.SLOW:
                    await self._released.wait()
                writer.write(b"\x00\xffrubbish\n" if self.mode is Mode.WRONG else json.dumps(self._answer(words)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # whoever asked has gone, or asked what is no line
        finally:
            writer.close()

    def _answer(self, words: list[str]) -> object:
        match words:
            case ["status"]:
                self.asked += 1
                return {
                    name: {"total": p.total, "used": p.used, "users": p.users, "reserved": p.reserved, "counted": p.counted}
                    for name, p in self.features.items()
                }
            case ["out", feature, user, seats] if feature in self.features and seats.isdecimal():
                try:
                    self.check_out(feature, user, int(seats))
                except NoSeat:
                    return "no seat"
                return "ok"
            case ["in", feature, user] if feature in self.features:
                self.check_in(feature, user)
                return "ok"
            case _:
                return "what?"


@dataclass(frozen=True)
class FakeLmutil:
    program: Path
    journal: Path

    @property
    def runs(self) -> list[dict[str, object]]:
        """Arguments and environment of each run, in order."""
        return [json.loads(line) for line in self.journal.read_text().splitlines()] if self.journal.exists() else []


def write_lmutil(folder: Path) -> FakeLmutil:
    """The program, in that folder."""
    made = FakeLmutil(folder / "lmutil", folder / "lmutil.journal")
    made.program.write_text(f"#!{sys.executable} -IS\nJOURNAL = {str(made.journal)!r}\n{_PROGRAM}")
    made.program.chmod(0o755)
    return made


_PROGRAM = r"""
import json, os, socket, sys

arguments = sys.argv[1:]
with open(JOURNAL, "a") as journal:
    journal.write(json.dumps({"arguments": arguments, "environment": dict(os.environ)}) + "\n")
if arguments[:1] != ["lmstat"] or "-c" not in arguments:
    sys.exit("usage: lmutil lmstat [-a] [-f feature] -c port@host[,...]")
place = arguments[arguments.index("-c") + 1]
only = arguments[arguments.index("-f") + 1] if "-f" in arguments else None
print("lmutil - Copyright (c) 1989-2021 Flexera. All Rights Reserved.")
print("Flexible License Manager status on Thu 11/26/2026 10:05\n")
print("[Detecting lmgrd processes...]")
print("License server status: " + place)


def fail(words):
    print("Error getting status: " + words)
    sys.exit(1)


def ask(port, host):
    with socket.create_connection((host, int(port)), 10) as talk:
        talk.sendall(b"status\n")
        return talk.makefile("rb").readline()


answer = None
for server in place.split(","):
    port, _, host = server.partition("@")
    try:
        answer = ask(port, host)
        break
    except OSError:
        print("    %s: license server DOWN" % host)
if answer is None:
    fail('Cannot connect to license server system. (-15,570:115 "Operation now in progress")')
try:
    features = json.loads(answer)
except ValueError:
    fail("Invalid returned data from license server system. (-12,16)")
print("    License file(s) on %s: /opt/flexlm/license.dat:\n" % host)
print("      %s: license server UP (MASTER) v11.18.0\n" % host)
print("Vendor daemon status (on %s):\n\n     acmed: UP v11.18.0" % host)
print("Feature usage info:\n")
if only is not None and only not in features:
    print("Users of %s: Cannot get users of %s: No such feature exists. (-5,222)" % (only, only))


def many(count):
    return "%d license%s" % (count, "" if count == 1 else "s")


for name, pool in features.items():
    if only not in (None, name):
        continue
    if not pool["counted"]:
        print("Users of %s:  (Uncounted, node-locked)\n" % name)
        continue
    print("Users of %s:  (Total of %s issued;  Total of %s in use)\n" % (name, many(pool["total"]), many(pool["used"])))
    if pool["used"]:
        print('  "%s" v2026.1, vendor: acmed, expiry: 01-jan-2028' % name)
        print("  vendor_string: none\n  floating license\n")
    for user, seats in pool["users"].items():
        more = ", " + many(seats) if seats > 1 else ""
        print("    %s node1 /dev/pts/3 (v2026.1) (%s/%s 101), start Thu 11/26 9:01%s" % (user, host, port, more))
    for group, seats in pool["reserved"].items():
        print("    %d RESERVATION%s for GROUP %s (%s/%s)" % (seats, "" if seats == 1 else "s", group, host, port))
    print()
"""
