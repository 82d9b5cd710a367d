"""TLS to the provider: whom the kit believes, and in words what to do when that fails."""

from __future__ import annotations

import ssl

_STRANGER = "nobody who is known has signed its certificate; --ca FILE names the PEM of who has"
_BY_WORDS = (
    ("self-signed certificate", _STRANGER),
    ("unable to get local issuer", _STRANGER),
    ("unable to get issuer", _STRANGER),
    ("certificate has expired", "its certificate has expired, or the clock of this machine is wrong"),
    ("certificate is not yet valid", "its certificate is not valid yet, or the clock of this machine is wrong"),
    ("mismatch", "its certificate is for another name; call it by the name that stands there"),
)
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"})
"""What OpenSSL says of an answer that is plain HTTP, by its release."""


class WrongCa(Exception):
    """What was given as the CA is none; the text says why."""


def trust_in(pem: bytes) -> ssl.SSLContext:
    """Believes whom these certificates have signed, and nobody else. WrongCa."""
    try:
        # Comments between them may have any letters.
        return ssl.create_default_context(cadata=pem.decode("ascii", "ignore").strip() or "nothing")
    except (ssl.SSLError, ValueError) as error:
        raise WrongCa("expected the PEM of one or more certificates") from error


def words_of(error: BaseException) -> str:
    """Of a connection that could not be made: what is wrong with its TLS, and what to do; "" = that was not it."""
    found = _tls_error(error)
    if found is None:
        return ""
    if isinstance(found, ssl.SSLCertVerificationError):
        said = found.verify_message
        known = next((words for part, words in _BY_WORDS if part in said), "its certificate is not accepted")
        return f"{known} ({said})"
    if found.reason in _NOT_TLS:
        return "what answers there is no TLS; is its address http:// and not https://?"
    return f"no TLS could be agreed on ({found.reason or found})"


def _tls_error(error: BaseException | None) -> ssl.SSLError | None:
    """The one that lies at the ground of this error: libraries put others over it that look alike and say less."""
    found: ssl.SSLError | None = None
    while error is not None:
        found = error if isinstance(error, ssl.SSLError) else found
        error = error.__cause__ or error.__context__
    return found
