"""Words for what is expected of an answer, shared by the rules; and how a rule is written down."""

from __future__ import annotations

from collections.abc import Callable

from serai_conformance.client import Answer
from serai_conformance.model import Broken, Check, Generation, Phase, Rule
from serai_conformance.wire import Json, JsonObject, dig, kind_of, shown, text_at

NOT_SUPPORTED = "FEATURE_NOT_SUPPORTED_BY_PROVIDER"


def rule(
    name: str,
    asks: str,
    source: str,
    *,
    generations: frozenset[Generation] = frozenset(Generation),
    needs: tuple[str, ...] = (),
    needs_core: bool = False,
    phase: Phase = Phase.MAIN,
) -> Callable[[Check], Rule]:
    """Makes a rule of the function that checks it."""

    def made(check: Check) -> Rule:
        return Rule(name, asks, source, check, generations, needs, needs_core, phase)

    return made


def accepted(answer: Answer) -> JsonObject:
    """The object that a 2xx answer holds."""
    if not answer.ok:
        raise Broken(f"{answer.words}, where 200 was expected")
    if not isinstance(answer.body, dict):
        found = kind_of(answer.body) if answer.is_json else "no JSON"
        raise Broken(f"{answer.call} was answered {answer.status} with {found} ({shown(answer.raw)}), where an object was expected")
    return answer.body


def responses(answer: Answer, count: int) -> list[Json]:
    """The elements of a bulk answer: exactly one for each item."""
    found = accepted(answer).get("responses")
    if not isinstance(found, list):
        raise Broken(f"{answer.call}: `responses` is {kind_of(found)}, where a list was expected ({shown(answer.raw)})")
    if len(found) != count:
        raise Broken(f"{answer.call}: {len(found)} responses to {count} items; Core takes them by their place")
    return found


def done(answer: Answer, count: int, generation: Generation) -> None:
    """A bulk call without anything to say: `{}` or null for each item. Today's Core reads no more of it than that it is an object."""
    if generation is Generation.G2026:
        accepted(answer)
        return
    for at, element in enumerate(responses(answer, count)):
        if element not in ({}, None):
            raise Broken(f"{answer.call}: responses[{at}] is {kind_of(element)} with something in it, where {{}} or null was expected")


def refused(answer: Answer, *statuses: int) -> None:
    """An error with one of the statuses; none named = any 4xx."""
    if not answer.status:
        raise Broken(answer.words)
    if answer.status not in statuses if statuses else not 400 <= answer.status < 500:
        expected = " or ".join(str(status) for status in statuses) or "an error of 4xx"
        raise Broken(f"{answer.words}, where {expected} was expected")


def unsupported(answer: Answer) -> None:
    """Refused as something that the provider does not do."""
    refused(answer)
    code = text_at(answer.body, "errorCode")
    if code != NOT_SUPPORTED:
        raise Broken(f"{answer.words} with errorCode {code or 'null'}, where {NOT_SUPPORTED} was expected for what is not declared")


def own_id(element: Json, where: str) -> None:
    """An element of a create's answer: null, or an object with the provider's own id."""
    if element is None:
        return
    found = dig(element, "id")
    if not isinstance(element, dict) or not isinstance(found, str) or not found:
        raise Broken(f"{where} is {shown(str(element).encode())}, where null or an object with an id was expected")
    if "," in found:
        raise Broken(f"{where}.id has a comma ({found}): Core refuses such ids")
