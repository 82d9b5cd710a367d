"""Calls of Core's control API, and what its answers mean for the events that were sent.

Statuses: facts 2021 §2.1, §2.2, §2.5 and §0.2 #7; facts today §3 and §9. A 4xx counts as Core's word only with Core's own error
body (`why`): a proxy's page or a wrong address must not make us believe that Core knows no job.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from google.protobuf.message import Message
from serai.control.v1 import control_pb2
from serai.events.v1 import events_service_pb2 as events_pb2
from serai.events.v1.events_service_pb2 import SettlementOutcome

from serai_gateway.codec import Codec, WireError
from serai_gateway.control import generations
from serai_gateway.control.calls import Calls, words_of
from serai_gateway.control.queues import Lane
from serai_gateway.control.transport import Answer, CoreUnreachable
from serai_gateway.settings import Generation
from serai_gateway.tokens import TokenError

UPDATE_PATH = "/api/jobs/control/update"
CHARGE_PATH = "/api/jobs/control/chargeCredits"
USAGE_PATH = "/api/accounting/v2/reportUsage"
_UNKNOWN_2021 = "Unable to use all requested resources"
_NO_WALLET_2021 = "Unable to fulfill all requests"
"""No wallet pays for this product: nobody ever will (facts 2021 §2.2)."""
_AWAY = frozenset({401, 403, 408, 425, 429, 502, 503, 504})
_FORBIDDEN_USAGE = (
    "This category does not exist",
    "This user/project does not exist",
    "You cannot report usage for this product",
    "Absolute usage cannot be negative",
)
"""With these words today's Core refuses an item of a report with 403; a token that it does not take is only "Forbidden"."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """Core has the whole batch."""

    short_of_funds: frozenset[str] = frozenset()
    """Jobs whose charge was not paid, or was a duplicate: 2021 says both in one list."""
    certain: bool = False
    """A charge that was sent before is answered as it was the first time, so Core's word on funds counts for it too."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """Core refuses the batch for something in it, and has stored nothing of it."""

    outcome: SettlementOutcome.ValueType
    """What it means when the batch was one event."""
    why: str


@dataclass(frozen=True, slots=True)
class Failed:
    """No word of Core: send again later."""

    why: str
    by_content: bool
    """true: something in this batch may be the cause; false: Core cannot be reached."""


@dataclass(frozen=True, slots=True)
class _Success:
    body: bytes


Result = Accepted | Rejected | Failed

_object_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


class CoreClient:
    """Core's control API with our token."""

    def __init__(self, calls: Calls, codec: Codec, generation: Generation = "2021") -> None:
        self._generation: Generation = generation
        self._calls = calls
        self._codec = codec

    def lane_of(self, event: events_pb2.Event) -> Lane | None:
        """The call that carries the event; None = nothing of it is for Core."""
        return generations.lane_of(event, self._generation)

    async def send(self, lane: Lane, batch: Sequence[events_pb2.Event]) -> Result:
        """Events of one lane; at most one for each job."""
        match lane:
            case Lane.UPDATES:
                return await self._update(batch)
            case Lane.CHARGES:
                return await self._charge(batch)
            case Lane.USAGE:
                return await self._report_usage(batch)

    async def _update(self, batch: Sequence[events_pb2.Event]) -> Result:
        """One for each job, because Core compares all of a call with the state before it."""
        request = control_pb2.UpdateRequest()
        for event in batch:
            request.items.add(id=event.job_id, update=generations.update_of(event, self._generation))
        answer = await self._send(UPDATE_PATH, request)
        if not isinstance(answer, _Success):
            return answer
        # Core answers {} and other implementations nothing; a page of HTML is neither.
        if not answer.body.strip() or _is_object(answer.body):
            return Accepted()
        return Failed("the answer cannot be read", by_content=False)

    async def _charge(self, batch: Sequence[events_pb2.Event]) -> Result:
        """One for each job, because the answer names jobs only."""
        request = control_pb2.ChargeCreditsRequest(items=[generations.periods_of(event, self._generation) for event in batch])
        answer = await self._send(CHARGE_PATH, request)
        if not isinstance(answer, _Success):
            return answer
        try:
            wire = self._codec.read(control_pb2.ChargeCreditsResponse.DESCRIPTOR, answer.body)
        except WireError as error:
            return Failed(f"the answer cannot be read: {error}", by_content=False)
        response = control_pb2.ChargeCreditsResponse.FromString(wire)
        return Accepted(frozenset(job.id for job in response.insufficient_funds))

    async def _report_usage(self, batch: Sequence[events_pb2.Event]) -> Result:
        request = control_pb2.ReportUsageRequest(items=[generations.usage_of(event) for event in batch])
        answer = await self._send(USAGE_PATH, request)
        if not isinstance(answer, _Success):
            return answer
        try:
            wire = self._codec.read(control_pb2.ReportUsageResponse.DESCRIPTOR, answer.body)
        except WireError as error:
            return Failed(f"the answer cannot be read: {error}", by_content=False)
        paid = control_pb2.ReportUsageResponse.FromString(wire).responses
        if len(paid) != len(batch):
            return Failed(f"the answer has {len(paid)} elements for {len(batch)} reports", by_content=False)
        return Accepted(frozenset(event.job_id for event, is_paid in zip(batch, paid, strict=True) if not is_paid), certain=True)

    async def _send(self, path: str, request: Message) -> _Success | Rejected | Failed:
        is_word = _is_forbidden_usage if path == USAGE_PATH else _never
        try:
            answer = await self._calls.post(path, self._codec.write(request), is_word=is_word)
        except (CoreUnreachable, TokenError) as error:
            return Failed(str(error), by_content=False)
        return _meaning(answer, path)


def _meaning(answer: Answer, path: str) -> _Success | Rejected | Failed:
    status = answer.status
    if 200 <= status < 300:
        return _Success(answer.body)
    why = words_of(answer)
    words = f"{status}: {why or 'no words'}"
    if path == USAGE_PATH and _is_forbidden_usage(answer):
        return Rejected(events_pb2.SETTLEMENT_OUTCOME_REFUSED, words)
    # A 404 to a report names no job: such a Core has no such call.
    if status in _AWAY or not 400 <= status < 600 or (path == USAGE_PATH and status == 404):
        return Failed(f"{words} (is core.generation right?)" if status == 404 else words, by_content=False)
    if status >= 500 or why is None:
        return Failed(words, by_content=True)
    return Rejected(_outcome(path, status, why), words)


def _outcome(path: str, status: int, why: str) -> SettlementOutcome.ValueType:
    if path == CHARGE_PATH and status == 400 and _NO_WALLET_2021 in why:
        return events_pb2.SETTLEMENT_OUTCOME_INSUFFICIENT_FUNDS
    unknown = path != USAGE_PATH and (status == 404 or (status == 400 and _UNKNOWN_2021 in why))
    return events_pb2.SETTLEMENT_OUTCOME_JOB_UNKNOWN if unknown else events_pb2.SETTLEMENT_OUTCOME_REFUSED


def _never(_answer: Answer) -> bool:
    return False


def _is_forbidden_usage(answer: Answer) -> bool:
    why = words_of(answer) if answer.status == 403 else None
    return why is not None and any(words in why for words in _FORBIDDEN_USAGE)


def _is_object(body: bytes) -> bool:
    try:
        _object_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
