"""Repeated subtrees by their bytes: a resolved application comes with every job of that application and is two thirds of the body.

One table for each field. A hit costs a copy and a comparison instead of a parse and a walk. Bounded in entries and bytes: what the wire
sends decides what is in here. Keys are copies, because a kept msgspec.Raw would keep the whole request's buffer alive.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from serai_gateway.codec.wire import LENGTH, RefusedError, tag, varint


class SubtreeTable:
    """Raw JSON of one field to its piece of the wire, tag and length included; null is ''. For one thread at a time."""

    def __init__(
        self,
        number: int,
        decode: Callable[[msgspec.Raw], object],
        writers: Callable[[], tuple[Callable[[object], str], Callable[[object], str]]],
        *,
        required: bool,
        most_entries: int,
        most_bytes: int,
    ) -> None:
        self._tag = tag(number, LENGTH)
        self._decode = decode
        self._writers = writers
        self._write: Callable[[object], str] | None = None
        self._required = required
        self._most_entries = most_entries
        self._most_bytes = most_bytes
        self._bytes = 0
        self._pieces: dict[bytes, str] = {}
        self._seen: set[int] = set()
        # The last one, asked first: comparing costs a fifth of hashing, and bodies of one application come in runs.
        # One tuple: a key and a piece that do not belong together would be another job's application.
        self._last = (b"", "")

    def __call__(self, raw: msgspec.Raw) -> str:
        key = bytes(raw)
        last = self._last
        if key == last[0]:
            return last[1]
        piece = self._pieces.get(key)
        if piece is None:
            piece = self._made(key, raw)
        self._last = (key, piece)
        return piece

    def clear(self) -> None:
        """Forgets everything; for measurements of the cold path."""
        self._pieces.clear()
        self._seen.clear()
        self._bytes = 0
        self._last = (b"", "")

    def __len__(self) -> int:
        return len(self._pieces)

    @property
    def size_bytes(self) -> int:
        """Bytes of keys and pieces held."""
        return self._bytes

    def _made(self, key: bytes, raw: msgspec.Raw) -> str:
        if key == b"null":
            if self._required:
                raise RefusedError
            return ""
        write = self._write
        if write is None:
            write = self._write = self._writers()[0]
        value = self._decode(raw)
        try:
            body = write(value)
        except IndexError:
            body = self._writers()[1](value)
        piece = f"{self._tag}{varint(len(body))}{body}"
        # Kept from the second time on: what comes once only shall neither cost its keeping nor drive out what comes often.
        mark = hash(key)
        if mark in self._seen:
            self._keep(key, piece)
        else:
            if len(self._seen) >= self._most_entries * 4:
                self._seen.clear()
            self._seen.add(mark)
        return piece

    def _keep(self, key: bytes, piece: str) -> None:
        size = len(key) + len(piece)
        # One subtree that would fill the table is not worth the others.
        if size * 4 > self._most_bytes:
            return
        self._pieces[key] = piece
        self._bytes += size
        while len(self._pieces) > self._most_entries or self._bytes > self._most_bytes:
            oldest = next(iter(self._pieces))
            self._bytes -= len(oldest) + len(self._pieces.pop(oldest))
