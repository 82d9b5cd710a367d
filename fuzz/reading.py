"""Runs targets that need no connection: each part in a process of its own, which may hang or die."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from fuzz.counting import read_counts
from fuzz.guided import available
from fuzz.readers import READERS
from fuzz.tally import Tally

GUIDED = 0.25
"""Share of the inputs that are led by what they reach, and the most of them: they take ten times as long as others."""
MOST_GUIDED = 20_000
_SLOWEST_PER_S = 40
"""Inputs; a process that is slower than this hangs."""
_ROOT = Path(__file__).parent.parent


def run(target: str, inputs: int, seed: int) -> Tally:
    """One target of `READERS`."""
    tally = Tally(target, seed)
    reader = READERS[target]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = folder / "corpus"
        corpus.mkdir()
        for at, content in enumerate(reader.seeds):
            (corpus / f"seed-{at}").write_bytes(content)
        guided = min(int(inputs * GUIDED), MOST_GUIDED) if available() else 0
        if guided:
            _part("guided", tally, guided, folder)
        _part("plain", tally, inputs - guided, folder)
    return tally.end()


def run_dispatching(inputs: int, seed: int) -> Tally:
    """Target `rpc`."""
    tally = Tally("rpc", seed)
    with tempfile.TemporaryDirectory() as name:
        _process(["fuzz.dispatching", str(inputs), str(seed), name], tally, inputs, Path(name), "")
    return tally.end()


def describe(content: bytes) -> str:
    """An input of `rpc`: its answer, method and metadata. Calls depend on those before them: the whole run is done again by its seed."""
    return "\n".join(line.decode(errors="replace")[:300] for line in content.split(b"\n")[:3])


def reproduce(target: str, content: bytes) -> str:
    """What becomes of one input; raises what it raises."""
    return READERS[target]().read(content)


def _part(module: str, tally: Tally, inputs: int, folder: Path) -> None:
    (folder / "counts.json").unlink(missing_ok=True)
    arguments = [f"fuzz.{module}", tally.target, str(inputs), str(tally.seed), str(folder)]
    _process(arguments, tally, inputs, folder, ", guided" if module == "guided" else "")


def _process(arguments: list[str], tally: Tally, inputs: int, folder: Path, suffix: str) -> None:
    """Runs `python -m …` and takes over what it counted and found. `suffix` of its classes of answers."""
    command = [sys.executable, "-m", *arguments]
    try:
        ended = subprocess.run(command, cwd=_ROOT, capture_output=True, timeout=60 + inputs / _SLOWEST_PER_S, check=False)
        code, said = ended.returncode, ended.stderr[-2_000:]
    except subprocess.TimeoutExpired as hung:
        code, said = -1, (hung.stderr or b"")[-2_000:]
    words = said.decode(errors="replace")
    counts = read_counts(folder)
    for answer, count in counts.answers.items():
        tally.add(answer + suffix, count)
    for what, file in counts.wrong.items():
        tally.find(what, (folder / file).read_bytes())
    # What libFuzzer itself stops at: an input that takes too long, or too much memory.
    for kind in ("timeout", "oom", "crash"):
        for file in folder.glob(f"{kind}-*"):
            tally.find(f"{kind}: {words[-300:]}", file.read_bytes())
    if code and not tally.finds:
        tally.find(f"{arguments[0]} ended with {code}: {words[-500:]}", b"")
    tally.growth_bytes, tally.limit_bytes = counts.growth_bytes, counts.limit_bytes
