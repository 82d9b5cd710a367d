"""Plain calls to an agent, fake or real, without the project's own client: what tests of the agents themselves use."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import aiohttp
import msgspec

from fakes.nomad_jobs import Json, create


@dataclass(frozen=True)
class Answer:
    status: int
    text: str
    headers: dict[str, str]

    @property
    def json(self) -> Json:
        return msgspec.json.decode(self.text, type=dict[str, object])

    @property
    def rows(self) -> list[Json]:
        return msgspec.json.decode(self.text, type=list[dict[str, object]])

    @property
    def index(self) -> int:
        return int(self.headers.get("X-Nomad-Index", "0"))


def within(row: Json, *path: str) -> Json:
    """An object inside of an answer."""
    for name in path:
        row = cast("Json", row.get(name) or {})
    return row


def events_of(alloc: Json, task: str = "main") -> list[Json]:
    return cast("list[Json]", within(alloc, "TaskStates", task).get("Events") or [])


def types_of(alloc: Json, task: str = "main") -> list[str]:
    return [str(e["Type"]) for e in events_of(alloc, task)]


def event_of(alloc: Json, kind: str, task: str = "main") -> Json:
    return next(e for e in events_of(alloc, task) if e["Type"] == kind)


class Calls:
    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    async def call(self, method: str, path: str, body: object = None, *, token: str = "") -> Answer:
        headers = {"X-Nomad-Token": token} if token else {}
        data = None if body is None else body if isinstance(body, bytes) else msgspec.json.encode(body)
        async with self.session.request(method, path, data=data, headers=headers) as response:
            named = {k.title(): v for k, v in response.headers.items()}
            return Answer(response.status, await response.text(errors="surrogateescape"), named)

    async def get(self, path: str) -> Answer:
        return await self.call("GET", path)

    async def create(self, job: Json) -> Answer:
        return await self.call("PUT", "/v1/jobs", create(job))

    async def started(self, job: Json) -> Json:
        """Registered; its evaluation's answer."""
        answer = await self.create(job)
        assert answer.status == 200, answer.text
        return answer.json

    async def allocs(self, job_id: str) -> list[Json]:
        return sorted(
            (await self.get(f"/v1/job/{job_id}/allocations")).rows, key=lambda a: (str(a["TaskGroup"]), cast("int", a["CreateIndex"]))
        )

    async def evals(self, job_id: str) -> list[Json]:
        return (await self.get(f"/v1/job/{job_id}/evaluations")).rows

    async def until(self, job_id: str, wanted: Callable[[list[Json]], bool], seconds: float = 20.0) -> list[Json]:
        """The job's allocations as soon as they are as wanted."""
        deadline = time.monotonic() + seconds
        while True:
            found = await self.allocs(job_id)
            if wanted(found):
                return found
            assert time.monotonic() < deadline, f"{job_id} did not come so far: {[(a['ClientStatus'], types_of(a)) for a in found]}"
            await asyncio.sleep(0.02)

    async def running(self, job_id: str, ranks: int = 1) -> list[Json]:
        """Every main task was started."""
        return await self.until(job_id, lambda rows: len(rows) >= ranks and all("Started" in types_of(a) for a in rows))

    async def ended(self, job_id: str, ranks: int = 1) -> list[Json]:
        """Every allocation is terminal with all its tasks dead."""
        return await self.until(job_id, lambda rows: len(rows) >= ranks and all(is_over(a) for a in rows))

    async def log(self, alloc: Json, stream: str = "stdout", more: str = "&origin=start&offset=0", task: str = "main") -> Answer:
        return await self.get(f"/v1/client/fs/logs/{alloc['ID']}?task={task}&type={stream}&plain=true{more}")


def is_over(alloc: Json) -> bool:
    states = [cast("Json", s) for s in within(alloc, "TaskStates").values()]
    return alloc["ClientStatus"] in {"complete", "failed", "lost"} and bool(states) and all(s["State"] == "dead" for s in states)


class Listener:
    """An event stream that is read along: every line as it came."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.lines: list[Json] = []
        self.longest = 0
        self.told: Counter[str] = Counter()
        """How many events of allocations with this ClientStatus there were."""
        self.ended = False
        self._news = asyncio.Event()
        self._reading = asyncio.ensure_future(self._read())

    @classmethod
    async def open(cls, calls: Calls, query: str = "") -> Listener:
        return cls(await calls.session.get(f"/v1/event/stream{query}", timeout=aiohttp.ClientTimeout(total=None)))

    async def _read(self) -> None:
        rest = b""
        try:
            async for chunk in self._response.content.iter_any():
                *whole, rest = (rest + chunk).split(b"\n")
                for line in filter(None, whole):
                    self.longest = max(self.longest, len(line))
                    self.lines.append(msgspec.json.decode(line, type=dict[str, object]))
                    self._count(self.lines[-1])
                self._news.set()
        except aiohttp.ClientError:
            pass
        self.ended = True
        self._news.set()

    def _count(self, line: Json) -> None:
        for event in cast("list[Json]", line.get("Events") or []):
            if event["Topic"] == "Allocation":
                self.told[str(within(event, "Payload", "Allocation")["ClientStatus"])] += 1

    async def until(self, wanted: Callable[[], bool], seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not wanted():
            self._news.clear()
            await asyncio.wait_for(self._news.wait(), max(0.01, deadline - time.monotonic()))

    @property
    def indexes(self) -> list[int]:
        return [cast("int", line["Index"]) for line in self.lines if "Index" in line]

    @property
    def events(self) -> list[Json]:
        return [e for line in self.lines for e in cast("list[Json]", line.get("Events") or [])]

    def statuses(self, job_id: str) -> list[str]:
        """Of the job's allocations, in the order in which they were told."""
        found = [within(e, "Payload", "Allocation") for e in self.events if e["Topic"] == "Allocation"]
        return [str(a["ClientStatus"]) for a in found if a["JobID"] == job_id]

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        self._response.close()
