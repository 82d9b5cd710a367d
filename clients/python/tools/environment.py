"""Builds the wheel and installs it as users do, into build/venv, with what its tests need from the hashed lock.

Run by the Python of the project's environment, which has what a build of the wheel needs, so the build asks no registry.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
BUILD = HERE / "build"
PYTHON = BUILD / "venv" / "bin" / "python"
LOCK = HERE / "requirements.lock.txt"
_QUIET = ("--quiet", "--disable-pip-version-check")


def main() -> None:
    """Raises CalledProcessError."""
    ready = BUILD / "venv" / ".ready"
    if not ready.exists() or ready.read_bytes() != LOCK.read_bytes():
        venv.create(BUILD / "venv", clear=True, with_pip=True)
        _run(str(PYTHON), "-m", "pip", "install", *_QUIET, "--require-hashes", "-r", str(LOCK))
        ready.write_bytes(LOCK.read_bytes())
    wheels = BUILD / "dist"
    shutil.rmtree(wheels, ignore_errors=True)
    _run(sys.executable, "-m", "pip", "wheel", *_QUIET, "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(HERE))
    (wheel,) = wheels.glob("*.whl")
    _run(str(PYTHON), "-m", "pip", "install", *_QUIET, "--no-deps", "--no-index", "--force-reinstall", str(wheel))


def _run(*command: str) -> None:
    subprocess.run(command, cwd=HERE, stdin=subprocess.DEVNULL, check=True)


if __name__ == "__main__":
    main()
