"""`serai licenses` as an operator calls it, against a real server with SQLite: for the tests of its words and of its keys."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fakes.commands import Ran, ran
from fakes.license_front import LicenseFront, license_front
from fakes.license_servers import PROVIDER
from fakes.lmgrd import write_lmutil


@pytest.fixture
def front(tmp_path: Path) -> Iterator[LicenseFront]:
    with license_front(tmp_path, str(write_lmutil(tmp_path).program)) as running:
        yield running


Serai = Callable[..., Ran[str]]


@pytest.fixture
def serai(front: LicenseFront, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Serai:
    def call(*arguments: str, stdin: bytes = b"") -> Ran[str]:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        return ran(capfd, "licenses", *arguments, "--socket", str(front.socket))

    return call


@pytest.fixture
def add(front: LicenseFront, serai: Serai) -> Serai:
    """The server `solver` on loopback, for 4 of the 5 seats."""

    def call(*more: str, stdin: bytes = b"", seats: str = "solver=4") -> Ran[str]:
        place = ("--address", front.lmgrd.port_at_host, "--product", "licenses/solver", "--provider", PROVIDER, "--feature", seats)
        return serai("server", "add", "solver", *place, *more, stdin=stdin)

    return call


def until(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.02)
