"""What reads something that came from outside, as a target: seeds, how they are changed, and what must hold for any bytes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass


class Wrong(Exception):
    """A rule does not hold; the text says which. Any other exception that leaves `Reader.read` is a find as well."""


@dataclass(frozen=True, slots=True)
class Reader:
    """One target. One input is one text, message or file that is read."""

    name: str
    seeds: Sequence[bytes]
    change: Callable[[random.Random], Callable[[bytes], bytes]]
    """From a source of chance to a function that makes an input of another."""
    read: Callable[[bytes], str]
    """To the class of answer: "read" or "refused". Raises for what must not be."""
    most_bytes: int = 64 * 1024


def choosing(inner: Callable[[bytes], bytes], choices: int, chance: random.Random) -> Callable[[bytes], bytes]:
    """For inputs whose first byte chooses what reads the rest: that is changed now and then, the rest by `inner`."""

    def change(content: bytes) -> bytes:
        head = content[:1] or b"\0"
        if chance.random() < 0.05:
            head = bytes([chance.randrange(choices)])
        return head + inner(content[1:])

    return change


def chosen(content: bytes, choices: int) -> tuple[int, bytes]:
    """What the first byte chooses, and the rest."""
    return (content[0] if content else 0) % choices, content[1:]
