"""Users' calls: whose token opens them, in which project they work, and what the server is told."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest
import structlog
from fakes.clock import FakeClock
from fakes.gateway_client import Client
from fakes.gateway_tokens import bearer, claims, forged_hs256, key, pem, sign, user_claims
from golden.load import golden
from serai.core.v1 import resources_pb2
from serai.licenses.v1 import license_pb2, licenses_provider_service_pb2, licenses_service_pb2
from serai_gateway.app import App
from serai_gateway.auth import KeyFileError, PublicKeyFile, TokenCheck
from serai_gateway.codec import Codec
from serai_gateway.codec.query import LONGEST_BYTES
from serai_gateway.routes import ROUTES, Route
from serai_gateway.settings import CoreSettings, ProviderSettings, Settings
from serai_gateway.users import SETTING, UserCheck, may_call

CODEC = Codec()
LICENSE = "/serai.licenses.v1.LicensesService"
NOW = FakeClock().now_ms()
USERS = key("users")
CREATE = json.dumps(golden("licenses-enduser-2023-02-create-and-configure-a-license-post-licenses.request.json")).encode()
USERS_ROUTES = [route for route in ROUTES if route.users]


class Server:
    """An Upstream that answers as the server does, and keeps what it was told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, bytes, Mapping[str, str]]] = []

    async def unary(self, method: str, request: bytes, metadata: Mapping[str, str], timeout_s: float) -> bytes:
        self.calls.append((method, request, metadata))
        if method == f"{LICENSE}/Create":
            count = len(licenses_service_pb2.CreateRequest.FromString(request).items)
            ids = [resources_pb2.FindByStringId(id=str(5123 + number)) for number in range(count)]
            return licenses_service_pb2.CreateResponse(responses=ids).SerializeToString()
        if method == f"{LICENSE}/Delete":
            return licenses_service_pb2.DeleteResponse(responses=[licenses_service_pb2.Acknowledged()]).SerializeToString()
        if method == f"{LICENSE}/Retrieve":
            asked = licenses_service_pb2.RetrieveRequest.FromString(request)
            return licenses_service_pb2.RetrieveResponse(license=license_pb2.License(id=asked.id)).SerializeToString()
        return b""

    async def stream(self, method: str, request: bytes, metadata: Mapping[str, str]) -> AsyncIterator[bytes]:
        raise NotImplementedError(method)
        yield b""

    @property
    def told(self) -> Mapping[str, str]:
        return self.calls[-1][2]


@pytest.fixture
def server() -> Server:
    return Server()


def client_on(folder: Path, server: Server, *, served: bool = True, clock: FakeClock | None = None) -> Client:
    clock = clock or FakeClock()
    (folder / "core").write_bytes(pem(key()))
    (folder / "users").write_bytes(pem(USERS))
    settings = Settings(
        provider=ProviderSettings(id="example"),
        core=CoreSettings(url="http://core", public_key_file=str(folder / "core"), refresh_token_file="none"),
    )
    core = TokenCheck(PublicKeyFile(folder / "core", clock), clock)
    users = UserCheck(PublicKeyFile(folder / "users", clock, setting=SETTING), clock, "cloud.sdu.dk") if served else None
    return Client(App(settings, CODEC, server, core, None, users=users), token())


def token(**changes: Any) -> bytes:
    return bearer(sign(user_claims(NOW, **changes), USERS))


@pytest.fixture
def client(tmp_path: Path, server: Server) -> Client:
    return client_on(tmp_path, server)


async def test_a_user_works_in_their_personal_workspace(client: Client, server: Server) -> None:
    """Without the header Project, or with an empty one, the server is told of the user and of no project; UCloud-Username says nothing."""
    for more in ((), ((b"project", b""),), ((b"project", b"  "), (b"ucloud-username", b"somebody"))):
        assert await client.call("POST", "/api/licenses", CREATE, more=more) == (200, {"responses": [{"id": "5123"}]})
        assert server.told == {"serai-caller": "user", "serai-user": "user"}
    method, request, _ = server.calls[0]
    assert method == f"{LICENSE}/Create"
    assert licenses_service_pb2.CreateRequest.FromString(request).items[0].product.id == "example-license"


async def test_a_member_works_in_a_project(client: Client, server: Server) -> None:
    """The server is told of the role, and of the groups of that project only."""
    await client.call("GET", "/api/licenses/retrieve?id=5123", more=[(b"project", b"project-1")])
    assert server.told == {
        "serai-caller": "user",
        "serai-user": "user",
        "serai-project": "project-1",
        "serai-role": "PI",
        "serai-groups": "group-a,group-c",
    }
    await client.call("GET", "/api/licenses/retrieve?id=5123", more=[(b"project", b"project-2")])
    assert (server.told["serai-role"], server.told["serai-groups"]) == ("USER", "group-b")


async def test_a_member_of_many_groups(client: Client, server: Server) -> None:
    """Tokens of users are longer than Core's own; beyond their limit they are refused before anything of them is read."""
    groups = {f"00000000-0000-0000-0000-{number:012d}": "project-1" for number in range(400)}
    headers = {b"authorization": token(groups=groups)}
    assert (await client.call("GET", "/api/licenses/browse", headers=headers, more=[(b"project", b"project-1")]))[0] == 200
    assert server.told["serai-groups"].split(",") == list(groups)
    headers = {b"authorization": token(groups=groups | {"x" * 20_000: "project-1"})}
    status, body = await client.call("GET", "/api/licenses/browse", headers=headers)
    assert (status, "too long" in body["why"]) == (401, True)


async def test_names_travel_in_printable_ascii(client: Client, server: Server) -> None:
    """Whatever a name holds, it is one value of one key, and a comma in it does not make two groups."""
    headers = {b"authorization": token(sub="Bjørn, 5%#1", membership={"p/ä": "ADMIN"}, groups={"a,b": "p/ä", "c": "p/ä"})}
    status, _ = await client.call("GET", "/api/licenses/browse", headers=headers, more=[(b"project", "p/ä".encode())])
    assert status == 200
    assert server.told == {
        "serai-caller": "user",
        "serai-user": "Bj%C3%B8rn%2C%205%25%231",
        "serai-project": "p%2F%C3%A4",
        "serai-role": "ADMIN",
        "serai-groups": "a%2Cb,c",
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"membership": None},
        {"membership": {}},
        {"membership": {"somebody-elses": "OWNER"}},
        {"membership": {"somebody-elses": 1}},
        {"membership": ["somebody-elses"]},
        {"membership": "somebody-elses"},
        {"membership": {"Somebody-Elses": "PI"}},
        {"membership": None, "groups": {"group": "somebody-elses"}},
        {"membership": None, "providerProjects": {"example": "somebody-elses"}},
    ],
)
async def test_somebody_elses_project_is_closed(client: Client, server: Server, changes: dict[str, Any]) -> None:
    """403 unless the token says that the user has one of the three roles there; a token of 2021 says nothing of projects."""
    headers = {b"authorization": token(**changes)}
    status, body = await client.call("POST", "/api/licenses", CREATE, headers=headers, more=[(b"project", b"somebody-elses")])
    assert status == 403
    assert body["why"] == "Your token does not say that you are in this project"
    assert (client.received, server.calls) == (0, [])


async def test_two_projects_are_no_project(client: Client, server: Server) -> None:
    """400, even when both are the same: which one counts is nobody's guess."""
    for second in (b"project-1", b"project-2", b""):
        status, body = await client.call("GET", "/api/licenses/browse", more=[(b"project", b"project-1"), (b"project", second)])
        assert (status, "twice" in body["why"]) == (400, True)
    assert server.calls == []


@pytest.mark.parametrize("route", USERS_ROUTES, ids=lambda route: route.method)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"authorization": b"Bearer e30.e30.c2ln"},
        {b"authorization": bearer(sign(claims(NOW)))},
        {b"authorization": bearer(sign(claims(NOW), USERS))},
        {b"authorization": bearer(sign(claims(NOW, role="ADMIN"), USERS))},
        {b"authorization": bearer(sign(user_claims(NOW)))},
        {b"authorization": bearer(sign(user_claims(NOW), key("stranger")))},
        {b"authorization": bearer(sign(user_claims(NOW, sub="#P_example", role="PROVIDER"), USERS))},
        {b"authorization": bearer(sign(user_claims(NOW, sub="_files", role="SERVICE"), USERS))},
    ],
    ids=["none", "junk", "core", "core-with-users-key", "core-admin", "cores-key", "another-key", "provider", "service"],
)
async def test_only_users_tokens_open_users_calls(client: Client, server: Server, route: Route, headers: dict[bytes, bytes]) -> None:
    """Neither Core's token, nor one of a service or a provider, nor one of another key; the body is not read."""
    status, body = await client.call(route.verb, route.path, CREATE, headers=headers)
    assert (status, body["why"].partition(":")[0]) == (401, "Unauthorized")
    assert (client.received, server.calls) == (0, [])


@pytest.mark.parametrize("route", [route for route in ROUTES if route.ingoing and not route.users and not route.open], ids=lambda r: r.path)
async def test_a_users_token_opens_nothing_of_cores(client: Client, server: Server, route: Route) -> None:
    """With the users' own key, and even if Core signed both with the same one: a user is not Core."""
    path = route.path.replace("{provider}", "example")
    for private in (USERS, key()):
        for changes in ({}, {"role": "ADMIN"}, {"sub": "_ucloud", "role": "SERVICE"}):
            headers = {b"authorization": bearer(sign(user_claims(NOW, **changes), private))}
            status, _ = await client.call(route.verb, path, b"{}", headers=headers)
            assert status == 401, (path, changes)
    assert (client.received, server.calls) == (0, [])


async def test_two_tokens_are_none(client: Client, server: Server) -> None:
    """Whichever of them would be good."""
    status, _ = await client.call("GET", "/api/licenses/browse", more=[(b"authorization", token())])
    assert (status, server.calls) == (401, [])


@pytest.mark.parametrize(
    "forged",
    [
        forged_hs256(user_claims(NOW), pem(USERS)),
        forged_hs256(user_claims(NOW), pem(USERS).strip()),
        jwt.encode(user_claims(NOW), "", "none"),
    ],
    ids=["hs256", "hs256-stripped", "none"],
)
async def test_a_token_that_anybody_could_make(client: Client, server: Server, forged: str) -> None:
    """Signed with the public key as a secret, or not at all: RS256 only, whatever the token's header says."""
    status, body = await client.call("GET", "/api/licenses/browse", headers={b"authorization": bearer(forged)})
    assert (status, "RS256" in body["why"]) == (401, True)
    assert server.calls == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"iss": "elsewhere"}, "issuer"),
        ({"iss": None}, "issuer"),
        ({"role": None}, "role"),
        ({"role": "GUEST"}, "role"),
        ({"role": ["USER"]}, "role"),
        ({"sub": None}, "subject"),
        ({"sub": ""}, "subject"),
        ({"sub": "x" * 251}, "subject"),
        ({"sub": "a\nb"}, "subject"),
        ({"sub": "_UCloud"}, "subject"),
        ({"sub": "_ucloud"}, "subject"),
        ({"sub": "#P_example"}, "subject"),
        ({"sub": 7}, "subject"),
        ({"aud": None}, "audience"),
        ({"aud": "jobs:write"}, "audience"),
        ({"aud": ["all:read"]}, "audience"),
        ({"exp": None}, "exp"),
        ({"iat": None}, "iat"),
        ({"exp": NOW // 1000 - 10}, "expired"),
        ({"iat": NOW // 1000 + 11}, "future"),
    ],
)
async def test_claims_that_are_no_users_are_refused(client: Client, server: Server, changes: dict[str, Any], words: str) -> None:
    """Signed by the right key, and refused in words that name the claim and repeat nothing of the token."""
    status, body = await client.call("POST", "/api/licenses", CREATE, headers={b"authorization": token(**changes)})
    assert (status, words in body["why"]) == (401, True), body
    assert server.calls == []


async def test_clocks_may_differ_a_little(tmp_path: Path, server: Server) -> None:
    """By ten seconds, as with Core's tokens, and a remembered token ends with its time too."""
    clock = FakeClock()
    client = client_on(tmp_path, server, clock=clock)
    assert (await client.call("GET", "/api/licenses/browse"))[0] == 200
    clock.move(609_000)
    assert (await client.call("GET", "/api/licenses/browse"))[0] == 200
    clock.move(1_000)
    assert (await client.call("GET", "/api/licenses/browse"))[0] == 401


@pytest.mark.parametrize(
    ("held", "method", "may"),
    [
        ("all:write", "Delete", True),
        ("all:read", "Delete", False),
        ("all:read", "Browse", True),
        ("all:read", "Search", True),
        ("licenses:write", "Create", True),
        ("licenses:read", "Create", False),
        ("licenses:read", "RetrieveProducts", True),
        ("licenses.updateAcl:write", "UpdateAcl", True),
        ("licenses.updateAcl:write", "Create", False),
        ("licenses.retrieve:read", "Retrieve", True),
        ("licenses.retrieve:read", "RetrieveProducts", False),
        ("jobs:write", "Browse", False),
        ("all", "Browse", False),
        ("all:admin", "Browse", False),
        (":write", "Browse", False),
        ("", "Browse", False),
    ],
)
def test_scopes_cover_calls(held: str, method: str, may: bool) -> None:
    """Reading needs a scope to read or to write, changing one to write; of all calls, of the licenses' or of this one."""
    route = next(route for route in USERS_ROUTES if route.method == f"{LICENSE}/{method}")
    assert may_call(("other:write", held), route) is may
    assert may_call((), route) is False


async def test_queries_are_read_and_have_a_limit(client: Client, server: Server) -> None:
    """What the query says reaches the server; one that is too long or says something twice is 400 with the key."""
    await client.call("GET", "/api/licenses/browse?includeUpdates=true&filterIds=1%2C2&itemsPerPage=10&sortDirection=descending")
    asked = licenses_service_pb2.BrowseRequest.FromString(server.calls[-1][1])
    assert asked.flags == licenses_service_pb2.LicenseIncludeFlags(include_updates=True, filter_ids="1,2")
    assert (asked.items_per_page, asked.sort_direction) == (10, licenses_service_pb2.SORT_DIRECTION_DESCENDING)
    for query, why in (
        ("filterIds=" + "1," * LONGEST_BYTES, "expected a query of at most"),
        ("next=a&next=b", "next: "),
        ("itemsPerPage=many", "itemsPerPage: "),
    ):
        status, body = await client.call("GET", f"/api/licenses/browse?{query}")
        assert (status, body["why"].startswith(why)) == (400, True)
    status, body = await client.call("GET", "/api/licenses/retrieve")
    assert (status, body["why"]) == (400, "id: expected a text, found no such key")
    assert len(server.calls) == 1


async def test_a_delete_has_a_body_and_init_needs_none(client: Client, server: Server) -> None:
    """DELETE with JSON, as UCloud does; a call without any field may come without a body or with {}."""
    assert await client.call("DELETE", "/api/licenses", b'{"items":[{"id":"5123"}]}') == (200, {"responses": [{}]})
    assert licenses_service_pb2.DeleteRequest.FromString(server.calls[-1][1]).items[0].id == "5123"
    for body in (b"", b"{}"):
        assert await client.call("POST", "/api/licenses/init", body) == (200, {})
    assert (await client.call("DELETE", "/api/licenses"))[0] == 400
    assert (await client.call("PUT", "/api/licenses", b"{}"))[0] == 405


async def test_a_user_cannot_name_another_owner(client: Client, server: Server) -> None:
    """The owner of the request is for tools: what a user writes there does not reach the server."""
    body = json.dumps({**json.loads(CREATE), "owner": {"createdBy": "somebody", "project": "somebody-elses"}}).encode()
    assert (await client.call("POST", "/api/licenses", body))[0] == 200
    assert not licenses_service_pb2.CreateRequest.FromString(server.calls[-1][1]).HasField("owner")


async def test_without_a_key_users_calls_are_not_served(tmp_path: Path, server: Server) -> None:
    """404 in words that name the setting, for everybody; Core's own calls about licenses go on."""
    client = client_on(tmp_path, server, served=False)
    for route in USERS_ROUTES:
        status, body = await client.call(route.verb, route.path, CREATE)
        assert (status, SETTING in body["why"]) == (404, True)
    core = {b"authorization": bearer(sign(claims(NOW)))}
    assert (await client.call("GET", "/ucloud/example/licenses/retrieveProducts", headers=core))[0] == 200
    assert [method for method, _, _ in server.calls] == [
        f"/{licenses_provider_service_pb2.DESCRIPTOR.package}.LicensesProviderService/RetrieveProducts"
    ]


async def test_a_new_key_is_taken_and_the_old_one_forgotten(tmp_path: Path, server: Server) -> None:
    """Also for a token that was let in a moment ago."""
    clock = FakeClock()
    client = client_on(tmp_path, server, clock=clock)
    assert (await client.call("GET", "/api/licenses/browse"))[0] == 200
    (tmp_path / "users").write_bytes(pem(key("users, the next")))
    clock.move(2_000)
    assert (await client.call("GET", "/api/licenses/browse"))[0] == 401
    new = bearer(sign(user_claims(clock.now_ms()), key("users, the next")))
    assert (await client.call("GET", "/api/licenses/browse", headers={b"authorization": new}))[0] == 200


def test_a_missing_key_names_its_setting(tmp_path: Path) -> None:
    """And what to do about it."""
    with pytest.raises(KeyFileError, match=f"{SETTING}: there is no .* yet; put it there"):
        PublicKeyFile(tmp_path / "nothing", FakeClock(), setting=SETTING, hint="put it there")


async def test_tokens_and_projects_are_in_no_log(client: Client, server: Server) -> None:
    """Neither of one who is let in nor of one who is not."""
    with structlog.testing.capture_logs() as logs:
        await client.call("GET", "/api/licenses/browse", more=[(b"project", b"project-1")])
        await client.call("GET", "/api/licenses/browse", headers={b"authorization": token(iss="elsewhere")})
    assert len(server.calls) == 1
    assert logs == []
