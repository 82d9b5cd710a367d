"""Inputs without guidance, in a process of its own (`python -m fuzz.plain`): mutations of the seeds and of what the guided part found.

Three times as fast as the guided part, and nothing but the code under test keeps memory here: libFuzzer keeps inputs.
"""

from __future__ import annotations

import gc
import os
import random
import sys
from pathlib import Path

from fuzz.counting import Counting
from fuzz.memory import Watch
from fuzz.readers import READERS

_LOOKS = 80


def main(target: str, inputs: int, seed: int, folder: Path) -> None:
    reader = READERS[target]()
    chance = random.Random(seed)
    change = reader.change(chance)
    corpus = [*reader.seeds, *(file.read_bytes() for file in sorted((folder / "corpus").glob("*")))]
    count = Counting(reader, folder, inputs)
    watch = Watch(os.getpid())
    gc.collect()
    gc.freeze()  # so that looking closely is quick
    for at in range(inputs):
        content = change(chance.choice(corpus))
        if chance.random() < 0.2:
            content = change(content)
        count(content[: reader.most_bytes])
        if at % max(1, inputs // _LOOKS) == 0:
            watch.look_closely(at)
    watch.look_closely(inputs)
    count.save(watch.growth_bytes(), watch.limit_bytes())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
