"""Processes that write to a store until they are killed, and say what they were answered: both sides of the tests of kill -9.

A victim is a module of `fakes` that calls `run` as a program. It reads lines "url round" and starts a child for each, by fork, so that a
round costs no start of Python. It writes "pid N", then a line for each answer, then "ended" when the child was reaped.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path

ROUNDS = 20


def say(*words: object) -> None:
    """One write, so that no line is ever half."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def run(write: Callable[[str, str], Coroutine[object, object, None]]) -> None:
    """`write` takes a store's address and a name of the round; it goes on until it is killed."""
    for line in sys.stdin:
        url, prefix = line.split()
        child = os.fork()
        if child == 0:
            say("pid", os.getpid())
            try:
                asyncio.run(write(url, prefix))
            finally:
                os._exit(1)
        os.waitpid(child, 0)
        say("ended")


def killed_rounds(victim: str, url: str, *, seed: int, most: int) -> Generator[list[list[str]]]:
    """The answers of each round, in words. A round is killed after a number of them that is chance, less than `most`, and may have said
    some more by then. `victim`: its module."""
    chance = random.Random(seed)
    command = [sys.executable, "-m", victim]
    folder = Path(__file__).parents[1]
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(ROUNDS):
            process.stdin.write(f"{url} r{number}\n")
            process.stdin.flush()
            pid, left, answers = 0, chance.randrange(1, most), list[list[str]]()
            for line in process.stdout:
                words = line.split()
                if words[0] == "ended":
                    break
                if words[0] == "pid":
                    pid = int(words[1])
                    continue
                answers.append(words)
                left -= 1
                if left == 0:
                    os.kill(pid, signal.SIGKILL)
            assert left <= 0, "the victim ended by itself"
            yield answers
        process.stdin.close()
