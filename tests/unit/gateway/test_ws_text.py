"""Bytes of programs as text: whatever the cuts, the same characters."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st
from serai_gateway.ws.text import PIECE_BYTES, Text

ANY = st.one_of(
    st.binary(max_size=400), st.text(max_size=200).map(str.encode), st.sampled_from(["€" * 30_000, "a🦀" * 20_000]).map(str.encode)
)


@given(ANY, st.lists(st.integers(0, 400), max_size=12))
def test_cuts_change_nothing(data: bytes, cuts: list[int]) -> None:
    """Cut anywhere, also inside characters: the text is that of all bytes at once without what is no UTF-8."""
    text = Text()
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [piece for start, end in itertools.pairwise(places) for piece in text.pieces(data[start:end])]
    assert "".join(pieces) == data.decode("utf-8", "ignore")
    assert all(0 < len(piece.encode()) <= PIECE_BYTES + 3 for piece in pieces)


def test_a_character_waits_for_its_end() -> None:
    """Nothing of it is told before; what follows after a gap does not complete it."""
    text = Text()
    assert list(text.pieces("€".encode()[:2])) == []
    assert list(text.pieces("€".encode()[2:])) == ["€"]
    assert list(text.pieces("€".encode()[:2])) == []
    text.restart()
    assert list(text.pieces(b"x")) == ["x"]


def test_a_terminal_shows_what_cannot_be_read() -> None:
    """There a place is kept for what is no UTF-8."""
    assert list(Text(errors="replace").pieces(b"a\xffb")) == ["a�b"]
