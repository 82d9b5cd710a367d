"""Follows of today's Core: one on each WebSocket, which says nothing after its first message (today §8)."""

from __future__ import annotations

from serai_conformance.judge import rule
from serai_conformance.model import G2026, Broken, only
from serai_conformance.sockets import Refused
from serai_conformance.visit import Visit

_NOW = only(G2026)
_LOGS = ("logs",)


@rule(
    "socket.payloads",
    "Every message is an object with a payload: Core shows an empty line for anything else.",
    "today §8",
    generations=_NOW,
    needs=_LOGS,
)
async def payloads(visit: Visit) -> None:
    async with visit.follow(await visit.talker()) as stream:
        await stream.wire.until(
            lambda: any("kit-out" in str(frame) for frame in stream.wire.frames) or stream.ended, visit.target.patience_s
        )
        for frame in stream.wire.frames:
            if not isinstance(frame, dict) or not (isinstance(frame.get("payload"), dict) or "ping" in frame):
                raise Broken(f"a message has no payload that is an object: {str(frame)[:100]}")
        if stream.wire.binary:
            raise Broken("a binary message came: it ends the user's view")


@rule(
    "socket.fragments",
    "The first message is read also when it comes in many frames.",
    "today §8: the first frame has 4,096 bytes",
    generations=_NOW,
    needs=_LOGS,
)
async def fragments(visit: Visit) -> None:
    job = await visit.talker()
    try:
        async with visit.follow_socket() as socket:
            frame = visit.init_frame(job, "ignored")
            # Longer than any job is: a few dozen frames.
            await socket.send(frame | {"conformanceKit": "x" * 200_000}, pieces=True)
            if not await socket.until(lambda: any("kit-out" in str(f) for f in socket.frames) or socket.closed, visit.target.patience_s):
                raise Broken("a first message of many frames was not answered")
            if not any("kit-out" in str(f) for f in socket.frames):
                raise Broken("a first message of many frames ended the WebSocket")
    except Refused as error:
        raise Broken(str(error)) from error


@rule("socket.finished", "A finished job shows its output too, and its follow ends.", "today §8", generations=_NOW, needs=_LOGS)
async def finished(visit: Visit) -> None:
    job = await visit.made(visit.program("echo kit-done"))
    async with visit.follow(job) as first:
        await first.until_ended(visit.target.patience_s)
    async with visit.follow(job) as stream:
        await stream.until_text(0, "kit-done", visit.target.patience_s)
        if not await stream.until_ended(visit.target.patience_s):
            raise Broken(f"the follow of a finished job did not end within {visit.target.patience_s:g} s")


@rule(
    "socket.end",
    "The provider closes only when Core has been told the end.",
    "today §8: Core closes the user's view at once",
    generations=_NOW,
    needs=_LOGS,
    needs_core=True,
)
async def end(visit: Visit) -> None:
    job = await visit.running(visit.program("echo kit-out; exec sleep 3600"))
    async with visit.follow(job) as stream:
        await stream.until_text(0, "kit-out", visit.target.patience_s)
        await visit.end(job)
        if not await stream.until_ended(visit.target.patience_s):
            raise Broken(f"the job was terminated, and its follow did not end within {visit.target.patience_s:g} s")
        if not visit.seen.known[job.id].final:
            raise Broken("the follow was closed before Core was told the job's end: its user never sees that")


@rule("socket.unknown-job", "A follow of a job that is not known ends.", "today §8", generations=_NOW, needs=_LOGS)
async def unknown_job(visit: Visit) -> None:
    try:
        async with visit.follow_socket() as socket:
            stream = await visit.begin(socket, visit.job(visit.program("exit 0")))
            if not await stream.until_ended(visit.target.patience_s):
                raise Broken(f"the follow of an unknown job did not end within {visit.target.patience_s:g} s")
    except Refused as error:
        if error.status >= 500:
            raise Broken(str(error)) from error


RULES = (payloads, fragments, finished, end, unknown_job)
