"""The system-call filter of every replica, as a classic BPF program made by hand (no libseccomp).

Setuid and setgid bits cannot be set: inside they mean nothing, but the job's folder is on the host, where such a file would lend the
job's user id to whoever runs it. Namespaces alone leave open: the server's keyring, io_uring, AF_VSOCK (reaches the hypervisor), and new
user namespaces on kernels or bubblewraps without `--disable-userns`. Deny list: everything else a program may need stays allowed.
"""

from __future__ import annotations

import os
import struct

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16
_KILL_PROCESS, _ALLOW, _ERRNO = 0x80000000, 0x7FFF0000, 0x50000
_EPERM, _ENOSYS, _EAFNOSUPPORT = 1, 38, 97
_NAMESPACE_FLAGS = 0x7E020000
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_FAMILIES = (1, 2, 10, 16)
"""AF_UNIX, AF_INET, AF_INET6, AF_NETLINK."""
_X32_BIT = 0x40000000

_X86_64 = 0xC000003E
_AARCH64 = 0xC00000B7
_REFUSED: dict[int, tuple[int, ...]] = {
    # bpf keyctl add_key request_key io_uring_setup/enter/register userfaultfd perf_event_open mount umount2 pivot_root move_mount fsopen
    # open_tree fsmount fsconfig fspick mount_setattr setns unshare kexec_load kexec_file_load init_module finit_module delete_module
    # open_by_handle_at name_to_handle_at quotactl swapon swapoff reboot acct settimeofday adjtimex clock_settime clock_adjtime
    # pidfd_getfd
    _X86_64: (
        *(321, 250, 248, 249, 425, 426, 427, 323, 298, 165, 166, 155, 429, 430, 428, 432, 431, 433, 442, 308, 272),
        *(246, 320, 175, 313, 176, 304, 303, 179, 167, 168, 169, 163, 164, 159, 227, 305, 438),
    ),
    _AARCH64: (
        *(280, 219, 217, 218, 425, 426, 427, 282, 241, 40, 39, 41, 429, 430, 428, 432, 431, 433, 442, 268, 97),
        *(104, 294, 105, 273, 106, 265, 264, 60, 224, 225, 142, 89, 170, 171, 112, 266, 438),
    ),
}
_SOCKET = {_X86_64: 41, _AARCH64: 198}
_CLONE = {_X86_64: 56, _AARCH64: 220}
_IOCTL = {_X86_64: 16, _AARCH64: 29}
_SOCKET_PAIR = {_X86_64: 53, _AARCH64: 199}
_CLONE3 = 435
_OPENAT2 = 437
_SET_ID_BITS = 0o6000
_CREATES = 0o100 | 0o20000000
"""O_CREAT and O_TMPFILE: only with one of them does open read a mode."""
_MODE_ARGUMENT: dict[int, tuple[tuple[int, int], ...]] = {
    # chmod fchmod fchmodat fchmodat2 mknod mknodat creat: (number, which argument is the mode)
    _X86_64: ((90, 1), (91, 1), (268, 2), (452, 2), (133, 1), (259, 2), (85, 1)),
    _AARCH64: ((52, 1), (53, 2), (452, 2), (33, 2)),
}
_OPENS: dict[int, tuple[tuple[int, int], ...]] = {
    # open openat: (number, which argument are the flags; the next one is the mode)
    _X86_64: ((2, 1), (257, 2)),
    _AARCH64: ((56, 2),),
}
_MACHINES = {"x86_64": _X86_64, "aarch64": _AARCH64}


def _step(code: int, if_true: int, if_false: int, value: int) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


def _errno(number: int) -> bytes:
    return _step(_RETURN, 0, 0, _ERRNO | number)


def _argument(index: int) -> bytes:
    """Load the low half of an argument (little endian)."""
    return _step(_LOAD, 0, 0, _ARGUMENTS + 8 * index)


def _no_set_id(arch: int) -> list[bytes]:
    """EPERM for whatever would give a file the setuid or setgid bit."""
    allow, refuse = _step(_RETURN, 0, 0, _ALLOW), _errno(_EPERM)
    steps: list[bytes] = []
    for number, mode in _MODE_ARGUMENT[arch]:
        steps += [_step(_JUMP_EQUAL, 0, 4, number), _argument(mode), _step(_JUMP_SET, 0, 1, _SET_ID_BITS), refuse, allow]
    for number, flags in _OPENS[arch]:
        steps += [_step(_JUMP_EQUAL, 0, 6, number), _argument(flags), _step(_JUMP_SET, 0, 3, _CREATES)]
        steps += [_argument(flags + 1), _step(_JUMP_SET, 0, 1, _SET_ID_BITS), refuse, allow]
    # openat2 hides its mode behind a pointer: programs fall back to openat when it does not exist
    return [*steps, _step(_JUMP_EQUAL, 0, 1, _OPENAT2), _errno(_ENOSYS)]


def program(machine: str | None = None) -> bytes | None:
    """The filter for this processor; None = none is known for it (then `check` says so and jobs are refused)."""
    arch = _MACHINES.get(machine or os.uname().machine)
    if arch is None:
        return None
    allow = _step(_RETURN, 0, 0, _ALLOW)
    steps = [_step(_LOAD, 0, 0, _ARCH), _step(_JUMP_EQUAL, 1, 0, arch), _step(_RETURN, 0, 0, _KILL_PROCESS), _step(_LOAD, 0, 0, _NUMBER)]
    if arch == _X86_64:
        steps += [_step(_JUMP_AT_LEAST, 0, 1, _X32_BIT), _errno(_EPERM)]
    for number in _REFUSED[arch]:
        steps += [_step(_JUMP_EQUAL, 0, 1, number), _errno(_EPERM)]
    # clone3 hides its flags behind a pointer: libc falls back to clone when it does not exist
    steps += [_step(_JUMP_EQUAL, 0, 1, _CLONE3), _errno(_ENOSYS)]
    steps += [_step(_JUMP_EQUAL, 0, 4, _CLONE[arch]), _argument(0)]
    steps += [_step(_JUMP_SET, 0, 1, _NAMESPACE_FLAGS), _errno(_EPERM), allow]
    steps += [_step(_JUMP_EQUAL, 0, 5, _IOCTL[arch]), _argument(1)]
    steps += [_step(_JUMP_EQUAL, 1, 0, _TIOCSTI), _step(_JUMP_EQUAL, 0, 1, _TIOCLINUX), _errno(_EPERM), allow]
    steps += _no_set_id(arch)
    count = len(_FAMILIES)
    for number in (_SOCKET[arch], _SOCKET_PAIR[arch]):
        steps += [_step(_JUMP_EQUAL, 0, count + 3, number), _argument(0)]
        steps += [_step(_JUMP_EQUAL, count - i, 0, family) for i, family in enumerate(_FAMILIES)]
        steps += [_errno(_EAFNOSUPPORT), allow]
    return b"".join([*steps, allow])
