"""docker of the fake: a task's program in a sandbox of bubblewrap, with the folders that Nomad gives a container.

It has no images: the machine's /usr is all that is in it. Its network is the machine's, or, when its group has ports, one of its own, and
each port is reached on the node's address through a relay, as by the port mapping of Nomad's bridge.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import shutil
import signal as signals
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

from fakes.nomad.drivers import DriverFailure, Exit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fakes.nomad.spec import Json

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FOLDERS = {"NOMAD_ALLOC_DIR": "/alloc", "NOMAD_TASK_DIR": "/local", "NOMAD_SECRETS_DIR": "/secrets"}
_NEWNET = 0x40000000


class Container:
    """A Running of runner.py."""

    def __init__(self, process: asyncio.subprocess.Process, first: int, program: int, inside: list[str], env: dict[str, str]) -> None:
        self._process, self._first, self._program, self._inside, self.env = process, first, program, inside, env
        self._ended = asyncio.ensure_future(self._end())
        self._relays = list[asyncio.Future[None]]()

    @classmethod
    async def start(cls, config: Mapping[str, object], env: dict[str, str], user: str, folder: Path, ports: list[Json]) -> Container:
        """`folder`: the task's. `ports`: of its allocation, mapped to its own."""
        if shutil.which("bwrap") is None or os.geteuid() != 0:
            raise DriverFailure("Failed to create container: the fake's containers need bubblewrap, and root")
        uid, _, gid = user.partition(":")
        inside = ["setpriv", "--reuid", uid, "--regid", gid or uid, "--clear-groups", "--no-new-privs", "--inh-caps=-all"]
        inside += ["--bounding-set=-all", "--"]
        box = _box(config, folder, apart=bool(ports))
        given = {"PATH": _PATH} | env | _FOLDERS
        told, tell = os.pipe()
        try:
            words = ["bwrap", *box, "--info-fd", str(tell), "--", *inside, *cast("list[str]", config["entrypoint"])]
            process = await asyncio.create_subprocess_exec(
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env=given,
                pass_fds=(tell,),
                start_new_session=True,
            )
        finally:
            os.close(tell)
        said = await asyncio.to_thread(_all_of, told)
        first = int(cast("dict[str, int]", json.loads(said or b'{"child-pid": 0}'))["child-pid"])
        if not first:
            raise DriverFailure("Failed to create container: bubblewrap could not make it")
        program = await _child_of(first) or first
        made = cls(process, first, program, inside, given)
        made._relays += [asyncio.ensure_future(_relay(port, program)) for port in ports]
        return made

    def command(self, argv: Sequence[str], *, tty: bool) -> list[str]:
        """Of another program in it, which becomes the first of a session, with its own terminal, as runc has it."""
        enter = ["nsenter", "--target", str(self._program), "--mount", "--pid", "--net", "--uts", "--ipc", "--"]
        return [*enter, *self._inside, "setsid", *(["--ctty"] if tty else []), *argv]

    async def _end(self) -> Exit:
        code = await self._process.wait()
        for relay in self._relays:
            relay.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)
        return Exit(128 - code) if code < 0 else Exit(code)

    async def wait(self) -> Exit:
        return await asyncio.shield(self._ended)

    async def kill(self, signal: str, timeout_s: float) -> None:
        self.send(signal)
        done, _ = await asyncio.wait([self._ended], timeout=timeout_s)
        if not done:
            with suppress(ProcessLookupError):
                os.kill(self._first, signals.SIGKILL)
            await asyncio.wait([self._ended])

    def send(self, signal: str) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._program, getattr(signals, signal))


def _box(config: Mapping[str, object], folder: Path, *, apart: bool) -> list[str]:
    words = ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--ro-bind", "/usr", "/usr", "--proc", "/proc", "--dev", "/dev"]
    words += ["--unshare-net"] if apart else []
    for name in ("/bin", "/sbin", "/lib", "/lib64"):
        place = Path(name)
        if place.is_symlink():
            words += ["--symlink", str(place.readlink()), name]
        elif place.exists():
            words += ["--ro-bind", name, name]
    words += ["--perms", "1777", "--tmpfs", "/tmp", "--bind", str(folder / "local"), "/local"]
    words += ["--bind", str(folder / "secrets"), "/secrets", "--bind", str(folder.parent / "alloc"), "/alloc"]
    mounts = cast("list[dict[str, object]]", config.get("mount") or [])
    # bubblewrap itself makes folders for its user only
    for place in sorted({str(parent) for mount in mounts for parent in Path(str(mount["target"])).parents} - {"/"}):
        words += ["--perms", "0755", "--dir", place]
    for mount in mounts:
        if mount["type"] == "tmpfs":
            words += ["--perms", "0777", "--tmpfs", str(mount["target"])]
            continue
        source = folder / str(mount["source"])
        if not source.exists():
            raise DriverFailure(f"Failed to create container: bind source path does not exist: {source}")
        words += ["--ro-bind" if mount.get("readonly") else "--bind", str(source), str(mount["target"])]
    return words


def _all_of(end: int) -> bytes:
    with open(end, "rb") as file:
        return file.read()


async def _child_of(process: int) -> int:
    """The program of the sandbox's first process; 0 = it has ended already."""
    for _ in range(1_000):
        children = _children_of(process)
        if children is None:
            return 0
        if children:
            return children[0]
        await asyncio.sleep(0.005)
    return 0


def _children_of(process: int) -> list[int] | None:
    """None = there is no such process."""
    try:
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return None


async def _relay(port: Json, program: int) -> None:
    """A connection to the node's port is one to the container's, made in its network."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner, there = await asyncio.open_connection(sock=await asyncio.to_thread(_connected, program, int(str(port["To"]))))
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(_pump(reader, there), _pump(inner, writer))

    server = await asyncio.start_server(serve, str(port["HostIP"]), int(str(port["Value"])))
    async with server:
        await server.serve_forever()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(64 * 1024):
            sink.write(data)
            await sink.drain()
        if sink.can_write_eof():
            sink.write_eof()
            return
    sink.close()


def _connected(program: int, port: int) -> socket.socket:
    """Of the program's network: in a thread of its own, because a thread that has been elsewhere must not be used again."""
    with ThreadPoolExecutor(1) as elsewhere:
        return elsewhere.submit(_connect_there, program, port).result()


def _connect_there(program: int, port: int) -> socket.socket:
    libc = ctypes.CDLL(None, use_errno=True)
    network = os.open(f"/proc/{program}/ns/net", os.O_RDONLY)
    try:
        if libc.setns(network, _NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(network)
    made = socket.create_connection(("127.0.0.1", port), timeout=10)
    made.setblocking(False)
    return made
