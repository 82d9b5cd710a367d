"""The targets that read in this process, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fuzz import calls, texts, tokens
from fuzz.reader import Reader

READERS: Mapping[str, Callable[[], Reader]] = {
    "codec": calls.codec,
    "query": calls.query,
    "frames": texts.frames,
    "tokens": tokens.tokens,
    "settings": texts.settings,
    "pages": texts.pages,
}
