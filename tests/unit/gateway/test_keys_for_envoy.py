"""Changed public keys are brought to a running Envoy, each on its own, and again until it worked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from fakes.clock import FakeClock
from fakes.gateway_tokens import key, pem
from serai_gateway.auth import parse_public_key
from serai_gateway.envoy.keys import key_set_of
from serai_gateway.envoy.tokens import KeyKeeper, token_filter
from serai_gateway.settings import CoreSettings, GatewaySettings, ProviderSettings, Settings, UsersSettings
from structlog.testing import capture_logs


class Site:
    """A folder with both keys, and the filter as it was rendered."""

    def __init__(self, folder: Path) -> None:
        self.core, self.users = folder / "core.pem", folder / "users.pem"
        self.put(self.core, "core")
        self.put(self.users, "users")
        core = CoreSettings(url="http://127.0.0.1:9", public_key_file=str(self.core), refresh_token_file="-")
        gateway = GatewaySettings(users=UsersSettings(public_key_file=str(self.users)))
        settings = Settings(provider=ProviderSettings(id="example"), core=core, gateway=gateway)
        self.clock = FakeClock()
        self.keeper = KeyKeeper(settings, folder / "envoy.yaml", self.clock)
        self.filter, content = token_filter(folder / "envoy.yaml", settings)
        self.filter.write_bytes(content)

    def put(self, file: Path, name: str) -> None:
        """As one that renews it does."""
        new = file.with_suffix(".new")
        new.write_bytes(pem(key(name)))
        new.replace(file)

    async def look(self) -> None:
        self.clock.move(1_000)
        for _ in range(3):
            await asyncio.sleep(0)

    def there(self, *names: str) -> list[bool]:
        """Which of the keys Envoy has."""
        text = self.filter.read_text().replace("\\", "")
        return [key_set_of(parse_public_key(pem(key(name)))) in text for name in names]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Site]:
    site = Site(tmp_path)
    keeping = asyncio.create_task(site.keeper.keep())
    await asyncio.sleep(0)
    yield site
    keeping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await keeping


async def test_a_changed_key(site: Site) -> None:
    """Core's and users', at the next look; nothing is written while nothing changes."""
    before = site.filter.stat().st_ino
    await site.look()
    assert (site.there("core", "users"), site.filter.stat().st_ino) == ([True, True], before)
    site.put(site.core, "new")
    await site.look()
    assert site.there("core", "new", "users") == [False, True, True]
    site.put(site.users, "other")
    await site.look()
    assert site.there("new", "users", "other") == [True, False, True]


async def test_a_write_that_failed_is_tried_again(site: Site) -> None:
    """A key that was withdrawn does not stay in force because the disk was full for a moment; that is told once, not each second."""
    site.filter.unlink()
    site.filter.mkdir()  # which no file replaces
    site.put(site.core, "new")
    with capture_logs() as told:
        for _ in range(3):
            await site.look()
    assert [line["log_level"] for line in told] == ["warning"]
    site.filter.rmdir()
    await site.look()
    assert site.there("core", "new", "users") == [False, True, True]


@pytest.mark.parametrize("bad", ["gone", "no key"])
async def test_each_file_counts_for_itself(site: Site, bad: str) -> None:
    """The one that is gone or bad keeps its last key, the other one is changed all the same; a good one afterwards is taken."""
    for file, name, other, changed in ((site.core, "core", site.users, "users-2"), (site.users, "users-2", site.core, "core-2")):
        if bad == "gone":
            file.unlink()
        else:
            file.write_bytes(b"nonsense!")
        site.put(other, changed)
        with capture_logs() as told:
            for _ in range(3):
                await site.look()
        assert site.there(name, changed) == [True, True]
        assert sorted(line["log_level"] for line in told) == ["info", "warning"]
        site.put(file, name)
        await site.look()
    site.put(site.users, "users-3")
    await site.look()
    assert site.there("core-2", "users-3") == [True, True]
