"""Bodies in a spelling where one character of a decoded text is one byte of UTF-8.

The reader builds protobuf's wire as one Latin-1 text and encodes it once, so the length of a text must be the length of its UTF-8. For
plain ASCII, which is nearly every body, that is so already and costs one scan. Any other body is respelled first: each byte above 0x7f
becomes the Latin-1 character of that number, so that a JSON reader hands out texts whose characters are the bytes of the UTF-8. Escapes of
characters above 0x7f are spelled out on the way, in raw JSON values too: the same value in other letters.
"""

from __future__ import annotations

import re

from serai_gateway.codec.errors import WireError

# Pairs of surrogates, single escapes, and every other escape so that a backslash is never read twice.
_ESCAPE = re.compile(rb"\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|.)", re.DOTALL)


def byte_text(body: bytes) -> bytes:
    """The body respelled; the same object when nothing had to change. Raises WireError for bytes that are not UTF-8."""
    if body.isascii():
        if b"\\" not in body or b"\\u" not in body:
            return body
    else:
        try:
            body.decode()
        except UnicodeDecodeError as wrong:
            raise WireError("", f"expected UTF-8, found a broken character at byte {wrong.start}") from None
    if b"\\u" in body:
        body = _ESCAPE.sub(_unescaped, body)
    return body.decode("latin-1").encode()


def plain(text: str) -> str:
    """A text out of a respelled body as it was meant, for people."""
    return text.encode("latin-1", "replace").decode("utf-8", "replace")


def _unescaped(match: re.Match[bytes]) -> bytes:
    high, low, single = match.groups()
    if high is not None:
        return chr(0x10000 + ((int(high, 16) & 0x3FF) << 10) + (int(low, 16) & 0x3FF)).encode()
    if single is None:
        return match[0]
    number = int(single, 16)
    # ASCII (quotes, control characters) stays escaped; lone surrogates stay for the JSON reader to refuse.
    return match[0] if number < 0x80 or 0xD800 <= number < 0xE000 else chr(number).encode()
