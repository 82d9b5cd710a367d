"""Ports of local jobs: where programs may listen, who may connect, and what one that does not answer holds up."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import subprocess
import textwrap
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from fakes.local_site import until
from serai_backends.errors import BackendUnavailable
from serai_backends.local.callers import _read, uid_of, uids_of, unknown_users  # pyright: ignore[reportPrivateUsage]  # the way of old kernels
from serai_backends.local.conversation import Conversation
from serai_backends.local.folder import JobFolder
from serai_backends.local.supervisor.plan import read_spec
from serai_backends.model import End, Endpoint, Stream

if TYPE_CHECKING:
    from fakes.local_site import LocalSite

PORT = 80
SERVER = """
import socket, sys, threading
rank = open("/etc/ucloud/rank.txt").read().strip()
where = sys.argv[1:] or ["0.0.0.0"]
def serve(server):
    while True:
        peer = server.accept()[0]
        said = peer.recv(100)
        print("heard", said, flush=True)
        peer.sendall(b"rank " + rank.encode()); peer.close()
for spot in where:
    if "/" in spot and spot.partition("/")[0] != rank: continue
    spot = spot.rpartition("/")[2]
    shared = spot.startswith("shared ")
    spot = spot.removeprefix("shared ")
    server = socket.socket(socket.AF_INET6 if ":" in spot else socket.AF_INET)
    if shared: server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    else: server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((spot, 80)); server.listen()
    threading.Thread(target=serve, args=(server,)).start()
print("up", flush=True)
threading.Event().wait()
"""
HAS_IPV6 = Path("/proc/net/if_inet6").exists()
LOW_PORTS = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
STRANGER = 1_999_999_999
"""A user of this machine who has nothing to do with it."""
ONLY_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


async def serve(site: LocalSite, *spots: str, replicas: int = 1) -> None:
    """`spots`: addresses to listen on; `N/…`: rank N only; `shared …`: with SO_REUSEPORT."""
    await site.backend.submit(replace(site.spec("job", "/usr/bin/python3", "-c", SERVER, *spots, replicas=replicas), ports=(PORT,)))
    await site.running("job")
    for rank in range(replicas):
        async for _ in site.backend.logs("job", rank, Stream.STDOUT, follow=True):
            break


async def talk(where: Endpoint, words: bytes = b"x") -> bytes:
    reader, writer = await asyncio.open_connection(where.host, where.port)
    answer = b""
    with suppress(OSError):
        writer.write(words)
        async with asyncio.timeout(60):
            answer = await reader.read()
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return answer


async def ask(site: LocalSite, rank: int = 0) -> bytes:
    return await talk(await site.backend.endpoint("job", rank, PORT))


@pytest.mark.parametrize("spot", ["0.0.0.0", "127.0.0.1", "127.0.0.2", "::", "::1", "node-0"])
async def test_where_a_program_may_listen(site: LocalSite, spot: str) -> None:
    """On every address, on its node's and on the two of its own machine; elsewhere it is not found."""
    if ":" in spot and not HAS_IPV6:
        pytest.skip("this machine has no IPv6")
    await serve(site, spot)
    assert await ask(site) == (b"" if spot == "127.0.0.2" else b"rank 0")


async def test_ranks_that_listen_on_their_own_machine_are_told_apart(site: LocalSite) -> None:
    """They share one network, and so 127.0.0.1: only whose program listens there is reached."""
    await serve(site, "1/127.0.0.1", replicas=2)
    assert (await ask(site, 0), await ask(site, 1)) == (b"", b"rank 1")


async def test_a_port_that_two_ranks_share_is_nobodys(site: LocalSite) -> None:
    """With SO_REUSEPORT the kernel would choose between them; a rank with an address of its own besides is reached there."""
    await serve(site, "shared 0.0.0.0", "2/shared node-2", replicas=3)
    assert [await ask(site, rank) for rank in range(3)] == [b"", b"", b"rank 2"]


async def test_low_ports_are_free_inside_and_not_on_the_machine(site: LocalSite) -> None:
    """The setting is of the job's network; the machine's stays what it was."""
    before = LOW_PORTS.read_text()  # noqa: ASYNC240 - a file of the kernel
    await serve(site)
    found, text = await site.run("other", "sh", "-c", f"cat {LOW_PORTS}; echo 1024 > {LOW_PORTS}")
    assert (text, found.replicas[0].exit_code == 0) == ("0\n", False)
    assert LOW_PORTS.read_text() == before  # noqa: ASYNC240 - a file of the kernel


def connect_as(uid: int, where: Endpoint, code: str) -> str:
    """What a process of another user of the machine prints that connects; it has ended when this returns."""
    program = f"import socket\ns = socket.create_connection(({where.host!r}, {where.port}), 5)\n{code}"
    run = subprocess.run(["/usr/bin/python3", "-I", "-c", program], user=uid, group=uid, extra_groups=[], capture_output=True, check=False)
    return (run.stdout + run.stderr).decode()


@ONLY_ROOT
async def test_other_users_of_the_machine_are_refused(site: LocalSite, capsys: pytest.CaptureFixture[str]) -> None:
    """The program sees nothing of them, and it is logged who it was; root is let in."""
    await serve(site)
    where = await site.backend.endpoint("job", 0, PORT)
    code = "try: s.sendall(b'stranger'); print(s.recv(99))\nexcept OSError: print(b'')"
    assert await asyncio.to_thread(connect_as, STRANGER, where, code) == "b''\n"
    assert await talk(where) == b"rank 0"
    assert "stranger" not in await site.output("job")
    assert f"uid={STRANGER}" in capsys.readouterr().out


@ONLY_ROOT
async def test_a_user_of_the_settings_is_let_in(site: LocalSite) -> None:
    """`endpoint_users`: a proxy that runs as its own user."""
    await site.close()
    site.settings = msgspec.structs.replace(site.settings, endpoint_users=(str(STRANGER),))
    await site.open()
    await serve(site)
    where = await site.backend.endpoint("job", 0, PORT)
    assert await asyncio.to_thread(connect_as, STRANGER, where, "s.sendall(b'x'); print(s.recv(99))") == "b'rank 0'\n"


@ONLY_ROOT
async def test_who_sends_and_hangs_up_is_not_taken_for_root(site: LocalSite) -> None:
    """The kernel shows a socket that nobody has any more as root's: its last words must not reach the program."""
    await serve(site)
    where = await site.backend.endpoint("job", 0, PORT)
    connect_as(STRANGER, where, "s.sendall(b'stranger'); s.close()")  # this loop accepts only afterwards
    connect_as(STRANGER, where, "s.sendall(b'stranger'); s.shutdown(1); s.close()")
    assert await talk(where, b"friend") == b"rank 0"
    text = await site.output("job")
    assert ("friend" in text, "stranger" in text) == (True, False)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_both_ways_to_find_a_caller_agree(family: socket.AddressFamily) -> None:
    """sock_diag and /proc/net: our own user for an open connection, also one of a socket of IPv6; nobody for one that was closed."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(family) as client:
        client.connect(("127.0.0.1" if family is socket.AF_INET else "::ffff:127.0.0.1", listener.getsockname()[1]))
        with listener.accept()[0] as connection:
            ends = (connection.getpeername(), connection.getsockname())
            assert uid_of(connection) == _read(ends) == os.geteuid()
            client.shutdown(socket.SHUT_WR)
            assert uid_of(connection) == _read(ends) == os.geteuid()
            client.close()
            assert (uid_of(connection), _read(ends)) == (None, None)


def test_users_by_name_and_by_number() -> None:
    """Root and our own are always there; a name that nobody has is found by the check."""
    assert uids_of(("nobody", "4711", "no such user")) == {0, os.geteuid(), 65_534, 4711}
    assert unknown_users(("nobody", "4711", "no such user")) == ["no such user"]


async def test_a_program_that_does_not_accept_holds_up_nobody(site: LocalSite) -> None:
    """Its queue is full and connections to it hang: other connections, other ports and a cancel are answered meanwhile."""
    program = textwrap.dedent("""
        import socket, threading
        deaf = socket.create_server(("0.0.0.0", 81), backlog=0)
        hearing = socket.create_server(("0.0.0.0", 80))
        print("up", flush=True)
        while True: hearing.accept()[0].close()
    """)
    await site.backend.submit(replace(site.spec("job", "/usr/bin/python3", "-c", program), ports=(80, 81)))
    await site.running("job")
    async for _ in site.backend.logs("job", 0, Stream.STDOUT, follow=True):
        break
    folder = JobFolder(site.state("job").parent, "job")
    conversations = [Conversation(folder) for _ in range(8)]
    asked = [asyncio.create_task(conversation.ask(op="connect", rank=0, port=81)) for conversation in conversations]
    await until(lambda: sum(task.done() for task in asked) >= 1, "its queue takes some")
    assert await ask(site) == b""
    with Conversation(folder) as conversation:
        assert (await conversation.ask(op="ping")).facts["ok"] is True
    hung = [task for task in asked if not task.done()]
    assert hung, "every connection was taken: the queue is longer than this test knows"
    await site.backend.cancel("job")
    assert (await site.ended("job")).replicas[0].end is End.CANCELED
    for answer in await asyncio.gather(*asked, return_exceptions=True):
        if not isinstance(answer, BaseException):
            os.close(answer.fd)
    for conversation in conversations:
        conversation.close()


async def test_the_port_of_a_replica_that_has_ended_becomes_nobody_elses(site: LocalSite) -> None:
    """Who was told of it may not know yet, and would come to another job's page. Until then whoever connects is let go at once."""
    await serve(site)
    old = await site.backend.endpoint("job", 0, PORT)
    assert await ask(site) == b"rank 0"
    await site.backend.cancel("job")
    await site.ended("job")
    async with asyncio.timeout(60):
        reader, writer = await asyncio.open_connection(old.host, old.port)
        with suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
    with pytest.raises(OSError, match="in use"):
        socket.create_server((old.host, old.port)).close()


async def test_a_rank_of_very_many_files_is_not_looked_through_to_the_end(site: LocalSite) -> None:
    """The supervisor looks at so many for a listener, then says so in words; the other rank is found all the same, later."""
    program = textwrap.dedent("""
        import os, socket, time
        if open("/etc/ucloud/rank.txt").read().strip() == "0":
            server = socket.create_server(("0.0.0.0", 80))
            print("up", flush=True)
            while True: server.accept()[0].close()
        files = [os.open("/dev/null", os.O_RDONLY) for _ in range(1000)]
        for _ in range(120):
            if os.fork() == 0: time.sleep(600)
        print("up", flush=True)
        time.sleep(600)
    """)
    await site.backend.submit(replace(site.spec("job", "/usr/bin/python3", "-c", program, replicas=2), ports=(PORT,)))
    await site.running("job")
    for rank in range(2):
        async for _ in site.backend.logs("job", rank, Stream.STDOUT, follow=True):
            break
    folder = JobFolder(site.state("job").parent, "job")
    with Conversation(folder) as conversation, pytest.raises(BackendUnavailable, match="rank 1 has too many open files to find now"):
        await conversation.ask(op="connect", rank=1, port=PORT)
    async with asyncio.timeout(60):
        while True:
            with suppress(BackendUnavailable), Conversation(folder) as conversation:
                os.close((await conversation.ask(op="connect", rank=0, port=PORT)).fd)
                break


async def test_one_port_takes_a_share_of_the_servers_descriptors(site: LocalSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """More connections wait, until one of those that are open has ended."""
    await site.close()
    monkeypatch.setattr("serai_backends.local.endpoints.most_connections", lambda: 8)
    await site.open()
    program = "import socket\nserver, taken = socket.create_server(('', 80)), []\nprint('up', flush=True)\n"
    program += "while True: taken.append(server.accept()); print('taken', flush=True)"
    await site.backend.submit(replace(site.spec("job", "/usr/bin/python3", "-c", program), ports=(PORT,)))
    await site.running("job")
    output = site.work("job") / "stdout.txt"
    await until(lambda: output.read_text() == "up\n", "it listens")
    where = await site.backend.endpoint("job", 0, PORT)
    opened = [await asyncio.open_connection(where.host, where.port) for _ in range(4)]
    await until(lambda: output.read_text().count("taken") == 2, "the first two")
    await asyncio.sleep(0.5)
    assert output.read_text().count("taken") == 2
    for _, writer in opened[:2]:
        # by a reset: a program that has not hung up keeps its half open
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()
    await until(lambda: output.read_text().count("taken") == 4, "the others")
    for _, writer in opened[2:]:
        writer.close()


@pytest.mark.parametrize("reads", [True, False])
async def test_a_program_that_does_not_hang_up_keeps_no_connection(
    site: LocalSite, monkeypatch: pytest.MonkeyPatch, *, reads: bool
) -> None:
    """Its caller has left: both ends are closed soon. One that has only said its end, and still reads, gets what comes much later."""
    monkeypatch.setattr("serai_backends.local.endpoints._LOOK_S", 0.05, raising=False)
    program = textwrap.dedent("""
        import os, socket, sys, time
        server, peers = socket.create_server(("0.0.0.0", 80)), []
        print("up", flush=True)
        for _ in range(2):
            peers.append(server.accept()[0])
            print("taken", flush=True)
        if sys.argv[1] == "True":
            for peer in peers:
                while peer.recv(1 << 16): pass
        while not os.path.exists("/work/go"): time.sleep(0.05)
        peers[0].sendall(b"late"); peers[0].close()
        time.sleep(600)
    """)
    await site.backend.submit(replace(site.spec("job", "/usr/bin/python3", "-c", program, str(reads)), ports=(PORT,)))
    await site.running("job")
    async for _ in site.backend.logs("job", 0, Stream.STDOUT, follow=True):
        break
    where = await site.backend.endpoint("job", 0, PORT)
    reader, staying = await asyncio.open_connection(where.host, where.port)
    staying.write_eof()
    output = site.work("job") / "stdout.txt"
    await until(lambda: output.read_text().count("taken") == 1, "the one that stays")
    with socket.create_connection((where.host, where.port)) as leaving:
        leaving.setblocking(False)
        await until(lambda: output.read_text().count("taken") == 2, "the one that leaves")
        if not reads:  # more than the kernel holds on the way
            with suppress(TimeoutError):
                async with asyncio.timeout(2):
                    await asyncio.get_running_loop().sock_sendall(leaving, bytes(64 << 20))
        port = leaving.getsockname()[1]
    relayed = f":{where.port:04X} 0100007F:{port:04X}"
    await until(lambda: relayed not in Path("/proc/net/tcp").read_text(), "the relay closes its end")
    (site.work("job") / "go").touch()
    async with asyncio.timeout(60):
        assert await reader.read() == b"late"
    staying.close()


async def test_who_waits_too_long_is_told(site: LocalSite) -> None:
    """The supervisor gives up by itself; what it had for that connection is gone."""
    program = 'import socket, time; s = socket.create_server(("0.0.0.0", 80), backlog=0); print("up", flush=True); time.sleep(600)'
    await site.backend.submit(replace(site.spec("job", "/usr/bin/python3", "-c", program), ports=(80,)))
    await site.running("job")
    async for _ in site.backend.logs("job", 0, Stream.STDOUT, follow=True):
        break
    folder = JobFolder(site.state("job").parent, "job")
    taken: list[int] = []
    with pytest.raises(BackendUnavailable, match="does not accept connections on port 80"):
        for _ in range(9):
            with Conversation(folder) as conversation:
                taken.append((await conversation.ask(op="connect", rank=0, port=80)).fd)
    for fd in taken:
        os.close(fd)


async def test_a_slow_reader_slows_the_program(site: LocalSite) -> None:
    """What nobody reads is not collected here: the program's writes wait after what the kernel holds."""
    program = textwrap.dedent("""
        import socket
        server = socket.create_server(("0.0.0.0", 80))
        print("up", flush=True)
        peer = server.accept()[0]
        sent = 0
        while True:
            sent += peer.send(bytes(1 << 16))
            with open("/work/sent", "w") as file: file.write(str(sent))
    """)
    await site.backend.submit(replace(site.spec("job", "/usr/bin/python3", "-c", program), ports=(80,)))
    await site.running("job")

    def sent() -> int:
        path = site.work("job") / "sent"
        return int(path.read_text() or 0) if path.exists() else 0

    async for _ in site.backend.logs("job", 0, Stream.STDOUT, follow=True):
        break
    where = await site.backend.endpoint("job", 0, PORT)
    _, writer = await asyncio.open_connection(where.host, where.port, limit=1 << 16)
    await until(lambda: sent() > 0, "it writes")
    seen = -1
    while (now := sent()) != seen:
        seen = now
        await asyncio.sleep(0.3)  # not for a result: time in which it would go on
    assert seen < 64 << 20
    writer.close()


async def test_a_supervisor_of_an_older_server_says_that_it_cannot(site: LocalSite) -> None:
    """An operation that it does not know is told in words of what is so."""
    await site.backend.submit(site.spec("job", "sleep", "600"))
    await site.running("job")
    folder = JobFolder(site.state("job").parent, "job")
    with Conversation(folder) as conversation, pytest.raises(BackendUnavailable, match="older version"):
        await conversation.ask(op="an operation of the year 2100")


async def test_jobs_of_older_releases_have_no_ports(site: LocalSite) -> None:
    """Their spec.json does not name any: it is read, and no port is reached."""
    await site.backend.submit(replace(site.spec("job", "sleep", "600"), ports=(80, 5900)))
    text = (site.state("job") / "spec.json").read_text()
    assert read_spec(text.encode())["ports"] == [80, 5900]
    old: dict[str, object] = json.loads(text)
    del old["ports"]
    assert read_spec(json.dumps(old).encode())["ports"] == []


@pytest.mark.parametrize("message", [{"rank": "0", "port": 80}, {"rank": 0}, {"rank": 0, "port": 0}, {"rank": 0, "port": 1 << 40}])
async def test_odd_questions_are_not_understood(site: LocalSite, message: dict[str, object]) -> None:
    """And answered: the supervisor goes on."""
    await site.backend.submit(site.spec("job", "sleep", "600"))
    await site.running("job")
    with Conversation(JobFolder(site.state("job").parent, "job")) as conversation:
        for operation in ("connect", "shell"):
            with pytest.raises(BackendUnavailable, match="not understood"):
                await conversation.ask(op=operation, **message)
        assert (await conversation.ask(op="ping")).facts["ok"] is True
