"""What every backend with peers must do: two jobs that asked for it reach each other, and nobody else does."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from serai_backends.errors import SubmissionRefused
from serai_backends.model import End, JobObservation, Peer, Stream, Why

if TYPE_CHECKING:
    from conftest import Site  # pyright: ignore[reportMissingImports]  # pytest's own import of the conftest beside this file

PY = "/usr/bin/python3"
SERVER = """
import socket, sys
server = socket.create_server(("0.0.0.0", 7000))
print("up", flush=True)
while True:
    peer = server.accept()[0]
    peer.sendall(open("/etc/ucloud/job_id.txt").read().encode()); peer.close()
"""
CLIENT = """
import socket, sys
for host in sys.argv[1:]:
    try: print(socket.create_connection((host, 7000), 3).recv(99).decode().strip())
    except OSError as error: print("no")
"""
ASKED = """
import socket, sys, time
print("up", flush=True)
while True:
    try: where = open("/work/where").read()
    except OSError: time.sleep(0.02); continue
    if where: break
for host in where.split():
    try: print(socket.create_connection((host, 7000), 3).recv(99).decode().strip())
    except OSError: print("no")
"""


@pytest.fixture
def peers(site: Site) -> Site:
    if not site.backend.features.peers:
        pytest.skip("cannot connect jobs")
    return site


async def output(site: Site, job_id: str, rank: int = 0) -> str:
    return b"".join([chunk.data async for chunk in site.backend.logs(job_id, rank, Stream.STDOUT)]).decode()


async def up(site: Site, job_id: str, program: str, *words: str, peer: str = "", replicas: int = 1) -> JobObservation:
    """A running job that has said "up"."""
    spec = site.raw(job_id, (PY, "-c", program, *words), replicas=replicas)
    await site.backend.submit(replace(spec, peers=(Peer(peer, peer),) if peer else ()))
    found = await site.running(job_id)
    async with asyncio.timeout(30):
        for rank in range(replicas):
            await anext(site.backend.logs(job_id, rank, Stream.STDOUT, follow=True))
    return found


async def test_two_jobs_reach_each_other_in_both_directions(peers: Site) -> None:
    """The new one by hostname and by the hostname of each rank; the peer by the new one's addresses."""
    await up(peers, "server", SERVER.replace('"0.0.0.0"', "socket.gethostname()"), replicas=2)
    spec = replace(peers.raw("client", (PY, "-c", CLIENT, "db", "db-0", "db-1", "db-2")), peers=(Peer("db", "server"),))
    await peers.backend.submit(spec)
    assert (await peers.ended("client")).replicas[0].exit_code == 0
    assert (await output(peers, "client")).split() == ["server", "server", "server", "no"]
    asked = await up(peers, "asked", ASKED)
    caller = await up(peers, "caller", SERVER, peer="asked")
    assert asked.replicas[0].address != caller.replicas[0].address
    peers.harness.put("drive/Jobs/conformance/asked/where", f"{caller.replicas[0].address} 127.0.0.1")
    assert (await peers.ended("asked")).replicas[0].exit_code == 0
    assert (await output(peers, "asked")).split() == ["up", "caller", "no"]


async def test_who_has_a_peer_in_common_has_nothing_in_common(peers: Site) -> None:
    """A has B and C as peers: B and C do not reach each other, whatever address they try; a job without peers reaches neither."""
    a = await up(peers, "a", SERVER)
    b = await up(peers, "b", SERVER, peer="a")
    c = replace(peers.raw("c", (PY, "-c", CLIENT, "a", a.replicas[0].address, b.replicas[0].address, "b")), peers=(Peer("a", "a"),))
    await peers.backend.submit(c)
    d = peers.raw("d", (PY, "-c", CLIENT, "a", a.replicas[0].address, b.replicas[0].address))
    await peers.backend.submit(d)
    await peers.ended("c")
    await peers.ended("d")
    assert (await output(peers, "c")).split() == ["a", "a", "no", "no"]
    assert (await output(peers, "d")).split() == ["no", "no", "no"]


@pytest.mark.parametrize("state", ["unknown", "waiting", "ended", "forgotten"])
async def test_a_peer_that_does_not_run_fails_the_start(peers: Site, state: str) -> None:
    """Every rank START_FAILED with PEER_GONE and the hostname that was asked for."""
    if state == "waiting":
        await peers.backend.submit(peers.spec("large", "hang", cpu=3))
        await peers.running("large")
        await peers.backend.submit(peers.spec("peer", "hang", cpu=4))
        await peers.backend.cancel("peer")
    elif state != "unknown":
        await peers.backend.submit(peers.spec("peer", "exit", "0"))
        await peers.ended("peer")
    if state == "forgotten":
        await peers.backend.forget("peer")
    await peers.backend.submit(replace(peers.spec("job", "hang"), peers=(Peer("database", "peer"),)))
    found = await peers.ended("job")
    assert (found.replicas[0].end, found.replicas[0].why, found.replicas[0].cause) == (End.START_FAILED, Why.PEER_GONE, "database")
    assert (found.why, found.reason) == (Why.PEER_GONE, "database")


async def test_a_peer_that_ends_only_breaks_the_connection(peers: Site) -> None:
    """The other job goes on, whichever of the two ends; and a third job may be its peer afterwards."""
    await up(peers, "a", SERVER)
    await up(peers, "b", SERVER, peer="a")
    await peers.backend.cancel("a")
    await peers.ended("a")
    found = await peers.running("b")
    assert found.ended_at_ms is None
    await peers.backend.submit(replace(peers.raw("c", (PY, "-c", CLIENT, "b", "b-0")), peers=(Peer("b", "b"),)))
    await peers.ended("c")
    assert (await output(peers, "c")).split() == ["b", "b"]
    assert (await peers.running("b")).ended_at_ms is None


async def test_peers_are_reached_after_a_restart_of_the_server(peers: Site) -> None:
    """Connected jobs stay so, and an adopted job can be a peer of a new one."""
    await up(peers, "a", SERVER)
    asked = await up(peers, "asked", ASKED, peer="a")
    await peers.reopen()
    again = await peers.running("asked")
    assert again.replicas[0].address == asked.replicas[0].address
    peers.harness.put("drive/Jobs/conformance/asked/where", "a")
    await peers.ended("asked")
    assert (await output(peers, "asked")).split() == ["up", "a"]
    await peers.backend.submit(replace(peers.raw("new", (PY, "-c", CLIENT, "old")), peers=(Peer("old", "a"),)))
    await peers.ended("new")
    assert (await output(peers, "new")).split() == ["a"]


@pytest.mark.parametrize("hostname", ["", "localhost", "node-0", "-a", "a b", "a\nb", "a" * 300, "a/b"])
async def test_names_that_are_no_hostname_are_refused(peers: Site, hostname: str) -> None:
    """They would be lines of /etc/hosts."""
    with pytest.raises(SubmissionRefused):
        await peers.backend.submit(replace(peers.spec("job", "hang"), peers=(Peer(hostname, "peer"),)))
    peers.jobs.remove("job")
