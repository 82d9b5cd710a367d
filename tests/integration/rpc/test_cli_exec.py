"""`serai jobs exec` as people and scripts run it: a process of its own, a real terminal, the real front, programs at real ptys."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from fakes.clock import FakeClock
from fakes.core_on import START_MS, plan_on, until
from fakes.elsewhere import Elsewhere, elsewhere
from fakes.ptys import PtyBackend
from fakes.sessions import machine_at, reachable_job
from fakes.terminal import DEADLINE_S, Person
from serai_server.cli.exits import Exit
from serai_server.main import Server, running_server
from serai_server.store.model import State

CLI = (sys.executable, "-m", "serai_server.cli", "jobs", "exec")


@dataclass
class Site(Elsewhere):
    """A server with job 1 (two ranks) running."""

    server: Server
    backend: PtyBackend
    socket: Path

    def close_sessions(self) -> None:
        """As an operator does."""

        async def close() -> None:
            for session in await self.server.core.sessions.service.list():
                await self.server.core.sessions.service.close(session.id)

        self.do(close())

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "SERAI_SOCKET": str(self.socket)}

    def person(self, *arguments: str) -> Person:
        return Person([*CLI, *arguments], self.environment)

    def run(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([*CLI, *arguments], input=stdin, capture_output=True, env=self.environment, timeout=DEADLINE_S, check=False)


@asynccontextmanager
async def serving(folder: Path) -> AsyncGenerator[Site]:
    clock = FakeClock(START_MS)
    backend = PtyBackend(machine_at(clock))
    async with running_server(plan_on(folder), backend, clock, folder / "s.sock", 5_000) as server:
        await server.core.jobs.create([reachable_job("1", replicas=2)])
        await until(server.core, "1", lambda row: row.state is State.RUNNING)
        yield Site(server, backend, folder / "s.sock")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with elsewhere(serving(tmp_path)) as site:
        yield site


def soon(condition: Callable[[], bool]) -> None:
    """Once it is so."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# At a terminal.


def test_a_shell_at_a_terminal(site: Site) -> None:
    """Typed into and shown as a terminal does it; the exit code is the shell's, and the terminal is as it was."""
    with site.person("-it", "1") as person:
        person.until(r"[$#] $")
        assert person.is_raw
        person.type(b"echo $((6 * 7))\r")
        person.until("\r\n42\r\n")
        person.type(b"exit 5\r")
        assert person.ends()[0] == 5
        assert person.is_as_before


def test_every_key_is_the_programs(site: Site) -> None:
    """Ctrl-C interrupts what runs there and not the command here."""
    with site.person("-it", "1", "sh", "-c", "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.05; done") as person:
        person.until("ready")
        person.type(b"\x03")
        person.until("caught")
        assert person.ends()[0] == 9


def test_sizes(site: Site) -> None:
    """The program has this terminal's size from the beginning, and hears of each change."""
    with site.person("-it", "1", "sh", "-c", "trap 'stty size' WINCH; stty size; while :; do sleep 0.05; done") as person:
        person.until("20 90\r\n")
        person.resize(132, 43)
        person.until("43 132\r\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, Exit.INTERRUPTED)], ids=str)
def test_a_signal_puts_the_terminal_back_and_ends_the_program(site: Site, number: signal.Signals, code: int) -> None:
    """Whoever kills the command gets a terminal that works, and nothing goes on in the replica."""
    with site.person("-it", "1", "sh", "-c", "echo ready; exec sleep 1000") as person:
        person.until("ready")
        assert person.is_raw
        person.signal(number)
        assert person.ends()[0] == code
        assert person.is_as_before
        soon(lambda: site.backend.terminals[0].closed)


def test_a_command_that_was_stopped_and_goes_on(site: Site) -> None:
    """Its terminal, which somebody else had meanwhile, is raw again, and the program has its size."""
    with site.person("-it", "1", "sh", "-c", "echo ready; trap 'stty size' WINCH; while :; do sleep 0.05; done") as person:
        person.until("ready")
        person.signal(signal.SIGSTOP)
        person.put_back()
        person.resize(50, 10)
        assert not person.is_raw
        person.signal(signal.SIGCONT)
        person.until("10 50\r\n")
        assert person.is_raw


def test_a_server_that_stops_is_told_of(site: Site) -> None:
    """In words on a terminal that is as before."""
    with site.person("-it", "1", "sh", "-c", "echo ready; exec sleep 1000") as person:
        person.until("ready")
        site.stop()
        code, shown = person.ends()
        assert (code, b"the program was ended" in shown, b"being stopped" in shown) == (Exit.ERROR, True, True)
        assert person.is_as_before


def test_what_cannot_be_opened_leaves_the_terminal_alone(site: Site) -> None:
    """Words and a code; and never raw."""
    with site.person("-it", "9") as person:
        assert person.ends()[0] == Exit.NOT_FOUND
        assert person.is_as_before
    with site.person("-it", "--rank", "2", "1") as person:
        code, shown = person.ends()
        assert (code, b"rank" in shown) == (Exit.USAGE, True)
    with site.person("-it", "1", "no-such-program") as person:
        code, shown = person.ends()
        assert (code, b"no-such-program" in shown) == (Exit.NOT_REACHABLE, True)


# In a script.


def test_a_programs_output_and_exit_code(site: Site) -> None:
    """Byte for byte, with line ends as programs write them; both streams in one."""
    ran = site.run("1", "sh", "-c", "printf 'a\\r\\nb\\n\\r'; echo c >&2; exit 3")
    assert (ran.returncode, ran.stdout, ran.stderr) == (3, b"a\r\nb\n\rc\n", b"")


def test_a_large_output_is_exact(site: Site) -> None:
    """Through every buffer on the way, all of it before the end."""
    ran = site.run("1", "seq", "1", "300000")
    assert ran.returncode == 0
    assert ran.stdout == b"".join(b"%d\n" % number for number in range(1, 300_001))


def test_input_by_a_pipe_ends_with_it(site: Site) -> None:
    """As if it were typed: echoed, and its end is Ctrl-D, also in the middle of a line."""
    for data in (b"one\ntwo\n", b"one\ntwo"):
        ran = site.run("-i", "1", "sh", "-c", "stty -echo; echo ready; wc -c", stdin=data)
        assert ran.returncode == 0
        assert ran.stdout.split()[-1] == b"%d" % len(data)


def test_without_i_nothing_is_read(site: Site) -> None:
    """What stands on stdin is left for others."""
    text = f"{shlex.join([*CLI, '1', 'echo', 'hello'])}; cat"
    ran = subprocess.run(["sh", "-c", text], input=b"mine", capture_output=True, env=site.environment, timeout=DEADLINE_S, check=False)
    assert ran.stdout == b"hello\nmine"


def test_a_reader_that_leaves_ends_the_program(site: Site) -> None:
    """`… | head` is no error of anybody, and nothing goes on."""
    ran = subprocess.run(
        ["bash", "-c", f"{shlex.join([*CLI, '1', 'yes'])} | head -1; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        env=site.environment,
        timeout=DEADLINE_S,
        check=False,
    )
    assert (ran.stdout.split(), ran.stderr) == ([b"y", b"%d" % Exit.READER_GONE], b"")
    soon(lambda: site.backend.terminals[0].closed)


def test_a_terminal_is_asked_for_where_there_is_none(site: Site) -> None:
    """-t in a pipe is a mistake that is told."""
    ran = site.run("-it", "1")
    assert (ran.returncode, b"leave it out" in ran.stderr) == (Exit.USAGE, True)
    assert not site.backend.terminals


@pytest.mark.parametrize("arguments", [["1"], ["-t", "1"]])
def test_a_shell_that_nobody_could_type_into_is_not_opened(site: Site, arguments: list[str]) -> None:
    """It would hang until the job ends."""
    ran = site.run(*arguments)
    assert (ran.returncode, b"with -it" in ran.stderr) == (Exit.USAGE, True)
    assert not site.backend.terminals


@pytest.mark.parametrize(
    ("arguments", "argv"),
    [
        (["1", "echo", "--rank", "-t", "-it", "--help"], b"--rank -t -it --help\n"),
        (["1", "--rank", "1", "echo", "-n", "x"], b"x"),
        (["--rank=1", "1", "--", "echo", "--", "x"], b"-- x\n"),
        (["--rank", "1", "1", "echo", "a  b", "*"], b"a  b *\n"),
    ],
)
def test_words_behind_the_program_are_its_own(site: Site, arguments: list[str], argv: bytes) -> None:
    """Options of ours stand before the job or right behind it; what follows is passed on as it is."""
    ran = site.run(*arguments)
    assert (ran.returncode, ran.stdout) == (0, argv)


def test_a_replica_that_ends_under_a_program(site: Site) -> None:
    """No exit code is made up."""
    with site.person("1", "sh", "-c", "echo ready; exec sleep 1000") as person:
        person.until("ready")
        site.close_sessions()
        code, shown = person.ends()
        assert (code, b"the session was closed" in shown) == (Exit.ERROR, True)
