"""The console's JSON API: small calls, each of which asks the server once and says in JSON what it answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Literal
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta
from serai.core.v1 import errors_pb2
from serai.jobs.v1 import jobs_service_pb2 as jobs_pb2
from serai.sessions.v1 import sessions_service_pb2 as sessions_pb2

from serai_gateway.console import documents
from serai_gateway.console.guard import OPERATOR, in_words
from serai_gateway.errors import GatewayError
from serai_gateway.upstream import SESSIONS, Upstream, UpstreamError

JOBS = "/serai.jobs.v1.JobsService/"
PAGE = 50
"""Jobs of one page."""
_MOST_DIGITS = 12

WebAddress = Callable[[str, int, str], str]
"""Job, rank and secret of a session of kind WEB to the address that a browser opens. Raises GatewayError when there can be none."""


class OpenBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    job: Annotated[str, Meta(min_length=1, max_length=250)]
    kind: Literal["SHELL", "WEB", "VNC"]
    rank: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0


class CloseBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    session: Annotated[str, Meta(min_length=1, max_length=250)]


class NoBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Query:
    """What stands behind the question mark. Each name once, but `state`."""

    def __init__(self, query: bytes) -> None:
        """GatewayError for what is no query."""
        try:
            self._pairs = parse_qsl(query.decode(), keep_blank_values=True, max_num_fields=64)
        except ValueError as error:
            raise invalid("the query cannot be read") from error

    def text(self, name: str) -> str:
        """Empty = it is not there."""
        return next((value for key, value in self._pairs if key == name), "")

    def number(self, name: str, default: int, least: int, most: int) -> int:
        text = self.text(name)
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS and least <= int(text) <= most):
            raise invalid(f"{name}: expected a number from {least} to {most}")
        return int(text)

    def numbers(self, name: str) -> list[int]:
        """Those of "1,2,3"."""
        parts = [part for part in self.text(name).split(",") if part]
        if len(parts) > 1_000 or not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
            raise invalid(f"{name}: expected numbers with commas between them")
        return [int(part) for part in parts]

    def list_request(self, page_size: int = PAGE) -> jobs_pb2.ListRequest:
        """Which jobs are asked for."""
        try:
            states = [documents.state_number(value) for key, value in self._pairs if key == "state"]
        except ValueError as error:
            raise invalid("state: there is no such state") from error
        return jobs_pb2.ListRequest(
            page_size=page_size,
            page_token=self.text("page"),
            states=states,
            owner=self.text("owner"),
            active_only=self.text("active") == "1",
        )


def invalid(why: str) -> GatewayError:
    return GatewayError(errors_pb2.ERROR_REASON_INVALID_REQUEST, why)


class Calls:
    """The calls of an operator who is logged in. Each raises GatewayError, or UpstreamError for what may not be told."""

    def __init__(self, upstream: Upstream, timeout_s: float, web_address: WebAddress | None) -> None:
        """`web_address` None = jobs' web pages are not served here."""
        self._upstream = upstream
        self._timeout_s = timeout_s
        self._web_address = web_address

    async def jobs(self, query: Query) -> documents.Jobs:
        answer = await self.ask(JOBS + "List", query.list_request().SerializeToString())
        return documents.jobs(jobs_pb2.ListResponse.FromString(answer))

    async def job(self, query: Query) -> documents.Job:
        answer = await self.ask(JOBS + "Get", jobs_pb2.GetRequest(job_id=query.text("id")).SerializeToString())
        return documents.job(jobs_pb2.GetResponse.FromString(answer).job)

    async def utilization(self, _query: Query) -> documents.Utilization:
        answer = await self.ask(JOBS + "RetrieveUtilization", b"")
        return documents.utilization(jobs_pb2.RetrieveUtilizationResponse.FromString(answer))

    async def sessions(self, query: Query) -> list[documents.Session]:
        request = sessions_pb2.ListRequest(job_id=query.text("job"))
        answer = await self.ask(SESSIONS + "List", request.SerializeToString())
        return [documents.session(told) for told in sessions_pb2.ListResponse.FromString(answer).sessions]

    async def open(self, body: OpenBody) -> documents.Opened:
        if body.kind == "WEB" and self._web_address is None:
            raise GatewayError(errors_pb2.ERROR_REASON_UNSUPPORTED, "Web pages of jobs are not served here (gateway.web.mode is off)")
        request = sessions_pb2.OpenRequest(job_id=body.job, rank=body.rank, kind=documents.KINDS[body.kind])
        answer = sessions_pb2.OpenResponse.FromString(await self.ask(SESSIONS + "Open", request.SerializeToString()))
        address = None
        if body.kind == "WEB" and self._web_address is not None:
            address = self._web_address(body.job, body.rank, answer.secret)
        password = answer.password if answer.HasField("password") else None
        return documents.Opened(documents.session(answer.session), answer.secret, password, address)

    async def close(self, session_id: str) -> None:
        await self.ask(SESSIONS + "Close", sessions_pb2.CloseRequest(session_id=session_id).SerializeToString())

    async def ask(self, method: str, request: bytes, metadata: Mapping[str, str] = OPERATOR) -> bytes:
        try:
            return await self._upstream.unary(method, request, metadata, self._timeout_s)
        except UpstreamError as error:
            raise in_words(error) from error
