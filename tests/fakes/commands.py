"""`serai` as a process would run it, in the test's own: its exit code and what stands on its two outputs."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any, AnyStr, Generic

import pytest
from serai_server.cli.main import run


@dataclass(frozen=True)
class Ran(Generic[AnyStr]):
    """A command that has ended."""

    code: int
    out: AnyStr
    """Bytes where a test looks at those."""
    err: str

    @property
    def words(self) -> str:
        """What it says to people, without the end of the last line."""
        return self.err.removesuffix("\n")

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def ran(capture: pytest.CaptureFixture[AnyStr], *arguments: str) -> Ran[AnyStr]:
    """Runs `serai` with these arguments. What anything else has written since the last look counts as its output."""
    code = run(list(arguments))
    sys.stdout.flush()
    sys.stderr.flush()
    seen = capture.readouterr()
    return Ran(code, seen.out, seen.err if isinstance(seen.err, str) else seen.err.decode())
