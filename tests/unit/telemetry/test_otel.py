"""Spans by OpenTelemetry, into memory."""

from __future__ import annotations

import asyncio
import threading

import pytest
from fakes.kept_spans import Kept
from opentelemetry.sdk.trace import ReadableSpan
from serai_telemetry.spans import MOST_LINKS, REASON, Kind, is_traceparent, recorded

THEIRS = f"00-{'ab' * 16}-{'cd' * 8}-01"


def place(span: ReadableSpan) -> tuple[str, str]:
    assert span.context is not None
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"


def parent(span: ReadableSpan) -> str:
    return "" if span.parent is None else f"{span.parent.span_id:016x}"


async def test_spans_lie_in_each_other_across_tasks() -> None:
    """What is begun inside belongs to the span around it, in other tasks too, and to none afterwards."""
    kept = Kept()

    async def work(name: str) -> None:
        with kept.traces.span(name):
            await asyncio.sleep(0)

    with kept.traces.span("outer", Kind.SERVER, parent=THEIRS) as outer:
        await asyncio.gather(work("a"), work("b"))
        outer.note("code", 200)
        outer.name("renamed")
    assert kept.traces.current() == ""
    found = kept.spans()
    assert place(found["renamed"])[0] == "ab" * 16
    assert parent(found["renamed"]) == "cd" * 8
    assert {parent(found[name]) for name in "ab"} == {place(found["renamed"])[1]}
    assert dict(found["renamed"].attributes or {}) == {"code": 200}


def test_current_is_what_another_thread_needs() -> None:
    """The text says where a piece of work belongs, wherever it is done."""
    kept = Kept()
    with kept.traces.span("asks"):
        current = kept.traces.current()
    assert is_traceparent(current)
    thread = threading.Thread(target=lambda: kept.traces.span("does", parent=current).__enter__())
    thread.start()
    thread.join()
    with kept.traces.span("also", parent=current):
        pass
    found = kept.spans()
    assert parent(found["also"]) == place(found["asks"])[1]


def test_a_span_that_is_not_current_has_nothing_inside() -> None:
    """As in a generator, whose reader runs between its steps."""
    kept = Kept()
    with kept.traces.span("stream", current=False), kept.traces.span("reader"):
        pass
    found = kept.spans()
    assert parent(found["reader"]) == ""
    assert place(found["reader"])[0] != place(found["stream"])[0]


@pytest.mark.parametrize("error", [ValueError("secret"), KeyboardInterrupt()])
def test_what_is_raised_marks_it_and_its_words_are_not_told(error: BaseException) -> None:
    """Only the class of the exception, for its text may hold what no trace may."""
    kept = Kept()
    with pytest.raises(type(error)), kept.traces.span("fails"):
        raise error
    span = kept.spans()["fails"]
    assert span.status.description == type(error).__name__
    assert "secret" not in span.to_json()
    assert not span.events


def test_a_cancellation_is_no_error() -> None:
    """Whoever asked has gone; and the first word on an error stays."""
    kept = Kept()
    with pytest.raises(asyncio.CancelledError), kept.traces.span("cancelled"):
        raise asyncio.CancelledError
    with pytest.raises(ValueError, match="x"), kept.traces.span("told") as span:
        span.failed("JOB_UNKNOWN")
        raise ValueError("x")
    found = kept.spans()
    assert found["cancelled"].status.is_ok or found["cancelled"].status.is_unset
    assert found["told"].status.description == "JOB_UNKNOWN"


def test_a_refusal_is_no_error() -> None:
    """It did what it should; why is told in a note, and what is raised afterwards adds nothing."""
    kept = Kept()
    with pytest.raises(ValueError, match="x"), kept.traces.span("refuses") as span:
        span.refused("JOB_UNKNOWN")
        raise ValueError("x")
    found = kept.spans()["refuses"]
    assert found.status.is_unset
    assert dict(found.attributes or {}) == {REASON: "JOB_UNKNOWN"}


@pytest.mark.parametrize(
    "odd", ["", "00-zz", f"00-{'0' * 32}-{'cd' * 8}-01", f"00-{'ab' * 16}-{'0' * 16}-01", f"00-{'AB' * 16}-{'cd' * 8}-01", "x" * 9_000]
)
def test_what_is_no_traceparent_begins_a_trace(odd: str) -> None:
    """Others' headers are anything."""
    kept = Kept()
    with kept.traces.span("begins", parent=odd, links=(odd,)):
        pass
    span = kept.spans()["begins"]
    assert parent(span) == ""
    assert not span.links
    assert recorded(odd) == ""


def test_links_have_a_bound() -> None:
    """A commit may hold 512 writes."""
    kept = Kept()
    with kept.traces.span("many", links=[THEIRS] * 500):
        pass
    assert len(kept.spans()["many"].links) == MOST_LINKS


def test_who_is_not_kept_is_not_kept_here() -> None:
    """Others' word on sampling is followed, and what comes without one is decided by the ratio; what is not kept leaves no links."""
    kept = Kept(ratio=0.0)
    with kept.traces.span("theirs", parent=THEIRS):
        assert recorded(kept.traces.current()) != ""
    with kept.traces.span("ours"):
        assert kept.traces.current() != "", "the word goes on to the server, which must not begin one either"
        assert recorded(kept.traces.current()) == ""
    with Kept().traces.span("not kept", parent=THEIRS[:-1] + "0"):
        pass
    assert set(kept.spans()) == {"theirs"}
