"""What Core's answers mean for the events that were sent.

Statuses: facts 2021 §2.1, §2.2, §2.5 and §0.2 #7; facts today §3 and §9. A 4xx counts as Core's word only with Core's own error
body (`why`): a proxy's page or a wrong address must not make us believe that Core knows no job.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from serai.events.v1 import events_service_pb2 as events_pb2
from serai.events.v1.events_service_pb2 import SettlementOutcome

from serai_gateway.control.calls import words_of
from serai_gateway.control.transport import Answer

UPDATE_PATH = "/api/jobs/control/update"
CHARGE_PATH = "/api/jobs/control/chargeCredits"
LICENSE_UPDATE_PATH = "/api/licenses/control/update"
LICENSE_CHARGE_PATH = "/api/licenses/control/chargeCredits"
REGISTER_PATH = "/api/licenses/control/register"
USAGE_PATH = "/api/accounting/v2/reportUsage"
_UNKNOWN_2021 = "Unable to use all requested resources"
_NO_WALLET_2021 = "Unable to fulfill all requests"
"""No wallet pays for this product: nobody ever will (facts 2021 §2.2)."""
_CHARGE_PATHS = frozenset({CHARGE_PATH, LICENSE_CHARGE_PATH})
_NAMELESS = frozenset({USAGE_PATH, REGISTER_PATH})
"""Calls that name no job or license of Core's."""
_AWAY = frozenset({401, 403, 408, 425, 429, 502, 503, 504})
_FORBIDDEN_USAGE = (
    "This category does not exist",
    "This user/project does not exist",
    "You cannot report usage for this product",
    "Absolute usage cannot be negative",
)
"""With these words today's Core refuses an item of a report with 403; a token that it does not take is only "Forbidden"."""
_FORBIDDEN_PRODUCT = "forbidden"
"""And with this one a registration of another provider's product (core2's LicensesControlRegister)."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """Core has the whole batch."""

    short_of_funds: frozenset[str] = frozenset()
    """Keys of the jobs and licenses whose charge was not paid, or was a duplicate: 2021 says both in one list."""
    certain: bool = False
    """A charge that was sent before is answered as it was the first time, so Core's word on funds counts for it too."""
    core_ids: Mapping[str, str] = field(default_factory=dict[str, str])
    """Core's ids of licenses that were registered, by their keys."""


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
class Success:
    body: bytes


Result = Accepted | Rejected | Failed


def meaning(answer: Answer, path: str) -> Success | Rejected | Failed:
    status = answer.status
    if 200 <= status < 300:
        return Success(answer.body)
    why = words_of(answer)
    words = f"{status}: {why or 'no words'}"
    if is_word(path, answer):
        return Rejected(events_pb2.SETTLEMENT_OUTCOME_REFUSED, words)
    # A 404 to a report or a registration names no job: such a Core has no such call.
    if status in _AWAY or not 400 <= status < 600 or (path in _NAMELESS and status == 404):
        return Failed(f"{words} (is core.generation right?)" if status == 404 else words, by_content=False)
    # A registration that Core has already, perhaps: it is looked for before the next try.
    if status >= 500 or why is None or (path == REGISTER_PATH and status == 409):
        return Failed(words, by_content=True)
    return Rejected(_outcome(path, status, why), words)


def _outcome(path: str, status: int, why: str) -> SettlementOutcome.ValueType:
    if path in _CHARGE_PATHS and status == 400 and _NO_WALLET_2021 in why:
        return events_pb2.SETTLEMENT_OUTCOME_INSUFFICIENT_FUNDS
    unknown = path not in _NAMELESS and (status == 404 or (status == 400 and _UNKNOWN_2021 in why))
    return events_pb2.SETTLEMENT_OUTCOME_JOB_UNKNOWN if unknown else events_pb2.SETTLEMENT_OUTCOME_REFUSED


def is_word(path: str, answer: Answer) -> bool:
    """A 403 that is about the request and not about our token."""
    why = words_of(answer) if answer.status == 403 else None
    if why is None:
        return False
    return (path == USAGE_PATH and any(words in why for words in _FORBIDDEN_USAGE)) or (path == REGISTER_PATH and why == _FORBIDDEN_PRODUCT)
