"""Tokens at Envoy: what it refuses reaches nobody, and its log says why. (Behind it the gateway and the server check again: `e2e`.)"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from fakes.gateway_tokens import b64, claims, forged_hs256, key, pem, sign, user_claims

from .conftest import Front

CALL = "/ucloud/example/jobs/retrieveProducts"
USERS = "/api/licenses/browse"
REFUSED = "Unauthorized: a valid token for this call is expected"


def now_ms(seconds: int = 0) -> int:
    return (int(time.time()) + seconds) * 1_000


def changed(**changes: object) -> str:
    return sign(claims(now_ms(), **changes))


def bearer(token: str) -> tuple[str, str]:
    return "-H", f"Authorization: Bearer {token}"


@pytest.mark.parametrize("audience", ["all:write", ["x", "all:write"]])
async def test_cores_token_passes_and_goes_on(front: Front, audience: object) -> None:
    """So that the gateway can check it again."""
    token = changed(aud=audience)
    answer = await front.door.curl(CALL, *bearer(token))
    assert (answer.status, answer.json) == (200, {"from": "gateway"})
    assert front.behind.seen[0].headers["authorization"] == f"Bearer {token}"
    assert answer.header("strict-transport-security")


WRONG: dict[str, tuple[Callable[[], str], int, str]] = {
    "garbage": (lambda: "abc", 401, "form"),
    "of a tool": (lambda: "serai_0123456789ab_" + "A" * 43, 401, "form"),
    "of a user": (lambda: sign(user_claims(now_ms()), key("users")), 401, "verification"),
    "of a user, signed by Core": (lambda: sign(user_claims(now_ms())), 401, "verification"),
    "of another key": (lambda: sign(claims(now_ms()), key("other")), 401, "verification"),
    "not signed": (lambda: sign(claims(now_ms())).rpartition(".")[0] + ".", 401, ""),
    "alg none": (lambda: changed_header("none"), 401, ""),
    "HS256 with the public key": (lambda: forged_hs256(claims(now_ms()), pem(key())), 401, "alg"),
    "wrong issuer": (lambda: changed(iss="evil"), 401, "issuer"),
    "Core's internal account": (lambda: changed(sub="_ucloud"), 401, "verification"),
    "expired": (lambda: sign(claims(now_ms(-1_000))), 401, "expired"),
    "without an end": (lambda: changed(exp=None), 401, "verification"),
    "not valid yet": (lambda: changed(nbf=int(time.time()) + 100), 401, "not yet"),
    "wrong audience": (lambda: changed(aud=["jobs:read"]), 403, "Audiences"),
    "without audience": (lambda: changed(aud=None), 403, "Audiences"),
}


def changed_header(algorithm: str) -> str:
    """Signed by Core, with a head that says another algorithm."""
    _, body, signature = sign(claims(now_ms())).split(".")
    head = b64(json.dumps({"alg": algorithm, "typ": "JWT"}).encode())
    return f"{head}.{body}.{signature}"


@pytest.mark.parametrize("wrong", list(WRONG))
async def test_a_wrong_token_is_refused(front: Front, wrong: str) -> None:
    """In UCloud's form, with one text for all; the log tells them apart."""
    make, status, detail = WRONG[wrong]
    answer = await front.door.curl(CALL, *bearer(make()))
    assert answer.status == status
    assert answer.why == (REFUSED if status == 401 else "Forbidden: the token, or this kind of connection, is not for this path")
    assert front.behind.seen == []
    line = await front.logged("core")
    assert detail.lower() in f"{line['detail']} {line['token']}".replace("_", " ").lower(), line


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("-H", "Authorization: Basic dXNlcjpwYXNz"),
        ("-H", "Authorization: Bearer x", "-H", "Authorization: Bearer {token}"),
        ("-H", "Authorization: Bearer {token}", "-H", "Authorization: Bearer {token}"),
        ("-H", "Cookie: access_token={token}"),
        ("-H", "X-Authorization: Bearer {token}"),
    ],
)
async def test_a_token_counts_in_one_place(front: Front, more: tuple[str, ...]) -> None:
    """Once, in its header; not in the query either, where Envoy would look by itself."""
    token = changed()
    given = [text.format(token=token) for text in more]
    assert (await front.door.curl(CALL, *given)).status == 401
    assert (await front.door.curl(f"{CALL}?access_token={token}", *given)).status == 401
    assert front.behind.seen == []


async def test_grace_for_clocks_is_the_gateways(front: Front) -> None:
    """10 s: what the gateway would refuse does not reach it."""
    late = [changed(iat=int(time.time()) - 900, exp=int(time.time()) - seconds) for seconds in (5, 15)]
    assert [(await front.door.curl(CALL, *bearer(token))).status for token in late] == [200, 401]


async def test_users_have_a_key_of_their_own(front: Front) -> None:
    """Their tokens pass at their calls, Core's and tools' do not."""
    good = sign(user_claims(now_ms()), key("users"))
    assert (await front.door.curl(USERS, *bearer(good))).status == 200
    assert len(front.behind.seen) == 1
    for token in (changed(), "serai_0123456789ab_" + "A" * 43, sign(user_claims(now_ms(-900)), key("users")), sign(user_claims(now_ms()))):
        assert (await front.door.curl(USERS, *bearer(token))).why == REFUSED
    assert (await front.door.curl(USERS)).status == 401
    assert len(front.behind.seen) == 1


async def test_a_users_long_token_fits(front: Front) -> None:
    """Of several hundred projects; the gateway takes 48 KiB too."""
    many = {f"project-{number:04}-{'x' * 40}": "USER" for number in range(500)}
    token = sign(user_claims(now_ms(), membership=many), key("users"))
    assert 36_000 < len(token) < 48_000
    assert (await front.door.curl(USERS, *bearer(token))).status == 200
