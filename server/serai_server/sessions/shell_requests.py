"""What clients may say in a shell's call, read and checked: the place of a wrong field is told, and nothing of its content."""

from __future__ import annotations

from serai.sessions.v1 import sessions_service_pb2 as pb
from serai_backends.model import TerminalSize

from serai_server.errors import InvalidRequest

MOST_INPUT = 64 * 1024
"""Bytes of one input (sessions_service.proto)."""
DEFAULT_SIZE = TerminalSize(columns=80, rows=24)
"""For those who do not say: what terminals have always been, and UCloud's default (facts of 2021 §4.5)."""

_LARGEST = 1_000
_MOST_ARGUMENTS = 1_000
_MOST_ARGUMENT_BYTES = 100_000
"""Of all arguments; Linux takes 128 KiB for one, and a command's own line needs some."""


def opening(request: pb.ShellRequest) -> pb.ShellOpen:
    """The first request. Raises InvalidRequest."""
    kind = request.WhichOneof("message")
    if kind != "open":
        raise InvalidRequest("expected `open` as the first request", field=kind or "message")
    if request.open.WhichOneof("who") is None:
        raise InvalidRequest("expected a secret, or a program", field="open.who")
    if request.open.HasField("program"):
        _check_arguments(request.open.program)
    return request.open


def opening_size(request: pb.ShellOpen) -> TerminalSize | None:
    """None = not told. Raises InvalidRequest."""
    return size_of(request.size, "open.size") if request.HasField("size") else None


def typed(request: pb.ShellRequest) -> bytes | TerminalSize:
    """A later request: bytes to be typed, or the terminal's new size. Raises InvalidRequest."""
    match request.WhichOneof("message"):
        case "input":
            if len(request.input) > MOST_INPUT:
                raise InvalidRequest(f"expected at most {MOST_INPUT} bytes at a time, found {len(request.input)}", field="input")
            return request.input
        case "resize":
            return size_of(request.resize, "resize")
        case "open":
            raise InvalidRequest("the shell is open already; another one needs a call of its own", field="open")
        case _:
            raise InvalidRequest("expected `input` or `resize`", field="message")


def size_of(size: pb.TerminalSize, field: str) -> TerminalSize:
    """Raises InvalidRequest with a path below `field`."""
    for name, value in (("columns", size.columns), ("rows", size.rows)):
        if not 1 <= value <= _LARGEST:
            raise InvalidRequest(f"expected 1 to {_LARGEST}, found {value}", field=f"{field}.{name}")
    return TerminalSize(columns=size.columns, rows=size.rows)


def _check_arguments(program: pb.ShellProgram) -> None:
    if len(program.argv) > _MOST_ARGUMENTS:
        raise InvalidRequest(f"expected at most {_MOST_ARGUMENTS} arguments, found {len(program.argv)}", field="open.program.argv")
    if sum(len(argument.encode()) for argument in program.argv) > _MOST_ARGUMENT_BYTES:
        raise InvalidRequest(f"expected at most {_MOST_ARGUMENT_BYTES} bytes of arguments", field="open.program.argv")
    for index, argument in enumerate(program.argv):
        if "\0" in argument:
            raise InvalidRequest("an argument cannot have a zero byte", field=f"open.program.argv[{index}]")
    if program.argv and not program.argv[0]:
        raise InvalidRequest("expected the name of a program", field="open.program.argv[0]")
