"""Follows and shells over real sockets: recorded clients, clients that do not read, that do not answer, that leave without a word."""

from __future__ import annotations

import asyncio
import json
import resource
from pathlib import Path
from typing import Any

import pytest
from fakes.envoy import running_envoy, settings_for
from fakes.gateway_all import Served, WholeServer, served
from fakes.gateway_logs import ERR, OUT, SUCCESS, FakeJob
from fakes.raw_http import request, say
from fakes.raw_websocket import BINARY, CONT, TEXT, RawWebSocket, raw_websocket
from fakes.recorded_core import begin_2026, follow_2021, follow_2026, frame_2021, recorded
from serai.sessions.v1 import sessions_service_pb2
from serai_gateway.web_settings import WebSettings
from serai_gateway.ws import protocol
from serai_gateway.ws.follow_2021 import MOST_STREAMS

FOLLOW = "/ucloud/jobs.provider.example/websocket"
SHELL = "/ucloud/example/websocket"


def job(replicas: int = 3) -> FakeJob:
    made = FakeJob(replicas=replicas)
    for rank in range(replicas):
        made.write(f"grüße {rank} 🦀\n".encode() * 5_000, rank)
        made.write(f"oh {rank}\n".encode() * 2_000, rank, ERR)
    return made


async def until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def test_recorded_clients_of_both_generations(tmp_path: Path) -> None:
    """Side by side at one gateway, whose own generation does not matter; both names of the provider are good."""
    server = WholeServer(jobs={"1": job()}, cut_after=3)
    async with served(tmp_path, server) as gateway, asyncio.TaskGroup() as group:
        old = group.create_task(follow_2021(gateway.port, "example", "1", gateway.bearer()))
        new = group.create_task(follow_2026(gateway.port, "ucloud", "1", gateway.bearer()))
        await until(lambda: server.chunks >= 12)
        server.jobs["1"].become(SUCCESS)
    assert old.result().hexdigests() == new.result().hexdigests()
    assert len(new.result().digests) == 6
    assert old.result().end["status"] == 200
    assert new.result().end == 1000


@pytest.mark.parametrize("bearer", ["", "Bearer", "Bearer x.y.z"])
async def test_a_bad_token_in_the_handshake_is_a_401(tmp_path: Path, bearer: str) -> None:
    """As JSON, before anything is accepted (facts today §8)."""
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "ht25O0QA2jc+1yBnSqxHHg==",
        "Authorization": bearer,
    }
    async with served(tmp_path, WholeServer()) as gateway:
        answer = await say(gateway.port, request("GET", FOLLOW, upgrade))
    assert answer.status == 401
    assert answer.why.startswith("Unauthorized")


async def test_a_client_that_answers_no_ping_is_kept_where_that_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Core of 2021 reads raw frames and answers none; a shell's browser does, so one that does not is gone,
    within half a minute: until then its user is kept out of the shell."""
    assert protocol.PING_EVERY_S + protocol.ANSWER_WITHIN_S <= 30
    monkeypatch.setattr(protocol, "PING_EVERY_S", 0.05)
    monkeypatch.setattr(protocol, "ANSWER_WITHIN_S", 0.05)
    server = WholeServer(jobs={"1": job()})
    async with served(tmp_path, server) as gateway:
        async with raw_websocket(gateway.port, FOLLOW, {"UCloud-Username": "user"}) as core:
            await core.text(frame_2021("example", "0", {"id": "1"}, gateway.bearer()))
            while core.pings < 5:
                assert await core.next() is not None or core.pings
                server.jobs["1"].write(b"x")
            assert server.open_follows == 1
        async with raw_websocket(gateway.port, SHELL, {}) as browser:
            assert await browser.next() is None
            assert browser.code == 1011
        await until(lambda: server.open_follows == 0)


async def test_what_a_client_does_not_read_stays_at_its_source(tmp_path: Path) -> None:
    """A job that wrote 200 MB, and two clients that read nothing: of it passes what fits into the kernel's buffers, the gateway's memory
    stays, and a client that reads is served meanwhile."""
    big = FakeJob()
    big.written[0, OUT] = bytearray(b"x" * 200_000_000)
    server = WholeServer(jobs={"1": big, "2": job()})
    async with served(tmp_path, server) as gateway:
        bearer = gateway.bearer()
        headers = {"Authorization": f"Bearer {bearer}"}
        async with (
            raw_websocket(gateway.port, FOLLOW, {}, receive_buffer=4096) as old,
            raw_websocket(gateway.port, FOLLOW, headers, receive_buffer=4096) as new,
        ):
            before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            await old.text(frame_2021("example", "0", {"id": "1"}, bearer))
            await begin_2026(new, "example", "1")
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(follow_2021(gateway.port, "example", "2", bearer))
                await until(lambda: server.chunks >= 12)
                server.jobs["2"].become(SUCCESS)
            seen = -1
            while seen != server.chunks:
                seen = server.chunks
                await asyncio.sleep(0.5)
            grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
        assert reading.result().end["status"] == 200
        assert server.chunks * 65_536 < 40_000_000
        assert grown_kib < 40_000
        await until(lambda: server.open_follows == 0)
    print(f"\n{server.chunks * 65_536 / 1e6:.1f} MB were taken for two clients that read nothing; memory grew by {grown_kib} KiB")


async def test_a_hundred_follows_of_one_user(tmp_path: Path) -> None:
    """As many as there may be on one socket, each told its own job, whole; and all of them end with the socket."""
    server = WholeServer(jobs={str(n): FakeJob() for n in range(MOST_STREAMS)})
    for n, made in server.jobs.items():
        made.write(f"job {n} ".encode() * 500)
    async with served(tmp_path, server) as gateway:
        async with raw_websocket(gateway.port, FOLLOW, {}) as core:
            template = frame_2021("example", "", {}, gateway.bearer())
            texts = dict.fromkeys(server.jobs, "")
            for n in server.jobs:
                template["streamId"], template["payload"] = n, {"type": "init", "job": {"id": n}}
                await core.text(template)
            while any(len(text) < len(f"job {n} ") * 500 for n, text in texts.items()):
                frame = await core.next()
                texts[frame["streamId"]] += frame["payload"]["stdout"] or ""
            assert texts == {n: f"job {n} " * 500 for n in server.jobs}
            assert server.open_follows == MOST_STREAMS
        await until(lambda: server.open_follows == 0)


async def test_a_stop_of_the_gateway_ends_follows(tmp_path: Path) -> None:
    """Within its grace, with a close that says so."""
    server = WholeServer(jobs={"1": job()})
    async with served(tmp_path, server) as gateway:
        core = raw_websocket(gateway.port, FOLLOW, {"Authorization": f"Bearer {gateway.bearer()}"})
        socket = await core.__aenter__()
        await begin_2026(socket, "example", "1")
        await until(lambda: server.open_follows == 1)
    while await socket.next() is not None:
        pass
    assert socket.code == 1012
    await core.__aexit__(None, None, None)
    assert server.open_follows == 0


async def shell_of(gateway: Served) -> str:
    gateway.server.run("1")
    return gateway.server.open(sessions_service_pb2.SESSION_KIND_SHELL, "1").secret


async def test_the_captured_frames_of_a_shell(tmp_path: Path) -> None:
    """What a browser of 2021 sends, byte for byte but for the session; what comes back has the captured form (facts 2021 §4.5)."""
    async with served(tmp_path, WholeServer()) as gateway:
        initialize = recorded("frames-2021/derived-shell-1-initialize.frame.json")
        initialize["payload"]["sessionIdentifier"] = await shell_of(gateway)
        async with raw_websocket(gateway.port, SHELL, {"Origin": "https://cloud.example.org"}) as browser:
            await browser.text(initialize)
            assert await browser.next() == recorded("frames-2021/derived-shell-2-initialized.frame.json")
            await browser.text(recorded("frames-2021/derived-shell-4-input.frame.json"))
            frames = [await browser.next(), await browser.next()]
            assert recorded("frames-2021/derived-shell-5-ack.frame.json") in frames
            data = next(frame for frame in frames if frame["type"] == "message")
            assert data == recorded("frames-2021/derived-shell-3-data.frame.json") | {"payload": {"type": "data", "data": "ls\r"}}
            await browser.text(recorded("frames-2021/derived-shell-6-resize.frame.json"))
            assert (await browser.next())["payload"] == {"type": "ack"}
        async with raw_websocket(gateway.port, SHELL, {}) as browser:
            await browser.text(recorded("frames-2021/derived-shell-1-initialize.frame.json"))
            words, refused = await browser.next(), await browser.next()
            captured = recorded("frames-2021/derived-shell-7-unknown-session.frame.json")
            assert {name: refused[name] for name in ("streamId", "status", "type")} == {
                name: captured[name] for name in ("streamId", "status", "type")
            }
            assert refused["payload"].keys() == captured["payload"].keys()
            assert refused["payload"]["why"] in words["payload"]["data"]


async def test_a_gateway_is_not_impressed_by_floods(tmp_path: Path) -> None:
    """Messages over the limit, endless fragments, binary ones, hundreds of sockets that say nothing: a good client is served throughout."""
    server = WholeServer(jobs={"1": job()})
    async with served(tmp_path, server) as gateway:
        good = frame_2021("example", "0", {"id": "1"}, gateway.bearer())

        async def served_well() -> None:
            async with raw_websocket(gateway.port, FOLLOW, {}) as core:
                await core.text(good)
                assert (await core.next())["payload"]["rank"] == -1

        async with raw_websocket(gateway.port, FOLLOW, {}) as huge:
            await huge.frame(TEXT, b"x" * 1_000_000, fin=False)
            for _ in range(4):
                await huge.frame(CONT, b"x" * 1_000_000, fin=False)
            assert await huge.next() is None
            assert huge.code == 1009
        async with raw_websocket(gateway.port, SHELL, {}) as pieces:
            await pieces.frame(TEXT, b"{", fin=False)
            for _ in range(protocol.MOST_PIECES + 5):
                await pieces.frame(CONT, b"", fin=False)
            assert await pieces.next() is None
            assert pieces.code == 1009
        async with raw_websocket(gateway.port, FOLLOW, {}) as binary:
            await binary.frame(BINARY, json.dumps(good).encode())
            await binary.text(good)
            assert (await binary.next())["streamId"] == "0"
        idle: list[Any] = []
        try:
            for _ in range(300):
                context = raw_websocket(gateway.port, FOLLOW, {})
                idle.append((context, await context.__aenter__()))
            await served_well()
            first: RawWebSocket = idle[0][1]
            assert await first.next() is None  # the oldest made room
            assert first.code == 1008
        finally:
            for context, _ in idle:
                await context.__aexit__(None, None, None)
        await served_well()


async def test_through_envoy(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Both generations and a shell through the front door that Serai ships, which cuts nothing and waits for silent ones."""
    folder = tmp_path_factory.mktemp("e")
    settings = settings_for(folder, WebSettings())
    server = WholeServer(jobs={"1": job()})
    with running_envoy(settings, folder) as envoy:
        async with served(folder, server, settings) as gateway, asyncio.TaskGroup() as group:
            old = group.create_task(follow_2021(envoy.port, "example", "1", gateway.bearer()))
            new = group.create_task(follow_2026(envoy.port, "example", "1", gateway.bearer()))
            await until(lambda: server.chunks >= 12)
            async with raw_websocket(envoy.port, f"{SHELL}?session=x", {"Host": f"localhost:{envoy.port}"}) as browser:
                initialize = recorded("frames-2021/derived-shell-1-initialize.frame.json")
                initialize["payload"]["sessionIdentifier"] = await shell_of(gateway)
                await browser.text(initialize)
                assert (await browser.next())["payload"] == {"type": "initialize"}
            server.jobs["1"].become(SUCCESS)
    assert old.result().hexdigests() == new.result().hexdigests()
    assert (len(new.result().digests), new.result().end) == (6, 1000)
    assert old.result().end["status"] == 200
