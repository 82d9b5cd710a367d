"""Fixtures: one live Serai for all tests, the ways to it, and each client built once."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from testing.languages import LANGUAGES, Language, build_once
from testing.live import Door, Site, Way, cuttable_way, running_site


@pytest.fixture(scope="session")
def site() -> Generator[Site]:
    with _short_folder() as folder, running_site(folder) as running:
        yield running


@pytest.fixture
def short_folder() -> Generator[Path]:
    with _short_folder() as folder:
        yield folder


@contextmanager
def _short_folder() -> Generator[Path]:
    """Not pytest's own: a Unix socket's path is at most 107 bytes long."""
    with tempfile.TemporaryDirectory(prefix="serai-clients-") as folder:
        yield Path(folder)


@pytest.fixture(params=LANGUAGES, ids=lambda language: language.name)
def language(request: pytest.FixtureRequest) -> Language:
    """Each in turn; skipped by name where its toolchain is missing."""
    chosen: Language = request.param
    if reason := chosen.missing():
        pytest.skip(reason)
    return chosen


@pytest.fixture(scope="session")
def built_already() -> set[str]:
    """Names of the languages whose client stands."""
    return set()


@pytest.fixture
def built(language: Language, built_already: set[str]) -> Language:
    """The language, with its client built."""
    build_once(language, built_already)
    return language


@pytest.fixture
async def direct(site: Site) -> AsyncGenerator[Way]:
    """The tools' door with a token, without TLS as on one machine."""
    async with cuttable_way(site.tools) as (relay, port):
        yield Way(Door("direct", f"http://127.0.0.1:{port}", site.token), relay)


@pytest.fixture
async def envoy(site: Site) -> AsyncGenerator[Way]:
    async with cuttable_way(site.envoy_port, site.front_port) as (relay, _):
        yield Way(site.envoy, relay)


@pytest.fixture(params=["direct", "envoy"])
def way(request: pytest.FixtureRequest, direct: Way, envoy: Way) -> Way:
    """Each way with a token in turn."""
    return {"direct": direct, "envoy": envoy}[request.param]


@pytest.fixture(params=["direct", "certificate", "envoy"])
def door(request: pytest.FixtureRequest, site: Site, direct: Way, envoy: Way) -> Door:
    """Each way to the server in turn: the tools' door with a token, and with a certificate, and through Envoy."""
    return {"direct": direct.door, "certificate": site.certificate, "envoy": envoy.door}[request.param]
