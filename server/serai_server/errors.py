"""Errors of the server's domain. Each has a reason of the one table (serai/core/v1/errors.proto), which decides its gRPC code
and its HTTP status; the text tells a person what to do and holds no secret.

SeraiError
├── InvalidRequest      a field is wrong; `field` is its path ("items[0].specification.replicas")
├── Unsupported         this provider or product does not do that
├── Unauthenticated, Forbidden
├── JobUnknown
├── JobConflictError    a job of this id with other content exists
├── WrongState
├── NotEnoughCredits    the owner's wallet is known to be empty
├── LicenseUnknown      also one that the caller may not see
├── LicenseConflictError  a license of this id with other content exists
├── NotEnoughLicenses   more seats are asked for than there are
├── LicenseServerUnknown, LicenseServerConflict
├── SessionUnknown      also one that is over, or that opens something else
├── TooManySessions     more than there may be at a time
├── TooManyConsumers    of events
├── TooManyStreams      of one token or certificate
├── TokenUnknown        no token of this id was made here
├── StoreDown           nothing was stored, try again
└── BackendDown         logs and sessions cannot be reached now
"""

from __future__ import annotations

from typing import ClassVar

from serai.core.v1 import errors_pb2
from serai.core.v1.errors_pb2 import ErrorReason


class SeraiError(Exception):
    """Base of all errors that may be told to a caller."""

    reason: ClassVar[ErrorReason.ValueType] = errors_pb2.ERROR_REASON_UNSPECIFIED

    def __init__(self, text: str, *, field: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.field = field
        """Path of the field at fault; empty = none."""


class InvalidRequest(SeraiError):
    reason = errors_pb2.ERROR_REASON_INVALID_REQUEST


class Unsupported(SeraiError):
    reason = errors_pb2.ERROR_REASON_UNSUPPORTED


class Unauthenticated(SeraiError):
    reason = errors_pb2.ERROR_REASON_UNAUTHENTICATED


class Forbidden(SeraiError):
    reason = errors_pb2.ERROR_REASON_FORBIDDEN


class JobUnknown(SeraiError):
    reason = errors_pb2.ERROR_REASON_JOB_UNKNOWN


class JobConflictError(SeraiError):
    reason = errors_pb2.ERROR_REASON_JOB_CONFLICT


class WrongState(SeraiError):
    reason = errors_pb2.ERROR_REASON_WRONG_STATE


class NotEnoughCredits(SeraiError):
    reason = errors_pb2.ERROR_REASON_NOT_ENOUGH_CREDITS


class LicenseUnknown(SeraiError):
    reason = errors_pb2.ERROR_REASON_LICENSE_UNKNOWN


class LicenseConflictError(SeraiError):
    reason = errors_pb2.ERROR_REASON_LICENSE_CONFLICT


class NotEnoughLicenses(SeraiError):
    reason = errors_pb2.ERROR_REASON_NOT_ENOUGH_LICENSES


class LicenseServerUnknown(SeraiError):
    reason = errors_pb2.ERROR_REASON_LICENSE_SERVER_UNKNOWN


class LicenseServerConflict(SeraiError):
    reason = errors_pb2.ERROR_REASON_LICENSE_SERVER_CONFLICT


class SessionUnknown(SeraiError):
    reason = errors_pb2.ERROR_REASON_SESSION_UNKNOWN


class TooManySessions(SeraiError):
    reason = errors_pb2.ERROR_REASON_TOO_MANY_SESSIONS


class TooManyConsumers(SeraiError):
    reason = errors_pb2.ERROR_REASON_TOO_MANY_SESSIONS


class TooManyStreams(SeraiError):
    reason = errors_pb2.ERROR_REASON_TOO_MANY_SESSIONS


class TokenUnknown(SeraiError):
    reason = errors_pb2.ERROR_REASON_TOKEN_UNKNOWN


class ConsumerUnknown(SeraiError):
    reason = errors_pb2.ERROR_REASON_CONSUMER_UNKNOWN


class StoreDown(SeraiError):
    reason = errors_pb2.ERROR_REASON_STORE_UNAVAILABLE


class BackendDown(SeraiError):
    reason = errors_pb2.ERROR_REASON_BACKEND_UNAVAILABLE
