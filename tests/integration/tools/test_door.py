"""The tools' door: who is let in by a token, what they may then, and how long."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import cast

import grpc
import grpc.aio
import pytest
import structlog
from fakes.clock import FakeClock
from fakes.front import Front
from fakes.kept_spans import Kept
from fakes.tools_site import CALL_S, ToolsSite, bearer, tools_site
from fakes.usecases import job
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from serai.access.v1.access_pb2 import ROLE_ADMIN, ROLE_VIEWER
from serai.jobs.v1 import jobs_service_pb2 as pb
from serai.jobs.v1.jobs_service_pb2_grpc import JobsServiceStub
from serai.tokens.v1 import tokens_service_pb2 as tokens_pb
from serai.tokens.v1.tokens_service_pb2_grpc import TokensServiceStub
from serai_devcore.clock import SystemClock
from serai_devcore.tokens import TokenIssuer
from serai_devcore.wire import Generation
from serai_server.rpc.server import METADATA_LIMIT_BYTES as OWN_METADATA_BYTES
from serai_server.rpc.tools_door import METADATA_LIMIT_BYTES, MOST_STREAMS, Place
from serai_server.store.token_model import Role
from serai_server.tokens.registry import DAY_MS
from serai_server.tokens.running import LOOK_S


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[ToolsSite]:
    async with tools_site(tmp_path) as running:
        yield running


async def refusal(call: Awaitable[object]) -> tuple[grpc.StatusCode, str, str]:
    """Code, reason and words."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    details = dict(caught.value.trailing_metadata() or ())["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    info = error_details_pb2.ErrorInfo()
    status_pb2.Status.FromString(details).details[0].Unpack(info)
    return caught.value.code(), info.reason, caught.value.details() or ""


async def listed(site: ToolsSite, *metadata: tuple[str, str]) -> pb.ListResponse:
    async with site.channel() as channel:
        return await JobsServiceStub(channel).List(pb.ListRequest(), metadata=metadata, timeout=CALL_S)


async def test_a_token_lets_in(site: ToolsSite) -> None:
    """Whoever shows it may do what its role says."""
    await site.front.jobs.create([job("1")])
    assert [found.id for found in (await listed(site, *bearer(await site.token()))).jobs] == ["1"]


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        ([], "a token is needed here"),
        ([("authorization", "Basic c2VyYWk6")], "expected one authorization"),
        ([("authorization", "Bearer ")], "a token of Serai is needed"),
        ([("authorization", "Bearer serai_0123456789ab_" + "A" * 43)], "not known here"),
        ([("authorization", "Bearer serai_x")], "not known here"),
        ([("authorization", "Bearer serai_0123456789ab_" + "A" * 5_000)], "not known here"),
        ([("authorization", "")], "expected one authorization"),
    ],
)
async def test_without_a_token_of_ours_nobody_is_let_in(site: ToolsSite, shown: list[tuple[str, str]], words: str) -> None:
    """UNAUTHENTICATED, in words that say what to do, before the request is read."""
    code, reason, said = await refusal(listed(site, *shown))
    assert (code, reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    assert words in said


async def test_tokens_of_ucloud_are_not_taken(site: ToolsSite) -> None:
    """Core's token for the provider opens nothing here, though it is signed by whom the gateway trusts."""
    issuer = TokenIssuer("example", Generation.G2021, SystemClock())
    for token in (issuer.core_token(), issuer.access_token()):
        code, _, said = await refusal(listed(site, *bearer(token)))
        assert code is grpc.StatusCode.UNAUTHENTICATED
        assert "UCloud" in said


async def test_one_wrong_sign_is_enough_to_be_refused(site: ToolsSite) -> None:
    """In the id or in the secret; and two tokens at once are none."""
    token = await site.token()
    other = "A" if token[-1] != "A" else "B"
    wrong = [token[:-1] + other, token[:-1], token + "A", token.replace("serai_", "serai_0"), token.upper()]
    for text in wrong:
        assert (await refusal(listed(site, *bearer(text))))[0] is grpc.StatusCode.UNAUTHENTICATED
    assert (await refusal(listed(site, *bearer(token), *bearer(token))))[0] is grpc.StatusCode.UNAUTHENTICATED
    assert await listed(site, *bearer(token)) is not None


@pytest.mark.parametrize("mark", ["core", "user", "session", "console", "mallory"])
async def test_marks_of_the_gateway_count_for_nothing(site: ToolsSite, mark: str) -> None:
    """Neither in place of a token, nor for more than the token gives."""
    marks = (("serai-caller", mark), ("serai-user", "alice"), ("serai-project", "p"), ("serai-role", "PI"))
    assert (await refusal(listed(site, *marks)))[0] is grpc.StatusCode.UNAUTHENTICATED
    token = bearer(await site.token())
    assert await listed(site, *token, *marks) is not None
    async with site.channel() as channel:
        disown = JobsServiceStub(channel).Disown(pb.DisownRequest(job_ids=["1"]), metadata=(*token, *marks), timeout=CALL_S)
        assert (await refusal(disown))[0] is grpc.StatusCode.PERMISSION_DENIED


async def test_a_role_is_needed_for_what_changes_something(site: ToolsSite) -> None:
    """A viewer looks; the words say which role is needed."""
    async with site.channel() as channel:
        create = JobsServiceStub(channel).Create
        request = pb.CreateRequest(items=[job("tool-1")])
        code, reason, words = await refusal(create(request, metadata=bearer(await site.token()), timeout=CALL_S))
        assert (code, reason) == (grpc.StatusCode.PERMISSION_DENIED, "FORBIDDEN")
        assert "OPERATOR" in words
        await create(request, metadata=bearer(await site.token(Role.OPERATOR)), timeout=CALL_S)
    assert list(site.front.jobs.jobs) == ["tool-1"]


async def test_health_is_open_and_reflection_is_for_who_is_known(site: ToolsSite) -> None:
    """A load balancer has no token; what the API looks like is told to any role."""
    async with site.channel() as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check", bytes, health_pb2.HealthCheckResponse.FromString)
        assert (await check(b"", timeout=CALL_S)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"):
            mirror = channel.stream_stream(f"/{name}/ServerReflectionInfo", bytes, bytes)
            asked = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
            stranger = mirror(iter([asked]), timeout=CALL_S)
            assert (await refusal(stranger.read()))[0] is grpc.StatusCode.UNAUTHENTICATED
            known = mirror(iter([asked]), metadata=bearer(await site.token(project="p")), timeout=CALL_S)
            assert b"serai.tokens.v1.TokensService" in cast("bytes", await known.read())


async def test_a_revoked_token_is_refused_at_once_and_its_streams_end(site: ToolsSite) -> None:
    """The holder is told why; the streams of others go on, and so does the server's use case for nobody."""
    await site.front.jobs.create([job("1")])
    mine, other = await site.token(), await site.token()
    async with site.channel() as channel:
        watch = JobsServiceStub(channel).Watch
        ended = watch(pb.WatchRequest(job_id="1"), metadata=bearer(mine))
        lives = watch(pb.WatchRequest(job_id="1"), metadata=bearer(other))
        assert await ended.read() and await lives.read()
        await site.tokens.service.revoke(mine.split("_")[1], "")
        code, reason, words = await refusal(asyncio.wait_for(ended.read(), CALL_S))
        assert (code, reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
        assert "revoked" in words
        assert "revoked" in (await refusal(listed(site, *bearer(mine))))[2]
        assert not lives.done()
        assert await listed(site, *bearer(other)) is not None
    async with asyncio.timeout(CALL_S):
        while site.front.jobs.open_iterators:
            await asyncio.sleep(0.01)


async def test_an_expired_token_is_refused_at_once_and_its_streams_end(tmp_path: Path) -> None:
    """At its very millisecond for new calls, at the next look for streams."""
    clock = FakeClock()
    async with tools_site(tmp_path, clock=clock) as site:
        await site.front.jobs.create([job("1")])
        token = await site.token(lifetime_ms=60_000)
        async with site.channel() as channel:
            watch = JobsServiceStub(channel).Watch(pb.WatchRequest(job_id="1"), metadata=bearer(token))
            assert await watch.read()
            clock.move(59_999)
            assert await listed(site, *bearer(token)) is not None
            clock.move(1)
            assert "expired" in (await refusal(listed(site, *bearer(token))))[2]
            clock.move(int(LOOK_S * 1_000))
            assert "expired" in (await refusal(asyncio.wait_for(watch.read(), CALL_S)))[2]


async def test_a_stream_that_its_client_leaves_is_forgotten(site: ToolsSite) -> None:
    """Nothing of it is left for the token's end to cancel."""
    await site.front.jobs.create([job("1")])
    token = await site.token()
    async with site.channel() as channel:
        watch = JobsServiceStub(channel).Watch(pb.WatchRequest(job_id="1"), metadata=bearer(token))
        await watch.read()
        holder = site.tokens.registry.holder(token, 0)
        assert len(holder.streams) == 1
        watch.cancel()
        async with asyncio.timeout(CALL_S):
            while holder.streams or site.front.jobs.open_iterators:
                await asyncio.sleep(0.01)


async def test_a_token_has_only_so_many_streams_at_a_time(site: ToolsSite) -> None:
    """The one over is refused in words; another token has its own, calls without a stream go on, and one that is closed makes room."""
    await site.front.jobs.create([job("1")])
    mine, other = await site.token(), await site.token()
    request = pb.WatchRequest(job_id="1")
    async with site.channel() as channel:
        watch = JobsServiceStub(channel).Watch
        opened = [watch(request, metadata=bearer(mine)) for _ in range(MOST_STREAMS)]
        for stream in opened:
            assert await stream.read()
        code, reason, words = await refusal(watch(request, metadata=bearer(mine)).read())
        assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_SESSIONS")
        assert "streams of this identity are open" in words
        assert await watch(request, metadata=bearer(other)).read()
        assert await listed(site, *bearer(mine)) is not None
        holder = site.tokens.registry.holder(mine, 0)
        opened[0].cancel()
        async with asyncio.timeout(CALL_S):
            while len(holder.streams) == MOST_STREAMS:
                await asyncio.sleep(0.01)
        assert await watch(request, metadata=bearer(mine)).read()


async def test_tokens_are_made_seen_and_taken_back_by_administrators(site: ToolsSite) -> None:
    """The secret is told once; who made it is told ever after."""
    admin, operator = await site.token(Role.ADMIN), await site.token(Role.OPERATOR)
    async with site.channel() as channel:
        service = TokensServiceStub(channel)
        request = tokens_pb.CreateRequest(name="ci", role=ROLE_VIEWER, project="p", lifetime_ms=DAY_MS)
        assert (await refusal(service.Create(request, metadata=bearer(operator), timeout=CALL_S)))[1] == "FORBIDDEN"
        made = await service.Create(request, metadata=bearer(admin), timeout=CALL_S)
        assert made.secret.startswith(f"serai_{made.token.id}_")
        assert made.token.created_by == admin.split("_")[1]
        assert await listed(site, *bearer(made.secret)) is not None
        found = await service.List(tokens_pb.ListRequest(), metadata=bearer(admin), timeout=CALL_S)
        assert [made.token.id in one.id for one in found.tokens].count(True) == 1
        assert made.secret.rpartition("_")[2] not in str(found)
        revoke = tokens_pb.RevokeRequest(token_id=made.token.id)
        gone = await service.Revoke(revoke, metadata=bearer(admin), timeout=CALL_S)
        assert await service.Revoke(revoke, metadata=bearer(admin), timeout=CALL_S) == gone
        assert made.token.id not in {t.id for t in (await service.List(tokens_pb.ListRequest(), metadata=bearer(admin))).tokens}
        assert made.token.id in {t.id for t in (await service.List(tokens_pb.ListRequest(all=True), metadata=bearer(admin))).tokens}
        unknown = service.Revoke(tokens_pb.RevokeRequest(token_id="nope\0"), metadata=bearer(admin), timeout=CALL_S)
        assert (await refusal(unknown))[:2] == (grpc.StatusCode.NOT_FOUND, "TOKEN_UNKNOWN")


async def test_the_servers_own_socket_stays_the_operators(site: ToolsSite) -> None:
    """Without any token; and a token that is sent there changes nothing."""
    async with grpc.aio.insecure_channel(f"unix:{site.own}") as channel:
        for metadata in ((), bearer("serai_nonsense")):
            made = await TokensServiceStub(channel).Create(tokens_pb.CreateRequest(role=ROLE_ADMIN), metadata=metadata, timeout=CALL_S)
            assert made.token.created_by == ""


async def test_metadata_without_end_is_refused_by_the_wire(site: ToolsSite) -> None:
    """More than a token needs does not get as far as a token is looked at; and the door goes on."""
    assert METADATA_LIMIT_BYTES < OWN_METADATA_BYTES
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await listed(site, *((f"x-{n}", "v" * 4_000) for n in range(8)))
    assert caught.value.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE)
    assert await listed(site, *bearer(await site.token())) is not None


async def test_only_its_owner_can_connect_unless_the_settings_say_more(tmp_path: Path) -> None:
    """0600, or as set: its folder, when it was missing, lets the group pass."""
    async with tools_site(tmp_path) as site:
        assert stat.S_IMODE(site.socket.stat().st_mode) == 0o600
    async with tools_site(tmp_path, place=Place(tmp_path, socket_mode=0o660, socket_group=str(os.getgid()))) as site:
        assert stat.S_IMODE(site.socket.stat().st_mode) == 0o660


async def test_what_is_refused_is_in_the_log_without_secrets_and_does_not_fill_it(tmp_path: Path) -> None:
    """A line with the method and the peer, at most so many a minute; the next one tells how many were left out."""
    log = structlog.get_logger("test").bind()
    with structlog.testing.capture_logs() as lines:
        async with tools_site(tmp_path, log=log) as site:
            token = await site.token()
            wrong = token[:-4] + "zzzz"
            for _ in range(30):
                await refusal(listed(site, *bearer(wrong), ("serai-request-id", "find-me")))
            assert await listed(site, *bearer(token)) is not None
    refused = [line for line in lines if line.get("reason") == "UNAUTHENTICATED"]
    assert len(refused) == 20
    assert refused[0]["method"] == "/serai.jobs.v1.JobsService/List"
    assert refused[0]["request_id"] == "find-me"
    assert refused[0]["peer"].startswith("unix:")
    assert token[-20:-4] not in str(lines)


async def test_which_day_a_token_was_used_is_noted(tmp_path: Path) -> None:
    """To the day, and kept over a new start."""
    clock = FakeClock()
    day_ms = clock.now_ms() - clock.now_ms() % DAY_MS
    async with tools_site(tmp_path, clock=clock) as site:
        used, _unused = await site.token(), await site.token()
        await listed(site, *bearer(used))
    async with tools_site(tmp_path, clock=clock) as site:
        assert sorted(row.used_day_ms for row in await site.tokens.service.list(every=True)) == [0, day_ms]
        clock.move(DAY_MS)
        await listed(site, *bearer(used))
    async with tools_site(tmp_path, clock=clock) as site:
        assert sorted(row.used_day_ms for row in await site.tokens.service.list(every=True)) == [0, day_ms + DAY_MS]


async def test_a_door_that_closes_ends_streams_and_says_so(tmp_path: Path) -> None:
    """UNAVAILABLE, as on the server's own socket, and not that the token were at fault."""
    front = Front()
    await front.jobs.create([job("1")])
    async with tools_site(tmp_path, front=front) as site:
        channel = site.channel()
        watch = JobsServiceStub(channel).Watch(pb.WatchRequest(job_id="1"), metadata=bearer(await site.token()))
        await watch.read()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(watch.read(), CALL_S)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    await channel.close()


@pytest.mark.parametrize("is_known", [True, False])
async def test_callers_do_not_decide_what_is_sampled(tmp_path: Path, is_known: bool) -> None:
    """A traceparent that says "keep this" is dropped like the gateway's marks: of strangers' calls, and of those whose token is good."""
    theirs = ("traceparent", f"00-{'ab' * 16}-{'cd' * 8}-01")
    none, every = Kept(ratio=0.0), Kept()
    for kept in (none, every):
        folder = tmp_path / str(kept is none)
        folder.mkdir()
        async with tools_site(folder, traces=kept.traces) as site:
            if is_known:
                await listed(site, *bearer(await site.token()), theirs)
            else:
                assert (await refusal(listed(site, theirs)))[0] is grpc.StatusCode.UNAUTHENTICATED
    assert none.spans() == {}
    assert every.spans()["serai.jobs.v1.JobsService/List"].parent is None
