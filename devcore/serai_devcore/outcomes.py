"""What a user sees of a call to a provider: which answers Core takes, and what it makes of the others.

facts 2021 §1.1, §1.3, §1.8, §7.3; today §6.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus

from serai_devcore.provider import REPEAT_ON, Answer
from serai_devcore.wire import Generation, Json, JsonObject, dig, dig_text

BAD_GATEWAY = 502
NOT_SUPPORTED = "FEATURE_NOT_SUPPORTED_BY_PROVIDER"


class Wants(Enum):
    """What Core must find in a good answer's body."""

    OBJECT = auto()
    """Any JSON object."""
    RESPONSES = auto()
    """An object with a list `responses`."""
    NOTHING = auto()
    """2xx is enough; the body is not read."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a user's call."""

    status: int
    """What the user gets; 200 = done."""
    why: str = ""
    error_code: str = ""
    body: Json = None
    """What Core hands on when all is well."""
    answer: Answer | None = None
    """What the provider said last; None = Core refused by itself and asked nobody."""

    @property
    def accepted(self) -> bool:
        return 200 <= self.status < 300

    def to_json(self) -> JsonObject:
        told: JsonObject = {} if self.accepted else {"why": self.why, "errorCode": self.error_code or None}
        return {"status": self.status} | told | {"body": self.body}


def outcome(answer: Answer, generation: Generation, wants: Wants = Wants.OBJECT, *, also_fine: Collection[int] = ()) -> Outcome:
    """How the call ended, by the provider's answer. `also_fine` = statuses that mean: not interested."""
    if answer.status in also_fine:
        return Outcome(200, body={}, answer=answer)
    if 200 <= answer.status < 300:
        if _holds(answer.body, wants):
            return Outcome(200, body=answer.body, answer=answer)
        return Outcome(BAD_GATEWAY, answer=answer)
    if answer.status == 0:
        return Outcome(BAD_GATEWAY, answer=answer)
    if generation is Generation.G2021 and answer.status in REPEAT_ON:
        # After its attempts Core of that time stumbles over bulk calls and gives up on single ones.
        return Outcome(500 if wants is Wants.RESPONSES else BAD_GATEWAY, answer=answer)
    why = dig_text(answer.body, "why")
    if not why and generation is Generation.G2021:
        why = _phrase(answer.status)
    return Outcome(answer.status, why, dig_text(answer.body, "errorCode"), answer=answer)


def refused(status: int, why: str, error_code: str = "") -> Outcome:
    """Core's own no."""
    return Outcome(status, why, error_code)


def bad_response(answer: Answer) -> Outcome:
    """An answer that has the wrong shape in a way that Core has words for."""
    return Outcome(BAD_GATEWAY, "Bad response from provider", answer=answer)


def shown(ended: Outcome) -> JsonObject:
    """What the provider said, and what a user would see of it."""
    told = heard(ended.answer)
    told["user"] = ended.to_json()
    return told


def heard(answer: Answer | None) -> JsonObject:
    if answer is None:
        return {"status": 0, "answer": None, "problem": "Core refused it by itself; the provider was not asked"}
    return {"status": answer.status, "answer": answer.body, "problem": answer.problem or None}


def created_ids(body: Json, count: int, generation: Generation) -> list[str | None] | None:
    """The provider's own ids in the answer to a create, one for each item; None = Core cannot read it.

    2021 §1.1 step 3: `responses` must be there, an element is null or has an id, a missing one counts as null, a comma is refused.
    today §6.1: any object will do, but an id must be a text.
    """
    if not isinstance(body, dict):
        return None
    responses = body.get("responses")
    if responses is None and generation is Generation.G2026:
        responses = []
    if not isinstance(responses, list):
        return None
    ids: list[str | None] = []
    for element in responses[:count]:
        own_id = dig(element, "id")
        if not (element is None or isinstance(own_id, str) or (generation is Generation.G2026 and own_id is None)):
            return None
        if isinstance(own_id, str) and "," in own_id and generation is Generation.G2021:
            return None
        ids.append(own_id if isinstance(own_id, str) else None)
    return ids + [None] * (count - len(ids))


def _holds(body: Json, wants: Wants) -> bool:
    match wants:
        case Wants.NOTHING:
            return True
        case Wants.OBJECT:
            return isinstance(body, dict)
        case Wants.RESPONSES:
            return isinstance(dig(body, "responses"), list)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
