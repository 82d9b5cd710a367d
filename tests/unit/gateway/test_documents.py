"""The gateway serves the documents of its calls to anybody, once made and then as they are."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from fakes import openapi
from fakes.clock import FakeClock
from fakes.gateway_client import Client
from fakes.gateway_tokens import key, pem
from serai_gateway.app import App
from serai_gateway.auth import PublicKeyFile, TokenCheck
from serai_gateway.codec import Codec
from serai_gateway.openapi import TOOLS, UCLOUD, Documents
from serai_gateway.settings import CoreSettings, GatewaySettings, Generation, ProviderSettings, Settings, UsersSettings


class Nobody:
    """An Upstream that is not to be asked."""

    async def unary(self, method: str, request: bytes, metadata: Mapping[str, str], timeout_s: float) -> bytes:
        raise AssertionError(method)

    async def stream(self, method: str, request: bytes, metadata: Mapping[str, str]) -> AsyncIterator[bytes]:
        raise AssertionError(method)
        yield b""


def made(tmp_path: Path, generation: Generation = "2021", *, users: bool = False, url: str = "") -> Settings:
    return Settings(
        provider=ProviderSettings(id="example", aliases=("ucloud",)),
        gateway=GatewaySettings(public_url=url, users=UsersSettings(public_key_file="users.pem" if users else "")),
        core=CoreSettings(url="http://core", public_key_file=str(tmp_path / "key"), refresh_token_file="none", generation=generation),
    )


def client_of(settings: Settings, tmp_path: Path) -> Client:
    (tmp_path / "key").write_bytes(pem(key()))
    clock = FakeClock()
    return Client(App(settings, Codec(), Nobody(), TokenCheck(PublicKeyFile(tmp_path / "key", clock), clock), None), b"")


@pytest.mark.parametrize("generation", ["2021", "2026"])
async def test_ucloud_document_is_that_of_the_generation(tmp_path: Path, generation: Generation) -> None:
    """With the ids and the address of this provider, for whoever asks without a token."""
    client = client_of(made(tmp_path, generation, users=True, url="https://provider.example.org"), tmp_path)
    status, found = await client.call("GET", "/openapi.json", headers={})
    expected = json.loads(json.dumps(openapi.document(f"ucloud-{generation}")))
    expected["servers"] = [{"url": "https://provider.example.org"}]
    expected["components"]["parameters"]["provider"]["schema"]["enum"] = ["example", "ucloud"]
    assert (status, found) == (200, expected)


async def test_calls_of_users_are_left_out_where_they_are_not_served(tmp_path: Path) -> None:
    """The document has no path that would be 404."""
    document = Documents(made(tmp_path)).find(UCLOUD)
    assert document is not None
    paths = json.loads(document.body)["paths"]
    assert paths
    assert not any(path.startswith("/api/") for path in paths)


async def test_tools_document_is_the_published_one(tmp_path: Path) -> None:
    """No address is known here, so it is relative."""
    client = client_of(made(tmp_path), tmp_path)
    assert await client.call("GET", "/v1/openapi.json", headers={}) == (200, openapi.document("v1"))


async def test_who_has_it_gets_no_body(tmp_path: Path) -> None:
    """304 for the mark that was told, alone, among others, weak; the whole document for another one."""
    client = client_of(made(tmp_path), tmp_path)
    await client.call("GET", "/openapi.json", headers={})
    etag = client.headers[b"etag"]
    document = Documents(made(tmp_path)).find(UCLOUD)
    assert document is not None
    assert document.etag == etag, "the mark is of the bytes, so that two gateways tell the same one"
    for value, known in ((etag, True), (b'"x", W/' + etag, True), (b'"x"', False), (b"", False)):
        assert document.is_known([(b"if-none-match", value)]) == known
    assert not document.is_known([(b"if-match", etag)])


@pytest.mark.parametrize("path", [UCLOUD, TOOLS])
async def test_only_reading(tmp_path: Path, path: str) -> None:
    """405 with Allow for anything else."""
    client = client_of(made(tmp_path), tmp_path)
    status, _ = await client.call("POST", path, b"{}")
    assert (status, client.headers[b"allow"]) == (405, b"GET, HEAD")


@pytest.mark.parametrize(("verb", "path"), openapi.calls("ucloud-2021"))
async def test_each_call_of_the_document_is_there(tmp_path: Path, verb: str, path: str) -> None:
    """It asks for a token or reads the body, and is neither 404 nor 405; with a verb that the document does not have, it is 405."""
    real = path.replace("{provider}", "example")
    client = client_of(made(tmp_path), tmp_path)
    status, answer = await client.call(verb, real, b"[]", headers={})
    if path.startswith("/api/"):
        assert (status, "gateway.users" in answer["why"]) == (404, True)
    else:
        assert status in ({200, 400} if openapi.operation("ucloud-2021", verb, path)["security"] == [] else {401})
    there = {one.upper() for one in openapi.document("ucloud-2021")["paths"][path]}
    for other in {"GET", "POST", "PUT", "PATCH", "DELETE"} - there:
        assert (await client.call(other, real, b"{}", headers={}))[0] == 405
