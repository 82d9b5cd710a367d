"""What a target did: how many inputs, how they were answered, what it took, and what was wrong."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from fuzz.reader import Wrong

FINDS = Path(__file__).parent / "finds"
"""Inputs that broke something, one file each; not committed. What was mended moves to `corpus/`, which the tests run."""
CORPUS = Path(__file__).parent / "corpus"
MOST_FINDS = 20
"""Of one target: then it stops. They are mostly one and the same."""


@dataclass(frozen=True, slots=True)
class Find:
    """Something that must not be."""

    what: str
    """For a person: what was expected, what happened."""
    file: Path
    """The input."""
    command: str
    """Does it once more."""


@dataclass(slots=True)
class Tally:
    """Of one target. `inputs`: what counts as one is in the target's docstring."""

    target: str
    seed: int
    inputs: int = 0
    answers: Counter[str] = field(default_factory=Counter[str])
    """Class of answer ("2xx", "refused") to how many."""
    seconds: float = 0.0
    growth_bytes: int = 0
    """Of the process under test, from the end of its warm-up to the end; see `memory`."""
    limit_bytes: int = 0
    """Most that it may be."""
    finds: list[Find] = field(default_factory=list[Find])
    _began: float = field(default_factory=time.monotonic)

    def add(self, answer: str, count: int = 1) -> None:
        """`count` inputs were answered so."""
        self.inputs += count
        self.answers[answer] += count

    def find(self, what: str, content: bytes) -> None:
        """Keep the input of a find."""
        FINDS.mkdir(exist_ok=True)
        file = FINDS / f"{self.target}-{hashlib.sha256(content).hexdigest()[:12]}"
        file.write_bytes(content)
        shown = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
        self.finds.append(Find(what, file, f"python -m fuzz {self.target} --input {shown}   # seed {self.seed}"))

    @property
    def full(self) -> bool:
        """There is no use in going on."""
        return len(self.finds) >= MOST_FINDS

    @property
    def grows(self) -> bool:
        return self.growth_bytes > self.limit_bytes

    @property
    def holds(self) -> bool:
        return not self.finds and not self.grows

    def told(self, words: str) -> str:
        """`words` about one input that was done again. Wrong when there is a find."""
        if self.finds:
            raise Wrong("; ".join([words, *(find.what for find in self.finds)]))
        return words

    def end(self) -> Tally:
        """Stop the clock."""
        self.seconds = time.monotonic() - self._began
        return self


def status_class(status: int) -> str:
    """ "2xx" for 200 and the like; 0 = the connection ended without an answer."""
    return f"{status // 100}xx" if status else "no answer"
