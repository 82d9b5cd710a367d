"""Who calls: Core's token, checked as strictly as its documents allow; and what users' tokens have in common with it (`users`).

Core signs with the key pair that it made for this provider and shows us the public half (facts 2021 §6.1, facts today §3). Only
RS256 counts, whatever the token's header says. The signature is checked once for each token; after that a digest of the token is
remembered until it expires or the key changes, because Core uses one token for minutes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic, Protocol, TypeVar, cast

import jwt
import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate

from serai_gateway.clock import Clock
from serai_gateway.settings import Generation

ISSUER = "cloud.sdu.dk"
SUBJECT = "_UCloud"
"""Exactly so; Core's own internal account is spelled `_ucloud` and is somebody else (facts today §3)."""
ROLES = frozenset({"SERVICE", "ADMIN"})
SCOPE = "all:write"
LEEWAY_MS = 10_000
"""Clocks of two machines differ a little."""
REMEMBERED = 1_024
"""Tokens; Core has one or two alive at a time."""
KEY_BITS = 2_048
_KEY_CHECK_MS = 1_000
LONGEST_TOKEN = 16 * 1024
_LONGEST_USERNAME = 512
_REGISTER = "`serai register` gets it from Core"

_log = structlog.stdlib.get_logger("serai_gateway.auth")

Who = TypeVar("Who")


class AuthError(Exception):
    """The call is not Core's. The text says why and holds nothing of the token."""


class KeyFileError(Exception):
    """The file with Core's public key cannot be used; the text says what is expected."""


def parse_public_key(content: bytes) -> RSAPublicKey:
    """An RSA public key from PEM (a certificate's too), or from base64 of DER (SubjectPublicKeyInfo) as Core shows it. Or KeyFileError."""
    try:
        if b"-----BEGIN CERTIFICATE-----" in content:
            key = load_pem_x509_certificate(content).public_key()
        elif b"-----BEGIN" in content:
            key = load_pem_public_key(content)
        else:
            key = load_der_public_key(base64.b64decode(b"".join(content.split()), validate=True))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFileError("the public key is neither PEM nor one line of base64 (DER, SubjectPublicKeyInfo)") from error
    if not isinstance(key, RSAPublicKey):
        raise KeyFileError("the public key is not an RSA key; Core signs with RS256")
    if key.key_size < KEY_BITS:
        raise KeyFileError(f"the public key has {key.key_size} bits; at least {KEY_BITS} are expected")
    return key


def mark_of(file: Path) -> tuple[int, int, int]:
    """Another one when the file was written or replaced. Raises OSError."""
    found = file.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


class PublicKeyFile:
    """The key in a file, read again when the file changes. A file that went bad leaves the last good key in force."""

    def __init__(self, path: Path, clock: Clock, *, setting: str = "core.public_key_file", hint: str = _REGISTER) -> None:
        """KeyFileError when there is no good key at start. `setting` names the file to people, `hint` says how one comes by it."""
        self._path = path
        self._setting = setting
        self._clock = clock
        self._look_again_ms = 0
        self._mark: tuple[int, int, int] | None = None
        try:
            self._mark = mark_of(path)
            self._key = parse_public_key(path.read_bytes())
        except FileNotFoundError as error:
            raise KeyFileError(f"{setting}: there is no {path} yet; {hint}") from error
        except OSError as error:
            raise KeyFileError(f"{setting} cannot be read: {path}: {error.strerror}") from error
        except KeyFileError as error:
            raise KeyFileError(f"{setting} {path}: {error}") from error
        self.version = 0
        """Grows with each new key."""

    def current(self) -> RSAPublicKey:
        now = self._clock.now_ms()
        if not self._look_again_ms - _KEY_CHECK_MS <= now < self._look_again_ms:
            self._look_again_ms = now + _KEY_CHECK_MS
            self._refresh()
        return self._key

    def _refresh(self) -> None:
        try:
            mark = mark_of(self._path)
            if mark == self._mark:
                return
            content = self._path.read_bytes()
            # Not before: what could not be read now is read at the next look.
            self._mark = mark
            key = parse_public_key(content)
        except (OSError, KeyFileError) as error:
            _log.warning(
                "a public key cannot be read again, the last one stays in force",
                setting=self._setting,
                cause=type(error).__name__,
                text=str(error),
            )
            return
        if key.public_numbers() != self._key.public_numbers():
            self._key = key
            self.version += 1
            _log.info("a public key has changed", setting=self._setting)


class Check(Protocol):
    def check(self, authorization: bytes | None) -> None:
        """AuthError unless this header's value shows that the call is Core's."""
        ...


class TokenReader(Generic[Who]):
    """Says who a token's owner is. A token is verified once, and remembered by its digest until it expires or the key changes."""

    def __init__(
        self,
        key: PublicKeyFile,
        clock: Clock,
        read: Callable[[Mapping[str, object], int], tuple[Who, int]],
        *,
        whose: str,
        most_remembered: int = REMEMBERED,
        longest: int = LONGEST_TOKEN,
    ) -> None:
        """`read`: claims and the present, ms since epoch, to the owner and the ms until which that holds; it raises AuthError.
        `whose`: the key's name in errors; `longest`: bytes of a token."""
        self._key = key
        self._clock = clock
        self._read = read
        self._whose = whose
        self._most_remembered = most_remembered
        self._longest = longest
        self._remembered: dict[bytes, tuple[Who, int]] = {}
        self._version = key.version
        self._jwt = jwt.PyJWT()

    def owner(self, authorization: bytes | None) -> Who:
        """AuthError unless the value of this `Authorization` header is "Bearer " and a valid token."""
        if authorization is None:
            raise AuthError("Unauthorized: the call has no token")
        # The scheme's case is free in HTTP; Core always writes "Bearer" (facts 2021 §6.5).
        if authorization[:7].lower() != b"bearer ":
            raise AuthError("Unauthorized: a bearer token is expected")
        key = self._key.current()
        if self._version != self._key.version:
            self._remembered.clear()
            self._version = self._key.version
        digest = hashlib.sha256(authorization).digest()
        now_ms = self._clock.now_ms()
        known = self._remembered.get(digest)
        if known is not None:
            if now_ms < known[1]:
                return known[0]
            del self._remembered[digest]
        found = self._read(self._claims(key, authorization[7:].strip()), now_ms)
        if len(self._remembered) >= self._most_remembered:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[digest] = found
        return found[0]

    def _claims(self, key: RSAPublicKey, token: bytes) -> Mapping[str, object]:
        if len(token) > self._longest:
            raise AuthError("Unauthorized: the token is too long")
        try:
            # Times and names are checked below, with the injected clock; here only form, algorithm and signature.
            return cast(
                "dict[str, object]",
                self._jwt.decode(
                    token,
                    key,
                    algorithms=["RS256"],
                    options={
                        "verify_signature": True,
                        "verify_exp": False,
                        "verify_iat": False,
                        "verify_nbf": False,
                        "verify_aud": False,
                        "verify_iss": False,
                        "verify_sub": False,
                        "verify_jti": False,
                        "require": [],
                    },
                ),
            )
        except jwt.InvalidAlgorithmError as error:
            raise AuthError("Unauthorized: the token is not signed with RS256") from error
        except jwt.InvalidSignatureError as error:
            raise AuthError(f"Unauthorized: the token's signature is not of {self._whose}") from error
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise AuthError("Unauthorized: the token cannot be read") from error


class TokenCheck:
    """Says whether an `Authorization` header is Core's."""

    def __init__(self, key: PublicKeyFile, clock: Clock) -> None:
        def read(claims: Mapping[str, object], now_ms: int) -> tuple[None, int]:
            return None, check_claims(claims, now_ms)

        self._tokens = TokenReader(key, clock, read, whose="Core's key for this provider")

    def check(self, authorization: bytes | None) -> None:
        """AuthError unless the header's value is "Bearer " and a valid token of Core."""
        self._tokens.owner(authorization)


def check_claims(claims: Mapping[str, object], now_ms: int) -> int:
    """The ms since epoch until which these claims hold, leeway included. AuthError when they are not Core's or not of now."""
    if claims.get("iss") != ISSUER:
        raise AuthError(f"Unauthorized: the token's issuer is not {ISSUER}")
    if claims.get("sub") != SUBJECT:
        raise AuthError(f"Unauthorized: the token's subject is not {SUBJECT}")
    role = claims.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise AuthError("Unauthorized: the token's role is neither SERVICE nor ADMIN")
    if SCOPE not in scopes(claims):
        raise AuthError(f"Unauthorized: the token's audience does not hold {SCOPE}")
    return check_times(claims, now_ms)


def scopes(claims: Mapping[str, object]) -> tuple[str, ...]:
    """What the token is for. `aud` is a string or an array, by the library that wrote it (facts 2021 §6.1, §11)."""
    audience = claims.get("aud")
    found = cast("list[object]", audience) if isinstance(audience, list) else [audience]
    return tuple(scope for scope in found if isinstance(scope, str))


def check_times(claims: Mapping[str, object], now_ms: int) -> int:
    """The ms since epoch until which the token holds, leeway included. AuthError when it does not hold now."""
    expires_ms = _time_ms(claims, "exp")
    issued_ms = _time_ms(claims, "iat")
    if "nbf" in claims and _time_ms(claims, "nbf") > now_ms + LEEWAY_MS:
        raise AuthError("Unauthorized: the token does not hold yet")
    if issued_ms > now_ms + LEEWAY_MS:
        raise AuthError("Unauthorized: the token was issued in the future; compare the clocks of both machines")
    if expires_ms + LEEWAY_MS <= now_ms:
        raise AuthError("Unauthorized: the token has expired")
    return expires_ms + LEEWAY_MS


def _time_ms(claims: Mapping[str, object], name: str) -> int:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e12 < value < 1e12:
        raise AuthError(f"Unauthorized: the token's {name} is not a time in seconds")
    return int(value * 1_000)


def read_username(value: bytes | None, generation: Generation) -> str | None:
    """The user of a `UCloud-Username` header; None = Core's own business.

    2021 sends raw text, 2026 base64 of UTF-8 (facts 2021 §6.5, facts today §3). What is not base64 is taken as raw text in 2026
    too: a name is for people and logs here, no right hangs on it.
    """
    if value is None:
        return None
    text = _decoded(value) if generation == "2026" else None
    if text is None:
        try:
            text = value.decode()
        except UnicodeDecodeError:
            text = value.decode("latin-1")
    text = text.strip()
    if not text or len(text) > _LONGEST_USERNAME or not text.isprintable():
        return None
    return text


def _decoded(value: bytes) -> str | None:
    try:
        text = base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    return text if text.isprintable() else None
