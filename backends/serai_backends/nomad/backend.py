"""The Nomad backend: opened on its state folder and on a cluster, it takes over what earlier instances left.

Answers come from what is stored here, so an outage of Nomad is a job that waits; only what must be asked of Nomad itself (shells, logs
where folders are not shared) fails then.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog

from serai_backends.clock import SteadyClock, open_clock, wall_ms
from serai_backends.common import submission
from serai_backends.common.board import Board
from serai_backends.common.logs import LogFiles, LogSource
from serai_backends.common.threads import Threads
from serai_backends.errors import BackendUnavailable, JobNotThere, SubmissionRefused
from serai_backends.model import Capacity, CheckReport, End, Features, Finding, Phase, ReplicaSpec, Resources, Severity, Why
from serai_backends.nomad import doctor, jobfile, observed
from serai_backends.nomad.client import NomadClient, open_client
from serai_backends.nomad.engine import Engine
from serai_backends.nomad.feed import Feed
from serai_backends.nomad.ground import Ground
from serai_backends.nomad.jobfile import JobFolders
from serai_backends.nomad.records import Record, Records, Stage, StopReason, open_records
from serai_backends.nomad.remote_logs import RemoteLogs
from serai_backends.nomad.shells import ReplicaShells
from serai_backends.nomad.store import Views
from serai_backends.nomad.view import View, refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
    from typing import Self

    from serai_backends.api import SecretSource, Shell
    from serai_backends.model import Endpoint, JobObservation, LogChunk, Stream, TerminalSize, WatchEvent
    from serai_backends.nomad.settings import NomadSettings

log = structlog.get_logger("serai.nomad")


class NomadBackend:
    """Made by `open_nomad`. Also an asynchronous context manager that closes itself."""

    def __init__(self, ground: Ground, views: Views, engine: Engine, feed: Feed) -> None:
        self._ground, self._views, self._engine, self._feed = ground, views, engine, feed
        self._parts = AsyncExitStack()
        self._settings = ground.settings
        self._files = LogFiles(ground.settings, ground.threads, ground.board)
        self._remote = RemoteLogs(ground)
        self._shells = ReplicaShells(ground)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def name(self) -> str:
        return "nomad"

    @property
    def features(self) -> Features:
        settings = self._settings
        walled = settings.firewall.enabled and settings.network != "host"
        reached = not walled or bool(settings.firewall.proxies)
        drivers = {placement.driver for placement in settings.placements}
        return Features(
            logs=True,
            terminal="raw_exec" not in drivers,
            web=reached,
            vnc=reached,
            peers=walled,
            time_extension=True,
            utilization=True,
            inputs=settings.work == "path",
            secrets=drivers != {"exec"},
            docker=True,
            native=bool(drivers & {"exec", "raw_exec"}),
        )

    def needs_image(self, product: str) -> bool:
        return self._settings.needs_image(product)

    @property
    def trouble(self) -> str:
        return self._feed.trouble

    def take_secrets_from(self, source: SecretSource) -> None:
        self._engine.take_secrets_from(source)

    def keep(self, parts: AsyncExitStack) -> None:
        """What has to be let go of at the end."""
        self._parts = parts

    async def submit(self, spec: ReplicaSpec) -> None:
        self._ground.board.check_open()
        view = self._views.get(spec.job_id)
        if view is None or view.record.adopted:
            await asyncio.shield(asyncio.ensure_future(self._take_on(spec)))

    async def _take_on(self, spec: ReplicaSpec) -> None:
        submission.check(spec)
        async with self._views.lock(spec.job_id):
            if self._views.get(spec.job_id) is not None:
                return
            self._check_possible(spec)
            now_ms = self._ground.clock.now_ms()
            record = Record(job_id=spec.job_id, sequence=self._views.next_sequence(), stage=Stage.QUEUED, spec=spec, submitted_at_ms=now_ms)
            if self._views.was_canceled(spec.job_id):
                record = ended_before(record, now_ms)
            view = await self._views.add(record)
        if view is not None:
            self._engine.took_on(view)

    def _check_possible(self, spec: ReplicaSpec) -> None:
        """Raises SubmissionRefused for what this cluster never runs."""
        placement = self._settings.placement(spec.product)
        if placement is None:
            raise SubmissionRefused(f"no placement is set up for the machine type {spec.product}")
        if placement.driver == "raw_exec" and self._settings.work == "path" and os.geteuid() != 0:
            words = "programs on the nodes need a server that runs as root: it gives each drive to a user of its own, who keeps them apart"
            raise SubmissionRefused(words)
        if spec.peers and not self.features.peers:
            raise SubmissionRefused("this cluster does not connect jobs: its firewall is not enabled")
        jobfile.build(spec, 1, jobfile.Prepared(uid=None, gid=None), self._settings)
        if not self._settings.cluster_grows and not self._engine.room.could_ever_fit(spec, placement, self._settings):
            all_mhz, _, all_mib, _ = self._engine.room.totals(placement)
            cores, gib = all_mhz // self._settings.mhz_per_core, all_mib / 1024
            asked = f"{spec.replicas} x {spec.resources.cpu} cores and {spec.resources.memory_bytes / 2**30:.1f} GiB"
            walls = ", a little of which the replicas' firewalls take" if self._settings.firewall.enabled else ""
            raise SubmissionRefused(
                f"the job needs {asked}, and the cluster's machines for it have {cores} cores and {gib:.1f} GiB{walls}", Why.TOO_LARGE
            )

    async def cancel(self, job_id: str, grace_ms: int = 0) -> None:
        """The time between SIGTERM and SIGKILL stands in the job file (`kill_timeout_ms`); Nomad takes no other one later."""
        del grace_ms
        self._ground.board.check_open()
        if submission.is_job_id(job_id):
            await asyncio.shield(asyncio.ensure_future(self._cancel(job_id)))

    async def _cancel(self, job_id: str) -> None:
        async with self._views.lock(job_id):
            view = self._views.get(job_id)
            if view is None:
                await self._mark_canceled(job_id)
                return
            stage = view.record.stage
            if stage is Stage.ENDED or (stage is Stage.STOPPING and view.record.stop is StopReason.ASKED):
                return
            if stage is Stage.QUEUED:
                over = ended_before(view.record, self._ground.clock.now_ms())
                await self._views.change_locked(view, stage=over.stage, observation=over.observation)
            else:
                await self._views.change_locked(view, stage=Stage.STOPPING, stop=StopReason.ASKED)
        self._engine.changed(view)

    async def _mark_canceled(self, job_id: str) -> None:
        spec = ReplicaSpec(job_id, 1, (), (), Resources(cpu=0, memory_bytes=0), "")
        await self._views.add(Record(job_id=job_id, sequence=0, stage=Stage.CANCELED_BEFORE, spec=spec))

    async def inspect(self, job_id: str) -> JobObservation | None:
        view = self._views.get(job_id)
        if view is None:
            if not self._feed.listed.is_set():
                raise BackendUnavailable("Nomad has not been asked yet which jobs it has")
            return None
        return view.observation()

    async def list(self) -> Sequence[JobObservation]:
        return [view.observation() for view in self._views]

    def watch(self, after: int | None = None) -> AsyncIterator[WatchEvent]:
        return self._ground.board.watch(after)

    async def forget(self, job_id: str) -> None:
        view = self._views.get(job_id)
        if view is None or view.record.stage is not Stage.ENDED:
            return
        if view.record.registered_index or view.record.attempt > 1 or view.record.prepared or view.spec.secrets:
            await self._engine.purge(view)
        await self._views.remove(job_id)
        self._ground.board.remove(job_id)

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
        view = self._views.get(job_id)
        if rank < 0 or (view is None and not output_folder) or (view is not None and rank >= view.spec.replicas):
            raise JobNotThere(job_id)
        ended = ended_of(view, rank)
        if self._settings.work == "path":
            source = LogSource(job_id, view.spec.output_folder if view is not None else output_folder, known=view is not None)
            reading = self._files.read(source, rank, stream, offset, tail=tail, follow=follow, ended=ended)
        elif view is None:
            raise JobNotThere(job_id)
        else:
            reading = self._remote.read(view, rank, stream, offset, tail=tail, follow=follow, ended=ended)
        async with aclosing(reading):
            async for chunk in reading:
                yield chunk

    async def open_shell(self, job_id: str, rank: int, argv: tuple[str, ...], size: TerminalSize) -> Shell:
        view = self._running(job_id, rank)
        if not self.features.terminal:
            raise BackendUnavailable("programs of the driver raw_exec have no shells: Nomad would open them as root of the node")
        return await self._shells.open(view, rank, argv, size)

    async def endpoint(self, job_id: str, rank: int, port: int) -> Endpoint:
        view = self._running(job_id, rank)
        if port not in view.spec.ports:
            raise JobNotThere(job_id)
        if not self.features.web:
            words = "the firewall of the cluster's replicas lets nobody in: the operator has to name the provider's own proxies"
            raise BackendUnavailable(f"{words} (backend.nomad.firewall.proxies)")
        at = view.ranks[rank]
        if not at.endpoints:  # an event says it, and after a restart there may have been none
            allocation = await self._ground.client.allocation(at.alloc_id)
            at.endpoints = observed.endpoints_of(allocation) if allocation is not None else at.endpoints
        found = next((endpoint for inside, endpoint in at.endpoints if inside == port), None)
        if found is None:
            raise JobNotThere(job_id)
        return found

    def _running(self, job_id: str, rank: int) -> View:
        view = self._views.get(job_id)
        if view is None or not 0 <= rank < len(view.ranks) or view.ranks[rank].facts.phase is not Phase.RUNNING:
            raise JobNotThere(job_id)
        return view

    async def capacity(self) -> Capacity:
        spaces = self._engine.room.nodes.values()
        mhz = self._settings.mhz_per_core
        held = [view for view in self._views if view.record.stage in {Stage.RELEASED, Stage.OPENED, Stage.STOPPING, Stage.TAKEN_BACK}]
        running = [view for view in held if view.started]
        return Capacity(
            cpu=sum(space.all_mhz for space in spaces if space.taken) // mhz,
            memory_bytes=sum(space.all_memory_mib for space in spaces if space.taken) << 20,
            used_cpu=sum(view.spec.resources.cpu * view.spec.replicas for view in running),
            used_memory_bytes=sum(view.spec.resources.memory_bytes * view.spec.replicas for view in running),
            running_jobs=len(running),
            waiting_jobs=len(self._engine.lines) + len(held) - len(running),
        )

    async def check(self) -> CheckReport:
        return CheckReport(findings=tuple(await doctor.findings(self._ground.client, self._settings)))

    async def close(self) -> None:
        if self._ground.board.closed:
            return
        self._ground.board.close()
        self._files.close()
        await self._shells.close()
        await self._parts.aclose()


def ended_before(record: Record, now_ms: int) -> Record:
    """Cancelled before anything of it was at Nomad."""
    return msgspec.structs.replace(record, stage=Stage.ENDED, observation=refused(record, End.CANCELED, Why.NONE, "", now_ms))


def ended_of(view: View | None, rank: int) -> Callable[[], bool]:
    """Whether the rank writes no more: asked again and again."""
    return lambda: view is None or view.record.stage is Stage.ENDED or view.ranks[rank].over


async def open_nomad(settings: NomadSettings, clock: SteadyClock | None = None) -> NomadBackend:
    """Open the backend: what earlier instances started is taken over, what waited is in the line again.

    `clock`: the server's, because it bills by the times that jobs have here; None = the one of the state folder. A Nomad that cannot be
    reached is waited for no longer than one call may take. Raises BackendUnavailable when the state folder cannot be used, when what
    says how to reach Nomad is wrong, or when jobs live in another namespace than it says.
    """
    async with AsyncExitStack() as stack:
        threads = Threads(8, "nomad")
        stack.callback(threads.close)
        records, rows = await threads.run(lambda: open_records(Path(settings.state_dir)))
        stack.push_async_callback(records.close)
        steady = clock or await threads.run(lambda: open_clock(Path(settings.state_dir)))
        client = await stack.enter_async_context(open_client(settings))
        _check_namespace(rows, client.namespace)
        backend, feed, work = _assemble(settings, client, records, rows, threads=threads, clock=steady)
        stack.push_async_callback(_end, work)
        waiter = asyncio.ensure_future(feed.listed.wait())
        try:
            await asyncio.wait((waiter, work), timeout=settings.timeout_ms / 1000, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiter.cancel()
        backend.keep(stack.pop_all())
        return backend
    raise AssertionError  # the stack swallows nothing


def _check_namespace(rows: Sequence[Record], namespace: str) -> None:
    """Jobs in another one would look as if Nomad had forgotten them: ended here, and running on where nobody stops them."""
    there = {row.namespace for row in rows if row.registered_index and row.stage is not Stage.ENDED} - {"", namespace}
    if there:
        raise BackendUnavailable(
            f"jobs that have not ended are in Nomad's namespace {', '.join(sorted(there))}, and the settings say {namespace}: "
            "set it back until they have ended"
        )


async def check_nomad(settings: NomadSettings) -> CheckReport:
    """As `Backend.check`, without opening the backend: a server may be running on the same folder."""
    try:
        async with open_client(settings) as client:
            return CheckReport(findings=tuple(await doctor.findings(client, settings)))
    except BackendUnavailable as error:
        return CheckReport(findings=(Finding(Severity.ERROR, "nomad", str(error)),))


def _assemble(
    settings: NomadSettings, client: NomadClient, records: Records, rows: Sequence[Record], *, threads: Threads, clock: SteadyClock
) -> tuple[NomadBackend, Feed, asyncio.Task[None]]:
    background: set[asyncio.Task[None]] = set()

    def spawn(work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(_logged(work))
        background.add(task)
        task.add_done_callback(background.discard)

    ground = Ground(settings, client, records, Board(clock.now_ms()), threads, JobFolders(settings), clock, wall_ms, spawn)
    views = Views(records, rows, shared=settings.work == "path")
    engine = Engine(ground, views)
    feed = Feed(client, engine, settings, clock)
    engine.look, engine.look_at_room = feed.look, feed.look_at_room

    async def run() -> None:
        try:
            while True:
                await _while_well(engine, feed, clock)
        finally:
            for task in background:
                task.cancel()

    return NomadBackend(ground, views, engine, feed), feed, asyncio.create_task(run())


async def _while_well(engine: Engine, feed: Feed, clock: SteadyClock) -> None:
    """A fault of the program must not end the truth: it is written down, and everything begins again from what is stored and listed."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(engine.run())
            group.create_task(feed.run())
    except Exception:
        log.exception("nomad.began_again")
        await clock.sleep(1)


async def _logged(work: Coroutine[object, object, None]) -> None:
    try:
        await work
    except BackendUnavailable as error:
        log.warning("nomad.later", why=str(error))


async def _end(work: asyncio.Task[None]) -> None:
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
