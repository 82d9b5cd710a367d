"""Looks at license servers over real TCP: what counts as an answer, what is said of what does not, and that nothing waits for ever."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncGenerator

import pytest
import uvloop
from fakes.lmgrd import FakeLmgrd, Mode
from serai_server.clock import SystemClock
from serai_server.licenses.servers import probe as probe_module
from serai_server.licenses.servers.probe import Dialer, Look, Probe

HOST = "127.0.0.1"


def probe(timeout_ms: int = 10_000, **more: int) -> Probe:
    return Probe(SystemClock(), timeout_ms, Dialer().connect, **more)


@contextlib.asynccontextmanager
async def triad(away: int) -> AsyncGenerator[list[tuple[str, int]]]:
    """Three servers, the first of which are away."""
    async with FakeLmgrd() as one, FakeLmgrd() as two, FakeLmgrd() as three:
        servers = [one, two, three]
        for server in servers[:away]:
            await server.go_away()
        yield [(HOST, server.port) for server in servers]


class TestOneServer:
    async def test_it_answers(self) -> None:
        """A connection is enough: one that is slow or wrong is a server still, and lmstat tells the rest."""
        async with FakeLmgrd() as server:
            for mode in Mode:
                server.mode = mode
                assert await probe().look([(HOST, server.port)], 0) == Look(answers=True, words="", details="")

    async def test_it_is_away(self) -> None:
        """Users get no address, operators do."""
        async with FakeLmgrd() as server, server.away():
            seen = await probe().look([(HOST, server.port)], 0)
            assert seen == Look(False, "its license server does not answer", f"{HOST}:{server.port} refused the connection")

    async def test_the_vendors_port(self) -> None:
        """Both ports must answer; which one does not is said."""
        async with FakeLmgrd() as server, FakeLmgrd() as vendor:
            assert (await probe().look([(HOST, server.port)], vendor.port)).answers
            await vendor.go_away()
            seen = await probe().look([(HOST, server.port)], vendor.port)
            assert not seen.answers
            assert seen.details == f"vendor's port {HOST}:{vendor.port} refused the connection"

    async def test_by_name(self) -> None:
        """All addresses of a name are tried, and one is enough: localhost may be ::1 as well."""
        async with FakeLmgrd() as server:
            assert (await probe().look([("localhost", server.port)], 0)).answers

    async def test_a_name_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """In words."""

        def no_name(*_: object, **__: object) -> object:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(probe_module.socket, "getaddrinfo", no_name)
        seen = await probe().look([("lic1.example.org", 27000)], 0)
        assert seen.details == "lic1.example.org:27000 has no address: Name or service not known"


class TestTriad:
    @pytest.mark.parametrize(("away", "answers"), [(0, True), (1, True), (2, False), (3, False)])
    async def test_two_of_three(self, away: int, answers: bool) -> None:
        """FlexNet's quorum; what is away is told to operators also while two are enough."""
        async with triad(away) as addresses:
            seen = await probe().look(addresses, 0)
            assert seen.answers is answers
            assert seen.words == ("" if answers else f"{away} of its 3 license servers do not answer")
            assert seen.details.count("refused") == away


class TestTime:
    async def test_a_server_that_takes_no_connection(self) -> None:
        """It has failed after the timeout, not when the system gives up: its queue of connections is full."""
        with socket.socket() as full, socket.socket() as filler:
            full.bind((HOST, 0))
            full.listen(0)
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
            others = [socket.socket() for _ in range(4)]
            for other in others:
                other.setblocking(False)
                other.connect_ex(full.getsockname())
            try:
                seen = await probe(200).look([full.getsockname()], 0)
            finally:
                for other in others:
                    other.close()
            assert seen.details.endswith("did not answer within 200 ms")

    async def test_names_that_nobody_answers_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """They take a bounded number of threads, one for each name, and hold up no server that has a number."""
        silent, threads = threading.Event(), list[threading.Thread]()

        def never(*_: object, **__: object) -> object:
            threads.append(threading.current_thread())
            silent.wait()
            return []

        monkeypatch.setattr(probe_module.socket, "getaddrinfo", never)
        tried = probe(100)
        try:
            names = [[(f"lic{number}", 27000)] for number in range(20)]
            first = await asyncio.gather(*(tried.look(name, 0) for name in names))
            await asyncio.gather(*(tried.look(name, 0) for name in names))
            assert len(threads) == 16
            assert sum("did not answer" in seen.details for seen in first) == 16
            assert sum("too many names" in seen.details for seen in first) == 4
            async with FakeLmgrd() as server:
                assert (await tried.look([(HOST, server.port)], 0)).answers
        finally:
            silent.set()
            for thread in threads:
                thread.join()

    async def test_no_more_at_once_than_allowed(self) -> None:
        """The others have their turn after that."""
        now, most, go = 0, 0, asyncio.Event()

        async def connect(_host: str, _port: int) -> None:
            nonlocal now, most
            now += 1
            most = max(most, now)
            await go.wait()
            now -= 1

        tried = Probe(SystemClock(), 20_000, connect, most_at_once=3)
        looks = [asyncio.create_task(tried.look([(HOST, 1)], 0)) for _ in range(10)]
        while now < 3:
            await asyncio.sleep(0)
        go.set()
        assert all(seen.answers for seen in await asyncio.gather(*looks))
        assert most == 3


def test_on_the_loop_of_the_server() -> None:
    """`serai serve` runs on uvloop."""

    async def looks() -> None:
        one = TestOneServer()
        await one.test_it_answers()
        await one.test_it_is_away()
        await one.test_the_vendors_port()
        await one.test_by_name()
        await TestTime().test_a_server_that_takes_no_connection()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(looks())
