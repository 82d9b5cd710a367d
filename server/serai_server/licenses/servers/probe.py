"""Whether a license server answers: a TCP connection to each of its addresses, as the programs of jobs would make it.

Of a redundant triad two must answer: FlexNet serves while two of its three are up. A host answers when its port does, and the vendor's port
where one is set.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from serai_server.clock import Clock

Connect = Callable[[str, int], Awaitable[None]]
"""(host, port) → a connection could be made. Raises OSError with words, and is cancelled when it takes too long."""

_MOST_ADDRESSES = 4
"""Of one name; the rest is not tried."""
_MOST_LOOKUPS = 16


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a server."""

    answers: bool
    words: str
    """For users, without addresses; empty = nothing to say."""
    details: str
    """For operators: what does not answer, and why; empty = all of it answers."""


class Probe:
    def __init__(self, clock: Clock, timeout_ms: int, connect: Connect, *, most_at_once: int = 64) -> None:
        self._clock = clock
        self._timeout_ms = timeout_ms
        self._connect = connect
        self._turns = asyncio.Semaphore(most_at_once)

    async def look(self, addresses: Sequence[tuple[str, int]], vendor_port: int) -> Look:
        """Takes no longer than the timeout, once it is its turn."""
        async with self._turns:
            found = await asyncio.gather(*(self._host(host, port, vendor_port) for host, port in addresses))
        failed = [words for words in found if words]
        needed = 2 if len(addresses) == 3 else len(addresses)
        answering = len(addresses) - len(failed)
        return Look(answering >= needed, _words(len(addresses), len(failed)) if answering < needed else "", "; ".join(failed))

    async def _host(self, host: str, port: int, vendor_port: int) -> str:
        """Why it does not answer; empty = it does."""
        ports = {"": port} | ({"vendor's port ": vendor_port} if vendor_port else {})
        found = await asyncio.gather(*(self._port(host, number) for number in ports.values()))
        return "; ".join(f"{what}{host}:{ports[what]} {why}" for what, why in zip(ports, found, strict=True) if why)

    async def _port(self, host: str, port: int) -> str:
        connecting = asyncio.ensure_future(self._connect(host, port))
        limit = asyncio.ensure_future(self._clock.sleep(self._timeout_ms / 1000))
        try:
            await asyncio.wait((connecting, limit), return_when=asyncio.FIRST_COMPLETED)
            if not connecting.done():
                return f"did not answer within {self._timeout_ms} ms"
            connecting.result()
        except OSError as error:
            return _why(error)
        else:
            return ""
        finally:
            for task in (connecting, limit):
                task.cancel()
            await asyncio.wait((connecting, limit))


def _words(count: int, failed: int) -> str:
    return "its license server does not answer" if count == 1 else f"{failed} of its {count} license servers do not answer"


def _why(error: OSError) -> str:
    match error:
        case ConnectionRefusedError():
            return "refused the connection"
        case socket.gaierror():
            return f"has no address: {error.strerror}"
        case _:
            return f"cannot be reached: {error.strerror or error}"


class Dialer:
    """Connects for real. Names are looked up on threads of their own, a bounded number and one for each name, so that names which nobody
    answers for hold up neither other servers nor the rest of the process."""

    def __init__(self) -> None:
        self._lookups: dict[str, asyncio.Future[list[str]]] = {}

    async def connect(self, host: str, port: int) -> None:
        """Tries all addresses of the host at once; one is enough. Raises OSError."""
        tries = [asyncio.ensure_future(_connect(address, port)) for address in await self._addresses(host)]
        try:
            await _first(tries)
        finally:
            for task in tries:
                task.cancel()
            await asyncio.wait(tries)

    async def _addresses(self, host: str) -> list[str]:
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                socket.inet_pton(family, host)
            except OSError:
                continue
            return [host]
        lookup = self._lookups.get(host)
        if lookup is None:
            if len(self._lookups) >= _MOST_LOOKUPS:
                raise OSError("too many names wait for the name service")
            lookup = self._lookups[host] = asyncio.get_running_loop().create_future()
            lookup.add_done_callback(lambda done: self._looked_up(host, done))
            _look_up(host, lookup)
        # Others may wait for the same name: one that has waited long enough does not take it from them.
        return await asyncio.shield(lookup)

    def _looked_up(self, host: str, done: asyncio.Future[list[str]]) -> None:
        del self._lookups[host]
        if not done.cancelled():
            done.exception()  # perhaps nobody waits for it any more


def _look_up(host: str, into: asyncio.Future[list[str]]) -> None:
    """On a daemon thread: an executor's would hold up the end of the process for as long as a name service is silent."""
    loop = asyncio.get_running_loop()

    def work() -> None:
        found: list[str] | OSError
        try:
            infos = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            found = list(dict.fromkeys(str(info[4][0]) for info in infos))[:_MOST_ADDRESSES]
        except OSError as error:
            found = error
        except UnicodeError:
            found = OSError("that is no name of a host")
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_settle, into, found)

    threading.Thread(target=work, name="serai-license-names", daemon=True).start()


def _settle(into: asyncio.Future[list[str]], found: list[str] | OSError) -> None:
    if into.done():
        return
    if isinstance(found, OSError):
        into.set_exception(found)
    else:
        into.set_result(found)


async def _first(tries: Sequence[asyncio.Future[None]]) -> None:
    """Until one of them has succeeded. Raises the error of the last to fail."""
    pending = set(tries)
    while True:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        errors = [task.exception() for task in done]
        if None in errors:
            return
        if not pending:
            raise next(error for error in errors if error is not None)


async def _connect(address: str, port: int) -> None:
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, address, port)
    try:
        # On one's own machine a port of those given out at will can connect to itself: nobody answers there.
        if transport.get_extra_info("sockname") == transport.get_extra_info("peername"):
            raise ConnectionRefusedError
    finally:
        transport.close()
