"""serai.events.v1.EventsService over the event log."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from google.rpc import code_pb2, status_pb2
from serai.events.v1 import events_service_pb2 as pb

from serai_server.clock import Clock
from serai_server.errors import Forbidden, InvalidRequest
from serai_server.events.consumers import Asker, ConsumerReport
from serai_server.events.log import CORE, MOST_AT_ONCE, TakenOver
from serai_server.rpc.call import Call
from serai_server.rpc.iterate import converted
from serai_server.rpc.ports import Events
from serai_server.rpc.status import RpcFailure
from serai_server.store.model import EventKind, EventSettlement, Outcome, StoredEvent
from serai_server.store.token_model import Role

_LONGEST_DETAIL = 1_000
_LONGEST_ID = 250


class EventsServicer:
    def __init__(self, events: Events, clock: Clock) -> None:
        self._events = events
        self._clock = clock

    def Subscribe(self, request: pb.SubscribeRequest, call: Call) -> AsyncIterator[pb.SubscribeResponse]:
        _check_consumer(request.consumer, call)
        batches = self._events.subscribe(request.consumer, request.from_now, request.batch_size, _asker(call))
        return _until_taken_over(converted(batches, lambda batch: pb.SubscribeResponse(events=[_event(e) for e in batch])))

    async def Acknowledge(self, request: pb.AcknowledgeRequest, call: Call) -> pb.AcknowledgeResponse:
        _check_consumer(request.consumer, call)
        if not 1 <= len(request.settlements) <= MOST_AT_ONCE:
            # At /v1 a misspelled field is one that was not sent: that must not look like success.
            raise InvalidRequest(f"expected 1 to {MOST_AT_ONCE} settlements, found {len(request.settlements)}", field="settlements")
        now_ms = self._clock.now_ms()
        await self._events.acknowledge(
            request.consumer, [_settlement(s, i, now_ms) for i, s in enumerate(request.settlements)], _asker(call)
        )
        return pb.AcknowledgeResponse()

    async def ListConsumers(self, _request: pb.ListConsumersRequest, _call: Call) -> pb.ListConsumersResponse:
        return pb.ListConsumersResponse(consumers=map(_consumer, await self._events.consumers()))

    async def DropConsumer(self, request: pb.DropConsumerRequest, _call: Call) -> pb.DropConsumerResponse:
        await self._events.drop(request.consumer)
        return pb.DropConsumerResponse()

    async def GiveConsumer(self, request: pb.GiveConsumerRequest, _call: Call) -> pb.GiveConsumerResponse:
        await self._events.give(request.consumer, request.owner)
        return pb.GiveConsumerResponse()


async def _until_taken_over(answers: AsyncGenerator[pb.SubscribeResponse, None]) -> AsyncGenerator[pb.SubscribeResponse, None]:
    try:
        async with aclosing(answers):
            async for answer in answers:
                yield answer
    except TakenOver as error:
        # Only gateways meet it, and to them it is like any other end of a stream: it has no reason of the table.
        raise RpcFailure(status_pb2.Status(code=code_pb2.ABORTED, message=str(error))) from error


def _check_consumer(consumer: str, call: Call) -> None:
    """What a tool settles in Core's name, Core would never be told. Raises Forbidden."""
    if call.tool and consumer == CORE:
        raise Forbidden(f"the consumer {CORE!r} is UCloud/Core itself; choose a name of your own")


def _asker(call: Call) -> Asker:
    return Asker(call.tool, not call.tool or call.tool_role is Role.ADMIN)


def _consumer(report: ConsumerReport) -> pb.Consumer:
    backlog = report.backlog
    return pb.Consumer(
        name=backlog.consumer,
        owner=backlog.owner,
        settled_to=backlog.settled_to,
        unsettled_events=backlog.events,
        oldest_unsettled_at_ms=backlog.oldest_at_ms or None,
        last_seen_at_ms=backlog.seen_at_ms or None,
        subscriptions=report.subscriptions,
    )


def _event(stored: StoredEvent) -> pb.Event:
    event = pb.Event()
    if stored.kind is EventKind.LICENSE:
        event.MergeFromString(stored.body)
    event.sequence, event.occurred_at_ms, event.maybe_delivered = stored.sequence, stored.at_ms, stored.maybe_delivered
    event.job_id, event.license_id = stored.job_id, stored.license_id
    if stored.kind is EventKind.LICENSE:
        return event
    if stored.kind is EventKind.JOB_UPDATE:
        event.job_update.MergeFromString(stored.body)
        event.job_update.SetInParent()
    else:
        event.charge.MergeFromString(stored.body)
        event.charge.SetInParent()
    return event


def _settlement(settlement: pb.Settlement, index: int, now_ms: int) -> EventSettlement:
    try:
        outcome = Outcome(settlement.outcome)
    except ValueError as error:
        raise InvalidRequest(f"{settlement.outcome} is not an outcome", field=f"settlements[{index}].outcome") from error
    # Core's own words may be in it: what no database takes, or nobody reads, must not keep an event from being settled.
    detail = "".join(c if c.isprintable() else " " for c in settlement.detail[:_LONGEST_DETAIL])
    core_id = settlement.license_core_id
    if not core_id.isprintable() or len(core_id) > _LONGEST_ID:
        raise InvalidRequest("expected Core's id of a license", field=f"settlements[{index}].license_core_id")
    return EventSettlement(settlement.sequence, outcome, detail, now_ms, core_id)
