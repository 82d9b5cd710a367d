"""exec in a task: the websocket's frames (nomad-tried §7), with a real terminal where one is asked for."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import json
import os
import signal
import struct
import subprocess
import termios
from collections.abc import Callable
from typing import cast

import msgspec
from aiohttp import WSMsgType, web

from fakes.nomad.client import Clients
from fakes.nomad.http import Refused, flag
from fakes.nomad.spec import Json


class Shells:
    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/v1/client/allocation/{id}/exec", self.exec)]

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
        await _serve(socket, command, runner.env[task], str(runner.folder.task(task)), tty=flag(request, "tty"))
        return socket


async def _serve(socket: web.WebSocketResponse, command: list[str], env: dict[str, str], folder: str, *, tty: bool) -> None:
    try:
        session = await asyncio.to_thread(_Session, command, env, folder, tty)
    except OSError:
        await socket.close(code=1011)
        return
    reading = [asyncio.ensure_future(_pump(socket, name, read)) for name, read in session.outputs]
    taking = asyncio.ensure_future(_take(socket, session))
    try:
        code = await asyncio.to_thread(session.process.wait)
        await asyncio.gather(*reading)
        result = {} if code == 0 else {"exit_code": 128 - code if code < 0 else code}
        await socket.send_str(msgspec.json.encode({"exited": True, "result": result}).decode())
    except ConnectionError:
        pass
    finally:
        for one in [*reading, taking]:
            one.cancel()
        await asyncio.gather(*reading, taking, return_exceptions=True)
        session.close()
    if socket._req is not None and socket._req.transport is not None:  # pyright: ignore[reportPrivateUsage] - no close frame: the real one sends none
        socket._req.transport.close()  # pyright: ignore[reportPrivateUsage] - as above


class _Session:
    """The process with its ends."""

    def __init__(self, command: list[str], env: dict[str, str], folder: str, tty: bool) -> None:
        self._tty: int | None = None
        if tty:
            ours, theirs = os.openpty()
            try:
                self.process = subprocess.Popen(
                    command,
                    stdin=theirs,
                    stdout=theirs,
                    stderr=theirs,
                    env={**os.environ, **env},
                    cwd=folder,
                    start_new_session=True,
                    preexec_fn=lambda: _own_terminal(theirs),  # noqa: PLW1509 - between fork and exec it makes one system call
                )
            except OSError:
                os.close(ours)
                raise
            finally:
                os.close(theirs)
            self._tty = self._input = ours
            self.outputs: list[tuple[str, Callable[[], bytes]]] = [("stdout", lambda: _read(ours))]
            return
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **env},
            cwd=folder,
            start_new_session=True,
        )
        assert self.process.stdin and self.process.stdout and self.process.stderr
        self._input = self.process.stdin.fileno()
        out, err = self.process.stdout.fileno(), self.process.stderr.fileno()
        self.outputs = [("stdout", lambda: _read(out)), ("stderr", lambda: _read(err))]

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._input, view) :]

    def end_input(self) -> None:
        if self._tty is not None:
            self.write(b"\x04")
        elif self.process.stdin:
            self.process.stdin.close()

    def resize(self, height: int, width: int) -> None:
        if self._tty is not None:
            fcntl.ioctl(self._tty, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if self._tty is not None:
            os.close(self._tty)
        for end in (self.process.stdin, self.process.stdout, self.process.stderr):
            if end is not None:
                end.close()


def _own_terminal(terminal: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


def _read(end: int) -> bytes:
    try:
        return os.read(end, 32 * 1024)
    except OSError:  # the terminal's other side is closed
        return b""


async def _pump(socket: web.WebSocketResponse, name: str, read: Callable[[], bytes]) -> None:
    while True:
        data = await asyncio.to_thread(read)
        frame: Json = {name: {"data": base64.b64encode(data).decode()} if data else {"close": True}}
        await socket.send_str(msgspec.json.encode(frame).decode())
        if not data:
            return


async def _take(socket: web.WebSocketResponse, session: _Session) -> None:
    async for message in socket:
        if message.type is not WSMsgType.TEXT:
            continue
        frame = cast("dict[str, dict[str, object]]", json.loads(str(message.data)))
        given, size = frame.get("stdin"), frame.get("tty_size")
        try:
            if given and given.get("data"):
                await asyncio.to_thread(session.write, base64.b64decode(str(given["data"])))
            if given and given.get("close"):
                session.end_input()
        except OSError:
            continue
        if size:
            session.resize(int(str(size["height"])), int(str(size["width"])))
