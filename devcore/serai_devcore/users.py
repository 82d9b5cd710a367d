"""Tokens of users, as Core makes them at a login: for those who call a provider's own `/api/…` as a user does.

Claims: 2021 backend/auth-service/src/jvmMain/kotlin/services/JWTFactory.kt @48ff7680d6; today core2/pkg/foundation/auth_tokens.go and
provider-integration/shared/pkg/rpc/00_module.go @63551f4ea7. Today's Core says in the token of which projects and groups the user is a
member (today §2 step 3). That of 2021 does not; the stand-in says it there too, since nobody can be asked for it.
"""

from __future__ import annotations

from collections.abc import Sequence

import jwt
from cryptography.hazmat.primitives import serialization

from serai_devcore.clock import Clock
from serai_devcore.tokens import ISSUER, SCOPE, PrivateKey, generate_key
from serai_devcore.wire import Generation, JsonObject, bad_request

LIFETIME_S = 10 * 60
PROJECT_ROLES = ("PI", "ADMIN", "USER")


class UserTokens:
    """One pair of keys for all users; made when it is first needed."""

    def __init__(self, generation: Generation, clock: Clock) -> None:
        self._generation = generation
        self._clock = clock
        self._key: PrivateKey | None = None

    def __repr__(self) -> str:
        return "UserTokens()"

    def adopt(self, key: PrivateKey) -> None:
        """Use this pair from now on: an earlier run's."""
        self._key = key

    @property
    def private_key(self) -> PrivateKey:
        if self._key is None:
            self._key = generate_key()
        return self._key

    @property
    def public_key_pem(self) -> str:
        public = self.private_key.public_key()
        return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()

    def claims(
        self, username: str, *, project: str | None = None, role: str = "USER", groups: Sequence[str] = (), administrator: bool = False
    ) -> JsonObject:
        """`role` = in the project; `groups` = ids of the project's groups that the user is in. Raises CoreError 400."""
        if role not in PROJECT_ROLES:
            raise bad_request("role", "one of " + ", ".join(PROJECT_ROLES))
        if groups and project is None:
            raise bad_request("groups", "a group is of a project: name it")
        if not username or username.startswith(("_", "#P_")):
            raise bad_request("username", "a user's name; services and providers have other tokens")
        issued_s = self._clock.now_ms() // 1000
        today = self._generation is Generation.G2026
        claims: JsonObject = {
            "sub": username,
            "role": "ADMIN" if administrator else "USER",
            "uid": 1,
            "iss": ISSUER,
            "firstNames": "User",
            "lastName": username,
            "email": f"{username}@localhost",
            "twoFactorAuthentication": True,
            "serviceLicenseAgreement": True,
            "principalType": "password",
            "iat": issued_s,
            "exp": issued_s + LIFETIME_S,
            "aud": [SCOPE] if today else SCOPE,
            "extendedByChain": [],
            "membership": {} if project is None else {project: role},
            "groups": dict.fromkeys(groups, project),
        }
        if today:
            claims |= {
                "orgId": None,
                "publicSessionReference": None,
                "providerProjects": {},
                "allocatorProjects": {},
                "domain": "localhost",
            }
        return claims

    def sign(self, claims: JsonObject) -> str:
        """Any claims: for those who test what a provider refuses."""
        return jwt.encode(claims, self.private_key, algorithm="RS256")

    def token(
        self, username: str, *, project: str | None = None, role: str = "USER", groups: Sequence[str] = (), administrator: bool = False
    ) -> str:
        """A user's access token, good for ten minutes."""
        return self.sign(self.claims(username, project=project, role=role, groups=groups, administrator=administrator))
