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
from serai_gateway.control.transport import Answer, CoreUnreachable, Transport
from serai_gateway.settings import Generation
from serai_gateway.tokens import TokenError, Tokens

UPDATE_PATH = "/api/jobs/control/update"
CHARGE_PATH = "/api/jobs/control/chargeCredits"
_UNKNOWN_2021 = "Unable to use all requested resources"
_NO_WALLET_2021 = "Unable to fulfill all requests"
"""No wallet pays for this product: nobody ever will (facts 2021 §2.2)."""
_AWAY = frozenset({401, 403, 408, 425, 429, 502, 503, 504})
_LONGEST_WORDS = 500


@dataclass(frozen=True, slots=True)
class Accepted:
    """Core has the whole batch."""

    short_of_funds: frozenset[str] = frozenset()
    """Jobs whose charge was not paid, or was a duplicate: 2021 says both in one list."""


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


class _ErrorBody(msgspec.Struct):
    why: str


_error_decoder = msgspec.json.Decoder(_ErrorBody)
_object_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


class CoreClient:
    """Core's control API with our token."""

    def __init__(self, transport: Transport, tokens: Tokens, codec: Codec, generation: Generation = "2021") -> None:
        self._generation = generation
        self._transport = transport
        self._tokens = tokens
        self._codec = codec

    async def update(self, batch: Sequence[events_pb2.Event]) -> Result:
        """Tells Core of updates; at most one for each job, because Core compares all of a call with the state before it."""
        request = control_pb2.UpdateRequest()
        for event in batch:
            request.items.add(id=event.job_id, update=event.job_update)
        answer = await self._send(UPDATE_PATH, request)
        if not isinstance(answer, _Success):
            return answer
        # Core answers {} and other implementations nothing; a page of HTML is neither.
        if not answer.body.strip() or _is_object(answer.body):
            return Accepted()
        return Failed("the answer cannot be read", by_content=False)

    async def charge(self, batch: Sequence[events_pb2.Event]) -> Result:
        """Bills; at most one charge for each job, because the answer names jobs only."""
        request = control_pb2.ChargeCreditsRequest()
        for event in batch:
            charge = event.charge
            request.items.add(
                id=event.job_id,
                charge_id=charge.charge_id,
                units=charge.units,
                number_of_products=charge.number_of_products,
                description=charge.description or None,
                # Today's Core bills periods times the job's replicas and reads neither units nor products (facts today §9).
                periods=charge.units if self._generation == "2026" else None,
            )
        answer = await self._send(CHARGE_PATH, request)
        if not isinstance(answer, _Success):
            return answer
        try:
            wire = self._codec.read(control_pb2.ChargeCreditsResponse.DESCRIPTOR, answer.body)
        except WireError as error:
            return Failed(f"the answer cannot be read: {error}", by_content=False)
        response = control_pb2.ChargeCreditsResponse.FromString(wire)
        return Accepted(frozenset(job.id for job in response.insufficient_funds))

    async def _send(self, path: str, request: Message) -> _Success | Rejected | Failed:
        try:
            answer = await self._post(path, self._codec.write(request))
        except (CoreUnreachable, TokenError) as error:
            return Failed(str(error), by_content=False)
        return _meaning(answer, path)

    async def _post(self, path: str, body: bytes) -> Answer:
        token = await self._tokens.current()
        answer = await self._transport.post(path, body, token)
        # 2021 says 401, today's Core makes a guest of us and says 403 (facts today §3).
        if answer.status not in {401, 403}:
            return answer
        token = await self._tokens.renewed(instead_of=token)
        return await self._transport.post(path, body, token)


def _meaning(answer: Answer, path: str) -> _Success | Rejected | Failed:
    status = answer.status
    if 200 <= status < 300:
        return _Success(answer.body)
    why = _why(answer.body)
    words = f"{status}: {why or 'no words'}"
    if status in _AWAY or not 400 <= status < 600:
        return Failed(words, by_content=False)
    if status >= 500 or why is None:
        return Failed(words, by_content=True)
    if path == CHARGE_PATH and status == 400 and _NO_WALLET_2021 in why:
        return Rejected(events_pb2.SETTLEMENT_OUTCOME_INSUFFICIENT_FUNDS, words)
    unknown = status == 404 or (status == 400 and _UNKNOWN_2021 in why)
    return Rejected(events_pb2.SETTLEMENT_OUTCOME_JOB_UNKNOWN if unknown else events_pb2.SETTLEMENT_OUTCOME_REFUSED, words)


def _why(body: bytes) -> str | None:
    try:
        return _error_decoder.decode(body).why[:_LONGEST_WORDS]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _is_object(body: bytes) -> bool:
    try:
        _object_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
