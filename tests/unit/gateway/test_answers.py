"""What the gateway answers by itself: users' connections, branding, types that this provider does not have, and Core's welcome."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fakes.clock import FakeClock
from fakes.gateway_client import Client
from fakes.gateway_tokens import bearer, claims, key, pem, sign, spki
from golden.load import golden
from serai_gateway.app import OPEN_BODY_LIMIT, App
from serai_gateway.auth import PublicKeyFile, TokenCheck
from serai_gateway.codec import Codec
from serai_gateway.registration import Files, State
from serai_gateway.routes import ROUTES, Route
from serai_gateway.settings import CoreSettings, ProviderSettings, Settings

CODEC = Codec()
HERE = Path(__file__).parents[2] / "golden" / "ucloud-2026"
TYPES = ["ingresses", "networkips", "private-networks", "files/collections", "shares"]
WELCOME = "/ucloud/example/integration/welcome"
TOKEN = "9eb96d0a27b1330cdc727ef4316bd48265f71414"


class NoServer:
    """An Upstream that must not be asked."""

    async def unary(self, method: str, request: bytes, metadata: Mapping[str, str], timeout_s: float) -> bytes:
        raise AssertionError(f"{method} reached the server")

    async def stream(self, method: str, request: bytes, metadata: Mapping[str, str]) -> AsyncIterator[bytes]:
        raise AssertionError(method)
        yield b""


def settings_in(folder: Path, *, registers: bool = True) -> Settings:
    (folder / "key").write_bytes(pem(key()))
    return Settings(
        provider=ProviderSettings(id="example", title="Example HPC", description="Machines in a cellar.\nMany.", url="https://example.org"),
        core=CoreSettings(url="http://core", public_key_file=str(folder / "key"), refresh_token_file=str(folder / "refresh")),
        registration_file=str(folder / "registration.json") if registers else "",
    )


def client_of(settings: Settings) -> Client:
    clock = FakeClock()
    check = TokenCheck(PublicKeyFile(Path(settings.core.public_key_file), clock), clock)
    return Client(App(settings, CODEC, NoServer(), check, None), bearer(sign(claims(clock.now_ms()))))


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return client_of(settings_in(tmp_path))


def recorded(name: str) -> tuple[str, str, bytes]:
    """Verb, path for our provider, body."""
    message = json.loads((HERE / f"{name}.json").read_text())
    body = b"" if message["request"] is None else json.dumps(message["request"]).encode()
    return message["method"], message["path"].replace("PROVIDER", "example"), body


async def test_nobody_has_to_connect(client: Client) -> None:
    """The manifest says so as today's Core wants it, and Core of 2021 finds its one key; init and unlinked have nothing to do."""
    status, answer = await client.call(*recorded("GET_integration_retrieveManifest"))
    assert (status, answer) == (200, {"enabled": False, "expireAfterMs": None, "requiresMessageSigning": False})
    assert await client.call(*recorded("POST_integration_init")) == (200, {})
    assert await client.call("POST", "/ucloud/example/integration/unlinked", b'{"username":"user"}') == (200, {})


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("POST_integration_connect", "Nobody needs to connect"),
        ("POST_ssh_keyUploaded", "SSH"),
        ("POST_files_collections", "drives"),
    ],
)
async def test_what_is_not_supported_is_refused_in_words(client: Client, message: str, words: str) -> None:
    """400 with the code that UCloud's web interface knows, and words for the user."""
    status, answer = await client.call(*recorded(message))
    assert (status, answer["errorCode"]) == (400, "FEATURE_NOT_SUPPORTED_BY_PROVIDER")
    assert words in answer["why"]


@pytest.mark.parametrize("kind", TYPES)
async def test_types_that_are_not_there(client: Client, kind: str) -> None:
    """No products; nothing can be made; what is deleted counts as gone, one {} for each, because Core keeps what is refused (today §5)."""
    assert await client.call("GET", f"/ucloud/example/{kind}/retrieveProducts") == (200, {"responses": []})
    items = json.dumps({"items": [{"id": "40", "owner": {"createdBy": "user"}}, {"id": "41"}]}).encode()
    status, answer = await client.call("POST", f"/ucloud/example/{kind}", items)
    assert (status, answer["errorCode"]) == (400, "FEATURE_NOT_SUPPORTED_BY_PROVIDER")
    assert await client.call("DELETE", f"/ucloud/example/{kind}", items) == (200, {"responses": [{}, {}]})


async def test_branding_is_what_the_settings_say(client: Client, tmp_path: Path) -> None:
    """Every key that today's Core reads; Core sends no token with it. A provider without a title is called by its id."""
    verb, path, body = recorded("GET_provider_branding_retrieveInfo")
    status, answer = await client.call(verb, path, body, headers={})
    assert status == 200
    assert answer == {
        "id": "example",
        "title": "Example HPC",
        "shortTitle": "example",
        "shortDescription": "Machines in a cellar.",
        "description": "Machines in a cellar.\nMany.",
        "url": "https://example.org",
        "logo": None,
        "sections": [],
        "productDescription": [],
    }
    plain = msgspec.structs.replace(settings_in(tmp_path), provider=ProviderSettings(id="example"))
    status, answer = await client_of(plain).call(verb, path, body, headers={})
    assert (status, answer["title"], answer["url"], answer["shortDescription"]) == (200, "example", "", "")


OPEN = {"/serai.integration.v1.IntegrationService/Welcome", "/serai.integration.v1.BrandingService/RetrieveInfo"}


@pytest.mark.parametrize(
    "route", [route for route in ROUTES if route.ingoing and not route.users], ids=lambda route: f"{route.verb} {route.path}"
)
async def test_no_other_call_goes_without_a_token(client: Client, route: Route) -> None:
    """Every call of the wire is refused without Core's token, its body unread; only Core's welcome and the branding are not."""
    path = route.path.replace("{provider}", "example")
    for headers in ({}, {b"authorization": b"Bearer e30.e30.c2ln"}):
        status, _ = await client.call(route.verb, path, b"{", headers=headers)
        assert (status == 401) == (route.method not in OPEN), path
    if route.method not in OPEN:
        assert client.received == 0


async def test_a_stranger_cannot_make_us_read_much(client: Client) -> None:
    """What comes without a token has a small limit of its own."""
    status, _ = await client.call("POST", WELCOME, *[b" " * 20_000] * 10, headers={})
    assert (status, client.received) == (413, OPEN_BODY_LIMIT // 20_000 + 1)


# Core's welcome


def welcome(token: str = TOKEN, **created: Any) -> bytes:
    """The documented message with a key that is one."""
    message = golden("provider-welcome.request.json")
    assert message["token"] == TOKEN
    message["token"] = token
    message["createdProvider"] |= {"publicKey": spki(key("new")).decode(), **created}
    return json.dumps(message).encode()


def files_in(folder: Path) -> Files:
    return Files(folder / "registration.json", folder / "key", folder / "refresh")


def names_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def waiting(folder: Path, token: str = TOKEN) -> Files:
    files = files_in(folder)
    files.save(State(provider="example", core_url="http://core", requested_at_ms=1, token=token))
    return files


async def test_a_welcome_is_taken_once(client: Client, tmp_path: Path) -> None:
    """Both files are written, for their owner only; the answer is the documented one; the same welcome again is refused."""
    files = waiting(tmp_path)
    assert await client.call("POST", WELCOME, welcome(), headers={}) == (200, golden("provider-welcome.response.json"))
    assert files.refresh_token.read_text() == "8accc446c2e3ac924ff07c77d93e1679378a5dad\n"
    assert files.public_key.read_bytes() == spki(key("new")) + b"\n"
    assert {oct(file.stat().st_mode & 0o777) for file in (files.state, files.public_key, files.refresh_token)} == {"0o600"}
    state = files.load()
    assert state is not None
    assert not state.waits
    status, answer = await client.call("POST", WELCOME, welcome(refreshToken="another"), headers={})
    assert (status, "serai register" in answer["why"]) == (403, True)
    assert files.refresh_token.read_text().startswith("8accc")
    assert names_in(tmp_path) == ["key", "refresh", "registration.json"]


async def test_of_two_welcomes_at_once_one_is_taken(client: Client, tmp_path: Path) -> None:
    """What is installed is the pair of the one that was answered with 200."""
    files = waiting(tmp_path)
    calls = [client.call("POST", WELCOME, welcome(refreshToken=name), headers={}) for name in ("first", "second", "third")]
    statuses = [status for status, _ in await asyncio.gather(*calls)]
    assert sorted(statuses) == [200, 403, 403]
    assert files.refresh_token.read_text().strip() == ("first", "second", "third")[statuses.index(200)]


@pytest.mark.parametrize("token", ["", "9", TOKEN[:-1], TOKEN + "0", TOKEN.upper(), "n\N{LATIN SMALL LETTER O WITH STROKE}"])
async def test_another_token_is_forbidden(client: Client, tmp_path: Path, token: str) -> None:
    """403, nothing is written, and the registration waits on; also when it waits for no token any more."""
    files = waiting(tmp_path)
    assert (await client.call("POST", WELCOME, welcome(token), headers={}))[0] == 403
    assert not files.refresh_token.exists()
    waiting(tmp_path, token="")
    assert (await client.call("POST", WELCOME, welcome(token), headers={}))[0] == 403
    assert not files.refresh_token.exists()
    waiting(tmp_path)
    assert (await client.call("POST", WELCOME, welcome(), headers={}))[0] == 200


async def test_without_a_registration_every_welcome_is_forbidden(client: Client, tmp_path: Path) -> None:
    """None begun, a spoiled file, a gateway without a place for one."""
    assert (await client.call("POST", WELCOME, welcome(), headers={}))[0] == 403
    files_in(tmp_path).state.write_text("{")
    assert (await client.call("POST", WELCOME, welcome(), headers={}))[0] == 403
    waiting(tmp_path)
    other = client_of(settings_in(tmp_path, registers=False))
    assert (await other.call("POST", WELCOME, welcome(), headers={}))[0] == 403
    assert not files_in(tmp_path).refresh_token.exists()


@pytest.mark.parametrize(
    ("created", "where"),
    [
        ({"publicKey": "~~ public key ~~"}, "createdProvider.publicKey: "),
        ({"refreshToken": ""}, "createdProvider.refreshToken: "),
        ({"refreshToken": "a\nb"}, "createdProvider.refreshToken: "),
        ({"refreshToken": None}, "createdProvider.refreshToken: "),
    ],
)
async def test_a_welcome_with_nothing_usable_in_it_does_not_use_up_the_token(
    client: Client, tmp_path: Path, created: dict[str, Any], where: str
) -> None:
    """400 with the path; Core can try again."""
    files = waiting(tmp_path)
    before = files.public_key.read_bytes()
    status, answer = await client.call("POST", WELCOME, welcome(**created), headers={})
    assert (status, answer["why"].startswith(where)) == (400, True), answer
    assert files.public_key.read_bytes() == before
    assert (await client.call("POST", WELCOME, welcome(), headers={}))[0] == 200


async def test_a_kill_between_the_files_is_mended_by_the_next_welcome(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dead after the files and before the note that it is done: Core got no answer, approves again, and the new pair is taken whole."""
    files = waiting(tmp_path)
    with monkeypatch.context() as patch:

        def dies(_files: Files, _state: State) -> None:
            raise OSError("killed")

        patch.setattr(Files, "save", dies)
        assert (await client.call("POST", WELCOME, welcome(refreshToken="lost"), headers={}))[0] == 500
    assert files.refresh_token.read_text() == "lost\n"
    again = welcome(refreshToken="good", publicKey=spki(key("third")).decode())
    assert (await client.call("POST", WELCOME, again, headers={}))[0] == 200
    assert (files.refresh_token.read_text(), files.public_key.read_bytes().strip()) == ("good\n", spki(key("third")))
