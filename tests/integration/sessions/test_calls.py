"""Sessions by call: SessionsService through the server's chain, and openInteractiveSession as both generations of Core send it."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar

import pytest
from fakes.clock import FakeClock
from fakes.front import silent
from fakes.gateway_client import Client
from fakes.gateway_tokens import bearer, claims, key, pem, sign
from fakes.sessions import PASSWORD, Site, reachable_job, refusals, site_in
from golden.load import HERE, golden
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2
from serai.jobs.v1 import jobs_service_pb2 as jobs_pb
from serai.sessions.v1 import sessions_service_pb2 as pb
from serai_gateway.app import App
from serai_gateway.auth import PublicKeyFile, TokenCheck
from serai_gateway.codec import Codec
from serai_gateway.settings import CoreSettings, ProviderSettings, Settings
from serai_gateway.upstream import InProcessUpstream
from serai_server.rpc.dispatch import Dispatcher
from serai_server.rpc.health import Health
from serai_server.rpc.services import dispatcher
from serai_server.rpc.status import RpcFailure

SESSIONS = "/serai.sessions.v1.SessionsService/"
OPEN = "/serai.jobs.v1.JobsService/OpenInteractiveSession"
TOOL: Mapping[str, str] = {}
HOLDER = {"serai-caller": "session"}
CONSOLE = {"serai-caller": "console"}
CORE = {"serai-caller": "core", "serai-user": "alice%20b"}
WORDS = "this session is not known here, or it is over: open a new one in UCloud"
WEB = pb.SESSION_KIND_WEB
KINDS = {"shell": pb.SESSION_KIND_SHELL, "web": pb.SESSION_KIND_WEB, "vnc": pb.SESSION_KIND_VNC, "console": pb.SESSION_KIND_CONSOLE}

M = TypeVar("M", bound=Message)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Site]:
    async with site_in(tmp_path) as found:
        await found.run(*(reachable_job(job_id, replicas=2) for job_id in ("1", "54112", "32")))
        yield found


@pytest.fixture
def server(site: Site) -> Dispatcher:
    return server_of(site)


def server_of(site: Site, shells: Echo | None = None) -> Dispatcher:
    core = site.core
    return dispatcher(
        jobs=core.jobs,
        changes=core.changes,
        events=core.events,
        sessions=core.sessions.service,
        shells=shells,
        health=Health(),
        clock=site.clock,
        log=silent(),
    )


async def ask(server: Dispatcher, method: str, request: Message, answer: type[M], who: Mapping[str, str] = TOOL) -> M:
    return answer.FromString(await server.unary(method if "/" in method else SESSIONS + method, request.SerializeToString(), who))


async def opened(server: Dispatcher, kind: str, job_id: str = "1", rank: int = 0, who: Mapping[str, str] = TOOL) -> pb.OpenResponse:
    request = pb.OpenRequest(job_id="" if kind == "console" else job_id, rank=rank, kind=KINDS[kind])
    return await ask(server, "Open", request, pb.OpenResponse, who)


def reason(failure: RpcFailure) -> str:
    info = error_details_pb2.ErrorInfo()
    assert failure.status.details[0].Unpack(info)
    return info.reason


async def test_a_page_from_its_opening_to_its_end(server: Dispatcher, site: Site) -> None:
    """Open, redeem, authorize, hold, list, close: as the gateway and an operator's tool call them."""
    page = await opened(server, "web", rank=1)
    redeemed = await ask(server, "Redeem", pb.RedeemRequest(secret=page.secret, kind=WEB, job_id="1", rank=1), pb.RedeemResponse, HOLDER)
    assert redeemed.session.id == page.session.id
    cookie = redeemed.cookie_secret
    found = await ask(server, "Authorize", pb.AuthorizeRequest(secret=cookie, kind=WEB, job_id="1", rank=1), pb.AuthorizeResponse, HOLDER)
    assert (found.host, found.port, found.session.job_id, found.session.rank) == ("127.1.0.2", 8888, "1", 1)
    async with aclosing(
        server.stream(SESSIONS + "Hold", pb.HoldRequest(secret=cookie, kind=WEB, job_id="1", rank=1).SerializeToString(), HOLDER)
    ) as held:
        assert pb.HoldResponse.FromString(await anext(held)).authorized.port == 8888
        assert [s.id for s in (await ask(server, "List", pb.ListRequest(job_id="1"), pb.ListResponse)).sessions] == [page.session.id]
        await ask(server, "Close", pb.CloseRequest(session_id=page.session.id), pb.CloseResponse)
        async with asyncio.timeout(10):
            with pytest.raises(StopAsyncIteration):
                await anext(held)
    await ask(server, "Close", pb.CloseRequest(session_id=page.session.id), pb.CloseResponse)
    assert not (await ask(server, "List", pb.ListRequest(), pb.ListResponse)).sessions
    assert site.core.sessions.service._registry.all() == []


async def test_an_operator_comes_in_by_a_console_session(server: Dispatcher) -> None:
    """It belongs to no job and leads to no port; from the console no other console is opened, so that a cookie does not live for ever."""
    console = await opened(server, "console")
    assert (console.session.job_id, console.session.kind) == ("", pb.SESSION_KIND_CONSOLE)
    request = pb.RedeemRequest(secret=console.secret, kind=pb.SESSION_KIND_CONSOLE)
    cookie = (await ask(server, "Redeem", request, pb.RedeemResponse, HOLDER)).cookie_secret
    found = await ask(server, "Authorize", pb.AuthorizeRequest(secret=cookie, kind=pb.SESSION_KIND_CONSOLE), pb.AuthorizeResponse, HOLDER)
    assert (found.host, found.port) == ("", 0)
    assert (await opened(server, "vnc", who=CONSOLE)).password == PASSWORD
    with pytest.raises(RpcFailure) as caught:
        await opened(server, "console", who=CONSOLE)
    assert reason(caught.value) == "FORBIDDEN"


@pytest.mark.parametrize("method", ["Redeem", "Authorize", "Hold"])
async def test_guesses_are_unauthenticated_in_the_same_words(server: Dispatcher, method: str) -> None:
    """Whatever the call."""
    request = pb.AuthorizeRequest(secret="guessed", kind=pb.SESSION_KIND_WEB, job_id="1").SerializeToString()
    with refusals() as told, pytest.raises(RpcFailure) as caught:
        if method == "Hold":
            await anext(server.stream(SESSIONS + method, request, HOLDER))
        else:
            await server.unary(SESSIONS + method, request, HOLDER)
    status = caught.value.status
    assert (status.code, status.message, reason(caught.value)) == (code_pb2.UNAUTHENTICATED, WORDS, "SESSION_UNKNOWN")
    assert [(line["why"], line["job"]) for line in told] == [("nobody has this secret", "1")]


@pytest.mark.parametrize("method", ["Open", "Redeem", "Authorize"])
@pytest.mark.parametrize("kind", [0, 9])
async def test_a_kind_that_is_none_is_refused(server: Dispatcher, method: str, kind: int) -> None:
    """With the field's name."""
    with pytest.raises(RpcFailure) as caught:
        await server.unary(SESSIONS + method, b"\x18%c" % kind if method == "Open" else b"\x10%c" % kind, TOOL)
    assert (reason(caught.value), caught.value.status.message) == ("INVALID_REQUEST", "kind: expected SHELL, WEB, VNC or CONSOLE")


async def test_what_holders_and_consoles_may_not_call(server: Dispatcher) -> None:
    """Who holds a session opens and lists none; the console redeems none."""
    for who, method in ((HOLDER, "Open"), (HOLDER, "List"), (HOLDER, "Close"), (CONSOLE, "Redeem"), (CONSOLE, "Authorize")):
        with pytest.raises(RpcFailure) as caught:
            await server.unary(SESSIONS + method, b"", who)
        assert reason(caught.value) == "FORBIDDEN"


class Echo:
    """Shells that say whether their caller is a holder, and then what they are given."""

    def __init__(self) -> None:
        self.closed = False

    async def shell(self, requests: AsyncIterator[pb.ShellRequest], *, holder: bool) -> AsyncIterator[pb.ShellResponse]:
        try:
            yield pb.ShellResponse(output=b"holder" if holder else b"tool")
            async for request in requests:
                yield pb.ShellResponse(output=request.input)
        finally:
            self.closed = True


async def typed(*pieces: bytes) -> AsyncGenerator[bytes]:
    for piece in pieces:
        yield pb.ShellRequest(input=piece).SerializeToString()


@pytest.mark.parametrize("who", [HOLDER, TOOL])
async def test_shells_get_what_is_typed_and_know_who_types(site: Site, who: Mapping[str, str]) -> None:
    """Both ways; leaving closes the shell's own end."""
    shells = Echo()
    async with aclosing(server_of(site, shells).exchange(SESSIONS + "Shell", typed(b"a", b"b"), who)) as answers:
        got = [pb.ShellResponse.FromString(answer).output async for answer in answers]
    assert (got, shells.closed) == ([b"holder" if who else b"tool", b"a", b"b"], True)


async def test_without_shells_there_are_none(server: Dispatcher) -> None:
    """Said in words."""
    with pytest.raises(RpcFailure) as caught:
        await anext(server.exchange(SESSIONS + "Shell", typed(b""), TOOL))
    assert reason(caught.value) == "UNSUPPORTED"


# openInteractiveSession

GENERATIONS = ["2021", "2026"]


def body_of(generation: str) -> dict[str, Any]:
    """The captured request, with one item of each kind."""
    if generation == "2021":
        return copy.deepcopy(golden("derived-jobs-provider-interactiveSession.request.json"))
    request = json.loads((HERE / "ucloud-2026" / "POST_jobs_interactiveSession.json").read_text())["request"]
    (item,) = request["items"]
    request["items"] = [item | {"sessionType": kind} for kind in ("SHELL", "WEB", "VNC")]
    return request


def core(site: Site, folder: Path) -> Client:
    """Core as the gateway knows it."""
    clock = FakeClock()
    (folder / "key").write_bytes(pem(key()))
    settings = Settings(
        provider=ProviderSettings(id="example"), core=CoreSettings(url="http://core", public_key_file="-", refresh_token_file="-")
    )
    check = TokenCheck(PublicKeyFile(folder / "key", clock), clock)
    app = App(settings, Codec(), InProcessUpstream(server_of(site)), check, None)
    return Client(app, bearer(sign(claims(clock.now_ms()))))


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_core_opens_one_of_each(site: Site, tmp_path: Path, generation: str) -> None:
    """Exactly one answer for each item, in order, with the fields of its type (today's Core says 502 to any other number). The addresses of
    page and desktop are the gateway's; the server gives it their secrets."""
    body = body_of(generation)
    status, answer = await core(site, tmp_path).call("POST", "/ucloud/example/jobs/interactiveSession", json.dumps(body).encode())
    assert status == 200, answer
    shell, web, vnc = answer["responses"]
    job_id = body["items"][0]["job"]["id"]
    assert {(one["jobId"], one["rank"]) for one in (shell, web, vnc)} == {(job_id, 0)}
    assert [one["type"] for one in (shell, web, vnc)] == ["shell", "web", "vnc"]
    assert site.sessions.shell_of(shell["sessionIdentifier"]).job_id == job_id
    assert vnc["password"] == PASSWORD
    documented = golden("derived-jobs-provider-interactiveSession.response.json")["responses"]
    assert [set(one) for one in (shell, web, vnc)] == [set(one) for one in documented]
    assert sorted(s.kind for s in await site.sessions.list(job_id)) == [pb.SESSION_KIND_SHELL, pb.SESSION_KIND_WEB, pb.SESSION_KIND_VNC]


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_of_several_items_one_that_is_wrong_opens_none(site: Site, tmp_path: Path, generation: str) -> None:
    """All or none, with the path of the wrong field."""
    body = body_of(generation)
    body["items"][2]["rank"] = 7
    status, answer = await core(site, tmp_path).call("POST", "/ucloud/example/jobs/interactiveSession", json.dumps(body).encode())
    assert (status, answer["why"]) == (400, "items[2].rank: rank 7: this job has ranks 0 to 1")
    assert await site.sessions.list() == []


async def test_a_target_of_todays_core(site: Site, tmp_path: Path) -> None:
    """null and the empty text mean the application's own; anything else that is not its port is refused in words."""
    body = body_of("2026")
    body["items"] = [body["items"][1] | {"target": target} for target in (None, "", "8888")]
    client = core(site, tmp_path)
    status, answer = await client.call("POST", "/ucloud/example/jobs/interactiveSession", json.dumps(body).encode())
    assert (status, len(answer["responses"])) == (200, 3)
    body["items"][1]["target"] = "22"
    status, answer = await client.call("POST", "/ucloud/example/jobs/interactiveSession", json.dumps(body).encode())
    assert (status, answer["why"]) == (
        400,
        "items[1].target: a session opens what the application says, and nothing else: leave the target out",
    )


async def test_the_server_hands_the_secrets_to_the_gateway_alone(server: Dispatcher, site: Site) -> None:
    """`session_identifier` of page and desktop, and the user for whom Core asked."""
    job = jobs_pb.OpenInteractiveSessionItem().job
    job.id = "1"
    types = (jobs_pb.INTERACTIVE_SESSION_TYPE_WEB, jobs_pb.INTERACTIVE_SESSION_TYPE_VNC)
    request = jobs_pb.OpenInteractiveSessionRequest(
        items=[jobs_pb.OpenInteractiveSessionItem(job=job, rank=1, session_type=kind) for kind in types]
    )
    answer = await ask(server, OPEN, request, jobs_pb.OpenInteractiveSessionResponse, CORE)
    web, vnc = answer.responses[0].web, answer.responses[1].vnc
    assert (web.rank, web.redirect_client_to, vnc.url, vnc.password) == (1, "", "", PASSWORD)
    await ask(server, "Redeem", pb.RedeemRequest(secret=web.session_identifier, kind=WEB, job_id="1", rank=1), pb.RedeemResponse, HOLDER)
    assert {s.row.user for s in await site.sessions.list()} == {"alice b"}
    found = await ask(
        server, "Authorize", pb.AuthorizeRequest(secret=vnc.session_identifier, kind=pb.SESSION_KIND_VNC), pb.AuthorizeResponse, HOLDER
    )
    assert (found.host, found.port) == ("127.1.0.2", 5901)


async def test_a_type_that_is_none(server: Dispatcher) -> None:
    """The codec refuses it on UCloud's wire; on gRPC the use case does."""
    request = jobs_pb.OpenInteractiveSessionRequest(items=[jobs_pb.OpenInteractiveSessionItem(rank=0)])
    with pytest.raises(RpcFailure) as caught:
        await ask(server, OPEN, request, jobs_pb.OpenInteractiveSessionResponse, CORE)
    assert caught.value.status.message == "items[0].sessionType: expected SHELL, WEB or VNC"


async def test_a_folder_gets_no_terminal(server: Dispatcher) -> None:
    """Today's Core may ask; there is no job whose shell that could be."""
    with pytest.raises(RpcFailure) as caught:
        await server.unary("/serai.jobs.v1.JobsService/OpenTerminalInFolder", b"", CORE)
    assert reason(caught.value) == "UNSUPPORTED"
