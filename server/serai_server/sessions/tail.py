"""The last bytes of a stream, by their place in it: what somebody who comes back to a terminal is shown."""

from __future__ import annotations


class Tail:
    """Bytes `start` to `end` of a stream that began at 0; never more than `most` of them."""

    def __init__(self, most: int) -> None:
        """`most` in bytes."""
        self._most = most
        self._bytes = bytearray()
        self._end = 0

    @property
    def start(self) -> int:
        """Place of the first byte that is kept."""
        return self._end - len(self._bytes)

    @property
    def end(self) -> int:
        """Bytes that came in all."""
        return self._end

    def add(self, data: bytes) -> None:
        self._bytes += data
        self._end += len(data)
        if len(self._bytes) > self._most:
            del self._bytes[: len(self._bytes) - self._most]

    def read(self, at: int, most: int) -> bytes:
        """At most `most` bytes from place `at` on, which is not before `start`; empty = there are no more yet."""
        begin = at - self.start
        return bytes(memoryview(self._bytes)[begin : begin + most])
