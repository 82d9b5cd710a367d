"""How a license server stands after each look at it: pure rules."""

from __future__ import annotations

from dataclasses import dataclass, replace

from serai_server.licenses.ports import Standing, Status
from serai_server.licenses.servers.probe import Look


@dataclass(frozen=True, slots=True)
class Stand:
    standing: Standing = Standing.UNKNOWN
    failures: int = 0
    """Looks in a row that have failed."""
    words: str = ""
    """For users, while it is DOWN: those of the look that made it so. Each change of them is an event for every license of the product, so
    that one more or fewer of three which does not answer is told to operators alone."""
    details: str = ""
    """For operators, of the last look."""
    looked_at_ms: int = 0

    @property
    def status(self) -> Status:
        return Status(self.standing, self.words)


def after(stand: Stand, look: Look, probes_to_fail: int, now_ms: int) -> Stand:
    """One look that succeeds makes it UP; `probes_to_fail` in a row that fail make it DOWN. Until either, it stands as before."""
    if look.answers:
        return Stand(Standing.UP, details=look.details, looked_at_ms=now_ms)
    failures = stand.failures + 1
    seen = replace(stand, failures=failures, details=look.details, looked_at_ms=now_ms)
    if failures < probes_to_fail or stand.standing is Standing.DOWN:
        return seen
    return replace(seen, standing=Standing.DOWN, words=look.words)
