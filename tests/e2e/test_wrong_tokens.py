"""Tokens of the wrong kind at each layer: Envoy, and behind it the gateway and the server's tools' door when Envoy is gone round."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import grpc
import grpc.aio
import pytest
from fakes.gateway_tokens import forged_hs256, sign
from fakes.up import Up, up
from serai.jobs.v1 import jobs_service_pb2, jobs_service_pb2_grpc
from serai_devcore.applications import shell_request

CORES = "/ucloud/example/jobs/retrieveProducts"
USERS = "/api/licenses/browse?itemsPerPage=10"
CODES = grpc.StatusCode


@pytest.fixture
async def serai(tmp_path: Path) -> AsyncGenerator[Up]:
    async with up(tmp_path, past_envoy=True) as running:
        yield running


async def kinds(serai: Up) -> dict[str, str]:
    """Tokens that open something, and those that open nothing."""
    issuer = serai.core.providers["example"].issuer
    own, private = issuer.core_claims(), issuer.private_key
    now_s = int(time.time())
    return {
        "core": issuer.core_token(),
        "user": serai.core.users.token("user"),
        "tool": await serai.token("viewer"),
        "none": "",
        "provider's own": issuer.access_token(),
        "expired": issuer.sign({**own, "iat": now_s - 1_000, "exp": now_s - 100}),
        "wrong audience": issuer.sign({**own, "aud": "jobs:read"}),
        "wrong subject": issuer.sign({**own, "sub": "_ucloud"}),
        "wrong issuer": issuer.sign({**own, "iss": "evil"}),
        "a user's, signed as Core": issuer.sign({**own, "sub": "user", "role": "USER"}),
        "alg none": ".".join(
            [sign({}, private, alg="RS256").split(".")[0].replace("RS256", "none"), *issuer.core_token().split(".")[1:2], ""]
        ),
        "HS256 with the public key": forged_hs256(dict(own), issuer.public_key_pem.encode()),
        "a tool's that nobody made": "serai_0123456789ab_" + "A" * 43,
    }


def headers(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


async def over_http(serai: Up, path: str, token: str, *, direct: bool) -> int:
    """Status by Envoy, or at the gateway's own port."""
    if not direct:
        return (await serai.front.curl(path, *(("-H", f"Authorization: Bearer {token}") if token else ()))).status
    past_envoy = aiohttp.UnixConnector(str(serai.gateway_socket))
    async with aiohttp.ClientSession(connector=past_envoy) as session, session.get(f"http://x{path}", headers=headers(token)) as answer:
        return answer.status


@asynccontextmanager
async def channel(serai: Up, *, direct: bool) -> AsyncGenerator[grpc.aio.Channel]:
    """By Envoy, or to the tools' door itself."""
    async with grpc.aio.insecure_channel(f"unix:{serai.tools_socket}") if direct else serai.front.channel() as found:
        yield found


async def over_grpc(serai: Up, token: str, *, direct: bool, more: Mapping[str, str] | None = None) -> grpc.StatusCode:
    """What a call that viewers may make comes to."""
    metadata = [*((name.lower(), value) for name, value in headers(token).items()), *(more or {}).items()]
    async with channel(serai, direct=direct) as found:
        try:
            await jobs_service_pb2_grpc.JobsServiceStub(found).List(jobs_service_pb2.ListRequest(), metadata=metadata, timeout=30)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return CODES.OK


MARKS = {"serai-caller": "core", "serai-user": "root", "serai-role": "ADMIN"}


async def test_each_token_opens_its_own_and_nothing_else(serai: Up) -> None:
    """Core's Core's calls, users' theirs, tools' the tools' API; with Envoy and without it. Marks by which the gateway speaks to the server
    help nobody."""
    tokens = await kinds(serai)
    for direct in (False, True):
        got = {kind: await over_http(serai, CORES, token, direct=direct) for kind, token in tokens.items()}
        refused_as = 401 if direct else 403  # Envoy tells an audience apart
        assert got == {**dict.fromkeys(tokens, 401), "core": 200, "wrong audience": refused_as}, direct
        got = {kind: await over_http(serai, USERS, token, direct=direct) for kind, token in tokens.items()}
        assert got == {**dict.fromkeys(tokens, 401), "user": 200}, direct
        for more in ({}, MARKS):
            answers = {kind: await over_grpc(serai, token, direct=direct, more=more) for kind, token in tokens.items()}
            assert answers == {**dict.fromkeys(tokens, CODES.UNAUTHENTICATED), "tool": CODES.OK}, (direct, more)
    got = {kind: await over_http(serai, "/v1/jobs", token, direct=False) for kind, token in tokens.items()}
    assert got == {**dict.fromkeys(tokens, 401), "tool": 200}


async def test_a_role_is_the_servers_to_judge(serai: Up) -> None:
    """A viewer may not end jobs, by any way in; an operator may. A token that was taken back opens nothing any more."""
    sent = await serai.core.submit(shell_request("sleep 600"))
    viewer, operator = await serai.token("viewer"), await serai.token("operator")
    ask = b'{"items": [{"id": "%s"}]}' % sent.job_id.encode()
    # Refused before the body is read, which over HTTP/2 curl 7.88 takes for a broken stream when it is still sending.
    refused = await serai.front.curl("/v1/jobs:terminate", "-H", f"Authorization: Bearer {viewer}", body=ask, h2=False)
    assert (refused.status, refused.json["code"]) == (403, 7), refused
    for direct in (False, True):
        async with channel(serai, direct=direct) as found:
            with pytest.raises(grpc.aio.AioRpcError) as told:
                request = jobs_service_pb2.TerminateRequest()
                await jobs_service_pb2_grpc.JobsServiceStub(found).Terminate(request, metadata=[("authorization", f"Bearer {viewer}")])
            assert told.value.code() is CODES.PERMISSION_DENIED
    done = await serai.front.curl("/v1/jobs:terminate", "-H", f"Authorization: Bearer {operator}", body=ask)
    assert done.status == 200, done
    await serai.until_final(sent.job_id)
    code, _, err = await serai.cli("tokens", "revoke", operator.split("_")[1])
    assert code == 0, err
    assert (await serai.front.curl("/v1/jobs", "-H", f"Authorization: Bearer {operator}")).status == 401
    assert await over_grpc(serai, operator, direct=True) is CODES.UNAUTHENTICATED


async def test_a_stream_ends_with_its_token(serai: Up) -> None:
    """Through Envoy too: within seconds after it was taken back, as what it is."""
    sent = await serai.core.submit(shell_request("sleep 600"))
    token = await serai.token("viewer")
    async with serai.front.channel() as found, asyncio.timeout(60):
        stub = jobs_service_pb2_grpc.JobsServiceStub(found)
        watch = stub.Watch(jobs_service_pb2.WatchRequest(job_id=sent.job_id), metadata=[("authorization", f"Bearer {token}")])
        seen = 0
        with pytest.raises(grpc.aio.AioRpcError) as told:
            async for _ in watch:
                seen += 1
                if seen == 1:
                    code, _, err = await serai.cli("tokens", "revoke", token.split("_")[1])
                    assert code == 0, err
        assert told.value.code() is CODES.UNAUTHENTICATED
