# pathlib would cost each supervisor 5 ms and its memory
# ruff: noqa: PTH103, PTH115, PTH120, PTH123
"""The job's namespaces, by plain system calls: user, mount, network and pid; no ip(8), no unshare(1).

Two orders, one set of steps. A plain user may mount only after it has a user namespace. Root mounts first, because the job's own uid
cannot reach folders below a private one (`/root`, `/var/lib/serai`); then it gives its user up for ever.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import stat
import struct
from contextlib import suppress

from serai_backends.local.supervisor.failure import StartFailure

_NEWNS, _NEWUSER, _NEWPID, _NEWNET = 0x20000, 0x10000000, 0x20000000, 0x40000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x2, 0x4, 0x8, 0x1000, 0x4000, 0x40000
_PR_SET_DUMPABLE = 4
_KEYCTL = {"x86_64": 250, "aarch64": 219}
_SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK, _IFF_UP_RUNNING = 0x8914, 0x8916, 0x891C, 0x41
_NETWORK_OFF = (
    "ipv4/ip_forward",
    "ipv6/conf/all/forwarding",
    # with these inherited from the host, peers would not find each other's addresses, or would find 127/8
    "ipv4/conf/all/arp_ignore",
    "ipv4/conf/default/arp_ignore",
    "ipv4/conf/all/route_localnet",
    "ipv4/conf/default/route_localnet",
)
_LOW_PORTS = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
VIEW = "/tmp"  # noqa: S108 - in the job's own mount namespace, covered by a file system of its own
"""Where the supervisor's private file system lies: `work`, `programs/N`, `etc`, `rank`."""

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    _check(
        _libc.mount(source.encode(), target.encode(), kind and kind.encode(), ctypes.c_ulong(flags), data and data.encode()),
        f"mount {target}",
    )


def leave_keyring() -> None:
    """A fresh, empty session keyring: the one of the server stays with the server."""
    number = _KEYCTL.get(os.uname().machine)
    if number is not None:
        _libc.syscall(ctypes.c_long(number), ctypes.c_long(1), None)


class View:
    """What is bound into the supervisor's private file system."""

    def __init__(self, work_fd: int, program_dirs: list[str], inputs: list[tuple[str, int]]) -> None:
        """`inputs`: the path as the user wrote it, and a path descriptor."""
        self.work_fd, self.program_dirs, self.inputs = work_fd, program_dirs, inputs


def build_view(view: View, owner: int) -> None:
    """A private tmpfs with the job's folder, the programs and the inputs bound into it; `owner` = uid that may write there."""
    _mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    # descriptors must belong to this mount namespace, else the kernel refuses to bind them
    bound = [("work", _reopen(view.work_fd))]
    bound += [(f"programs/{i}", os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) for i, path in enumerate(view.program_dirs)]
    for i, (shown, fd) in enumerate(view.inputs):
        try:
            bound.append((f"inputs/{i}", _reopen(fd)))
        except OSError as error:
            raise StartFailure("mount_failed", f"{shown}: {error.strerror or error}") from error
    _mount_memory(f"mode=0755,size=64m,uid={owner},gid={owner}")
    for name, fd in bound:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            os.makedirs(f"{VIEW}/{name}")
        else:
            os.makedirs(os.path.dirname(f"{VIEW}/{name}"), exist_ok=True)
            os.close(os.open(f"{VIEW}/{name}", os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        _mount(f"/proc/self/fd/{fd}", f"{VIEW}/{name}", None, _MS_BIND | _MS_REC)
        os.close(fd)


def _mount_memory(options: str) -> None:
    """At VIEW; never swapped out where root asks for that and the kernel can (Linux 6.4): secrets lie in there."""
    try:
        _mount("tmpfs", VIEW, "tmpfs", _MS_NOSUID | _MS_NODEV, f"{options},noswap")
    except OSError:
        _mount("tmpfs", VIEW, "tmpfs", _MS_NOSUID | _MS_NODEV, options)


def _reopen(fd: int) -> int:
    """The same folder or file by its path in this mount namespace; refuses when the path means another one by now."""
    path = os.readlink(f"/proc/self/fd/{fd}")
    again = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not os.path.samestat(os.fstat(fd), os.fstat(again)):
        raise OSError(f"{path} was replaced while the job was started")
    return again


def enter(uid: int | None, view: View, block: str) -> None:
    """This process afterwards owns a user, mount and network namespace, and its next child is pid 1 of a pid namespace.

    `uid`: what root becomes; None = stay the user one is. Single-threaded callers only. Raises OSError.
    """
    if uid is not None:
        _check(_libc.unshare(_NEWNS), "unshare")
        build_view(view, uid)
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        # without this /proc/self/uid_map still belongs to root
        set_dumpable(True)
    user, group = os.getuid(), os.getgid()
    _check(_libc.unshare(_NEWUSER | _NEWNS | _NEWNET | _NEWPID), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
    if uid is None:
        build_view(view, 0)
    raise_loopback(block)


def set_dumpable(can: bool) -> None:
    """Whether this process leaves cores, and others of its user may look into it. Raises OSError."""
    _check(_libc.prctl(_PR_SET_DUMPABLE, int(can), 0, 0, 0), "prctl")


def raise_loopback(block: str) -> None:
    """lo of this process' network namespace is up, and every address of the block is on it. Raises OSError."""
    first, bits = parse_block(block)
    mask = (0xFFFFFFFF << (32 - bits)) & 0xFFFFFFFF
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", _IFF_UP_RUNNING))
        # an address of lo makes its whole prefix local, as 127/8 is
        for request, value in ((_SIOCSIFADDR, first + 1), (_SIOCSIFNETMASK, mask)):
            fcntl.ioctl(any_socket, request, struct.pack("16sHH4s16x", b"lo:0", socket.AF_INET, 0, struct.pack(">I", value)))


def quiet_network() -> None:
    """Pid 1 only, with its own /proc: nothing is forwarded from one peer to another, whatever the host does and new namespaces inherit."""
    for name in _NETWORK_OFF:
        try:
            with open(f"/proc/sys/net/{name}", "r+b", buffering=0) as file:
                if file.read().strip() != b"0":
                    file.seek(0)  # the kernel drops what is written anywhere else, without a word
                    file.write(b"0")
        except FileNotFoundError:
            continue


def open_low_ports() -> None:
    """Pid 1 only, with its own /proc: programs may listen on port 80, as in a container; of this network namespace only. Where the kernel
    does not let us they cannot, and say so themselves."""
    with suppress(OSError), open(_LOW_PORTS, "wb", buffering=0) as file:
        file.write(b"0")


def own_proc() -> None:
    """Pid 1 only: /proc shows the job's processes, with the pids that this namespace gives them."""
    _mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)


def parse_block(text: str) -> tuple[int, int]:
    """(first address, bits) of `10.128.4.0/24`."""
    first, _, bits = text.partition("/")
    return int.from_bytes(socket.inet_aton(first), "big"), int(bits)


def show_block(first: int, bits: int) -> str:
    return f"{socket.inet_ntoa(first.to_bytes(4, 'big'))}/{bits}"


def address(block: str, rank: int) -> str:
    """Of a rank: the block's first address is nobody's."""
    return socket.inet_ntoa((parse_block(block)[0] + rank + 1).to_bytes(4, "big"))
