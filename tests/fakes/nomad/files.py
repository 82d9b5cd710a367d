"""/v1/client/fs/logs: what the client kept of a task's output."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import msgspec
from aiohttp import web

from fakes.nomad.client import Clients
from fakes.nomad.http import Refused, flag, number
from fakes.nomad.runner import Runner

_FRAME = 64 * 1024


class Files:
    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self.played: dict[tuple[str, str, str], bytes] = {}
        """Logs of simulated tasks: (allocation, task, stream) → bytes."""

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/v1/client/fs/logs/{alloc}", self.logs)]

    async def logs(self, request: web.Request) -> web.StreamResponse:
        alloc = request.match_info["alloc"]
        task, kind = request.query.get("task", ""), request.query.get("type", "")
        if not task:
            raise Refused(400, "must provide task name")
        if kind not in {"stdout", "stderr"}:
            raise Refused(400, "log type must be stdout or stderr")
        runner = self._runner(alloc)
        state = runner.states.get(task)
        if state is None:
            raise Refused(404, f'unknown task name "{task}"')
        if not state.started_at:
            raise Refused(404, f'task "{task}" not started yet. No logs available')
        settings = next(t for t in runner.alloc.group.members if t.name == task).log_config
        if settings is not None and settings.disabled:
            raise Refused(404, f'log entry for task "{task}" and log type "{kind}" not found')
        return await self._send(request, runner, task, kind)

    def _runner(self, alloc: str) -> Runner:
        runner = self._clients.runners.get(alloc)
        if alloc in self._clients.gone:
            raise Refused(404, f"state for allocation {alloc} not found on client")
        if runner is None or runner.vanished:
            raise Refused(404, f'Unknown allocation "{alloc}"')
        return runner

    async def _send(self, request: web.Request, runner: Runner, task: str, kind: str) -> web.StreamResponse:
        offset, from_end = number(request, "offset"), request.query.get("origin", "start") == "end"
        plain, follow = flag(request, "plain"), flag(request, "follow")
        path = runner.folder.log(task, kind)
        size = len(await self._bytes(runner, path, task, kind))
        at = max(0, size - offset) if from_end else offset
        response = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8" if plain else "application/json"})
        await response.prepare(request)
        try:
            while True:
                found = (await self._bytes(runner, path, task, kind))[at:]
                for start in range(0, len(found), _FRAME):
                    part = found[start : start + _FRAME]
                    await response.write(part if plain else _frame(part, f"alloc/logs/{task}.{kind}.0", at + start + len(part)))
                at += len(found)
                if not follow:
                    break
                if not found:
                    await asyncio.sleep(0.05)  # a follower never ends by itself, as the real one's does not
        except ConnectionError:
            return response
        await response.write_eof()
        return response

    async def _bytes(self, runner: Runner, path: Path, task: str, kind: str) -> bytes:
        if self._clients.simulated:
            return self.played.get((runner.alloc.id, task, kind), b"")
        return await asyncio.to_thread(lambda: path.read_bytes() if path.exists() else b"")


def _frame(part: bytes, name: str, offset: int) -> bytes:
    """`Offset` is the place after its last byte, as seen."""
    return msgspec.json.encode({"Data": base64.b64encode(part).decode(), "File": name, "Offset": offset})
