"""The one place where the supervisor waits: descriptors and what is to be done when something happens to them.

No asyncio and no selectors: their import costs each supervisor time and memory (see plan.py).
"""

from __future__ import annotations

import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

READABLE, WRITABLE = select.POLLIN, select.POLLOUT


class Events:
    def __init__(self) -> None:
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[], None]] = {}

    def add(self, fd: int, handler: Callable[[], None], kind: int = READABLE) -> None:
        """`handler` must not block, and must bear being called for nothing."""
        self._handlers[fd] = handler
        self._poll.register(fd, kind)

    def remove(self, fd: int) -> None:
        """Before its number is used again."""
        self._poll.unregister(fd)
        del self._handlers[fd]

    def forget(self, fd: int) -> None:
        """As `remove`, if it is there."""
        if fd in self._handlers:
            self.remove(fd)

    def wait(self, timeout_ms: int) -> None:
        """Until something has happened and its handlers have run, or the time is over."""
        for fd, _ in self._poll.poll(timeout_ms):
            handler = self._handlers.get(fd)  # it may be gone by what was done for the one before
            if handler is not None:
                handler()
