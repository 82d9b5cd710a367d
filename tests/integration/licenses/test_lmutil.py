"""The vendor's program, run for real: bounded in time and output, told nothing of the server, and never left behind."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop
from fakes.clock import FakeClock
from fakes.lmgrd import FakeLmgrd, write_lmutil
from serai_server.clock import SystemClock
from serai_server.licenses.servers.lmstat import FeatureUse
from serai_server.licenses.servers.lmutil import Lmutil, NotTold

ADDRESS = [("127.0.0.1", 1)]


def program(folder: Path, text: str) -> str:
    file = folder / "lmutil"
    file.write_text(f"#!{sys.executable} -IS\n{text}\n")
    file.chmod(0o755)
    return str(file)


def state(pid: int) -> str:
    """One letter; empty = there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


async def is_gone(pid: int) -> bool:
    """Not there, or dead and waiting for whoever collects orphans here."""
    async with asyncio.timeout(20):
        while state(pid) not in ("", "Z"):
            await asyncio.sleep(0.01)
    return True


def begun(file: Path) -> str:
    return file.read_text() if file.exists() else ""


async def pids_of(file: Path) -> list[int]:
    async with asyncio.timeout(20):
        while not begun(file).endswith("\n"):
            await asyncio.sleep(0.01)
    return [int(word) for word in begun(file).split()]


async def test_a_question(tmp_path: Path) -> None:
    """All features at once; a triad by all its addresses."""
    lmutil = write_lmutil(tmp_path)
    async with FakeLmgrd(solver=5, mesher=2) as server:
        server.check_out("solver", "alice", 3)
        answer = await Lmutil(str(lmutil.program), SystemClock()).ask([("127.0.0.1", server.port)] * 3)
        assert answer.features == {"solver": FeatureUse(5, 3), "mesher": FeatureUse(2, 0)}
    assert lmutil.runs[0]["arguments"] == ["lmstat", "-a", "-c", ",".join([server.port_at_host] * 3)]


async def test_it_is_told_nothing_of_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environment is the same wherever the server runs."""
    monkeypatch.setenv("SERAI_TOKEN", "canary-of-the-environment")
    lmutil = write_lmutil(tmp_path)
    async with FakeLmgrd(solver=5) as server:
        await Lmutil(str(lmutil.program), SystemClock()).ask([("127.0.0.1", server.port)])
    environment = lmutil.runs[0]["environment"]
    assert isinstance(environment, dict)
    assert environment.keys() - {"LC_CTYPE"} == {"PATH", "LC_ALL", "HOME"}


async def test_a_server_that_is_away(tmp_path: Path) -> None:
    """In the program's words."""
    async with FakeLmgrd(solver=5) as server, server.away():
        with pytest.raises(NotTold, match="license server DOWN"):
            await Lmutil(str(write_lmutil(tmp_path).program), SystemClock()).ask([("127.0.0.1", server.port)])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("print('hello')", "lmutil told no seats and ended with code 0"),
        ("raise SystemExit(7)", "lmutil told no seats and ended with code 7"),
        ("import os; os.kill(os.getpid(), 9)", "lmutil told no seats and ended with code -9"),
        ("import sys; print('Error: no license file', file=sys.stderr)", "Error: no license file"),
        ("while True: print('x' * 100_000)", "lmutil wrote more than 8 MiB"),
    ],
)
async def test_what_is_no_answer(tmp_path: Path, text: str, words: str) -> None:
    """Said in words; a program that writes without end is stopped."""
    with pytest.raises(NotTold, match=words):
        await Lmutil(program(tmp_path, text), SystemClock()).ask(ADDRESS)


@pytest.mark.parametrize("kind", ["none", "folder", "not a program"])
async def test_a_program_that_cannot_be_started(tmp_path: Path, kind: str) -> None:
    """With the setting that names it."""
    file = tmp_path / "lmutil"
    if kind == "folder":
        file.mkdir()
    elif kind == "not a program":
        file.write_text("#!/nowhere\n")
    with pytest.raises(NotTold, match=r"\(licenses.lmutil\) cannot be started: "):
        await Lmutil(str(file), SystemClock()).ask(ADDRESS)


HANGS = """
import os, time
child = os.fork()
if not child:
    time.sleep(1_000)
open({0!r}, "w").write(f"{{os.getpid()}} {{child}}\\n")
{1}
"""


async def test_one_that_takes_too_long(tmp_path: Path) -> None:
    """It and what it has started are killed when its time is over."""
    clock = FakeClock()
    asking = asyncio.create_task(Lmutil(program(tmp_path, HANGS.format(str(tmp_path / "pids"), "time.sleep(1_000)")), clock).ask(ADDRESS))
    pids = await pids_of(tmp_path / "pids")
    async with asyncio.timeout(20):
        while not clock._sleepers:
            await asyncio.sleep(0.001)
    clock.move(29_999)
    await asyncio.sleep(0)
    assert not asking.done()
    clock.move(1)
    with pytest.raises(NotTold, match="did not answer within 30 s"):
        await asking
    assert [await is_gone(pid) for pid in pids] == [True, True]


async def test_one_whose_child_goes_on(tmp_path: Path) -> None:
    """A program that has ended, but whose child keeps its output open, is over when its time is; the child goes too."""
    clock = FakeClock()
    asking = asyncio.create_task(Lmutil(program(tmp_path, HANGS.format(str(tmp_path / "pids"), "os._exit(0)")), clock).ask(ADDRESS))
    leader, child = await pids_of(tmp_path / "pids")
    assert await is_gone(leader)
    async with asyncio.timeout(20):
        while not clock._sleepers:
            await asyncio.sleep(0.001)
    clock.move(30_000)
    with pytest.raises(NotTold):
        await asking
    assert await is_gone(child)


async def test_a_question_that_is_given_up(tmp_path: Path) -> None:
    """A cancelled caller leaves no process."""
    text = HANGS.format(str(tmp_path / "pids"), "time.sleep(1_000)")
    asking = asyncio.create_task(Lmutil(program(tmp_path, text), FakeClock()).ask(ADDRESS))
    pids = await pids_of(tmp_path / "pids")
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert [await is_gone(pid) for pid in pids] == [True, True]
    assert state(pids[0]) == "", "it was waited for"


async def test_a_question_that_is_given_up_at_its_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the program runs already and the loop has not said so."""
    loop, said = asyncio.get_running_loop(), asyncio.Event()
    start = loop.subprocess_exec

    async def slow(*words: Any, **how: Any) -> object:
        started = await start(*words, **how)
        await said.wait()
        return started

    monkeypatch.setattr(loop, "subprocess_exec", slow)
    text = HANGS.format(str(tmp_path / "pids"), "time.sleep(1_000)")
    asking = asyncio.create_task(Lmutil(program(tmp_path, text), FakeClock()).ask(ADDRESS))
    pids = await pids_of(tmp_path / "pids")
    asking.cancel()
    await asyncio.sleep(0)
    said.set()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert [await is_gone(pid) for pid in pids] == [True, True]
    assert state(pids[0]) == "", "it was waited for"


@pytest.mark.parametrize(
    "life",
    [
        test_a_question,
        test_a_server_that_is_away,
        test_one_that_takes_too_long,
        test_one_whose_child_goes_on,
        test_a_question_that_is_given_up,
    ],
)
def test_on_the_loop_of_the_server(tmp_path: Path, life: Callable[[Path], Coroutine[None, None, None]]) -> None:
    """`serai serve` runs on uvloop, which has processes of its own making."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(life(tmp_path))


def test_programs_without_end_on_that_loop(tmp_path: Path) -> None:
    """Stopped there too."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test_what_is_no_answer(tmp_path, "while True: print('x' * 100_000)", "lmutil wrote more than 8 MiB"))
        runner.run(test_what_is_no_answer(tmp_path, "raise SystemExit(7)", "lmutil told no seats and ended with code 7"))
