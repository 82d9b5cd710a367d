"""Fixtures: one live Serai for all tests, the ways to it, and each client built once."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from testing.languages import LANGUAGES, Language, build_once
from testing.live import Door, Site, cuttable_way, running_site


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
async def direct(site: Site) -> AsyncGenerator[Door]:
    """Without TLS, as on one machine."""
    async with cuttable_way(site.tools) as (_, address):
        yield Door("direct", address, site.token)


@pytest.fixture(params=["direct", "tls"])
def door(request: pytest.FixtureRequest, site: Site, direct: Door) -> Door:
    """Each way to the server in turn."""
    return {"direct": direct, "tls": site.tls}[request.param]
