"""The frames of UCloud's calls over WebSocket: one JSON object in one text message (facts 2021 §3.2, §4.5).

What cannot be read is None here; who serves a call decides whether that is dropped or answered.
"""

from __future__ import annotations

import msgspec

PING = '{"ping":"pong"}'
"""Keeps a connection alive, as the reference does: clients of 2021 drop it for its lack of a streamId; Core of 2026 takes it for an empty
piece of log (facts today §8)."""
_LONGEST_STREAM_ID = 256


class Frame(msgspec.Struct, rename="camel"):
    """From the client; what else it carries means nothing to a provider."""

    call: str
    stream_id: str
    payload: msgspec.Raw
    """A JSON object."""
    bearer: str | None = None
    """Core's token (2021); Core of 2026 sends it with the handshake and "" here."""


class JobReference(msgspec.Struct):
    """Of the whole job that Core sends only this is needed: the rest is known here, and newer."""

    id: str


class FollowInit(msgspec.Struct, tag="init"):
    job: JobReference


class FollowCancel(msgspec.Struct, tag="cancel", rename="camel"):
    stream_id: str
    """As told in the follow's messages; not the frame's own."""


class ShellInitialize(msgspec.Struct, tag="initialize", rename="camel"):
    session_identifier: str
    cols: int = 80
    rows: int = 24


class ShellInput(msgspec.Struct, tag="input"):
    data: str


class ShellResize(msgspec.Struct, tag="resize"):
    cols: int
    rows: int


FollowRequest = FollowInit | FollowCancel
ShellRequest = ShellInitialize | ShellInput | ShellResize

_frame = msgspec.json.Decoder(Frame)
_follow = msgspec.json.Decoder(FollowRequest)
_shell = msgspec.json.Decoder(ShellRequest)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def read_frame(message: str | bytes) -> Frame | None:
    """None = no frame: not text, not JSON, or without what each frame has. Also a frame whose streamId nobody means seriously."""
    if isinstance(message, bytes):
        return None
    try:
        frame = _frame.decode(message)
    except (*_UNREADABLE, UnicodeEncodeError):
        return None
    is_object = bytes(frame.payload).lstrip()[:1] == b"{"
    return frame if is_object and len(frame.stream_id) <= _LONGEST_STREAM_ID else None


def read_follow(frame: Frame) -> FollowRequest | str:
    """A text says what is wrong with the payload."""
    try:
        return _follow.decode(frame.payload)
    except _UNREADABLE as error:
        return f"payload: {error}"


def read_shell(frame: Frame) -> ShellRequest | str:
    """A text says what is wrong with the payload."""
    try:
        return _shell.decode(frame.payload)
    except _UNREADABLE as error:
        return f"payload: {error}"


class LogPayload(msgspec.Struct, rename="camel"):
    """A piece of a job's output. Rank -1 and no text: the first and the last word about a follow (facts 2021 §3.4)."""

    stream_id: str
    """Chosen here, the same for all of a follow."""
    rank: int = -1
    stdout: str | None = None
    stderr: str | None = None


class ErrorPayload(msgspec.Struct, rename="camel"):
    why: str
    error_code: str | None = None


class ShellData(msgspec.Struct, tag="data"):
    data: str


class ShellWord(msgspec.Struct):
    """`initialize` or `ack`."""

    type: str


Payload = LogPayload | ErrorPayload | ShellData | ShellWord | dict[str, str]


class _Message(msgspec.Struct, rename="camel"):
    stream_id: str
    payload: Payload
    type: str = "message"


class _Response(msgspec.Struct, rename="camel"):
    stream_id: str
    payload: Payload
    status: int
    type: str = "response"


_encoder = msgspec.json.Encoder()


def message(stream_id: str, payload: Payload) -> str:
    """One of many on a stream."""
    return _encoder.encode(_Message(stream_id, payload)).decode()


def response(stream_id: str, payload: Payload, status: int = 200) -> str:
    """The last word on a stream. `status` is HTTP's."""
    return _encoder.encode(_Response(stream_id, payload, status)).decode()


def unknown_call(frame: Frame) -> str:
    """What a call that is not served here gets (facts 2021 §3.2)."""
    return response(frame.stream_id, {}, 404)
