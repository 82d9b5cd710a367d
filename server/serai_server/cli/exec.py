"""`serai jobs exec`: a program, or a shell, in a running replica, with the operator's terminal.

Requests come from three places, and gRPC takes them from one iterator: what is typed (a thread of its own, since reading blocks), new
sizes (a signal handler), and the opening. Answers are written by the main thread, so that signals end the command wherever it waits.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from typing import Never

import click
from serai.sessions.v1 import sessions_service_pb2 as pb
from serai.sessions.v1.sessions_service_pb2_grpc import SessionsServiceStub

from serai_server.cli.client import service_of
from serai_server.cli.exits import CliError, Exit
from serai_server.cli.options import config_option, server_of, socket_option
from serai_server.cli.terminal import Killed, PlainLines, ends_by_signal, raw, size_of

_STDIN, _STDOUT, _STDERR = 0, 1, 2
_PIECE = 16 * 1024
"""Bytes read at a time of what is typed, or comes by a pipe."""
_AHEAD = 8
"""Pieces that wait for the program; then the reader waits."""
_END = b"\x04"
"""What Ctrl-D types: the end of input, where a line begins."""


class _Exec(click.Command):
    """Options stand before the job or right behind it; from the program's name on, every word is the program's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, self._apart(ctx, args))

    def _apart(self, ctx: click.Context, args: list[str]) -> list[str]:
        """With `--` in front of the program."""
        takes_value = {name for p in self.get_params(ctx) if isinstance(p, click.Option) and not p.is_flag for name in p.opts}
        words = skip = 0
        for place, word in enumerate(args):
            if skip:
                skip -= 1
            elif word == "--":
                break
            elif word.startswith("-") and len(word) > 1:
                skip = word in takes_value
            elif words:
                return [*args[:place], "--", *args[place:]]
            else:
                words = 1
        return args


@click.command("exec", cls=_Exec)
@click.option("-i", "--interactive", is_flag=True, help="What is typed here goes to the program.")
@click.option("-t", "--tty", is_flag=True, help="Use this terminal: every key goes to the program, and it has this terminal's size.")
@click.option("--rank", default=0, show_default=True, type=click.IntRange(min=0), help="In which replica.")
@config_option
@socket_option
@click.argument("job_id")
@click.argument("program", nargs=-1, type=click.UNPROCESSED, metavar="[PROGRAM [ARGUMENT]...]")
def exec_(*, job_id: str, rank: int, program: tuple[str, ...], interactive: bool, tty: bool, config: Path, socket: Path | None) -> int:
    """Run a program in a replica of a running job, beside the job's own; without one, and with -i or -it, a shell.

    The exit code is the program's. It is ended when this command ends, or the job. Users' shells, which survive a cut connection, are
    opened in UCloud.

    The program always has a terminal, and stderr comes with stdout. Without -t, its line ends (CR LF) come out as LF, so that what a
    program writes comes out byte for byte unless it changes its terminal. With -i and without -t, input goes to that terminal as if it
    were typed: it is echoed, a line has at most 4,095 bytes, and its end is typed as Ctrl-D. To move files, use the job's folder.

    \b
    serai jobs exec -it 4711
    serai jobs exec -it 4711 --rank 2 python3
    serai jobs exec 4711 ps -ef
    """
    if not program and not interactive:
        raise CliError("name a program, or have a shell with -it: without -i nobody could type into it", Exit.USAGE)
    if tty and not os.isatty(_STDIN if interactive else _STDOUT):
        raise CliError("-t needs a terminal, and this is none: leave it out", Exit.USAGE)
    said = _Said()
    try:
        with ends_by_signal(), service_of(SessionsServiceStub, server_of(config, socket)) as service:
            said.open(pb.ShellProgram(job_id=job_id, rank=rank, argv=program), _size() if tty else None)
            return _run(service.Shell(said.each()), said, _STDIN if interactive else None, own_terminal=tty)
    except Killed as error:
        return error.exit_code
    finally:
        said.end()


def _run(answers: Iterator[pb.ShellResponse], said: _Said, stdin: int | None, *, own_terminal: bool) -> int:
    """Until the program has ended; its exit code. `stdin` None = nothing is typed."""
    _expect_opened(answers)
    lines = None if own_terminal else PlainLines()
    exited: pb.ShellExited | None = None
    with ExitStack() as stack:
        if stdin is not None:
            if own_terminal:
                stack.enter_context(raw(stdin, lambda: said.resize(_size())))
                said.resize(_size())  # it may have changed before anybody looked
            threading.Thread(target=_read, args=(stdin, said), kwargs={"typed": own_terminal}, daemon=True).start()
        for answer in answers:
            if answer.HasField("exited"):
                exited = answer.exited
                break
            _write(answer.output if lines is None else lines.feed(answer.output))
        _write(lines.rest() if lines is not None else b"")
    return _exit_code(exited)


def _expect_opened(answers: Iterator[pb.ShellResponse]) -> None:
    first = next(answers, pb.ShellResponse())
    if not first.HasField("opened"):
        _ended_without_a_word()


def _exit_code(exited: pb.ShellExited | None) -> int:
    if exited is None:
        _ended_without_a_word()
    if not exited.HasField("exit_code"):
        raise CliError(f"the program was ended: {exited.why}" if exited.why else "nobody saw how the program ended")
    return exited.exit_code


def _ended_without_a_word() -> Never:
    raise CliError("the server ended the call and did not say how the program ended")


def _write(data: bytes) -> None:
    if data:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def _size() -> tuple[int, int] | None:
    """Of the terminal here, wherever of the three streams it is."""
    return next((size for fd in (_STDIN, _STDOUT, _STDERR) if (size := size_of(fd)) is not None), None)


def _read(stdin: int, said: _Said, *, typed: bool) -> None:
    """What comes on stdin, until its end. `typed`: by a raw terminal, whose end is that somebody hung up."""
    last = b"\n"
    while data := _some(stdin):
        said.type(data)
        last = data[-1:]
    if not typed:
        # In the middle of a line the first one ends the line, so to say, and the second the input.
        said.type(_END if last == b"\n" else _END + _END)
    said.end()


def _some(stdin: int) -> bytes:
    try:
        return os.read(stdin, _PIECE)
    except OSError:
        return b""  # the terminal is gone


class _Said:
    """The requests of the call, in order, from any thread and from signal handlers. Only what is typed is bounded: the rest is rare."""

    def __init__(self) -> None:
        # SimpleQueue is the one queue that a signal handler may put into while the same thread is inside of it.
        self._queue: SimpleQueue[pb.ShellRequest | None] = SimpleQueue()
        self._room = threading.Semaphore(_AHEAD)

    def open(self, program: pb.ShellProgram, size: tuple[int, int] | None) -> None:
        opening = pb.ShellOpen(program=program)
        if size is not None:
            opening.size.CopyFrom(_message(size))
        self._queue.put(pb.ShellRequest(open=opening))

    def type(self, data: bytes) -> None:
        self._room.acquire()
        self._queue.put(pb.ShellRequest(input=data))

    def resize(self, size: tuple[int, int] | None) -> None:
        if size is not None:
            self._queue.put(pb.ShellRequest(resize=_message(size)))

    def end(self) -> None:
        self._queue.put(None)

    def each(self) -> Iterator[pb.ShellRequest]:
        """For gRPC, which takes the next one when it has sent the one before."""
        while (request := self._queue.get()) is not None:
            if request.HasField("input"):
                self._room.release()
            yield request


def _message(size: tuple[int, int]) -> pb.TerminalSize:
    return pb.TerminalSize(columns=size[0], rows=size[1])
