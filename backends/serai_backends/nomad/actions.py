"""The steps of `life`, carried out: each stores what it decides before it acts, and can be done again.

kill -9 between any two lines leaves a stage from which the same step, or the next one, goes on. All may raise BackendUnavailable; then they
are tried again later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import structlog

from serai_backends.errors import BackendUnavailable, SubmissionRefused
from serai_backends.model import End, Why
from serai_backends.nomad import jobfile, names, volumes
from serai_backends.nomad.client import AlreadyRegistered, RegistrationRefused, VariableConflict
from serai_backends.nomad.doors import SETTLE_MS, Doors
from serai_backends.nomad.life import Step
from serai_backends.nomad.records import Stage, StopReason
from serai_backends.nomad.view import View, refused

if TYPE_CHECKING:
    from serai_backends.nomad.ground import Ground
    from serai_backends.nomad.line import Lines
    from serai_backends.nomad.secrets import Secrets
    from serai_backends.nomad.store import Views

log = structlog.get_logger("serai.nomad")

_NOT_OURS = "the namespace has another job of the name {}: each provider needs a namespace of its own"
_AGAIN_MS, _AGAIN_AT_MOST_MS = 5_000, 600_000
"""From a roll-back to the next try, doubled each time: a try that fails holds places that others could use."""
_VOLUME_MS = 500
"""Between two looks at whether a new volume can be used; it takes about a second (facts: nomad-tried §10)."""


class Actions:
    def __init__(self, ground: Ground, views: Views, lines: Lines, doors: Doors, secrets: Secrets) -> None:
        self._ground, self._views, self._lines, self._doors, self._secrets = ground, views, lines, doors, secrets
        self._choosing_user = asyncio.Lock()
        self._chosen: dict[str, int] = {}
        """By job: users whose folders are being made."""
        self._steps: dict[Step, Callable[[View], Awaitable[None]]] = {
            Step.PREPARE: self._prepare,
            Step.REGISTER: self._register,
            Step.OPEN: self._open,
            Step.WRITE_GATE: self.write_variable,
            Step.TAKE_BACK: self._take_back,
            Step.STOP: self._stop,
            Step.DEREGISTER: self._deregister,
            Step.CLEAR: self._clear,
            Step.FINISH: self._finish,
        }

    async def do(self, step: Step, view: View) -> None:
        await self._steps[step](view)

    async def _prepare(self, view: View) -> None:
        if hostname := self._doors.missing(view):
            await self.refuse(view, Why.PEER_GONE, hostname)
            return
        settings = self._ground.settings
        placement = settings.placement(view.spec.product)
        if settings.work == "volume" and placement is not None and not await volumes.make(self._ground.client, view.nomad_id, placement):
            view.look_again_at_ms = self._ground.clock.now_ms() + _VOLUME_MS
            return
        try:
            async with self._choosing_user:
                used = self._views.users | set(self._chosen.values())
                chosen = await self._ground.threads.run(lambda: self._ground.folders.choose(view.spec, used))
                if chosen.uid is not None:
                    self._chosen[view.record.job_id] = chosen.uid
            await self._ground.threads.run(lambda: self._ground.folders.make(view.spec, chosen))
            if not await self._write_secrets(view):
                return
            await self._views.change(view, only=Stage.RELEASED, prepared=True, uid=chosen.uid, gid=chosen.gid)
        except jobfile.CannotPrepare as error:
            await self.refuse(view, error.why, error.detail)
        finally:
            self._chosen.pop(view.record.job_id, None)

    async def _write_secrets(self, view: View) -> bool:
        """False = the job has ended: it can never have them, or its name at Nomad is somebody else's, who could read them."""
        if view.spec.secrets and await self._index_of(view) == 0:
            await self.refuse(view, Why.NONE, _NOT_OURS.format(view.nomad_id))
            return False
        try:
            await self._secrets.write(view)
        except SubmissionRefused as error:
            await self._secrets.delete(view)
            await self.refuse(view, error.why, str(error))
            return False
        return True

    async def _register(self, view: View) -> None:
        record = view.record
        try:
            prepared = jobfile.Prepared(uid=record.uid, gid=record.gid)
            job = jobfile.build(view.spec, record.attempt, prepared, self._ground.settings)
            index = (await self._ground.client.register(job)).index
        except AlreadyRegistered:
            index = await self._registered_before(view)
        except (RegistrationRefused, SubmissionRefused) as error:
            why = error.why if isinstance(error, SubmissionRefused) else Why.NONE
            await self.refuse(view, why, str(error))
            return
        if index:
            await self._views.change(view, registered_index=index, namespace=self._ground.client.namespace)
            view.registered(self._ground.ours, self._ground.clock.now_ms())

    async def _registered_before(self, view: View) -> int:
        """By an earlier life of this server, which did not come to write it down. 0 = it is somebody else's, and the job has ended."""
        index = await self._index_of(view)
        if index is None:
            raise BackendUnavailable(f"Nomad first had the job {view.nomad_id}, then not")
        if index:
            return index
        await self.refuse(view, Why.NONE, _NOT_OURS.format(view.nomad_id))
        return 0

    async def _index_of(self, view: View) -> int | None:
        """Nomad's index of the job's registration; None = it has no such job, 0 = it is somebody else's."""
        found = await self._ground.client.job(view.nomad_id)
        if found is None:
            return None
        meta = found.meta or {}
        ours = (meta.get(names.META_PROVIDER), meta.get(names.META_JOB)) == (self._ground.settings.provider, view.record.job_id)
        return found.create_index if ours else 0

    async def _open(self, view: View) -> None:
        if view.spec.peers and not await self._open_doors(view):
            return
        if self._doors.too_many(view):
            await self._never_open(
                view, Why.TOO_LARGE, "the addresses of its replicas and of its peers have no room in one variable of Nomad"
            )
            return
        await self._views.change(view, only=Stage.RELEASED, stage=Stage.OPENED)

    async def _never_open(self, view: View, why: Why, detail: str) -> None:
        failure = (why, detail)
        await self._views.change(view, only=Stage.RELEASED, stage=Stage.STOPPING, stop=StopReason.RANK_FAILED, failure=failure)

    async def _open_doors(self, view: View) -> bool:
        """The peers let this job in. False = not yet, or a peer does not run and the job is over."""
        if hostname := self._doors.missing(view):
            await self._never_open(view, Why.PEER_GONE, hostname)
            return False
        for peer in view.spec.peers:
            other = self._views.get(peer.job_id)
            if other is not None and self._doors.too_many(other):
                await self._never_open(view, Why.TOO_LARGE, f"too many jobs are connected to its peer {peer.hostname}")
                return False
            if other is not None and other.peers_written != self._doors.addresses(other):
                await self._views.change(other, only=Stage.OPENED, doors=True)
                await self.write_variable(other)
                view.look_again_at_ms = self._ground.clock.now_ms() + SETTLE_MS
        return view.look_again_at_ms is None or view.look_again_at_ms <= self._ground.clock.now_ms()

    async def write_variable(self, view: View) -> None:
        """What the job's ranks and their firewalls read; the same items once more change nothing."""
        path, items = names.variable(view.nomad_id), self._doors.items(view)
        try:
            await self._ground.client.put_variable(path, items, cas=0)
        except VariableConflict as conflict:
            if dict(conflict.stored.items) != items:
                if not view.record.registered_index and await self._index_of(view) == 0:
                    await self.refuse(view, Why.NONE, _NOT_OURS.format(view.nomad_id))
                    return
                # Nobody else writes here; a second conflict is tried again later.
                await self._ground.client.put_variable(path, items, cas=conflict.stored.modify_index)
        view.gate_written, view.peers_written = True, items[names.PEERS]

    async def _take_back(self, view: View) -> None:
        log.info("nomad.taken_back", job=view.record.job_id, why="not all of its replicas found a place in time")
        await self._views.change(view, only=Stage.RELEASED, stage=Stage.TAKEN_BACK)

    async def _stop(self, view: View) -> None:
        await self._views.change(view, only=view.record.stage, stage=Stage.STOPPING, stop=StopReason.RANK_FAILED)

    async def _deregister(self, view: View) -> None:
        client = self._ground.client
        if not view.record.registered_index:
            index = await self._index_of(view)
            if index == 0:
                view.deregistered = True  # somebody else's, which goes on; of ours there is nothing
                return
            if index:
                # Registered, and the answer did not come to be stored.
                await self._views.change(view, registered_index=index, namespace=self._ground.client.namespace)
                view.registered(self._ground.ours, self._ground.clock.now_ms())
        await client.deregister(view.nomad_id)
        for allocation in await client.allocations_of(view.nomad_id):
            view.see(allocation, self._ground.ours, self._ground.clock.now_ms())
        view.deregistered = True

    async def _clear(self, view: View) -> None:
        await self.purge(view)
        await self._tidy(view)
        self._lines.remove(view)
        cleared = await self._views.change(
            view,
            only=Stage.TAKEN_BACK,
            stage=Stage.QUEUED,
            attempt=view.record.attempt + 1,
            prepared=False,
            registered_index=0,
            uid=None,
            gid=None,
        )
        if cleared:
            pause_ms = min(_AGAIN_MS << min(view.record.attempt - 2, 10), _AGAIN_AT_MOST_MS)
            view.not_before_ms = self._ground.clock.now_ms() + pause_ms
            self._lines.add(view)

    async def purge(self, view: View) -> None:
        """Nothing of this attempt stays at Nomad. What has its name and is somebody else's does."""
        if not view.record.registered_index and await self._index_of(view) == 0:
            return
        await self._ground.client.deregister(view.nomad_id, purge=True)
        await self._ground.client.delete_variable(names.variable(view.nomad_id))
        await self._secrets.delete(view)
        if self._ground.settings.work == "volume":
            await volumes.remove(self._ground.client, view.nomad_id)

    async def _finish(self, view: View) -> None:
        """Its last word is stored; what was made for the run only is taken away before, because afterwards nobody would.

        Its marks are among that, so what they said of its ranks is stored even before: without them a program that failed at once
        looks like a start that did.
        """
        seen = view.observation()
        if self._ground.settings.work == "path" and seen != view.record.observation:
            await self._views.change(view, observation=seen)
        await self._tidy(view)
        if view.spec.secrets and (view.record.prepared or await self._index_of(view) != 0):  # somebody else's have the same name
            await self._secrets.delete(view)
        await self._views.change(view, stage=Stage.ENDED, observation=view.ending(self._ground.clock.now_ms()))

    async def _tidy(self, view: View) -> None:
        await self._ground.threads.run(lambda: self._ground.folders.tidy(view.spec))

    async def refuse(self, view: View, why: Why, detail: str) -> None:
        """It can never run, and nothing of it is at Nomad but its secrets, if it came so far."""
        await self._tidy(view)
        if view.record.prepared:
            await self._secrets.delete(view)
        observation = refused(view.record, End.START_FAILED, why, detail, self._ground.clock.now_ms())
        await self._views.change(view, stage=Stage.ENDED, observation=observation)
