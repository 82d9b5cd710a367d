"""Whether a shell can be opened in a job on this machine: tried in the trial job (see probe.py), not guessed."""

from __future__ import annotations

import json
import os
import socket
import time
from typing import TYPE_CHECKING

from serai_backends.local.adopt import dial

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serai_backends.local.folder import JobFolder

_TRIES, _PAUSE_S = 1000, 0.01
"""Until the trial job's program runs."""
_TIMEOUT_S = 10.0
_MESSAGE_BYTES = 4096


def shell_trial(folder: JobFolder, argv: Sequence[str]) -> str | None:
    """Run `argv` on a terminal in the trial job; None = it ended with 0. Otherwise why not. Blocks."""
    connection = dial(folder)
    if connection is None:
        return "the supervisor of a trial job does not answer"
    with connection:
        connection.settimeout(_TIMEOUT_S)
        try:
            return _said(connection, argv)
        except OSError as error:
            return f"the supervisor of a trial job does not answer: {error}"


def _said(connection: socket.socket, argv: Sequence[str]) -> str | None:
    """Raises OSError."""
    question = json.dumps({"op": "shell", "rank": 0, "argv": list(argv), "columns": 80, "rows": 24}).encode()
    for _ in range(_TRIES):
        connection.send(question)
        facts = _answer(connection)
        if not facts.get("gone"):
            break
        time.sleep(_PAUSE_S)
    else:
        return "the program of a trial job did not start in time"
    if "ok" not in facts:
        return str(facts.get("error"))
    code = _answer(connection).get("exit")
    return None if code == 0 else f"a program on a terminal ended with {code}"


def _answer(connection: socket.socket) -> dict[str, object]:
    """Raises OSError, also when there is none any more."""
    data, fds, _, _ = socket.recv_fds(connection, _MESSAGE_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
    for fd in fds:
        os.close(fd)
    if not data:
        raise ConnectionResetError("it has ended")
    return json.loads(data)
