"""Brings Core's jobs and ours together, in generation 2026, whose Core never asks (`verify` is gone: facts today §4).

Both ways: jobs that Core has as active are handed to the server's Verify, which tells Core of those that are lost here or stand otherwise;
and active jobs of ours that Core does not have are disowned, which stops them. That last step can do harm, so it is not taken when
anything about Core's answers is odd, or when nearly everything would be gone: then people have to look.
"""

from __future__ import annotations

import structlog
from serai.jobs.v1 import jobs_service_pb2 as jobs_pb2

from serai_gateway.clock import Clock
from serai_gateway.control.questions import MOST_ASKED, CoreQuestions
from serai_gateway.control.reconcile import YOUNG_MS, asked_of_server
from serai_gateway.settings import CoreSettings
from serai_gateway.upstream import Upstream

STATES = ("IN_QUEUE", "RUNNING", "SUSPENDED")
"""Of a job that is not over."""
MOST_GONE_TOGETHER = 20
"""More jobs than this do not all vanish by themselves."""
VERIFY = "/serai.jobs.v1.JobsService/Verify"
LIST = "/serai.jobs.v1.JobsService/List"
DISOWN = "/serai.jobs.v1.JobsService/Disown"
_PAGE = 1_000

_log = structlog.stdlib.get_logger("serai_gateway.reconcile")


class JobComparison:
    """A Comparison."""

    of = "jobs"

    def __init__(self, upstream: Upstream, questions: CoreQuestions, settings: CoreSettings, clock: Clock) -> None:
        self._upstream = upstream
        self._questions = questions
        self._clock = clock
        self._end_lost_jobs = settings.end_lost_jobs

    async def compare(self) -> None:
        verified = await self._verify()
        asked, gone = await self._missing()
        if len(gone) > MOST_GONE_TOGETHER and len(gone) * 2 > asked:
            _log.error(
                "Core says that it does not have most of our active jobs; nothing is stopped. Check that core.url is the right Core, that "
                "provider.id is ours there, and whether Core's database was replaced; `serai jobs stop` stops jobs that should go",
                jobs=asked,
                gone=len(gone),
            )
            return
        for start in range(0, len(gone), _PAGE):
            request = jobs_pb2.DisownRequest(job_ids=gone[start : start + _PAGE])
            await asked_of_server(self._upstream, DISOWN, request.SerializeToString())
        if gone:
            _log.warning("jobs that Core does not have are disowned", jobs=len(gone), first=gone[:10])
        _log.info("our jobs are compared with Core's", at_core=verified, asked=asked, disowned=len(gone))

    async def _verify(self) -> int:
        """Jobs that Core has as active and the server was given."""
        verified = unreadable = 0
        for state in STATES:
            async for page in self._questions.jobs(state):
                unreadable += page.unreadable
                old_ms = self._clock.now_ms() - YOUNG_MS
                # Without a time of creation nobody knows whether the job is just being made.
                jobs = [job for job in page.jobs if 0 < job.created_at < old_ms]
                if jobs:
                    request = jobs_pb2.VerifyRequest(items=jobs, cautious=not self._end_lost_jobs)
                    await asked_of_server(self._upstream, VERIFY, request.SerializeToString())
                    verified += len(jobs)
        if unreadable:
            _log.warning("jobs of Core's pages cannot be read and are left out", jobs=unreadable)
        return verified

    async def _missing(self) -> tuple[int, list[str]]:
        """How many active jobs Core was asked for, and which of them it does not have."""
        ours = await self._ours()
        gone: list[str] = []
        for start in range(0, len(ours), MOST_ASKED):
            part = ours[start : start + MOST_ASKED]
            there = await self._questions.exist(part)
            gone += [job_id for job_id, is_there in zip(part, there, strict=True) if not is_there]
        return len(ours), gone

    async def _ours(self) -> list[str]:
        """Active jobs that are not young."""
        ours: list[str] = []
        request = jobs_pb2.ListRequest(active_only=True)
        request.page_size = _PAGE
        while True:
            answer = jobs_pb2.ListResponse.FromString(await asked_of_server(self._upstream, LIST, request.SerializeToString()))
            ours += [job.id for job in answer.jobs if job.age_ms > YOUNG_MS]
            if not answer.next_page_token:
                return ours
            request.page_token = answer.next_page_token
