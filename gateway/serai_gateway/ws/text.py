"""Bytes of programs as text for JSON: never cut inside a character, and what is no UTF-8 is dropped (facts 2021 §3.3)."""

from __future__ import annotations

import codecs
from collections.abc import Iterator

PIECE_BYTES = 32 * 1024
"""Most bytes of output in one message, as the reference (facts 2021 §3.4); JSON's escapes come on top."""

_Utf8 = codecs.getincrementaldecoder("utf-8")


class Text:
    """One stream of output. A character that has begun waits for its other bytes; when they never come, it is dropped with the object."""

    def __init__(self, *, errors: str = "ignore") -> None:
        """`errors`: "ignore" drops what is no UTF-8, "replace" shows it as U+FFFD."""
        self._decoder = _Utf8(errors)

    def pieces(self, data: bytes) -> Iterator[str]:
        """What `data` completes, in pieces of at most about PIECE_BYTES; none is empty."""
        if len(data) <= PIECE_BYTES:
            text = self._decoder.decode(data)
            if text:
                yield text
            return
        for start in range(0, len(data), PIECE_BYTES):
            text = self._decoder.decode(data[start : start + PIECE_BYTES])
            if text:
                yield text

    def restart(self) -> None:
        """What comes next does not follow on what came before."""
        self._decoder.reset()
