"""The operator's own terminal while a program in a replica has it: raw, and put back as it was on every way out."""

from __future__ import annotations

import os
import signal
import termios
import tty
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from types import FrameType

_ENDING = (signal.SIGTERM, signal.SIGHUP)


class Killed(BaseException):
    """A signal asks the command to end. No Exception, so that nobody takes it for an error of their own."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


@contextmanager
def ends_by_signal() -> Generator[None]:
    """SIGTERM and SIGHUP raise Killed inside the block, so that what was changed is put back. SIGINT raises KeyboardInterrupt as ever."""

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        raise Killed(number)

    with _handlers(dict.fromkeys(_ENDING, end)):
        yield


@contextmanager
def raw(fd: int, resized: Callable[[], None]) -> Generator[None]:
    """Every key goes to the program, Ctrl-C included. `resized` is called when the terminal has another size."""
    before = termios.tcgetattr(fd)

    def on_resize(number: int, frame: FrameType | None) -> None:
        del number, frame
        resized()

    def on_continue(number: int, frame: FrameType | None) -> None:
        # Whoever had the terminal while this command was stopped has left it in another state, and perhaps of another size.
        del number, frame
        tty.setraw(fd, termios.TCSADRAIN)
        resized()

    with _handlers({signal.SIGWINCH: on_resize, signal.SIGCONT: on_continue}):
        try:
            tty.setraw(fd, termios.TCSADRAIN)
            yield
        finally:
            with suppress(termios.error):  # a terminal that was hung up has nothing to be put back
                termios.tcsetattr(fd, termios.TCSADRAIN, before)


def size_of(fd: int) -> tuple[int, int] | None:
    """(columns, rows), each 1 to 1,000; None = not a terminal, or one that does not say."""
    try:
        columns, rows = os.get_terminal_size(fd)
    except OSError:
        return None
    return (min(columns, 1_000), min(rows, 1_000)) if columns and rows else None


_Handler = Callable[[int, FrameType | None], None]


@contextmanager
def _handlers(handlers: dict[signal.Signals, _Handler]) -> Generator[None]:
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class PlainLines:
    """A terminal writes each line end as CR LF; this makes LF of it again, whatever the pieces in which it comes.

    Exact: a CR that the program wrote itself has the terminal's own CR behind it, when an LF follows.
    """

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        data = self._held + data
        self._held = b"\r" if data.endswith(b"\r") else b""
        return data.removesuffix(self._held).replace(b"\r\n", b"\n")

    def rest(self) -> bytes:
        """What was held back for what might have followed."""
        held, self._held = self._held, b""
        return held
