"""Jobs of ours at Nomad that no row asks for: taken over where there is no row at all, ended where the row is past them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from serai_backends.model import ReplicaSpec, Resources, Why
from serai_backends.nomad import names
from serai_backends.nomad.records import Record, Stage, StopReason

if TYPE_CHECKING:
    from collections.abc import Callable

    from serai_backends.nomad.ground import Ground
    from serai_backends.nomad.store import Views
    from serai_backends.nomad.view import View
    from serai_backends.nomad.wire import Job

log = structlog.get_logger("serai.nomad")


class Strays:
    def __init__(self, ground: Ground, views: Views, adopted: Callable[[View], None]) -> None:
        """`adopted` is told of each job that was taken over."""
        self._ground, self._views, self._adopted = ground, views, adopted

    def look_at(self, job: Job) -> None:
        """A job of this provider that nobody has stopped at Nomad."""
        self._adopt_if_unknown(job)
        self._end_if_left_over(job)

    def _adopt_if_unknown(self, job: Job) -> None:
        """A job of ours without a row, as after the state folder was lost: it is taken over, so that it can be seen and stopped."""
        meta = job.meta or {}
        job_id, replicas, attempt = meta.get(names.META_JOB, ""), meta.get(names.META_REPLICAS, ""), meta.get(names.META_ATTEMPT, "")
        if not (job_id and replicas.isdecimal() and attempt.isdecimal()) or names.nomad_id(job_id, int(attempt)) != job.id:
            return
        if self._views.get(job_id) is None and not self._views.was_removed(job.id):
            self._ground.spawn(self._adopt(job_id, int(replicas), int(attempt), job))

    def _end_if_left_over(self, job: Job) -> None:
        """A registration that came to Nomad after its job, or the attempt, was over here: nobody else would end it."""
        view = self._views.get((job.meta or {}).get(names.META_JOB, ""))
        if view is None or job.status == "dead":
            return
        earlier = {names.nomad_id(view.record.job_id, attempt) for attempt in range(1, view.record.attempt)}
        if job.id in earlier or (job.id == view.nomad_id and view.record.stage is Stage.ENDED):
            log.info("nomad.left_over", job=view.record.job_id, nomad_id=job.id)
            self._ground.spawn(self._ground.client.deregister(job.id))

    async def _adopt(self, job_id: str, replicas: int, attempt: int, job: Job) -> None:
        folder = (job.meta or {}).get(names.META_FOLDER, "")
        spec = ReplicaSpec(job_id, replicas, (), (), Resources(cpu=0, memory_bytes=0), folder)
        async with self._views.lock(job_id):
            if self._views.get(job_id) is not None or self._views.was_removed(job.id):
                return
            opened = await self._ground.client.variable(names.variable(job.id)) is not None
            stage = Stage.OPENED if opened and not self._views.was_canceled(job_id) else Stage.STOPPING
            view = await self._views.add(
                Record(
                    job_id=job_id,
                    sequence=self._views.next_sequence(),
                    stage=stage,
                    spec=spec,
                    attempt=attempt,
                    prepared=True,
                    registered_index=max(job.create_index, 1),
                    namespace=self._ground.client.namespace,
                    adopted=True,
                    stop=None if opened else StopReason.RANK_FAILED,
                    failure=None if opened else (Why.NONE, "what was noted of the job was lost before its ranks were let go"),
                )
            )
        if view is not None:
            log.warning("nomad.adopted", job=job_id, why="it runs at Nomad and the state folder had no row of it")
            view.gate_written = True
            self._adopted(view)
