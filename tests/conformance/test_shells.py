"""What every backend with a terminal must do; see `OpensShells` and `Shell` in serai_backends/api.py."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from fakes.screen import Screen
from serai_backends.api import OpensShells
from serai_backends.errors import BackendUnavailable, JobNotThere
from serai_backends.model import End, Phase, Stream, TerminalSize

if TYPE_CHECKING:
    from conftest import Site  # pyright: ignore[reportMissingImports]  # pytest's own import of the conftest beside this file

SIZE = TerminalSize(columns=80, rows=24)
LINES = 1_000_000


@pytest.fixture
def shells(site: Site) -> Site:
    if not site.backend.features.terminal:
        pytest.skip("opens no shells")
    if not site.harness.real:
        pytest.skip("has no real processes")
    return site


async def shell(site: Site, job_id: str, *argv: str, rank: int = 0, size: TerminalSize = SIZE) -> Screen:
    assert isinstance(site.backend, OpensShells)
    return Screen(await site.backend.open_shell(job_id, rank, argv, size))


async def line(site: Site, job_id: str, text: str, rank: int = 0) -> tuple[int | None, list[str]]:
    """Exit code and words of a line of sh."""
    async with await shell(site, job_id, "sh", "-c", text, rank=rank) as screen:
        code, said = await screen.end()
        return code, said.split()


async def hang(site: Site, job_id: str = "job", replicas: int = 1) -> None:
    await site.backend.submit(site.spec(job_id, "hang", replicas=replicas))
    await site.running(job_id)


async def test_a_program_runs_on_a_terminal_and_its_exit_code_is_told(shells: Site) -> None:
    """Both streams in one; the code is known when the output has ended."""
    await hang(shells)
    async with await shell(shells, "job", "sh", "-c", "test -t 0 && test -t 1 && test -t 2 && echo well; echo bad >&2; exit 7") as screen:
        assert await screen.end() == (7, "well\r\nbad\r\n")
    assert await line(shells, "job", "kill -9 $$") == (137, [])


async def test_without_a_program_it_is_a_shell_that_can_be_typed_into(shells: Site) -> None:
    """What is typed is shown and done; `exit` ends it with its code."""
    await hang(shells)
    async with await shell(shells, "job") as screen:
        await screen.type("echo $((6 * 7))\n")
        await screen.until("42\r\n")
        await screen.type("exit 3\n")
        code, _ = await screen.end()
        assert code == 3


async def test_the_size_is_told_and_told_again(shells: Site) -> None:
    """Columns and rows at the start; a program hears of a change (SIGWINCH)."""
    await hang(shells)
    text = "trap 'stty size; exit 0' WINCH; stty size; while :; do sleep 0.02; done"
    async with await shell(shells, "job", "sh", "-c", text, size=TerminalSize(columns=100, rows=30)) as screen:
        await screen.until("30 100\r\n")
        await screen.shell.resize(TerminalSize(columns=132, rows=50))
        assert await screen.end() == (0, "50 132\r\n")


async def test_control_c_interrupts(shells: Site) -> None:
    """The byte is the terminal's: it is SIGINT for the program."""
    await hang(shells)
    text = "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.02; done"
    async with await shell(shells, "job", "sh", "-c", text) as screen:
        await screen.until("ready\r\n")
        await screen.type("\x03")
        code, said = await screen.end()
        assert (code, said.removeprefix("^C").strip()) == (5, "caught")


async def test_large_output_is_exact(shells: Site) -> None:
    """Several MiB, with a reader that pauses at first: every byte, in order, and then the end."""
    await hang(shells)
    expected = "".join(f"{number}\n" for number in range(1, LINES + 1)).encode()
    assert isinstance(shells.backend, OpensShells)
    opened = await shells.backend.open_shell("job", 0, ("sh", "-c", f"stty -opost; seq 1 {LINES}"), SIZE)
    digest, size = hashlib.sha256(), 0
    async with asyncio.timeout(100):
        async for data in opened.output():
            if size == 0:
                await asyncio.sleep(0.2)  # not for a result: time in which it would run over
            digest.update(data)
            size += len(data)
    await opened.close()
    assert (size, digest.hexdigest()) == (len(expected), hashlib.sha256(expected).hexdigest())
    assert opened.exit_code == 0


async def test_large_input_is_exact(shells: Site) -> None:
    """A MiB is written at once, far more than a terminal holds, to a program that reads it when it likes."""
    await hang(shells)
    data = b"0123456789abcdef" * 65_536
    text = f"stty raw -echo; echo ready; sleep 0.2; head -c {len(data)} | sha256sum"
    async with await shell(shells, "job", "sh", "-c", text) as screen:
        await screen.until("ready")
        async with asyncio.timeout(100):
            await screen.shell.write(data)
        code, said = await screen.end()
        assert (code, said.split()[0]) == (0, hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("trap", ["", "trap '' HUP; "])
async def test_closing_ends_the_program(shells: Site, trap: str) -> None:
    """Also one that ignores its hang-up, and what it has started on its terminal; the replica goes on."""
    await hang(shells)
    async with await shell(shells, "job", "sh", "-c", f"{trap}sleep 54321 & echo up; sleep 54321; echo on") as screen:
        await screen.until("up\r\n")
        assert await line(shells, "job", "grep -l 5432[1] /proc/[0-9]*/cmdline | wc -l") != (0, ["0"])
    async with asyncio.timeout(60):
        while await line(shells, "job", "grep -l 5432[1] /proc/[0-9]*/cmdline | wc -l") != (0, ["0"]):
            await asyncio.sleep(0.05)
    assert (await shells.running("job")).phase is Phase.RUNNING


async def test_a_closed_shell_says_so(shells: Site) -> None:
    """Close twice is close once; who reads is not left hanging, who writes is told."""
    await hang(shells)
    screen = await shell(shells, "job")
    await screen.shell.close()
    await screen.shell.close()
    with suppress(BackendUnavailable):
        assert (await screen.end())[0] is None
    with pytest.raises(BackendUnavailable):
        await screen.type("x")


async def test_the_replicas_end_is_the_shells(shells: Site) -> None:
    """The program exits: its code is told although a shell was open, and the shell's output ends."""
    await shells.backend.submit(shells.raw("job", ("sh", "-c", "while [ ! -e go ]; do sleep 0.02; done; exit 4")))
    await shells.running("job")
    async with await shell(shells, "job") as screen:
        await screen.type("trap '' HUP TERM; touch /work/go\n")
        found = await shells.ended("job")
        assert (found.replicas[0].end, found.replicas[0].exit_code) == (End.EXITED, 4)
        with suppress(BackendUnavailable):
            await screen.end()


@pytest.mark.parametrize("grace_ms", [0, 60_000])
async def test_a_shell_keeps_no_job_from_being_canceled(shells: Site, grace_ms: int) -> None:
    """At once and with a grace: a shell that ignores every signal has no say."""
    await hang(shells)
    async with await shell(shells, "job", "sh", "-c", "trap '' HUP TERM INT; echo up; while :; do sleep 0.1; done") as screen:
        await screen.until("up\r\n")
        await shells.backend.cancel("job", grace_ms)
        assert (await shells.ended("job")).replicas[0].end is End.CANCELED
        with suppress(BackendUnavailable):
            await screen.end()


async def test_it_finds_what_the_program_finds(shells: Site) -> None:
    """Environment, folder, user and rank are the replica's own; and it has the name of a terminal that programs know."""
    text = "echo $GREETING; id -u; pwd; cat /etc/ucloud/rank.txt; command -v sh"
    await shells.backend.submit(shells.raw("job", ("sh", "-c", f"{text}; echo end; exec sleep 600"), replicas=2))
    await shells.running("job")
    for rank in (0, 1):
        said = b""
        async with asyncio.timeout(30):
            async for chunk in shells.backend.logs("job", rank, Stream.STDOUT, follow=True):
                said += chunk.data
                if said.endswith(b"end\n"):
                    break
        code, words = await line(shells, "job", f"cd /work; {text}; echo end", rank)
        assert (code, words) == (0, said.decode().split())
    assert await line(shells, "job", "pwd; echo $TERM") == (0, ["/work", "xterm-256color"])


async def test_it_is_in_its_own_rank_only(shells: Site) -> None:
    """Scratch files and processes of another rank are not there."""
    await hang(shells, replicas=2)
    assert await line(shells, "job", "echo x > /tmp/mine; cat /tmp/mine", 0) == (0, ["x"])
    assert (await line(shells, "job", "cat /tmp/mine 2>/dev/null", 1))[0] != 0
    async with await shell(shells, "job", "sh", "-c", "echo up; exec sleep 54322") as screen:
        await screen.until("up\r\n")
        assert await line(shells, "job", "grep -l 5432[2] /proc/[0-9]*/cmdline | wc -l", 1) == (0, ["0"])


async def test_shells_side_by_side_do_not_mix(shells: Site) -> None:
    """Eight in one replica: each has its own terminal, input and output; one that is closed takes none with it."""
    await hang(shells)
    screens = await asyncio.gather(*(shell(shells, "job", "sh", "-c", "stty -echo; echo up; read a; echo got $a") for _ in range(8)))
    await asyncio.gather(*(screen.until("up\r\n") for screen in screens))
    await screens[0].shell.close()
    for number, screen in enumerate(screens[1:]):
        await screen.type(f"n{number}\n")
    assert await asyncio.gather(*(screen.end() for screen in screens[1:])) == [(0, f"got n{number}\r\n") for number in range(7)]
    for screen in screens:
        await screen.__aexit__()


async def test_its_output_is_not_the_jobs(shells: Site) -> None:
    """What is shown in a shell is in no log."""
    await hang(shells)
    assert await line(shells, "job", "echo secret; echo secret >&2") == (0, ["secret", "secret"])
    for stream in Stream:
        assert b"".join([chunk.data async for chunk in shells.backend.logs("job", 0, stream)]) == b""


async def test_where_nothing_runs_there_is_no_shell(shells: Site) -> None:
    """Unknown job, unknown rank, a rank that has ended, a job that has ended: JobNotThere. A program that is not there: words."""
    text = "test $(cat /etc/ucloud/rank.txt) = 1 && exit 0; exec sleep 600"
    await shells.backend.submit(shells.raw("job", ("sh", "-c", text), replicas=2))
    await shells.until("job", lambda found: [replica.phase for replica in found.replicas] == [Phase.RUNNING, Phase.ENDED])
    for job_id, rank in (("other", 0), ("job", 2), ("job", -1), ("job", 1)):
        with pytest.raises(JobNotThere):
            await shell(shells, job_id, rank=rank)
    with pytest.raises(BackendUnavailable, match="no-such-program"):
        async with await shell(shells, "job", "no-such-program") as screen:
            code, said = await screen.end()
            raise BackendUnavailable(said if code else "it ended well")
    await shells.backend.cancel("job")
    await shells.ended("job")
    with pytest.raises(JobNotThere):
        await shell(shells, "job")


async def test_a_script_in_place_of_a_programs_name_costs_the_job_nothing(shells: Site) -> None:
    """A name that is far longer than names can be is refused in words; the job and its next shells go on."""
    await hang(shells)
    with pytest.raises(BackendUnavailable, match="too long"):
        async with await shell(shells, "job", "echo ä\n" * 330) as screen:
            code, said = await screen.end()
            raise BackendUnavailable(said if code else "it ended well")
    assert await line(shells, "job", "echo well") == (0, ["well"])


async def test_a_suspended_job_has_shells_that_stand_still(shells: Site) -> None:
    """None is opened; one that was open stops with the job and goes on with it."""
    await hang(shells)
    async with await shell(shells, "job", "sh", "-c", "stty -echo; echo up; read a; echo got $a; while read a; do :; done") as screen:
        await screen.until("up\r\n")
        await shells.suspended("job")
        with pytest.raises(BackendUnavailable):
            await shell(shells, "job")
        await screen.type("news\n")
        await asyncio.sleep(0.3)  # not for a result: time in which it would answer
        assert screen.seen == b""
        await shells.suspends.resume("job")
        await screen.until("got news\r\n")
    found = await shells.until("job", lambda found: found.phase is Phase.RUNNING)
    assert found.ended_at_ms is None


async def test_a_shell_that_is_closed_in_a_pause(shells: Site) -> None:
    """The job stays suspended and is resumed; then the shell's program is gone."""
    await hang(shells)
    async with await shell(shells, "job", "sh", "-c", "echo up; exec sleep 54323") as screen:
        await screen.until("up\r\n")
        await shells.suspended("job")
    await asyncio.sleep(0.7)  # not for a result: time in which the pause would be found broken
    await shells.suspends.resume("job")
    await shells.until("job", lambda found: found.phase is Phase.RUNNING)
    async with asyncio.timeout(60):
        while await line(shells, "job", "grep -l 5432[3] /proc/[0-9]*/cmdline | wc -l") != (0, ["0"]):
            await asyncio.sleep(0.05)


async def test_a_restart_of_the_server_ends_shells_and_not_their_jobs(shells: Site) -> None:
    """The next instance opens new ones in the job that it took over."""
    await hang(shells)
    screen = await shell(shells, "job", "sh", "-c", "echo up; exec sleep 54324")
    await screen.until("up\r\n")
    await shells.reopen()
    with suppress(BackendUnavailable):
        await screen.end()
    await screen.__aexit__()
    async with asyncio.timeout(60):
        while True:
            with suppress(BackendUnavailable):  # a new instance may not have found its way to the job yet
                if await line(shells, "job", "grep -l 5432[4] /proc/[0-9]*/cmdline | wc -l") == (0, ["0"]):
                    break
            await asyncio.sleep(0.05)
