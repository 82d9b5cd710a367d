"""Looks for a secret in everything that leaves a process, in whatever form it may do so."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import threading
from collections.abc import Generator
from pathlib import Path


class Canary:
    """A secret, and the forms in which it could turn up."""

    def __init__(self, secret: str) -> None:
        self.secret = secret.encode()
        self.forms = {
            "as it is": self.secret,
            "in UTF-16, low byte first": secret.encode("utf-16-le"),
            "in UTF-16, high byte first": secret.encode("utf-16-be"),
            "in hex": self.secret.hex().encode(),
            "in HEX": self.secret.hex().upper().encode(),
            "backwards": self.secret[::-1],
        }
        for behind in range(3):
            # Whatever stands before and after it, these characters are the same.
            whole = base64.b64encode(bytes(behind) + self.secret)
            first, end = (behind * 8 + 5) // 6, (behind + len(self.secret)) * 8 // 6
            self.forms[f"in base64, {behind} behind"] = whole[first:end]
            self.forms[f"in URLs' base64, {behind} behind"] = whole[first:end].translate(bytes.maketrans(b"+/", b"-_"))

    def seen_in(self, content: bytes) -> list[str]:
        """The forms that are in there."""
        return [name for name, form in self.forms.items() if form in content]

    def seen_below(self, folder: Path) -> tuple[list[str], set[str]]:
        """Files that hold it, each with the form, and the names of all that were looked at."""
        found: list[str] = []
        names: set[str] = set()
        for file in folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # gone meanwhile
                if file.is_file() and not file.is_symlink():
                    names.add(file.name)
                    found += [f"{file}: {form}" for form in self.seen_in(file.read_bytes())]
        return found, names


class Watch:
    """Reads command lines and environments of all processes below this one, over and over, in a thread of its own."""

    def __init__(self, canary: Canary, state: Path) -> None:
        """`state`: the server's folder; the supervisors of its jobs outlive it and are below nobody."""
        self._canary = canary
        self._state = state
        self.leaks: set[str] = set()
        self.seen: set[str] = set()
        """Command lines."""
        self.rounds = 0
        self._over = threading.Event()

    @contextlib.contextmanager
    def watching(self) -> Generator[None]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.005):
            self._look()
            self.rounds += 1

    def _look(self) -> None:
        for pid in processes_below(os.getpid(), *_supervisors(self._state)):
            for name in ("cmdline", "environ"):
                with contextlib.suppress(OSError):  # it has ended meanwhile
                    content = Path(f"/proc/{pid}/{name}").read_bytes()
                    self.leaks.update(f"/proc/{pid}/{name}: {form}" for form in self._canary.seen_in(content))
                    if name == "cmdline":
                        self.seen.add(content.replace(b"\0", b" ").decode(errors="replace"))


def processes_below(*roots: int) -> set[int]:
    """The processes and all that came from them."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # The name in brackets may hold anything; the parent is the second field behind it.
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found = set(roots)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def _supervisors(state: Path) -> list[int]:
    found: list[int] = []
    for file in state.glob("local/jobs/*/begun"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            found.append(int(json.loads(file.read_text())["pid"]))
    return found
