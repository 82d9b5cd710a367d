"""Becomes another program that does not outlive the one that started it: `python child.py PARENT PROGRAM ARGUMENT…`.

An Envoy that is left alone would keep its port: the next one shares it (SO_REUSEPORT), and half of the calls go to the one that leads
nowhere. Standard library only, and run as a file: it lives for some ms.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_SET_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG, prctl(2). Kept over execve; the thread that forked counts as parent."""


def main(arguments: list[str]) -> None:
    """Returns only when the parent is gone already."""
    parent, *command = arguments
    if ctypes.CDLL(None, use_errno=True).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    # Its log tells who came when: for its owner alone. Sockets have a mode of their own.
    os.umask(0o077)
    # It may have ended before the line above.
    if os.getppid() == int(parent):
        os.execv(command[0], command)  # noqa: S606 - no shell, and the program is the operator's choice


if __name__ == "__main__":
    main(sys.argv[1:])
    sys.exit(1)
