"""What became of each input that was read in this process, kept in a file: the process may end anywhere, which is a find too."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import msgspec

from fuzz.reader import Reader

EVERY = 1_000
"""Inputs between two times that the counts are kept."""
_MOST_WRONG = 20


class Counts(msgspec.Struct):
    """The file."""

    answers: dict[str, int] = {}
    wrong: dict[str, str] = {}
    """What was wrong to the name of the file with the input."""
    growth_bytes: int = 0
    limit_bytes: int = 0


class Counting:
    """Reads inputs. `inputs`: how many there will be."""

    def __init__(self, reader: Reader, folder: Path, inputs: int) -> None:
        self._reader = reader
        self._folder = folder
        self._left = inputs
        self._answers: Counter[str] = Counter()
        self._wrong: dict[str, str] = {}

    def __call__(self, content: bytes) -> None:
        try:
            answer = self._reader.read(content)
        except Exception as error:
            answer = "wrong"
            self._keep(f"{type(error).__name__}: {error}"[:300], content)
        self._answers[answer] += 1
        self._left -= 1
        if self._left % EVERY == 0:
            self.save()

    def _keep(self, words: str, content: bytes) -> None:
        if words not in self._wrong and len(self._wrong) < _MOST_WRONG:
            name = f"wrong-{len(self._wrong)}"
            (self._folder / name).write_bytes(content)
            self._wrong[words] = name

    def save(self, growth_bytes: int = 0, limit_bytes: int = 0) -> None:
        counts = Counts(dict(self._answers), self._wrong, growth_bytes, limit_bytes)
        (self._folder / "counts.json").write_text(json.dumps(msgspec.to_builtins(counts)))


def read_counts(folder: Path) -> Counts:
    """Of a process that has ended; zeros when it said nothing."""
    file = folder / "counts.json"
    return msgspec.json.decode(file.read_bytes(), type=Counts) if file.exists() else Counts()
