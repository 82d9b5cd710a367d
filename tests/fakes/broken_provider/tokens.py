"""Whose call it is."""

from __future__ import annotations

import base64
import hmac
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from fakes.broken_provider.faults import Fault
from fakes.broken_provider.reading import Refusal


class Tokens:
    def __init__(self, key: RSAPublicKey, fault: Fault | None) -> None:
        self._key = key
        self._fault = fault

    def check(self, authorization: str | None) -> None:
        """Refusal 401 unless it is Core's."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme != "Bearer":
            raise Refusal(401, "Unauthorized")
        claims = self._claims(token)
        audience: object = claims.get("aud")
        only_text = self._fault is Fault.AUDIENCE_IS_TEXT
        unchecked = self._fault is Fault.CLAIMS_UNCHECKED
        wrong = (
            claims.get("iss") != "cloud.sdu.dk",
            claims.get("sub") != "_UCloud" and not unchecked and self._fault is not Fault.SUBJECT_UNCHECKED,
            claims.get("role") != "SERVICE" and not unchecked,
            audience != "all:write" and (only_text or audience != ["all:write"]),
        )
        if any(wrong):
            raise Refusal(401, "Unauthorized")

    def _claims(self, token: str) -> dict[str, Any]:
        options: Any = {"verify_aud": False, "verify_sub": False, "verify_iss": False, "require": ["exp", "iat"]}
        if self._fault is Fault.EXPIRED_TOKEN:
            options["verify_exp"] = False
        try:
            algorithm = jwt.get_unverified_header(token).get("alg")
            if algorithm == "none" and self._fault is Fault.UNSIGNED_TOKEN:
                return jwt.decode(token, options={"verify_signature": False})
            if algorithm == "HS256" and self._fault is Fault.PUBLIC_KEY_TOKEN and self._by_public_key(token):
                return jwt.decode(token, options={"verify_signature": False})
            return jwt.decode(token, self._key, algorithms=["RS256"], options=options)
        except jwt.PyJWTError:
            raise Refusal(401, "Unauthorized") from None

    def _by_public_key(self, token: str) -> bool:
        """The mistake of a library that takes the key for whatever algorithm the token names."""
        pem = self._key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        text, _, signature = token.rpartition(".")
        expected = base64.urlsafe_b64encode(hmac.digest(pem, text.encode(), "sha256")).rstrip(b"=").decode()
        return hmac.compare_digest(signature, expected)
