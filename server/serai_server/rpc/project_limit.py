"""Callers that are limited to one project: the jobs of others are to them as if they were not there, in the same words.

A job's project never changes, so what is found here still holds when the use case is called after it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import TypeVar

from serai.jobs.v1.job_pb2 import Job

from serai_server.errors import JobUnknown
from serai_server.rpc.call import Call
from serai_server.rpc.iterate import converted
from serai_server.rpc.ports import Jobs

T = TypeVar("T")


class ProjectLimit:
    """Each check passes whatever it is given by callers that are not limited."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    async def check_one(self, call: Call, job_id: str) -> None:
        """Raises JobUnknown."""
        if call.only_project and not (await self._jobs.of_project([job_id], call.only_project))[0]:
            raise JobUnknown(f"no job {job_id!r} is known here", field="job_id")

    async def check_each(self, call: Call, job_ids: Sequence[str], at: str) -> Sequence[str]:
        """The ids. Raises JobUnknown for the first that is not the caller's. `at`: the list's name in the request."""
        if call.only_project:
            for place, mine in enumerate(await self._jobs.of_project(job_ids, call.only_project)):
                if not mine:
                    raise JobUnknown(f"no job {job_ids[place][:64]!r} is known here", field=f"{at}[{place}]")
        return job_ids

    async def known(self, call: Call, items: Sequence[Job]) -> Sequence[Job]:
        """Those that are the caller's."""
        if not call.only_project:
            return items
        mine = await self._jobs.of_project([item.id for item in items], call.only_project)
        return [item for item, is_mine in zip(items, mine, strict=True) if is_mine]

    def stream(self, call: Call, job_id: str, answers: AsyncIterator[T]) -> AsyncIterator[T]:
        """The answers about a job. Raises JobUnknown at the first step."""
        return self._checked(call, job_id, answers) if call.only_project else answers

    async def _checked(self, call: Call, job_id: str, answers: AsyncIterator[T]) -> AsyncGenerator[T, None]:
        await self.check_one(call, job_id)
        async with aclosing(converted(answers, lambda answer: answer)) as checked:
            async for answer in checked:
                yield answer
