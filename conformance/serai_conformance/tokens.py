"""Tokens that the kit signs: as Core when it calls the provider, as the provider when that asks for one, and bad ones of every kind.

Core has a key pair for each provider and signs with it in both directions (2021 §6.1, §6.2; today §3).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
import uuid

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from serai_conformance.model import Generation, PrivateKey
from serai_conformance.wire import Json, JsonObject, dump, merged

ISSUER = "cloud.sdu.dk"
SCOPE = "all:write"
LIFETIME_S = {Generation.G2021: 15 * 60, Generation.G2026: 10 * 60}


class WrongKey(Exception):
    """The file holds no key that Core could have; the text says what was expected."""


def generate_key() -> PrivateKey:
    """A new RSA-2048 pair, as Core makes one for a provider."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def load_key(pem: bytes) -> PrivateKey:
    """Raises WrongKey."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise WrongKey("expected a private key in PEM without a password") from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise WrongKey("expected an RSA key: Core signs with RS256")
    return key


def private_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def public_pem(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


class Signer:
    """Signs with one key, in the form of one generation."""

    def __init__(self, key: PrivateKey, generation: Generation) -> None:
        self._key = key
        self._generation = generation

    def core(self, **changes: Json) -> str:
        """What Core shows to the provider; `changes` are claims of a token that is not right."""
        return self._signed(self._claims("_UCloud", "SERVICE", "service") | changes)

    def provider(self, provider: str) -> str:
        """What Core gives to the provider for its own calls; a new one each time."""
        return self._signed(self._claims(f"#P_{provider}", "PROVIDER", "provider"), unique=True)

    def unsigned(self) -> str:
        """With `alg: none`."""
        return f"{_part({'alg': 'none', 'typ': 'JWT'})}.{_part(self._claims('_UCloud', 'SERVICE', 'service'))}."

    def by_public_key(self) -> str:
        """HS256 with the public key as its secret, which everybody has: a server that lets the token choose its algorithm takes it."""
        text = f"{_part({'alg': 'HS256', 'typ': 'JWT'})}.{_part(self._claims('_UCloud', 'SERVICE', 'service'))}"
        mac = hmac.new(public_pem(self._key), text.encode(), hashlib.sha256).digest()
        return f"{text}.{_base64(mac)}"

    def _claims(self, subject: str, role: str, principal: str) -> JsonObject:
        now_s = int(time.time())
        claims: JsonObject = {"sub": subject, "role": role, "iss": ISSUER, "principalType": principal}
        claims |= {"iat": now_s, "exp": now_s + LIFETIME_S[self._generation]}
        if self._generation is Generation.G2021:
            return merged(claims, {"uid": -1, "aud": SCOPE, "extendedByChain": []})
        return merged(claims, {"aud": [SCOPE]})

    def _signed(self, claims: JsonObject, *, unique: bool = False) -> str:
        # The real ones have no such header; it makes two tokens of one second differ, so that one of them can be refused.
        headers = {"kid": uuid.uuid4().hex} if unique else None
        given: JsonObject = {name: value for name, value in claims.items() if value is not None}
        # PyJWT insists on a text as subject and audience; bad tokens have what they have.
        return jwt.api_jws.encode(dump(given), self._key, algorithm="RS256", headers=headers)


def _part(value: JsonObject) -> str:
    return _base64(dump(value))


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
