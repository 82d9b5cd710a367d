"""Core's tokens in both directions. Each test names the section of the fact sheet that it holds to."""

from __future__ import annotations

import base64
import json
from functools import cache
from typing import cast

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key
from fakes.devcore_time import StillClock
from serai_devcore import Generation
from serai_devcore.tokens import PrivateKey, TokenIssuer, dump_key, generate_key, load_key, subject_provider
from serai_devcore.wire import JsonObject

KEYS = {name: cache(generate_key) for name in ("own", "other")}
G2021, G2026 = Generation.G2021, Generation.G2026


def issuer(
    generation: Generation = G2021, *, lifetime_s: int | None = None, key: PrivateKey | None = None
) -> tuple[TokenIssuer, StillClock]:
    clock = StillClock()
    return TokenIssuer("example", generation, clock, key=key or KEYS["own"](), lifetime_s=lifetime_s), clock


def opened(token: str) -> tuple[JsonObject, JsonObject]:
    header, claims = token.split(".")[:2]
    parts = [json.loads(base64.urlsafe_b64decode(part + "==")) for part in (header, claims)]
    return cast("tuple[JsonObject, JsonObject]", tuple(parts))


def test_cores_token_of_2021() -> None:
    """2021 §6.1: exactly these claims, aud as a plain text, 15 minutes, RS256 without a kid."""
    made, clock = issuer()
    header, claims = opened(made.core_token())
    now_s = clock.now // 1000
    assert header == {"alg": "RS256", "typ": "JWT"}
    assert claims == {
        "sub": "_UCloud",
        "role": "SERVICE",
        "uid": -1,
        "iss": "cloud.sdu.dk",
        "principalType": "service",
        "iat": now_s,
        "exp": now_s + 900,
        "aud": "all:write",
        "extendedByChain": [],
    }


def test_cores_token_of_today() -> None:
    """today §3: exactly these claims, aud as an array, 10 minutes."""
    made, clock = issuer(G2026)
    now_s = clock.now // 1000
    assert opened(made.core_token()) == (
        {"alg": "RS256", "typ": "JWT"},
        {
            "principalType": "service",
            "role": "SERVICE",
            "iss": "cloud.sdu.dk",
            "sub": "_UCloud",
            "aud": ["all:write"],
            "exp": now_s + 600,
            "iat": now_s,
        },
    )


def test_the_providers_token_names_it() -> None:
    """2021 §6.2: sub `#P_{provider}`, role PROVIDER."""
    made, _ = issuer()
    claims = opened(made.access_token())[1]
    assert (claims["sub"], claims["role"], claims["principalType"]) == ("#P_example", "PROVIDER", "provider")
    assert subject_provider(made.access_token()) == "example"
    assert subject_provider(made.core_token()) == ""
    assert subject_provider("rubbish") == ""


def test_core_keeps_its_token_until_three_minutes_are_left() -> None:
    """2021 §6.1 lifetime; today §3."""
    made, clock = issuer()
    first = made.core_token()
    clock.now += (900 - 180) * 1000
    assert made.core_token() == first
    clock.now += 1000
    assert made.core_token() != first


def test_both_forms_of_the_public_key_are_the_same_key() -> None:
    """2021 §6.2 Formats: base64 of X.509 SPKI DER without armour; and PEM for people."""
    made, _ = issuer()
    der = load_der_public_key(base64.b64decode(made.public_key_der_base64))
    pem = load_pem_public_key(made.public_key_pem.encode())
    assert der == pem
    assert "\n" not in made.public_key_der_base64
    assert jwt.decode(made.core_token(), made.public_key_pem, algorithms=["RS256"], options={"verify_aud": False, "verify_exp": False})


def test_a_token_is_good_until_it_expires() -> None:
    """2021 §6.2: 15 minutes, or as set."""
    made, clock = issuer(lifetime_s=2)
    token = made.access_token()
    issued_ms = clock.now // 1000 * 1000
    clock.now = issued_ms + 1999
    assert made.accepts(token)
    clock.now = issued_ms + 2000
    assert not made.accepts(token)


def test_tokens_can_be_expired_at_once() -> None:
    """A stand-in's own rule: those given out are refused from now on, new ones are not."""
    made, _ = issuer()
    old = made.access_token()
    made.expire_all()
    assert not made.accepts(old)
    assert made.accepts(made.access_token())


@pytest.mark.parametrize(
    "change",
    [
        {"sub": "#P_other"},
        {"sub": "_UCloud"},
        {"role": "SERVICE"},
        {"role": "USER"},
        {"iss": "elsewhere"},
        {"aud": "files:read"},
        {"aud": []},
        {"aud": None},
        {"exp": 1},
    ],
)
def test_other_claims_are_refused(change: JsonObject) -> None:
    """2021 §6.2, §2.5: wrong subject, role, issuer, scope or time."""
    made, _ = issuer()
    assert made.accepts(made.sign(made.provider_claims()))
    assert not made.accepts(made.sign(made.provider_claims() | change))


def test_other_signatures_are_refused() -> None:
    """2021 §6.1: RS256 with the provider's own pair and nothing else."""
    made, _ = issuer()
    claims = made.provider_claims()
    assert not made.accepts(issuer(key=KEYS["other"]())[0].sign(claims))
    assert not made.accepts(jwt.encode(claims, "secret-of-thirty-two-bytes-length", algorithm="HS256"))
    assert not made.accepts(jwt.encode(claims, "", algorithm="none"))
    assert not made.accepts("a.b.c")


def test_a_key_survives_its_file_and_shows_nowhere() -> None:
    """A stand-in that starts again keeps its pair; a repr holds no secret."""
    made, _ = issuer()
    again, _ = issuer(key=load_key(dump_key(made.private_key)))
    assert again.accepts(made.access_token())
    assert made.refresh_token not in repr(made)
    assert made.is_refresh_token(made.refresh_token)
    assert not made.is_refresh_token("")
    assert not made.is_refresh_token("ø")
