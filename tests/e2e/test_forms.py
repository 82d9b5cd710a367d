"""The same Serai in its other forms: on PostgreSQL, as two processes, for today's Core; and what it says when it cannot start."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest
import pytest_asyncio
from fakes.postgres import Postgres, PostgresMissing
from fakes.stack import ROOT, UNIT_PRODUCT, Stack, stack
from serai_devcore.applications import acme_request, shell_request

SEED = ROOT / "examples" / "requests" / "batch.json"
WAIT_FOR_GO = "echo run >> runs; while [ ! -e go ]; do sleep 0.02; done"


@pytest.fixture(scope="module")
def postgres() -> Generator[Postgres]:
    try:
        cluster = Postgres(fsync=True)
    except PostgresMissing as missing:
        pytest.skip(str(missing))
    with cluster:
        yield cluster


def told(running: Stack, job_id: str) -> list[str]:
    """The states that Core was told, each change once."""
    states = [a.state for a in running.core.jobs[job_id].arrivals if a.state]
    return [s for i, s in enumerate(states) if i == 0 or states[i - 1] != s]


async def until_running(running: Stack, job_id: str) -> None:
    await running.core.until(lambda: running.core.jobs[job_id].state == "RUNNING")


def check_ran_once(running: Stack, job_id: str) -> None:
    """One run, every state told in order, and one charge."""
    assert (running.work(job_id) / "runs").read_text() == "run\n"
    assert told(running, job_id) == ["RUNNING", "SUCCESS"]
    assert len([c for c in running.core.accounts.charges if c.job_id == job_id and not c.duplicate]) == 1


# --- PostgreSQL -----------------------------------------------------------------------------------------------------------------------


async def test_the_seeds_request_on_postgresql(tmp_path: Path, postgres: Postgres) -> None:
    """On PostgreSQL the seed's create is answered, runs and is billed as on SQLite; and no SQLite file appears."""
    async with stack(tmp_path, store_url=postgres.database()) as running:
        (sent,) = await running.core.submit_raw(SEED.read_bytes())
        assert sent.answer.raw == b'{"responses":[null]}'
        await running.until_final(sent.job_id)
        assert told(running, sent.job_id) == ["RUNNING", "SUCCESS"]
        assert "Hello, World!" in (running.work(sent.job_id, "Acme batch") / "stdout.txt").read_text()
        await running.core.until(lambda: bool(running.core.accounts.charges))
        assert not (running.folder / "state" / "serai.db").exists()


async def test_killed_while_jobs_run_on_postgresql(tmp_path: Path, postgres: Postgres) -> None:
    """kill -9 and a new start on PostgreSQL: jobs that run, that end meanwhile and that were just created all end as they should, once. The
    lock of the killed server does not keep the new one out."""
    async with stack(tmp_path, store_url=postgres.database()) as running:
        long = await running.core.submit(shell_request(WAIT_FOR_GO, product=UNIT_PRODUCT))
        short = await running.core.submit(shell_request(WAIT_FOR_GO, product=UNIT_PRODUCT))
        await until_running(running, long.job_id)
        await until_running(running, short.job_id)
        new = await running.core.submit(shell_request("echo run >> runs", product=UNIT_PRODUCT))
        await running.kill()
        (running.work(short.job_id) / "go").touch()
        await running.start()
        (running.work(long.job_id) / "go").touch()
        ids = (long.job_id, short.job_id, new.job_id)
        await running.until_final(*ids)
        await running.until_none_active()
        for job_id in ids:
            check_ran_once(running, job_id)


async def test_postgresql_goes_away_and_comes_back(tmp_path: Path) -> None:
    """While the database is down a create is 503 in words and a running job goes on; when it is back everything goes on by itself."""
    try:
        cluster = Postgres()
    except PostgresMissing as missing:
        pytest.skip(str(missing))
    with cluster:
        async with stack(tmp_path, store_url=cluster.database()) as running:
            sent = await running.core.submit(shell_request(WAIT_FOR_GO, product=UNIT_PRODUCT))
            await until_running(running, sent.job_id)
            cluster.stop()
            refused = await running.core.submit(shell_request("exit 0"))
            assert refused.answer.status == 503
            assert refused.answer.why
            (running.work(sent.job_id) / "go").touch()
            cluster.start()
            await running.until_final(sent.job_id)
            check_ran_once(running, sent.job_id)


# --- two processes --------------------------------------------------------------------------------------------------------------------


class Split:
    """Server and gateway, each a process that a test may kill."""

    def __init__(self, running: Stack) -> None:
        self.running = running
        self.parts: dict[str, asyncio.subprocess.Process] = {}

    async def start(self, part: str) -> None:
        self.parts[part] = await self.running.spawn(part)
        self.running.process = self.parts[part]  # whose end `until_ready` looks out for
        if len(self.parts) == 2:
            await self.running.until_ready()

    async def kill(self, part: str) -> None:
        process = self.parts.pop(part)
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def split(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Split]:
    """One for all of its tests, each of which leaves both running."""
    async with stack(tmp_path_factory.mktemp("split"), started=False) as running:
        found = Split(running)
        try:
            await found.start("server")
            await found.start("gateway")
            yield found
        finally:
            for part in list(found.parts):
                await found.kill(part)


@pytest.mark.asyncio(loop_scope="module")
async def test_server_and_gateway_as_two_processes(split: Split) -> None:
    """The main job over a channel: same answer, same updates, and errors with their paths."""
    running = split.running
    (sent,) = await running.core.submit_raw(SEED.read_bytes())
    assert sent.answer.raw == b'{"responses":[null]}'
    await running.until_final(sent.job_id)
    assert told(running, sent.job_id) == ["RUNNING", "SUCCESS"]
    bad = await running.core.submit(shell_request("exit 0", replicas=65))
    assert (bad.answer.status, bad.answer.why) == (400, "items[0].specification.replicas: expected 1 to 64, found 65")
    many = await asyncio.gather(*(running.core.submit(shell_request("echo run >> runs", product=UNIT_PRODUCT)) for _ in range(20)))
    assert all(s.accepted for s in many)
    await running.until_final(*(s.job_id for s in many))


@pytest.mark.asyncio(loop_scope="module")
async def test_the_gateway_is_killed_while_a_job_runs(split: Split) -> None:
    """What happens while there is no gateway is told by the next one; nothing comes twice in another form."""
    running = split.running
    sent = await running.core.submit(shell_request(WAIT_FOR_GO, product=UNIT_PRODUCT))
    await until_running(running, sent.job_id)
    await split.kill("gateway")
    (running.work(sent.job_id) / "go").touch()
    await running.until_state(sent.job_id, "SUCCESS")
    assert running.core.jobs[sent.job_id].state == "RUNNING"
    await split.start("gateway")
    await running.until_final(sent.job_id)
    await running.until_none_active()
    check_ran_once(running, sent.job_id)


@pytest.mark.asyncio(loop_scope="module")
async def test_the_server_is_killed_while_a_job_runs(split: Split) -> None:
    """The gateway stays: a create meanwhile is 503 in words, and when a server is back the gateway finds it and the job ends."""
    running = split.running
    sent = await running.core.submit(shell_request(WAIT_FOR_GO, product=UNIT_PRODUCT))
    await until_running(running, sent.job_id)
    await split.kill("server")
    refused = await running.core.submit(shell_request("exit 0"))
    assert refused.answer.status == 503
    assert refused.answer.why
    (running.work(sent.job_id) / "go").touch()
    await split.start("server")
    await running.until_final(sent.job_id)
    check_ran_once(running, sent.job_id)
    again = await running.core.submit(shell_request("exit 0"))
    assert again.accepted


@pytest.mark.asyncio(loop_scope="module")
async def test_both_are_killed_at_once(split: Split) -> None:
    """Neither the order of the new starts nor a gateway that is there before its server matters."""
    running = split.running
    sent = await running.core.submit(shell_request(WAIT_FOR_GO, product=UNIT_PRODUCT))
    await until_running(running, sent.job_id)
    await asyncio.gather(split.kill("server"), split.kill("gateway"))
    (running.work(sent.job_id) / "go").touch()
    await split.start("gateway")
    await split.start("server")
    await running.until_final(sent.job_id)
    check_ran_once(running, sent.job_id)


# --- today's Core ---------------------------------------------------------------------------------------------------------------------


async def test_todays_core(tmp_path: Path) -> None:
    """Generation 2026: flat unions and a parameter that the application does not declare are taken, and a program's own failure is FAILURE
    with its code in words."""
    async with stack(tmp_path, generation="2026") as running:
        good, bad = await asyncio.gather(running.core.submit(acme_request()), running.core.submit(shell_request("exit 3")))
        assert good.accepted, good.answer
        assert bad.accepted, bad.answer
        await running.until_final(good.job_id, bad.job_id)
        assert told(running, good.job_id) == ["RUNNING", "SUCCESS"]
        assert told(running, bad.job_id) == ["RUNNING", "FAILURE"]
        assert running.core.jobs[bad.job_id].arrivals[-1].status == "The program ended with exit code 3."
        assert "Hello, World!" in (running.work(good.job_id, "Acme batch") / "stdout.txt").read_text()
        assert "ucMetricSampleRate" not in (running.work(good.job_id, "Acme batch") / "stdout.txt").read_text()


# --- it cannot start ------------------------------------------------------------------------------------------------------------------


async def check_refuses(running: Stack, *words: str, code: int = 1, lines: int = 1) -> None:
    """`serai serve` ends by itself with this code and says so in so many lines that begin with its name, and nothing else."""
    # Long enough for a busy machine; a server that starts after all is ended by the stack.
    found, out, err = await running.cli("serve", "--config", str(running.folder / "serai.toml"))
    text = err.decode()
    assert found == code, text
    assert out == b""
    said = [line for line in text.splitlines() if not line.startswith("{")]
    assert len(said) == lines, text
    assert said[0].startswith("serai: ")
    assert "Traceback" not in text
    assert "pass-word" not in text
    for word in words:
        assert word in text


async def test_a_port_in_use(tmp_path: Path) -> None:
    """One sentence that names the port."""
    async with stack(tmp_path, started=False) as running:
        with contextlib.closing(socket.socket()) as other:
            other.bind(("127.0.0.1", running.port))
            other.listen()
            await check_refuses(running, f"cannot listen on 127.0.0.1 port {running.port}")


async def test_a_second_server_on_the_same_state(tmp_path: Path) -> None:
    """The second one refuses and leaves the first one, its socket and its jobs alone; also with a socket and a port of its own."""
    async with stack(tmp_path) as running:
        await check_refuses(running)
        second = (running.folder / "serai.toml").read_text().replace('"s.sock"', '"t.sock"').replace(f"port = {running.port}", "port = 0")
        (running.folder / "serai.toml").write_text(second)
        await check_refuses(running)
        (running.folder / "serai.toml").write_text(second.replace('"t.sock"', '"s.sock"'))
        sent = await running.core.submit(shell_request("exit 0"))
        await running.until_final(sent.job_id)
        assert told(running, sent.job_id) == ["RUNNING", "SUCCESS"]


async def test_a_second_server_on_the_same_database(tmp_path: Path, postgres: Postgres) -> None:
    """On PostgreSQL the folder does not tell: the database does."""
    url = postgres.database()
    async with stack(tmp_path / "one", store_url=url), stack(tmp_path / "two", store_url=url, started=False) as second:
        await check_refuses(second)


WRONG_SETTINGS = {
    "not TOML": ("[gateway]", "[gateway"),
    "gateway.prot": ("[gateway]", "[gateway]\nprot = 1"),
    "core.generation": ('generation = "2021"', 'generation = "1999"'),
    "products[0].cpu": ("cpu = 1\n", 'cpu = "one"\n'),
    "store.url": ('url = ""', 'url = "mysql://user:pass-word@host/db"'),
}


async def test_settings_that_are_wrong(tmp_path: Path) -> None:
    """Exit code 2, the file, and one line for each problem with the key's path; a value that may be a password is not repeated."""
    async with stack(tmp_path, started=False) as running:
        file = running.folder / "serai.toml"
        right = file.read_text()
        for word, (before, after) in WRONG_SETTINGS.items():
            assert before in right
            file.write_text(right.replace(before, after, 1))
            await check_refuses(running, word, "serai.toml", code=2, lines=2)


async def test_files_that_are_not_there_or_not_right(tmp_path: Path) -> None:
    """Core's key and the settings file: one sentence about each, without what is in the file."""
    async with stack(tmp_path, started=False) as running:
        key = running.folder / "core.key"
        key.write_text(json.dumps({"canary": "4711-pass-word"}))
        await check_refuses(running, "public key")
        key.unlink()
        await check_refuses(running, "core.public_key_file: there is no", "`serai register`")
        (running.folder / "serai.toml").unlink()
        await check_refuses(running, "there is no", "serai.toml", "serai config example", code=2)
