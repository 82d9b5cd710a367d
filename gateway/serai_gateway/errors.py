"""What goes wrong, as UCloud reads it: `{statusCode, why, errorCode, detailedCode}` and an HTTP status.

Status and code of each reason come from the value options of serai.core.v1.ErrorReason, which the server uses too; there is no
second table.

GatewayError            has a reason of the table and words for a person
└── (made here from)    UpstreamError, which carries the server's google.rpc.Status
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode
from serai.core.v1 import errors_pb2, resources_pb2
from serai.core.v1.errors_pb2 import ErrorReason
from serai.wire.v1 import options_pb2

DOMAIN = "serai"
"""ErrorInfo.domain of our own errors."""

_PREFIX = "ERROR_REASON_"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the error table."""

    reason: ErrorReason.ValueType
    name: str
    """The value's name without ERROR_REASON_."""
    grpc_code: str
    http_status: int
    error_code: str | None


def _read_table() -> dict[ErrorReason.ValueType, Row]:
    table: dict[ErrorReason.ValueType, Row] = {}
    for value in errors_pb2.ErrorReason.DESCRIPTOR.values:
        form = value.GetOptions().Extensions[options_pb2.error]
        reason = ErrorReason.Value(value.name)
        table[reason] = Row(reason, value.name.removeprefix(_PREFIX), form.grpc_code, form.http_status, form.error_code or None)
    return table


TABLE: Mapping[ErrorReason.ValueType, Row] = MappingProxyType(_read_table())
_BY_NAME: Mapping[str, Row] = MappingProxyType({row.name: row for row in TABLE.values()})
_GRPC_NAMES: Mapping[int, str] = MappingProxyType({code.value[0]: code.name for code in StatusCode})

# Statuses that do not come from our own code but from the channel; everything else without an ErrorInfo is a 500.
_BY_CHANNEL: Mapping[str, tuple[ErrorReason.ValueType, str]] = MappingProxyType(
    {
        "UNAVAILABLE": (errors_pb2.ERROR_REASON_STORE_UNAVAILABLE, "The provider cannot be reached right now, try again"),
        # Nobody knows whether it was done: a repeated create of the same content is answered alike, so say "try again".
        "DEADLINE_EXCEEDED": (errors_pb2.ERROR_REASON_STORE_UNAVAILABLE, "The provider did not answer in time, try again"),
    }
)


class GatewayError(Exception):
    """An answer that is an error: a reason of the table, and words for the person who reads it.

    `why` begins with the path of the field that is wrong, where one is; `words` leaves it out, for people who sent no fields.
    """

    def __init__(self, reason: ErrorReason.ValueType, words: str, path: str = "") -> None:
        why = f"{path}: {words}" if path and not words.startswith(path) else words
        super().__init__(why)
        self.row = TABLE[reason]
        self.why = why
        self.words = words


def message(row: Row, why: str) -> resources_pb2.CommonErrorMessage:
    """The body of an error (facts 2021 §1.8, facts today §3)."""
    return resources_pb2.CommonErrorMessage(status_code=row.http_status, why=why, error_code=row.error_code)


def from_status(status: status_pb2.Status) -> GatewayError | None:
    """The error that a status of the server means; None = nothing that may be told (the caller answers 500 with an id).

    Only words of our own domain are passed on: other texts may tell of the inside.
    """
    row: Row | None = None
    path = ""
    for detail in status.details:
        kind = detail.TypeName()
        if kind == "google.rpc.ErrorInfo":
            info = error_details_pb2.ErrorInfo.FromString(detail.value)
            row = _BY_NAME.get(info.reason) if info.domain == DOMAIN else None
        elif kind == "google.rpc.BadRequest":
            violations = error_details_pb2.BadRequest.FromString(detail.value).field_violations
            path = violations[0].field if violations else ""
    if row is not None:
        return GatewayError(row.reason, status.message, path)
    known = _BY_CHANNEL.get(_GRPC_NAMES.get(status.code, ""))
    return GatewayError(*known) if known is not None else None
