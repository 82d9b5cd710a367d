"""Inputs that are led by what they reach: atheris marks each branch of the code under test, and keeps what reaches a new one.

A process of its own (`python -m fuzz.guided`), because libFuzzer never gives it back. Where there is no atheris for a machine, inputs are
mutations of the seeds alone, and the table says so.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any, cast

from fuzz.counting import Counting

HANG_S = 20
"""One input may take so long; most take less than a millisecond."""
MEMORY_MB = 3_000


def available() -> bool:
    return importlib.util.find_spec("atheris") is not None


def main(target: str, inputs: int, seed: int, folder: Path) -> None:
    """In `folder`: `corpus/` with the seeds, to which is added what was found; `counts.json`; and the inputs of finds."""
    # By name: it is not there on every machine, and tells the type checker little.
    atheris: Any = importlib.import_module("atheris")

    with atheris.instrument_imports(include=["serai_gateway", "serai_server.cli"]):
        from fuzz.readers import READERS  # noqa: PLC0415 -- what is imported here is instrumented
    reader = READERS[target]()
    if target == "codec":
        _instrument_generated(atheris.instrument_func)
    chance = random.Random(seed)
    change = reader.change(chance)

    def mutate(content: bytes, most: int, _seed: int) -> bytes:
        if chance.random() < 0.2:
            return cast("bytes", atheris.Mutate(content, most))
        return change(content)[:most]

    flags = [f"-runs={inputs}", f"-seed={seed}", f"-max_len={reader.most_bytes}", f"-timeout={HANG_S}", f"-rss_limit_mb={MEMORY_MB}"]
    flags += ["-print_final_stats=0", "-verbosity=0", f"-artifact_prefix={folder}/", "-len_control=0"]
    atheris.Setup(["fuzz", str(folder / "corpus"), *flags], Counting(reader, folder, inputs), custom_mutator=mutate)
    atheris.Fuzz()


def _instrument_generated(instrument: Callable[[FunctionType], object]) -> None:
    """The codec's readers and writers are made from the descriptors when it starts: no import sees them."""
    for one in gc.get_objects():
        if isinstance(one, FunctionType) and one.__code__.co_filename.startswith("<serai codec"):
            instrument(one)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
