"""The peer of bench/front.py: a small program in Go, built anew by each run from bench/peer and the client for Go."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).parent
_SOURCE = _HERE / "peer"


@dataclass(frozen=True)
class Peer:
    port: int
    pid: int


def start_peer(stack: ExitStack, folder: Path, cpu: int) -> Peer | None:
    """On one CPU, as what it is compared with; ends with `stack`. None without Go here. CalledProcessError when it cannot be built."""
    if shutil.which("go") is None:
        return None
    program = folder / "peer"
    subprocess.run([sys.executable, "tools/generate.py", "--imports"], cwd=_HERE.parent, check=True)
    for command in (["buf", "generate"], ["go", "build", "-o", str(program), "."]):
        subprocess.run(command, cwd=_SOURCE, check=True)
    process = stack.enter_context(subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("no pipes")
    stack.callback(process.stdin.close)
    for thread in Path(f"/proc/{process.pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {cpu})
    return Peer(int(process.stdout.readline()), process.pid)
