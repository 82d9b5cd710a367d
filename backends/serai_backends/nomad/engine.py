"""Moves jobs: what Nomad tells goes into the views, and workers carry out the next step of each job that something was told of.

Also the sink of the feed. One worker at a time works on a job; what it tells is stored before anybody hears it.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import structlog

from serai_backends.common.time import sleep_or
from serai_backends.common.work_queue import WorkQueue
from serai_backends.errors import BackendUnavailable
from serai_backends.model import Phase, Why
from serai_backends.nomad import names, observed
from serai_backends.nomad.actions import Actions
from serai_backends.nomad.doors import Doors
from serai_backends.nomad.jobfile import codes
from serai_backends.nomad.life import START_PATIENCE_MS, Step, deadline_of, next_step
from serai_backends.nomad.line import Lines
from serai_backends.nomad.records import Stage
from serai_backends.nomad.room import Room
from serai_backends.nomad.secrets import Secrets
from serai_backends.nomad.strays import Strays
from serai_backends.nomad.view import COLLECTED, PURGED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from serai_backends.api import SecretSource
    from serai_backends.nomad.client import Event
    from serai_backends.nomad.ground import Ground
    from serai_backends.nomad.store import Views
    from serai_backends.nomad.view import View
    from serai_backends.nomad.wire import Allocation, Job, Node

log = structlog.get_logger("serai.nomad")

_WORKERS = 32
_MOST_STEPS = 12
_BEGIN_MS, _BEGIN_AGAIN_MS = 2_000, 50
"""A task that runs is believed to be its program after so long, if its folder does not say so before; so often the folder is looked at."""
_PLACES_MS = 1_000
"""Between two times that everybody in the line is told their places: each job that goes changes those of all behind it."""
_UNSEEN = "it was purged or collected while nobody looked"


class Engine:
    def __init__(self, ground: Ground, views: Views) -> None:
        self._ground, self._views = ground, views
        self.room = Room()
        self.lines = Lines(ground.settings, self.room)
        self.doors = Doors(views)
        self._line_moved = asyncio.Event()
        self._secrets = Secrets(ground, self._held)
        self._actions = Actions(ground, views, self.lines, self.doors, self._secrets)
        self._strays = Strays(ground, views, self._doubt)
        self.works = WorkQueue(ground.clock, random.random)
        self._doubtful: set[str] = set()
        """Jobs of which a list did not say what it should."""
        self._unlocated: set[str] = set()
        """Jobs with ranks that a list showed to be placed, without their addresses."""
        self._how: dict[str, str] = {}
        """By Nomad's id: how a job went that Nomad does not know any more."""
        self._seen_all = False
        """Everything was looked at once: nobody is released before, lest a job that is at Nomad is given to it again."""
        self.look: Callable[[], None] = lambda: None
        """Has everything listed soon."""
        self.look_at_room: Callable[[], None] = lambda: None
        """Has only nodes and what is used of them listed soon."""
        for view in views:
            self._load(view)

    def _load(self, view: View) -> None:
        stage = view.record.stage
        if stage is Stage.QUEUED:
            self.lines.add(view)
        elif view.on_its_way and view.record.observation is None:
            self.lines.follow(view)
        view.gate_written = stage is Stage.OPENED and view.started
        if stage is not Stage.ENDED:
            self.works.add(view.record.job_id)
        self._ground.board.publish(view.observation())

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.works.run_timer())
            group.create_task(self._release())
            for _ in range(_WORKERS):
                group.create_task(self._work())

    def took_on(self, view: View) -> None:
        """A new job, stored."""
        self._ground.board.publish(view.observation())
        if view.record.stage is Stage.QUEUED:
            self.lines.add(view)
            self.doors.ask(view)
            self._line_moved.set()

    def take_secrets_from(self, source: SecretSource) -> None:
        self._secrets.desk.take_from(source)
        for view in self._views:
            if view.spec.secrets and view.record.stage is Stage.RELEASED:
                self.works.add(view.record.job_id)

    def _held(self, view: View) -> None:
        if self.lines.placed(view):
            self._line_moved.set()

    async def purge(self, view: View) -> None:
        """Nothing of it stays at Nomad."""
        await self._actions.purge(view)

    def changed(self, view: View) -> None:
        """Somebody else than a worker changed its row."""
        if view.record.stage is Stage.ENDED:
            self._ended(view)
        else:
            self.works.add(view.record.job_id)

    # what the feed says

    def saw_event(self, event: Event) -> None:
        if event.allocation is not None:
            self.saw_allocations((event.allocation,))
        elif event.evaluation is not None:
            view = self._views.by_nomad_id(event.evaluation.job_id)
            if view is not None and view.on_its_way:
                view.evaluations[event.evaluation.id] = event.evaluation
                self._note_reason(view)
        elif event.topic == "Job" and event.type in {"JobDeregistered", "JobBatchDeregistered"}:
            view = self._views.by_nomad_id(event.key)
            if view is not None and view.record.stage in {Stage.RELEASED, Stage.OPENED}:
                self._how[event.key] = PURGED if event.type == "JobDeregistered" else COLLECTED
                self._doubt(view)
        elif event.topic == "Node":
            # Nomad tells a node with each change of an allocation on it (its LastAllocUpdateIndex)
            if event.type != "AllocationUpdated":
                self.look()
            elif len(self.lines):
                self.look_at_room()

    def saw_allocations(self, allocations: Sequence[Allocation]) -> None:
        now_ms = self._ground.clock.now_ms()
        for allocation in allocations:
            view = self._views.by_nomad_id(allocation.job_id)
            if view is not None and view.record.stage is not Stage.ENDED and view.see(allocation, self._ground.ours, now_ms):
                self._note_place(view)
                self.works.add(view.record.job_id)

    def saw_everything(self, jobs: Sequence[Job], allocation_ids: set[str]) -> None:
        listed = {job.id: job for job in jobs}
        for view in self._views:
            record = view.record
            if not record.registered_index or record.stage in {Stage.ENDED, Stage.QUEUED}:
                continue
            job = listed.get(view.nomad_id)
            unseen = any(not rank.over and rank.alloc_id not in allocation_ids for rank in view.ranks)
            if job is None or (unseen and (job.status == "dead" or view.placed)):
                self._doubt(view)
            elif record.stage in {Stage.RELEASED, Stage.OPENED} and view.placed and view.addresses is None:
                self._unlocated.add(record.job_id)
                self.works.add(record.job_id)
            elif view.on_its_way:
                self._doubt(view)
            elif record.stage is Stage.OPENED and view.gated and not view.started:
                # Should somebody have deleted the variable, its ranks would wait for ever: written again, which changes nothing else.
                view.gate_written = False
                self.works.add(record.job_id)
        self._seen_all = True
        self._line_moved.set()
        for job in jobs:
            if (job.meta or {}).get(names.META_PROVIDER) == self._ground.settings.provider and not job.stop:
                self._strays.look_at(job)

    def _note_place(self, view: View) -> None:
        """Once all of it is placed, those behind it may go, also when it is the start that was heard first."""
        if self.lines.follows(view) and view.placed:
            view.reason = ""
            self.lines.placed(view)
            self._line_moved.set()

    def saw_cluster(self, nodes: Sequence[Node], used: Sequence[Allocation]) -> None:
        self.room.look(nodes, used)
        self.lines.reserve_again(Counter(allocation.job_id for allocation in used))
        self._line_moved.set()

    def _doubt(self, view: View) -> None:
        if view.record.stage not in {Stage.ENDED, Stage.QUEUED}:
            self._doubtful.add(view.record.job_id)
            self.works.add(view.record.job_id)

    # the line

    async def _release(self) -> None:
        """Gives jobs to Nomad in order, once it was looked at: who waits there from before is not passed. Tells the others their places."""
        clock, told_at_ms = self._ground.clock, 0
        while True:
            self._line_moved.clear()
            await self._release_all()
            now_ms = clock.now_ms()
            wake_ms = self.lines.next_try_ms(now_ms)
            again = now_ms >= told_at_ms + _PLACES_MS
            if again:
                told_at_ms = now_ms
            elif len(self.lines):
                wake_ms = min(told_at_ms + _PLACES_MS, wake_ms if wake_ms is not None else 1 << 62)
            for view in self.lines.tell_places(again=again):
                self._ground.board.publish(view.observation())
            await self._line_moves(now_ms, wake_ms)

    async def _release_all(self) -> None:
        clock = self._ground.clock
        while self._seen_all and (view := self.lines.next_released(clock.now_ms())) is not None:
            try:
                released = await self._views.change(view, only=Stage.QUEUED, stage=Stage.RELEASED, released_at_ms=clock.now_ms())
            except BackendUnavailable as error:
                log.warning("nomad.not_released", job=view.record.job_id, why=str(error))
                await clock.sleep(1)
                continue
            if released:
                self.lines.released(view)
                self.works.add(view.record.job_id)
            else:
                self.lines.remove(view)

    async def _line_moves(self, now_ms: int, wake_ms: int | None) -> None:
        if wake_ms is None:
            await self._line_moved.wait()
            return
        await sleep_or(self._ground.clock, max(wake_ms - now_ms, 100) / 1000, self._line_moved)

    # the workers

    async def _work(self) -> None:
        while True:
            job_id = await self.works.take()
            try:
                view = self._views.get(job_id)
                if view is not None:
                    await self._move(view)
                self.works.succeeded(job_id)
            except BackendUnavailable as error:
                log.info("nomad.later", job=job_id, why=str(error))
                self.works.retry(job_id)
            except Exception:
                # One job that cannot be moved must not stop the others; it is tried again, ever more slowly.
                log.exception("nomad.failed", job=job_id)
                self.works.retry(job_id)
            finally:
                self.works.done(job_id)

    async def _move(self, view: View) -> None:
        job_id, clock = view.record.job_id, self._ground.clock
        if view.record.stage is Stage.QUEUED and self._ground.settings.placement(view.spec.product) is None:
            await self._actions.refuse(view, Why.NONE, f"the settings have no placement for the machine type {view.spec.product} any more")
        for marked, look in ((self._doubtful, self._clear_up), (self._unlocated, self._locate)):
            if job_id in marked:
                # before the look: a mark that is set meanwhile asks for another one
                marked.discard(job_id)
                try:
                    await look(view)
                except BaseException:
                    marked.add(job_id)
                    raise
        view.give_up(clock.now_ms(), self._ground.settings.node_lost_ms)
        for _ in range(_MOST_STEPS):
            # a step may have listed ranks of which only the folder says whether they started: before the next step that is looked up
            await self._look_for_marks(view)
            before = view.record
            step = next_step(view, clock.now_ms(), placement_deadline_ms=self._ground.settings.placement_deadline_ms)
            if step is Step.NOTHING:
                break
            await self._actions.do(step, view)
            if view.record is before and step is not Step.DEREGISTER and step is not Step.WRITE_GATE:
                # It waits for a time (a peer's door), or somebody else changed the row.
                break
        else:
            self.works.add(job_id)
        await self._tell(view)
        self._wake(view)

    async def _look_for_marks(self, view: View) -> None:
        now_ms = self._ground.clock.now_ms()
        for number, asked in list(view.unsure.items()):
            allocation, since_ms = asked
            marks = await self._ground.threads.run(partial(self._ground.folders.marks, view.spec, number)) or frozenset[int]()
            if observed.runs(allocation) and codes.BEGUN not in marks and now_ms - since_ms < _BEGIN_MS:
                continue
            if view.unsure.get(number) is not asked:
                continue  # a newer word came meanwhile, and has its own turn
            del view.unsure[number]
            view.see(allocation, self._ground.ours, self._ground.clock.now_ms(), marks)

    def _wake(self, view: View) -> None:
        settings = self._ground.settings
        times = [self._ground.clock.now_ms() + _BEGIN_AGAIN_MS] if view.unsure else []
        times += [rank.unreached_since_ms + settings.node_lost_ms for rank in view.ranks if rank.unreached_since_ms is not None]
        times += [failed_ms + START_PATIENCE_MS for failed_ms in view.failed_starts]
        if view.record.stage is Stage.RELEASED:
            times.append(deadline_of(view, settings.placement_deadline_ms))
        if view.look_again_at_ms is not None:
            times.append(view.look_again_at_ms)
        now_ms = self._ground.clock.now_ms()
        later = [time for time in times if now_ms < time < 1 << 60]
        if later:
            self.works.add_at(view.record.job_id, min(later))

    async def _tell(self, view: View) -> None:
        """Stored when it is more than waiting, then told."""
        stage = view.record.stage
        if stage is Stage.ENDED:
            self._ended(view)
            return
        self._note_place(view)
        if stage is Stage.QUEUED:
            self._line_moved.set()
        if stage is Stage.OPENED and view.record.doors and view.peers_written != self.doors.addresses(view):
            await self._actions.write_variable(view)
        observation = view.observation()
        told = view.record.observation
        matters = observation.phase is not Phase.WAITING or any(facts.phase is not Phase.WAITING for facts in observation.replicas)
        if matters and observation != told and not await self._views.change(view, only=stage, observation=observation):
            self.works.add(view.record.job_id)
            return
        # what was seen while this was stored is not: it has its own turn
        self._ground.board.publish(observation)

    def _ended(self, view: View) -> None:
        self._ground.board.publish(view.observation())
        self.lines.remove(view)
        nodes = [rank.node_id for rank in view.ranks if rank.node_id]
        self.room.give_back(view.nomad_id, nodes, view.spec, self._ground.settings)
        self._line_moved.set()
        self._how.pop(view.nomad_id, None)
        for other in self.doors.close(view):
            self.works.add(other.record.job_id)

    def _note_reason(self, view: View) -> None:
        reason = "" if not view.on_its_way else observed.why_unplaced(list(view.evaluations.values()))
        if reason != view.reason:
            view.reason = reason
            self.works.add(view.record.job_id)
            self._line_moved.set()

    async def _clear_up(self, view: View) -> None:
        """Ask for this one job: is it there, and what became of its ranks?"""
        client, clock = self._ground.client, self._ground.clock
        if not view.record.registered_index and view.record.stage is not Stage.STOPPING:
            return
        job = await client.job(view.nomad_id)
        allocations = await client.allocations_of(view.nomad_id)
        for allocation in allocations:
            view.see(allocation, self._ground.ours, clock.now_ms())
        if job is None:
            if not allocations:
                view.gone = self._how.get(view.nomad_id, _UNSEEN)
            return
        evaluations = await client.evaluations_of(view.nomad_id)
        view.evaluations = {evaluation.id: evaluation for evaluation in evaluations}
        self._note_reason(view)
        if not (job.stop or job.status == "dead") or any(evaluation.status in {"pending", "blocked"} for evaluation in evaluations):
            return
        there = {allocation.id for allocation in allocations}
        for number, rank in enumerate(view.ranks):
            if rank.alloc_id in there or rank.over or number in view.unsure:
                continue
            if job.stop and not rank.alloc_id:
                # By our own stop it is over without a word of Nomad; else somebody else stopped what waited.
                if view.record.stage in {Stage.RELEASED, Stage.OPENED}:
                    view.stopped_outside(number, clock.now_ms())
            else:
                view.lose(number, self._how.get(view.nomad_id, COLLECTED), clock.now_ms())

    async def _locate(self, view: View) -> None:
        for rank in view.ranks:
            if rank.alloc_id and rank.address is None:
                allocation = await self._ground.client.allocation(rank.alloc_id)
                if allocation is not None:
                    view.see(allocation, self._ground.ours, self._ground.clock.now_ms())
