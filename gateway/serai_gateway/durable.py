"""Small files that hold secrets or must not be lost: written whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_durably(file: Path, content: bytes, mode: int = 0o600) -> None:
    """Replaces `file` by one with this content and `mode`. After it returns, a power cut does not undo it; before, the old one is there."""
    # A name of its own: two writers must not write into one file, nor follow a link that somebody laid there.
    new = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        new.replace(file)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    _sync_folder(file.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
