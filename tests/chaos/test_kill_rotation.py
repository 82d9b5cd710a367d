"""A server that is killed while it rotates the key file: at each step every vendor's key can be read, and the next rotation finishes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.rotation_victim import KEYS, STEPS, answers
from serai_server.clock import SystemClock
from serai_server.licenses.servers.registry import running_servers
from serai_server.licenses.servers.watcher import Pacing
from serai_server.store.open import open_store


def key_files(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if "key" in entry.name)


@pytest.mark.parametrize("step", STEPS)
async def test_killed_while_keys_are_rotated(tmp_path: Path, step: str) -> None:
    """With SQLite and a process that is really killed."""
    command = [sys.executable, "-m", "fakes.rotation_victim", str(tmp_path), step]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    victim = subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False)  # noqa: ASYNC221 - nothing else runs
    assert victim.returncode == -signal.SIGKILL, victim.stderr.decode()
    file = tmp_path / "licenses.key"
    async with (
        open_store(f"sqlite:///{tmp_path / 'serai.db'}", lambda _: None) as store,
        running_servers(store.licenses, SystemClock(), key_file=file, pacing=Pacing(), probe_timeout_ms=1_000, connect=answers) as servers,
    ):
        for _ in range(2):
            found = {name: (await servers.reach(f"example/licenses/{name}")).key for name in KEYS}
            assert found == KEYS
            assert await servers.rotate() == len(KEYS)
        assert len([line for line in file.read_text().splitlines() if not line.startswith("#")]) == 1
    assert key_files(tmp_path) == ["licenses.key"]
