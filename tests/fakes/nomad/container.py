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
import struct
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from fakes.nomad.drivers import DriverFailure, Exit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fakes.nomad.spec import Json

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FOLDERS = {"NOMAD_ALLOC_DIR": "/alloc", "NOMAD_TASK_DIR": "/local", "NOMAD_SECRETS_DIR": "/secrets"}
_NEWNET = 0x40000000
_T = TypeVar("_T")


class Container:
    """A Running of runner.py."""

    def __init__(self, process: asyncio.subprocess.Process, first: int, program: int, inside: list[str], env: dict[str, str]) -> None:
        self._process, self._first, self._program, self._inside, self.env = process, first, program, inside, env
        self._ended = asyncio.ensure_future(self._end())
        self._relays = list[asyncio.Future[None]]()

    @classmethod
    async def start(
        cls, config: Mapping[str, object], env: dict[str, str], user: str, folder: Path, mapped: tuple[str, list[Json]]
    ) -> Container:
        """`folder`: the task's. `mapped`: the allocation's address, and the ports of the node that lead to its own."""
        address, ports = mapped
        if shutil.which("bwrap") is None or os.geteuid() != 0:
            raise DriverFailure("Failed to create container: the fake's containers need bubblewrap, and root")
        uid, _, gid = user.partition(":")
        inside = ["setpriv", "--reuid", uid, "--regid", gid or uid, "--clear-groups", "--no-new-privs", "--inh-caps=-all"]
        inside += ["--bounding-set=-all", "--"]
        box = _box(config, folder, apart=bool(ports))
        given = {"PATH": _PATH} | env | _FOLDERS
        with ExitStack() as ends:
            (told, tell), (waits, go) = os.pipe(), os.pipe()
            ends.callback(os.close, waits)
            ends.callback(os.close, go)
            try:
                process = await asyncio.create_subprocess_exec(
                    *("bwrap", *box, "--info-fd", str(tell), "--block-fd", str(waits), "--", *inside),
                    *cast("list[str]", config["entrypoint"]),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.DEVNULL,
                    env=given,
                    pass_fds=(tell, waits),
                    start_new_session=True,
                )
            finally:
                os.close(tell)
            try:
                said = await asyncio.to_thread(_info, told)
                first = int(cast("dict[str, int]", json.loads(said or b'{"child-pid": 0}'))["child-pid"])
                if ports and first:
                    await asyncio.to_thread(_in_network, first, _open_ports)
                os.write(go, b"x")
                program = await _child_of(first) or first
            except BaseException:  # the end of the test, in the middle of this
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signals.SIGKILL)
                await process.wait()
                raise
        if not first:
            raise DriverFailure("Failed to create container: bubblewrap could not make it")
        made = cls(process, first, program, inside, given)
        made._relays += [asyncio.ensure_future(_relay(port, program, address)) for port in ports]
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
    words = ["--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
    words += ["--ro-bind", "/usr", "/usr", "--proc", "/proc", "--dev", "/dev"]
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


def _info(end: int) -> bytes:
    """One object of JSON; the sandbox's first process holds the other end open."""
    with open(end, "rb", buffering=0) as file:
        said = b""
        while not said.rstrip().endswith(b"}") and (data := file.read(4096)):
            said += data
        return said


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


async def _relay(port: Json, program: int, address: str) -> None:
    """A connection to the node's port is one to the container's, made in its network."""
    loop, open_ones = asyncio.get_running_loop(), set[asyncio.Task[None]]()
    with socket.create_server((str(port["HostIP"]), int(str(port["Value"])))) as listening:
        listening.setblocking(False)
        try:
            while True:
                peer, _ = await loop.sock_accept(listening)
                task = loop.create_task(_serve(peer, program, address, int(str(port["To"]))))
                open_ones.add(task)
                task.add_done_callback(open_ones.discard)
        finally:
            left = tuple(open_ones)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)


async def _serve(peer: socket.socket, program: int, address: str, port: int) -> None:
    with peer:
        try:
            inner = await asyncio.to_thread(_in_network, program, lambda: _connect(address, port))
        except OSError:
            # as when nobody listens: at once, without an end in order
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        with inner:
            await asyncio.gather(_pump(peer, inner), _pump(inner, peer))


async def _pump(source: socket.socket, sink: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with suppress(OSError):
        while data := await loop.sock_recv(source, 64 * 1024):
            await loop.sock_sendall(sink, data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _open_ports() -> None:
    """As docker has it: no program is root, and web applications listen on port 80."""
    Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").write_text("0")


def _connect(address: str, port: int) -> socket.socket:
    """The only address that it has is the loopback's, where the one that Nomad tells is too."""
    try:
        made = socket.create_connection((address, port), timeout=10)
    except ConnectionRefusedError:
        made = socket.create_connection(("127.0.0.1", port), timeout=10)
    made.setblocking(False)
    return made


def _in_network(process: int, do: Callable[[], _T]) -> _T:
    """In the network of that process: in a thread of its own, because one that has been elsewhere must not be used again."""

    def there() -> _T:
        libc = ctypes.CDLL(None, use_errno=True)
        network = os.open(f"/proc/{process}/ns/net", os.O_RDONLY)
        try:
            if libc.setns(network, _NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        finally:
            os.close(network)
        return do()

    with ThreadPoolExecutor(1) as elsewhere:
        return elsewhere.submit(there).result()
