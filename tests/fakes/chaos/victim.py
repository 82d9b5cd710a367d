"""`serai serve` that ends itself with SIGKILL at the n-th passing of a fault point, without a line of the product for it.

`python -m fakes.chaos.victim` loads the product once and reads a line of JSON for each life, for which it forks; so a life costs no start
of Python. Lines out: "pid N" when a life began, "ended" when it was reaped. The seams of `points.py` are wrapped in the child.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import NoReturn, cast

import aiohttp
import msgspec
import serai_gateway.app as gateway_app
import serai_gateway.gateway as gateway_module
import serai_server.cli.config as cli_config
import serai_server.cli.plan as cli_plan
import serai_server.cli.serve as cli_serve
import serai_server.store.open as store_open
from serai_backends.local import backend as local_backend
from serai_backends.local import folder as local_folder
from serai_backends.local import launcher as local_launcher
from serai_backends.local import runner as local_runner
from serai_backends.local import trials
from serai_gateway.upstream import InProcessUpstream
from serai_server.cli.main import run
from serai_server.jobs.registry import Registry
from serai_server.store.owner import Owner
from serai_server.store.sqlite import SqliteLink

from fakes.chaos.points import POINTS, Dies

Step = Callable[..., object]
TESTS = Path(__file__).resolve().parents[2]
LOADED = (cli_serve,)
"""What a life needs and no seam is in: loaded before the forks."""
_LATEST_S = 0.06


class Life(msgspec.Struct, kw_only=True):
    """One start of the server."""

    config: str
    log: str
    kill: dict[str, int] = {}
    """Point → at which passing."""
    passed: str = ""
    """A file that gets the name of each point when it is passed for the first time."""
    hurt: str
    """A file that gets "JOB POINT" for each job whose launcher or supervisor was ended."""
    minute_ms: int = 60_000
    """How long a `minute` of the price list is, so that tests see many periods."""
    seed: int = 0


class Points:
    """Counts passings; the one that was asked for is the last."""

    def __init__(self, life: Life) -> None:
        self._left = dict(life.kill)
        self._hurt = life.hurt
        self._passed = life.passed
        self._seen: set[str] = set()
        self._lock = threading.Lock()
        self.dice = random.Random(life.seed)

    def reached(self, name: str) -> bool:
        """Count a passing; whether this is the one to die at."""
        with self._lock:
            if self._passed and name not in self._seen:
                self._seen.add(name)
                append(self._passed, name)
            if name not in self._left:
                return False
            self._left[name] -= 1
            return self._left[name] == 0

    def at(self, name: str) -> None:
        if self.reached(name):
            os.kill(os.getpid(), signal.SIGKILL)

    def hurt(self, job_id: str, name: str, pid: int) -> None:
        """End a process of a job."""
        append(self._hurt, f"{job_id} {name}")
        os.kill(pid, signal.SIGKILL)

    def words_for_launcher(self) -> tuple[str, str, str]:
        """For victim_job: at which of its points the job that is launched now dies, where to say so, where to say what was passed."""
        names = [name for name, point in POINTS.items() if point.dies is not Dies.SERVER and name in self._left]
        mine = [name for name in names if name.split(".")[1] not in {"started", "anywhen", "running"}]
        due = [name for name in mine if self.reached(name)]
        return (due[0] if due else "", self._hurt, self._passed)


def append(file: str, line: str) -> None:
    """One write, so that no line is ever half."""
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.write(fd, f"{line}\n".encode())
    os.close(fd)


# Wrapping


def around(owner: object, name: str, before: Callable[..., None] | None = None, after: Callable[..., None] | None = None) -> None:
    """Have `before` and `after` called, with the arguments, around a plain or a coroutine function of a module or class."""
    inner = cast("Step", getattr(owner, name))

    def call(*args: object, **more: object) -> object:
        if before is not None:
            before(*args)
        result = inner(*args, **more)
        if isinstance(result, Awaitable):
            return finish(cast("Awaitable[object]", result), args)
        if after is not None:
            after(*args)
        return result

    async def finish(result: Awaitable[object], args: tuple[object, ...]) -> object:
        value = await result
        if after is not None:
            after(*args)
        return value

    setattr(owner, name, functools.wraps(inner)(call))


def wrap(points: Points) -> None:
    """Every seam of the table that is in this process."""
    at = points.at

    def say(name: str) -> Callable[..., None]:
        return lambda *_: at(name)

    def both(owner: object, name: str, point: str) -> None:
        around(owner, name, say(f"{point}.before"), say(f"{point}.after"))

    _wrap_start(say)
    _wrap_store(points, say, both)
    _wrap_calls_in(points, say)
    _wrap_events(points)
    _wrap_calls_out(points)
    for call in ("submit", "inspect", "cancel", "suspend", "resume", "forget"):
        if hasattr(local_backend.LocalBackend, call):
            both(local_backend.LocalBackend, call, f"backend.{call}")
    _wrap_local(points, say, both)
    _wrap_jobs(points)


def _wrap_start(say: Callable[[str], Callable[..., None]]) -> None:
    around(SqliteLink, "script", after=say("start.schema"))
    around(store_open, "_prepare", after=say("start.store"))
    around(cli_plan, "open_local", after=say("start.backend"))
    around(Registry, "load", after=say("start.loaded"))
    around(gateway_module.Gateway, "__aenter__", after=say("start.serving"))


def _wrap_store(points: Points, say: Callable[[str], Callable[..., None]], both: Callable[[object, str, str], None]) -> None:
    def inserted(_: object, table: object, *__: object) -> None:
        name = str(table)
        if name in {"jobs", "events", "ledger"}:
            points.at(f"store.{name}.inserted")

    around(SqliteLink, "begin", after=say("store.begin.after"))
    around(SqliteLink, "insert", after=inserted)
    around(SqliteLink, "update", after=say("store.jobs.updated"))
    both(SqliteLink, "commit", "store.commit")
    around(Owner, "_publish", after=say("store.answered"))


def _wrap_calls_in(points: Points, say: Callable[[str], Callable[..., None]]) -> None:
    def requested(_: object, method: str, *__: object) -> None:
        if method == "POST":
            points.at("http.request")

    def asked(moment: str) -> Callable[..., None]:
        def tell(_: object, method: str, *__: object) -> None:
            name = method.rpartition("/")[2].lower()
            if name == "acknowledge":
                points.at(f"events.settled.{moment}")
            elif f"http.{name}.{moment}" in POINTS:
                points.at(f"http.{name}.{moment}")

        return tell

    def answers(moment: str) -> Callable[..., None]:
        def tell(_: object, __: object, body: bytes, *___: object) -> None:
            if body != b'{"status":"ok"}':  # whether it is ready is nothing of Core's
                points.at(f"http.answer.{moment}")

        return tell

    around(gateway_app.App, "_answer", requested)
    around(gateway_app, "read_body", after=say("http.body"))
    around(InProcessUpstream, "unary", asked("before"), asked("after"))
    around(gateway_app, "send_json", answers("before"), answers("after"))


def _wrap_events(points: Points) -> None:
    stream = InProcessUpstream.stream

    async def handed(upstream: InProcessUpstream, *args: object) -> AsyncIterator[bytes]:
        async for message in cast("AsyncIterator[bytes]", cast("Step", stream)(upstream, *args)):
            points.at("events.handed")
            yield message

    InProcessUpstream.stream = handed  # type: ignore[method-assign]


def _wrap_calls_out(points: Points) -> None:
    def sends(moment: str) -> Callable[..., None]:
        def tell(message: aiohttp.ClientRequest | aiohttp.ClientResponse, *_: object) -> None:
            path = message.url.path
            kind = "token" if "refresh" in path else "update" if "/update" in path else "charge" if _bills(path) else ""
            if kind:
                points.at(f"core.{kind}.{moment}")

        return tell

    around(aiohttp.ClientRequest, "send", sends("before"))
    around(aiohttp.ClientResponse, "start", sends("sent"), sends("answered"))


def _bills(path: str) -> bool:
    return path.endswith(("chargeCredits", "reportUsage"))


def _wrap_local(points: Points, say: Callable[[str], Callable[..., None]], both: Callable[[object, str, str], None]) -> None:
    names = {local_folder.SPEC: "spec", local_folder.PLAN: "plan", local_folder.CANCEL: "cancel"}

    def writes(moment: str) -> Callable[..., None]:
        def tell(_: object, name: str, *__: object) -> None:
            if name in names:
                points.at(f"local.{names[name]}.{moment}")

        return tell

    def renamed(_: str, name: str, *__: object) -> None:
        if name in names:
            points.at("local.rename")

    around(local_folder.JobFolder, "_write", writes("before"), writes("after"))
    around(os, "rename", renamed)
    both(local_runner, "launch", "local.launch")
    around(local_runner, "Link", after=say("local.linked"))
    both(local_folder.JobFolder, "close_if_over", "local.writeoff")
    both(local_folder.JobFolder, "remove", "local.remove")

    class Removing:
        """Stands for the module `shutil` in folder.py."""

        @staticmethod
        def rmtree(path: Path, **more: object) -> None:
            if points.reached("local.remove.halfway"):
                # Nobody knows in which order a folder is emptied; this is the worst.
                for entry in path.iterdir():
                    if entry.name != local_folder.SPEC:
                        entry.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            cast("Step", removes)(path, **more)

    removes = local_folder.shutil.rmtree
    local_folder.shutil = Removing  # type: ignore[assignment]


def _wrap_jobs(points: Points) -> None:
    class Launching:
        """Stands for the module `subprocess` in launcher.py."""

        DEVNULL = subprocess.DEVNULL
        TimeoutExpired = subprocess.TimeoutExpired
        run = staticmethod(subprocess.run)

        @staticmethod
        def Popen(command: Sequence[str], **more: object) -> subprocess.Popen[bytes]:  # as there
            job_id = Path(command[-1]).name
            if job_id.startswith(trials.PREFIX):
                return cast("subprocess.Popen[bytes]", cast("Step", subprocess.Popen)(command, **more))
            words = points.words_for_launcher()
            if any(words[::2]):
                command = [*command[:-2], f"{_PREPARE}; main{words!r}", command[-1]]
            process = cast("subprocess.Popen[bytes]", cast("Step", subprocess.Popen)(command, **more))
            points.at("local.launched")
            if points.reached("launcher.started"):
                points.hurt(job_id, "launcher.started", process.pid)
            if points.reached("launcher.anywhen"):
                time.sleep(points.dice.uniform(0, _LATEST_S))  # not for a result: any moment will do
                if process.poll() is None:
                    points.hurt(job_id, "launcher.anywhen", process.pid)
            return process

    def changed(_: object, job: local_runner.Job) -> None:
        if job.ended or len(job.history.starts) < job.spec["replicas"] or job.id in known:
            return
        known.add(job.id)
        begun = job.folder.begun()
        if points.reached("supervisor.running") and begun is not None:
            points.hurt(job.id, "supervisor.running", begun["pid"])

    known: set[str] = set()
    local_launcher.subprocess = Launching  # type: ignore[assignment]
    around(local_runner.Runner, "_changed", after=changed)


_PACKAGES = Path(local_launcher.__file__).resolve().parents[2]
_PREPARE = f"import sys; sys.path[:0] = {[str(_PACKAGES), str(TESTS)]!r}; from fakes.chaos.victim_job import main"


def live(life: Life) -> NoReturn:
    """In the child."""
    log = os.open(life.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for fd in (1, 2):
        os.dup2(log, fd)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    cli_config._PERIOD_MS["minute"] = life.minute_ms
    wrap(Points(life))
    code = 70
    try:
        code = run(["serve", "all", "--config", life.config])
    except BaseException:  # nobody else would tell
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def main() -> None:
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        life = msgspec.json.decode(line, type=Life)
        child = os.fork()
        if child == 0:
            live(life)
        _say(f"pid {child}")
        _, status = os.waitpid(child, 0)
        _say(f"ended {os.waitstatus_to_exitcode(status)}")


def _say(words: str) -> None:
    os.write(1, f"{words}\n".encode())


def line_of(life: Life) -> bytes:
    """What `main` reads."""
    return json.dumps(msgspec.to_builtins(life)).encode() + b"\n"


if __name__ == "__main__":
    main()
