"""Tools at a whole Serai: a token made by the command line, a job that is the site's own, and what holds after kill -9."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest
from fakes.core_on import job
from fakes.stack import START_S, Stack, stack
from fakes.tools_site import CALL_S, bearer
from serai.access.v1.access_pb2 import ROLE_VIEWER
from serai.events.v1 import events_service_pb2 as events_pb
from serai.events.v1.events_service_pb2_grpc import EventsServiceStub
from serai.jobs.v1 import jobs_service_pb2 as pb
from serai.jobs.v1.jobs_service_pb2_grpc import JobsServiceStub
from serai.tokens.v1 import tokens_service_pb2 as tokens_pb
from serai.tokens.v1.tokens_service_pb2_grpc import TokensServiceStub
from serai_devcore.applications import shell_request


async def token(serai: Stack, *options: str) -> str:
    """Of `serai tokens create`; stdout has the token and nothing else."""
    code, out, err = await serai.cli("tokens", "create", *options)
    assert code == 0, err
    assert out.decode() == out.decode().strip() + "\n"
    return out.decode().strip()


@asynccontextmanager
async def jobs_at(serai: Stack) -> AsyncGenerator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"unix:{serai.folder / 'state' / 'tools.sock'}") as channel:
        yield channel


async def refused(channel: grpc.aio.Channel, shown: str) -> str:
    """The words."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await JobsServiceStub(channel).List(pb.ListRequest(), metadata=bearer(shown), timeout=CALL_S, wait_for_ready=True)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    return caught.value.details() or ""


@pytest.mark.parametrize("generation", ["2021", "2026"])
async def test_a_tools_job_runs_to_its_end_and_core_hears_nothing_of_it(tmp_path: Path, generation: str) -> None:
    """Also over kill -9 of the server in the middle. What Core asked for beside it is delivered whole, and nothing that went to Core names
    the tool's job; nothing of it is left to be delivered, and it ended by itself."""
    async with stack(tmp_path, generation=generation) as serai:
        shown = bearer(await token(serai, "--role", "operator", "--name", "e2e"))
        own = job("tool-e2e", "sh", "-c", "until [ -e go ]; do sleep 0.1; done; echo done")
        async with jobs_at(serai) as channel:
            await JobsServiceStub(channel).Create(pb.CreateRequest(items=[own]), metadata=shown, timeout=CALL_S)
        await serai.until_state("tool-e2e", "RUNNING")
        await serai.kill()
        await serai.start()
        sent = await serai.core.submit(shell_request("echo of-core"))
        await serai.until_final(sent.job_id)
        folder = next(serai.folder.glob("drives/user/Jobs/*/tool-e2e"))
        (folder / "go").touch()
        report = await serai.until_state("tool-e2e", "SUCCESS")
        assert (report["undelivered_events"], report["stopping"]) == (0, False)
        assert (folder / "stdout.txt").read_text() == "done\n"
        async with jobs_at(serai) as channel:
            got = b""
            async for piece in JobsServiceStub(channel).Follow(pb.FollowRequest(job_id="tool-e2e", follow=True), metadata=shown):
                got += piece.data
        assert got == b"done\n"
        told = [json.dumps(exchange.to_json()) for exchange in serai.core.requests.find()]
        assert any(sent.job_id in one for one in told)
        assert not any("tool-e2e" in one for one in told)
        assert "tool-e2e" not in {charge.job_id for charge in serai.core.accounts.charges}


async def test_a_submission_from_the_shell_runs_once(tmp_path: Path) -> None:
    """Asked for again after kill -9 of the server it is the same job, which has the program's words and its environment as they were."""
    async with stack(tmp_path) as serai:
        words = ["jobs", "submit", "--owner", "user", "--env", "GREETING=a  b", "--time-limit", "10m", "--submission-id", "nightly.1"]
        program = ["sh", "-c", 'echo run >> runs; until [ -e go ]; do sleep 0.1; done; echo "$GREETING"']
        code, out, err = await serai.cli(*words, *program)
        assert (code, err) == (0, b"")
        job_id = out.decode().strip()
        await serai.until_state(job_id, "RUNNING")
        await serai.kill()
        await serai.start()
        code, again, _ = await serai.cli(*words, "--json", *program)
        assert (code, json.loads(again)) == (0, {"id": job_id, "state": "RUNNING"})
        code, _, err = await serai.cli(*words, "true")
        assert (code, job_id in err.decode()) == (1, True)
        folder = next(serai.folder.glob(f"drives/user/Jobs/*/{job_id}"))
        (folder / "go").touch()
        report = await serai.until_state(job_id, "SUCCESS")
        assert (report["time_limit_ms"], (folder / "stdout.txt").read_text(), (folder / "runs").read_text()) == (600_000, "a  b\n", "run\n")


async def test_what_was_answered_of_tokens_holds_after_kill_9(tmp_path: Path) -> None:
    """Each token whose making was answered opens the door of the next server, and each whose revocation was answered does not; whoever got
    no answer because of the kill has nothing to lose."""
    async with stack(tmp_path) as serai:
        admin = bearer(await token(serai, "--role", "admin"))
        made: dict[str, str] = {}
        revoked: set[str] = set()

        async def work() -> None:
            async with jobs_at(serai) as channel:
                service = TokensServiceStub(channel)
                while True:
                    answer = await service.Create(tokens_pb.CreateRequest(role=ROLE_VIEWER), metadata=admin)
                    made[answer.token.id] = answer.secret
                    if len(made) % 2:
                        await service.Revoke(tokens_pb.RevokeRequest(token_id=answer.token.id), metadata=admin)
                        revoked.add(answer.token.id)

        for round_ in range(3):
            enough = len(made) + 20 * (round_ + 1)
            workers = [asyncio.create_task(work()) for _ in range(4)]
            async with asyncio.timeout(START_S):
                while len(made) < enough:
                    await asyncio.sleep(0)
            await serai.kill()
            await asyncio.gather(*workers, return_exceptions=True)
            await serai.start()
            async with jobs_at(serai) as channel:
                for token_id, secret in made.items():
                    if token_id in revoked:
                        assert "revoked" in await refused(channel, secret)
                listing = await TokensServiceStub(channel).List(tokens_pb.ListRequest(all=True), metadata=admin, timeout=CALL_S)
                there = {one.id for one in listing.tokens if not one.HasField("revoked_at_ms")}
                # A revocation that was not answered may have happened.
                living = set(made) - revoked
                assert set(made) <= {one.id for one in listing.tokens}
                for token_id in living & there:
                    await JobsServiceStub(channel).List(pb.ListRequest(), metadata=bearer(made[token_id]), timeout=CALL_S)
        assert revoked


async def test_the_command_line_makes_lists_and_revokes(tmp_path: Path) -> None:
    """The secret is on stdout once; neither lists nor the server's log have it."""
    async with stack(tmp_path) as serai:
        secret = await token(serai, "--role", "viewer", "--project", "p", "--expires", "30d", "--name", "dash board")
        token_id = secret.split("_")[1]
        _, out, _ = await serai.cli("tokens", "list", "--json")
        (listed,) = json.loads(out)["tokens"]
        assert (listed["id"], listed["role"], listed["project"], listed["name"]) == (token_id, "viewer", "p", "dash board")
        assert listed["expires_at_ms"] - listed["created_at_ms"] == 30 * 86_400_000
        assert listed["last_used_day_ms"] is None
        code, out, err = await serai.cli("tokens", "revoke", token_id)
        assert (code, out, err) == (0, b"", b"revoked\n")
        _, out, err = await serai.cli("tokens", "list")
        assert (out, err) == (b"", b"no tokens\n")
        _, table, _ = await serai.cli("tokens", "list", "--all")
        assert token_id.encode() in table
        assert b"revoked" in table
        code, out, err = await serai.cli("tokens", "revoke", "nope")
        assert (code, out) == (3, b"")
        code, _, err = await serai.cli("tokens", "create", "--role", "viewer", "--expires", "1 month")
        assert code == 2
        assert b"30d" in err
        async with jobs_at(serai) as channel:
            assert "revoked" in await refused(channel, secret)
        assert secret.rpartition("_")[2] not in serai.log.read_text()


async def test_the_command_line_tells_of_consumers_of_a_revoked_token(tmp_path: Path) -> None:
    """They stay; their names are told when the token is revoked, and the list says that nobody reads by them any more."""
    async with stack(tmp_path) as serai:
        secret = await token(serai, "--role", "operator")
        token_id = secret.split("_")[1]
        async with jobs_at(serai) as channel:
            await JobsServiceStub(channel).Create(pb.CreateRequest(items=[job("tool-1", "true")]), metadata=bearer(secret), timeout=CALL_S)
            request = events_pb.SubscribeRequest(consumer="dashboard")
            reading = EventsServiceStub(channel).Subscribe(request, metadata=bearer(secret), timeout=2 * START_S)
            assert await reading.read() is not grpc.aio.EOF
        code, _, err = await serai.cli("tokens", "revoke", token_id)
        assert code == 0
        assert b"`serai events give dashboard TOKEN-ID`" in err
        _, out, _ = await serai.cli("events", "consumers", "--json")
        (listed,) = [one for one in json.loads(out)["consumers"] if one["name"] == "dashboard"]
        assert (listed["owner"], listed["owner_over"]) == (token_id, True)
        _, out, _ = await serai.cli("tokens", "revoke", token_id, "--json")
        assert json.loads(out)["tokens"][0]["consumers"] == ["dashboard"]


async def test_the_command_line_lists_gives_and_drops_consumers(tmp_path: Path) -> None:
    """Of tools that read the log of events: whose they are, another token that goes on, one that is dropped."""
    async with stack(tmp_path) as serai:
        secret = await token(serai, "--role", "operator")
        async with jobs_at(serai) as channel:
            await JobsServiceStub(channel).Create(pb.CreateRequest(items=[job("tool-1", "true")]), metadata=bearer(secret), timeout=CALL_S)
            request = events_pb.SubscribeRequest(consumer="dashboard")
            reading = EventsServiceStub(channel).Subscribe(request, metadata=bearer(secret), timeout=2 * START_S)
            answer = await reading.read()
            assert isinstance(answer, events_pb.SubscribeResponse)
            _, out, err = await serai.cli("events", "consumers", "--json")
            (listed,) = [one for one in json.loads(out)["consumers"] if one["name"] == "dashboard"]
            assert (listed["owner"], listed["subscriptions"], listed["settled_to"]) == (secret.split("_")[1], 1, 0), err
            assert not listed["owner_over"]
            assert listed["unsettled_events"] >= 1
            assert listed["last_seen_at_ms"] >= listed["oldest_unsettled_at_ms"] > 0
            _, table, _ = await serai.cli("events", "consumers")
            assert secret.split("_")[1].encode() in table
            new = await token(serai, "--role", "operator")
            assert (await serai.cli("events", "give", "dashboard", new.split("_")[1]))[0] == 0
            with pytest.raises(grpc.aio.AioRpcError, match="given to somebody"):
                while await reading.read() is not grpc.aio.EOF:
                    pass
            reading = EventsServiceStub(channel).Subscribe(request, metadata=bearer(new), timeout=2 * START_S)
            assert await reading.read() is not grpc.aio.EOF
            assert (await serai.cli("events", "drop", "dashboard"))[0] == 0
            with pytest.raises(grpc.aio.AioRpcError, match="was dropped"):
                while await reading.read() is not grpc.aio.EOF:
                    pass
            code, _, err = await serai.cli("events", "drop", "dashboard")
            assert code == 3
            assert b"no consumer 'dashboard'" in err
