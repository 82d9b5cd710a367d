"""What every backend whose replicas can be reached must do; see `Endpoints` in serai_backends/api.py.

Programs listen on every address or on the one of their node, as an application for people has to.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from serai_backends.api import Endpoints
from serai_backends.errors import BackendUnavailable, JobNotThere, SubmissionRefused
from serai_backends.model import Phase, Stream

if TYPE_CHECKING:
    from conftest import Site  # pyright: ignore[reportMissingImports]  # pytest's own import of the conftest beside this file

PY = "/usr/bin/python3"
PORT = 80
SERVER = """
import hashlib, socket, sys, threading
where, port = sys.argv[1], int(sys.argv[2])
rank = open("/etc/ucloud/rank.txt").read().strip()
if where == "own": where = open(f"/etc/ucloud/node-{rank}.txt").read().strip()
def serve(peer):
    first = peer.recv(1)
    if first == b"r": peer.sendall(rank.encode())
    elif first == b"e":
        while data := peer.recv(65536): peer.sendall(data)
    elif first == b"h":
        digest = hashlib.sha256()
        while data := peer.recv(65536): digest.update(data)
        peer.sendall(digest.hexdigest().encode())
    elif first == b"m":
        for _ in range(64): peer.sendall(bytes(range(256)) * 1024)
    peer.close()
server = socket.create_server((where, port), backlog=128)
print("up", flush=True)
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""


@pytest.fixture
def endpoints(site: Site) -> Site:
    if not isinstance(site.backend, Endpoints) or not site.backend.features.web:
        pytest.skip("its replicas cannot be reached")
    if not site.harness.real:
        pytest.skip("has no real processes")
    if not site.harness.apart:
        pytest.skip("its programs are in the machine's own network")
    return site


async def serve(site: Site, *words: str, job_id: str = "job", replicas: int = 1, ports: tuple[int, ...] = (PORT,)) -> None:
    """A running job whose ranks listen, at the node's address and PORT unless `words` say another one."""
    spec = site.raw(job_id, (PY, "-c", SERVER, *(words or ("own", str(PORT)))), replicas=replicas)
    await site.backend.submit(replace(spec, ports=ports))
    await site.running(job_id)
    async with asyncio.timeout(30):
        for rank in range(replicas):
            async for _ in site.backend.logs(job_id, rank, Stream.STDOUT, follow=True):
                break


async def reach(site: Site, rank: int = 0, job_id: str = "job", port: int = PORT) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    assert isinstance(site.backend, Endpoints)
    found = await site.backend.endpoint(job_id, rank, port)
    return await asyncio.open_connection(found.host, found.port)


async def talk(site: Site, words: bytes, rank: int = 0, job_id: str = "job", port: int = PORT) -> bytes:
    """All that comes back when `words` were said, with the end of what we say; empty = nobody was reached."""
    try:
        reader, writer = await reach(site, rank, job_id, port)
    except ConnectionError:  # where no relay is between, the replica's own refusal
        return b""
    answer = b""
    with suppress(OSError):
        writer.write(words)
        writer.write_eof()
        async with asyncio.timeout(60):
            answer = await reader.read()
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    return answer


@pytest.mark.parametrize("where", ["own", "0.0.0.0"])
async def test_a_port_of_a_replica_is_reached(endpoints: Site, where: str) -> None:
    """Also a port that elsewhere is root's; the end of what we say is passed on while its answer still comes."""
    await serve(endpoints, where, str(PORT))
    assert await talk(endpoints, b"r") == b"0"
    assert await talk(endpoints, b"eto and fro") == b"to and fro"


async def test_large_transfers_are_exact(endpoints: Site) -> None:
    """16 MiB in, 16 MiB out, and both at the same time."""
    await serve(endpoints)
    data = os.urandom(1 << 20) * 16
    assert await talk(endpoints, b"h" + data) == hashlib.sha256(data).hexdigest().encode()
    assert await talk(endpoints, b"m") == bytes(range(256)) * 1024 * 64
    assert hashlib.sha256(await talk(endpoints, b"e" + data)).digest() == hashlib.sha256(data).digest()


async def test_many_connections_at_a_time(endpoints: Site) -> None:
    """Fifty that stay open, each with its own words."""
    await serve(endpoints)
    async with asyncio.timeout(60):
        pairs = await asyncio.gather(*(reach(endpoints) for _ in range(50)))
        for number, (_, writer) in enumerate(pairs):
            writer.write(b"e%03d" % number)
        assert [await reader.readexactly(3) for reader, _ in pairs] == [b"%03d" % number for number in range(50)]
        for _, writer in pairs:
            writer.close()


async def test_each_rank_is_reached_at_its_own(endpoints: Site) -> None:
    """The same port of two ranks: two endpoints; and the same one when asked again."""
    await serve(endpoints, replicas=2)
    assert isinstance(endpoints.backend, Endpoints)
    found = [await endpoints.backend.endpoint("job", rank, PORT) for rank in (0, 1)]
    assert found[0] != found[1]
    assert [await endpoints.backend.endpoint("job", rank, PORT) for rank in (0, 1)] == found
    assert [await talk(endpoints, b"r", rank) for rank in (0, 1, 0)] == [b"0", b"1", b"0"]


async def test_another_ranks_program_is_never_reached(endpoints: Site) -> None:
    """Only rank 1 listens, on every address there is: whoever asks for rank 0 reaches nobody."""
    program = f"import sys, time\nif open('/etc/ucloud/rank.txt').read().strip() == '0': print('up', flush=True); time.sleep(600)\n{SERVER}"
    await endpoints.backend.submit(replace(endpoints.raw("job", (PY, "-c", program, "0.0.0.0", str(PORT)), replicas=2), ports=(PORT,)))
    await endpoints.running("job")
    async with asyncio.timeout(30):
        for rank in (0, 1):
            async for _ in endpoints.backend.logs("job", rank, Stream.STDOUT, follow=True):
                break
    assert await talk(endpoints, b"r", 1) == b"1"
    assert await talk(endpoints, b"r", 0) == b""
    assert await talk(endpoints, b"r", 1) == b"1"


async def test_before_anything_listens_nobody_is_reached(endpoints: Site) -> None:
    """The connection ends without a byte; the same endpoint works as soon as the program listens."""
    program = f"import os, time\nwhile not os.path.exists('go'): time.sleep(0.02)\n{SERVER}"
    await endpoints.backend.submit(replace(endpoints.raw("job", (PY, "-c", program, "own", str(PORT))), ports=(PORT,)))
    await endpoints.running("job")
    assert await talk(endpoints, b"r") == b""
    endpoints.harness.put("drive/Jobs/conformance/job/go", "")
    async with asyncio.timeout(60):
        while await talk(endpoints, b"r") != b"0":
            await asyncio.sleep(0.02)


async def test_only_ports_of_the_specification_are_reached(endpoints: Site) -> None:
    """Another port of the program's is not; nor is an unknown job or rank."""
    await serve(endpoints, "own", "8080", ports=(8080, 5900))
    assert await talk(endpoints, b"r", port=8080) == b"0"
    assert isinstance(endpoints.backend, Endpoints)
    for job_id, rank, port in (("job", 0, PORT), ("job", 0, 22), ("job", 1, 8080), ("job", -1, 8080), ("other", 0, 8080)):
        with pytest.raises(JobNotThere):
            await endpoints.backend.endpoint(job_id, rank, port)


@pytest.mark.parametrize("port", [0, -1, 65_536])
async def test_ports_that_are_none_are_refused(endpoints: Site, port: int) -> None:
    """When the job is submitted."""
    with pytest.raises(SubmissionRefused, match="port"):
        await endpoints.backend.submit(replace(endpoints.spec("job", "hang"), ports=(port,)))
    endpoints.jobs.remove("job")


async def test_connections_end_with_the_replica(endpoints: Site) -> None:
    """Open ones see their end, and nobody is reached any more, neither by the old endpoint nor by a new one."""
    await serve(endpoints)
    reader, writer = await reach(endpoints)
    writer.write(b"ex")
    async with asyncio.timeout(60):
        assert await reader.readexactly(1) == b"x"
        assert isinstance(endpoints.backend, Endpoints)
        old = await endpoints.backend.endpoint("job", 0, PORT)
        await endpoints.backend.cancel("job")
        await endpoints.ended("job")
        with suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
    with pytest.raises(JobNotThere):
        await endpoints.backend.endpoint("job", 0, PORT)
    with suppress(ConnectionError):
        reader, writer = await asyncio.open_connection(old.host, old.port)
        writer.write(b"r")
        async with asyncio.timeout(60):
            assert await reader.read() == b""
        writer.close()


async def test_a_rank_that_has_ended_is_not_reached(endpoints: Site) -> None:
    """While the other one goes on."""
    program = f"import sys\nif open('/etc/ucloud/rank.txt').read().strip() == '0': print('up', flush=True); sys.exit()\n{SERVER}"
    await endpoints.backend.submit(replace(endpoints.raw("job", (PY, "-c", program, "own", str(PORT)), replicas=2), ports=(PORT,)))
    await endpoints.until("job", lambda found: [replica.phase for replica in found.replicas] == [Phase.ENDED, Phase.RUNNING])
    assert isinstance(endpoints.backend, Endpoints)
    with pytest.raises(JobNotThere):
        await endpoints.backend.endpoint("job", 0, PORT)
    async with asyncio.timeout(60):
        while await talk(endpoints, b"r", 1) != b"1":
            await asyncio.sleep(0.02)


async def test_the_next_instance_reaches_the_job(endpoints: Site) -> None:
    """A restart of the server ends connections, and not the program that they led to."""
    await serve(endpoints)
    reader, writer = await reach(endpoints)
    writer.write(b"ex")
    assert await reader.readexactly(1) == b"x"
    await endpoints.reopen()
    writer.close()
    async with asyncio.timeout(60):
        while True:
            with suppress(BackendUnavailable):  # a new instance may not have found its way to the job yet
                if await talk(endpoints, b"r") == b"0":
                    break
            await asyncio.sleep(0.02)
