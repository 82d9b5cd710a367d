"""The script that ends a shell of a replica, on processes of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from serai_backends.nomad.client import shells

END = Path(shells.__file__).with_name("shell_end.sh")
SERVER, SHELL = "0123456789abcdef", "00112233445566778899aabbccddeeff"


def children(process: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()}


def living(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("program", ["exec sleep 600", "while :; do read -r word; done"], ids=["begun", "about to begin"])
def test_what_holds_the_terminal_is_ended_with_its_program(program: str) -> None:
    """Also in the moment in which the two cannot be told apart by their words: the program is a copy of its holder until it is executed."""
    words = f": serai-shell {SERVER} {SHELL}\n({program})\nwhile read -r word; do :; done"
    with subprocess.Popen(["/bin/sh", "-c", words], stdin=subprocess.PIPE, start_new_session=True) as holder:
        try:
            while not (begun := children(holder.pid)):
                assert holder.poll() is None
            text = f"serai_server={SERVER} serai_shell={SHELL}\n{END.read_text()}"
            subprocess.run(["/bin/sh", "-c", text, "sh", "1"], check=True, timeout=60)
            assert holder.wait(10) == -9
            assert not [process for process in begun if living(process)]
        finally:
            if holder.poll() is None:
                os.killpg(holder.pid, signal.SIGKILL)
