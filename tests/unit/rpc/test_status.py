"""Every error becomes one status, with code and reason of the table, and nothing of an unknown error reaches the caller."""

from __future__ import annotations

import asyncio

import grpc
import pytest
import structlog
from google.rpc import code_pb2, error_details_pb2, status_pb2
from serai.core.v1 import errors_pb2
from serai_backends.errors import BackendUnavailable, CursorExpired, JobNotThere, SubmissionRefused
from serai_server import errors
from serai_server.rpc.call import Call
from serai_server.rpc.status import DOMAIN, TABLE, Failures, RpcFailure, make_status
from serai_server.store.api import JobConflict, StoreUnavailable, VersionConflict


def failures() -> Failures:
    return Failures(structlog.get_logger(), error_id=lambda: "e1d")


def info_of(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


def path_of(status: status_pb2.Status) -> str:
    request = error_details_pb2.BadRequest()
    for detail in status.details:
        if detail.Unpack(request):
            return request.field_violations[0].field
    return ""


def leaves(kind: type[errors.SeraiError]) -> list[type[errors.SeraiError]]:
    return [kind, *(leaf for child in kind.__subclasses__() for leaf in leaves(child))]


@pytest.mark.parametrize("reason", list(errors_pb2.ErrorReason.values()))
def test_every_reason_has_a_code_that_grpc_knows(reason: errors_pb2.ErrorReason.ValueType) -> None:
    """A reason that is added to the table without a gRPC code, or with one that does not exist, is found here."""
    row = TABLE[reason]
    assert row.code in {code.value[0] for code in grpc.StatusCode}
    assert row.code != code_pb2.OK
    status = make_status(reason, "words")
    assert (status.code, status.message) == (row.code, "words")
    assert (info_of(status).reason, info_of(status).domain) == (errors_pb2.ErrorReason.Name(reason).removeprefix("ERROR_REASON_"), DOMAIN)


@pytest.mark.parametrize("kind", leaves(errors.SeraiError), ids=lambda k: k.__name__)
def test_domain_errors_keep_their_words(kind: type[errors.SeraiError]) -> None:
    """An error of the server's own domain is told as it is, with its reason."""
    status = failures().of(kind("these words"), Call("/m", "r")).status
    assert status.message == "these words"
    assert info_of(status).reason == TABLE[kind.reason].name


def test_a_wrong_field_is_named() -> None:
    """The path of the field is in BadRequest, and in the words for those who do not read details."""
    status = failures().of(errors.InvalidRequest("expected 1 or more", field="items[0].specification.replicas"), Call("/m", "r")).status
    assert path_of(status) == "items[0].specification.replicas"
    assert status.message == "items[0].specification.replicas: expected 1 or more"


@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        (StoreUnavailable("disk full"), "STORE_UNAVAILABLE"),
        (JobConflict("7", 3), "JOB_CONFLICT"),
        (BackendUnavailable("the supervisor does not answer"), "BACKEND_UNAVAILABLE"),
        (JobNotThere("7"), "JOB_UNKNOWN"),
        (ExceptionGroup("group", [StoreUnavailable("disk full")]), "STORE_UNAVAILABLE"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_errors_of_lower_layers_are_translated(raised: Exception, reason: str) -> None:
    """Store and backend know nothing of gRPC; what they raise has a place in the table."""
    assert info_of(failures().of(raised, Call("/m", "r")).status).reason == reason


def test_a_conflict_names_the_item() -> None:
    """In a bulk, the caller learns which item it was."""
    assert path_of(failures().of(JobConflict("7", 3), Call("/m", "r")).status) == "items[3].id"


def test_the_stores_words_stay_inside() -> None:
    """A driver's words may quote a statement with its values."""
    status = failures().of(StoreUnavailable("INSERT … secret-token"), Call("/m", "r")).status
    assert "secret-token" not in str(status)


@pytest.mark.parametrize(
    "raised",
    [
        RuntimeError("secret-token"),
        KeyError("secret-token"),
        TimeoutError("secret-token"),
        asyncio.CancelledError("secret-token"),
        SubmissionRefused("secret-token"),
        CursorExpired("secret-token"),
        VersionConflict("secret-token"),
        ExceptionGroup("secret-token", [ValueError("secret-token"), StoreUnavailable("secret-token")]),
    ],
    ids=lambda e: type(e).__name__,
)
def test_anything_else_is_internal_with_an_id(raised: BaseException) -> None:
    """The caller gets a fixed text and an id, the log gets the error under the same id."""
    with structlog.testing.capture_logs() as logged:
        status = failures().of(raised, Call("/m", "r")).status
    assert (status.code, info_of(status).reason) == (code_pb2.INTERNAL, "UNSPECIFIED")
    assert "secret-token" not in str(status)
    assert "e1d" in status.message
    assert [(line["log_level"], line["error_id"], line["exc_info"]) for line in logged] == [("error", "e1d", raised)]


def test_a_status_passes_through() -> None:
    """What is a status already is not wrapped again."""
    failure = RpcFailure(status_pb2.Status(code=code_pb2.NOT_FOUND, message="no such service"))
    assert failures().of(failure, Call("/m", "r")) is failure
