"""Users type into their running jobs, whole: Core opens a session, a browser's frames reach a real terminal in a real sandbox."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes.raw_websocket import RawWebSocket, raw_websocket
from fakes.split_stack import split
from fakes.stack import START_S, Stack, stack
from serai_devcore.applications import shell_request

CALL = "jobs.compute.example.shell.open"
SLEEPS = "trap 'exit 0' TERM; while :; do sleep 1; done"


class Browser:
    """A user's page: it keeps what the terminal was given."""

    def __init__(self, socket: RawWebSocket) -> None:
        self.socket = socket
        self.shown = ""
        self.answers: dict[str, Any] = {}
        self.opened = False
        self.closed = False
        self._sent = 0

    async def say(self, payload: Any) -> str:
        stream_id = str(self._sent)
        self._sent += 1
        await self.socket.text({"call": CALL, "streamId": stream_id, "payload": payload})
        return stream_id

    async def type(self, text: str) -> str:
        return await self.say({"type": "input", "data": text})

    async def until(self, text: str, *, timeout_s: float = 30) -> None:
        """Until the terminal shows it; what was shown up to there is gone then."""
        try:
            async with asyncio.timeout(timeout_s):
                while text not in self.shown:
                    assert await self.read(), (self.shown, self.answers)
        except TimeoutError:
            raise AssertionError(f"{text!r} does not come after {self.shown!r}") from None
        self.shown = self.shown.partition(text)[2]

    async def read(self) -> bool:
        """One frame; False = the provider has closed."""
        frame = await self.socket.next()
        if frame is None:
            self.closed = True
            return False
        if frame["type"] == "response":
            self.answers[frame["streamId"]] = frame
        elif frame["payload"]["type"] == "initialize":
            self.opened = True
        else:
            self.shown += frame["payload"]["data"]
        return True

    async def until_closed(self) -> None:
        async with asyncio.timeout(30):
            while await self.read():
                pass


@asynccontextmanager
async def browser(serai: Stack, secret: str, *, generation: str = "2021") -> AsyncGenerator[Browser]:
    query = f"?session={secret}&usernameHint=dXNlcg==" if generation == "2026" else ""
    async with raw_websocket(serai.port, f"/ucloud/example/websocket{query}", {"Origin": "https://cloud.example.org"}) as socket:
        made = Browser(socket)
        await made.say({"type": "initialize", "sessionIdentifier": secret, "cols": 91, "rows": 23})
        yield made


async def running_job(serai: Stack, script: str = SLEEPS, replicas: int = 1) -> str:
    job_id = (await serai.core.submit(shell_request(script, replicas=replicas))).job_id
    await serai.core.until(lambda: serai.core.jobs[job_id].state == "RUNNING", START_S)
    return job_id


async def session_of(serai: Stack, job_id: str, rank: int = 0) -> str:
    """As the user's page asks Core for it."""
    opened = await serai.core.open_session(job_id, "SHELL", rank=rank)
    assert opened.accepted, opened
    assert opened.answer is not None
    body: Any = opened.answer.body
    [session] = body["responses"]
    assert (session["type"], session["jobId"], session["rank"]) == ("shell", job_id, rank)
    return session["sessionIdentifier"]


@pytest.mark.parametrize("generation", ["2021", "2026"])
async def test_a_user_types_into_a_job(tmp_path: Path, generation: str) -> None:
    """The shell is in the rank that was asked for, knows the window's size and its changes, has signals, and its end is told in words; the
    job goes on. Nothing of the secret is logged."""
    async with stack(tmp_path, generation=generation) as serai:
        job_id = await running_job(serai, replicas=2)
        secret = await session_of(serai, job_id, rank=1)
        async with browser(serai, secret, generation=generation) as user:
            await user.type("echo rank $(cat /etc/ucloud/rank.txt)' 'grüße\r")
            await user.until("rank 1 grüße")
            assert user.opened
            await user.type("stty size\r")
            await user.until("23 91")
            await user.say({"type": "resize", "cols": 120, "rows": 40})
            await user.type("stty size\r")
            await user.until("40 120")
            await user.type("sh -c 'echo started $0; exec sleep 1000' it\r")
            await user.until("started it")
            await user.type("\x03")
            await user.until("^C")
            await user.until("bash-")
            await user.type("echo still' 'here\r")
            await user.until("still here")
            await user.type("exit 7\r")
            await user.until("The shell has ended with exit code 7.")
            await user.until_closed()
            assert (user.answers["0"]["status"], user.socket.code) == (200, 1000)
            assert user.answers["1"]["payload"] == {"type": "ack"}
        async with browser(serai, secret) as late:
            await late.until_closed()
            assert late.answers["0"]["status"] == 404
        assert serai.core.jobs[job_id].state == "RUNNING"
        access: list[Any] = []
        async with asyncio.timeout(10):  # lines are written together, a moment later
            while len(access) < 2:
                await asyncio.sleep(0.05)
                access = [json.loads(line) for line in serai.log.read_text().splitlines() if '"WEBSOCKET"' in line]
        assert {(line["path"], line["status"]) for line in access} == {("/ucloud/{provider}/websocket", 101)}
        assert secret not in serai.log.read_text()


async def test_who_is_cut_off_comes_back_to_the_same_shell(tmp_path: Path) -> None:
    """The browser's connection breaks without a word: its program goes on, a new page with the same session shows the last output and
    types on; meanwhile nobody else gets in."""
    async with stack(tmp_path) as serai:
        secret = await session_of(serai, await running_job(serai))
        async with browser(serai, secret) as user:
            await user.type("here=again; for n in 1 2 3; do echo tick $n; sleep 0.3; done\r")
            await user.until("tick 1")
            async with browser(serai, secret) as other:
                await other.until_closed()
                assert "open in another window" in other.answers["0"]["payload"]["why"]
        async with asyncio.timeout(30):  # the gateway sees the cut a moment later
            while json.loads((await serai.cli("sessions", "list", "--json"))[1])["sessions"][0]["attached"]:
                await asyncio.sleep(0.05)
        async with browser(serai, secret) as user:
            await user.until("tick 3")
            await user.type("echo $here\r")
            await user.until("again\r\n")


async def test_a_cut_between_gateway_and_server_is_a_blink(tmp_path: Path) -> None:
    """The browser keeps its socket, the terminal is drawn anew, and it is the same shell. (What is typed in the very moment of the cut may
    be lost, as on any terminal over a network.)"""
    async with split(tmp_path) as serai:
        secret = await session_of(serai, await running_job(serai))
        async with browser(serai, secret) as user:
            await user.type("here=again; echo rea''dy\r")
            await user.until("ready")
            serai.relay.cut()
            await user.until("\x1bc")
            await user.until("ready")  # the last of the output, once more
            await user.type("echo $here\r")
            await user.until("again\r\n")


async def test_the_end_of_the_job_ends_its_shells(tmp_path: Path) -> None:
    """With words and a close."""
    async with stack(tmp_path) as serai:
        job_id = await running_job(serai)
        async with browser(serai, await session_of(serai, job_id)) as user:
            await user.type("echo rea''dy\r")
            await user.until("ready")
            assert (await serai.core.terminate(job_id)).status == 200
            await user.until("The shell has ended")
            await user.until_closed()
            assert user.socket.code == 1000
