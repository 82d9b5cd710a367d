"""Which WebSockets there are: one small table of paths, each with what serves it.

Source of UCloud's paths: facts 2021 §3.1 (the segment of `follow` is the call's namespace, not the provider's id), §4.5; facts today §8.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

from serai_gateway.ws.protocol import Rules
from serai_gateway.ws.socket import Socket

FOLLOW = "/ucloud/jobs.provider.{provider}/websocket"
SHELL = "/ucloud/{provider}/websocket"

_PART = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class SocketPath:
    """`template` has `{provider}` where an id of this provider stands, and `{name}` for any other segment."""

    template: str
    serve: Callable[[Socket], Awaitable[None]]
    """Accepts or refuses the socket, and returns when it is done with it; what it leaves open is closed then."""
    rules: Rules


class SocketPaths:
    """Finds a path's entry. ValueError when two entries have the same template."""

    def __init__(self, paths: Iterable[SocketPath], providers: frozenset[str]) -> None:
        self._paths: list[tuple[re.Pattern[str], SocketPath]] = []
        names = "|".join(sorted(re.escape(name) for name in providers))
        taken: set[str] = set()
        for path in paths:
            if path.template in taken:
                raise ValueError(f"two WebSocket calls have the path {path.template}")
            taken.add(path.template)
            self._paths.append((re.compile(_pattern(path.template, names)), path))

    def find(self, path: str) -> tuple[SocketPath, Mapping[str, str]] | None:
        """The entry and what stands at its names; `path` is percent-decoded."""
        for pattern, entry in self._paths:
            found = pattern.fullmatch(path)
            if found is not None:
                return entry, found.groupdict()
        return None


def _pattern(template: str, providers: str) -> str:
    parts = _PART.split(template)
    literals = [re.escape(part) for part in parts[::2]]
    names = [f"(?P<{name}>{providers if name == 'provider' else '[^/]+'})" for name in parts[1::2]]
    return "".join(part for pair in zip(literals, [*names, ""], strict=True) for part in pair)
