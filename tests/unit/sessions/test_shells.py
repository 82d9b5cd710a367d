"""The hub of open shells: opening, coming back, memory and pace, with programs that the test plays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from fakes.shell_hub import MINUTE_MS, Site, settled, until
from fakes.shells import HELD
from serai.sessions.v1 import sessions_service_pb2 as pb
from serai_backends.model import TerminalSize
from serai_server.errors import SessionUnknown, WrongState
from serai_server.sessions.open_shell import KEPT


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    async with made.hub:
        yield made
        await made.all_leave()


# A shell, from its start to its end.


async def test_what_is_typed_goes_in_and_what_is_written_comes_out(site: Site) -> None:
    """`opened`, then bytes each way as they are, then the program's exit code; the session is over with it."""
    session = site.sessions.opened("a")
    talk = site.talk(holder=True)
    talk.open("a", (132, 43))
    opened = await talk.opened()
    assert (opened.session.id, opened.session.attached, opened.resumed) == (session.id, True, False)
    shell = site.backend.opened[0]
    assert (shell.argv, shell.sizes) == ((), [TerminalSize(columns=132, rows=43)])
    talk.type(b"ls\r")
    await until(lambda: bytes(shell.typed) == b"ls\r")
    await shell.says(b"\x1b[1m\xff\x00")
    assert await talk.output(6) == b"\x1b[1m\xff\x00"
    talk.resize(80, 25)
    await until(lambda: shell.sizes[-1] == TerminalSize(columns=80, rows=25))
    await shell.says(b"bye")
    await shell.exits(3)
    assert await talk.to_end() == (b"bye", pb.ShellExited(exit_code=3))
    await until(lambda: not len(site.hub))
    assert (shell.closed, session.over.is_set(), session.attached) == (True, True, False)


async def test_who_tells_no_size_gets_the_usual_one(site: Site) -> None:
    """80 columns and 24 rows."""
    _, shell = await site.opened()
    assert shell.sizes == [TerminalSize(columns=80, rows=24)]


async def test_a_program_of_an_operators_tool(site: Site) -> None:
    """It needs no session opened before, gets its arguments, and is in the list of sessions while it runs."""
    talk, shell = await site.program("ps", "-ef")
    assert shell.argv == ("ps", "-ef")
    assert [session.attached for session in site.sessions.open] == [True]
    await shell.exits(0)
    assert (await talk.to_end())[1] == pb.ShellExited(exit_code=0)
    await until(lambda: not site.sessions.open)


async def test_a_program_ends_with_its_connection(site: Site) -> None:
    """There is nothing by which somebody could come back to it."""
    talk, shell = await site.program("sleep", "1000")
    await talk.leave()
    await until(lambda: not len(site.hub))
    assert shell.closed
    assert not site.sessions.open


async def test_a_client_that_says_no_more_still_hears(site: Site) -> None:
    """The end of what is typed is not the end of the program."""
    talk, shell = await site.opened()
    talk.type(b"x")
    talk.say_no_more()
    await until(lambda: bytes(shell.typed) == b"x")
    await shell.says(b"still here")
    assert await talk.output(10) == b"still here"


async def test_an_ending_that_nobody_saw_is_said_so(site: Site) -> None:
    """No exit code is made up."""
    talk, shell = await site.opened()
    await shell.exits(None)
    _, exited = await talk.to_end()
    assert not exited.HasField("exit_code")
    assert "nobody saw" in exited.why


async def test_a_way_that_breaks_is_told_in_words(site: Site) -> None:
    """After all output that came, with the backend's words."""
    talk, shell = await site.opened()
    await shell.says(b"before")
    await shell.breaks("node n1 does not answer")
    seen, exited = await talk.to_end()
    assert (seen, exited.HasField("exit_code")) == (b"before", False)
    assert "node n1 does not answer" in exited.why


async def test_typing_into_a_program_that_has_just_ended_is_no_error(site: Site) -> None:
    """Its ending is told, not that a key was late."""
    talk, shell = await site.opened()
    await shell.says(b"x" * 10)
    await shell.exits(0)
    talk.type(b"late")
    talk.resize(10, 10)
    await settled()
    assert await talk.to_end() == (b"x" * 10, pb.ShellExited(exit_code=0))


# Coming back.


async def test_a_cut_connection_comes_back_to_its_shell(site: Site) -> None:
    """Within the minute, with the last output; the program noticed nothing, and its session stayed open."""
    talk, shell = await site.opened()
    await shell.says(b"one ")
    assert await talk.output(4) == b"one "
    await talk.leave()
    assert not site.sessions.by_secret["a"].attached
    await shell.says(b"two ")
    site.clock.move(MINUTE_MS - 1)
    await settled()
    back = site.talk()
    back.open("a")
    assert (await back.opened()).resumed
    assert site.sessions.by_secret["a"].attached
    assert await back.output(8) == b"one two "
    back.type(b"x")
    await until(lambda: bytes(shell.typed) == b"x")
    assert len(site.backend.opened) == 1
    site.clock.move(10 * MINUTE_MS)
    await settled()
    await shell.says(b"three")
    assert await back.output(5) == b"three"


async def test_nobody_comes_back(site: Site) -> None:
    """After the minute the program is ended and the session is over."""
    talk, shell = await site.opened()
    await talk.leave()
    site.clock.move(MINUTE_MS - 1)
    await settled()
    assert not shell.closed
    site.clock.move(1)
    await until(lambda: not len(site.hub))
    assert shell.closed
    assert "60 s" in site.sessions.by_secret["a"].why_over
    late = site.talk()
    late.open("a")
    with pytest.raises(SessionUnknown):
        await late.opened()


async def test_each_cut_has_a_minute_of_its_own(site: Site) -> None:
    """A connection that comes and goes does not use up the time of the next."""
    talk, shell = await site.opened()
    for _ in range(5):
        await talk.leave()
        site.clock.move(MINUTE_MS - 1)
        await settled()
        talk, _ = await site.opened()
    assert not shell.closed


async def test_a_program_that_ended_meanwhile_is_told_of(site: Site) -> None:
    """Its last output and its exit code wait for the rest of the minute."""
    talk, shell = await site.opened()
    await talk.leave()
    await shell.says(b"done")
    await shell.exits(7)
    await until(lambda: shell.closed)
    back = site.talk()
    back.open("a")
    assert (await back.opened()).resumed
    assert await back.to_end() == (b"done", pb.ShellExited(exit_code=7))
    await until(lambda: not len(site.hub))
    assert site.sessions.by_secret["a"].over.is_set()


async def test_a_program_that_ended_meanwhile_is_forgotten_after_the_minute(site: Site) -> None:
    """Nobody came to hear of it."""
    talk, shell = await site.opened()
    await talk.leave()
    await shell.exits(7)
    await settled()
    assert len(site.hub) == 1
    site.clock.move(MINUTE_MS)
    await until(lambda: not len(site.hub))
    assert not site.sessions.open


async def test_who_comes_back_has_full_screens_drawn_again(site: Site) -> None:
    """The size goes off by a row and back, with a moment in between, so that the program sees both; a real change is enough by itself."""
    talk, shell = await site.opened()
    await talk.leave()
    back, _ = await site.opened()
    await until(lambda: len(shell.sizes) == 2)
    assert shell.sizes[-1] == TerminalSize(columns=80, rows=23)
    site.clock.move(50)
    await until(lambda: len(shell.sizes) == 3)
    assert shell.sizes[-1] == TerminalSize(columns=80, rows=24)
    await back.leave()
    again = site.talk()
    again.open("a", (100, 30))
    await again.opened()
    site.clock.move(50)
    await settled()
    assert shell.sizes[3:] == [TerminalSize(columns=100, rows=30)]


async def test_a_size_that_is_told_while_it_draws_again_stays(site: Site) -> None:
    """The second half of the trick goes by what was asked for last."""
    talk, shell = await site.opened()
    await talk.leave()
    back, _ = await site.opened()
    await until(lambda: len(shell.sizes) == 2)
    back.resize(50, 10)
    await until(lambda: len(shell.sizes) == 3)
    site.clock.move(50)
    await until(lambda: len(shell.sizes) == 4)
    assert shell.sizes[-1] == TerminalSize(columns=50, rows=10)


async def test_a_second_window_is_refused(site: Site) -> None:
    """While the first is connected, and also while its shell is only being opened; the first one is not disturbed."""
    site.sessions.opened("a")
    site.backend.gate.clear()
    first, second = site.talk(), site.talk()
    first.open("a")
    second.open("a")
    opening = asyncio.ensure_future(first.opened())
    await settled()
    with pytest.raises(WrongState, match="another window"):
        await second.opened()
    site.backend.gate.set()
    assert not (await opening).resumed
    third = site.talk()
    third.open("a")
    with pytest.raises(WrongState, match="another window"):
        await third.opened()
    await site.backend.opened[0].says(b"mine")
    assert await first.output(4) == b"mine"


# Memory and pace.


async def test_a_slow_reader_slows_the_program(site: Site) -> None:
    """What waits in the server is bounded; the rest waits in the program, and comes when it is read, all of it."""
    talk, shell = await site.opened()
    data = bytes(range(256)) * 16 * 1024
    saying = asyncio.ensure_future(shell.says(data))
    await settled()
    assert not saying.done()
    assert shell.unread == HELD
    assert await talk.output(len(data)) == data
    await saying


async def test_nobody_attached_the_program_goes_on_and_the_oldest_output_goes(site: Site) -> None:
    """A program must not stand still because a train is in a tunnel; who comes back sees the end of it."""
    talk, shell = await site.opened()
    await talk.leave()
    data = b"".join(b"%07d " % number for number in range(200_000))
    await shell.says(data)
    await until(lambda: not shell.unread)
    back, _ = await site.opened()
    assert await back.output(KEPT) == data[-KEPT:]


async def test_a_program_that_waited_for_a_slow_reader_goes_on_when_they_leave(site: Site) -> None:
    """The cut of a connection that did not read lets it write on."""
    talk, shell = await site.opened()
    saying = asyncio.ensure_future(shell.says(b"x" * 4 * 1024 * 1024))
    await settled()
    assert not saying.done()
    await talk.leave()
    await saying


async def test_a_program_that_does_not_read_slows_who_types_and_nothing_else(site: Site) -> None:
    """Its output comes all the same, and leaving works."""
    talk, shell = await site.opened()
    shell.deaf = True
    for _ in range(100):
        talk.type(b"x" * 1_000)
    await shell.says(b"busy")
    assert await talk.output(4) == b"busy"
    await talk.leave()
    assert talk.open_requests == 0
