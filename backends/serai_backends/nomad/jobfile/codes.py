"""Exit codes by which a replica's start says that the program was never run.

Nomad tells nothing of a task but its exit code, and a program may use any of them itself. So a code is only taken for the start's when
  1. the task ended within START_MS of its start (a start that takes longer does not exist: the wait for the firewall is 30 s), and
  2. where /work is a shared folder, what the start script left there agrees (`JobFolders.marks`): the folder `.ucloud/rank-{rank}`, made
     before anything else, says that it was reached, and `.ucloud/start-{rank}-{code}` that it gave up and why, and
  3. for RAN_BEFORE it ended within GUARD_MS: the guard comes first, and nobody pays for what was not yet billed of a rank that ends so.
A program that ends with such a code by itself has no mark. What is left: a user can make a mark by hand, within START_MS, to have an own
job called "not started"; and without a shared folder a program that ends with one of these codes within START_MS is misread. A program
whose interpreter (`#!`) or loader is missing ends with 126 or 127 as if by itself.
"""

from __future__ import annotations

from serai_backends.model import Why

RAN_BEFORE = 213
"""The guard: this rank was started before, whatever became of it. Nothing ran now."""
FOLDER_NOT_OURS = 214
"""What the node mounted at /work is not the job's folder: it was moved, removed, or replaced by a link."""
FIREWALL = 215
"""The rules of the network were not loaded in time."""
NOT_FOUND = 216
NOT_EXECUTABLE = 217
NOT_READY = 218
"""The node or the image lacks something (mounts, `env`, a log file that can be written)."""
NO_ADDRESSES = 219
"""The addresses of the ranks did not come as they should, or /etc/ucloud could not be written."""

START_MS = 60_000
GUARD_MS = 5_000
NOT_BEGUN = -1
"""Among the marks of a rank: its start script never came so far as to say that it runs."""
MARKED = frozenset({RAN_BEFORE, FIREWALL, NOT_FOUND, NOT_EXECUTABLE, NOT_READY, NO_ADDRESSES})

MEANING: dict[int, tuple[Why, str]] = {
    RAN_BEFORE: (Why.NONE, "Nomad started it a second time, which the start script refused; the first time nobody saw how it ended"),
    FOLDER_NOT_OURS: (Why.SANDBOX_FAILED, "the job's folder was moved or replaced while the job was started"),
    FIREWALL: (Why.SANDBOX_FAILED, "the node could not load the job's firewall rules"),
    NOT_FOUND: (Why.COMMAND_NOT_FOUND, ""),
    NOT_EXECUTABLE: (Why.COMMAND_NOT_EXECUTABLE, ""),
    NOT_READY: (Why.SANDBOX_FAILED, "the node could not make the job's folders ready"),
    NO_ADDRESSES: (Why.SANDBOX_FAILED, "the addresses of the job's ranks could not be written to /etc/ucloud"),
}
"""Why, and the detail; empty = the program's name."""


_NOT_RUN = "its start script could not be run: an image needs /bin/sh, a node for programs of its own unshare and setpriv of util-linux"


def explain(code: int, ran_ms: int, marks: frozenset[int] | None) -> tuple[Why, str] | None:
    """Why the start failed, and the detail, empty where it is the program's name; None = it did not, the code is the program's.

    `ran_ms`: between start and end of the task. `marks`: of JobFolders.marks; None = there is no shared folder.
    """
    if ran_ms > START_MS:
        return None
    if marks is not None and NOT_BEGUN in marks:
        return MEANING.get(code) or ((Why.SANDBOX_FAILED, _NOT_RUN) if 0 < code <= 127 else None)
    if code == RAN_BEFORE and ran_ms > GUARD_MS:
        return None
    if code not in MEANING or not (marks is None or code in marks):
        return None
    return MEANING[code]


BEGUN = 0
"""No exit code: in JobFolders.marks, that the start script came to the program."""
