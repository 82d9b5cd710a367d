"""Calls of Core's control API: which carries which event, and how its answer is read. What the statuses mean: `results`."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from serai.control.v1 import control_pb2
from serai.events.v1 import events_service_pb2 as events_pb2

from serai_gateway.clock import Clock, SystemClock
from serai_gateway.codec import Codec, WireError
from serai_gateway.control import generations
from serai_gateway.control.calls import Calls
from serai_gateway.control.queues import Lane, key_of
from serai_gateway.control.registrations import Registrations
from serai_gateway.control.results import (
    CHARGE_PATH,
    LICENSE_CHARGE_PATH,
    LICENSE_UPDATE_PATH,
    UPDATE_PATH,
    USAGE_PATH,
    Accepted,
    Failed,
    Rejected,
    Result,
    Success,
    is_word,
    meaning,
)
from serai_gateway.control.transport import CoreUnreachable
from serai_gateway.settings import Generation
from serai_gateway.tokens import TokenError

_object_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


class CoreClient:
    """Core's control API with our token."""

    def __init__(self, calls: Calls, codec: Codec, generation: Generation = "2021", clock: Clock | None = None) -> None:
        self._generation: Generation = generation
        self._calls = calls
        self._codec = codec
        self._registrations = Registrations(calls, codec, generation, clock or SystemClock())

    def lane_of(self, event: events_pb2.Event) -> Lane | None:
        """The call that carries the event; None = nothing of it is for Core."""
        return generations.lane_of(event, self._generation)

    async def send(self, lane: Lane, batch: Sequence[events_pb2.Event]) -> Result:
        """Events of one lane; at most one for each job or license, and one registration."""
        match lane:
            case Lane.UPDATES:
                return await self._update(UPDATE_PATH, self._updates_of_jobs(batch))
            case Lane.LICENSE_UPDATES:
                return await self._update(LICENSE_UPDATE_PATH, _updates_of_licenses(batch))
            case Lane.CHARGES:
                request = control_pb2.ChargeCreditsRequest(items=self._charges(batch))
                return await self._charge(CHARGE_PATH, request, control_pb2.ChargeCreditsResponse.DESCRIPTOR, batch)
            case Lane.LICENSE_CHARGES:
                bill = control_pb2.LicensesControlServiceChargeCreditsRequest(items=self._charges(batch))
                answer = control_pb2.LicensesControlServiceChargeCreditsResponse.DESCRIPTOR
                return await self._charge(LICENSE_CHARGE_PATH, bill, answer, batch)
            case Lane.USAGE:
                return await self._report_usage(batch)
            case Lane.REGISTRATIONS:
                return await self._registrations.register(batch[0])

    def _updates_of_jobs(self, batch: Sequence[events_pb2.Event]) -> Message:
        """One for each job, because Core compares all of a call with the state before it."""
        request = control_pb2.UpdateRequest()
        for event in batch:
            request.items.add(id=event.job_id, update=generations.update_of(event, self._generation))
        return request

    def _charges(self, batch: Sequence[events_pb2.Event]) -> list[control_pb2.ResourceChargeCredits]:
        """One for each job or license, because the answer names those only."""
        return [generations.periods_of(event, self._generation) for event in batch]

    async def _update(self, path: str, request: Message) -> Result:
        answer = await self._send(path, request)
        if not isinstance(answer, Success):
            return answer
        # Core answers {} and other implementations nothing; a page of HTML is neither.
        if not answer.body.strip() or _is_object(answer.body):
            return Accepted()
        return Failed("the answer cannot be read", by_content=False)

    async def _charge(self, path: str, request: Message, response: Descriptor, batch: Sequence[events_pb2.Event]) -> Result:
        answer = await self._send(path, request)
        if not isinstance(answer, Success):
            return answer
        try:
            wire = self._codec.read(response, answer.body)
        except WireError as error:
            return Failed(f"the answer cannot be read: {error}", by_content=False)
        # Both answers have the same fields under the same numbers.
        unpaid = {one.id for one in control_pb2.ChargeCreditsResponse.FromString(wire).insufficient_funds}
        return Accepted(frozenset(key_of(event) for event in batch if generations.core_id(event) in unpaid))

    async def _report_usage(self, batch: Sequence[events_pb2.Event]) -> Result:
        request = control_pb2.ReportUsageRequest(items=[generations.usage_of(event) for event in batch])
        answer = await self._send(USAGE_PATH, request)
        if not isinstance(answer, Success):
            return answer
        try:
            wire = self._codec.read(control_pb2.ReportUsageResponse.DESCRIPTOR, answer.body)
        except WireError as error:
            return Failed(f"the answer cannot be read: {error}", by_content=False)
        paid = control_pb2.ReportUsageResponse.FromString(wire).responses
        if len(paid) != len(batch):
            return Failed(f"the answer has {len(paid)} elements for {len(batch)} reports", by_content=False)
        return Accepted(frozenset(key_of(event) for event, is_paid in zip(batch, paid, strict=True) if not is_paid), certain=True)

    async def _send(self, path: str, request: Message) -> Success | Rejected | Failed:
        try:
            answer = await self._calls.post(path, self._codec.write(request), is_word=lambda found: is_word(path, found))
        except (CoreUnreachable, TokenError) as error:
            return Failed(str(error), by_content=False)
        return meaning(answer, path)


def _updates_of_licenses(batch: Sequence[events_pb2.Event]) -> Message:
    request = control_pb2.LicensesControlServiceUpdateRequest()
    for event in batch:
        request.items.add(id=generations.core_id(event), update=generations.license_update_of(event))
    return request


def _is_object(body: bytes) -> bool:
    try:
        _object_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
