"""What the gateway counts: requests within bounds that no stranger moves, calls to Core, deliveries."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from fakes.clock import FakeClock
from serai.events.v1 import events_service_pb2 as pb
from serai_gateway.access import Answered
from serai_gateway.control.observed import ObservedClient, ObservedTransport
from serai_gateway.control.queues import Lane
from serai_gateway.control.results import Accepted, Failed, Rejected, Result
from serai_gateway.control.transport import Answer, AnswerTooLong, CoreUnreachable
from serai_gateway.counts import CountedAccess, GatewayCounts

MS = 1_000_000


class Log:
    def __init__(self) -> None:
        self.lines: list[Answered] = []

    def add(self, answered: Answered) -> None:
        self.lines.append(answered)


def test_requests_are_counted_and_logged() -> None:
    """Each once, with its time."""
    counts, log = GatewayCounts(), Log()
    access = CountedAccess(counts, log)
    access.add(Answered("POST", "/jobs", 200, MS))
    access.add(Answered("POST", "/jobs", 200, MS))
    access.add(Answered("POST", "/jobs", 400, MS, "id", reason="INVALID_REQUEST"))
    assert counts.requests.counts() == {("POST", "/jobs", 200, ""): 2, ("POST", "/jobs", 400, "INVALID_REQUEST"): 1}
    assert sum(counts.requests.times(2)["POST", "/jobs"].counts) == 3
    assert log.lines == [*[Answered("POST", "/jobs", 200, MS)] * 2, Answered("POST", "/jobs", 400, MS, "id", reason="INVALID_REQUEST")]


def test_strangers_make_no_series() -> None:
    """Methods are theirs, and statuses of pages are the applications'."""
    counts = GatewayCounts()
    access = CountedAccess(counts, None)
    for number in range(500):
        access.add(Answered(f"METHOD{number}", "none", 405, MS))
        access.add(Answered("GET", "web", 200 + number % 400, MS))
        access.add(Answered(f"METHOD{number}", "authz", 200, MS))
    access.add(Answered("GET", "web", 0, MS))
    assert set(counts.requests.counts()) == {
        ("other", "none", 405, ""),
        ("other", "authz", 200, ""),
        *(("GET", "web", f"{digit}xx", "") for digit in (0, 2, 3, 4, 5)),
    }


def test_websockets_are_counted_apart() -> None:
    """They have bytes, and no time that would say anything."""
    counts = GatewayCounts()
    access = CountedAccess(counts, None)
    access.add(Answered("WEBSOCKET", "/follow", 101, MS, carried=(10, 2_000)))
    access.add(Answered("WEBSOCKET", "/follow", 101, MS, carried=(1, 0)))
    access.add(Answered("WEBSOCKET", "none", 404, MS))
    access.add(Answered("WEBSOCKET", "web", 0, MS, carried=(0, 0)))
    assert counts.requests.counts() == {}
    assert counts.sockets.counts == {("/follow", "101"): 2, ("none", "404"): 1, ("web", "other"): 1}
    assert counts.socket_bytes.counts["/follow", "sent"] == 2_000
    assert counts.socket_bytes.counts["/follow", "received"] == 11


class Core:
    """A Transport."""

    def __init__(self) -> None:
        self.next: Answer | BaseException = Answer(200, b"")

    async def post(self, path: str, body: bytes, bearer: str | None) -> Answer:
        if isinstance(self.next, BaseException):
            raise self.next
        return self.next

    async def get(self, path: str, bearer: str | None) -> Answer:
        return await self.post(path, b"", bearer)


async def test_calls_to_core_are_counted_by_what_became_of_them() -> None:
    """The query is no part of a call's name, for it holds what is asked."""
    core, counts = Core(), GatewayCounts()
    transport = ObservedTransport(core, counts, None)
    await transport.get("/api/browse?filterState=RUNNING&next=abc", None)
    core.next = Answer(503, b"")
    assert (await transport.post("/api/update", b"{}", "token")).status == 503
    for error in (CoreUnreachable("x"), AnswerTooLong("x"), asyncio.CancelledError()):
        core.next = error
        with pytest.raises(type(error)):
            await transport.post("/api/update", b"{}", "token")
    assert counts.core_calls.counts() == {
        ("/api/browse", "200"): 1,
        ("/api/update", "503"): 1,
        ("/api/update", "unreachable"): 1,
        ("/api/update", "too_long"): 1,
        ("/api/update", "cancelled"): 1,
    }


class Client:
    def __init__(self, result: Result) -> None:
        self.result = result

    def lane_of(self, event: pb.Event) -> Lane | None:
        return Lane.UPDATES

    async def send(self, lane: Lane, batch: Sequence[pb.Event]) -> Result:
        return self.result


EVENTS = [pb.Event(sequence=n, job_id=f"j{n}", occurred_at_ms=1_700_000_000_000 - 3_000) for n in (1, 2)]


@pytest.mark.parametrize(
    ("result", "batch", "delivered", "retried", "lags"),
    [
        (Accepted(), EVENTS, {("updates", "delivered"): 2}, 0, 2),
        (Accepted(frozenset({"job j1"})), EVENTS, {("updates", "delivered"): 1, ("updates", "insufficient_funds"): 1}, 0, 2),
        (Rejected(pb.SETTLEMENT_OUTCOME_JOB_UNKNOWN, "x"), EVENTS, {}, 0, 0),
        (Rejected(pb.SETTLEMENT_OUTCOME_JOB_UNKNOWN, "x"), EVENTS[:1], {("updates", "job_unknown"): 1}, 0, 0),
        (Failed("x", by_content=False), EVENTS, {}, 2, 0),
    ],
)
async def test_deliveries_are_counted_when_core_has_said_its_word(
    result: Result, batch: list[pb.Event], delivered: dict[tuple[str, str], int], retried: int, lags: int
) -> None:
    """A batch that is refused for something in it is not refused yet: it comes again in halves. A failure is one for each event."""
    counts = GatewayCounts()
    assert await ObservedClient(Client(result), counts, None, FakeClock()).send(Lane.UPDATES, batch) is result
    assert {labels: count for labels, count in counts.delivered.counts.items() if count} == delivered
    assert counts.retried.counts.get(("updates",), 0) == retried
    spread = counts.delivery_ns.by_labels.get(("updates",))
    assert (sum(spread.counts) if spread else 0) == lags
    assert spread is None or spread.total == lags * 3_000 * MS


async def test_an_event_of_the_future_was_not_under_way() -> None:
    """The server's clock may be ahead of the gateway's."""
    counts = GatewayCounts()
    event = pb.Event(sequence=1, job_id="j", occurred_at_ms=1_700_000_009_000)
    await ObservedClient(Client(Accepted()), counts, None, FakeClock()).send(Lane.UPDATES, [event])
    assert counts.delivery_ns.by_labels["updates",].total == 0
