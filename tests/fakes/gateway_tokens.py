"""Core's key pair and the tokens that it signs, for tests of those who check them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa


@cache
def key(name: str = "core", bits: int = 2048) -> rsa.RSAPrivateKey:
    """One pair for each name, made once."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def pem(private: rsa.RSAPrivateKey) -> bytes:
    return private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def spki(private: rsa.RSAPrivateKey) -> bytes:
    """One line of base64, as Core shows it."""
    der = private.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der)


def claims(now_ms: int, **changes: Any) -> dict[str, Any]:
    """What Core of 2021 writes (facts 2021 §6.1); a change to None leaves the claim out."""
    found: dict[str, Any] = {
        "sub": "_UCloud",
        "role": "SERVICE",
        "uid": -1,
        "iss": "cloud.sdu.dk",
        "principalType": "service",
        "iat": now_ms // 1000,
        "exp": now_ms // 1000 + 900,
        "aud": "all:write",
        "extendedByChain": [],
    }
    found.update(changes)
    return {name: value for name, value in found.items() if value is not None}


def user_claims(now_ms: int, **changes: Any) -> dict[str, Any]:
    """What today's Core writes into its users' tokens (core2/pkg/foundation/auth_tokens.go); a change to None leaves the claim out."""
    found: dict[str, Any] = {
        "sub": "user",
        "role": "USER",
        "uid": 7,
        "iss": "cloud.sdu.dk",
        "principalType": "password",
        "iat": now_ms // 1000,
        "exp": now_ms // 1000 + 600,
        "aud": ["all:write"],
        "extendedByChain": [],
        "membership": {"project-1": "PI", "project-2": "USER"},
        "groups": {"group-a": "project-1", "group-b": "project-2", "group-c": "project-1"},
        "providerProjects": {},
    }
    found.update(changes)
    return {name: value for name, value in found.items() if value is not None}


def sign(content: dict[str, Any], private: rsa.RSAPrivateKey | None = None, algorithm: str = "RS256", **headers: Any) -> str:
    return jwt.encode(content, private or key(), algorithm=algorithm, headers=headers)


def bearer(token: str) -> bytes:
    return f"Bearer {token}".encode()


def b64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def forged_hs256(content: dict[str, Any], secret: bytes) -> str:
    """A token whose HMAC key is the public key's text: the classic confusion of algorithms."""
    signed = f"{b64(json.dumps({'alg': 'HS256', 'typ': 'JWT'}).encode())}.{b64(json.dumps(content).encode())}"
    return f"{signed}.{b64(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"
