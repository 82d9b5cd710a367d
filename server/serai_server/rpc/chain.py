"""The one chain that every call goes through, from the socket and from inside the process, in all four call shapes.

From the outside in, and why in this order:

1. request id and log   outermost, so that each call has exactly one line with what the caller really got
2. error mapping        around all that can raise, the steps below included: nothing but an RpcFailure leaves the chain
3. caller               from metadata, before the request is parsed: who is not known does not reach the parser
4. deadline             around reading and handler. The caller's own deadline is kept by gRPC or by the gateway, which cancel the
                        call; here stands the server's, so that a stuck handler does not hold a caller that set none
5. handler, encoding    inside all of it, so that an answer that cannot be encoded is an error like any other

The chain is plain code around the handler, chosen per method at start, and not a stack of grpc.aio interceptors: those look up and
wrap the handler anew for each call, need a class for each of the four shapes, and do not exist for calls inside the process.

Two habits of grpc.aio 1.85 are dealt with here. It sends the text of an unmapped exception to the client: see 2. And a
CancelledError that is not the call's own cancellation (a task that the handler awaited was cancelled) ends the handler without any
answer, so the client hangs until its deadline: such a one is an error, told apart by Task.cancelling().
"""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from urllib.parse import unquote

from google.protobuf.message import Message
from structlog.typing import FilteringBoundLogger

from serai_server.errors import Forbidden, Unauthenticated
from serai_server.rpc.iterate import converted
from serai_server.rpc.methods import Call, Caller, Method, Request
from serai_server.rpc.status import Failures, OverLimit, RpcFailure

CALLER = "serai-caller"
"""Metadata: a value of `Caller`, for whom the gateway calls; absent for tools."""
USER = "serai-user"
"""Metadata: the UCloud username, %XX for what is not printable ASCII; absent = not known."""
PROJECT = "serai-project"
"""Metadata of a user's call: the project's id, written as the username; absent = their personal workspace."""
ROLE = "serai-role"
"""Metadata of a user's call: "PI", "ADMIN" or "USER"; absent = no member of that project."""
GROUPS = "serai-groups"
"""Metadata of a user's call: ids of the project's groups that the user is in, each written as the username, with commas between them."""
REQUEST_ID = "serai-request-id"
"""Metadata: an id of the caller's, to find a call again in the log; absent or odd = the server makes one."""

_FOR: Mapping[str, Caller] = {caller.value: caller for caller in Caller if caller is not Caller.TOOL}
_NAMES: Mapping[Caller, str] = {Caller.USER: "users", Caller.SESSION: "holders of a session", Caller.CONSOLE: "the console"}

LIMIT_S = 60.0
"""Longest time that one unary call may take."""

_MAY_CALL: Mapping[Caller, tuple[str, ...]] = {
    Caller.USER: ("/serai.licenses.v1.LicensesService/",),
    Caller.SESSION: tuple(f"/serai.sessions.v1.SessionsService/{name}" for name in ("Redeem", "Authorize", "Hold", "Shell")),
    Caller.CONSOLE: (
        *(f"/serai.jobs.v1.JobsService/{name}" for name in ("Get", "List", "Watch", "Follow", "RetrieveUtilization")),
        *(f"/serai.sessions.v1.SessionsService/{name}" for name in ("Open", "List", "Close")),
    ),
}
"""Methods that each of these may call, and whole services (their name ends with a slash); Core and the operator's tools may call all."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}").fullmatch


class Chain:
    def __init__(
        self, failures: Failures, log: FilteringBoundLogger, *, limit_s: float = LIMIT_S, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._failures = failures
        self._log = log
        self._limit_s = limit_s
        self._monotonic = monotonic
        self._prefix = secrets.token_hex(4)
        self._numbers = itertools.count(1)

    async def once(self, method: Method, request: Request, metadata: Mapping[str, str]) -> bytes:
        """Answer a call that has one answer. Raises RpcFailure, and CancelledError when the call itself was cancelled."""
        handler = method.once
        assert handler is not None  # noqa: S101 - who calls has looked at the shape
        began, call = self._monotonic(), self._begin(method, metadata)
        limit = asyncio.timeout(self._limit_s)
        try:
            _identify(call, metadata)
            async with limit:
                answer = await handler(method.read(request), call)
            encoded = answer.SerializeToString()
        except (Exception, asyncio.CancelledError) as error:
            shown = OverLimit(self._limit_s) if isinstance(error, TimeoutError) and limit.expired() else error
            raise self._failed(shown, call, began) from error
        self._done(call, began)
        return encoded

    async def many(self, method: Method, request: Request, metadata: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
        """Answer a call that has a stream of answers. Raises as `once`; closing the iterator closes the handler's."""
        handler = method.many
        assert handler is not None  # noqa: S101 - who calls has looked at the shape
        began, call = self._monotonic(), self._begin(method, metadata)
        try:
            _identify(call, metadata)
            async with aclosing(converted(handler(method.read(request), call), _encoded)) as answers:
                async for answer in answers:
                    yield answer
        except (Exception, asyncio.CancelledError) as error:
            raise self._failed(error, call, began) from error
        self._done(call, began)

    def _begin(self, method: Method, metadata: Mapping[str, str]) -> Call:
        given = metadata.get(REQUEST_ID)
        if given is None or _REQUEST_ID(given) is None:
            given = f"{self._prefix}-{next(self._numbers)}"
        return Call(method.path, given)

    def _failed(self, error: Exception | asyncio.CancelledError, call: Call, began: float) -> RpcFailure:
        if isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            if task is None or task.cancelling():
                self._log.debug("call cancelled", method=call.method, request_id=call.request_id, ms=self._ms_since(began))
                raise error
        return self._failures.of(error, call.method, call.request_id)

    def _done(self, call: Call, began: float) -> None:
        self._log.debug("call", method=call.method, request_id=call.request_id, caller=call.caller.value, ms=self._ms_since(began))

    def _ms_since(self, began: float) -> float:
        return round((self._monotonic() - began) * 1_000, 3)


def _encoded(message: Message) -> bytes:
    return message.SerializeToString()


def _identify(call: Call, metadata: Mapping[str, str]) -> None:
    """Whoever reaches the socket is the operator or the gateway, and says which. Raises Unauthenticated for anybody else."""
    given = metadata.get(CALLER)
    if given is None:
        return
    caller = _FOR.get(given)
    if caller is None:
        raise Unauthenticated(f"{CALLER} is one of {', '.join(_FOR)} or left out")
    may = _MAY_CALL.get(caller)
    if may is not None and call.method not in may and call.method[: call.method.rfind("/") + 1] not in may:
        raise Forbidden(f"this call is not for {_NAMES[caller]}")
    call.caller = caller
    if caller is Caller.USER:
        _identify_user(call, metadata)
    else:
        call.user = unquote(metadata.get(USER, ""))


def _identify_user(call: Call, metadata: Mapping[str, str]) -> None:
    """Raises Unauthenticated for a user without a name."""
    call.user = unquote(metadata.get(USER, ""))
    if not call.user:
        raise Unauthenticated(f"{USER} is missing")
    call.project = unquote(metadata.get(PROJECT, ""))
    call.role = metadata.get(ROLE, "")
    call.groups = tuple(unquote(group) for group in metadata.get(GROUPS, "").split(",") if group)
