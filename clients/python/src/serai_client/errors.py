"""Errors of calls, in words. `grpc.RpcError` is what calls raise, in both clients."""

from __future__ import annotations

import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2

_TRANSPORT = (grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
"""So grpc tells of streams that were reset; Serai's own errors carry their reason."""


def reason(error: BaseException) -> str:
    """Serai's own word for an error, such as "JOB_UNKNOWN" or "INVALID_REQUEST"; empty for an error that Serai did not send."""
    details = _metadata(error).get("grpc-status-details-bin")
    if not isinstance(details, bytes):
        return ""
    for detail in status_pb2.Status.FromString(details).details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == "serai":
            return info.reason
    return ""


def explain(error: BaseException) -> str:
    """What went wrong, in one line: the code of the error, then the words for a person."""
    code = _code(error)
    if code is None:
        return " ".join(str(error).split()) or type(error).__name__
    words = error.details() if isinstance(error, grpc.Call | grpc.aio.AioRpcError) else None
    return f"{code.name}: {' '.join((words or 'without words').split())}"


def is_interruption(error: grpc.RpcError) -> bool:
    """The way to the server broke, or the server is being started anew; the call may be made again."""
    code = _code(error)
    return code is grpc.StatusCode.UNAVAILABLE or (code in _TRANSPORT and not reason(error))


def made(code: grpc.StatusCode, words: str) -> grpc.aio.AioRpcError:
    """An error of this side."""
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), words)


def stopped() -> grpc.aio.AioRpcError:
    """A watch ended without the job's end."""
    return made(grpc.StatusCode.UNAVAILABLE, "the server stopped telling about the job before it was over")


def _code(error: BaseException) -> grpc.StatusCode | None:
    return error.code() if isinstance(error, grpc.Call | grpc.aio.AioRpcError) else None


def _metadata(error: BaseException) -> dict[str, str | bytes]:
    if isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        return {str(key): value for key, value in error.trailing_metadata() or ()}
    return {}
