"""Errors that backends raise. The tree:

BackendError
├── BackendUnavailable   the machinery cannot be reached now; trying again later may work
├── JobNotThere          logs or sessions of a job that this backend does not know
├── SubmissionRefused    this job can never run here; the text says why
└── CursorExpired        `watch` cannot go on from that cursor: list everything, then watch from `now`
"""

from __future__ import annotations

from serai_backends.model import Why


class BackendError(Exception):
    """Base of all; the text is for a person and holds no secret."""


class BackendUnavailable(BackendError):
    pass


class JobNotThere(BackendError):
    def __init__(self, job_id: str) -> None:
        super().__init__(f"the backend does not know job {job_id}")
        self.job_id = job_id


class SubmissionRefused(BackendError):
    """`why` is its kind, the text then the detail that it asks for."""

    def __init__(self, text: str, why: Why = Why.NONE) -> None:
        super().__init__(text)
        self.why = why


class CursorExpired(BackendError):
    pass
