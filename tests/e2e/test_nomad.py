"""Serai on Nomad, whole: a stand-in for Core, `serai serve` as a process of its own, and an agent: the fake one always, a real one where
`nomad` is on PATH. What runs are real programs in both (driver raw_exec)."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from fakes.nomad_agents import AGENTS
from fakes.nomad_site import Site, site_on
from fakes.stack import UNIT_PRODUCT
from serai_devcore.applications import EXAMPLE_PRODUCT, Application, JobRequest, shell_request, word

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="raw_exec tasks make a mount namespace of their own: needs root")
PROGRAM = Application("program", "1", "Shell", "Runs one program", "debian:stable-slim", (word("true"),), allow_multi_node=True)
TALK = """
set -e
rank=$(cat /etc/ucloud/rank.txt) me=$(cat /etc/ucloud/node-$(cat /etc/ucloud/rank.txt).txt)
/usr/bin/python3 -c '
import socket, sys, threading
rank, me = int(sys.argv[1]), sys.argv[2]
nodes = [open(f"/etc/ucloud/node-{n}.txt").read().strip() for n in range(3)]
server = socket.create_server((me, 7100))
def serve():
    for _ in range(3):
        peer = server.accept()[0]; peer.sendall(b"%d" % rank * 65536); peer.close()
thread = threading.Thread(target=serve); thread.start()
for n, node in enumerate(nodes):
    for _ in range(300):
        try: link = socket.create_connection((node, 7100), 5); break
        except ConnectionRefusedError: __import__("time").sleep(0.02)
    got = b""
    while piece := link.recv(65536): got += piece
    print(n, got == b"%d" % n * 65536)
thread.join()
' "$rank" "$me"
"""


@pytest.fixture(params=AGENTS)
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Site]:
    async with AGENTS[str(request.param)](tmp_path / "agent") as agent, site_on(agent, tmp_path / "serai") as made:
        yield made


async def test_a_job_runs_writes_and_is_billed_once(site: Site) -> None:
    """From Core's request to its bill; what it wrote is in its folder and in its log, whole."""
    job_id = await site.submit(replace(shell_request("echo out; echo err >&2; id -u; pwd"), product=UNIT_PRODUCT))
    assert await site.ended(job_id) == ("SUCCESS", "The job has finished processing!")
    out, uid, where, *_ = site.text(job_id).split()
    assert (out, where, site.text(job_id, "stderr.txt")) == ("out", "/work", "err\n")
    assert uid != "0"
    await site.serai.core.until(lambda: bool(site.serai.core.accounts.charges))
    (charge,) = site.serai.core.accounts.charges
    assert (charge.job_id, charge.periods, charge.number_of_products) == (job_id, 1, 1)
    code, logs, _ = await site.serai.cli("jobs", "logs", job_id)
    assert code == 0
    assert logs.decode() == site.text(job_id)
    await site.agent.until_empty()


async def test_three_replicas_find_each_other_and_exchange_bytes(site: Site) -> None:
    """By /etc/ucloud, over TCP; all of them were placed before any began."""
    job_id = await site.submit(shell_request(TALK, replicas=3))
    assert await site.ended(job_id) == ("SUCCESS", "The job has finished processing!")
    for name in ("stdout.txt", "stdout-1.txt", "stdout-2.txt"):
        assert site.text(job_id, name).split() == ["0", "True", "1", "True", "2", "True"]


async def test_ends_are_told_apart(site: Site) -> None:
    """Exit codes, signals, programs that are not there."""
    for script, words in (
        ("exit 3", "The program ended with exit code 3."),
        ("kill -9 $$", "The program was ended by signal 9 (SIGKILL)."),
    ):
        assert await site.ended(await site.submit(shell_request(script))) == ("SUCCESS", words)
    missing = JobRequest(replace(PROGRAM, invocation=(word("no-such-program"),)), EXAMPLE_PRODUCT)
    words = "The program could not be started: there is no program no-such-program on the machine."
    assert await site.ended(await site.submit(missing)) == ("FAILURE", words)


async def test_a_job_is_terminated(site: Site) -> None:
    """SIGTERM reaches the program; nothing is left at Nomad."""
    job_id = await site.running(shell_request("trap 'echo bye; exit 0' TERM; while :; do sleep 0.1; done"))
    await site.serai.core.terminate(job_id)
    assert await site.ended(job_id) == ("SUCCESS", "The job was stopped.")
    assert site.text(job_id) == "bye\n"
    await site.agent.until_empty()


async def test_a_job_expires_and_an_extended_one_goes_on(site: Site) -> None:
    """EXPIRED is not SUCCESS; more time asks nothing of Nomad, so nothing runs twice."""
    short = await site.submit(replace(shell_request("sleep 600"), hours=0, seconds=1))
    long = await site.running(replace(shell_request("echo once >> runs; sleep 4"), hours=0, seconds=2))
    assert (await site.serai.core.extend(long, minutes=1)).accepted
    assert await site.ended(short) == ("EXPIRED", "The job has reached its time limit of 1 second.")
    assert await site.ended(long) == ("SUCCESS", "The job has finished processing!")
    assert (site.serai.work(long) / "runs").read_text() == "once\n"


@pytest.mark.parametrize("killed", ["server", "agent", "both"])
async def test_what_is_killed_in_mid_job_finds_it_again(site: Site, killed: str) -> None:
    """kill -9 of the server, a restart of the agent, both: the job runs on, once, and its end is told once and right."""
    script = "echo once >> runs; while [ ! -e go ]; do sleep 0.05; done; exit 5"
    job_id = await site.running(shell_request(script, replicas=2))
    if killed != "agent":
        await site.serai.kill()
    if killed != "server":
        await site.agent.restart()
    if killed != "agent":
        await site.serai.start()
    (site.serai.work(job_id) / "go").touch()
    assert await site.ended(job_id) == ("SUCCESS", "Rank 0 ended with exit code 5; rank 1 ended with exit code 5.")
    assert (site.serai.work(job_id) / "runs").read_text() == "once\nonce\n"


async def test_a_server_that_is_killed_while_jobs_come_loses_none(site: Site) -> None:
    """At any moment between Core's request and the end: each job runs exactly once."""
    job_ids = [await site.submit(shell_request("echo once >> runs; sleep 0.3")) for _ in range(6)]
    for _ in range(3):
        await asyncio.sleep(0.25)
        await site.serai.kill()
        await site.serai.start()
    for job_id in job_ids:
        assert await site.ended(job_id) == ("SUCCESS", "The job has finished processing!")
        assert (site.serai.work(job_id) / "runs").read_text() == "once\n"


async def test_a_purge_behind_our_back_is_told_as_what_it_is(site: Site) -> None:
    """Not as success: nobody knows how the program ended. What was not billed by then is not."""
    job_id = await site.running(shell_request("sleep 600"))
    await site.agent.purge(f"ucloud-{job_id}")
    assert await site.ended(job_id) == ("FAILURE", "The program was lost: the cluster does not know it any more (it was purged).")


async def test_an_operators_stop_is_told_as_what_it_is(site: Site) -> None:
    """The same for a drain of its node."""
    job_id = await site.running(shell_request("sleep 600"))
    await site.agent.stop_job(f"ucloud-{job_id}")
    assert await site.ended(job_id) == ("FAILURE", "The program was ended: an operator of the cluster stopped the job.")
    job_id = await site.running(shell_request("sleep 600"))
    node = await site.agent.drain()
    assert await site.ended(job_id) == ("FAILURE", f"The program was ended: the machine {node} was taken out of service.")


async def test_a_job_that_does_not_fit_waits_in_words(site: Site) -> None:
    """And a job that never could is refused at once, in words."""
    first = await site.running(shell_request("sleep 600", replicas=3))
    second = await site.submit(shell_request("exit 0", replicas=4))
    await site.serai.core.until(lambda: any("waiting for" in a.status for a in site.serai.core.jobs[second].arrivals), 60)
    await site.serai.core.terminate(first)
    assert (await site.ended(second))[0] == "SUCCESS"
    state, words = await site.ended(await site.submit(shell_request("exit 0", replicas=9)))
    assert state == "FAILURE"
    assert "the cluster's machines for it have" in words


async def test_the_job_file_is_shown(site: Site) -> None:
    """`serai nomad render`: as HCL for people, as JSON for programs."""
    job_id = await site.running(shell_request("sleep 600"))
    code, out, err = await site.serai.cli("nomad", "render", job_id)
    assert code == 0, err
    assert out.decode().startswith("#") or out.decode().startswith("job ")
    code, out, err = await site.serai.cli("nomad", "render", job_id, "--json")
    assert code == 0, err
    assert json.loads(out)["Job"]["ID"] == f"ucloud-{job_id}"
