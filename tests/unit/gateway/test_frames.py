"""Frames of UCloud's WebSocket calls: read as the captured ones are written, written as the captured ones read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serai_gateway.ws import frames
from serai_gateway.ws.frames import ErrorPayload, FollowCancel, FollowInit, LogPayload, ShellData, ShellInitialize, ShellInput, ShellResize

FOLLOW_ID = "8f1f0d3c-5c0e-4c44-b3d6-2f0e7a2c9a11"
CALL = "jobs.provider.example.follow"


def frame(**parts: Any) -> str:
    return json.dumps({"call": CALL, "streamId": "0", "payload": {}} | parts)


def test_a_frame_of_core_2021() -> None:
    """facts 2021 §3.2: the token is in it; of the job only its id is read."""
    found = frames.read_frame(
        frame(
            payload={"job": {"updates": [], "id": "54112", "status": {"state": "RUNNING"}}, "type": "init"},
            bearer="token",
            causedBy=None,
            project=None,
        )
    )
    assert found is not None
    assert (found.call, found.stream_id, found.bearer) == (CALL, "0", "token")
    init = frames.read_follow(found)
    assert isinstance(init, FollowInit)
    assert init.job.id == "54112"


def test_a_cancel_names_the_follow() -> None:
    """facts 2021 §3.3: the id that the provider chose, not the frame's own."""
    found = frames.read_frame(frame(streamId="1", payload={"type": "cancel", "streamId": FOLLOW_ID}, bearer="x"))
    assert found is not None
    assert frames.read_follow(found) == FollowCancel(FOLLOW_ID)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({"type": "initialize", "sessionIdentifier": "s", "cols": 100, "rows": 30}, ShellInitialize("s", 100, 30)),
        ({"type": "initialize", "sessionIdentifier": "s"}, ShellInitialize("s", 80, 24)),
        ({"type": "input", "data": "ls\r"}, ShellInput("ls\r")),
        ({"type": "resize", "cols": 120, "rows": 40}, ShellResize(120, 40)),
    ],
)
def test_what_a_browser_sends(payload: Any, expected: object) -> None:
    """facts 2021 §4.5; a size that is not told is 80 by 24."""
    found = frames.read_frame(frame(call="jobs.compute.example.shell.open", payload=payload))
    assert found is not None
    assert frames.read_shell(found) == expected


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"type": "init"},
        {"type": "init", "job": {}},
        {"type": "init", "job": {"id": 7}},
        {"type": "cancel"},
        {"type": "other"},
        {"type": 1},
    ],
)
def test_payloads_that_cannot_be_read(payload: Any) -> None:
    """Words that name what is wrong."""
    found = frames.read_frame(frame(payload=payload))
    assert found is not None
    wrong = frames.read_follow(found)
    assert isinstance(wrong, str)
    assert wrong.startswith("payload: ")


@pytest.mark.parametrize(
    "message",
    [
        "",
        "{",
        "[]",
        "null",
        "\x00",
        '"text"',
        b"{}",
        b'{"call":"c","streamId":"0","payload":{}}',
        '{"call":"c","streamId":"0"}',
        '{"call":"c","streamId":0,"payload":{}}',
        '{"call":"c","streamId":null,"payload":{}}',
        '{"call":1,"streamId":"0","payload":{}}',
        '{"call":"c","streamId":"0","payload":[]}',
        '{"call":"c","streamId":"0","payload":null}',
        '{"call":"c","streamId":"0","payload":"{"}',
        '{"call":"c","streamId":"0","payload":{},"bearer":1}',
        '{"call":"c","streamId":"' + "0" * 300 + '","payload":{}}',
        '{"call":"c","streamId":"0","payload":' + '{"a":' * 100_000,
        '{"call":"c","streamId":"0","payload":{"a":' + "[" * 100_000 + "]" * 100_000 + "}}",
    ],
)
def test_what_is_no_frame(message: str | bytes) -> None:
    """Is dropped by all (facts 2021 §3.2)."""
    assert frames.read_frame(message) is None


@given(st.one_of(st.text(), st.binary(), st.recursive(st.none() | st.text(), lambda x: st.dictionaries(st.text(), x)).map(json.dumps)))
def test_nothing_that_comes_breaks_the_reader(message: str | bytes) -> None:
    """Whatever text or bytes: a frame or None."""
    found = frames.read_frame(message)
    if found is not None:
        frames.read_follow(found)
        frames.read_shell(found)


@given(st.dictionaries(st.sampled_from(["type", "job", "streamId", "sessionIdentifier", "cols", "rows", "data"]), st.one_of(
    st.sampled_from(["init", "cancel", "initialize", "input", "resize"]), st.integers(), st.none(), st.just({"id": "1"}), st.floats()
)))  # fmt: skip
def test_no_payload_breaks_the_readers(payload: dict[str, Any]) -> None:
    """Names that we know with values that are wrong: a request or words."""
    found = frames.read_frame(frame(payload=payload))
    if found is not None:
        for read in (frames.read_follow(found), frames.read_shell(found)):
            assert not isinstance(read, str) or read.startswith("payload: ")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (
            frames.message("0", LogPayload(FOLLOW_ID)),
            {"streamId": "0", "payload": {"streamId": FOLLOW_ID, "rank": -1, "stdout": None, "stderr": None}, "type": "message"},
        ),
        (
            frames.message("0", LogPayload(FOLLOW_ID, 0, "Hello\n")),
            {"streamId": "0", "payload": {"streamId": FOLLOW_ID, "rank": 0, "stdout": "Hello\n", "stderr": None}, "type": "message"},
        ),
        (
            frames.response("0", LogPayload(FOLLOW_ID)),
            {
                "streamId": "0",
                "payload": {"streamId": FOLLOW_ID, "rank": -1, "stdout": None, "stderr": None},
                "status": 200,
                "type": "response",
            },
        ),
        (
            frames.response("0", ErrorPayload("Unauthorized"), 401),
            {"streamId": "0", "payload": {"why": "Unauthorized", "errorCode": None}, "status": 401, "type": "response"},
        ),
        (frames.message("0", ShellData("$ ")), {"streamId": "0", "payload": {"type": "data", "data": "$ "}, "type": "message"}),
        (frames.PING, {"ping": "pong"}),
    ],
)
def test_what_is_written_is_what_was_captured(written: str, expected: Any) -> None:
    """Names, nulls and order of the keys as in captured frames (facts 2021 §3.2-§4.5)."""
    assert written == json.dumps(expected, separators=(",", ":"))
