"""Public keys in the form in which Envoy takes them: a JSON Web Key Set (RFC 7517, RFC 7518 §6.3)."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from serai_gateway.auth import KeyFileError, parse_public_key


def key_set(file: Path) -> str | None:
    """The set with the key of this file; None = there is no such file. KeyFileError for one that cannot be used, with its path."""
    try:
        return key_set_of(parse_public_key(file.read_bytes()))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeyFileError(f"{file} cannot be read: {error.strerror}") from error
    except KeyFileError as error:
        raise KeyFileError(f"{file}: {error}") from error


def key_set_of(key: RSAPublicKey) -> str:
    """Without a key id: Envoy then tries the key on tokens with any."""
    numbers = key.public_numbers()
    return json.dumps({"keys": [{"kty": "RSA", "alg": "RS256", "use": "sig", "n": _number(numbers.n), "e": _number(numbers.e)}]})


def _number(value: int) -> str:
    return base64.urlsafe_b64encode(value.to_bytes((value.bit_length() + 7) // 8)).rstrip(b"=").decode()
