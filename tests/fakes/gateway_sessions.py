"""The server as holders of sessions see it: an upstream in memory with the rules of SessionsService.

Rules, from `sessions_service.proto`: an address' secret is redeemed once; a cookie opens its own job and rank only; whatever is guessed,
foreign, used up or over is SESSION_UNKNOWN in the same words; a hold and a shell end when the session does. Shells run no program: a
`FakeShell` echoes what is typed, and the test plays the program.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from google.rpc import code_pb2, error_details_pb2, status_pb2
from serai.core.v1 import errors_pb2
from serai.sessions.v1 import sessions_service_pb2 as pb2
from serai_gateway.errors import TABLE
from serai_gateway.upstream import CALLER, UpstreamError

SERVICE = "/serai.sessions.v1.SessionsService/"
UNKNOWN = "this session is not known here, or it is over: open a new one in UCloud"
OPEN_WITHIN_MS = 300_000
IDLE_MS = 36_000_000
LAST_OUTPUT_BYTES = 64 * 1024
_REDEEMED = (pb2.SESSION_KIND_WEB, pb2.SESSION_KIND_CONSOLE)
_HOLDERS = {"Redeem", "Authorize", "Hold", "Shell"}
_OPERATORS = {"Open", "List", "Close"}


def refused(reason: errors_pb2.ErrorReason.ValueType, why: str) -> UpstreamError:
    """An error as the server's chain makes it."""
    row = TABLE[reason]
    status = status_pb2.Status(code=code_pb2.Code.Value(row.grpc_code), message=why)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=row.name, domain="serai"))
    return UpstreamError(status)


def unknown() -> UpstreamError:
    return refused(errors_pb2.ERROR_REASON_SESSION_UNKNOWN, UNKNOWN)


@dataclass
class FakeShell:
    """One terminal. By itself it echoes; `write` and `end` are the program's side."""

    size: tuple[int, int] = (80, 24)
    echoes: bool = True
    typed: bytearray = field(default_factory=bytearray)
    output: bytearray = field(default_factory=bytearray)
    """All of it, from the first byte."""
    exit_code: int | None = None
    why: str = ""
    over: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def write(self, data: bytes) -> None:
        self.output += data
        self._tell()

    def end(self, exit_code: int | None = 0, why: str = "") -> None:
        self.exit_code, self.why, self.over = exit_code, why, True
        self._tell()

    def take(self, data: bytes) -> None:
        self.typed += data
        if self.echoes:
            self.write(data)

    def _tell(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


@dataclass
class Held:
    """One session."""

    told: pb2.Session
    secret: str
    """Of its address, or of the whole session for SHELL and VNC."""
    cookie: str = ""
    redeemed: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)
    shell: FakeShell | None = None
    holds: int = 0
    """Holds that are open."""


@dataclass
class FakeSessions:
    """An Exchanging. Jobs are what `run` says; `now_ms` is set by tests."""

    now_ms: int = 1_700_000_000_000
    endpoints: dict[tuple[str, int, int], tuple[str, int]] = field(default_factory=dict[tuple[str, int, int], tuple[str, int]])
    """Job, rank and kind to address and port."""
    passwords: dict[str, str] = field(default_factory=dict[str, str])
    """Of desktops, by job."""
    held: list[Held] = field(default_factory=list[Held])
    calls: list[str] = field(default_factory=list[str])
    refusals: list[str] = field(default_factory=list[str])
    """Why, for each SESSION_UNKNOWN; what the server writes to its log."""
    shells: dict[str, FakeShell] = field(default_factory=dict[str, FakeShell])
    """By session id; also those that a test puts there before they are opened."""
    away: bool = False
    slow: asyncio.Event | None = None
    """Holds are answered when it is set; None = at once."""
    answers: dict[str, bytes] = field(default_factory=dict[str, bytes])
    """Other unary methods, by their whole name, to what they answer."""
    _dropped: asyncio.Event = field(default_factory=asyncio.Event)

    def run(self, job_id: str, rank: int = 0, *, web: tuple[str, int] | None = None, vnc: tuple[str, int] | None = None) -> None:
        """This rank runs, with a shell always."""
        self.endpoints[job_id, rank, pb2.SESSION_KIND_SHELL] = ("", 0)
        if web is not None:
            self.endpoints[job_id, rank, pb2.SESSION_KIND_WEB] = web
        if vnc is not None:
            self.endpoints[job_id, rank, pb2.SESSION_KIND_VNC] = vnc

    def end(self, job_id: str) -> None:
        """The job is over, and all of its sessions."""
        self.endpoints = {key: value for key, value in self.endpoints.items() if key[0] != job_id}
        for one in self.held:
            if one.told.job_id == job_id:
                self._end(one, "the job ended")

    def open(self, kind: pb2.SessionKind.ValueType, job_id: str = "", rank: int = 0, user: str = "") -> Held:
        """As JobsService.OpenInteractiveSession or `serai console` opens one."""
        if kind != pb2.SESSION_KIND_CONSOLE and (job_id, rank, kind) not in self.endpoints:
            raise refused(errors_pb2.ERROR_REASON_WRONG_STATE, "this rank does not run")
        told = pb2.Session(id=secrets.token_hex(6), kind=kind, job_id=job_id, rank=rank, user=user, opened_at_ms=self.now_ms)
        within = IDLE_MS if kind == pb2.SESSION_KIND_VNC else OPEN_WITHIN_MS
        told.expires_at_ms = self.now_ms + within
        one = Held(told, secrets.token_urlsafe(32))
        self.held.append(one)
        return one

    def close(self, session_id: str) -> None:
        for one in self.held:
            if one.told.id == session_id:
                self._end(one, "closed")

    async def unary(self, method: str, request: bytes, metadata: Mapping[str, str], timeout_s: float) -> bytes:
        if method in self.answers:
            self.calls.append(method.rpartition("/")[2])
            return self.answers[method]
        match self._called(method, metadata):
            case "Redeem":
                return self._redeem(pb2.RedeemRequest.FromString(request)).SerializeToString()
            case "Authorize":
                asked = pb2.AuthorizeRequest.FromString(request)
                return self._authorized(self._found(asked)).SerializeToString()
            case "Open":
                asked_open = pb2.OpenRequest.FromString(request)
                opened = self.open(asked_open.kind, asked_open.job_id, asked_open.rank)
                password = self.passwords.get(asked_open.job_id) if asked_open.kind == pb2.SESSION_KIND_VNC else None
                return pb2.OpenResponse(session=opened.told, secret=opened.secret, password=password).SerializeToString()
            case "List":
                job_id = pb2.ListRequest.FromString(request).job_id
                told = [one.told for one in reversed(self.held) if not one.over.is_set() and job_id in ("", one.told.job_id)]
                return pb2.ListResponse(sessions=told).SerializeToString()
            case "Close":
                self.close(pb2.CloseRequest.FromString(request).session_id)
                return pb2.CloseResponse().SerializeToString()
            case other:
                raise AssertionError(f"{other} is not unary")

    async def stream(self, method: str, request: bytes, metadata: Mapping[str, str]) -> AsyncIterator[bytes]:
        if not method.startswith(SERVICE):
            await asyncio.Event().wait()  # the event log: nothing happens
        name = self._called(method, metadata)
        assert name == "Hold", f"{name} is no stream"
        if self.slow is not None:
            await self.slow.wait()
        one = self._found(pb2.AuthorizeRequest.FromString(request))  # the two requests have the same fields
        yield pb2.HoldResponse(authorized=self._authorized(one)).SerializeToString()
        one.holds += 1
        dropped, over = asyncio.create_task(self._dropped.wait()), asyncio.create_task(one.over.wait())
        try:
            await asyncio.wait({dropped, over}, return_when=asyncio.FIRST_COMPLETED)
            if not one.over.is_set():
                raise UpstreamError(status_pb2.Status(code=code_pb2.UNAVAILABLE, message="the connection broke"))
        finally:
            one.holds -= 1
            dropped.cancel()
            over.cancel()

    def drop(self) -> None:
        """As a server that restarts: every hold breaks off."""
        self._dropped.set()
        self._dropped = asyncio.Event()

    async def exchange(self, method: str, requests: AsyncIterator[bytes], metadata: Mapping[str, str]) -> AsyncIterator[bytes]:
        name = self._called(method, metadata)
        assert name == "Shell", f"{name} goes one way"
        first = pb2.ShellRequest.FromString(await anext(requests))
        assert first.WhichOneof("message") == "open"
        one = self._holder_of_shell(first.open)
        resumed = one.shell is not None
        shell = one.shell = one.shell or self.shells.setdefault(one.told.id, FakeShell())
        shell.size = (first.open.size.columns, first.open.size.rows)
        one.told.attached = True
        reading = asyncio.create_task(_read(requests, shell))
        try:
            yield _shell(opened=pb2.ShellOpened(session=one.told, resumed=resumed))
            async with aclosing(_output(one, shell, max(0, len(shell.output) - LAST_OUTPUT_BYTES))) as output:
                async for message in output:
                    yield message
        finally:
            one.told.attached = False
            reading.cancel()
            await asyncio.wait({reading})
            if shell.over:
                one.over.set()

    def _called(self, method: str, metadata: Mapping[str, str]) -> str:
        name = method.removeprefix(SERVICE)
        self.calls.append(name)
        caller = metadata.get(CALLER)
        allowed = {"session": _HOLDERS, "console": _OPERATORS | _HOLDERS}.get(caller or "", set[str]())
        assert name in allowed, f"{caller} may not call {method}"
        if self.away:
            raise UpstreamError(status_pb2.Status(code=code_pb2.UNAVAILABLE, message="away"))
        return name

    def _redeem(self, asked: pb2.RedeemRequest) -> pb2.RedeemResponse:
        for one in self.held:
            if one.secret == asked.secret and asked.kind in _REDEEMED and not one.redeemed and self._fits(one, asked):
                one.redeemed, one.cookie = True, secrets.token_urlsafe(32)
                one.told.expires_at_ms = self.now_ms + IDLE_MS
                return pb2.RedeemResponse(session=one.told, cookie_secret=one.cookie)
        self.refusals.append(f"redeem {asked.job_id} {asked.rank}")
        raise unknown()

    def _found(self, asked: pb2.AuthorizeRequest) -> Held:
        for one in self.held:
            known = one.cookie if one.told.kind in _REDEEMED else one.secret
            if known and known == asked.secret and self._fits(one, asked):
                one.told.expires_at_ms = self.now_ms + IDLE_MS
                return one
        self.refusals.append(f"authorize {asked.job_id} {asked.rank}")
        raise unknown()

    def _fits(self, one: Held, asked: pb2.RedeemRequest | pb2.AuthorizeRequest) -> bool:
        if one.over.is_set() or one.told.expires_at_ms <= self.now_ms or one.told.kind != asked.kind:
            return False
        return asked.kind != pb2.SESSION_KIND_WEB or (asked.job_id, asked.rank) == (one.told.job_id, one.told.rank)

    def _authorized(self, one: Held) -> pb2.AuthorizeResponse:
        host, port = self.endpoints.get((one.told.job_id, one.told.rank, one.told.kind), ("", 0))
        return pb2.AuthorizeResponse(session=one.told, host=host, port=port)

    def _holder_of_shell(self, asked: pb2.ShellOpen) -> Held:
        for one in self.held:
            if one.told.kind == pb2.SESSION_KIND_SHELL and one.secret == asked.secret and self._fits_shell(one):
                if one.told.attached:
                    raise refused(errors_pb2.ERROR_REASON_WRONG_STATE, "this shell is open in another window")
                return one
        self.refusals.append("shell")
        raise unknown()

    def _fits_shell(self, one: Held) -> bool:
        return not one.over.is_set() and (one.shell is not None or one.told.expires_at_ms > self.now_ms)

    def _end(self, one: Held, why: str) -> None:
        if one.shell is not None and not one.shell.over:
            one.shell.end(None, why)
        one.over.set()


async def _read(requests: AsyncIterator[bytes], shell: FakeShell) -> None:
    async for raw in requests:
        message = pb2.ShellRequest.FromString(raw)
        match message.WhichOneof("message"):
            case "input":
                shell.take(message.input)
            case "resize":
                shell.size = (message.resize.columns, message.resize.rows)
            case other:
                raise AssertionError(f"{other} after open")


async def _output(one: Held, shell: FakeShell, at: int) -> AsyncGenerator[bytes]:
    while True:
        changed = shell.changed
        while at < len(shell.output):
            piece = bytes(shell.output[at : at + 65_536])
            at += len(piece)
            yield _shell(output=piece)
        if shell.over:
            yield _shell(exited=pb2.ShellExited(exit_code=shell.exit_code, why=shell.why))
            return
        await changed.wait()


def _shell(*, opened: pb2.ShellOpened | None = None, output: bytes | None = None, exited: pb2.ShellExited | None = None) -> bytes:
    if output is not None:
        return pb2.ShellResponse(output=output).SerializeToString()
    return pb2.ShellResponse(opened=opened, exited=exited).SerializeToString()
