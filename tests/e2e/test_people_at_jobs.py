"""Operators at running jobs with `serai jobs exec` and `serai jobs logs -f`: a whole server, real sandboxes, a real terminal."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from fakes.stack import Stack, stack
from fakes.terminal import Person
from serai_devcore.applications import shell_request

CLI = (sys.executable, "-m", "serai_server.cli", "jobs")
PAUSED = "echo up; while [ ! -e go ]; do sleep 0.05; done"
"""A job that goes on until the test lets it."""


@pytest.fixture
async def serai(tmp_path: Path) -> AsyncGenerator[Stack]:
    async with stack(tmp_path) as running:
        yield running


async def running_job(serai: Stack, script: str, replicas: int = 1) -> str:
    sent = await serai.core.submit(shell_request(script, replicas=replicas))
    assert sent.accepted, sent.answer
    await serai.core.until(lambda: serai.core.jobs[sent.job_id].state == "RUNNING")
    return sent.job_id


async def test_a_shell_in_a_sandbox(serai: Stack) -> None:
    """At a terminal: it sees the job's files and not the machine's, its rank, this terminal's size; vi draws a screen and ends."""
    job_id = await running_job(serai, f"echo here > mine.txt; {PAUSED}", replicas=2)

    def talk() -> tuple[int, bytes]:
        with Person([*CLI, "exec", "-it", job_id, "--rank", "1", "sh"], environment(serai)) as person:
            person.until(r"[$#] $")
            person.type(b"cd /work; cat mine.txt /etc/ucloud/rank.txt; stty size\r")
            person.until("here\r\n1\r\n20 90\r\n")
            person.resize(100, 30)
            person.type(b"stty size; exit 6\r")
            person.until("30 100\r\n")
            found = person.ends()
            assert person.is_as_before
            return found

    assert (await asyncio.to_thread(talk))[0] == 6
    assert await serai.cli("jobs", "exec", job_id, "sh", "-c", "test -e mine.txt && echo yes; exit 3") == (3, b"yes\n", b"")
    assert await sessions(serai) == b"no sessions\n"


async def test_a_stop_and_a_kill_of_the_server_end_programs_in_replicas(serai: Stack) -> None:
    """SIGTERM with a word, SIGKILL without; the terminal is as before, nothing goes on in the replica, and the job does not notice."""
    job_id = await running_job(serai, PAUSED)
    for number in (signal.SIGTERM, signal.SIGKILL):
        with Person([*CLI, "exec", "-it", job_id, "sh", "-c", "echo ready; exec sleep 98765"], environment(serai)) as person:
            await asyncio.to_thread(person.until, "ready")
            assert serai.process is not None
            serai.process.send_signal(number)
            code, shown = await asyncio.to_thread(person.ends)
            assert code != 0
            assert person.is_as_before
            assert (b"being stopped" in shown) is (number is signal.SIGTERM)
        await serai.process.wait()
        await serai.start()
        async with asyncio.timeout(60):
            while (await serai.cli("jobs", "exec", job_id, "sh", "-c", "! grep -q 9876[5] /proc/[0-9]*/cmdline"))[0] != 0:
                await asyncio.sleep(0.1)
    (serai.work(job_id) / "go").touch()
    await serai.until_final(job_id)


async def test_output_is_followed_over_kills_of_the_server(serai: Stack) -> None:
    """Every rank's output, both streams, byte for byte, while the server is killed twice and stopped once; a word on stderr tells of it."""
    wait = "while [ ! -e go-$batch ]; do sleep 0.02; done"
    write = "i=0; while [ $i -lt 10000 ]; do i=$((i+1)); echo $batch line $i; done; echo err $batch >&2"
    job_id = await running_job(serai, f"for batch in 0 1 2 3 4; do {wait}; {write}; done", replicas=2)
    following = await asyncio.create_subprocess_exec(
        *CLI, "logs", job_id, "--all", "-f", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment(serai)
    )
    assert following.stdout is not None
    assert following.stderr is not None
    out, words = bytearray(), asyncio.ensure_future(following.stderr.read())

    async def until_seen(text: bytes) -> None:
        async with asyncio.timeout(60):
            while text not in out and (data := await following.stdout.read(65_536) if following.stdout is not None else b""):
                out.extend(data)

    (serai.work(job_id) / "go-0").touch()
    for batch, number in enumerate((signal.SIGKILL, signal.SIGTERM, signal.SIGKILL)):
        await until_seen(b"%d line 10000\n" % batch)
        (serai.work(job_id) / f"go-{batch + 1}").touch()  # from here on it writes, and somewhere in there the server goes
        await until_seen(b"%d line 1\n" % (batch + 1))
        assert serai.process is not None
        serai.process.send_signal(number)
        await serai.process.wait()
        await serai.start()
    (serai.work(job_id) / "go-4").touch()  # not before: the job must not be over when the server goes
    await until_seen(b"nothing has this in it")
    err = await words
    for rank in range(2):
        begin = b"%d| " % rank
        seen = b"".join(line.removeprefix(begin) for line in out.splitlines(keepends=True) if line.startswith(begin))
        written = (serai.work(job_id) / ("stdout.txt" if rank == 0 else f"stdout-{rank}.txt")).read_bytes()
        assert written.count(b"\n") == 50_000
        assert hashlib.sha256(seen).digest() == hashlib.sha256(written).digest()
        assert [line for line in err.splitlines() if line.startswith(begin)] == [b"%d| err %d" % (rank, n) for n in range(5)]
    assert await following.wait() == 0
    assert err.count(b"goes on when it can") == 3


async def sessions(serai: Stack) -> bytes:
    code, out, err = await serai.cli("sessions", "list")
    assert (code, out) == (0, b"")
    return err


def environment(serai: Stack) -> dict[str, str]:
    return {**os.environ, "SERAI_CONFIG": str(serai.folder / "serai.toml")}
