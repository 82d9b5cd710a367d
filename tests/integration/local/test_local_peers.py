"""The network of two connected jobs: what it leaves behind, what it does not reach, and that it is really tried."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import textwrap
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fakes.local_site import LocalSite, processes_of, until
from hypothesis import given
from hypothesis import strategies as st
from serai_backends.errors import BackendUnavailable
from serai_backends.local.adopt import dial
from serai_backends.local.blocks import ALL, Blocks
from serai_backends.local.folder import JobFolder
from serai_backends.local.supervisor.namespaces import address, parse_block
from serai_backends.model import End, Peer, Stream, Why

if TYPE_CHECKING:
    from collections.abc import Sequence

ONLY_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can connect two jobs")
FACTS = "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '; tail -n +2 /proc/net/route; cat /proc/sys/net/ipv4/ip_forward"
WATCH = f"while :; do ( {FACTS} ) > now.new; mv now.new now; sleep 0.02; done"


def interfaces(text: str) -> list[str]:
    return sorted(line for line in text.split("\n") if line.startswith(("lo", "peer")) and "\t" not in line)


def seen(site: LocalSite, job_id: str) -> str:
    now = site.work(job_id) / "now"
    return now.read_text() if now.exists() else ""


def host_interfaces() -> set[str]:
    return {line.split(":")[0].strip() for line in Path("/proc/net/dev").read_text().splitlines()[2:]}


async def watcher(site: LocalSite, job_id: str, *peers: Peer) -> None:
    await site.backend.submit(replace(site.spec(job_id, "sh", "-c", WATCH), peers=peers))
    assert (await site.running(job_id)).ended_at_ms is None
    await until(lambda: "lo" in seen(site, job_id), "it looks at its network")


@ONLY_ROOT
async def test_ends_leave_no_interface_behind(site: LocalSite) -> None:
    """Neither on the host at any time, nor in the peer when the other one has ended, been canceled or been killed."""
    before = host_interfaces()
    await watcher(site, "a")
    assert interfaces(seen(site, "a")) == ["lo"]
    for job_id, end in (("b", "cancel"), ("c", "kill")):
        await watcher(site, job_id, Peer("a", "a"))
        await until(lambda: len(interfaces(seen(site, "a"))) == 2, "the peer has its end of the cable")
        assert host_interfaces() == before
        if end == "cancel":
            await site.backend.cancel(job_id)
        else:
            for pid in processes_of(str(site.state(job_id))):
                os.kill(pid, signal.SIGKILL)
        await site.ended(job_id)
        await until(lambda: interfaces(seen(site, "a")) == ["lo"], "the peer is as before")
    assert host_interfaces() == before


@ONLY_ROOT
async def test_routes_lead_to_the_peers_block_only(site: LocalSite) -> None:
    """One route for each peer, no default, no gateway, nothing is forwarded; read from the routing table, nothing is sent."""
    await watcher(site, "a")
    await watcher(site, "b")
    await watcher(site, "c", Peer("a", "a"), Peer("also-a", "a"), Peer("b", "b"))
    blocks: dict[str, str] = {}
    for job_id in ("a", "b", "c"):
        found = await site.backend.inspect(job_id)
        assert found is not None
        blocks[job_id] = found.replicas[0].address.rpartition(".")[0]
    counts = {"a": 2, "b": 2, "c": 3}
    await until(lambda: all(len(interfaces(seen(site, job_id))) == count for job_id, count in counts.items()), "the cables are seen")
    wanted = {"a": {blocks["c"]}, "b": {blocks["c"]}, "c": {blocks["a"], blocks["b"]}}
    for job_id, others in wanted.items():
        lines = [line.split("\t") for line in seen(site, job_id).split("\n") if line.startswith("peer") and "\t" in line]
        assert {socket.inet_ntoa(bytes.fromhex(line[1])[::-1]).rpartition(".")[0] for line in lines} == others
        assert {line[2] for line in lines} == {"00000000"}
        assert {line[7] for line in lines} == {"00FFFFFF"}
        assert seen(site, job_id).endswith("\n0\n")


@ONLY_ROOT
async def test_a_peer_opens_no_way_to_the_host(site: LocalSite) -> None:
    """With a peer, the host's loopback listener and the host's own addresses are as far away as without."""
    await watcher(site, "a")
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as abstract:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        abstract.bind(f"\0serai-peer-{os.getpid()}")
        abstract.listen()
        attack = f"""
            import fcntl, socket, struct
            def tries(family, where):
                s = socket.socket(family); s.settimeout(2)
                try: s.connect(where); return "CONNECTED"
                except OSError as error: return "no"
            print(tries(socket.AF_INET, ("127.0.0.1", {tcp.getsockname()[1]})))
            print(tries(socket.AF_UNIX, {abstract.getsockname()!r}))
            names = [name for _, name in socket.if_nameindex()]
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            for name in names:
                for request in (0x8914, 0x8916, 0x891C):
                    try: fcntl.ioctl(s, request, struct.pack("16sh22x", name.encode(), 0)); print("CHANGED", name)
                    except OSError: print("no")
        """
        spec = replace(site.spec("b", "/usr/bin/python3", "-c", textwrap.dedent(attack)), peers=(Peer("a", "a"),))
        await site.backend.submit(spec)
        found = await site.ended("b")
    words = (await site.output("b")).split()
    assert found.replicas[0].exit_code == 0, await site.output("b", stream=Stream.STDERR)
    assert len(words) == 8
    assert set(words) == {"no"}


@ONLY_ROOT
async def test_launchers_killed_while_they_connect(site: LocalSite) -> None:
    """A start of a job with a peer is killed at random moments: it is repeated or told, and no cable is left over."""
    chance = random.Random(20261125)
    before = host_interfaces()
    await watcher(site, "a")
    for number in range(20):
        job_id = f"job{number}"
        await site.backend.submit(replace(site.spec(job_id, "true"), peers=(Peer("a", "a"),)))
        await asyncio.sleep(chance.uniform(0.02, 0.1))
        for pid in processes_of(str(site.state(job_id)))[:1]:
            os.kill(pid, signal.SIGKILL)
        assert (await site.ended(job_id)).replicas[0].end in {End.EXITED, End.LOST, End.START_FAILED}
    await until(lambda: interfaces(seen(site, "a")) == ["lo"], "no cable is left")
    assert host_interfaces() == before
    assert (await site.running("a")).ended_at_ms is None


@ONLY_ROOT
async def test_another_process_in_the_place_of_the_peer_is_not_taken_for_it(site: LocalSite) -> None:
    """The peer's supervisor has gone and its pid is somebody else's: PEER_GONE, and that process' network is not touched."""
    await watcher(site, "a")
    begun = site.state("a") / "begun"
    text = begun.read_text()
    begun.write_text(text.replace('"pid": ', '"pid": 1, "was": '))
    await site.backend.submit(replace(site.spec("b", "true"), peers=(Peer("a", "a"),)))
    found = await site.ended("b")
    begun.write_text(text)
    assert (found.why, found.reason) == (Why.PEER_GONE, "a")


async def test_a_socket_to_a_rank_is_handed_out(site: LocalSite) -> None:
    """The control socket's `connect` reaches the rank's own address."""
    line = "import socket; s = socket.create_server((socket.gethostname(), 8080)); print('up', flush=True); s.accept()[0].sendall(b'hello')"
    await site.backend.submit(site.spec("job", "/usr/bin/python3", "-c", line))
    await site.running("job")
    async for _ in site.backend.logs("job", 0, Stream.STDOUT, follow=True):
        break

    def ask() -> bytes:
        connection = dial(JobFolder(site.state("job").parent, "job"))
        assert connection is not None
        with connection:
            connection.setblocking(True)
            connection.send(b'{"op":"connect","rank":0,"port":8080}')
            answer, fds, _, _ = socket.recv_fds(connection, 4096, 1)
            assert answer == b'{"ok":true}'
            with socket.socket(fileno=fds[0]) as inside:
                return inside.recv(99)

    assert await asyncio.to_thread(ask) == b"hello"


@pytest.mark.skipif(os.geteuid() == 0, reason="root can")
async def test_a_user_cannot_connect_jobs_and_says_so(site: LocalSite) -> None:
    """`features.peers` is False, the check says why."""
    assert not site.backend.features.peers
    report = await site.backend.check()
    assert any(finding.subject == "peers" and "only root" in finding.text for finding in report.findings)


def overlap(blocks: Sequence[str]) -> bool:
    bounds = sorted((first, first + (1 << (32 - bits))) for first, bits in map(parse_block, blocks))
    return any(high > low for (_, high), (low, _) in pairwise(bounds))


@given(st.lists(st.tuples(st.integers(1, 3000), st.integers(0, 5)), max_size=40))
def test_blocks_of_living_jobs_never_overlap(jobs: list[tuple[int, int]]) -> None:
    """Whatever ends when: aligned, inside the range, large enough for every rank, and nobody else's."""
    blocks, living = Blocks(), list[str]()
    first, bits = ALL
    for replicas, ends in jobs:
        del living[:ends]
        block = blocks.choose(replicas, living)
        low, own_bits = parse_block(block)
        assert low % (1 << (32 - own_bits)) == 0
        assert own_bits <= 24
        assert 1 << (32 - own_bits) >= replicas + 2
        assert first <= low < first + (1 << (32 - bits))
        living.append(block)
        assert not overlap(living)


def test_no_block_is_left() -> None:
    """In words."""
    with pytest.raises(BackendUnavailable, match="in use"):
        Blocks().choose(1, ["10.128.0.0/9"])


@pytest.mark.parametrize(("rank", "wanted"), [(0, "127.1.0.1"), (254, "127.1.0.255"), (255, "127.1.1.0")])
def test_addresses_of_jobs_of_releases_before(rank: int, wanted: str) -> None:
    """They run on with what they have."""
    assert address("127.1.0.0/16", rank) == wanted
