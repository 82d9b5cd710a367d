"""TLS, for plain calls and for streams: the server is verified, with a CA of one's own, by another name, and it sees our certificate."""

from __future__ import annotations

import ssl
from pathlib import Path

import msgspec
import pytest
from fakes.nomad_certificates import Authority, Pair
from fakes.nomad_pages import serve, settings
from serai_backends.errors import BackendUnavailable
from serai_backends.nomad.client import NomadClient, open_client

NAME = "server.global.nomad"


def served(pair: Pair, clients: str = "") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients)
    return context


async def both(client: NomadClient) -> None:
    """A plain call and a stream."""
    assert (await client.job("x")) is not None
    assert (await anext(client.events(0))).index == 0


async def refused(client: NomadClient, words: str) -> None:
    with pytest.raises(BackendUnavailable, match=words):
        await client.job("x")
    with pytest.raises(BackendUnavailable, match=words):
        await anext(client.events(0))


async def test_an_unknown_authority_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """Also one beside which another is known. Nothing, not even the token, reaches the server."""
    ca, other = Authority(tmp_path), Authority(tmp_path, "other")
    async with serve(tls=served(ca.issue(NAME, ip="127.0.0.1"))) as pages:
        for known in ("", other.file):
            async with open_client(settings(pages.address, ca_cert=known), environ={"NOMAD_TOKEN": "t"}) as client:
                await refused(client, r"is not trusted \(.+\): set ca_cert \(NOMAD_CACERT\)")
    assert pages.asked == []


async def test_its_own_authority_is_taken(tmp_path: Path) -> None:
    """By setting, by NOMAD_CACERT and as one of the files of NOMAD_CAPATH."""
    (tmp_path / "all").mkdir()
    ca = Authority(tmp_path / "all")
    Authority(tmp_path / "all", "another")
    async with serve(tls=served(Authority.issue(ca, NAME, ip="127.0.0.1"))) as pages:
        pages.says(200, "{}\n")
        async with open_client(settings(pages.address, ca_cert=ca.file), environ={}) as client:
            await both(client)
        async with open_client(settings(pages.address), environ={"NOMAD_CACERT": ca.file}) as client:
            await both(client)
        for name in ("server.global.nomad.pem", "server.global.nomad-key.pem"):
            (tmp_path / "all" / name).unlink()
        async with open_client(settings(pages.address), environ={"NOMAD_CAPATH": str(tmp_path / "all")}) as client:
            await both(client)


async def test_a_certificate_of_another_name_needs_that_name(tmp_path: Path) -> None:
    """Nomad's own certificates say server.global.nomad, whatever the address is."""
    ca = Authority(tmp_path)
    async with serve(tls=served(ca.issue(NAME))) as pages:
        pages.says(200, "{}\n")
        async with open_client(settings(pages.address, ca_cert=ca.file), environ={}) as client:
            await refused(client, "tls_server_name")
        async with open_client(settings(pages.address, ca_cert=ca.file), environ={"NOMAD_TLS_SERVER_NAME": NAME}) as client:
            await both(client)
        wrong = msgspec.structs.replace(settings(pages.address, ca_cert=ca.file), tls_server_name="server.other.nomad")
        async with open_client(wrong, environ={"NOMAD_TLS_SERVER_NAME": NAME}) as client:
            await refused(client, "tls_server_name")


async def test_our_certificate_is_shown(tmp_path: Path) -> None:
    """Where Nomad verifies its clients (`verify_https_client`); without one the error says so."""
    ca = Authority(tmp_path)
    async with serve(tls=served(ca.issue(NAME, ip="127.0.0.1"), clients=ca.file)) as pages:
        pages.says(200, "{}\n")
        mine = ca.issue("cli.global.nomad")
        with_mine = {"NOMAD_CLIENT_CERT": mine.cert, "NOMAD_CLIENT_KEY": mine.key}
        async with open_client(settings(pages.address, ca_cert=ca.file), environ=with_mine) as client:
            await both(client)
        async with open_client(settings(pages.address, ca_cert=ca.file), environ={}) as client:
            await refused(client, "a client certificate")


async def test_skip_verify_takes_anything(tmp_path: Path) -> None:
    """As it says; doctor warns."""
    ca = Authority(tmp_path)
    async with serve(tls=served(ca.issue("nobody"))) as pages:
        pages.says(200, "{}\n")
        async with open_client(settings(pages.address), environ={"NOMAD_SKIP_VERIFY": "true"}) as client:
            await both(client)
            assert not client.access.verified


async def test_plain_http_where_https_is_spoken_is_told(tmp_path: Path) -> None:
    """And the other way round."""
    ca = Authority(tmp_path)
    async with serve() as pages, open_client(settings(pages.address.replace("http:", "https:"), ca_cert=ca.file), environ={}) as client:
        await refused(client, "does it want https")
