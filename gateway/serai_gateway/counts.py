"""What the gateway counts of its work. Plain numbers: who shows them, and in which form, is not its matter.

Every label is a word of ours or of the table of routes. What others choose, such as an HTTP method or the status of an application's page,
is put into one of few words first, so no stranger can make the sets grow.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from serai.events.v1.events_service_pb2 import SettlementOutcome
from serai_telemetry.counts import LAG_BOUNDS, Outcomes, Spreads, Tally

from serai_gateway.access import Access, Answered
from serai_gateway.control.queues import Lane

METHODS = frozenset(("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"))
"""Those that are shown by their name; any other one is "other"."""
_PAGES = "web"
"""Template of applications' pages, whose statuses are the applications' own."""
WEBSOCKET = "WEBSOCKET"
"""A WebSocket's method in the access log."""


def word_of(outcome: SettlementOutcome.ValueType) -> str:
    """An outcome as it is shown, by the gateway as by the server: "insufficient_funds"."""
    return SettlementOutcome.Name(outcome).removeprefix("SETTLEMENT_OUTCOME_").lower()


_WORDS = tuple(word_of(outcome) for outcome in SettlementOutcome.values() if outcome)


@dataclass(frozen=True, slots=True)
class GatewayCounts:
    requests: Outcomes = field(default_factory=Outcomes)
    """(HTTP method, route's template, status, reason)."""
    sockets: Tally = field(default_factory=Tally)
    """(template, status of the handshake) of WebSockets that have ended."""
    sockets_open: Tally = field(default_factory=Tally)
    """(template,), now."""
    socket_bytes: Tally = field(default_factory=Tally)
    """(template, "received" or "sent")."""
    core_calls: Outcomes = field(default_factory=Outcomes)
    """(path of Core's API, status or a word)."""
    delivered: Tally = field(default_factory=lambda: Tally((lane.value, word) for lane in Lane for word in _WORDS))
    """Events by (lane, outcome)."""
    retried: Tally = field(default_factory=lambda: Tally((lane.value,) for lane in Lane))
    """Events by (lane,) that are to be sent once more."""
    delivery_ns: Spreads = field(default_factory=lambda: Spreads(LAG_BOUNDS))
    """(lane,): from what happened to Core's answer."""


class CountedAccess:
    """Counts every request and hands it on to the access log."""

    def __init__(self, counts: GatewayCounts, log: Access | None) -> None:
        """`log` None = there is none."""
        self._counts = counts
        self._seen = counts.requests.by_labels
        self._write = log.add if log is not None else None

    def add(self, answered: Answered) -> None:
        # Each create passes here: one look-up for what was there before.
        spread = self._seen.get((answered.method, answered.path, answered.status, answered.reason))
        if spread is None:
            self._count(answered)
        else:
            spread.add(answered.took_ns)
        if self._write is not None:
            self._write(answered)

    def _count(self, of: Answered) -> None:
        if of.method == WEBSOCKET:
            _count_socket(self._counts, of.path, of.status, of.carried)
            return
        shown = of.method if of.method in METHODS else "other"
        # Of an application's answers only the class counts.
        self._counts.requests.add((shown, of.path, of.status if of.path != _PAGES else f"{of.status // 100}xx", of.reason), of.took_ns)


def _count_socket(counts: GatewayCounts, path: str, status: int, carried: tuple[int, int] | None) -> None:
    # Like 101 a status of 0 says nothing of an error: nobody waited for the answer any more.
    counts.sockets.add((path, str(status) if 100 <= status < 600 else "other"))
    if carried is not None:
        counts.socket_bytes.add((path, "received"), carried[0])
        counts.socket_bytes.add((path, "sent"), carried[1])
