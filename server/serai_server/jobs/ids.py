"""What a job's id looks like."""

from __future__ import annotations

import re

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def is_job_id(text: str) -> bool:
    """Whether a job could have this id; what cannot is unknown without a look into the store."""
    return _ID.fullmatch(text) is not None
