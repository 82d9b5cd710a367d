"""Both databases for every test that asks for `url`: a fresh SQLite file, and a fresh database of a real PostgreSQL server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from fakes.event_log import Server
from fakes.postgres import Postgres, PostgresMissing
from serai_server.events.log import EventLog
from serai_server.store.model import Committed
from serai_server.store.open import open_store
from serai_server.store.sql_store import SqlStore


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    try:
        server = Postgres()
    except PostgresMissing as error:
        pytest.skip(str(error))
    with server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def new_url(dialect: str, request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Each call makes the URL of another empty database."""
    if dialect == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        return server.schema
    numbers = iter(range(100))
    return lambda: f"sqlite:///{tmp_path / f'store-{next(numbers)}.db'}"


@pytest.fixture
def url(new_url: Callable[[], str]) -> str:
    return new_url()


@pytest.fixture
def told() -> list[Committed]:
    """What the store says it has committed."""
    return []


@pytest.fixture
async def store(url: str, told: list[Committed]) -> AsyncIterator[SqlStore]:
    async with open_store(url, told.extend) as opened:
        yield opened


@pytest.fixture
async def server(url: str) -> AsyncIterator[Server]:
    server = Server()
    async with open_store(url, server.told) as server.store:
        server.log = EventLog(server.store, server.clock)
        yield server
