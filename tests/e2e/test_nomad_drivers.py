"""Serai whole on a real agent with programs in containers (docker) and in a chroot (exec): Core's request in, Core told, the bill made.

Skipped by name where there is no nomad, no root, no dockerd, or no static busybox to make an image of.
"""

from __future__ import annotations

import asyncio
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from fakes.nomad_agents import RealSite
from fakes.nomad_images import IMAGE, why_no_images
from fakes.nomad_site import Site, site_on
from fakes.stack import ROOT, TINY_PRODUCT, UNIT_PRODUCT
from serai_devcore.applications import EXAMPLE_PRODUCT, Application, JobRequest, acme_request, shell_request, word

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator
    from pathlib import Path

    from serai_devcore.accounts import Product

pytestmark = pytest.mark.timeout(240)
TALK = """
set -e
rank=$(cat /etc/ucloud/rank.txt)
head -c 65536 /dev/zero | tr '\\0' $rank > mine-$rank
nc -ll -p 7100 -e cat /work/mine-$rank & serves=$!
for n in 0 1 2; do
    for address in node-$n $(cat /etc/ucloud/node-$n.txt); do
        until nc -w 5 $address 7100 < /dev/null > got-$rank 2> /dev/null && [ -s got-$rank ]; do sleep 0.1; done
        cmp got-$rank mine-$n && echo $n
    done
done
touch done-$rank
until [ -e done-0 ] && [ -e done-1 ] && [ -e done-2 ]; do sleep 0.1; done
kill $serves
"""
PROGRAM = Application("program", "1", "Shell", "Runs one program", IMAGE, (word("true"),))
FINISHED = ("SUCCESS", "The job has finished processing!")
UP = 'trap "echo bye; exit 0" TERM; echo once >> runs; echo up; while :; do sleep 0.1; done'


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealSite]:
    """One agent for all tests here: it takes seconds to start. Each test leaves it empty."""
    folder = tmp_path_factory.mktemp("nomad")
    programs = shutil.copytree(ROOT / "examples" / "acme-batch", folder / "programs")
    site = RealSite(folder / "agent", programs=programs)
    with ThreadPoolExecutor(1) as elsewhere:  # a loop of its own: those of the tests come and go
        elsewhere.submit(asyncio.run, site.__aenter__()).result()
        yield site
        elsewhere.submit(asyncio.run, site.__aexit__()).result()


@pytest.fixture
async def agent(real: RealSite) -> AsyncGenerator[RealSite]:
    yield real
    await real.agent.clear()


@pytest.fixture
def images() -> None:
    if (why := why_no_images()) is not None:
        pytest.skip(why)


@pytest.fixture(params=["open", "firewall"])
async def docker(request: pytest.FixtureRequest, agent: RealSite, tmp_path: Path, images: None) -> AsyncGenerator[Site]:
    del images
    backend = agent.settings_text("docker", firewall=request.param == "firewall")
    async with site_on(agent, tmp_path, backend) as made:
        yield made


@pytest.fixture(params=["host", "bridge"])
async def chroot(request: pytest.FixtureRequest, agent: RealSite, tmp_path: Path) -> AsyncGenerator[Site]:
    backend = agent.settings_text("exec", f'work = "volume"\nnetwork = "{request.param}"')
    async with site_on(agent, tmp_path, backend) as made:
        yield made


def shell(script: str, *, replicas: int = 1, product: Product = EXAMPLE_PRODUCT) -> JobRequest:
    """A line of shell in the image that is there."""
    request = shell_request(script, replicas=replicas, product=product)
    return replace(request, application=replace(request.application, image=IMAGE))


async def test_the_seeds_batch_job_in_a_container(docker: Site) -> None:
    """Core is told RUNNING and SUCCESS; its words and its report are in the job's folder, and are the log; one charge."""
    job_id = await docker.submit(replace(acme_request(), product=UNIT_PRODUCT))
    assert await docker.ended(job_id) == FINISHED
    assert [a.state for a in docker.serai.core.jobs[job_id].arrivals if a.state] == ["RUNNING", "SUCCESS"]
    work = docker.serai.work(job_id, "Acme batch")
    assert (work / "stdout.txt").read_text().splitlines()[-2:] == ["Hello, World!", "done: report.txt"]
    assert "value: Hello, World!" in (work / "report.txt").read_text()
    code, out, _ = await docker.serai.cli("jobs", "logs", job_id)
    assert (code, out.decode()) == (0, (work / "stdout.txt").read_text())
    await docker.serai.core.until(lambda: bool(docker.serai.core.accounts.charges))
    (charge,) = docker.serai.core.accounts.charges
    assert (charge.job_id, charge.periods, charge.number_of_products) == (job_id, 1, 1)
    await docker.agent.until_empty()


async def test_three_containers_find_each_other_and_exchange_bytes(docker: Site) -> None:
    """By the names and the addresses of /etc/ucloud, over TCP, 64 KiB each way."""
    job_id = await docker.submit(shell(TALK, replicas=3))
    assert await docker.ended(job_id) == FINISHED, docker.text(job_id, "stderr.txt")
    for name in ("stdout.txt", "stdout-1.txt", "stdout-2.txt"):
        assert docker.text(job_id, name).split() == ["0", "0", "1", "1", "2", "2"]


async def test_ends_of_containers_are_told_apart(docker: Site) -> None:
    """The program's own ends, each in its words."""
    eats = "dd if=/dev/zero of=/dev/null bs=300M count=1"
    assert await docker.told(shell("exit 3")) == ("SUCCESS", "The program ended with exit code 3.")
    assert await docker.told(shell("kill -9 $$")) == ("SUCCESS", "The program was ended by signal 9 (SIGKILL).")
    assert await docker.told(shell(f"exec {eats}", product=TINY_PRODUCT)) == (
        "SUCCESS",
        "The program used more memory than its machine type has and was ended.",
    )
    child = "The program ended with exit code 5; one of its processes had been ended by its memory limit."
    assert await docker.told(shell(f"{eats}; exit 5", product=TINY_PRODUCT)) == ("SUCCESS", child)


async def test_what_cannot_be_started_in_a_container(docker: Site) -> None:
    """A program that the image has not, and an image that no registry gives: FAILURE, and what to look for."""
    missing = JobRequest(replace(PROGRAM, invocation=(word("no-such-program"),)), EXAMPLE_PRODUCT)
    words = "The program could not be started: there is no program no-such-program on the machine."
    assert await docker.told(missing) == ("FAILURE", words)
    state, words = await docker.told(JobRequest(replace(PROGRAM, image="127.0.0.1:1/no/such:1"), EXAMPLE_PRODUCT))
    assert state == "FAILURE"
    assert words.startswith("The program could not be started: its image could not be fetched: 127.0.0.1:1/no/such:1: "), words
    assert "connection refused" in words


async def test_a_container_is_terminated(docker: Site) -> None:
    """SIGTERM reaches the program itself, which says its last words; nothing is left at Nomad."""
    job_id = await docker.running(shell(UP))
    await docker.until_text(job_id, "up")
    await docker.serai.core.terminate(job_id)
    assert await docker.ended(job_id) == ("SUCCESS", "The job was stopped.")
    assert docker.text(job_id) == "up\nbye\n"
    await docker.agent.until_empty()


async def test_containers_expire_and_an_extended_one_goes_on(docker: Site) -> None:
    """More time asks nothing of Nomad, so nothing runs twice."""
    short = await docker.submit(replace(shell("sleep 600"), hours=0, seconds=1))
    long = await docker.running(replace(shell("echo once >> runs; sleep 4"), hours=0, seconds=2))
    assert (await docker.serai.core.extend(long, minutes=1)).accepted
    assert await docker.ended(short) == ("EXPIRED", "The job has reached its time limit of 1 second.")
    assert await docker.ended(long) == FINISHED
    assert docker.text(long, "runs") == "once\n"


async def test_a_container_that_is_purged_behind_our_back(docker: Site) -> None:
    """Not success: nobody knows how the program ended."""
    job_id = await docker.running(shell("sleep 600"))
    await docker.agent.purge(f"ucloud-{job_id}")
    assert await docker.ended(job_id) == ("FAILURE", "The program was lost: the cluster does not know it any more (it was purged).")


@pytest.mark.parametrize("killed", ["server", "agent", "both"])
async def test_containers_live_on_without_server_and_agent(docker: Site, killed: str) -> None:
    """Once, with the right end."""
    job_id = await docker.running(shell("echo once >> runs; while [ ! -e go ]; do sleep 0.05; done; exit 5", replicas=2))
    if killed != "agent":
        await docker.serai.kill()
    if killed != "server":
        await docker.agent.restart()
    if killed != "agent":
        await docker.serai.start()
    (docker.serai.work(job_id) / "go").touch()
    assert await docker.ended(job_id) == ("SUCCESS", "Rank 0 ended with exit code 5; rank 1 ended with exit code 5.")
    assert docker.text(job_id, "runs") == "once\nonce\n"


async def test_the_seeds_batch_job_in_a_chroot(chroot: Site) -> None:
    """Without a folder that server and node share; what the program says comes from Nomad while the job is known there."""
    job_id = await chroot.submit(replace(acme_request(), product=UNIT_PRODUCT))
    code, out, err = await chroot.serai.cli("jobs", "logs", "--follow", job_id)
    assert await chroot.ended(job_id) == FINISHED
    assert [a.state for a in chroot.serai.core.jobs[job_id].arrivals if a.state] == ["RUNNING", "SUCCESS"]
    assert (code, out.decode().splitlines()[-2:]) == (0, ["Hello, World!", "done: report.txt"]), err
    await chroot.serai.core.until(lambda: bool(chroot.serai.core.accounts.charges))
    (charge,) = chroot.serai.core.accounts.charges
    assert (charge.job_id, charge.periods, charge.number_of_products) == (job_id, 1, 1)
    await chroot.agent.until_empty()


async def test_ends_in_a_chroot_are_told_apart(chroot: Site) -> None:
    """As on every driver."""
    assert await chroot.told(shell("exit 3")) == ("SUCCESS", "The program ended with exit code 3.")
    assert await chroot.told(shell("kill -9 $$")) == ("SUCCESS", "The program was ended by signal 9 (SIGKILL).")
    assert (await chroot.told(replace(shell("sleep 600"), hours=0, seconds=1)))[0] == "EXPIRED"
    job_id = await chroot.running(shell("sleep 600"))
    await chroot.serai.core.terminate(job_id)
    assert await chroot.ended(job_id) == ("SUCCESS", "The job was stopped.")
    await chroot.agent.until_empty()
