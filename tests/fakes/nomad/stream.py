"""/v1/event/stream: the chosen lines of the broker, and a heartbeat at once and then at each interval."""

from __future__ import annotations

import asyncio

from aiohttp import web

from fakes.nomad.broker import Broker, Subscriber, Wish
from fakes.nomad.http import Refused, namespace, number

_ALL = ("Deployment", "Evaluation", "Allocation", "Job", "Node", "NodePool", "Service", "HostVolume", "Variable")


class Stream:
    def __init__(self, broker: Broker, heartbeat_s: float, token: str | None) -> None:
        self._broker, self._heartbeat_s, self._token = broker, heartbeat_s, token
        self.open = 0

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/v1/event/stream", self.get)]

    async def get(self, request: web.Request) -> web.StreamResponse:
        wish = self._wish(request)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        subscriber = self._broker.subscribe(wish, number(request, "index"))
        self.open += 1
        try:
            await response.prepare(request)
            await response.write(b"{}\n")
            await self._pump(response, subscriber)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            self._broker.leave(subscriber)
        if request.transport is not None:
            request.transport.close()  # the end of a stream is the end of its connection, without a last chunk
        return response

    def _wish(self, request: web.Request) -> Wish:
        topics: dict[str, set[str]] = {}
        for text in request.query.getall("topic", []):
            topic, _, key = text.partition(":")
            if not topic:
                raise Refused(400, f'Invalid key value pair for topic, topic: "{text}"')
            topics.setdefault(topic, set[str]()).add(key or "*")
        if not topics:
            topics = {t: {"*"} for t in _ALL}
        allowed = self._token is None or request.headers.get("X-Nomad-Token", "") == self._token
        chosen = {t: frozenset(keys) for t, keys in topics.items()} if allowed else {}
        return Wish(chosen, namespace(request))

    async def _pump(self, response: web.StreamResponse, subscriber: Subscriber) -> None:
        while True:
            while subscriber.waiting:
                lines: list[bytes] = []
                while subscriber.waiting:
                    line = subscriber.waiting.popleft()
                    if line is None:
                        if lines:
                            await response.write(b"".join(lines))
                        return
                    lines.append(line)
                await response.write(b"".join(lines))
            subscriber.woken.clear()
            try:
                await asyncio.wait_for(subscriber.woken.wait(), self._heartbeat_s)
            except TimeoutError:
                await response.write(b"{}\n")
