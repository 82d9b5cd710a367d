"""The event stream: lines of any length out of chunks of any size, its ends and its silence."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import msgspec
import pytest
from aiohttp import web
from fakes.clock import FakeClock
from fakes.nomad_pages import Pages, serve, settings
from hypothesis import given
from hypothesis import strategies as st
from serai_backends.errors import BackendUnavailable
from serai_backends.nomad.client import open_client
from serai_backends.nomad.client.events import Lines

LINE = (
    b'{"Index":%d,"Events":[{"Topic":"Allocation","Type":"AllocationUpdated","Key":"a","Index":%d,"Payload":{"Allocation":{"ID":"a"}}}]}\n'
)


@given(st.lists(st.binary(max_size=30).map(lambda b: b.replace(b"\n", b" ")), max_size=8), st.lists(st.integers(1, 40), max_size=30))
def test_lines_are_the_same_wherever_chunks_end(lines: list[bytes], sizes: list[int]) -> None:
    data = b"".join(line + b"\n" for line in lines)
    cutter, found = Lines(), list[bytes]()
    for size in [*sizes, len(data) + 1]:
        found += cutter.feed(data[:size])
        data = data[size:]
    assert found == [line for line in lines if line.strip()]


def test_a_line_without_end_is_given_up() -> None:
    cutter = Lines(longest=10)
    assert cutter.feed(b"12345") == []
    assert cutter.feed(b"678\n12345678") == [b"12345678"]
    with pytest.raises(ValueError, match="too long"):
        cutter.feed(b"901")


async def turns() -> None:
    """Everybody who can go on does."""
    for _ in range(20):
        await asyncio.sleep(0)


class Teller:
    """Answers with a stream: what is put into `say`, None = its end."""

    def __init__(self, pages: Pages) -> None:
        self.say: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.closed = asyncio.Event()
        pages.answer = self._answer

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while (data := await self.say.get()) is not None:
                await response.write(data)
        finally:
            self.closed.set()
        return response


async def test_one_index_may_come_twice_and_heartbeats_are_empty_batches() -> None:
    async with serve() as pages, open_client(settings(pages.address), environ={}) as client:
        teller = Teller(pages)
        for part in (b"{}\n" + LINE % (5, 5), (LINE % (5, 5))[:30], (LINE % (5, 5))[30:] + b"\n", None):
            teller.say.put_nowait(part)
        batches = list[int]()
        with pytest.raises(BackendUnavailable, match="event stream ended"):
            async for batch in client.events(5):
                batches.append(batch.index)
                assert all(event.allocation is not None and event.allocation.id == "a" for event in batch.events)
    assert batches == [0, 5, 5]
    query = pages.asked[0].query
    assert (query["index"], query.getall("topic")) == ("5", ["Allocation", "Evaluation", "Job", "Node"])


async def test_a_line_above_what_readers_of_lines_allow() -> None:
    """Above 512 KiB were seen on a real agent; here 3 MiB."""
    event = {"Topic": "Job", "Type": "JobRegistered", "Key": "j", "Index": 8, "Payload": {"Job": {"ID": "j", "Meta": {"k": "v" * 1_000}}}}
    line = msgspec.json.encode({"Index": 8, "Events": [event] * 3_000}) + b"\n"
    assert len(line) > 3 << 20
    async with serve() as pages, open_client(settings(pages.address), environ={}) as client, aclosing(client.events(0)) as events:
        Teller(pages).say.put_nowait(line)
        batch = await anext(events)
    assert (batch.index, len(batch.events)) == (8, 3_000)


async def test_an_end_before_the_first_word_is_a_missing_right() -> None:
    """With ACLs on, Nomad answers 200 and nothing to those who may not listen (facts: nomad-tried §1.4)."""
    async with serve() as pages, open_client(settings(pages.address), environ={"NOMAD_TOKEN": "x"}) as client:
        pages.says(200, "")
        with pytest.raises(BackendUnavailable, match="said nothing on it: the token of NOMAD_TOKEN needs read-job"):
            await anext(client.events(0))


async def test_silence_before_the_first_word_is_a_missing_right_too() -> None:
    """A real agent keeps such a connection open. The first heartbeat comes at once, so the time of a plain call is enough."""
    clock = FakeClock()
    async with serve() as pages, open_client(settings(pages.address, timeout_ms=5_000), environ={}, clock=clock) as client:
        teller = Teller(pages)
        waiting = asyncio.ensure_future(anext(client.events(0)))
        async with asyncio.timeout(5):
            while not pages.asked:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
        clock.move(4_900)
        await turns()
        assert not waiting.done()
        clock.move(200)
        with pytest.raises(BackendUnavailable, match="said nothing on it: are its ACLs on"):
            await waiting
        teller.say.put_nowait(None)


async def test_something_else_than_events_is_told() -> None:
    async with serve() as pages, open_client(settings(pages.address), environ={}) as client:
        pages.says(200, "<html>\n")
        with pytest.raises(BackendUnavailable, match="is not Nomad's"):
            await anext(client.events(0))


async def test_silence_ends_it_and_a_byte_puts_that_off() -> None:
    """45 s by the clock that was given: a heartbeat at 40 s counts, also one that is not a whole line."""
    clock = FakeClock()
    async with serve() as pages, open_client(settings(pages.address), environ={}, clock=clock) as client:
        teller = Teller(pages)
        teller.say.put_nowait(b"{}\n")
        events = client.events(0)
        assert (await anext(events)).index == 0
        waiting = asyncio.ensure_future(anext(events))
        await turns()
        clock.move(40_000)
        teller.say.put_nowait(b"{")
        teller.say.put_nowait(b"}\n")
        assert (await waiting).events == ()
        waiting = asyncio.ensure_future(anext(events))
        await turns()
        clock.move(44_000)
        await turns()
        assert not waiting.done()
        clock.move(2_000)
        with pytest.raises(BackendUnavailable, match="silent for 45 s"):
            await waiting


async def test_whoever_stops_listening_closes_the_connection() -> None:
    async with serve() as pages, open_client(settings(pages.address), environ={}) as client:
        teller = Teller(pages)
        teller.say.put_nowait(b"{}\n")
        async with aclosing(client.events(0)) as events:
            await anext(events)
            waiting = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        async with asyncio.timeout(5):
            while not teller.closed.is_set():  # the server sees it with its next word
                teller.say.put_nowait(b"{}\n")
                await asyncio.sleep(0.01)
