"""Envoy's administration, at its Unix socket: whether it serves, what is under way, and the steps of a stop."""

from __future__ import annotations

from pathlib import Path

import aiohttp

_TIMEOUT = aiohttp.ClientTimeout(total=5)
_ACTIVE = "^http\\.(api|apps)\\.(downstream_rq_active|downstream_cx_upgrades_active)$"


class AdminError(Exception):
    """Envoy does not answer at its socket, or not as expected."""


class Admin:
    """Asks one Envoy. Each call has a connection of its own; AdminError."""

    def __init__(self, socket: Path) -> None:
        self._socket = str(socket)

    async def live(self) -> bool:
        """Whether it serves; False also when nobody answers."""
        try:
            return (await self._ask("GET", "/ready")).strip() == "LIVE"
        except AdminError:
            return False

    async def fail_health(self) -> None:
        """From now on health checks are answered with an error."""
        await self._ask("POST", "/healthcheck/fail")

    async def drain(self, *, graceful: bool) -> None:
        """Take no new connections: at once, or when Envoy's drain time is over, in which clients are told to go."""
        await self._ask("POST", "/drain_listeners?graceful" if graceful else "/drain_listeners")

    async def calls_under_way(self) -> int:
        """Requests that wait for their answer; WebSockets, which have no end of their own, are not among them."""
        lines = (await self._ask("GET", f"/stats?filter={_ACTIVE}")).splitlines()
        count = 0
        for name, _, value in (line.partition(": ") for line in lines):
            count += -int(value) if name.endswith("upgrades_active") else int(value)
        return max(0, count)

    async def _ask(self, verb: str, path: str) -> str:
        try:
            async with (
                aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=self._socket), timeout=_TIMEOUT) as session,
                session.request(verb, f"http://envoy{path}") as answer,
            ):
                text = await answer.text()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise AdminError(f"Envoy does not answer at {self._socket}") from error
        if answer.status not in {200, 503}:  # 503: not ready yet
            raise AdminError(f"Envoy's administration answered {answer.status} to {path}")
        return text
