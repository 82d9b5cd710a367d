"""One site by two ways: the gateway's own proxy, and Envoy that asks the gateway."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import msgspec
import pytest
from fakes.envoy import Envoy, running_envoy, settings_for
from fakes.web_site import DOMAIN, Site, plain_settings, site
from serai_gateway.web_settings import WebSettings

WAYS = ("plain", "envoy")


@pytest.fixture(scope="session")
def front() -> Generator[Envoy]:
    """One Envoy for all; each test has a gateway of its own at the same places."""
    with tempfile.TemporaryDirectory(prefix="serai-") as name:
        folder = Path(name)
        settings = settings_for(folder, WebSettings(mode="host", domain=DOMAIN))
        with running_envoy(settings, folder) as envoy:
            yield envoy


@pytest.fixture(params=WAYS)
async def web(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Site]:
    """Each test runs with both."""
    if request.param == "plain":
        async with site(tmp_path, plain_settings(tmp_path)) as found:
            yield found
        return
    envoy: Envoy = request.getfixturevalue("front")
    # Pages never pass the gateway's own port, so any will do; one that must be the same each time could be taken meanwhile.
    async with site(tmp_path, msgspec.structs.replace(envoy.settings, port=0), envoy.apps_port) as found:
        yield found


@pytest.fixture
async def own_way(tmp_path: Path) -> AsyncGenerator[Site]:
    """For what only the gateway's own proxy does."""
    async with site(tmp_path, plain_settings(tmp_path)) as found:
        yield found
