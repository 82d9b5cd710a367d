"""The life of each job on this machine: queue, start, adoption, end. One event loop owns all of it; blocking steps are on threads."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import structlog

from serai_backends.common import files
from serai_backends.common.secrets import SecretDesk
from serai_backends.common.users import Users
from serai_backends.errors import BackendUnavailable, SubmissionRefused
from serai_backends.local import limits
from serai_backends.local.adopt import Link, dial, tell_cancel, until_gone
from serai_backends.local.blocks import Blocks
from serai_backends.local.folder import Cancel, JobFolder, all_folders
from serai_backends.local.launcher import launch
from serai_backends.local.queue import Need
from serai_backends.local.record import History, Place, observe
from serai_backends.local.supervisor.plan import BEGUN, OLD_BLOCK
from serai_backends.model import Why

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from serai_backends.common.board import Board
    from serai_backends.local.ground import Ground
    from serai_backends.local.queue import CapacityQueue
    from serai_backends.local.supervisor.plan import Spec
    from serai_backends.model import JobObservation, Secret

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

STARTS_AT_ONCE = 2
ATTEMPTS = 3
"""Starts of a job that left no word and no `begun` (the launcher was killed); then it is START_FAILED."""
TOLD_WAITING = 16
"""Watchers are told for what the first jobs of the queue wait; `inspect` and `list` know it of all."""
_DIAL_AGAIN_S = 0.01
_RETRY_S = 1.0


@dataclass(slots=True, eq=False)
class Job:
    """A job that was taken on and not forgotten."""

    folder: JobFolder
    spec: Spec
    cancel: Cancel | None = None
    history: History = field(default_factory=History)
    offset: int = 0
    """Bytes of the journal that `history` knows."""
    begun: bool = False
    uid: int | None = None
    """Host user from its first attempt to start until it has ended: what an attempt left in its folder belongs to it."""
    block: str = ""
    """Its addresses, from its first attempt to start on."""
    link: Link | None = None
    attempts: int = 0
    canceled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set with `cancel`, for who waits for something else meanwhile."""
    held: str = ""
    """Why it cannot be started though it has room, in words."""

    @property
    def id(self) -> str:
        return self.spec["job_id"]

    @property
    def ended(self) -> bool:
        return self.history.done_at_ms is not None

    @property
    def need(self) -> Need:
        return need_of(self.spec)


def need_of(spec: Spec) -> Need:
    return Need(spec["cpu"] * spec["replicas"], spec["memory_bytes"] * spec["replicas"], spec["time_limit_ms"])


@dataclass(frozen=True, slots=True)
class _Found:
    """What one folder says when a backend is opened."""

    job: Job
    locked: bool


class Runner:
    def __init__(self, ground: Ground, queue: CapacityQueue, board: Board) -> None:
        self.jobs: dict[str, Job] = {}
        self._placed: dict[str, Job] = {}
        """Jobs that have a block of addresses and a user, or are about to: few, where thousands wait."""
        self.queue = queue
        self.secrets = SecretDesk()
        self._board = board
        self._settings, self._machine, self._threads, self._clock = ground.settings, ground.machine, ground.threads, ground.clock
        self._group_prefix = limits.prefix(ground.settings.state_dir)
        self._node = socket.gethostname()
        self._users = Users(ground.settings)
        self._blocks = Blocks()
        self._users_lock = asyncio.Lock()
        self._sequence = 0
        self._starts = asyncio.Semaphore(STARTS_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    # What the backend calls

    def next_sequence(self) -> int:
        self._sequence += 1
        return self._sequence

    async def adopt(self, jobs: Path) -> None:
        """Take over every folder: end what is over, follow what runs, queue what waits in its old order."""
        found = await self._threads.run(lambda: _scan(jobs))
        for item in sorted(found, key=lambda item: item.job.spec["sequence"]):
            job = item.job
            self._sequence = max(self._sequence, job.spec["sequence"])
            self.jobs[job.id] = job
            if not job.ended and job.block:
                self._placed[job.id] = job
            if not job.ended and (item.locked or job.begun):
                self.queue.occupy(job.id, job.need)
                self._spawn(partial(self._attach, job))
            elif not job.ended and (why := self.queue.refusal(job.need)) is not None:
                # The settings shrank: at the head of the queue it would hold up all others for ever.
                self._spawn(partial(self._write_off, job, "start_failed", why, Why.TOO_LARGE))
            elif not job.ended:
                self.queue.add(job.id, job.need)
                if job.cancel is not None:
                    self.cancel(job.id, job.cancel)
            self._board.publish(self.observe(job))
        self._schedule()

    def take_on(self, job: Job) -> None:
        """A job that was just stored; with a cancel marker it was written off as well."""
        self.jobs[job.id] = job
        self._refresh(job)
        if not job.ended:
            self.queue.add(job.id, job.need)
            self._schedule()
        self._board.publish(self.observe(job))

    def cancel(self, job_id: str, cancel: Cancel) -> None:
        """The marker is stored; have it take effect."""
        job = self.jobs.get(job_id)
        if job is None or job.ended:
            return
        job.cancel = cancel
        job.canceled.set()
        if job.link is not None:
            job.link.cancel(cancel.grace_ms)
        elif self.queue.is_waiting(job_id):
            self.queue.remove(job_id)
            self._spawn(partial(self._write_off, job, "canceled", ""))
            self._schedule()
        elif (connection := dial(job.folder)) is not None:
            # it is being started; where nobody listens yet, the supervisor will find the marker before it starts a replica
            tell_cancel(connection, cancel.grace_ms)

    def ask(self, job_id: str, operation: str) -> None:
        """`suspend` or `resume`, for a job that runs."""
        job = self.jobs.get(job_id)
        if job is not None and job.link is not None:
            job.link.ask(operation)

    def observe(self, job: Job) -> JobObservation:
        waiting = None if job.ended or job.begun else self.queue.explain(job.id, self._clock.now_ms())
        return observe(job.id, job.spec["replicas"], Place(self._node, job.block or OLD_BLOCK, job.begun, job.held), job.history, waiting)

    def has_ended(self, job_id: str, rank: int) -> bool:
        job = self.jobs.get(job_id)
        return job is None or job.ended or rank in job.history.ends

    def forget(self, job_id: str) -> None:
        self.jobs.pop(job_id, None)
        self._board.remove(job_id)

    async def close(self) -> None:
        """Running jobs go on; they are told nothing."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for job in self.jobs.values():
            if job.link is not None:
                job.link.close()

    # The way of a job

    def _spawn(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        task = asyncio.create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """A step that the machine cannot do now (no descriptors, no room) is done again; nobody else would."""
        while True:
            try:
                return await work()
            except (OSError, BackendUnavailable) as error:
                _log.warning("local backend: a step of a job is done again", why=str(error))
                await asyncio.sleep(_RETRY_S)
            except Exception:
                # the job stays as it is stored; the next start of the server takes it up
                return _log.exception("local backend: a step of a job failed")

    def _schedule(self) -> None:
        """Start what fits, and tell the others why they wait."""
        while (job_id := self.queue.take()) is not None:
            job = self.jobs[job_id]
            self._spawn(partial(self._start, job))
            self._board.publish(self.observe(job))
        for job_id in self.queue.first(TOLD_WAITING):
            self._board.publish(self.observe(self.jobs[job_id]))

    async def _secrets_of(self, job: Job) -> tuple[Secret, ...] | None:
        """For a start now; None = there is none: the job was written off. Meanwhile it keeps its room."""

        def tell(words: str) -> None:
            job.held = words
            self._board.publish(self.observe(job))

        try:
            found = await self.secrets.ask_until(job.id, job.spec["secrets"], job.canceled, tell)
        except SubmissionRefused as error:
            await self._write_off(job, "start_failed", str(error), error.why)
            return None
        job.held = ""
        if found is None:
            await self._write_off(job, "canceled", "")
        return found

    async def _start(self, job: Job) -> None:
        if (secrets := await self._secrets_of(job) if job.spec["secrets"] else ()) is None:
            return
        async with self._starts:
            job.attempts += 1
            self._placed[job.id] = job
            code, pause_s = -1, 0.0
            try:
                if self._machine.is_root and job.uid is None:
                    await self._give_user(job)
                job.block = job.block or self._blocks.choose(job.spec["replicas"], self._used_blocks())
                plan = self._machine.plan(self._settings, job.uid, job.block, self._group_prefix, self._clock.offset_ms)
                await self._threads.run(lambda: job.folder.save_plan(plan))
                code = await self._threads.run(lambda: launch(job.folder, secrets))
            except BackendUnavailable as error:
                # The machine's trouble, not the job's: it does not count.
                job.attempts -= 1
                pause_s = _RETRY_S
                _log.warning("local backend: a job could not be started now", job=job.id, cause=str(error))
        self._refresh(job)
        if job.ended:
            self._finish(job)
        elif code == 0 or job.begun or await self._threads.run(job.folder.is_locked):
            await self._attach(job)
        elif job.attempts < ATTEMPTS:
            await self._again(job, pause_s)
        else:
            cause = f"it ended with {code}: {await self._threads.run(job.folder.log_tail)}"
            await self._write_off(job, "start_failed", f"the supervisor could not be started: {cause}", Why.SANDBOX_FAILED)

    async def _again(self, job: Job, least_s: float = 0.0) -> None:
        """Nothing of it ran: the queue keeps its place meanwhile."""
        await asyncio.sleep(max(least_s, _RETRY_S * (job.attempts - 1)))
        self.queue.put_back(job.id)
        self._schedule()

    def _used_blocks(self) -> list[str]:
        return [job.block for job in self._placed.values() if job.block]

    async def _give_user(self, job: Job) -> None:
        async with self._users_lock:
            used = {other.uid for other in self._placed.values() if other.uid is not None}
            drive = job.spec["output_folder"].partition("/")[0]
            job.uid = await self._threads.run(lambda: self._users.choose(drive, used))

    async def _attach(self, job: Job) -> None:
        """Follow the supervisor. It may still be on its way to listening, or have ended already."""
        while (connection := dial(job.folder)) is None:
            self._refresh(job)
            if job.ended:
                self._finish(job)
                return
            if not await self._threads.run(job.folder.is_locked):
                await self._after_supervisor(job)
                return
            await asyncio.sleep(_DIAL_AGAIN_S)
        job.link = Link(connection, changed=lambda: self._look(self._changed, job), gone=lambda: self._look(self._gone, job))
        if job.cancel is not None:
            job.link.cancel(job.cancel.grace_ms)
        self._look(self._changed, job)

    def _look(self, step: Callable[[Job], None], job: Job) -> None:
        """The supervisor told something: read it, at once or as soon as the machine can."""
        try:
            step(job)
        except OSError:

            async def again() -> None:
                step(job)

            self._spawn(again)

    def _changed(self, job: Job) -> None:
        self._refresh(job)
        if job.ended:
            self._finish(job)
        else:
            self._board.publish(self.observe(job))

    def _gone(self, job: Job) -> None:
        job.link = None
        self._refresh(job)
        if job.ended:
            self._finish(job)
        else:
            self._spawn(partial(self._after_supervisor, job))

    async def _after_supervisor(self, job: Job) -> None:
        """No supervisor any more: the journal says how it ended, or nothing had begun, or it is lost."""
        begun = await self._threads.run(job.folder.begun)
        if begun is not None:
            await until_gone(begun)
        self._refresh(job)
        if job.ended:
            self._finish(job)
        elif begun is None and job.cancel is None:
            await self._again(job)
        elif begun is None or job.cancel is not None:
            await self._write_off(job, "canceled", "")
        elif begun["boot_id"] != files.boot_id():
            await self._write_off(job, "lost", self._node, Why.NODE_RESTARTED)
        else:
            await self._write_off(job, "lost", "the supervisor of the job", Why.KILLED_FROM_OUTSIDE)

    async def _write_off(self, job: Job, how: str, cause: str, why: Why = Why.NONE) -> None:
        while not await self._threads.run(lambda: job.folder.close_if_over(self._clock.now_ms(), how, cause, why.value)):
            # somebody holds the lock: a launcher that is ending, or a supervisor after all
            if dial_once := dial(job.folder):
                dial_once.close()
                await self._attach(job)
                return
            await asyncio.sleep(_DIAL_AGAIN_S)
        await self._threads.run(job.folder.clear_points)
        self._refresh(job)
        self._finish(job)

    def _refresh(self, job: Job) -> None:
        """Read what is new in the journal (a small file of this machine)."""
        lines, job.offset = job.folder.lines(job.offset)
        job.history.add(lines)
        if not job.begun:
            job.begun = (job.folder.path / BEGUN).exists()
        if len(job.history.starts) == job.spec["replicas"]:
            self.queue.began(job.id, max(job.history.starts.values()))

    def _finish(self, job: Job) -> None:
        """It is ENDED in the journal: give everything back, tell, let the next one start."""
        if job.link is not None:
            job.link.close()
            job.link = None
        job.uid = None
        self._placed.pop(job.id, None)
        self.queue.remove(job.id)
        self._board.publish(self.observe(job))
        if self._machine.cgroups:
            with suppress(OSError):
                limits.remove_all(self._machine.cgroups, f"{self._group_prefix}{job.id}+")
        self._schedule()


def _scan(jobs: Path) -> list[_Found]:
    """Every job in the state folder; folders of unanswered submits and of early cancels are left alone."""
    found: list[_Found] = []
    for folder in all_folders(jobs):
        spec = folder.spec()
        if spec is None:
            continue
        job = Job(folder, spec, folder.cancel())
        lines, job.offset = folder.lines()
        job.history.add(lines)
        locked = not job.ended and folder.is_locked()
        job.begun = folder.begun() is not None
        plan = folder.plan()
        if plan is not None:
            job.uid = plan["uid"]
            job.block = plan.get("block", OLD_BLOCK)
        found.append(_Found(job, locked))
    return found
