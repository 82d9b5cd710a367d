"""Why a job could not be started, as the server wants to know it: a value of model.Why and the detail that it asks for."""

from __future__ import annotations

import errno
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator

DRIVE_FULL = "the job's drive"


class StartFailure(OSError):
    """`why`: a value of model.Why; empty = the detail is words for a person."""

    def __init__(self, why: str, detail: str) -> None:
        super().__init__(detail)
        self.why, self.detail = why, detail


@contextmanager
def on_the_drive() -> Generator[None]:
    """Steps that write to the job's drive: when it is full, the failure says so."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise StartFailure("no_space", DRIVE_FULL) from error
        raise


def failure_of(error: OSError) -> StartFailure:
    return error if isinstance(error, StartFailure) else StartFailure("", f"the job could not be started: {error}")
