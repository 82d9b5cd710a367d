"""exec in a task: the websocket's frames (nomad-tried §7), with a real terminal where one is asked for."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, cast

import msgspec
from aiohttp import WSMsgType, web

from fakes.nomad.container import Container
from fakes.nomad.http import Refused, flag
from fakes.nomad.terminal import Program

if TYPE_CHECKING:
    from collections.abc import Callable

    from fakes.nomad.client import Clients
    from fakes.nomad.runner import Runner
    from fakes.nomad.spec import Json

_LOOKS_S = 0.1
"""Between two looks of the driver docker at whether a program has ended."""
_KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)


class Shells:
    """A program lives on when its connection is gone, until its task ends. docker has rules of its own, here as there:

    - what of its output has not been handed on when its end is seen is lost;
    - a size that comes before it has begun is forgotten;
    - Ctrl-P waits for the next key, and Ctrl-P, Ctrl-Q leaves the terminal: then nothing moves any more.
    """

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._left: set[asyncio.Task[None]] = set()
        self.lose_next = 0
        """So many are taken for ended before they have begun: docker is sometimes asked too early."""
        self.break_next = 0
        """So many connections break when their program has said its first word, which is lost."""
        self.silent_ends = False
        """Nothing is told of the end of a task, as the driver exec has it."""

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/v1/client/allocation/{id}/exec", self.exec)]

    async def close(self) -> None:
        """The end of the test: no program is left."""
        for left in self._left:
            left.cancel()
        await asyncio.gather(*self._left, return_exceptions=True)

    async def exec(self, request: web.Request) -> web.StreamResponse:
        if "upgrade" not in request.headers.get("Connection", "").lower():
            raise Refused(500, "websocket connection not found in context")
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        alloc, task = request.match_info["id"], request.query.get("task", "")
        runner = self._clients.runners.get(alloc)
        if runner is None:
            await socket.close(code=1008, message=f'Unknown allocation "{alloc}"'.encode())
            return socket
        if task not in runner.running or self._clients.simulated:
            await socket.close(code=1008, message=f'task "{task}" is not running'.encode())
            return socket
        command = cast("list[str]", json.loads(request.query.get("command", "[]")))
        box = runner.running[task]
        try:
            program = await _started(runner, task, command, tty=flag(request, "tty"))
        except OSError:
            await socket.close(code=1011)
            return socket
        try:
            if self.lose_next:
                self.lose_next -= 1
                await socket.send_str('{"exited":true,"result":{}}')
            elif self.break_next:
                self.break_next -= 1
                await program.read("stdout")
            else:
                await self._serve(socket, program, lambda: task in runner.running, docker=isinstance(box, Container))
        finally:
            self._leave(program)
        _hang_up(socket)
        return socket

    async def _serve(self, socket: web.WebSocketResponse, program: Program, lives: Callable[[], bool], *, docker: bool) -> None:
        keys = _Keys() if docker and program.tty else None
        begun = asyncio.Event()
        reading = [asyncio.ensure_future(_pump(socket, program, name, begun)) for name in program.outputs]
        taking = asyncio.ensure_future(_take(socket, program, keys, begun if docker else None))
        ending = asyncio.ensure_future(program.process.wait())
        try:
            await asyncio.wait([ending, taking], return_when=asyncio.FIRST_COMPLETED)
            if not ending.done():
                return
            code = ending.result()
            if docker:
                await asyncio.wait(reading, timeout=_LOOKS_S)
            else:
                await asyncio.gather(*reading)
            # the end of its task kills it, and may be known here a moment later
            if self.silent_ends and (code in _KILLED or not lives()):
                await taking
            result = {} if code == 0 else {"exit_code": 128 - code if code < 0 else code}
            await socket.send_str(msgspec.json.encode({"exited": True, "result": result}).decode())
        except ConnectionError:
            pass
        finally:
            left = {*reading, taking, ending}
            for one in left:
                one.cancel()
            await asyncio.wait(left)

    def _leave(self, program: Program) -> None:
        left = asyncio.ensure_future(_live_on(program))
        self._left.add(left)
        left.add_done_callback(self._left.discard)


async def _started(runner: Runner, task: str, command: list[str], *, tty: bool) -> Program:
    box, env, folder = runner.running[task], runner.env[task], str(runner.folder.task(task))
    if isinstance(box, Container):
        return await Program.start(box.command(command, tty=tty), box.env | {"TERM": "xterm"}, folder, tty=tty, own_terminal=False)
    return await Program.start(command, {**os.environ, **env}, folder, tty=tty, own_terminal=True)


async def _live_on(program: Program) -> None:
    """Its connection is gone. What it says is said to nobody, and it is not kept from saying it."""
    try:
        await asyncio.gather(*(_drain(program, name) for name in program.outputs), program.process.wait())
    finally:
        await program.close()


async def _drain(program: Program, name: str) -> None:
    while await program.read(name):
        pass


def _hang_up(socket: web.WebSocketResponse) -> None:
    if socket._req is not None and socket._req.transport is not None:  # pyright: ignore[reportPrivateUsage] - no close frame: the real one sends none
        socket._req.transport.close()  # pyright: ignore[reportPrivateUsage] - as above


class _Keys:
    """What dockerd makes of the keys that are typed."""

    def __init__(self) -> None:
        self._held = b""
        self.left = False

    def typed(self, data: bytes) -> bytes:
        given = bytearray()
        for key in data:
            if self._held and key == 0x11:
                self.left = True
                break
            given += self._held
            # one that is let go does not begin a sequence of its own
            held, self._held = self._held, b""
            if key == 0x10 and not held:
                self._held = b"\x10"
            else:
                given.append(key)
        return bytes(given)


async def _pump(socket: web.WebSocketResponse, program: Program, name: str, begun: asyncio.Event) -> None:
    while True:
        data = await program.read(name)
        begun.set()
        frame: Json = {name: {"data": base64.b64encode(data).decode()} if data else {"close": True}}
        await socket.send_str(msgspec.json.encode(frame).decode())
        if not data:
            return


async def _take(socket: web.WebSocketResponse, program: Program, keys: _Keys | None, begun: asyncio.Event | None) -> None:
    """Until the connection is gone. `begun`: sizes before it are forgotten; None = none is."""
    async for message in socket:
        if message.type is not WSMsgType.TEXT or (keys is not None and keys.left):
            continue
        frame = cast("dict[str, dict[str, object]]", json.loads(str(message.data)))
        given, size = frame.get("stdin"), frame.get("tty_size")
        if given and given.get("data"):
            data = base64.b64decode(str(given["data"]))
            await program.write(keys.typed(data) if keys is not None else data)
        if given and given.get("close"):
            await program.end_input()
        if size and (begun is None or begun.is_set()):
            with suppress(OSError, KeyError):
                program.resize(int(str(size["height"])), int(str(size["width"])))
