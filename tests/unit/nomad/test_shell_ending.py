"""The words about a shell's end, found in its output wherever that was cut."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serai_backends.nomad.client.shells import Ending

SHELL = "0123456789abcdef"
MARK = b"\0serai-ended 0123456789abcdef 7\0"
WORDS = (b"x", b"\0", b"\0serai", b"\0serai-ended 0123456789abcdef ", b"-ended", b"7", b"12345\0", MARK[:-1])
PIECES = st.lists(st.sampled_from(WORDS)).filter(lambda pieces: re.search(rb"cdef \d{1,3}\0", b"".join(pieces)) is None)


def taken(ending: Ending, data: bytes, step: int) -> bytes:
    return b"".join(ending.output_of(data[at : at + step]) for at in range(0, len(data), step))


@given(PIECES, st.integers(1, 50))
def test_what_is_before_the_end_arrives_whole_and_what_is_after_does_not(pieces: list[bytes], step: int) -> None:
    """Bytes that look like the beginning of the end are the program's, too."""
    before = b"".join(pieces)
    ending = Ending(SHELL)
    assert taken(ending, before + b"!" + MARK + b"after", step) == before + b"!"
    assert ending.exit_code == 7


@given(PIECES, st.integers(1, 50))
def test_without_an_end_nothing_is_lost(pieces: list[bytes], step: int) -> None:
    """What was held back is given when the connection ends."""
    data = b"".join(pieces)
    ending = Ending(SHELL)
    assert taken(ending, data, step) + ending.rest() == data
    assert ending.exit_code is None
    assert ending.rest() == b""


@pytest.mark.parametrize("data", [b"$ ", b"\x1b[2J", b"\0 ", b"a\0b"])
def test_what_cannot_be_the_end_is_not_held_back(data: bytes) -> None:
    """A prompt is seen at once."""
    assert Ending(SHELL).output_of(data) == data


def test_no_more_is_held_back_than_the_end_is_long() -> None:
    """Whatever a program writes."""
    ending = Ending(SHELL)
    given = ending.output_of(MARK[:-1] + b"1" * 100_000)
    assert len(ending.rest()) <= len(MARK) + 3
    assert given
