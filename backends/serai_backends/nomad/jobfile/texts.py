"""Words of users on their way through Nomad and the shell, byte by byte.

Nomad replaces `${…}` in arguments, environment and driver options, and offers no way around it. So nothing of a user's stands there: words
travel in templates, which are not interpolated, with delimiters that do not occur in the text, quoted for a shell that reads them once.
"""

from __future__ import annotations

import shlex
from itertools import count
from typing import TYPE_CHECKING

from serai_backends.errors import SubmissionRefused

if TYPE_CHECKING:
    from serai_backends.nomad.jobfile.model import JSON

quote = shlex.quote


def delimiters(text: str) -> tuple[str, str]:
    """A pair that makes no template of any part of `text`: only the left one begins an action."""
    for number in count():
        left = f"<{number}serai<" if number else "<serai<"
        if left not in text:
            return left, left.replace("<", ">")
    raise AssertionError  # `count` has no end


def plain(path: str, text: str, *, mode: str = "0644") -> dict[str, JSON]:
    """A file with exactly this text, in the task's folder."""
    left, right = delimiters(text)
    return {
        "DestPath": path,
        "EmbeddedTmpl": text,
        "LeftDelim": left,
        "RightDelim": right,
        "Perms": mode,
        "ChangeMode": "noop",
    }


def template(path: str, text: str, *, variables: bool = False) -> dict[str, JSON]:
    """A file that Nomad fills in; it holds the task until everything in it is there."""
    found: dict[str, JSON] = {"DestPath": path, "EmbeddedTmpl": text, "Perms": "0644", "ChangeMode": "noop"}
    return found | {"Envvars": True} if variables else found


def no_reference(text: str, what: str) -> str:
    """`text` for a place where Nomad replaces `${…}` and obeys `%{…}`. Raises SubmissionRefused."""
    for sign in ("${", "%{"):
        if sign in text:
            raise SubmissionRefused(f"{what} has `{sign}` in its name, which Nomad would replace: rename it")
    return text
