"""A whole Serai behind a real Envoy, as an operator runs it: `serai up` as a process of its own, by TLS or plain, and ways in for tests.

For pages in a real browser: `up(folder, tls=False)` is reached as http://localhost:{envoy_port}, which browsers take for safe;
`origins` are the pages that may call.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc.aio

from fakes.nomad_certificates import Authority, Pair
from fakes.stack import START_S, Stack, free_port, local_text, stack

NAME = "provider.test"
"""Of the provider to those outside; a name of no real machine."""


@dataclass(frozen=True)
class Reply:
    """What curl got; `status` 0 = no answer."""

    status: int
    version: str
    """Of HTTP: "1.1" or "2"."""
    headers: list[tuple[str, str]]
    """Names in lower case."""
    body: bytes

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key == name), "")

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def why(self) -> str:
        """Of an error of UCloud's form, which this then is."""
        assert self.header("content-type") == "application/json", self
        document = self.json
        assert set(document) == {"why", "errorCode", "detailedCode", "statusCode"}, document
        assert document["statusCode"] == self.status
        return str(document["why"])


def reply(output: bytes) -> Reply:
    """From what `curl -i` wrote."""
    head, _, body = output.partition(b"\r\n\r\n")
    while head.split(b" ")[1:2] == [b"100"]:
        head, _, body = body.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    if not lines[0]:
        return Reply(0, "", [], b"")
    version, status = lines[0].split(" ")[:2]
    pairs = (line.partition(":") for line in lines[1:])
    return Reply(int(status), version.removeprefix("HTTP/"), [(name.lower(), value.strip()) for name, _, value in pairs], body)


@dataclass(frozen=True)
class FrontDoor:
    """An Envoy's way in, as clients see it. `ca` "" = plain HTTP."""

    port: int
    name: str = NAME
    ca: str = ""

    @property
    def url(self) -> str:
        return f"{'https' if self.ca else 'http'}://{self.name}:{self.port}"

    async def curl(self, path: str, *arguments: str, body: bytes | None = None, h2: bool | None = None) -> Reply:
        """The path as it is; `h2` None = what curl and Envoy agree on. A body makes it a POST, unless the arguments say another verb."""
        version = {None: [], True: ["--http2" if self.ca else "--http2-prior-knowledge"], False: ["--http1.1"]}[h2]
        trust = ["--cacert", self.ca] if self.ca else []
        given = [] if body is None else ["--data-binary", "@-", "-H", "Expect:"]
        command = ["curl", "-si", "--max-time", "60", "--path-as-is", "--resolve", f"{self.name}:{self.port}:127.0.0.1"]
        run = partial(subprocess.run, input=body, capture_output=True, check=False)
        done = await asyncio.to_thread(run, [*command, *version, *trust, *given, *arguments, self.url + path])
        return reply(done.stdout)

    def channel(self, *options: tuple[str, int]) -> grpc.aio.Channel:
        named = (("grpc.ssl_target_name_override", self.name), ("grpc.default_authority", f"{self.name}:{self.port}"), *options)
        if not self.ca:
            return grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", options=named)
        trusted = grpc.ssl_channel_credentials(Path(self.ca).read_bytes())
        return grpc.aio.secure_channel(f"127.0.0.1:{self.port}", trusted, options=named)


@dataclass
class Up(Stack):
    """`process` is `serai up`; at `port` the gateway listens only where the settings ask for it."""

    front: FrontDoor = field(default_factory=lambda: FrontDoor(0))

    @property
    def gateway_socket(self) -> Path:
        """By which Envoy comes to the gateway."""
        return self.folder / "state" / "gateway.sock"

    @property
    def tools_socket(self) -> Path:
        return self.folder / "state" / "tools.sock"

    async def start(self, *, wait: bool = True) -> None:
        self.process = await self.spawn_up()
        if wait:
            await self.until_ready()

    async def spawn_up(self) -> asyncio.subprocess.Process:
        with self.log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "serai_server.cli", "up", "--config", str(self.folder / "serai.toml")),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def until_ready(self) -> None:
        """Until it says so itself."""
        assert self.process is not None
        said = self.log.read_text().count("serai serves")
        async with asyncio.timeout(START_S):
            while self.log.read_text().count("serai serves") == said or (await self.front.curl("/readyz")).status != 200:
                if self.process.returncode is not None:
                    raise AssertionError(f"serai ended with {self.process.returncode}: {self.tail()}")
                await asyncio.sleep(0.05)

    def envoys(self) -> list[int]:
        """Ids of the processes that `serai up` has as children and that are Envoy."""
        assert self.process is not None
        try:
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            return [int(pid) for pid in children if b"envoy.yaml" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        except FileNotFoundError:
            return []  # one of them has just ended

    async def token(self, role: str, *more: str) -> str:
        """A new one for a tool, by `serai tokens create`."""
        code, out, err = await self.cli("tokens", "create", "--role", role, *more, "--json")
        assert code == 0, err
        return str(json.loads(out)["token"])

    def bearer(self) -> tuple[str, str]:
        """curl's arguments for a call of Core's."""
        return "-H", f"Authorization: Bearer {self.core.providers['example'].issuer.core_token()}"

    async def hurry(self) -> None:
        """Stop without waiting."""
        assert self.process is not None
        for _ in range(2):
            self.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.1)  # two of the same that come together are one


def envoy_text(port: int, *, pair: Pair | None, origins: tuple[str, ...] = (), more: str = "") -> str:
    """The section of a serai.toml; `more`: lines of it."""
    lines = [
        "[gateway.envoy]",
        'host = "127.0.0.1"',
        f"port = {port}",
        f"allowed_origins = {json.dumps(origins)}",
        'access_log = "access.log"',
    ]
    if pair is not None:
        lines += [f'certificate = "{pair.cert}"', f'key = "{pair.key}"']
    return "\n".join([*lines, more, ""])


@asynccontextmanager
async def up(
    folder: Path,
    *,
    tls: bool = True,
    generation: str = "2021",
    origins: tuple[str, ...] = (),
    envoy: str = "drain_ms = 0",
    cpu: int = 8,
    past_envoy: bool = False,
    started: bool = True,
    kind: Callable[..., Up] = Up,
) -> AsyncGenerator[Up]:
    """Everything in `folder`. `envoy`: further lines of [gateway.envoy]; `origins`: pages that may call the tools' API; `past_envoy`: the
    gateway has a TCP port too, at which the stand-in for Core comes to it, because it knows no certificates of ours."""
    port = free_port()
    certificates = folder / "tls"
    certificates.mkdir(parents=True, exist_ok=True)
    authority = Authority(certificates) if tls else None
    pair = authority.issue(NAME) if authority is not None else None
    front = FrontDoor(port, NAME, authority.file) if authority is not None else FrontDoor(port, "localhost")

    def made(*arguments: Any) -> Up:
        found = kind(*arguments)
        found.front = front
        (folder / "users.pem").write_text(found.core.users.public_key_pem)
        file = folder / "serai.toml"
        host = 'host = "127.0.0.1"\n' if past_envoy else ""
        file.write_text(file.read_text().replace("[gateway]\n", f'[gateway]\npublic_url = "{front.url}"\n{host}'))
        if not past_envoy:
            found.core.providers["example"].url = front.url
        return found

    backend = local_text(cpu) + envoy_text(port, pair=pair, origins=origins, more=envoy)
    backend += '[gateway.users]\npublic_key_file = "users.pem"\n'
    async with stack(folder, generation=generation, backend=backend, kind=made, started=started) as running:
        yield running
