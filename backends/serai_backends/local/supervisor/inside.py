# inside nothing can be imported and no file of ours be read
# ruff: noqa: PTH112, PTH116, PTH118, PTH208
"""A program on a terminal inside a running replica: what happens between the supervisor's fork and the execution of the program.

Two processes. The first one goes into the replica's namespaces, makes a terminal of the replica's own (so that its name is found inside),
starts the second one, tells its pid and hands the terminal's other side over, and ends. The second one is in the replica's pid namespace
and becomes the program; the supervisor, whose pid namespace it was born from, becomes its parent and reaps it.

The two hold what a replica must never have: the supervisor's memory, its descriptors, and for a moment every capability of the replica's
user namespace. So before anything else all descriptors are closed and the memory is made unreadable for others (not dumpable), and the
program has what bubblewrap leaves a replica's own: no capabilities, no new privileges, the same filter, groups and limits.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import signal
import socket
import struct
from contextlib import suppress

from serai_backends.local.supervisor import namespaces
from serai_backends.local.supervisor.replica import take_limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from serai_backends.local.supervisor.plan import Plan
    from serai_backends.local.supervisor.replica import Replica

_NAMESPACES = {"user": 0x10000000, "mnt": 0x20000, "pid": 0x20000000, "ipc": 0x8000000, "uts": 0x4000000, "cgroup": 0x2000000}
"""The network is the job's and stays."""
_TIOCSPTLCK, _TIOCGPTPEER, _TIOCSCTTY, _TIOCSWINSZ = 0x40045431, 0x5441, 0x540E, 0x5414
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_FILTER = 24, 38, 22, 2
_PR_CAP_AMBIENT, _CLEAR_ALL = 47, 4
_CAPABILITY_VERSION_3 = 0x20080522
_SHELLS = ("bash", "zsh", "fish", "sh")
_SIGNALS = 65
_LONGEST_SHOWN = 100
"""Characters of a program's name in words: what is said goes in one message, and a name may be a whole script by mistake."""

_libc = ctypes.CDLL(None, use_errno=True)


class Visit:
    """What is to be run, made ready before the fork: inside nothing can be imported and no file of ours be read."""

    def __init__(self, argv: Sequence[str], environment: dict[str, str], size: tuple[int, int]) -> None:
        """`argv`: empty = a shell. `size`: columns and rows. Raises ValueError."""
        words = [word.encode() for word in argv]
        if any(b"\0" in word for word in words) or (words and not words[0]):
            raise ValueError
        self.shown = argv[0][:_LONGEST_SHOWN] if argv else "shell"
        self.choices = [words] if words else [[name.encode()] for name in _SHELLS]
        self.environment = {name.encode(): value.encode() for name, value in environment.items()}
        self.folders = self.environment.get(b"PATH", b"/usr/bin:/bin").split(b":")
        self.window = struct.pack("HHHH", size[1], size[0], 0, 0)


def go(
    channel: socket.socket, replica: Replica, visit: Visit, *, plan: Plan, seccomp: bytes, replicas: int, no_files: tuple[int, int]
) -> None:
    """In a fork of the supervisor; never returns. On `channel`: {"pid":N} with the terminal's master; {"error":…}. Its end of file without
    an error = the program is executed."""
    try:
        signal.set_wakeup_fd(-1)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        for number in range(1, _SIGNALS):
            with suppress(OSError, ValueError):  # those that cannot be handled
                signal.signal(number, signal.SIG_DFL)
        replica.join_group()
        namespaces.set_dumpable(False)
        _close_others(channel.fileno())
        _enter(replica.inner or 0)
        namespaces.set_dumpable(False)  # a kernel may be set to make it dumpable with its new credentials
        master, slave = _terminal(visit.window)
        pid = os.fork()
        if pid == 0:
            os.close(master)
            _become(slave, seccomp)
            take_limits(plan, replicas, no_files)
            _execute(visit)
        else:
            socket.send_fds(channel, [json.dumps({"pid": pid}).encode()], [master])
    except BaseException as error:  # there is no other way to tell from here
        words = error.strerror or str(error) if isinstance(error, OSError) else type(error).__name__
        channel.send(json.dumps({"error": words}).encode())
    finally:
        os._exit(0)


def _call(result: int, what: str) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def _close_others(kept: int) -> None:
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != kept:
            with suppress(OSError):  # that of the list itself
                os.close(int(name))


def _enter(pid: int) -> None:
    """All namespaces of a process at once, but those that are ours already. Raises OSError."""
    flags = 0
    for name, flag in _NAMESPACES.items():
        if not os.path.samestat(os.stat(f"/proc/{pid}/ns/{name}"), os.stat(f"/proc/self/ns/{name}")):
            flags |= flag
    pidfd = os.pidfd_open(pid)
    _call(_libc.setns(pidfd, flags), "the replica's namespaces")
    os.close(pidfd)


def _terminal(window: bytes) -> tuple[int, int]:
    """Its master and the program's side, of the terminals of the replica's own file system."""
    master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
    slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    fcntl.ioctl(master, _TIOCSWINSZ, window)
    return master, slave


def _become(slave: int, seccomp: bytes) -> None:
    """A session of its own on the terminal, without anything that a replica's own program does not have."""
    os.setsid()
    fcntl.ioctl(slave, _TIOCSCTTY, 0)
    for number in (0, 1, 2):
        os.dup2(slave, number)
    os.close(slave)
    os.chdir("/")
    if os.path.isdir("/work"):
        os.chdir("/work")
    for capability in range(64):
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # fails for those that this kernel does not have
    _call(_libc.prctl(_PR_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0), "capabilities")
    _call(_libc.capset(struct.pack("Ii", _CAPABILITY_VERSION_3, 0), bytes(24)), "capabilities")
    _call(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
    code = ctypes.create_string_buffer(seccomp, len(seccomp))
    filter_program = struct.pack("HxxxxxxP", len(seccomp) // 8, ctypes.addressof(code))
    _call(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_FILTER, filter_program, 0, 0), "the system-call filter")


def _execute(visit: Visit) -> None:
    """Raises OSError with words that a person can use."""
    worst = errno.ENOENT
    for words in visit.choices:
        for folder in visit.folders if b"/" not in words[0] else [b""]:
            try:
                os.execve(os.path.join(folder, words[0]), words, visit.environment)  # noqa: S606 - no shell is wanted
            except OSError as error:
                if error.errno not in {errno.ENOENT, errno.ENOTDIR}:
                    worst = error.errno or worst
    raise OSError(worst, f"{visit.shown}: {os.strerror(worst)}")
