"""Jobs that are the site's own: tools made them, and UCloud/Core knows nothing of them.

Their ids say so, because a tool chooses the id of its job. So nobody has to look anywhere, nothing is forgotten over a restart, and no
tool can take an id that Core will give to a job of its own one day.
"""

from __future__ import annotations

PREFIX = "tool-"
SUBMITTED = f"{PREFIX}s-"
"""Of jobs that Submit made. Nobody chooses such an id: it follows from words that can be guessed, so whoever could take one would keep
another from its own, and whoever could try one would learn what others have submitted."""


def is_own(job_id: str) -> bool:
    """Core is told nothing of such a job, and asked nothing about it."""
    return job_id.startswith(PREFIX)


def is_submitted(job_id: str) -> bool:
    """Only Submit makes a job of this id."""
    return job_id.startswith(SUBMITTED)
