"""`serai --server`: the command line at a tools' door somewhere else, by token and by certificate."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import structlog
from fakes.commands import Ran, ran
from fakes.elsewhere import Elsewhere, elsewhere
from fakes.nomad_certificates import Authority
from fakes.tools_site import ToolsSite, tools_site
from fakes.usecases import STDOUT, job
from serai.jobs.v1.jobs_service_pb2 import FollowResponse
from serai_server.cli.exits import Exit
from serai_server.rpc.tls import Files
from serai_server.rpc.tools_door import Place
from serai_server.store.token_model import Role
from serai_server.tokens.certificates import Client


@dataclass
class Far(Elsewhere):
    """A door with TLS."""

    site: ToolsSite
    folder: Path
    ca: Authority

    def token_file(self, role: Role = Role.VIEWER) -> str:
        file = self.folder / f"{role.name}.token"
        file.write_text(self.do(self.site.token(role)) + "\n")
        return str(file)


@pytest.fixture(params=["token", "certificate"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def serving(folder: Path, way: str) -> AsyncGenerator[Far]:
    ca = Authority(folder)
    server = ca.issue("localhost", ip="127.0.0.1")
    files = Files(Path(server.cert), Path(server.key), Path(ca.file) if way == "certificate" else None)
    clients = [Client("ci", Role.VIEWER, "")]
    async with tools_site(folder, place=Place(folder, listen="127.0.0.1:0", tls=files), clients=clients) as site:
        await site.front.jobs.create([job("1"), job("2")])
        site.front.jobs.output["1"] = [FollowResponse(rank=0, stream=STDOUT, offset=0, data=b"words\n")]
        yield Far(site, folder, ca)


@pytest.fixture
def far(tmp_path: Path, way: str) -> Iterator[Far]:
    with elsewhere(serving(tmp_path, way)) as running, structlog.testing.capture_logs():
        yield running


Serai = Callable[..., Ran[str]]


@pytest.fixture
def serai(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Serai:
    for name in ("SERAI_SERVER", "SERAI_TOKEN_FILE", "SERAI_CA", "SERAI_SOCKET", "SERAI_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    return partial(ran, capfd)


@pytest.fixture
def known(far: Far, way: str) -> list[str]:
    """Options of who is let in."""
    if way == "token":
        return ["--server", far.site.address, "--ca", far.ca.file, "--token-file", far.token_file()]
    pair = far.ca.issue("ci")
    return ["--server", f"https://{far.site.address}", "--ca", far.ca.file, "--cert", pair.cert, "--key", pair.key]


def test_commands_work_from_elsewhere(serai: Serai, known: list[str]) -> None:
    """Calls with one answer and with a stream of them, without any settings file."""
    assert [line.split()[0] for line in serai(*known, "jobs", "list").out.splitlines()] == ["JOB", "2", "1"]
    assert serai(*known, "jobs", "logs", "1").out == "words\n"


def test_what_is_refused_is_told_in_words(serai: Serai, known: list[str]) -> None:
    """A viewer stops no job."""
    ran = serai(*known, "jobs", "stop", "1")
    assert ran.code == Exit.ERROR
    assert "OPERATOR" in ran.err


@pytest.mark.parametrize("way", ["token"], indirect=True)
class TestOptions:
    def test_the_environment_names_the_server(self, serai: Serai, far: Far, known: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """And what is typed comes first: a socket that is named is used."""
        monkeypatch.setenv("SERAI_SERVER", far.site.address)
        monkeypatch.setenv("SERAI_TOKEN_FILE", known[-1])
        monkeypatch.setenv("SERAI_CA", far.ca.file)
        assert serai("jobs", "list").code == Exit.OK
        assert serai("jobs", "list", "--socket", str(far.site.own)).code == Exit.OK
        assert "nope.sock" in serai("jobs", "list", "--socket", "nope.sock").err
        monkeypatch.setenv("SERAI_SOCKET", "nope.sock")
        assert serai(*known, "jobs", "list").code == Exit.OK

    def test_a_unix_socket_with_a_token(self, serai: Serai, far: Far, known: list[str]) -> None:
        """The tools' door on the same machine."""
        assert serai("--server", f"unix:{far.site.socket}", "--token-file", known[-1], "jobs", "list").code == Exit.OK
        ran = serai("--server", f"unix:{far.site.socket}", "jobs", "list")
        assert (ran.code, "token" in ran.err) == (Exit.ERROR, True)

    @pytest.mark.parametrize(
        ("options", "code", "words"),
        [
            (["--server", "nowhere"], Exit.USAGE, "neither unix:PATH nor an address"),
            (["--server", "ftp://host:1"], Exit.USAGE, "neither unix:PATH nor an address"),
            (["--server", "http://host.example:80", "--token-file", "TOKEN"], Exit.USAGE, "without TLS"),
            (["--server", "host:1", "--cert", "TOKEN"], Exit.USAGE, "one does nothing without the other"),
            (["--server", "host:1", "--token-file", "nope"], Exit.USAGE, "nope cannot be read"),
            (["--server", "host:1", "--token-file", "TWO"], Exit.USAGE, "does not hold a token"),
            (["--server", "http://127.0.0.1:1"], Exit.NOT_REACHABLE, "no server answers at http://127.0.0.1:1"),
        ],
    )
    def test_what_is_wrong_is_told(
        self, serai: Serai, known: list[str], tmp_path: Path, *, options: list[str], code: Exit, words: str
    ) -> None:
        """Before anything is sent, and without what is in the files."""
        two = tmp_path / "two"
        two.write_text("secret words")
        ran = serai(*[{"TOKEN": known[-1], "TWO": str(two)}.get(option, option) for option in options], "jobs", "list")
        assert ran.code == code
        assert words in ran.err
        assert "secret" not in ran.err

    def test_two_servers_are_one_too_many(self, serai: Serai, far: Far, known: list[str]) -> None:
        """Both typed: nobody guesses."""
        ran = serai(*known, "jobs", "list", "--socket", str(far.site.own))
        assert (ran.code, "two servers" in ran.err) == (Exit.USAGE, True)

    def test_a_certificate_that_nobody_signed_is_told(self, serai: Serai, far: Far, known: list[str]) -> None:
        """Without --ca the system's authorities are asked, and they know nothing of it: no token is sent."""
        ran = serai("--server", far.site.address, "--token-file", known[-1], "jobs", "list")
        assert ran.code == Exit.NOT_REACHABLE
        assert far.site.address in ran.err

    def test_tokens_are_made_from_elsewhere_by_administrators(self, serai: Serai, far: Far, known: list[str]) -> None:
        """With the token on stdout alone."""
        admin = [*known[:-1], far.token_file(Role.ADMIN)]
        made = serai(*admin, "tokens", "create", "--role", "viewer")
        assert made.code == Exit.OK
        assert made.out.startswith("serai_")
        assert len(made.out.split()) == 1
        assert "OPERATOR" not in serai(*known, "tokens", "list").err
        assert "ADMIN" in serai(*known, "tokens", "list").err
