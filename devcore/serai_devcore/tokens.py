"""Tokens between Core and a provider, with the claims of each generation.

Core holds one RSA key pair per provider and signs with it in both directions: as `_UCloud` when it calls the provider, as
`#P_{provider}` when the provider exchanges its refresh token (facts 2021 §6.1, §6.2; today §3).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import TypeAlias, cast

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from serai_devcore.clock import Clock
from serai_devcore.wire import CoreError, Generation, Json, JsonObject

ISSUER = "cloud.sdu.dk"
SCOPE = "all:write"
LIFETIME_S = {Generation.G2021: 15 * 60, Generation.G2026: 10 * 60}
RENEW_WHEN_LEFT_S = 3 * 60
"""Core makes itself a new token when the old one has less than this left."""

PrivateKey: TypeAlias = rsa.RSAPrivateKey


def generate_key() -> PrivateKey:
    """A new RSA-2048 pair; takes about a tenth of a second."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def load_key(pem: bytes) -> PrivateKey:
    """The pair in a PEM file without a password. Raises ValueError when it is no RSA key."""
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError("the file does not hold an RSA private key")  # noqa: TRY004 - a wrong file is a wrong value
    return key


def dump_key(key: PrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


class TokenIssuer:
    """Keys, refresh token and token rules of one provider."""

    def __init__(
        self,
        provider: str,
        generation: Generation,
        clock: Clock,
        *,
        key: PrivateKey | None = None,
        refresh_token: str | None = None,
        lifetime_s: int | None = None,
    ) -> None:
        self.provider = provider
        self.refresh_token = refresh_token or secrets.token_urlsafe(48)
        self.lifetime_s = LIFETIME_S[generation] if lifetime_s is None else lifetime_s
        self._generation = generation
        self._clock = clock
        self._key = key or generate_key()
        self._public_pem = self._key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        self._issued_to_provider: set[bytes] = set()
        self._expired_early: set[bytes] = set()
        self._core_token = ("", 0)

    def __repr__(self) -> str:
        return f"TokenIssuer({self.provider!r})"

    @property
    def private_key(self) -> PrivateKey:
        return self._key

    @property
    def public_key_pem(self) -> str:
        return self._public_pem.decode()

    @property
    def public_key_der_base64(self) -> str:
        """X.509 SPKI in DER, base64 on one line, no armour: the form in which Core shows it (facts 2021 §6.2 Formats)."""
        der = self._key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(der).decode()

    def core_claims(self) -> JsonObject:
        """What Core says of itself to the provider."""
        return self._claims("_UCloud", "SERVICE", "service")

    def provider_claims(self) -> JsonObject:
        """What the provider's own access token says."""
        return self._claims(f"#P_{self.provider}", "PROVIDER", "provider")

    def core_token(self) -> str:
        """Core's token for this provider; the same one until less than three minutes are left."""
        token, expires_s = self._core_token
        now_s = self._clock.now_ms() // 1000
        if not token or expires_s - now_s < min(RENEW_WHEN_LEFT_S, self.lifetime_s):
            token, expires_s = self.sign(self.core_claims()), now_s + self.lifetime_s
            self._core_token = (token, expires_s)
        return token

    def sign(self, claims: JsonObject) -> str:
        """Any claims, signed with the provider's key: for those who test what a provider refuses."""
        return jwt.encode(claims, self._key, algorithm="RS256")

    def is_refresh_token(self, candidate: str) -> bool:
        return hmac.compare_digest(candidate.encode(), self.refresh_token.encode())

    def access_token(self) -> str:
        """A new access token for the provider."""
        claims = self.provider_claims()
        token = self.sign(claims)
        while _digest(token) in self._expired_early:
            # Equal claims make equal tokens: within one second of `expire_all` only an older date makes another one.
            claims = _earlier(claims)
            token = self.sign(claims)
        self._issued_to_provider.add(_digest(token))
        return token

    def expire_all(self) -> None:
        """Every access token given out so far counts as expired from now on."""
        self._expired_early |= self._issued_to_provider
        self._issued_to_provider.clear()

    def accepts(self, token: str) -> bool:
        """Whether Core takes this access token from the provider: signature, issuer, subject, role, scope, time."""
        if _digest(token) in self._expired_early:
            return False
        try:
            claims = cast(
                "JsonObject",
                jwt.decode(
                    token,
                    self._public_pem,
                    algorithms=["RS256"],
                    issuer=ISSUER,
                    # Time is judged below by the injected clock.
                    options={"verify_aud": False, "verify_exp": False, "verify_iat": False, "require": ["exp", "iat", "iss", "sub"]},
                ),
            )
        except jwt.InvalidTokenError:
            return False
        expires_s = claims.get("exp")
        return (
            claims.get("sub") == f"#P_{self.provider}"
            and claims.get("role") == "PROVIDER"
            and _covers(claims.get("aud"))
            and isinstance(expires_s, int)
            and expires_s * 1000 > self._clock.now_ms()
        )

    def _claims(self, subject: str, role: str, principal: str) -> JsonObject:
        issued_s = self._clock.now_ms() // 1000
        expires_s = issued_s + self.lifetime_s
        if self._generation is Generation.G2021:
            return {
                "sub": subject,
                "role": role,
                "uid": -1,
                "iss": ISSUER,
                "principalType": principal,
                "iat": issued_s,
                "exp": expires_s,
                "aud": SCOPE,
                "extendedByChain": [],
            }
        claims: JsonObject = {"principalType": principal, "role": role, "iss": ISSUER, "sub": subject, "aud": [SCOPE]}
        claims["exp"] = expires_s
        claims["iat"] = issued_s
        return claims


def subject_provider(token: str) -> str:
    """The provider that a token claims to be of, before anything of it is verified; empty = none."""
    try:
        claims = cast("JsonObject", jwt.decode(token, options={"verify_signature": False}))
    except jwt.InvalidTokenError:
        return ""
    subject = claims.get("sub")
    return subject.removeprefix("#P_") if isinstance(subject, str) and subject.startswith("#P_") else ""


def unknown_refresh_token(generation: Generation) -> CoreError:
    """facts 2021 §6.2: 403; today: 401."""
    return CoreError(403, "Forbidden") if generation is Generation.G2021 else CoreError(401, "Unauthorized")


def refused_token(generation: Generation) -> CoreError:
    """facts 2021 §2.5: 401; today §3: Core takes the caller for a guest and answers 403."""
    return CoreError(401, "Unauthorized") if generation is Generation.G2021 else CoreError(403, "Forbidden")


def _covers(audience: Json) -> bool:
    return audience == SCOPE or (isinstance(audience, list) and SCOPE in audience)


def _earlier(claims: JsonObject) -> JsonObject:
    """The same claims as if made a second before."""
    return {key: value - 1 if key in {"iat", "exp"} and isinstance(value, int) else value for key, value in claims.items()}


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
