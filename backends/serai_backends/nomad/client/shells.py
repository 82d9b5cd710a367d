"""A program beside a task's own, in a terminal or not, by Nomad's exec.

Nomad neither ends the program when its connection is gone, nor says at once that it has started, nor hands all of its output on with the
driver docker (facts: nomad-tried §7). So three small scripts are around it: `shell_open.sh` holds the terminal, tells the program's end in
the output and ends itself only when we have all of it; `shell_program.sh` says that it is there and becomes the program; `shell_end.sh`, by
another exec, finds them by the name that each shell has, and ends them.

With docker Nomad may also take a program for ended that is only about to start (it asks dockerd too early): it says so without a code and
without a word of the program, which then starts all the same. Such a one is ended, and another is started.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from serai_backends.errors import BackendUnavailable, JobNotThere
from serai_backends.nomad.client.exec import Connection, connect

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from serai_backends.model import TerminalSize
    from serai_backends.nomad.client.streams import Streams

_SERVER = secrets.token_hex(8)
"""Of this process: shells of another one are of a server that is gone."""
_LONGEST = 16 * 1024
_LEAVES_S = 2.0
_TIMES, _LOOKS = 3, 10
_DETACHING = re.compile(rb"\x10\x11+")
"""Ctrl-P, Ctrl-Q: dockerd takes the two for the wish to leave the terminal, and Nomad does not tell it other keys."""


class Ending:
    """Finds what `shell_open.sh` says of the program's end in its output, wherever that was cut."""

    def __init__(self, shell: str) -> None:
        self._mark = b"\0serai-ended %s " % shell.encode()
        self._whole = re.compile(re.escape(self._mark) + rb"(\d{1,3})\0")
        self._held = b""
        self.exit_code: int | None = None
        """None = it has not ended."""

    def output_of(self, data: bytes) -> bytes:
        """The program's part of it; the beginning of what may be the end is held back until more came."""
        if self.exit_code is not None:
            return b""
        data = self._held + data
        if (found := self._whole.search(data)) is not None:
            self._held, self.exit_code = b"", int(found[1])
            return data[: found.start()]
        at = data.rfind(b"\0", max(0, len(data) - len(self._mark) - 3))
        at = at if at >= 0 and self._may_begin(data[at:]) else len(data)
        self._held = data[at:]
        return data[:at]

    def rest(self) -> bytes:
        """What was held back, when nothing more comes."""
        rest, self._held = self._held, b""
        return rest

    def _may_begin(self, tail: bytes) -> bool:
        code = tail[len(self._mark) :]
        return self._mark.startswith(tail[: len(self._mark)]) and (not code or code.isdigit())


class NomadShell:
    """A Shell of serai_backends.api. Made by `start`."""

    def __init__(self, streams: Streams, connection: Connection, where: tuple[str, str], shell: str, *, terminal: bool) -> None:
        self._streams, self._connection, self._where, self._shell = streams, connection, where, shell
        self._terminal, self._ending = terminal, Ending(shell)
        self._first = b""
        self._known: int | None = None
        """When it was closed: an end that came of that is not one by itself."""
        self._after_ctrl_p = self._input_ended = self._closed = False

    @property
    def exit_code(self) -> int | None:
        return self._known if self._closed else self._told

    @property
    def _told(self) -> int | None:
        return self._connection.exit_code if self._ending.exit_code is None else self._ending.exit_code

    async def begin(self, size: TerminalSize | None) -> bool:
        """The program runs, in a terminal of that size; False = Nomad lost it. Raises as `start`."""
        said, mark = b"", re.compile(rb"serai-shell %s\r?\n" % self._shell.encode())
        while (found := mark.search(said)) is None:
            data = await self._connection.receive() if len(said) < _LONGEST and self._ending.exit_code is None else None
            if data is None:
                if self._lost:
                    return False
                raise BackendUnavailable(f"no shell can be started in the replica: {_words(said)}")
            said += self._ending.output_of(data[0]) + data[1]  # the streams come in any order
        self._first = said[: found.start()] + said[found.end() :]
        if size is not None:
            # docker forgets one that comes before the program
            await self._connection.resize(size)
        return True

    @property
    def _lost(self) -> bool:
        """It says that it ended well, and does not say that it ended."""
        return self._connection.exit_code == 0 and self._ending.exit_code is None

    async def output(self) -> AsyncGenerator[bytes]:
        first, self._first = self._first, b""
        if first:
            yield first
        while not self._over:
            try:
                data = await self._connection.receive()
            except BackendUnavailable:
                if self._closed:
                    return
                raise
            if data is None and self._lost:
                raise BackendUnavailable("Nomad lost the shell: open another one")
            if data is None:
                said = self._ending.rest()
            else:
                said = self._ending.output_of(data[0]) + data[1]
                if self._ending.exit_code is not None:
                    await self._received_all()
            if said:
                yield said

    @property
    def _over(self) -> bool:
        """Nothing more comes; without a terminal, errors may come beside the end."""
        return self._connection.exit_code is not None or (self._terminal and self._ending.exit_code is not None)

    async def write(self, data: bytes) -> None:
        """Raises BackendUnavailable when the connection is closed."""
        if self._terminal:
            if self._after_ctrl_p:
                data = data.lstrip(b"\x11")
            data = _DETACHING.sub(b"\x10", data)
            self._after_ctrl_p = data.endswith(b"\x10") or (not data and self._after_ctrl_p)
        await self._connection.write(data)

    async def end_input(self) -> None:
        """Nothing more is written. Without a terminal this has to be said: until then Nomad does not tell the program's end either."""
        self._input_ended = True
        await self._connection.end_input()

    async def resize(self, size: TerminalSize) -> None:
        await self._connection.resize(size)

    async def _received_all(self) -> None:
        """`shell_open.sh` may end."""
        if not self._input_ended:
            with suppress(BackendUnavailable):
                await self._connection.write(f"{self._shell}\n".encode())

    async def cut(self) -> None:
        """The connection is closed, whatever runs; `output` then raises."""
        await self._connection.close()

    async def close(self) -> None:
        """Also when nothing can be reached: see `end` for what then has to be done."""
        with suppress(BackendUnavailable):
            await self.end()

    async def end(self) -> None:
        """As `close`. Raises BackendUnavailable when the program may still run: `end_again` later."""
        if not self._closed:
            self._known, self._closed = self._told, True
        try:
            if not await self._ends_itself():
                await self.end_again()
        finally:
            await self._connection.close()

    async def _ends_itself(self) -> bool:
        """The program has ended; then what held its terminal ends too, once it was told that it may."""
        if self._ending.exit_code is None:
            return False
        with suppress(BackendUnavailable, JobNotThere, TimeoutError):
            async with asyncio.timeout(_LEAVES_S):
                while self._connection.exit_code is None and await self._connection.receive() is not None:
                    pass
        return self._connection.exit_code is not None

    async def end_again(self, looks: int = 1) -> None:
        """Nothing of it runs any more, or the task is over. `looks`: how many times it is looked for, if it is only about to start. Raises
        BackendUnavailable."""
        command = ["/bin/sh", "-c", f"serai_server={_SERVER} serai_shell={self._shell}\n{_text('end')}", "sh", str(looks)]
        try:
            async with asyncio.timeout(self._streams.timeout_s):
                connection = await connect(self._streams, self._where, command, tty=False)
                try:
                    await connection.end_input()
                    while await connection.receive() is not None:
                        pass
                finally:
                    await connection.close()
        except JobNotThere:
            pass
        except TimeoutError as error:
            raise BackendUnavailable("the shell could not be ended in time") from error


async def start(
    streams: Streams, where: tuple[str, str], argv: Sequence[str], size: TerminalSize | None, enter: Sequence[str] = ()
) -> NomadShell:
    """`where`: allocation and task. See NomadClient.exec."""
    for _ in range(_TIMES):
        started = await _start(streams, where, argv, size, enter)
        if started is not None:
            return started
    raise BackendUnavailable("Nomad lost the shell each time it was opened: try again")


async def _start(
    streams: Streams, where: tuple[str, str], argv: Sequence[str], size: TerminalSize | None, enter: Sequence[str]
) -> NomadShell | None:
    """None = Nomad lost it, and nothing of it is left."""
    shell = secrets.token_hex(16)
    rows, columns = (str(size.rows), str(size.columns)) if size is not None else ("", "")
    inside = f"serai_shell={shell} serai_terminal={rows}\n{_text('program')}"
    around = f": serai-shell {_SERVER} {shell}\nserai_server={_SERVER} serai_shell={shell}\n{_text('open')}"
    command = ["/bin/sh", "-c", around, "sh", rows, columns, *enter, "/bin/sh", "-c", inside, "sh", *argv]
    connection = await connect(streams, where, command, tty=size is not None, lasting=True)
    made = NomadShell(streams, connection, where, shell, terminal=size is not None)
    try:
        async with asyncio.timeout(streams.timeout_s):
            if await made.begin(size):
                return made
    except (TimeoutError, BackendUnavailable) as error:
        await connection.close()
        if connection.exit_code is None:
            # It may be there all the same, and nobody else would end it before its job does.
            with suppress(BackendUnavailable):
                await made.end_again(_LOOKS)
        if isinstance(error, TimeoutError):
            raise BackendUnavailable("the shell did not start in time: has the replica /bin/sh?") from error
        raise
    except BaseException:
        await connection.close()
        raise
    await connection.close()
    await made.end_again(_LOOKS)
    return None


def _words(said: bytes) -> str:
    return said.decode("utf-8", "replace").strip() or "it ended without a word"


@cache
def _text(name: str) -> str:
    """Of `shell_{name}.sh`, without what is there for people."""
    lines = Path(__file__).with_name(f"shell_{name}.sh").read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if not line.lstrip().startswith("#"))
