"""An allocation's life on its node: folder, templates, tasks in their order, their end. The servers hear of it in batches (client.py)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from fakes.nomad import shapes, taskdir
from fakes.nomad.cluster import Allocation, TaskEvent, TaskState
from fakes.nomad.container import Container
from fakes.nomad.drivers import DriverFailure, Exit, Order, Played, Process, Running, order_of
from fakes.nomad.spec import Json, Task
from fakes.nomad.template import Missing, TemplateFailed

EXCEEDED = "allocation exceeded max_run_duration"


class Around(Protocol):
    """What a life needs of its node."""

    simulated: bool
    data: Path
    clock: Callable[[], int]
    unstarted_kill_s: float
    template_event_s: float
    splay_s: float

    def variable_for(self, alloc: Allocation, task: str, path: str) -> Mapping[str, str] | None: ...
    def variable_changed(self, namespace: str, path: str) -> asyncio.Event: ...
    def changed(self, runner: Runner) -> None: ...
    def start_trouble(self, alloc: Allocation, task: Task) -> str: ...
    def inherited(self) -> dict[str, str]: ...


@dataclass(frozen=True)
class Killing:
    """Why tasks are ended before they end."""

    reason: str = ""
    event: str = ""
    """A line of its own before Killing."""
    sibling: str = ""
    signal: str | None = None


class Runner:
    """All tasks of one allocation."""

    def __init__(self, alloc: Allocation, around: Around, address: str) -> None:
        self.alloc, self.around, self.address = alloc, around, address
        self.states = {t.name: TaskState() for t in alloc.group.members}
        self.network: str | None = None
        self.description = ""
        self.running: dict[str, Running] = {}
        self.folder = taskdir.Folder(around.data, alloc)
        self.env: dict[str, dict[str, str]] = {}
        self._killed: dict[str, Killing] = {}
        self._kill: dict[str, asyncio.Event] = {t.name: asyncio.Event() for t in alloc.group.members}
        self._ready = asyncio.Event()
        """The prestart tasks are as far as main tasks wait for."""
        self._work: list[asyncio.Task[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self.vanished = False

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._work.append(loop.create_task(self._live()))
        if self.alloc.group.max_run_duration:
            left = (self.alloc.create_time - self.around.clock()) / 1e9 + self.alloc.group.max_run_duration / 1e9
            self._timer = loop.call_later(max(0.0, left), self._exceeded)

    @property
    def over(self) -> bool:
        return all(s.state == "dead" for s in self.states.values())

    @property
    def started(self) -> bool:
        return any(s.started_at for s in self.states.values())

    def stop(self, why: Killing | None = None) -> None:
        """All tasks end; those that run by their signal."""
        for task in self.alloc.group.members:
            self.kill(task.name, why or Killing())

    def kill(self, name: str, why: Killing) -> None:
        if name not in self._killed and self.states[name].state != "dead":
            self._killed[name] = why
            self._kill[name].set()

    async def close(self) -> None:
        """The end of the test: nothing is told any more, no process is left."""
        if self._timer:
            self._timer.cancel()
        for work in self._work:
            work.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        for running in self.running.values():
            if isinstance(running, (Process, Container)):
                await running.kill("SIGKILL", 0)

    def note(self, name: str, kind: str, shown: str = "", **more: object) -> None:
        """A line of the task's story; only the ten newest are kept."""
        event = TaskEvent(kind, self.around.clock(), shown, **more)  # pyright: ignore[reportArgumentType] - the fields of TaskEvent by name
        events = self.states[name].events
        self.states[name].events = [*events[-9:], event]
        self.around.changed(self)

    def _exceeded(self) -> None:
        if not self.over:
            self.description = EXCEEDED
            self.stop(Killing(reason=EXCEEDED))

    def _wrong_hostname(self) -> str:
        """Only docker gives one; empty = nothing is wrong."""
        network = self.alloc.group.network
        others = [task.driver for task in self.alloc.group.members if task.driver != "docker"]
        if network is None or not network.hostname or not others:
            return ""
        why = f"hostname is not currently supported on driver {others[0]}"
        return f"Unable to add allocation due to error: failed to configure network manager: {why}"

    async def _live(self) -> None:
        if wrong := self._wrong_hostname():
            self.description = wrong
            for task in self.alloc.group.members:
                self._dead(task, failed=True)
            return
        for task in self.alloc.group.members:
            self.note(task.name, "Received", "Task received by client")
        if not self.around.simulated:
            self.folder.make()  # not in a thread: one would outlive the end of the test
        self.network = self.address
        self.around.changed(self)
        if not any(t.prestart for t in self.alloc.group.members):
            self._ready.set()
        loop = asyncio.get_running_loop()
        self._work.extend(loop.create_task(self._task(t)) for t in self.alloc.group.members)

    async def _task(self, task: Task) -> None:
        try:
            if not task.prestart and await self._either(self._ready, task.name):
                return await self._never_started(task)
            self.note(
                task.name,
                "Task Setup",
                "Building Task Directory",
                message="Building Task Directory",
                details={"message": "Building Task Directory"},
            )
            env = await self._rendered(task)
            if env is None:
                return await self._never_started(task)
            self.env[task.name] = env
            running = await self._start(task, env)
        except TemplateFailed as wrong:
            text = f"Template failed: {wrong}"
            self.note(task.name, "Killing", text, kill_reason=text, fails_task=True, details={"kill_reason": text, "fails_task": "true"})
            return self._dead(task, failed=True)
        except DriverFailure as failure:
            text = str(failure)
            self.note(task.name, "Driver Failure", text, driver_error=text, details={"driver_error": text})
            self._not_restarting(task, "Policy allows no restarts")
            return self._dead(task, failed=True)
        return await self._run(task, running)

    async def _start(self, task: Task, env: dict[str, str]) -> Running:
        trouble = self.around.start_trouble(self.alloc, task)
        if trouble:
            raise DriverFailure(trouble)
        if self.around.simulated:
            return Played(task.driver)
        facts = {f"attr.{k}": v for k, v in shapes.attributes(self.alloc.node, "").items()}
        facts |= {"node.unique.name": self.alloc.node.spec.name, "node.unique.id": self.alloc.node.id, "node.datacenter": env["NOMAD_DC"]}
        command, args = order_of(task.driver, task.config or {}, lambda text: taskdir.interpolated(text, env, facts))
        own = {k: taskdir.interpolated(v, env, facts) for k, v in (task.env or {}).items()}
        if task.driver == "docker":
            return await Container.start(
                task.config or {}, env | own, task.user, self.folder.task(task.name), (self.address, self._mapped())
            )
        quiet = task.log_config is not None and task.log_config.disabled
        folder = self.folder
        return await Process.start(
            Order(
                task.driver,
                command,
                args,
                self.around.inherited() | env | own,
                folder.task(task.name),
                task.user,
                None if quiet else folder.log(task.name, "stdout"),
                None if quiet else folder.log(task.name, "stderr"),
            )
        )

    def _mapped(self) -> list[Json]:
        """Ports of its own that a bridge's are; none on the node's network."""
        network = self.alloc.group.network
        shared = cast("dict[str, Json]", self.alloc.static["AllocatedResources"])["Shared"]
        ports = cast("list[Json]", shared.get("Ports") or [])
        return [] if network is None or network.mode == "host" else ports

    async def _run(self, task: Task, running: Running) -> None:
        state = self.states[task.name]
        self.running[task.name] = running
        state.state, state.started_at = "running", shapes.rfc3339(self.around.clock())
        self.note(task.name, "Started", "Task started by client")
        if task.prestart and task.sidecar:
            self._ready.set()
        watch = asyncio.ensure_future(self._templates(task))
        ended = asyncio.ensure_future(running.wait())
        killed = asyncio.ensure_future(self._kill[task.name].wait())
        try:
            await asyncio.wait([ended, killed], return_when=asyncio.FIRST_COMPLETED)
            by_us = not ended.done()
            if by_us:
                why = self._killed[task.name]
                timeout = 5_000_000_000 if task.kill_timeout is None else task.kill_timeout
                self._killing(task, why)
                signal = why.signal or task.kill_signal or ("SIGTERM" if task.driver in {"docker", "podman"} else "SIGINT")
                await running.kill(signal, timeout / 1e9)
            how = await ended
        finally:
            for one in (watch, ended, killed):
                one.cancel()
            await asyncio.gather(watch, ended, killed, return_exceptions=True)
        self._terminated(task, how)
        if by_us:
            self.note(task.name, "Killed", "Task successfully killed")
            self._dead(task, failed=False)
        elif how.well:
            self._dead(task, failed=False)
        else:
            self._not_restarting(task, "Policy allows no restarts")
            self._dead(task, failed=True)

    def _terminated(self, task: Task, how: Exit) -> None:
        message = "OOM Killed" if how.oom else ""
        if not message and task.driver == "docker" and how.code:
            message = f"Docker container exited with non-zero exit code: {how.code}"
        shown = (
            f"Exit Code: {how.code}"
            + (f", Signal: {how.signal}" if how.signal else "")
            + (f', Exit Message: "{message}"' if message else "")
        )
        details = {"exit_code": str(how.code), "signal": str(how.signal), "oom_killed": "true" if how.oom else "false"}
        if message:
            details["exit_message"] = message
        self.note(task.name, "Terminated", shown, message=message, exit_code=how.code, signal=how.signal, details=details)

    def _not_restarting(self, task: Task, reason: str) -> None:
        self.note(
            task.name,
            "Not Restarting",
            reason,
            restart_reason=reason,
            fails_task=True,
            details={"restart_reason": reason, "fails_task": "true"},
        )

    def _killing(self, task: Task, why: Killing) -> None:
        timeout = 5_000_000_000 if task.kill_timeout is None else task.kill_timeout
        if why.event:
            shown = f'Task\'s sibling "{why.sibling}" failed' if why.sibling else "Main tasks in the group died"
            self.note(
                task.name, why.event, shown, failed_sibling=why.sibling, details={"failed_sibling": why.sibling} if why.sibling else {}
            )
        details = {"kill_timeout": _duration(timeout)}
        shown = why.reason or f"Sent interrupt. Waiting {_duration(timeout)} before force killing"
        self.note(task.name, "Killing", shown, kill_timeout=timeout, details=details)

    async def _never_started(self, task: Task) -> None:
        """The real one needs seconds for that, whatever the kill time-out."""
        self._killing(task, self._killed[task.name])
        await asyncio.sleep(self.around.unstarted_kill_s)
        self._dead(task, failed=False)

    def _dead(self, task: Task, *, failed: bool) -> None:
        state = self.states[task.name]
        state.state, state.failed, state.finished_at = "dead", failed, shapes.rfc3339(self.around.clock())
        self.running.pop(task.name, None)
        if task.prestart and not task.sidecar and not failed:
            self._ready.set()
        self.around.changed(self)
        others = [t for t in self.alloc.group.members if t.name != task.name]
        if failed:
            for other in others:
                self.kill(other.name, Killing(event="Sibling Task Failed", sibling=task.name))
        elif all(self.states[t.name].state == "dead" for t in self.alloc.group.members if not t.sidecar):
            for other in others:
                self.kill(other.name, Killing(event="Main Tasks Dead"))

    async def _either(self, event: asyncio.Event, name: str) -> bool:
        """Waits for the event; True = the task is killed first."""
        kill = self._kill[name]
        if event.is_set() or kill.is_set():
            return kill.is_set()
        waits = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(kill.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()
        return kill.is_set()

    async def _rendered(self, task: Task) -> dict[str, str] | None:
        """The environment with all templates written; None = it was killed while a variable was missing."""
        env = taskdir.environment(self.alloc, task, self.folder, self.address)
        told: asyncio.TimerHandle | None = None
        try:
            while True:
                if self._kill[task.name].is_set():
                    return None
                try:
                    files, more = self._render(task, env)
                except Missing as missing:
                    if told is None:
                        text = f"Missing: nomad.var.block({missing.path}@{self.alloc.job.namespace}.global)"
                        told = asyncio.get_running_loop().call_later(self.around.template_event_s, self.note, task.name, "Template", text)
                    await self._either(self.around.variable_changed(self.alloc.job.namespace, missing.path), task.name)
                    continue
                if not self.around.simulated:
                    taskdir.write(files)
                return env | more
        finally:
            if told is not None:
                told.cancel()

    def _render(self, task: Task, env: dict[str, str]) -> tuple[list[taskdir.Rendered], dict[str, str]]:
        return taskdir.render(task, self.folder, env, lambda path: self.around.variable_for(self.alloc, task.name, path))

    async def _templates(self, task: Task) -> None:
        """Templates of a running task follow their variable; what then happens is the template's change_mode."""
        if not task.templates:
            return
        path = f"nomad/jobs/{self.alloc.job.id}"
        env = taskdir.environment(self.alloc, task, self.folder, self.address)
        last, _ = self._render(task, env)
        while True:
            await self.around.variable_changed(self.alloc.job.namespace, path).wait()
            await asyncio.sleep(self.around.splay_s)
            try:
                files, _ = self._render(task, env)
            except Missing:
                continue
            if files == last:
                continue
            changed = [t for t, new, old in zip(task.templates, files, last, strict=True) if new != old]
            last = files
            if not self.around.simulated:
                taskdir.write(files)
            for template in changed:
                running = self.running.get(task.name)
                if (template.change_mode or "restart") == "signal" and running is not None:
                    signal = template.change_signal or "SIGHUP"
                    self.note(task.name, "Signaling", "Template re-rendered", task_signal=signal, task_signal_reason="Template re-rendered")
                    running.send(signal)


def _duration(ns: int) -> str:
    """Go's way to write a duration, as far as kill time-outs need it."""
    if ns % 1_000_000_000 == 0:
        return f"{ns // 1_000_000_000}s"
    return f"{ns / 1e9:g}s" if ns >= 1_000_000_000 else f"{ns / 1e6:g}ms"
