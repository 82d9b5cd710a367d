"""From whatever a handler raised to the one google.rpc.Status that the caller gets.

Codes and reasons come from the value options of serai.core.v1.ErrorReason; there is no second table. What is not in the
server's own vocabulary becomes INTERNAL with a fixed text and an error id: texts of unknown exceptions may hold secrets, so they
go to the log and never to the caller.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from serai.core.v1 import errors_pb2
from serai.core.v1.errors_pb2 import ErrorReason
from serai.wire.v1 import options_pb2
from serai_backends.errors import BackendUnavailable, JobNotThere
from serai_telemetry.quiet import Quiet
from structlog.typing import FilteringBoundLogger

from serai_server.errors import BackendDown, InvalidRequest, JobConflictError, JobUnknown, SeraiError, StoreDown, Unauthenticated
from serai_server.rpc.call import Call
from serai_server.store.api import JobConflict, StoreUnavailable, WriteRefused

DOMAIN = "serai"
"""ErrorInfo.domain of every error of ours."""

_PREFIX = "ERROR_REASON_"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the error table, as gRPC needs it."""

    name: str
    """ErrorInfo.reason: the value's name without ERROR_REASON_."""
    code: code_pb2.Code.ValueType


def _read_table() -> dict[ErrorReason.ValueType, Row]:
    rows: dict[ErrorReason.ValueType, Row] = {}
    for value in errors_pb2.ErrorReason.DESCRIPTOR.values:
        form = value.GetOptions().Extensions[options_pb2.error]
        rows[ErrorReason.Value(value.name)] = Row(value.name.removeprefix(_PREFIX), code_pb2.Code.Value(form.grpc_code))
    return rows


TABLE: Mapping[ErrorReason.ValueType, Row] = MappingProxyType(_read_table())


class RpcFailure(Exception):
    """The answer to a call is this status. The gateway reads `status` by shape, since it must not import the server."""

    def __init__(self, status: status_pb2.Status, reason: str = "") -> None:
        """`reason`: of the table of errors; empty = it is none of that table."""
        super().__init__(f"{code_pb2.Code.Name(code_pb2.Code.ValueType(status.code))}: {status.message}")
        self.status = status
        self.reason = reason


class OverLimit(Exception):
    """A unary call took longer than the server lets any take."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"the server did not answer within {limit_s:g} s; what was asked may still be done, so ask again")


def status_of(error: SeraiError) -> status_pb2.Status:
    """The table's code, the error's words, ErrorInfo with the reason, and BadRequest when a field is at fault."""
    return make_status(error.reason, error.text, error.field)


def make_status(reason: ErrorReason.ValueType, text: str, field: str = "") -> status_pb2.Status:
    row = TABLE[reason]
    # A tool that does not read details should know the field too; elsewhere the words say what is meant.
    message = f"{field}: {text}" if field and row.code == code_pb2.INVALID_ARGUMENT else text
    status = status_pb2.Status(code=row.code, message=message)
    _attach(status, error_details_pb2.ErrorInfo(reason=row.name, domain=DOMAIN))
    if field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=text)
        _attach(status, error_details_pb2.BadRequest(field_violations=[violation]))
    return status


def _attach(status: status_pb2.Status, detail: Message) -> None:
    status.details.add().Pack(detail)


def translate(error: BaseException) -> SeraiError | None:
    """What store and backends raise, in the server's own vocabulary; None = not an error that may be told."""
    if isinstance(error, SeraiError):
        return error
    if isinstance(error, BaseExceptionGroup):
        # What a TaskGroup makes of one failed task.
        members = cast("BaseExceptionGroup[BaseException]", error).exceptions
        return translate(members[0]) if len(members) == 1 else None
    return _of_lower_layers(error)


def _of_lower_layers(error: BaseException) -> SeraiError | None:
    match error:
        case StoreUnavailable():
            # The driver's words may quote a statement with its values: they stay in the log.
            return StoreDown("the provider cannot store anything right now; nothing was changed, try again")
        case WriteRefused():
            return InvalidRequest("the request holds a value that the provider's store cannot take")
        case JobConflict():
            text = f"a job {error.job_id} with other content exists already; a job's id cannot be used again"
            return JobConflictError(text, field=f"items[{error.index}].id")
        case BackendUnavailable():
            return BackendDown(str(error))
        case JobNotThere():
            return JobUnknown(str(error))
        case _:
            return None


def new_error_id() -> str:
    """12 hexadecimal digits, which a user can read out and an operator can search for."""
    return secrets.token_hex(6)


class Failures:
    """Makes the failure that a caller sees, and the log line that an operator sees."""

    def __init__(self, log: FilteringBoundLogger, error_id: Callable[[], str] = new_error_id, strangers: Quiet | None = None) -> None:
        """`strangers`: how much is logged of calls whose caller is not known."""
        self._log = log
        self._error_id = error_id
        self._strangers = strangers or Quiet()

    def of(self, error: BaseException, call: Call) -> RpcFailure:
        """`error` must not be the cancellation of the call itself: that one belongs to the caller."""
        if isinstance(error, RpcFailure):
            return error
        known = translate(error)
        if known is not None:
            self._refused(error, known, call)
            return RpcFailure(status_of(known), TABLE[known.reason].name)
        if isinstance(error, OverLimit):
            self._log.warning("call over its limit", method=call.method, request_id=call.request_id)
            return RpcFailure(status_pb2.Status(code=code_pb2.DEADLINE_EXCEEDED, message=str(error)))
        error_id = self._error_id()
        self._log.error("call failed", method=call.method, request_id=call.request_id, error_id=error_id, exc_info=error)
        text = f"something went wrong inside the provider; tell its operator the error id {error_id}"
        unknown = errors_pb2.ERROR_REASON_UNSPECIFIED
        return RpcFailure(make_status(unknown, text), TABLE[unknown].name)

    def _refused(self, error: BaseException, known: SeraiError, call: Call) -> None:
        if isinstance(known, (StoreDown, BackendDown)):
            self._log.warning("call failed for now", method=call.method, request_id=call.request_id, error=str(error))
        else:
            self._log_refusal(known, call)

    def _log_refusal(self, known: SeraiError, call: Call) -> None:
        extra: dict[str, str | int] = {}
        if isinstance(known, Unauthenticated):
            left_out = self._strangers.line()
            if left_out is None:
                return
            extra = {"peer": call.peer, "left_out": left_out} if left_out else {"peer": call.peer}
        reason, caller = TABLE[known.reason].name, call.tool or call.caller.value
        self._log.info(
            "call refused", method=call.method, request_id=call.request_id, reason=reason, field=known.field, caller=caller, **extra
        )
