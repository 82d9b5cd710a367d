"""Ports of replicas, by the node's address: who reaches them, and who must not."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Literal

import msgspec
import pytest
from fakes.nomad_agents import Agent, FakeSite, RealSite
from fakes.nomad_images import IMAGE, why_no_images
from fakes.nomad_node import let_pass
from fakes.nomad_outside import Outside, outside, why_none
from fakes.screen import Screen
from serai_backends.errors import BackendUnavailable, JobNotThere
from serai_backends.model import Phase, ReplicaSpec, Resources, TerminalSize
from serai_backends.nomad.backend import NomadBackend, open_nomad
from serai_backends.nomad.settings import Firewall, NomadSettings, Placement

BRIDGE = "172.26.64.1"
SERVE = "nc -ll -p 8081 -e echo other & exec nc -ll -p 80 -e echo hello"
SERVE_ON_NODE = """import socket, threading
def serve(port, words):
    server = socket.create_server(("0.0.0.0", port))
    while True:
        peer, _ = server.accept()
        peer.sendall(words)
        peer.close()
threading.Thread(target=serve, args=(8081, b"other"), daemon=True).start()
serve(80, b"hello")"""
pytestmark = [pytest.mark.timeout(240), pytest.mark.skipif(os.geteuid() != 0, reason="containers need root")]


class Cluster:
    def __init__(self, agent: Agent, folder: Path, driver: Literal["docker", "raw_exec"] = "docker") -> None:
        let_pass(folder)
        self.agent, self.driver = agent, driver
        (folder / "drives").mkdir(exist_ok=True)
        self.settings = NomadSettings(
            state_dir=str(folder / "state"),
            provider="ours",
            address=agent.address,
            drives_dir=str(folder / "drives"),
            placements=(Placement(driver=driver),),
            raw_exec=True,
        )
        self.backend: NomadBackend

    def spec(self, job_id: str, *ports: int, argv: tuple[str, ...] = ()) -> ReplicaSpec:
        serve = ("sh", "-c", SERVE) if self.driver == "docker" else ("python3", "-c", SERVE_ON_NODE)
        image = IMAGE if self.driver == "docker" else ""
        return ReplicaSpec(job_id, 1, argv or serve, (), Resources(1, 64 << 20), f"drive/Jobs/web/{job_id}", image=image, ports=ports)

    async def run(self, spec: ReplicaSpec) -> str:
        """Its address."""
        await self.backend.submit(spec)
        async with asyncio.timeout(60):
            while (found := await self.backend.inspect(spec.job_id)) is None or found.phase is not Phase.RUNNING:
                assert found is None or found.phase is not Phase.ENDED, found
                await asyncio.sleep(0.02)
        return found.replicas[0].address

    async def hears(self, job_id: str, host: str, port: int) -> str:
        """What a shell in that job gets to hear there; empty = nobody is reached, within two seconds."""
        line = f"timeout 2 nc {host} {port} </dev/null 2>/dev/null"
        async with Screen(await self.backend.open_shell(job_id, 0, ("sh", "-c", line), TerminalSize(80, 24))) as screen:
            return (await screen.end())[1].strip()

    async def end(self) -> None:
        for job in await self.backend.list():
            await self.backend.cancel(job.job_id)
        async with asyncio.timeout(60):
            while any(job.phase is not Phase.ENDED for job in await self.backend.list()):
                await asyncio.sleep(0.05)
        await self.backend.close()


@pytest.fixture(scope="module")
def beyond() -> Generator[Outside]:
    if (why := why_none()) is not None:
        pytest.skip(why)
    with outside() as made:
        yield made


@pytest.fixture
async def agent(beyond: Outside, tmp_path: Path) -> AsyncGenerator[Agent]:
    if (why := why_no_images()) is not None:
        pytest.skip(why)
    async with RealSite(tmp_path / "agent", outside=beyond) as made:
        yield made


@pytest.fixture
async def on_fake(tmp_path: Path) -> AsyncGenerator[Cluster]:
    if shutil.which("bwrap") is None:
        pytest.skip("the containers of the fake agent need bubblewrap")
    async with FakeSite(tmp_path, drivers=("docker",)) as made:
        cluster = Cluster(made, tmp_path)
        cluster.backend = await open_nomad(cluster.settings)
        yield cluster
        await cluster.end()


def with_firewall(cluster: Cluster, *proxies: str) -> None:
    """A machine type that runs on the node itself would have no shells, from which others are tried."""
    walled = Firewall(enabled=True, proxies=tuple(f"{proxy}/32" for proxy in proxies))
    cluster.settings = msgspec.structs.replace(cluster.settings, firewall=walled)


@pytest.mark.parametrize("driver", ["docker", "raw_exec"])
async def test_proxies_reach_the_jobs_port_and_nobody_else_does(
    agent: Agent, beyond: Outside, tmp_path: Path, driver: Literal["docker", "raw_exec"]
) -> None:
    """On a node with a firewall in each replica: the gateway on the node itself and a proxy outside are let in, to that port alone. A job
    on the same node is not, whichever of the node's addresses it takes: what it sends there comes with the bridge's address."""
    cluster = Cluster(agent, tmp_path, driver)
    with_firewall(cluster, beyond.node, beyond.proxy)
    async with await open_nomad(cluster.settings) as cluster.backend:
        address = await cluster.run(cluster.spec("web", 80))
        found = await cluster.backend.endpoint("web", 0, 80)
        assert found.host == beyond.node
        async with asyncio.timeout(30):
            while await beyond.hears(beyond.proxy, found.host, found.port) != "hello":
                await asyncio.sleep(0.1)
        assert await beyond.hears(beyond.node, found.host, found.port) == "hello"
        assert await beyond.hears(beyond.stranger, found.host, found.port) == ""
        assert await beyond.hears(beyond.proxy, address, 80) == "hello"
        assert await beyond.hears(beyond.proxy, address, 8081) == ""
        assert await beyond.hears(beyond.stranger, address, 80) == ""
        await cluster.end()


async def test_another_job_of_the_node_does_not_reach_it(agent: Agent, beyond: Outside, tmp_path: Path) -> None:
    """Neither by the node's address nor by the bridge's, by another one of the node, or by its own; also not when the settings say that
    the bridge is a proxy."""
    cluster = Cluster(agent, tmp_path)
    with_firewall(cluster, beyond.node, BRIDGE)
    async with await open_nomad(cluster.settings) as cluster.backend:
        address = await cluster.run(cluster.spec("web", 80))
        await cluster.run(cluster.spec("other", 80, argv=("sleep", "600")))
        found = await cluster.backend.endpoint("web", 0, 80)
        assert await beyond.hears(beyond.node, found.host, found.port) == "hello"
        for host, port in ((found.host, found.port), (BRIDGE, found.port), ("172.17.0.1", found.port), (address, 80)):
            assert await cluster.hears("other", host, port) == "", (host, port)
        await cluster.end()


async def test_without_a_firewall_everybody_reaches_it(agent: Agent, beyond: Outside, tmp_path: Path) -> None:
    """What the firewall is for: this is how it is known that the test before would see it."""
    cluster = Cluster(agent, tmp_path)
    async with await open_nomad(cluster.settings) as cluster.backend:
        await cluster.run(cluster.spec("web", 80))
        await cluster.run(cluster.spec("other", argv=("sleep", "600")))
        found = await cluster.backend.endpoint("web", 0, 80)
        assert await beyond.hears(beyond.stranger, found.host, found.port) == "hello"
        assert await cluster.hears("other", found.host, found.port) == "hello"
        await cluster.end()


async def test_on_the_nodes_own_network_a_port_is_its_own_and_only_one_job_has_it(agent: Agent, beyond: Outside, tmp_path: Path) -> None:
    """The second one waits, and is told for what."""
    cluster = Cluster(agent, tmp_path)
    cluster.settings = msgspec.structs.replace(cluster.settings, network="host")
    line = ("sh", "-c", "exec nc -ll -p 8765 -e echo hello")
    async with await open_nomad(cluster.settings) as cluster.backend:
        await cluster.run(cluster.spec("web", 8765, argv=line))
        found = await cluster.backend.endpoint("web", 0, 8765)
        assert (found.host, found.port) == (beyond.node, 8765)
        assert await beyond.hears(beyond.proxy, found.host, found.port) == "hello"
        await cluster.backend.submit(cluster.spec("second", 8765, argv=line))
        async with asyncio.timeout(60):
            while (seen := await cluster.backend.inspect("second")) is None or "free network ports" not in seen.reason:
                await asyncio.sleep(0.05)
        await cluster.end()


async def test_where_a_port_is_is_known_without_asking_nomad(on_fake: Cluster) -> None:
    """An event has said it. A later instance asks once."""
    await on_fake.run(on_fake.spec("web", 80, 5900, argv=("sleep", "600")))
    assert isinstance(on_fake.agent, FakeSite)
    on_fake.agent.agent.fail_next("GET", "/v1/allocation/", 500, "not now", times=99)
    found = await on_fake.backend.endpoint("web", 0, 80)
    assert found != await on_fake.backend.endpoint("web", 0, 5900)
    on_fake.agent.agent.faults.failures.clear()
    await on_fake.backend.close()
    on_fake.backend = await open_nomad(on_fake.settings)
    assert await on_fake.backend.endpoint("web", 0, 80) == found
    on_fake.agent.agent.fail_next("GET", "/v1/allocation/", 500, "not now", times=99)
    assert await on_fake.backend.endpoint("web", 0, 80) == found
    for job_id, rank, port in (("web", 0, 22), ("web", 1, 80), ("none", 0, 80)):
        with pytest.raises(JobNotThere):
            await on_fake.backend.endpoint(job_id, rank, port)
    on_fake.agent.agent.faults.failures.clear()


async def test_a_firewall_without_proxies_has_no_web(tmp_path: Path, on_fake: Cluster) -> None:
    """It is not declared; and whoever asks all the same is told what is missing."""
    for firewall, web in ((Firewall(enabled=True), False), (Firewall(enabled=True, proxies=("10.0.0.1/32",)), True), (Firewall(), True)):
        walled = msgspec.structs.replace(on_fake.settings, firewall=firewall, state_dir=str(tmp_path / f"other-{firewall.enabled}-{web}"))
        async with await open_nomad(walled) as backend:
            assert (backend.features.web, backend.features.vnc) == (web, web)
    await on_fake.run(on_fake.spec("web", 80, argv=("sleep", "600")))
    await on_fake.backend.close()
    walled = msgspec.structs.replace(on_fake.settings, firewall=Firewall(enabled=True))
    async with await open_nomad(walled) as backend:
        with pytest.raises(BackendUnavailable, match=r"backend\.nomad\.firewall\.proxies"):
            await backend.endpoint("web", 0, 80)
    on_fake.backend = await open_nomad(on_fake.settings)
