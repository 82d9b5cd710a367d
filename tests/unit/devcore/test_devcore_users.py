"""Tokens of users. Each test names the file of UCloud that it holds to."""

from __future__ import annotations

from functools import cache
from typing import cast

import jwt
import pytest
from fakes.devcore_time import StillClock
from serai_devcore import CoreError, Generation
from serai_devcore.tokens import generate_key
from serai_devcore.users import UserTokens
from serai_devcore.wire import Json, JsonObject

G2021, G2026 = Generation.G2021, Generation.G2026
KEY = cache(generate_key)


def users(generation: Generation) -> tuple[UserTokens, StillClock]:
    clock = StillClock()
    made = UserTokens(generation, clock)
    made.adopt(KEY())
    return made, clock


def opened(made: UserTokens, token: str) -> JsonObject:
    assert jwt.get_unverified_header(token) == {"alg": "RS256", "typ": "JWT"}
    # The clock of the test stands in the past.
    return cast(
        "JsonObject",
        jwt.decode(
            token,
            made.public_key_pem,
            algorithms=["RS256"],
            options={"verify_exp": False, "verify_iat": False, "verify_aud": False},
        ),
    )


@pytest.mark.parametrize(("generation", "audience"), [(G2021, "all:write"), (G2026, ["all:write"])])
def test_a_token_names_its_user_and_ends_in_ten_minutes(generation: Generation, audience: Json) -> None:
    """JWTFactory.kt @48ff7680d6; core2/pkg/foundation/auth_tokens.go: RS256, iss, sub, role, principalType, aud, iat, exp."""
    made, clock = users(generation)
    claims = opened(made, made.token("alice#1234"))
    now_s = clock.now // 1000
    expected = {"sub": "alice#1234", "role": "USER", "iss": "cloud.sdu.dk", "principalType": "password", "aud": audience, "iat": now_s}
    assert {key: claims[key] for key in expected} == expected
    assert claims["exp"] == now_s + 600
    assert (claims["membership"], claims["groups"]) == ({}, {})
    assert opened(made, made.token("root", administrator=True))["role"] == "ADMIN"


@pytest.mark.parametrize("generation", [G2021, G2026])
def test_memberships_are_baked_into_the_token(generation: Generation) -> None:
    """today §2 step 3; provider-integration/shared/pkg/rpc/00_module.go: `membership` = project → role, `groups` = group → project."""
    made, _ = users(generation)
    claims = opened(made, made.token("user", project="p-1", role="PI", groups=["g-1", "g-2"]))
    assert claims["membership"] == {"p-1": "PI"}
    assert claims["groups"] == {"g-1": "p-1", "g-2": "p-1"}
    assert opened(made, made.token("user", project="p-1"))["membership"] == {"p-1": "USER"}


def test_what_is_no_user_gets_no_token() -> None:
    """Services and providers have tokens of their own; a role that Core does not know, or a group of no project, is a mistake."""
    made, _ = users(G2026)
    for username, role, groups in (
        ("", "USER", []),
        ("_UCloud", "USER", []),
        ("#P_example", "USER", []),
        ("u", "BOSS", []),
        ("u", "USER", ["g"]),
    ):
        with pytest.raises(CoreError) as caught:
            made.token(username, role=role, groups=groups)
        assert caught.value.status == 400


def test_the_key_is_made_once_and_never_shown() -> None:
    made = UserTokens(G2021, StillClock())
    assert made.private_key is made.private_key
    assert repr(made) == "UserTokens()"
    assert "PRIVATE" not in made.public_key_pem
