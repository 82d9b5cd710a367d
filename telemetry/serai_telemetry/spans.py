"""Traces as the parts of Serai know them: spans with a name, and a text that says where a piece of work belongs.

That text is W3C's `traceparent` (Trace Context, level 1): it travels in headers and metadata, between threads and in a job's row alike. A
part is given `Traces | None`; None costs it one comparison. The real thing is made by `otel`.

What stands in spans may be seen by whoever may see traces: names of methods and routes, codes, numbers, ids of jobs. Never a token, a
user's name, a text of a user or the text of an exception.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from enum import Enum
from types import MappingProxyType
from typing import Protocol

TRACEPARENT = "traceparent"
"""Header and metadata."""
LINKS = "serai-trace-links"
"""Metadata: traceparents, with commas between them, of calls that travel in this one."""
MOST_LINKS = 128
"""Of one span."""
REASON = "serai.reason"
"""Note: why a call was refused, a word of the table of errors or a code of gRPC."""
JOB = "serai.job_id"
"""Note: the job that it is about."""
NOTHING: Mapping[str, str | int] = MappingProxyType({})

_FORM = re.compile(r"[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}").fullmatch


class Kind(Enum):
    INTERNAL = "internal"
    SERVER = "server"
    """Answers a call."""
    CLIENT = "client"
    """Makes one."""


class Span(Protocol):
    def name(self, name: str) -> None:
        """Call it something else than at its beginning."""
        ...

    def note(self, key: str, value: str | int) -> None: ...

    def failed(self, word: str) -> None:
        """It ended with an error: a code, a reason, a class of exceptions."""
        ...

    def refused(self, word: str) -> None:
        """It did what it should and said no, for a reason that is the caller's: what is raised after that does not mark it as failed."""
        ...


class Traces(Protocol):
    def span(
        self,
        name: str,
        kind: Kind = Kind.INTERNAL,
        *,
        parent: str = "",
        links: Sequence[str] = (),
        notes: Mapping[str, str | int] = NOTHING,
        current: bool = True,
    ) -> AbstractContextManager[Span]:
        """A span for as long as the block. What it raises marks it as failed; a cancellation does not.

        `parent`, `links`: traceparents; an empty parent means the current span, or a new trace where there is none, and what is no
        traceparent counts as empty. `current` False = spans that begin inside do not belong to it, as in a generator, where "inside" has
        no meaning.
        """
        ...

    def current(self) -> str:
        """The traceparent of the span that the caller is in; empty = in none."""
        ...


def is_traceparent(text: str) -> bool:
    return _FORM(text) is not None


def recorded(traceparent: str) -> str:
    """The same when its trace is kept by somebody, else empty: links to what nobody has are of no use."""
    return traceparent if is_traceparent(traceparent) and int(traceparent[-2:], 16) & 1 else ""
