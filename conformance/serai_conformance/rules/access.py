"""Who is let in: Core's token and no other, below the provider's own paths and no others.

2021 §6.1 has the claims; a token that is not Core's is 401 there and today (today §11).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from serai_conformance.documents import items
from serai_conformance.judge import refused, rule
from serai_conformance.model import Broken, Check, Rule
from serai_conformance.tokens import SCOPE, Signer, generate_key
from serai_conformance.visit import Visit
from serai_conformance.wire import Json

_SOURCE = "2021 §6.1; today §3, §11"
_HOUR_S = 3600


def _foreign(visit: Visit) -> str:
    return f"Bearer {Signer(generate_key(), visit.target.generation).core()}"


def _with(claim: str, value: str) -> Callable[[Visit], str]:
    return lambda visit: f"Bearer {visit.signer.core(**{claim: value})}"


def _at(issued_s: int, expires_s: int | None) -> Callable[[Visit], str]:
    """A token issued and expiring so many seconds from now."""

    def made(visit: Visit) -> str:
        now_s = int(time.time())
        return f"Bearer {visit.signer.core(iat=now_s + issued_s, exp=None if expires_s is None else now_s + expires_s)}"

    return made


BAD: dict[str, tuple[str, Callable[[Visit], str | None]]] = {
    "no-token": ("without a token", lambda _visit: None),
    "no-bearer": ("with another scheme than Bearer", lambda visit: f"Basic {visit.client.token()}"),
    "no-jwt": ("with a token that is none", lambda _visit: "Bearer hello"),
    "expired": ("with a token of Core that has expired", _at(-2 * _HOUR_S, -_HOUR_S)),
    "no-expiry": ("with a token that never expires", _at(0, None)),
    "foreign-key": ("with a token that is signed with another key", _foreign),
    "unsigned": ("with a token of alg none", lambda visit: f"Bearer {visit.signer.unsigned()}"),
    "public-key": ("with a token of HS256, whose secret is Core's public key", lambda visit: f"Bearer {visit.signer.by_public_key()}"),
    "issuer": ("with a token of another issuer", _with("iss", "example.org")),
    "subject": ("with a token of another subject than _UCloud", _with("sub", "user")),
    "role": ("with a token of role USER", _with("role", "USER")),
    "own-token": (
        "with the provider's own access token, which is signed with the same key",
        lambda visit: f"Bearer {visit.signer.provider(visit.target.provider)}",
    ),
}
"""Name → (how a call comes, the value of its Authorization header)."""


def _bad(made: Callable[[Visit], str | None]) -> Check:
    async def check(visit: Visit) -> None:
        authorization = made(visit)
        refused(await visit.client.call("GET", "/jobs/retrieveProducts", authorization=authorization), 401)
        job = visit.job(visit.program("exit 0"))
        visit.refused_ids.add(job.id)
        answer = await visit.client.call("POST", "/jobs", items(job.document), username="kit", authorization=authorization)
        if answer.ok:
            await visit.end(job)
        refused(answer, 401)

    return check


_REFUSALS = tuple(
    Rule(f"access.{name}", f"A call {words} is 401, and nothing comes of it.", _SOURCE, _bad(made)) for name, (words, made) in BAD.items()
)


@rule("access.audience", "The token's audience is a text or a list of texts: both are taken.", "2021 §6.1, §11; today §3")
async def audience(visit: Visit) -> None:
    forms: tuple[Json, ...] = (SCOPE, [SCOPE])
    for aud in forms:
        answer = await visit.client.call("GET", "/jobs/retrieveProducts", authorization=f"Bearer {visit.signer.core(aud=aud)}")
        if not answer.ok:
            raise Broken(f"with the audience {aud} {answer.words}")


@rule("access.provider", "A path of another provider is not served.", "2021 §0.3: the path names the provider")
async def provider(visit: Visit) -> None:
    other = f"/ucloud/{visit.target.name}-other"
    refused(await visit.client.get(f"{other}/jobs/retrieveProducts"))
    job = visit.job(visit.program("exit 0"))
    visit.refused_ids.add(job.id)
    answer = await visit.client.post(f"{other}/jobs", items(job.document), username="kit")
    if answer.ok:
        await visit.end(job)
    refused(answer)


@rule("access.unknown-call", "A call that is not there is 404.", "2021 §7.3; today §5: 404 means not interested")
async def unknown_call(visit: Visit) -> None:
    refused(await visit.client.post("/jobs/conformanceKitAsks", items({}), username="kit"), 404)


@rule(
    "access.no-content-type",
    "A body is read as JSON whatever Content-Type says, also when there is none.",
    "2021 §6.5, seed's curl; today §3",
)
async def no_content_type(visit: Visit) -> None:
    job = visit.stranger()
    for kind in ("content-type: application/json; charset=utf-8", "text/plain"):
        answer = await visit.client.call("POST", "/jobs/terminate", items(job.document), username="kit", headers={"Content-Type": kind})
        if not answer.ok:
            raise Broken(f"with Content-Type: {kind} {answer.words}")


RULES = (*_REFUSALS, audience, provider, unknown_call, no_content_type)
