"""A Nomad agent for tests of the whole: the fake one, or a real one where `nomad` is on PATH. Both run real programs (driver raw_exec)."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Protocol, Self, cast

import aiohttp
import pytest

from fakes.nomad import FakeAgent, NodeSpec
from fakes.nomad_real import RealAgent, why_not

if TYPE_CHECKING:
    from pathlib import Path

    from fakes.nomad_outside import Outside

MHZ, MEMORY_MIB = 8_000, 8_192


def settings_text(address: str, driver: str = "raw_exec", more: str = "", *, firewall: bool = False) -> str:
    """Sections of serai.toml for the agent at `address`. `more`: further lines of [backend.nomad]."""
    return f"""
[backend]
kind = "nomad"
[backend.nomad]
address = "{address}"
drives_dir = "drives"
raw_exec = true
sweep_ms = 2000
{more}
[[backend.nomad.placements]]
driver = "{driver}"
[backend.nomad.firewall]
enabled = {str(firewall).lower()}
"""


class Agent(Protocol):
    @property
    def address(self) -> str: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...

    def settings_text(self, driver: str = "raw_exec", more: str = "", *, firewall: bool = False) -> str:
        """Sections of serai.toml. `more`: further lines of [backend.nomad]."""
        ...

    @property
    def folder(self) -> Path:
        """Where the agent keeps its own: its state, what it wrote down, and the folders of its allocations."""
        ...

    @property
    def node(self) -> str:
        """The address of its node."""
        ...

    async def rows(self, path: str) -> list[dict[str, object]]:
        """What Nomad lists there."""
        ...

    async def restart(self) -> None:
        """Ended, and a new one on the same state."""
        ...

    async def purge(self, nomad_id: str) -> None: ...

    async def stop_job(self, nomad_id: str) -> None: ...

    async def drain(self) -> str:
        """Take the node out of service at once; its name. It is taken in again when its jobs are gone."""
        ...

    async def until_empty(self) -> None:
        """Until Nomad has neither jobs nor variables of ours."""
        ...


class _Calls:
    address: str

    async def _call(self, method: str, path: str, body: object = None) -> list[dict[str, object]]:
        """The rows of the answer; none of what is no list."""
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, f"{self.address}{path}", json=body) as answer,
        ):
            assert answer.status == 200, await answer.text()
            found: object = await answer.json(content_type=None)
            return cast("list[dict[str, object]]", found) if isinstance(found, list) else []

    def settings_text(self, driver: str = "raw_exec", more: str = "", *, firewall: bool = False) -> str:
        return settings_text(self.address, driver, more, firewall=firewall)

    async def rows(self, path: str) -> list[dict[str, object]]:
        return await self._call("GET", path)

    async def purge(self, nomad_id: str) -> None:
        await self._call("DELETE", f"/v1/job/{nomad_id}?purge=true")

    async def stop_job(self, nomad_id: str) -> None:
        await self._call("DELETE", f"/v1/job/{nomad_id}")

    async def drain(self) -> str:
        node = (await self._call("GET", "/v1/nodes"))[0]
        await self._call("PUT", f"/v1/node/{node['ID']}/drain", {"DrainSpec": {"Deadline": -1}, "MarkEligible": False})
        return str(node["Name"])

    async def until_empty(self) -> None:
        async with asyncio.timeout(30):
            while await self._call("GET", "/v1/jobs?prefix=ucloud-") or await self._call("GET", "/v1/vars?prefix=nomad/jobs/ucloud-"):
                await asyncio.sleep(0.05)


class FakeSite(_Calls):
    def __init__(self, folder: Path, mhz: int = MHZ, memory_mib: int = MEMORY_MIB, drivers: tuple[str, ...] = ("raw_exec",)) -> None:
        del folder
        volumes = (("driver.docker.volumes.enabled", "true"),) if "docker" in drivers else ()
        self.agent = FakeAgent([NodeSpec(cpu_mhz=mhz, memory_mb=memory_mib, drivers=drivers, attributes=volumes)])
        self.folder = self.agent.data
        self.node = "127.0.0.1"

    async def __aenter__(self) -> Self:
        await self.agent.__aenter__()
        self.address = self.agent.address
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.agent.__aexit__(None, None, None)

    async def restart(self) -> None:
        await self.agent.go_down()
        await self.agent.come_back(lag_s=0.2)


class RealSite(_Calls):
    def __init__(
        self, folder: Path, mhz: int = MHZ, memory_mib: int = MEMORY_MIB, programs: Path | None = None, outside: Outside | None = None
    ) -> None:
        """`outside`: machines that reach the node; None = it is on the loopback."""
        if (why := why_not()) is not None:
            pytest.skip(why)
        self.agent = RealAgent(
            folder, cpu_mhz=mhz, memory_mb=memory_mib, programs=programs, interface=outside.interface if outside else "lo"
        )
        self.node = outside.node if outside else "127.0.0.1"
        self.folder = folder
        self.address = self.agent.address

    async def __aenter__(self) -> Self:
        await self.agent.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.agent.__aexit__()

    async def restart(self) -> None:
        # Not by kill -9: Nomad 2.0 then loses every task of raw_exec in a bridge ("network already configured but not found in state").
        await self.agent.go_down(signal.SIGTERM)
        await self.agent.come_back()


class Maker(Protocol):
    def __call__(self, folder: Path, mhz: int = MHZ, memory_mib: int = MEMORY_MIB) -> Agent: ...


AGENTS: dict[str, Maker] = {"nomad-fake": FakeSite, "nomad-real": RealSite}
