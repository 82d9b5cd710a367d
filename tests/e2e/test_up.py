"""`serai up`: server, gateway and Envoy as one, from start to stop, and over the death of each."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import time
from pathlib import Path

import grpc
import grpc.aio
import pytest
from fakes.gateway_tokens import claims, key, pem, sign
from fakes.up import up
from serai.jobs.v1 import jobs_service_pb2, jobs_service_pb2_grpc
from serai_devcore.applications import shell_request

PRODUCTS = "/ucloud/example/jobs/retrieveProducts"


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("tls", [True, False])
async def test_it_serves_and_stops_in_order(tmp_path: Path, tls: bool) -> None:
    """Core's calls pass Envoy with its token and not without; nobody but its own user comes to the gateway past Envoy, and not by TCP. A
    stop ends all of it with code 0 and leaves neither Envoy nor the gateway's socket behind."""
    async with up(tmp_path, tls=tls) as serai:
        answer = await serai.front.curl(PRODUCTS, *serai.bearer())
        assert (answer.status, len(answer.json["responses"])) == (200, 3)
        assert answer.version == ("2" if tls else "1.1")
        assert (await serai.front.curl(PRODUCTS)).why == "Unauthorized: a valid token for this call is expected"
        (envoy,) = serai.envoys()
        assert f"all at {serai.front.url}, the operator at" in serai.log.read_text()
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", serai.port)) != 0
        assert stat.S_IMODE(serai.gateway_socket.stat().st_mode) == 0o600
        assert await serai.stop() == 0, serai.tail()
        assert not serai.gateway_socket.exists()
        assert not is_there(envoy)
        assert (await serai.front.curl("/healthz")).status == 0


async def test_a_new_key_of_core_is_taken_while_all_goes_on(tmp_path: Path) -> None:
    """Core's old tokens are refused then and its new ones pass, in the same Envoy; a key that is none changes nothing."""
    async with up(tmp_path) as serai:
        (envoy,) = serai.envoys()
        file = tmp_path / "core.key"
        old, new = serai.bearer(), ("-H", f"Authorization: Bearer {sign(claims(int(time.time() * 1_000)))}")
        assert (await serai.front.curl(PRODUCTS, *new)).status == 401
        for content in (b"no key", pem(key())):
            file.with_suffix(".new").write_bytes(content)
            file.with_suffix(".new").replace(file)
            if content == b"no key":
                async with asyncio.timeout(60):
                    while "cannot be brought to Envoy" not in serai.log.read_text():
                        await asyncio.sleep(0.05)
                assert (await serai.front.curl(PRODUCTS, *old)).status == 200
        async with asyncio.timeout(60):
            while (await serai.front.curl(PRODUCTS, *new)).status != 200:
                await asyncio.sleep(0.05)
        assert (await serai.front.curl(PRODUCTS, *old)).status == 401
        assert serai.envoys() == [envoy]


async def test_envoy_that_dies_is_started_again(tmp_path: Path) -> None:
    """At once, while server and gateway go on. When it dies again and again, all of it ends, with words."""
    async with up(tmp_path) as serai:
        assert serai.process is not None
        (first,) = serai.envoys()
        os.kill(first, signal.SIGKILL)
        async with asyncio.timeout(60):
            while (await serai.front.curl(PRODUCTS, *serai.bearer())).status != 200:
                await asyncio.sleep(0.05)
        (second,) = serai.envoys()
        assert second != first
        async with asyncio.timeout(60):
            while serai.process.returncode is None:
                for pid in serai.envoys():
                    os.kill(pid, signal.SIGKILL)
                await asyncio.sleep(0.05)
        assert serai.process.returncode == 1
        assert "Envoy died 3 times within seconds of its start" in serai.log.read_text() or "Envoy ended with code" in serai.log.read_text()


async def test_a_killed_serai_leaves_no_envoy(tmp_path: Path) -> None:
    """kill -9 of `serai up` takes Envoy along, so that the next start has the port for itself and serves."""
    async with up(tmp_path) as serai:
        (envoy,) = serai.envoys()
        await serai.kill()
        async with asyncio.timeout(20):
            while is_there(envoy):
                await asyncio.sleep(0.02)
        assert (await serai.front.curl("/healthz")).status == 0
        await serai.start()
        assert (await serai.front.curl(PRODUCTS, *serai.bearer())).status == 200


async def test_a_second_one_is_refused(tmp_path: Path) -> None:
    """Neither the same settings again nor others that want a port which Envoy has: it says which, and what to do; nothing is started, and
    all calls go on to the first. Whose port it is does not matter."""
    async with up(tmp_path / "first", tls=False) as first, up(tmp_path / "other", tls=False, started=False) as other:
        settings = other.folder / "serai.toml"
        settings.write_text(settings.read_text().replace(str(other.front.port), str(first.front.port)))
        for second in (first, other):
            code, _, err = await second.cli("up")
            assert code == 1
            assert f"somebody else listens on 127.0.0.1 port {first.front.port}, which gateway.envoy.port names" in err.decode()
            assert "Stop it first, or set another gateway.envoy.port" in err.decode()
        assert not (other.folder / "state" / "serai.sock").exists()
        for _ in range(20):
            assert (await first.front.curl(PRODUCTS, *first.bearer())).status == 200


async def test_a_stop_ends_what_would_go_on_for_ever(tmp_path: Path) -> None:
    """Who watches through Envoy is told that the server stops, by gRPC's status and not by a broken connection; the stop does not wait for
    streams, although it would for calls."""
    async with up(tmp_path, past_envoy=True) as serai:
        assert serai.process is not None
        who = [("authorization", f"Bearer {await serai.token('viewer')}")]
        sent = await serai.core.submit(shell_request("sleep 600"))
        async with serai.front.channel() as channel:
            request = jobs_service_pb2.WatchRequest(job_id=sent.job_id)
            watch = jobs_service_pb2_grpc.JobsServiceStub(channel).Watch(request, metadata=who)
            assert await watch.read()
            serai.process.send_signal(signal.SIGTERM)
            with pytest.raises(grpc.aio.AioRpcError) as told:
                while await watch.read():
                    pass
        assert (told.value.code(), told.value.details()) == (grpc.StatusCode.UNAVAILABLE, "the server is being stopped; ask again")
        assert await asyncio.wait_for(serai.process.wait(), 60) == 0, serai.tail()
        assert "calls did not end in time" not in serai.log.read_text()


async def test_the_access_log_is_its_owners(tmp_path: Path) -> None:
    """Who came when, and from where, is for nobody else on the machine."""
    async with up(tmp_path):
        assert stat.S_IMODE((tmp_path / "access.log").stat().st_mode) == 0o600


async def test_a_second_wish_to_stop_is_obeyed_at_once(tmp_path: Path) -> None:
    """Although the drain would take ten minutes."""
    async with up(tmp_path, envoy="drain_ms = 600000") as serai:
        await serai.hurry()
        assert await serai.stop() == 0, serai.tail()


async def test_envoys_check_and_files(tmp_path: Path) -> None:
    """`serai envoy check` says yes, or what Envoy says; `render` writes the configuration and what it names beside it."""
    async with up(tmp_path, started=False) as serai:
        code, out, err = await serai.cli("envoy", "check")
        assert (code, out.decode().split(" for ")[0]) == (0, "Envoy takes the configuration"), err
        folder = tmp_path / "made"
        folder.mkdir()
        code, _, err = await serai.cli("envoy", "render", "-o", str(folder / "e.yaml"))
        assert code == 0, err
        assert sorted(path.name for path in folder.iterdir()) == ["e.api.json", "e.binpb", "e.jwt.json", "e.strangers.json", "e.yaml"]
        certificate, key = (tmp_path / "tls" / name for name in ("provider.test.pem", "provider.test-key.pem"))
        good = certificate.read_text()
        for spoil, words in (
            (lambda: certificate.write_text("no certificate"), "is no certificate in PEM"),
            (lambda: certificate.write_text((tmp_path / "tls" / "ca.pem").read_text()), "is not its key"),
            (certificate.unlink, "gateway.envoy.certificate: "),
            (lambda: (certificate.write_text(good), key.unlink()), "gateway.envoy.key: "),
        ):
            spoil()
            for command in (("envoy", "check"), ("up",)):
                code, _, err = await serai.cli(*command)
                assert (code, words in err.decode()) == (2, True), err


async def test_nothing_is_said_of_a_start_that_went_well(tmp_path: Path) -> None:
    """Neither warnings of Envoy nor of Serai, nor a word of gRPC's when Envoy is forked: all lines are JSON, but the one for people."""
    async with up(tmp_path) as serai:
        lines = serai.log.read_text().splitlines()
        (others,) = [line for line in lines if not line.startswith("{")]
        assert others.startswith("serai serves provider example: ")
        lines.remove(others)
        assert [line for line in lines if json.loads(line)["level"] != "info"] == []
