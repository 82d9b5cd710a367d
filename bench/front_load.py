"""The load generator of bench/front.py: a small program in Go, built by each run from bench/load; without Go that of bench/gateway.py.

It may not push aside what it measures: on a CPU that both need, it gets its turn when the other waits (SCHED_BATCH, sched(7)), and so takes
several answers at a time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from bench.gateway import start, start_program

_SOURCE = Path(__file__).parent / "load"


def start_load(stack: ExitStack, folder: Path, cpu: int) -> tuple[IO[str], IO[str], str]:
    """On one CPU, ends with `stack`: its input, its output, and what it is in. CalledProcessError when it cannot be built."""
    if shutil.which("go") is None:
        return *start(stack, "bench.gateway_load", cpu)[:2], "Python"
    program = folder / "load"
    subprocess.run(["go", "build", "-o", str(program), "."], cwd=_SOURCE, check=True)
    ask, answer, pid = start_program(stack, cpu, str(program))
    os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0))
    return ask, answer, "Go"
