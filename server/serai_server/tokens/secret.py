"""A token as text: `serai_{id}_{secret}`. The id is no secret and finds the token; the secret proves it."""

from __future__ import annotations

import hashlib
import re
import secrets

PREFIX = "serai_"
_FORM = re.compile(r"serai_([0-9a-f]{12})_([A-Za-z0-9_-]{43})").fullmatch


def new_id() -> str:
    """12 hexadecimal digits."""
    return secrets.token_hex(6)


def new_secret() -> str:
    """256 random bits, base64url."""
    return secrets.token_urlsafe(32)


def text_of(token_id: str, secret: str) -> str:
    return f"{PREFIX}{token_id}_{secret}"


def parts_of(text: str) -> tuple[str, str] | None:
    """(id, secret); None = it does not have a token's form."""
    found = _FORM(text)
    return (found[1], found[2]) if found else None


def hash_of(secret: str) -> bytes:
    """How a secret is kept. It is random and long, so that a plain hash cannot be turned back."""
    return hashlib.sha256(secret.encode()).digest()
