# pathlib would cost each supervisor time, as in the product
# ruff: noqa: PTH119
"""A launcher and supervisor that end at a fault point; started by fakes.chaos.victim in place of the product's. Only the standard library.

The supervisor is pid 1 of its own namespace, where it is immune to signals from inside: it ends by `_exit`, which runs nothing of Python.
"""

from __future__ import annotations

import os
import signal
import sys

from serai_backends.common import files
from serai_backends.local import journal
from serai_backends.local.supervisor import main as product
from serai_backends.local.supervisor.plan import BEGUN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


def main(point: str, hurt: str, passed: str) -> None:
    # Opened now: the supervisor gives its user and its view of the files up.
    hurt_fd = os.open(hurt, _FLAGS, 0o600)
    passed_fd = os.open(passed, _FLAGS, 0o600) if passed else -1
    job_id = os.path.basename(sys.argv[1])

    def at(name: str) -> None:
        if passed_fd >= 0:
            os.write(passed_fd, f"{name}\n".encode())
        if name == point:
            os.write(hurt_fd, f"{job_id} {name}\n".encode())
            if os.getpid() == 1:
                os._exit(137)
            os.kill(os.getpid(), signal.SIGKILL)

    write_atomic, append = files.write_atomic, journal.append

    def write(dir_fd: int, name: str, data: bytes, mode: int = 0o600) -> None:
        if name == BEGUN:
            at("launcher.begun.before")
        write_atomic(dir_fd, name, data, mode)
        if name == BEGUN:
            at("launcher.begun.after")

    def add(fd: int, lines: Iterable[journal.Line]) -> None:
        lines = list(lines)
        kinds = [kind for kind in ("start", "end", "done") if os.getpid() == 1 and any(line.get("k") == kind for line in lines)]
        for kind in kinds:
            at(f"supervisor.{kind}.before")
        append(fd, lines)
        for kind in kinds:
            at(f"supervisor.{kind}.after")

    files.write_atomic = write
    journal.append = add
    product.main()
