"""Users follow their jobs, whole: real replicas, a real server, the gateway in a process of its own, and Core's recorded clients.

The way between gateway and server is cut again and again while the job writes. SERAI_FOLLOW_MIB says how much it writes in all: a few MiB
by default, 100 in the long form, where the cuts come each second as they would on a very bad day.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from pathlib import Path

import pytest
from fakes.cutting_relay import CuttingRelay
from fakes.recorded_core import Heard, follow_2021, follow_2026
from fakes.split_stack import split
from fakes.stack import START_S, stack
from serai_devcore.applications import shell_request
from serai_devcore.follow import Followed, follow

MIB = 1 << 20
TOTAL_MIB = float(os.environ.get("SERAI_FOLLOW_MIB", "6"))
LONG = TOTAL_MIB >= 100
RANKS = 3
LINES = int(TOTAL_MIB * MIB / RANKS / 56)
"""Of each rank, 56 bytes each."""

# Lines of two-, three- and four-byte characters, so that chunks end inside of some; every eighth goes to stderr. Written at once, and the
# last of it after Core and its users have come.
SCRIPT = """
awk -v r="$(cat /etc/ucloud/rank.txt)" -v n=LINES 'BEGIN {
  for (i = 0; i < n; i++) {
    line = sprintf("%d %09d grüße € 🦀 zażółć gęślą jaźń", r, i)
    if (i % 8 == 7) print line > "/dev/stderr"; else print line
    if (i == int(n / 2)) { fflush(); system("sleep 2") }
  }
}'
"""


def digests(lines_of_rank: int = LINES) -> dict[tuple[int, str], str]:
    """What each stream of each rank is, by its SHA-256."""
    found: dict[tuple[int, str], str] = {}
    for rank in range(RANKS):
        streams = {"stdout": hashlib.sha256(), "stderr": hashlib.sha256()}
        for start in range(0, lines_of_rank, 1 << 14):
            numbers = range(start, min(lines_of_rank, start + (1 << 14)))
            lines = {n: f"{rank} {n:09d} grüße € 🦀 zażółć gęślą jaźń\n".encode() for n in numbers}
            streams["stdout"].update(b"".join(line for n, line in lines.items() if n % 8 != 7))
            streams["stderr"].update(b"".join(line for n, line in lines.items() if n % 8 == 7))
        found |= {(rank, name): digest.hexdigest() for name, digest in streams.items()}
    return found


@pytest.mark.timeout(900 if LONG else 240)
@pytest.mark.parametrize("generation", ["2021", "2026"])
async def test_both_recorded_clients_read_every_byte_once(tmp_path: Path, generation: str) -> None:
    """A client of 2021 and one of 2026 (its message in fragments) follow the same 3-rank job at the same time, to its end, while each
    connection between gateway and server is cut over and over: every byte of both streams of every rank, once, and the end that their
    generation wants, after Core itself was told the job's end."""
    async with split(tmp_path, generation=generation, every_s=1.0 if LONG else 0.2) as serai:
        sent = await serai.core.submit(shell_request(SCRIPT.replace("LINES", str(LINES)), replicas=RANKS))
        await serai.core.until(lambda: serai.core.jobs[sent.job_id].state == "RUNNING", START_S)
        bearer = serai.core.providers["example"].issuer.core_token()
        started = time.monotonic()
        async with asyncio.timeout(800 if LONG else 200), asyncio.TaskGroup() as group:
            old = group.create_task(follow_2021(serai.port, "example", sent.job_id, bearer))
            new = group.create_task(follow_2026(serai.port, "example", sent.job_id, bearer))
        took_s = time.monotonic() - started
        expected = digests()
        for heard in (old.result(), new.result()):
            assert heard.hexdigests() == expected
            assert heard.longest <= 33_000
        assert (old.result().end["status"], old.result().end["payload"]["rank"]) == (200, -1)
        assert new.result().end == 1000
        assert serai.core.jobs[sent.job_id].final
        assert serai.relay.cuts >= 5
        report(old.result(), new.result(), serai.relay, took_s)


async def test_the_server_is_started_again_while_users_look(tmp_path: Path) -> None:
    """Once by SIGTERM and once by SIGKILL, while the job writes: its replicas outlive that, and both clients read every byte once, to the
    end."""
    lines = 3_000
    script = SCRIPT.replace("LINES", str(lines)).replace('system("sleep 2")', 'system("sleep 15")')
    async with split(tmp_path) as serai:
        sent = await serai.core.submit(shell_request(script, replicas=RANKS))
        await serai.core.until(lambda: serai.core.jobs[sent.job_id].state == "RUNNING", START_S)
        bearer = serai.core.providers["example"].issuer.core_token()
        async with asyncio.timeout(150), asyncio.TaskGroup() as group:
            old = group.create_task(follow_2021(serai.port, "example", sent.job_id, bearer))
            new = group.create_task(follow_2026(serai.port, "example", sent.job_id, bearer))
            for kill in (False, True):
                before = serai.relay.passed
                while serai.relay.passed < before + 1_000:
                    await asyncio.sleep(0.05)
                await serai.restart_server(kill=kill)
        for heard in (old.result(), new.result()):
            assert heard.hexdigests() == digests(lines)
        assert (old.result().end["status"], new.result().end) == (200, 1000)


def report(old: Heard, new: Heard, relay: CuttingRelay, took_s: float) -> None:
    """Figures for people."""
    print(
        f"\n{old.bytes / MIB:.1f} MiB to each of two clients in {took_s:.1f} s, {relay.cuts} cuts, {relay.passed / MIB:.1f} MiB passed the "
        f"relay; messages: 2021 {old.messages}, 2026 {new.messages}"
    )


@pytest.mark.parametrize("generation", ["2021", "2026"])
async def test_the_stand_in_for_core_follows(tmp_path: Path, generation: str) -> None:
    """Server and gateway in one process, as most run them: a user's look at a running job, by each generation's own way."""
    async with stack(tmp_path, generation=generation) as serai:
        sent = await serai.core.submit(shell_request("echo out; echo err >&2; sleep 1; echo last", replicas=2))
        await serai.core.until(lambda: serai.core.jobs[sent.job_id].state == "RUNNING", START_S)
        told = await follow(serai.core, sent.job_id, listen_s=START_S)
        assert isinstance(told, Followed)
        assert (told.status, told.problem, told.inits) == (101, "", 1)
        texts = {"stdout": "", "stderr": ""}
        for payload in told.messages:
            assert isinstance(payload, dict)
            for name in texts:
                texts[name] += str(payload.get(name) or "")
        assert sorted(texts["stdout"].split()) == ["last", "last", "out", "out"]
        assert texts["stderr"].split() == ["err", "err"]
        assert serai.core.jobs[sent.job_id].final
        if generation == "2026":
            assert told.closed
            again = await follow(serai.core, sent.job_id, listen_s=START_S)  # of a job that has ended
            assert isinstance(again, Followed)
            assert len(again.messages) >= 2
            assert again.closed
