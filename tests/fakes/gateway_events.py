"""The server's event log as the gateway sees it, an Upstream: unsettled events in order, then new ones; first outcome stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

from google.rpc import code_pb2
from serai.core.v1 import resources_pb2
from serai.events.v1 import events_service_pb2 as events_pb2
from serai.jobs.v1 import job_pb2
from serai.licenses.v1 import license_pb2
from serai_gateway.upstream import UpstreamError, status

Event = events_pb2.Event


class FakeEventLog:
    def __init__(self, events: list[Event] | None = None) -> None:
        self.events: dict[int, Event] = {event.sequence: event for event in events or ()}
        self.outcomes: dict[int, int] = {}
        self.details: dict[int, str] = {}
        self.core_ids: dict[int, str] = {}
        """Of licenses that were registered."""
        self.acknowledged: list[int] = []
        """Every settlement that came, in order, repeated ones too."""
        self.subscribed = 0
        self.sent = 0
        self.breaks: Iterator[int | None] = iter(())
        """For each subscription: after how many messages it breaks; None = never."""
        self.ack_faults: Iterator[str | None] = iter(())
        """For each Acknowledge: "before" or "after" it was stored."""
        self.changed = asyncio.Event()
        self.batch_size = 0
        self.on_send: Callable[[], None] = lambda: None

    def add(self, event: Event) -> None:
        self.events[event.sequence] = event
        self._tell()

    def unsettled(self) -> list[Event]:
        return [event for sequence, event in sorted(self.events.items()) if sequence not in self.outcomes]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits until the log is as wanted; TimeoutError after 20 s."""
        async with asyncio.timeout(20):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def until_settled(self) -> None:
        await self.until(lambda: not self.unsettled())

    async def unary(self, method: str, request: bytes, metadata: Mapping[str, str], timeout_s: float) -> bytes:
        assert method == "/serai.events.v1.EventsService/Acknowledge"
        assert metadata["serai-caller"] == "core"
        fault = next(self.ack_faults, None)
        if fault != "before":
            message = events_pb2.AcknowledgeRequest.FromString(request)
            assert message.consumer == "core"
            assert 1 <= len(message.settlements) <= 1_000  # the server refuses others
            for settlement in message.settlements:
                self.acknowledged.append(settlement.sequence)
                if settlement.sequence not in self.outcomes:
                    self.outcomes[settlement.sequence] = settlement.outcome
                    self.details[settlement.sequence] = settlement.detail
                    if settlement.license_core_id:
                        self.core_ids[settlement.sequence] = settlement.license_core_id
            self._tell()
        if fault is not None:
            raise UpstreamError(status(code_pb2.UNAVAILABLE, "away"))
        return b""

    async def exchange(self, method: str, requests: AsyncIterator[bytes], metadata: Mapping[str, str]) -> AsyncIterator[bytes]:
        raise AssertionError("no shells here")
        yield b""

    async def stream(self, method: str, request: bytes, metadata: Mapping[str, str]) -> AsyncIterator[bytes]:
        assert method == "/serai.events.v1.EventsService/Subscribe"
        message = events_pb2.SubscribeRequest.FromString(request)
        self.subscribed += 1
        self.batch_size = message.batch_size
        breaks_after = next(self.breaks, None)
        messages = 0
        after = 0
        while True:
            if breaks_after is not None and messages >= breaks_after:
                raise UpstreamError(status(code_pb2.UNAVAILABLE, "the stream broke"))
            batch = [event for event in self.unsettled() if event.sequence > after][: message.batch_size or 1000]
            if batch:
                after = batch[-1].sequence
                messages += 1
                self.sent += len(batch)
                self.on_send()
                yield events_pb2.SubscribeResponse(events=batch).SerializeToString()
            else:
                self._grown = asyncio.Event()
                await self._grown.wait()

    def _tell(self) -> None:
        self.changed.set()
        grown: asyncio.Event | None = getattr(self, "_grown", None)
        if grown is not None:
            grown.set()


def update(sequence: int, job_id: str, words: str | None = None) -> Event:
    """A status update whose words are its own name."""
    return Event(sequence=sequence, job_id=job_id, occurred_at_ms=sequence, job_update=job_pb2.JobUpdate(status=words or f"u{sequence}"))


def charge(sequence: int, job_id: str, units: int = 1) -> Event:
    return Event(
        sequence=sequence,
        job_id=job_id,
        occurred_at_ms=sequence,
        charge=events_pb2.Charge(charge_id=f"c{sequence}", units=units, number_of_products=1),
    )


def total(sequence: int, job_id: str, usage: int, project: str = "") -> Event:
    """A charge that knows all that the job has used so far, and who pays."""
    event = charge(sequence, job_id)
    event.charge.total_usage = usage
    event.charge.owner.created_by = "user"
    if project:
        event.charge.owner.project = project
    event.charge.product.CopyFrom(resources_pb2.ProductReference(id="cpu-1", category="cpu", provider="example"))
    return event


def license_update(sequence: int, license_id: str, *, core_id: str = "", words: str = "") -> Event:
    """A status update of a license whose words are its own name."""
    said = license_pb2.LicenseUpdate(status=words or f"u{sequence}", state=license_pb2.LICENSE_STATE_READY)
    return Event(sequence=sequence, license_id=license_id, license_core_id=core_id, occurred_at_ms=sequence, license_update=said)


def license_charge(sequence: int, license_id: str, *, core_id: str = "", attempt: int = 1, price: int = 5) -> Event:
    event = Event(sequence=sequence, license_id=license_id, license_core_id=core_id, occurred_at_ms=sequence)
    event.charge.CopyFrom(
        events_pb2.Charge(
            charge_id=f"license-{license_id}-{attempt}",
            units=1,
            number_of_products=1,
            total_units=1,
            total_usage=price,
            owner=resources_pb2.ResourceOwner(created_by="user"),
            product=resources_pb2.ProductReference(id="lic-1", category="lic", provider="example"),
        )
    )
    return event


def registration(sequence: int, license_id: str, *, project: str | None = None) -> Event:
    """A license that was made here."""
    event = Event(sequence=sequence, license_id=license_id, occurred_at_ms=sequence)
    event.license_registration.CopyFrom(
        events_pb2.LicenseRegistration(
            spec=license_pb2.LicenseSpecification(product=resources_pb2.ProductReference(id="lic-1", category="lic", provider="example")),
            provider_generated_id=license_id,
            owner=resources_pb2.ResourceOwner(created_by="user", project=project),
        )
    )
    return event


def name_of(event: Event) -> str:
    """How FakeCore records the event."""
    return event.job_update.status if event.WhichOneof("change") == "job_update" else event.charge.charge_id
