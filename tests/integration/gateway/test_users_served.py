"""Users' calls over real HTTP: the seed's example as its curl sends it, and what strangers try."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fakes.gateway_tokens import claims, key, pem, sign, user_claims
from golden.load import golden
from serai.core.v1 import resources_pb2
from serai.licenses.v1 import license_pb2
from serai.licenses.v1 import licenses_service_pb2 as pb2
from serai_gateway.auth import KeyFileError
from serai_gateway.gateway import Gateway
from serai_gateway.settings import CoreSettings, GatewaySettings, ProviderSettings, Settings, UsersSettings

SEED = "licenses-enduser-2023-0"
USERS = key("users")


class Server:
    """An Upstream with one license, as the seed has it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Mapping[str, str]]] = []

    async def unary(self, method: str, request: bytes, metadata: Mapping[str, str], timeout_s: float) -> bytes:
        name = method.removeprefix("/serai.licenses.v1.LicensesService/")
        self.calls.append((name, metadata))
        if name == "Create":
            assert pb2.CreateRequest.FromString(request).items[0].product.id == "example-license"
            return pb2.CreateResponse(responses=[resources_pb2.FindByStringId(id="5123")]).SerializeToString()
        if name == "Retrieve":
            asked = pb2.RetrieveRequest.FromString(request)
            assert (asked.id, asked.flags.include_others) == ("5123", False)
            return pb2.RetrieveResponse(license=_license()).SerializeToString()
        if name == "Delete":
            return pb2.DeleteResponse(responses=[pb2.Acknowledged()]).SerializeToString()
        return b""

    async def stream(self, method: str, request: bytes, metadata: Mapping[str, str]) -> AsyncIterator[bytes]:
        yield await self.unary(method, request, metadata, 1.0)

    async def exchange(self, method: str, requests: AsyncIterator[bytes], metadata: Mapping[str, str]) -> AsyncIterator[bytes]:
        raise AssertionError("no shells here")
        yield b""


def _license() -> license_pb2.License:
    product = resources_pb2.ProductReference(id="example-license", category="example-license", provider="example")
    return license_pb2.License(
        id="5123",
        specification=license_pb2.LicenseSpecification(product=product),
        owner=resources_pb2.ResourceOwner(created_by="user"),
        created_at=1635170395571,
        status=license_pb2.LicenseStatus(state=license_pb2.LICENSE_STATE_READY),
    )


def settings_in(folder: Path, *, users: bool = True) -> Settings:
    (folder / "core.pem").write_bytes(pem(key()))
    (folder / "users.pem").write_bytes(pem(USERS))
    (folder / "refresh").write_text("x")
    return Settings(
        provider=ProviderSettings(id="example"),
        gateway=GatewaySettings(
            port=0, access_log=False, stop_grace_ms=0, users=UsersSettings(public_key_file="users.pem" if users else "")
        ).relative_to(folder, folder),
        core=CoreSettings(url="http://127.0.0.1:9", public_key_file="core.pem", refresh_token_file="refresh").relative_to(folder),
    )


class User:
    """Calls as curl does."""

    def __init__(self, url: str, session: aiohttp.ClientSession, server: Server) -> None:
        self.gateway_url = url
        self._session = session
        self.server = server

    async def call(self, verb: str, path: str, body: Any = None, *, token: str = "", **headers: str) -> tuple[int, bytes]:
        bearer = token or sign(user_claims(int(time.time() * 1_000)), USERS)
        all_headers = {"Authorization": f"Bearer {bearer}", "Content-Type": "content-type: application/json; charset=utf-8", **headers}
        content = None if body is None else json.dumps(body).encode()
        async with self._session.request(verb, self.gateway_url + path, data=content, headers=all_headers) as answer:
            return answer.status, await answer.read()


@asynccontextmanager
async def user_of(settings: Settings) -> AsyncGenerator[User]:
    server = Server()
    async with aiohttp.ClientSession() as session, Gateway(settings, server) as gateway:
        yield User(gateway.url, session, server)


async def test_the_seeds_example(tmp_path: Path) -> None:
    """Created, retrieved with the seed's own query and deleted; each answer is the seed's, byte for byte as compact JSON."""
    async with user_of(settings_in(tmp_path)) as user:
        create = golden(f"{SEED}2-create-and-configure-a-license-post-licenses.request.json")
        created = golden(f"{SEED}2-create-and-configure-a-license-post-licenses.response.json")
        assert await user.call("POST", "/api/licenses", create) == (200, compact(created))
        query = "includeOthers=false&includeUpdates=false&includeSupport=false&includeProduct=false&id=5123"
        retrieved = golden(f"{SEED}3-create-and-configure-a-license-get-retrieve.response.json")
        assert await user.call("GET", f"/api/licenses/retrieve?{query}") == (200, compact(retrieved))
        assert await user.call("DELETE", "/api/licenses", {"items": [{"id": "5123"}]}, PROJECT="project-1") == (200, b'{"responses":[{}]}')
        assert [name for name, _ in user.server.calls if "." not in name] == ["Create", "Retrieve", "Delete"]
        assert user.server.calls[-1][1]["serai-project"] == "project-1"


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


async def test_what_strangers_try(tmp_path: Path) -> None:
    """Core's token, a user's token at Core's calls, a project of somebody else, an endless query: nothing of it reaches the server."""
    now_ms = int(time.time() * 1_000)
    core, user_token = sign(claims(now_ms)), sign(user_claims(now_ms), USERS)
    async with user_of(settings_in(tmp_path)) as user:
        expected = [
            (await user.call("GET", "/api/licenses/browse", token=core), 401),
            (await user.call("GET", "/ucloud/example/licenses/retrieveProducts", token=user_token), 401),
            (await user.call("POST", "/ucloud/example/jobs", {"items": []}, token=user_token), 401),
            (await user.call("GET", "/api/licenses/browse", Project="somebody-elses"), 403),
            (await user.call("GET", f"/api/licenses/browse?next={'x' * 33_000}"), 400),
            (await user.call("GET", f"/api/licenses/browse?next={'x' * 70_000}"), 400),
            (await user.call("POST", "/api/licenses/control/update", {"items": []}), 404),
        ]
        assert [(status, json.loads(body)["statusCode"]) for (status, body), _ in expected] == [(code, code) for _, code in expected]
        assert [name for name, _ in user.server.calls if "." not in name] == []


async def test_users_calls_are_served_only_with_their_key(tmp_path: Path) -> None:
    """Without the setting they are 404; with a file that is not there the gateway does not start, and says which."""
    async with user_of(settings_in(tmp_path, users=False)) as user:
        status, body = await user.call("GET", "/api/licenses/browse")
        assert (status, "gateway.users.public_key_file" in json.loads(body)["why"]) == (404, True)
    settings = settings_in(tmp_path)
    (tmp_path / "users.pem").unlink()
    with pytest.raises(KeyFileError, match=r"gateway\.users\.public_key_file"):
        async with user_of(settings):
            pass


async def test_the_document_over_http(tmp_path: Path) -> None:
    """To anybody: whole, head alone, and nothing but 304 to who has it; the connection goes on after each."""
    async with user_of(settings_in(tmp_path)) as user, aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as stranger:
        url = f"{user.gateway_url}/openapi.json"
        async with stranger.get(url) as answer:
            body, etag = await answer.read(), answer.headers["ETag"]
            assert (answer.status, answer.content_type) == (200, "application/json")
            assert "/api/licenses/browse" in json.loads(body)["paths"]
        async with stranger.head(url) as answer:
            assert (answer.status, answer.headers["Content-Length"], await answer.read()) == (200, str(len(body)), b"")
        async with stranger.get(url, headers={"If-None-Match": etag}) as answer:
            assert (answer.status, await answer.read(), "Content-Length" in answer.headers) == (304, b"", False)
        async with stranger.get(url) as answer:
            assert await answer.read() == body
