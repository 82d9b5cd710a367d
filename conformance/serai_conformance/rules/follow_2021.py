"""Follows of Core of 2021: many on one WebSocket, each begun and ended by frames of its own (2021 §3)."""

from __future__ import annotations

from serai_conformance.judge import rule
from serai_conformance.model import G2021, Broken, NotObserved, only
from serai_conformance.sockets import Refused, Wire
from serai_conformance.visit import READY, Visit
from serai_conformance.wire import JsonObject, is_whole, kind_of, text_at

_OLD = only(G2021)
_LOGS = ("logs",)


@rule(
    "frames.stream",
    "Messages carry the streamId of the frame that began the follow, and type `message`.",
    "2021 §3.2",
    generations=_OLD,
    needs=_LOGS,
)
async def stream_ids(visit: Visit) -> None:
    async with visit.follow(await visit.talker()) as stream:
        await stream.wire.until(
            lambda: any("kit-out" in str(frame) for frame in stream.wire.frames) or stream.ended, visit.target.patience_s
        )
        frames = [frame for frame in stream.wire.frames if isinstance(frame, dict) and isinstance(frame.get("payload"), dict)]
        if not frames:
            raise Broken("no frame with a payload came")
        for frame in frames:
            if frame.get("streamId") != stream.stream_id:
                raise Broken(f"a frame has streamId {frame.get('streamId')}, and the follow was begun as {stream.stream_id}: Core drops it")
            if frame.get("type") not in ("message", None):
                raise Broken(f"a frame of a running follow has type {frame.get('type')}, where message was expected")


@rule(
    "frames.followId",
    "Each message names the follow by an id that the provider chose, the same one throughout.",
    "2021 §3.3",
    generations=_OLD,
    needs=_LOGS,
)
async def follow_id(visit: Visit) -> None:
    async with visit.follow(await visit.talker()) as stream:
        await stream.wire.until(lambda: READY in stream.text(0) or stream.ended, visit.target.patience_s)
        ids = [payload.get("streamId") for payload in stream.payloads()]
        for found in ids:
            if not isinstance(found, str):
                raise Broken(f"streamId in a payload is {kind_of(found)}, where a text was expected: Core drops the message")
        if len(set(map(str, ids))) > 1:
            raise Broken(f"the messages of one follow name it differently: {', '.join(sorted(set(map(str, ids))))}")


@rule("frames.last", "The last word of a follow is one response with status 200.", "2021 §3.2", generations=_OLD, needs=_LOGS)
async def last(visit: Visit) -> None:
    job = await visit.running(visit.program("echo kit-out; exec sleep 3600"))
    async with visit.follow(job) as stream:
        await stream.until_text(0, "kit-out", visit.target.patience_s)
        await visit.end(job)
        await stream.until_ended(visit.target.patience_s)
        word = stream.wire.last_word(stream.stream_id)
        if word is None:
            raise Broken("the job was terminated, and no response ended its follow")
        if not is_whole(word.get("status")) or word.get("status") != 200:
            raise Broken(f"the last word of a follow has status {word.get('status')}, where 200 was expected")
        if not isinstance(word.get("payload"), dict):
            raise Broken("the last word of a follow has no payload that is an object: Core drops it")


@rule(
    "frames.shared",
    "Several follows share a WebSocket without mixing.",
    "2021 §3.1: one socket for each user",
    generations=_OLD,
    needs=_LOGS,
)
async def shared(visit: Visit) -> None:
    async with visit.having(visit.program("echo kit-other; exec sleep 3600")) as other:
        job = await visit.talker()
        await visit.until_running(other)
        try:
            async with visit.follow_socket() as socket:
                first, second = await visit.begin(socket, job), await visit.begin(socket, other)
                await first.until_text(0, "kit-out", visit.target.patience_s)
                await second.until_text(0, "kit-other", visit.target.patience_s)
                if "kit-other" in first.text(0) or "kit-out" in second.text(0):
                    raise Broken("two follows on one WebSocket: the output of one job came in the stream of the other")
        except Refused as error:
            raise Broken(str(error)) from error


async def _cancel(visit: Visit, socket: Wire, follow_id: str) -> JsonObject | None:
    stream_id = visit.new_stream()
    frame: JsonObject = {"call": visit.follow_call, "streamId": stream_id, "payload": {"type": "cancel", "streamId": follow_id}}
    await socket.send(frame | {"bearer": visit.client.token(), "causedBy": None, "project": None})
    return await socket.answered(stream_id, visit.target.patience_s)


@rule("frames.cancel", "A cancel ends the follow that it names, and is answered itself.", "2021 §3.3, §3.4", generations=_OLD, needs=_LOGS)
async def cancel(visit: Visit) -> None:
    async with visit.follow(await visit.talker()) as stream:
        await stream.until_text(0, "kit-out", visit.target.patience_s)
        follow_id = text_at(stream.payloads()[0], "streamId")
        if not follow_id:
            raise NotObserved("the follow has no id that could be cancelled")
        word = await _cancel(visit, stream.wire, follow_id)
        if word is None:
            raise Broken("a cancel was not answered")
        if await stream.wire.answered(stream.stream_id, visit.target.patience_s) is None:
            raise Broken("a follow was cancelled, and did not get its last word")


@rule("frames.garbage", "Frames that cannot be read are dropped; the WebSocket lives on.", "2021 §3.2", generations=_OLD, needs=_LOGS)
async def garbage(visit: Visit) -> None:
    job = await visit.talker()
    try:
        async with visit.follow_socket() as socket:
            for text in ("hello", "[]", "{}", '{"call":5,"streamId":"x"}', '{"streamId":"9","payload":'):
                await socket.send_text(text)
            stream = await visit.begin(socket, job)
            await stream.until_text(0, "kit-out", visit.target.patience_s)
    except Refused as error:
        raise Broken(str(error)) from error


@rule("frames.unknown-call", "A call that is not there is answered with a response of status 404.", "2021 §3.2", generations=_OLD)
async def unknown_call(visit: Visit) -> None:
    try:
        async with visit.follow_socket() as socket:
            stream_id = visit.new_stream()
            frame: JsonObject = {"call": f"jobs.provider.{visit.target.name}.conformanceKit", "streamId": stream_id, "payload": {}}
            await socket.send(frame | {"bearer": visit.client.token(), "causedBy": None, "project": None})
            word = await socket.answered(stream_id, visit.target.answer_within_s)
            if word is None or word.get("status") != 404:
                raise Broken(f"an unknown call was answered with {word and word.get('status')}, where 404 was expected")
    except Refused as error:
        raise Broken(str(error)) from error


@rule("frames.unknown-job", "A follow of a job that is not known is answered with an error.", "2021 §3.4", generations=_OLD, needs=_LOGS)
async def unknown_job(visit: Visit) -> None:
    async with visit.follow(visit.job(visit.program("exit 0"))) as stream:
        await stream.until_ended(visit.target.patience_s)
        word = stream.wire.last_word(stream.stream_id)
        status = None if word is None else word.get("status")
        if not isinstance(status, int) or not 400 <= status < 500:
            raise Broken(f"the follow of an unknown job was answered with {status}, where an error of 4xx was expected")


RULES = (stream_ids, follow_id, last, shared, cancel, garbage, unknown_call, unknown_job)
