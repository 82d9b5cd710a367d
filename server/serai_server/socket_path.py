"""How long the path of a Unix socket may be, and what to do when it is longer: the kernel's own answer names neither."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

LONGEST = 107
"""Bytes, the closing zero byte left out (unix(7))."""


def is_too_long(path: str | Path) -> bool:
    return len(os.fsencode(path)) > LONGEST


def too_long(sockets: Mapping[str, str]) -> list[str]:
    """A line for each that no socket can be made at: paths by their settings."""
    return [
        f"{setting}: its path is longer than the {LONGEST} bytes that a Unix socket may have; set a shorter one, or a shorter "
        f"server.state_dir if it is there: {path}"
        for setting, path in sockets.items()
        if is_too_long(path)
    ]
