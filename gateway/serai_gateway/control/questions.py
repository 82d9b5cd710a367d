"""What Core can be asked about ours: which jobs and licenses it has, and whether given jobs exist. Of jobs for generation 2026 only (facts
today §9), of licenses for both (facts 2021 §2.4).

An answer is used only when all of it is as it must be; `NoAnswer` otherwise. The one exception: a job or license of a page that cannot be
read is left out and counted, because an odd one must not keep all others from being looked at.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

import msgspec
from serai.control.v1 import control_pb2
from serai.jobs.v1 import job_pb2
from serai.licenses.v1 import license_pb2

from serai_gateway.codec import Codec, WireError
from serai_gateway.control.calls import Calls, words_of
from serai_gateway.control.transport import Answer, AnswerTooLong, CoreUnreachable
from serai_gateway.tokens import TokenError

BROWSE_PATH = "/api/jobs/control/browse"
LICENSES_PATH = "/api/licenses/control/browse"
EXISTENCE_PATH = "/api/providers/resources/checkExistence"
MOST_ASKED = 1_000
"""Items of one checkExistence."""
_PAGE_SIZES = (250, 25)
"""The second one when pages of the first are too long to be read; Core takes few sizes (facts 2021 §7.2)."""
_MOST_PAGES = 100_000


class NoAnswer(Exception):
    """Core gave no answer that can be used; the text says why. To be tried again."""


@dataclass(frozen=True, slots=True)
class Page:
    jobs: tuple[job_pb2.Job, ...]
    """With id, owner, time of creation, state and what the specification names; nothing else."""
    unreadable: int


@dataclass(frozen=True, slots=True)
class LicensePage:
    licenses: tuple[license_pb2.License, ...]
    """With all that Core says of who has which and how it stands; nothing of its product."""
    unreadable: int


class _Page(msgspec.Struct):
    items: list[msgspec.Raw]
    next: str | None = None


_page_decoder = msgspec.json.Decoder(_Page)


class CoreQuestions:
    def __init__(self, calls: Calls, codec: Codec) -> None:
        self._calls = calls
        self._codec = codec

    async def jobs(self, state: str) -> AsyncIterator[Page]:
        """Our jobs that Core has in this state, page by page. NoAnswer."""
        async for items in self._pages(BROWSE_PATH, {"filterState": state}):
            jobs: list[job_pb2.Job] = []
            for item in items:
                try:
                    job = job_pb2.Job.FromString(self._codec.read(job_pb2.Job.DESCRIPTOR, bytes(item)))
                except WireError:
                    continue
                jobs.append(_named(job))
            yield Page(tuple(jobs), len(items) - len(jobs))

    async def licenses(self) -> AsyncIterator[LicensePage]:
        """All of our licenses that Core has, page by page. NoAnswer."""
        async for items in self._pages(LICENSES_PATH, {"includeOthers": "true"}):
            licenses: list[license_pb2.License] = []
            for item in items:
                try:
                    license_ = license_pb2.License.FromString(self._codec.read(license_pb2.License.DESCRIPTOR, bytes(item)))
                except WireError:
                    continue
                licenses.append(_owned(license_))
            yield LicensePage(tuple(licenses), len(items) - len(licenses))

    async def exist(self, job_ids: Sequence[str]) -> list[bool]:
        """For each of at most MOST_ASKED ids whether it is a job of ours at Core. NoAnswer unless there is one answer for each."""
        request = control_pb2.CheckExistenceRequest(items=[control_pb2.ResourceTypeAndId(type="job", id=job_id) for job_id in job_ids])
        try:
            answer = await self._calls.post(EXISTENCE_PATH, self._codec.write(request))
        except (CoreUnreachable, TokenError) as error:
            raise NoAnswer(str(error)) from error
        try:
            wire = self._codec.read(control_pb2.CheckExistenceResponse.DESCRIPTOR, _good(answer))
        except WireError as error:
            raise NoAnswer(f"the answer cannot be read: {error}") from error
        there = list(control_pb2.CheckExistenceResponse.FromString(wire).responses)
        if len(there) != len(job_ids):
            raise NoAnswer(f"the answer has {len(there)} elements for {len(job_ids)} jobs")
        return there

    async def _pages(self, path: str, filters: dict[str, str]) -> AsyncIterator[list[msgspec.Raw]]:
        cursor: str | None = None
        seen: set[str] = set()
        for _ in range(_MOST_PAGES):
            page = await self._page(path, filters | ({"next": cursor} if cursor is not None else {}))
            yield page.items
            if page.next is None:
                return
            if page.next in seen:
                break
            seen.add(page.next)
            cursor = page.next
        raise NoAnswer(f"the pages of {path} do not end")

    async def _page(self, path: str, query: dict[str, str]) -> _Page:
        try:
            for size in _PAGE_SIZES:
                asked = urlencode({"itemsPerPage": str(size)} | query)
                try:
                    return _page_decoder.decode(_good(await self._calls.get(f"{path}?{asked}")))
                except AnswerTooLong:
                    continue
        except (CoreUnreachable, TokenError) as error:
            raise NoAnswer(str(error)) from error
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise NoAnswer("the page cannot be read") from error
        raise NoAnswer("the smallest page is too long to be read")


def _owned(full: license_pb2.License) -> license_pb2.License:
    license_ = license_pb2.License()
    license_.CopyFrom(full)
    license_.ClearField("updates")
    for name in ("resolved_product", "resolved_support"):
        license_.status.ClearField(name)
    return license_


def _named(job: job_pb2.Job) -> job_pb2.Job:
    full = job.specification
    specification = job_pb2.JobSpecification(application=full.application, product=full.product)
    if full.HasField("name"):
        specification.name = full.name
    if full.HasField("replicas"):
        specification.replicas = full.replicas
    return job_pb2.Job(
        id=job.id,
        owner=job.owner,
        created_at=job.created_at,
        specification=specification,
        status=job_pb2.JobStatus(state=job.status.state),
    )


def _good(answer: Answer) -> bytes:
    if 200 <= answer.status < 300:
        return answer.body
    raise NoAnswer(f"{answer.status}: {words_of(answer) or 'no words'}")
