"""Start a job's supervisor, detached, so that it outlives this process and everything that happens to it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from serai_backends.local.supervisor.secrets import seal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serai_backends.local.folder import JobFolder
    from serai_backends.model import Secret

_PACKAGES = Path(__file__).resolve().parents[2]
# -I -S: no site packages, nothing of the environment; only the standard library and this package
_PYTHON = [sys.executable, "-I", "-S", "-c"]
_FIRST = f"import sys; sys.path.insert(0, {str(_PACKAGES)!r}); "
_CODE = f"{_FIRST}from serai_backends.local.supervisor.main import main; main()"


def launch(folder: JobFolder, secrets: Sequence[Secret] = ()) -> int:
    """Blocks until the job has begun or could not (some 50 ms). The exit codes are those of supervisor/main.py. Raises OSError."""
    passed = (seal((secret.name, secret.content) for secret in secrets),) if secrets else ()
    try:
        return _launch(folder, passed)
    finally:
        for fd in passed:
            os.close(fd)


def _launch(folder: JobFolder, passed: tuple[int, ...]) -> int:
    log = os.open(folder.path / "supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and code
            [*_PYTHON, _CODE, str(folder.path), *map(str, passed)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env={"PATH": "/usr/bin:/bin"},
            start_new_session=True,
            pass_fds=passed,
        )
    finally:
        os.close(log)
    return process.wait()


def run_code(code: str, timeout_s: float) -> subprocess.CompletedProcess[bytes]:
    """Run code of this package in an interpreter like a supervisor's. Raises OSError, subprocess.TimeoutExpired."""
    words = [*_PYTHON, _FIRST + code]
    return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=timeout_s, cwd="/", env={})  # noqa: S603 - as above
