"""Exit codes with which the start script says that it never came to the program.

The script stands where the program will stand, so Nomad reports its end as the program's; jobfile/codes.py says when a code is taken for
the script's.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from serai_backends.model import End, Why
from serai_backends.nomad.jobfile import codes


def meaning(code: int, ran_ms: int, marks: AbstractSet[int] | None) -> tuple[End, Why, str] | None:
    """(end, kind, detail or "" = the program) of what ended `ran_ms` after its start; None = the code is the program's own.

    `marks` as in Around.
    """
    found = codes.explain(code, ran_ms, frozenset(marks) if marks is not None else None)
    if found is None:
        return None
    return (End.LOST if code == codes.RAN_BEFORE else End.START_FAILED), *found
