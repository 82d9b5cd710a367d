"""Exit codes of the `serai` command, and the error that carries one. Programs may rely on them; docs/cli.md lists them."""

from __future__ import annotations

from enum import IntEnum
from typing import IO, Any, cast

import click


class Exit(IntEnum):
    OK = 0
    ERROR = 1
    """Something else went wrong; the words on stderr say what."""
    USAGE = 2
    """The command line or the settings file is wrong."""
    NOT_FOUND = 3
    """No such job, license server, maintenance window or token."""
    NOT_REACHABLE = 4
    """The server does not answer on its socket, or cannot work now."""
    NOT_YET = 5
    """Waited for as long as was asked, and it has not happened."""
    INTERRUPTED = 130
    """Ctrl-C."""
    READER_GONE = 141
    """The program that reads our output went away (`… | head`)."""


MEANINGS = {
    Exit.OK: "done",
    Exit.ERROR: "an error; words on stderr",
    Exit.USAGE: "the command line or the settings file is wrong",
    Exit.NOT_FOUND: "no such job, license server, maintenance window or token",
    Exit.NOT_REACHABLE: "the server does not answer",
    Exit.NOT_YET: "waited as long as was asked, in vain",
    Exit.INTERRUPTED: "interrupted with Ctrl-C",
    Exit.READER_GONE: "the reader of the output went away",
}


class CliError(click.ClickException):
    """Ends the command with a line on stderr and a code of the table."""

    def __init__(self, text: str, code: Exit = Exit.ERROR) -> None:
        super().__init__(text)
        # click means one code for each class; here it belongs to the error, and click reads it from there all the same.
        self.exit_code = int(code)  # pyright: ignore[reportAttributeAccessIssue]

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"serai: {self.message}", file=file, err=file is None)


def leaves(error: BaseException) -> list[BaseException]:
    """What really went wrong: the errors inside groups, or the error itself.

    For `except Exception` in place of `except*`: what is raised in the latter arrives inside a group before Python 3.11.4.
    """
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    members = cast("BaseExceptionGroup[BaseException]", error).exceptions
    return [leaf for member in members for leaf in leaves(member)]
