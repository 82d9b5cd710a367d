"""The fake license server and its lmutil: what other tests build on is tried itself, over TCP and as a program."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from fakes.lmgrd import FakeLmgrd, FakeLmutil, Mode, NoSeat, write_lmutil
from serai_server.licenses.servers.lmstat import FeatureUse, read


async def say(server: FakeLmgrd, line: str) -> object:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(line.encode() + b"\n")
    answer = await reader.readline()
    writer.close()
    return json.loads(answer)


async def run(lmutil: FakeLmutil, *arguments: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(lmutil.program, *arguments, stdout=-1, stderr=-1, env={})
    output, _ = await process.communicate()
    return process.returncode, output.decode()


class TestSeats:
    async def test_anybody_can_take_them(self) -> None:
        """Over TCP as in the process; never more than there are, and they come back."""
        async with FakeLmgrd(solver=3) as server:
            assert await say(server, "out solver alice 2") == "ok"
            server.check_out("solver", "bob")
            assert await say(server, "out solver carol 1") == "no seat"
            with pytest.raises(NoSeat):
                server.check_out("solver", "carol")
            assert await say(server, "in solver alice") == "ok"
            assert await say(server, "out solver carol 2") == "ok"
            assert server.features["solver"].used == 3

    async def test_reserved_ones_are_in_use(self) -> None:
        """As lmstat counts them."""
        async with FakeLmgrd(solver=3) as server:
            server.features["solver"].reserved["research"] = 2
            server.check_out("solver", "alice")
            with pytest.raises(NoSeat):
                server.check_out("solver", "bob")


class TestLmutil:
    async def test_it_prints_what_the_server_has(self, tmp_path: Path) -> None:
        """In the real one's text, which the reader of it understands."""
        lmutil = write_lmutil(tmp_path)
        async with FakeLmgrd(solver=5, mesher=1, viewer=0) as server:
            server.check_out("solver", "alice", 2)
            server.features["solver"].reserved["research"] = 1
            server.features["viewer"].counted = False
            code, text = await run(lmutil, "lmstat", "-a", "-c", server.port_at_host)
            assert code == 0
            assert "Users of solver:  (Total of 5 licenses issued;  Total of 3 licenses in use)" in text
            assert "1 RESERVATION for GROUP research" in text
            assert "Users of viewer:  (Uncounted, node-locked)" in text
            assert read(text).features == {"solver": FeatureUse(5, 3), "mesher": FeatureUse(1, 0)}
            assert server.asked == 1

    async def test_one_feature(self, tmp_path: Path) -> None:
        """-f asks for one; one that is not there is an error in the text."""
        lmutil = write_lmutil(tmp_path)
        async with FakeLmgrd(solver=5, mesher=1) as server:
            assert read((await run(lmutil, "lmstat", "-f", "mesher", "-c", server.port_at_host))[1]).features == {
                "mesher": FeatureUse(1, 0)
            }
            assert "No such feature exists" in read((await run(lmutil, "lmstat", "-f", "x", "-c", server.port_at_host))[1]).trouble

    async def test_a_triad(self, tmp_path: Path) -> None:
        """The next server is asked when one is away."""
        async with FakeLmgrd(solver=5) as first, FakeLmgrd(solver=5) as second, first.away():
            _, text = await run(write_lmutil(tmp_path), "lmstat", "-a", "-c", f"{first.port_at_host},{second.port_at_host}")
            assert read(text).features == {"solver": FeatureUse(5, 0)}

    async def test_a_server_that_is_away(self, tmp_path: Path) -> None:
        """The port is closed; afterwards it is the same port that is open."""
        lmutil = write_lmutil(tmp_path)
        async with FakeLmgrd(solver=5) as server:
            port = server.port
            async with server.away():
                code, text = await run(lmutil, "lmstat", "-a", "-c", server.port_at_host)
                assert code == 1
                assert "DOWN" in read(text).trouble
                with pytest.raises(ConnectionRefusedError):
                    await asyncio.open_connection("127.0.0.1", port)
            assert server.port == port
            assert read((await run(lmutil, "lmstat", "-a", "-c", server.port_at_host))[1]).features

    async def test_a_server_that_answers_rubbish(self, tmp_path: Path) -> None:
        """lmutil says so, and tells no seats."""
        async with FakeLmgrd(solver=5) as server:
            server.mode = Mode.WRONG
            _, text = await run(write_lmutil(tmp_path), "lmstat", "-a", "-c", server.port_at_host)
            assert "Invalid returned data" in read(text).trouble
            assert read(text).features == {}

    async def test_a_server_that_is_slow(self, tmp_path: Path) -> None:
        """It takes connections, and answers when a test lets it."""
        async with FakeLmgrd(solver=5) as server:
            server.mode = Mode.SLOW
            asking = asyncio.create_task(run(write_lmutil(tmp_path), "lmstat", "-a", "-c", server.port_at_host))
            async with asyncio.timeout(20):
                while not server.connections:
                    await asyncio.sleep(0.01)
            assert server.asked == 0
            assert not asking.done()
            server.release()
            assert read((await asking)[1]).features == {"solver": FeatureUse(5, 0)}
