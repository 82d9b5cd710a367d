"""The tools' door by TCP: TLS, clients' certificates, certificates that are renewed, and clients that take their time."""

from __future__ import annotations

import asyncio
import ipaddress
import resource
import socket
from dataclasses import replace
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography import x509
from fakes.nomad_certificates import Authority, Pair
from fakes.tools_site import CALL_S, bearer, tools_site
from fakes.usecases import job
from serai.jobs.v1 import jobs_service_pb2 as pb
from serai.jobs.v1.jobs_service_pb2_grpc import JobsServiceStub
from serai_server.cli.exits import leaves
from serai_server.rpc import tools_door
from serai_server.rpc.socket_place import SocketInUse
from serai_server.rpc.tls import CertificateError, Files
from serai_server.rpc.tools_door import Place
from serai_server.store.token_model import Role
from serai_server.tokens.certificates import Client


def read(file: str) -> bytes:
    return Path(file).read_bytes()


def channel(address: str, ca: Authority, client: Pair | None = None) -> grpc.aio.Channel:
    key, cert = (read(client.key), read(client.cert)) if client else (None, None)
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(read(ca.file), key, cert))


def place(folder: Path, server: Pair, clients: Authority | None = None, at: str = "127.0.0.1:0") -> Place:
    files = Files(Path(server.cert), Path(server.key), Path(clients.file) if clients else None)
    return Place(folder, listen=at, tls=files)


async def listed(through: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...] = (), *, patient: bool = False) -> list[str]:
    """`patient`: also when the first connections are refused."""
    async with through:
        answer = await JobsServiceStub(through).List(pb.ListRequest(), metadata=metadata, timeout=CALL_S, wait_for_ready=patient)
    return [found.id for found in answer.jobs]


async def code(through: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...] = ()) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await listed(through, metadata)
    return caught.value.code()


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def server(ca: Authority) -> Pair:
    return ca.issue("localhost", ip="127.0.0.1")


async def test_a_token_over_tls(tmp_path: Path, ca: Authority, server: Pair) -> None:
    """With a certificate of the server's alone, the token is the identity; without TLS nobody gets in."""
    async with tools_site(tmp_path, place=place(tmp_path, server)) as site:
        await site.front.jobs.create([job("1")])
        token = bearer(await site.token())
        assert await listed(channel(site.address, ca), token) == ["1"]
        assert await code(channel(site.address, ca)) is grpc.StatusCode.UNAUTHENTICATED
        assert await code(grpc.aio.insecure_channel(site.address), token) is grpc.StatusCode.UNAVAILABLE


async def test_plain_on_loopback(tmp_path: Path) -> None:
    """Without files of TLS the port is plain, and a token is needed there all the same."""
    async with tools_site(tmp_path, place=Place(tmp_path, listen="127.0.0.1:0")) as site:
        assert await code(grpc.aio.insecure_channel(site.address)) is grpc.StatusCode.UNAUTHENTICATED
        assert await listed(grpc.aio.insecure_channel(site.address), bearer(await site.token())) == []


async def test_a_known_certificate_is_an_identity(tmp_path: Path, ca: Authority, server: Pair) -> None:
    """With the role and the project of the settings; one that is not in the settings may connect and needs a token."""
    clients = [Client("ci", Role.OPERATOR, "p"), Client("board", Role.VIEWER, "")]
    async with tools_site(tmp_path, place=place(tmp_path, server, ca), clients=clients) as site:
        await site.front.jobs.create([job("1", project="p"), job("2", project="q")])
        assert await listed(channel(site.address, ca, ca.issue("ci"))) == ["1"]
        assert await listed(channel(site.address, ca, ca.issue("board"))) == ["2", "1"]
        stranger = ca.issue("stranger")
        assert await code(channel(site.address, ca, stranger)) is grpc.StatusCode.UNAUTHENTICATED
        assert await listed(channel(site.address, ca, stranger), bearer(await site.token())) == ["2", "1"]


@pytest.mark.parametrize(
    ("names", "is_known"),
    [
        ([x509.DNSName("ci")], True),
        ([x509.UniformResourceIdentifier("spiffe://example/ci")], True),
        ([], True),
        ([x509.RFC822Name("ci@example.org")], False),
        ([x509.IPAddress(ipaddress.ip_address("192.0.2.7"))], False),
        ([x509.DNSName("other")], False),
    ],
    ids=["DNS", "URI", "only the common name", "e-mail", "address", "another one beside the common name"],
)
async def test_names_that_are_an_identity(
    tmp_path: Path, ca: Authority, server: Pair, names: list[x509.GeneralName], *, is_known: bool
) -> None:
    """Those of DNS and URI, and the common one when it is the only one: others a CA may sign for whoever says so."""
    known = ("ci", "spiffe://example/ci", "ci@example.org", "192.0.2.7")
    clients = [Client(name, Role.VIEWER, "") for name in known]
    async with tools_site(tmp_path, place=place(tmp_path, server, ca), clients=clients) as site:
        through = channel(site.address, ca, ca.issue("ci", alternative=names))
        if is_known:
            assert await listed(through) == []
        else:
            assert await code(through) is grpc.StatusCode.UNAUTHENTICATED


async def test_a_token_decides_where_there_is_one(tmp_path: Path, ca: Authority, server: Pair) -> None:
    """A wrong one is refused although the certificate is known; a right one gives its own rights, less or more."""
    clients = [Client("ci", Role.OPERATOR, "")]
    async with tools_site(tmp_path, place=place(tmp_path, server, ca), clients=clients) as site:
        await site.front.jobs.create([job("1", project="p"), job("2", project="q")])
        ci = ca.issue("ci")
        assert await code(channel(site.address, ca, ci), bearer("serai_nonsense")) is grpc.StatusCode.UNAUTHENTICATED
        assert await listed(channel(site.address, ca, ci), bearer(await site.token(project="q"))) == ["2"]


async def test_nobody_connects_without_a_certificate_of_the_clients_ca(tmp_path: Path, ca: Authority, server: Pair) -> None:
    """None, and one of another CA with the very name, do not even get as far as a call; health is no exception."""
    other = Authority(tmp_path, "other")
    clients = [Client("ci", Role.ADMIN, "")]
    async with tools_site(tmp_path, place=place(tmp_path, server, ca), clients=clients) as site:
        token = bearer(await site.token())
        assert await code(channel(site.address, ca), token) is grpc.StatusCode.UNAVAILABLE
        assert await code(channel(site.address, ca, other.issue("ci")), token) is grpc.StatusCode.UNAVAILABLE
        assert await listed(site.channel(), token) == []


async def test_a_name_on_the_unix_socket_is_nobodys(tmp_path: Path, ca: Authority, server: Pair) -> None:
    """Certificates count where TLS has seen them."""
    clients = [Client("ci", Role.ADMIN, "")]
    async with tools_site(tmp_path, place=place(tmp_path, server, ca), clients=clients) as site:
        marks = (("x509_common_name", "ci"), ("x-forwarded-client-cert", "Subject=CN=ci"))
        assert await code(site.channel(), marks) is grpc.StatusCode.UNAUTHENTICATED


async def test_a_renewed_certificate_is_used_without_a_new_start(tmp_path: Path, ca: Authority, server: Pair) -> None:
    """By connections that come after. Files that do not fit together change nothing."""
    new_ca = Authority(tmp_path, "new")
    async with tools_site(tmp_path, place=place(tmp_path, server)) as site:
        token = bearer(await site.token())
        assert await listed(channel(site.address, ca), token) == []
        await asyncio.to_thread(Path(server.key).write_bytes, b"not a key")
        assert await listed(channel(site.address, ca), token) == []
        renewed = new_ca.issue("localhost-new", ip="127.0.0.1")
        for new, old in ((renewed.cert, server.cert), (renewed.key, server.key)):
            await asyncio.to_thread(Path(new).replace, old)
        assert await listed(channel(site.address, new_ca), token) == []
        assert await code(channel(site.address, ca), token) is grpc.StatusCode.UNAVAILABLE


async def test_who_is_slow_at_the_handshake_keeps_nobody_waiting(tmp_path: Path, ca: Authority, server: Pair) -> None:
    """A hundred connections that say nothing or half a word, and a call between them is answered."""
    async with tools_site(tmp_path, place=place(tmp_path, server)) as site:
        host, _, port = site.address.partition(":")
        slow = [await asyncio.to_thread(socket.create_connection, (host, int(port))) for _ in range(100)]
        try:
            for one in slow[::2]:
                one.send(b"\x16\x03\x01\x02")
            assert await listed(channel(site.address, ca), bearer(await site.token())) == []
        finally:
            for one in slow:
                one.close()


@pytest.mark.parametrize("what", ["no file", "no key", "other key", "no certificate", "no ca"])
async def test_files_that_cannot_be_used_are_told_at_start(tmp_path: Path, ca: Authority, server: Pair, what: str) -> None:
    """With the file's name, and nothing of what is in it."""
    junk = tmp_path / "junk"
    junk.write_text("secret words")
    key, cert, roots = Path(server.key), Path(server.cert), Path(ca.file)
    match what:
        case "no file":
            cert = tmp_path / "nope"
        case "no key":
            key = junk
        case "other key":
            key = Path(ca.issue("other").key)
        case "no certificate":
            cert = junk
        case _:
            roots = junk
    error = await failed_start(tmp_path, Place(tmp_path, listen="127.0.0.1:0", tls=Files(cert, key, roots)))
    assert isinstance(error, CertificateError)
    assert any(name in str(error) for name in ("nope", "junk", "other"))
    assert "secret words" not in str(error)


async def test_a_port_that_is_taken_is_told_in_words(tmp_path: Path) -> None:
    """With the setting to change; also when it is another server of ours that has it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        error = await failed_start(tmp_path, Place(tmp_path, listen=f"127.0.0.1:{taken.getsockname()[1]}"))
        assert isinstance(error, SocketInUse)
        assert "server.tools.listen" in str(error)
    async with tools_site(tmp_path, place=Place(tmp_path, listen="127.0.0.1:0")) as site:
        (tmp_path / "second").mkdir()
        assert isinstance(await failed_start(tmp_path / "second", Place(tmp_path, listen=site.address)), SocketInUse)


async def failed_start(folder: Path, at: Place) -> BaseException:
    with pytest.raises(Exception) as caught:
        async with tools_site(folder, place=at):
            pass
    (found,) = leaves(caught.value)
    return found


async def test_who_takes_every_connection_of_the_port_takes_nobody_elses(tmp_path: Path, ca: Authority, server: Pair) -> None:
    """Those that are too many are closed at once, before TLS; who comes by the socket, as Envoy does, is served meanwhile, and the port
    serves again when the others have gone."""
    flooded = replace(place(tmp_path, server), most_connections=5)
    async with tools_site(tmp_path, place=flooded) as site:
        token, port = bearer(await site.token()), int(site.address.rpartition(":")[2])
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await asyncio.wait_for(_end(reader), 4) == b""  # less than a handshake may take
        writer.close()
        assert await listed(site.channel(), token) == []
        for _, other in held:
            other.close()
        # The server notices in a moment that they have gone.
        assert await listed(channel(site.address, ca), token, patient=True) == []


async def _end(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


def test_no_listener_takes_more_than_its_share_of_the_descriptors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the settings say: the server, the gateway and pages have the rest."""

    def few(_: int) -> tuple[int, int]:
        return 400, 400

    monkeypatch.setattr(resource, "getrlimit", few)
    assert tools_door.most_connections(Place(tmp_path, most_connections=1_000)) == 100
    assert tools_door.most_connections(Place(tmp_path, most_connections=50)) == 50
