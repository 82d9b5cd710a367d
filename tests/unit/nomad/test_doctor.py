"""What doctor reads out of Nomad's texts; the rest is tried on a real agent."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from fakes.nomad_pages import serve, settings
from serai_backends.model import Severity
from serai_backends.nomad.client import open_client
from serai_backends.nomad.client.environment import read
from serai_backends.nomad.doctor import findings, numbers, seconds, way_in


@pytest.mark.parametrize(
    ("version", "is_"), [("2.0.6-dev", (2, 0, 6)), ("1.10.0+ent", (1, 10, 0)), ("1.8.0-beta.1", (1, 8, 0)), ("", ()), ("unknown", ())]
)
def test_versions_are_compared_as_numbers(version: str, is_: tuple[int, ...]) -> None:
    """1.10 comes after 1.8."""
    assert numbers(version) == is_


@pytest.mark.parametrize(
    ("duration", "is_"),
    [("30s", 30.0), ("1m30s", 90.0), ("2h", 7200.0), ("500ms", 0.5), ("1.5s", 1.5), ("", None), ("s", None), ("3x", None)],
)
def test_durations_are_go_s(duration: str, is_: float | None) -> None:
    assert seconds(duration) == is_


async def test_nothing_more_is_asked_of_a_nomad_that_is_not_there(tmp_path: Path) -> None:
    """One finding, with what to do, and no wait for each question."""
    async with serve() as pages:
        mine = msgspec.structs.replace(settings(pages.address), drives_dir=str(tmp_path))
    async with open_client(mine, environ={}) as client:
        (found,) = await findings(client, mine)
    assert (found.severity, found.subject, "is the agent running" in found.text) == (Severity.ERROR, "nomad", True)


async def test_servers_without_a_leader_are_told(tmp_path: Path) -> None:
    async with serve() as pages:
        pages.says(200, '""')
        mine = msgspec.structs.replace(settings(pages.address), drives_dir=str(tmp_path))
        async with open_client(mine, environ={}) as client:
            (found,) = await findings(client, mine)
    assert "have no leader" in found.text


@pytest.mark.parametrize(("version", "severity"), [("1.7.7", Severity.ERROR), ("1.10.2", Severity.WARNING), ("2.0.4", None)])
async def test_old_versions_are_told(tmp_path: Path, version: str, severity: Severity | None) -> None:
    """Too old to keep a rank from running twice; or with holes that are mended by now."""
    async with serve() as pages:
        answers = {
            "/v1/status/leader": '"127.0.0.1:4647"',
            "/v1/agent/self": msgspec.json.encode({"config": {"Version": {"Version": version}}}).decode(),
        }

        async def answer(request: web.Request) -> web.StreamResponse:
            known = answers.get(request.path)
            return web.Response(status=403, text="Permission denied") if known is None else web.Response(text=known)

        pages.answer = answer
        mine = msgspec.structs.replace(settings(pages.address), drives_dir=str(tmp_path))
        async with open_client(mine, environ={}) as client:
            found = await findings(client, mine)
    assert [f.severity for f in found if f.subject == "version"] == ([] if severity is None else [severity])


@pytest.mark.parametrize(
    ("address", "environ", "words"),
    [
        ("http://127.0.0.1:1", {}, None),
        ("unix:///no/api.sock", {}, None),
        ("http://192.0.2.1:1", {}, "is plain HTTP"),
        ("https://127.0.0.1:1", {}, None),
        ("https://127.0.0.1:1", {"NOMAD_SKIP_VERIFY": "1"}, "NOMAD_SKIP_VERIFY is on"),
    ],
)
def test_a_token_that_can_be_read_on_the_way_is_told(address: str, environ: dict[str, str], words: str | None) -> None:
    found = [finding.text for finding in way_in(read(settings(address), environ))]
    assert (not found) if words is None else words in found[0]
