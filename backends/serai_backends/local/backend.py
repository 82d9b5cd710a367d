"""LocalBackend: `serai_backends.api.Backend` on one machine. The calls are here; starting, adopting and ending jobs is in runner.py.

What kill -9 leaves behind at any line, and what the next instance does about it:
    spec.json not renamed            the submit was not answered; the folder is ignored, a repeated submit writes it
    spec.json, no begun              in the queue again, at its old place
    begun, lock held                 adopted
    begun, lock free, no done        LOST, written into the journal
    done                             ENDED, until it is forgotten
    cancel, not begun                CANCELED, written into the journal; never starts
    cancel, lock held                told to the supervisor again
"""

from __future__ import annotations

import asyncio
import os
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from serai_backends.clock import open_clock
from serai_backends.common import logs
from serai_backends.common.board import Board
from serai_backends.common.submission import is_job_id
from serai_backends.common.threads import Threads
from serai_backends.errors import BackendUnavailable, JobNotThere, SubmissionRefused
from serai_backends.local import limits
from serai_backends.local.callers import uids_of
from serai_backends.local.endpoints import Endpoints
from serai_backends.local.folder import Cancel, JobFolder, clear_groups, open_state
from serai_backends.local.ground import Ground
from serai_backends.local.probe import Machine
from serai_backends.local.queue import CapacityQueue
from serai_backends.local.runner import Job, Runner, need_of
from serai_backends.local.shells import Shells
from serai_backends.local.submission import spec_of
from serai_backends.local.trials import clear_trials
from serai_backends.model import Capacity, CheckReport, Features, Why

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from typing import Self

    from serai_backends.api import SecretSource
    from serai_backends.clock import SteadyClock
    from serai_backends.local.settings import LocalSettings
    from serai_backends.local.shells import LocalShell
    from serai_backends.local.supervisor.plan import Spec
    from serai_backends.model import Endpoint, JobObservation, LogChunk, ReplicaSpec, Stream, TerminalSize, WatchEvent


class LocalBackend:
    """Made by `open_local`. Also an asynchronous context manager that closes itself."""

    def __init__(self, ground: Ground, jobs: Path, state_lock: int) -> None:
        self._jobs_dir, self._state_lock = jobs, state_lock
        self._settings, self._machine, self._threads, self._clock = ground.settings, ground.machine, ground.threads, ground.clock
        self._board = Board(self._clock.now_ms())
        self._files = logs.LogFiles(ground.settings, ground.threads, self._board)
        cpu = self._settings.cpu or len(os.sched_getaffinity(0))
        memory = self._settings.memory_bytes or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        self._runner = Runner(ground, CapacityQueue(cpu, memory), self._board)
        self._shells = Shells()
        self._endpoints = Endpoints(self._board, uids_of(self._settings.endpoint_users), self._runner.has_ended)
        self._saving: dict[str, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def name(self) -> str:
        return "local"

    @property
    def features(self) -> Features:
        peers = self._machine.peers_trouble is None
        return Features(
            logs=True,
            terminal=self._machine.shells_trouble is None,
            web=True,
            vnc=True,
            suspension=True,
            inputs=True,
            secrets=True,
            peers=peers,
            time_extension=True,
            utilization=True,
        )

    @property
    def machine(self) -> Machine:
        """What was found of the machine when the backend was opened."""
        return self._machine

    async def adopt(self) -> None:
        """Take over what earlier instances left. Once, before anything else."""
        await self._runner.adopt(self._jobs_dir)

    async def submit(self, spec: ReplicaSpec) -> None:
        self._board.check_open()
        if spec.job_id in self._runner.jobs:
            return
        if (saving := self._saving.get(spec.job_id)) is None:
            record = self._accept(spec)
            saving = asyncio.create_task(self._take_on(record))
            self._saving[spec.job_id] = saving
            saving.add_done_callback(lambda task: self._saved(spec.job_id, task))
        # a caller that goes away does not split the steps
        await asyncio.shield(saving)

    def _accept(self, spec: ReplicaSpec) -> Spec:
        if self._machine.trouble is not None:
            raise BackendUnavailable(f"this machine cannot isolate jobs: {self._machine.trouble}")
        record = spec_of(spec, self._runner.next_sequence(), self._clock.now_ms())
        if spec.resources.gpu:
            raise SubmissionRefused("the job needs a GPU, this machine offers none", Why.TOO_LARGE)
        if spec.peers and self._machine.peers_trouble is not None:
            raise SubmissionRefused(f"jobs cannot reach other jobs on this machine: {self._machine.peers_trouble}")
        if (why := self._runner.queue.refusal(need_of(record))) is not None:
            raise SubmissionRefused(why, Why.TOO_LARGE)
        return record

    def _saved(self, job_id: str, task: asyncio.Task[None]) -> None:
        self._saving.pop(job_id, None)
        if not task.cancelled():
            task.exception()  # the caller may be gone; then nobody else asks

    async def _take_on(self, spec: Spec) -> None:
        folder = JobFolder(self._jobs_dir, spec["job_id"])

        def save() -> Cancel | None:
            folder.save_spec(spec)
            cancel = folder.cancel()
            if cancel is not None:
                folder.close_if_over(self._clock.now_ms(), "canceled", "")
            return cancel

        cancel = await self._threads.run(save)
        self._runner.take_on(Job(folder, spec, cancel))

    async def cancel(self, job_id: str, grace_ms: int = 0) -> None:
        self._board.check_open()
        if not is_job_id(job_id) or ((job := self._runner.jobs.get(job_id)) is not None and job.ended):
            return
        await asyncio.shield(asyncio.ensure_future(self._threads.run(lambda: JobFolder(self._jobs_dir, job_id).save_cancel(grace_ms))))
        if (saving := self._saving.get(job_id)) is not None:
            with suppress(BackendUnavailable):
                await asyncio.shield(saving)
        self._runner.cancel(job_id, Cancel(grace_ms=grace_ms))

    async def suspend(self, job_id: str) -> None:
        self._board.check_open()
        self._runner.ask(job_id, "suspend")

    async def resume(self, job_id: str) -> None:
        self._board.check_open()
        self._runner.ask(job_id, "resume")

    def take_secrets_from(self, source: SecretSource) -> None:
        self._runner.secrets.take_from(source)

    def tell_limit(self, job_id: str, time_limit_ms: int) -> None:
        self._runner.queue.limit(job_id, time_limit_ms)

    async def inspect(self, job_id: str) -> JobObservation | None:
        job = self._runner.jobs.get(job_id)
        return self._runner.observe(job) if job is not None else None

    async def list(self) -> Sequence[JobObservation]:
        return [self._runner.observe(job) for job in self._runner.jobs.values()]

    def watch(self, after: int | None = None) -> AsyncIterator[WatchEvent]:
        return self._board.watch(after)

    async def forget(self, job_id: str) -> None:
        job = self._runner.jobs.get(job_id)
        if not is_job_id(job_id) or job_id in self._saving or (job is not None and not job.ended):
            return
        self._runner.forget(job_id)
        await self._threads.run(JobFolder(self._jobs_dir, job_id).remove)

    async def logs(
        self,
        job_id: str,
        rank: int,
        stream: Stream,
        offset: int = 0,
        *,
        tail: int | None = None,
        follow: bool = False,
        output_folder: str = "",
    ) -> AsyncIterator[LogChunk]:
        job = self._runner.jobs.get(job_id)
        if rank < 0 or (job is None and not output_folder) or (job is not None and rank >= job.spec["replicas"]):
            raise JobNotThere(job_id)
        source = logs.LogSource(job_id, job.spec["output_folder"] if job is not None else output_folder, known=job is not None)
        ended = partial(self._runner.has_ended, job_id, rank)
        reading = self._files.read(source, rank, stream, offset, tail=tail, follow=follow, ended=ended)
        async with aclosing(reading):
            async for chunk in reading:
                yield chunk

    async def open_shell(self, job_id: str, rank: int, argv: tuple[str, ...], size: TerminalSize) -> LocalShell:
        self._board.check_open()
        return await self._shells.open(self._running(job_id, rank).folder, rank, argv, size)

    def _running(self, job_id: str, rank: int) -> Job:
        """The job of a replica that runs now. Raises JobNotThere when there is none, BackendUnavailable when it cannot be reached now."""
        job = self._runner.jobs.get(job_id)
        if job is None or job.ended or rank not in job.history.starts or rank in job.history.ends:
            raise JobNotThere(job_id)
        if job.history.suspended:
            raise BackendUnavailable(f"job {job_id} is suspended: try again when it runs")
        if job.link is None:
            raise BackendUnavailable(f"job {job_id} is being taken over by this server: try again in a moment")
        return job

    async def endpoint(self, job_id: str, rank: int, port: int) -> Endpoint:
        self._board.check_open()
        job = self._running(job_id, rank)
        if port not in job.spec["ports"]:
            raise JobNotThere(job_id)
        return self._endpoints.open(job.folder, rank, port)

    async def capacity(self) -> Capacity:
        queue = self._runner.queue
        used = queue.used
        return Capacity(
            cpu=queue.cpu,
            memory_bytes=queue.memory_bytes,
            used_cpu=used.cpu,
            used_memory_bytes=used.memory_bytes,
            running_jobs=queue.running_count,
            waiting_jobs=queue.waiting_count,
        )

    async def check(self) -> CheckReport:
        machine = await self._threads.run(lambda: Machine(self._settings))
        return CheckReport(findings=tuple(machine.findings(self._settings)))

    async def close(self) -> None:
        if self._board.closed:
            return
        self._board.close()
        self._shells.close()
        await self._endpoints.close()
        if self._saving:
            await asyncio.wait(list(self._saving.values()))
        await self._runner.close()
        self._files.close()
        self._threads.close()
        os.close(self._state_lock)


async def open_local(settings: LocalSettings, clock: SteadyClock | None = None) -> LocalBackend:
    """Open the backend on its state folder: what earlier instances started is adopted, what waited is in the queue again.

    `clock`: the server's, because it bills by the times that jobs have here; None = the one of the state folder.
    Raises BackendUnavailable when another server uses the folder or it cannot be made.
    """
    threads = Threads(8)
    lock: int | None = None
    try:
        jobs, lock = await threads.run(lambda: open_state(Path(settings.state_dir)))
        await threads.run(lambda: clear_trials(Path(settings.state_dir)))
        machine = await threads.run(lambda: Machine(settings))
        await threads.run(lambda: clear_groups(jobs, machine.cgroups, limits.prefix(settings.state_dir)))
        steady = clock or await threads.run(lambda: open_clock(Path(settings.state_dir)))
        backend = LocalBackend(Ground(settings, machine, threads, steady), jobs, lock)
    except BaseException:
        threads.close()
        if lock is not None:
            os.close(lock)
        raise
    await backend.adopt()
    return backend


async def check_local(settings: LocalSettings) -> CheckReport:
    """As `Backend.check`, without opening the backend: a server may be running on the same folder."""
    machine = await asyncio.to_thread(Machine, settings)
    return CheckReport(findings=tuple(machine.findings(settings)))
