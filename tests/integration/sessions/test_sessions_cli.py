"""`serai sessions` and `serai console` against a real server on its socket."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog
from fakes.commands import Ran, ran
from fakes.elsewhere import Elsewhere, elsewhere
from fakes.front import silent
from fakes.sessions import CONSOLE, SHELL, VNC, WEB, Site, reachable_job, site_in
from serai_server.cli.config_command import example_text
from serai_server.cli.exits import Exit
from serai_server.rpc.health import Health
from serai_server.rpc.server import grpc_server
from serai_server.rpc.services import dispatcher
from serai_server.sessions.service import Asked


@dataclass
class Served(Elsewhere):
    site: Site
    socket: Path


@asynccontextmanager
async def serving(folder: Path) -> AsyncGenerator[Served]:
    async with site_in(folder) as site:
        await site.run(reachable_job("1", replicas=2), reachable_job("2"))
        core = site.core
        front = dispatcher(
            jobs=core.jobs,
            changes=core.changes,
            events=core.events,
            sessions=site.sessions,
            health=Health(),
            clock=site.clock,
            log=silent(),
        )
        async with grpc_server(front, folder / "serai.sock", 1.0):
            yield Served(site, folder / "serai.sock")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    # What the server logs is not the command's output, though one process has both here.
    with elsewhere(serving(tmp_path)) as running, structlog.testing.capture_logs():
        yield running


Serai = Callable[..., Ran[str]]


@pytest.fixture
def serai(server: Served, capfd: pytest.CaptureFixture[str]) -> Serai:
    def call(*arguments: str) -> Ran[str]:
        return ran(capfd, *arguments, "--socket", str(server.socket))

    return call


def test_a_list_has_a_line_for_each_and_no_secrets(server: Served, serai: Serai) -> None:
    """Newest first; what a user's name could do to a terminal it does not."""
    shell = server.do(server.site.open(SHELL, "1", rank=1, user="alice\x1b[31m"))
    server.do(server.site.sessions.begin(shell.session))
    shell.session.attached = True
    server.site.clock.move(1)
    page = server.do(server.site.open(WEB, "2"))
    ran = serai("sessions", "list")
    head, first, second = ran.out.splitlines()
    assert head.split() == ["SESSION", "KIND", "JOB", "RANK", "USER", "OPENED", "EXPIRES"]
    assert first.split()[:4] == [page.session.id, "WEB", "2", "0"]
    assert second.split()[:5] == [shell.session.id, "SHELL", "(connected)", "1", "1"]
    assert second.rstrip().endswith("with its shell")
    assert "\x1b" not in ran.out
    assert not any(secret in ran.out for secret in (shell.secret, page.secret))


def test_programs_get_json(server: Served, serai: Serai) -> None:
    """Of one job, and of all with the operators' own."""
    desktop = server.do(server.site.open(VNC, "1", user="alice"))
    server.site.clock.move(1)
    console = server.do(server.site.open(CONSOLE))
    now_ms = server.site.clock.now_ms()
    first, second = json.loads(serai("sessions", "list", "--json").out)["sessions"]
    assert first == {
        "id": console.session.id,
        "kind": "CONSOLE",
        "job": None,
        "rank": None,
        "user": None,
        "opened_at_ms": now_ms,
        "expires_at_ms": now_ms + 60_000,
        "attached": False,
    }
    assert (second["id"], second["kind"], second["job"], second["rank"], second["user"]) == (desktop.session.id, "VNC", "1", 0, "alice")
    assert json.loads(serai("sessions", "list", "--job", "1", "--json").out)["sessions"] == [second]


def test_no_sessions_and_no_such_job(serai: Serai) -> None:
    """Nothing on stdout for a script to stumble over; a wrong id is not an empty list."""
    ran = serai("sessions", "list", "--job", "1")
    assert (ran.code, ran.out, ran.err) == (Exit.OK, "", "no sessions\n")
    ran = serai("sessions", "list", "--job", "9")
    assert (ran.code, ran.out) == (Exit.NOT_FOUND, "")
    assert "no job '9'" in ran.err


def test_close_ends_sessions(server: Served, serai: Serai) -> None:
    """At once, whoever is in; one that is not known counts as ended."""
    opened = server.do(server.site.open(VNC, "1"))
    ran = serai("sessions", "close", opened.session.id, "unknown")
    assert (ran.code, ran.out, ran.err) == (Exit.OK, "", "closed\n")
    assert opened.session.over.is_set()
    assert json.loads(serai("sessions", "close", "unknown", "--json").out) == {}


def test_console_prints_an_address_that_lets_in_once(server: Served, serai: Serai) -> None:
    """The address alone on stdout; its secret is one of kind CONSOLE."""
    ran = serai("console", "--address", "https://provider.example.org/")
    assert ran.code == Exit.OK
    base, _, secret = ran.out.strip().rpartition("/")
    assert base == "https://provider.example.org/console/open"
    assert secret not in ran.err
    session, cookie = server.do(server.site.sessions.redeem(Asked(secret, CONSOLE)))
    assert (session.kind, bool(cookie)) == (CONSOLE, True)
    found = json.loads(serai("console", "--address", "http://127.0.0.1:8889", "--json").out)
    assert found["address"].startswith("http://127.0.0.1:8889/console/open/")
    assert found["expires_at_ms"] == server.site.clock.now_ms() + 60_000
    assert found["session"] in {s.id for s in server.do(server.site.sessions.list())}


@pytest.mark.parametrize(
    ("lines", "base"),
    [
        ("", "http://127.0.0.1:8889"),
        ('host = "0.0.0.0"\nport = 80', "http://127.0.0.1:80"),
        ('host = "::"', "http://[::1]:8889"),
        ('host = "gateway.example.org"', "http://gateway.example.org:8889"),
        ('port = 0\npublic_url = "https://provider.example.org/"', "https://provider.example.org"),
    ],
)
def test_the_address_is_that_of_the_settings(tmp_path: Path, serai: Serai, lines: str, base: str) -> None:
    """`gateway.public_url`, or else where the gateway listens, as a browser on this machine finds it."""
    file = settings_file(tmp_path, lines)
    ran = serai("console", "--config", str(file))
    assert ran.out.rpartition("/console/open/")[0] == base, ran.err


def test_an_address_that_is_not_known_or_is_none(tmp_path: Path, serai: Serai) -> None:
    """Said in words, before anything is opened."""
    ran = serai("console", "--config", str(settings_file(tmp_path, "port = 0")))
    assert (ran.code, "--address" in ran.err) == (Exit.USAGE, True)
    for wrong in ("provider.example.org", "https://", "https://a/b", "https://a@b"):
        assert serai("console", "--address", wrong).code == Exit.USAGE
    assert "no sessions" in serai("sessions", "list").err


def settings_file(folder: Path, gateway: str) -> Path:
    """The example's settings with other lines in [gateway]."""
    text = example_text()
    head, mark, tail = text.partition("[gateway]")
    assert mark
    line, _, rest = tail.partition("\n")
    file = folder / "serai.toml"
    file.write_text(f"{head}{mark}{line}\n{gateway}\n{rest}")
    return file
