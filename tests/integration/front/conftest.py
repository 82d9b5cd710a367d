"""A real Envoy in front of what a test says: one Envoy for all tests, and upstreams of its own for each."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec
import pytest
from fakes.envoy import Envoy, running_envoy, settings_for
from fakes.gateway_tokens import key, pem
from fakes.nomad_certificates import Authority
from fakes.up import NAME, FrontDoor
from fakes.upstreams import Upstreams, upstreams
from serai_gateway.settings import GatewaySettings, UsersSettings
from serai_gateway.web_settings import WebSettings

ORIGIN = "https://tools.test"
"""The page that may use the tools' API."""
TOOL = "authorization", "Bearer serai_0123456789ab_x"
"""What every call to the tools' door has to show, which Envoy does not look into."""
AS_TOOL = "-H", ": ".join(TOOL)
"""curl's arguments for it."""


@dataclass(frozen=True)
class Front:
    """A way in, the Envoy behind it, and what is behind that."""

    door: FrontDoor
    envoy: Envoy
    behind: Upstreams = field(default_factory=Upstreams)

    async def logged(self, route: str) -> dict[str, object]:
        """The newest line of the log, of that route; waits until the log has been written."""
        before = len(self.envoy.lines())
        marked = await self.door.curl("/nothing-is-here")
        assert marked.status in (404, 429)
        async with asyncio.timeout(20):
            while len(self.envoy.lines()) == before or self.envoy.lines()[-1]["route"] == route:
                await asyncio.sleep(0.02)
        return [line for line in self.envoy.lines() if line["route"] == route][-1]


def settings(folder: Path, *, tls: bool, **changes: object) -> GatewaySettings:
    """With users' calls, and the page of ORIGIN; `changes` of [gateway.envoy]."""
    (folder / "users.pem").write_bytes(pem(key("users")))
    files: dict[str, object] = {}
    if tls:
        pair = Authority(folder).issue(NAME)
        files = {"certificate": pair.cert, "key": pair.key}
    found = settings_for(folder, WebSettings(), public_url=f"https://{NAME}" if tls else "")
    envoy = msgspec.structs.replace(found.envoy, allowed_origins=(ORIGIN,), **{**files, **changes})
    users = UsersSettings(public_key_file=str(folder / "users.pem"))
    return msgspec.structs.replace(found, envoy=envoy, users=users, body_limit_bytes=1_000_000)


@pytest.fixture(scope="session")
def envoy() -> Generator[tuple[Envoy, Path]]:
    with tempfile.TemporaryDirectory(prefix="serai-") as name:
        folder = Path(name)
        by_socket = msgspec.structs.replace(settings(folder, tls=True), socket=str(folder / "gateway.sock"))
        with running_envoy(by_socket, folder, tools_socket=str(folder / "tools.sock")) as found:
            yield found, folder


@pytest.fixture
async def front(envoy: tuple[Envoy, Path]) -> AsyncGenerator[Front]:
    """By TLS, and to the gateway by its socket; `another` comes to it by TCP."""
    found, folder = envoy
    async with upstreams(found.settings, folder / "tools.sock") as behind:
        yield Front(FrontDoor(found.port, NAME, str(folder / "ca.pem")), found, behind)


Change = Callable[[GatewaySettings], GatewaySettings]


class Another(Protocol):
    """`changes`: of [gateway.envoy]."""

    def __call__(self, change: Change = ..., *, tls: bool = False, **changes: object) -> Front: ...


@pytest.fixture
def another(tmp_path: Path) -> Generator[Another]:
    """Makes a plain one of its own with other settings, whose upstreams the test starts, if it wants any."""
    with tempfile.TemporaryDirectory(prefix="serai-") as name, ExitStack() as stack:

        def make(change: Change = lambda settings: settings, *, tls: bool = False, **changes: object) -> Front:
            folder = Path(tempfile.mkdtemp(dir=name))
            found = change(settings(folder, tls=tls, **changes))
            envoy = stack.enter_context(running_envoy(found, folder, tools_socket=str(folder / "tools.sock")))
            door = FrontDoor(envoy.port, NAME, str(folder / "ca.pem")) if tls else FrontDoor(envoy.port, "localhost")
            return Front(door, envoy)

        yield make
