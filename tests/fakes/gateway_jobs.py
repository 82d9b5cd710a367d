"""Jobs on both sides for tests of reconciliation: today's Core that can be asked, and a server that is told."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from google.rpc import code_pb2
from serai.jobs.v1 import jobs_service_pb2 as jobs_pb2
from serai_gateway.control.transport import Answer
from serai_gateway.upstream import UpstreamError, status

from fakes.gateway_core import error

BROWSE = "/api/jobs/control/browse"
EXISTENCE = "/api/providers/resources/checkExistence"
SIZES = {10, 25, 50, 100, 250}


def core_job(job_id: str, state: str, created_at: int) -> dict[str, Any]:
    """As today's Core shows it to its provider without any include flag, shortened."""
    return {
        "id": job_id,
        "createdAt": created_at,
        "owner": {"createdBy": "user", "project": "p-1"},
        "permissions": {"myself": ["PROVIDER"], "others": []},
        "updates": [],
        "specification": {
            "product": {"id": "cpu-1", "category": "cpu", "provider": "example"},
            "labels": {"a": "b"},
            "application": {"name": "acme", "version": "1.0"},
            "name": "mine",
            "hostname": "",
            "replicas": 3,
            "allowDuplicateJob": False,
            "parameters": {"x": {"type": "text", "value": "secret"}},
            "resources": [],
            "timeAllocation": None,
        },
        "status": {"state": state, "startedAt": None, "expiresAt": None, "allowRestart": False},
        "output": {"outputFolder": None},
    }


@dataclass
class CoreJobs:
    """A Transport. Rules of the facts on today's Core §9: newest first, `next` is the last id, unknown ids do not exist."""

    jobs: dict[str, Any] = field(default_factory=dict)
    """By id; a value may be any JSON."""
    answers: dict[str, list[Answer | Exception]] = field(default_factory=dict)
    """By path: what the next calls get in place of the truth."""
    asked: list[str] = field(default_factory=list)
    """Queries of pages, and "exist n"."""
    longest: int = 1 << 30
    """Bytes; a longer page is none that the transport reads."""
    too_long: Callable[[], Exception] = lambda: RuntimeError("too long")

    def add(self, job_id: str, state: str, created_at: int) -> None:
        self.jobs[job_id] = core_job(job_id, state, created_at)

    async def get(self, path: str, bearer: str | None) -> Answer:
        parts = urlsplit(path)
        assert parts.path == BROWSE
        assert bearer == "token"
        self.asked.append(parts.query)
        if (instead := self._instead(BROWSE)) is not None:
            return instead
        query = {key: value[0] for key, value in parse_qs(parts.query, strict_parsing=True).items()}
        size = int(query["itemsPerPage"])
        assert size in SIZES
        found = [job for _, job in sorted(self.jobs.items(), key=lambda one: -int(one[0])) if self._state(job) == query["filterState"]]
        if "next" in query:
            ids = [job["id"] for job in found]
            found = found[ids.index(query["next"]) + 1 :]
        page = found[:size]
        body = json.dumps({"itemsPerPage": size, "items": page, "next": page[-1]["id"] if len(page) == size else None}).encode()
        if len(body) > self.longest:
            raise self.too_long()
        return Answer(200, body)

    async def post(self, path: str, body: bytes, bearer: str | None) -> Answer:
        assert path == EXISTENCE
        assert bearer == "token"
        items = json.loads(body)["items"]
        self.asked.append(f"exist {len(items)}")
        if (instead := self._instead(EXISTENCE)) is not None:
            return instead
        if len(items) > 1_000:
            return error(400, "Too many items")
        return Answer(200, json.dumps({"responses": [item["type"] == "job" and item["id"] in self.jobs for item in items]}).encode())

    def _instead(self, path: str) -> Answer | None:
        waiting = self.answers.get(path, [])
        if not waiting:
            return None
        one = waiting.pop(0)
        if isinstance(one, Exception):
            raise one
        return one

    def _state(self, job: Any) -> str:
        return job["status"]["state"]


@dataclass
class OurJobs:
    """An Upstream: active jobs by id with their age, and what was asked of them."""

    active: dict[str, int] = field(default_factory=dict)
    """Id to ms since epoch of its creation."""
    verified: list[list[Any]] = field(default_factory=list)
    disowned: list[list[str]] = field(default_factory=list)
    listed: int = 0
    away: bool = False

    async def unary(self, method: str, request: bytes, metadata: Mapping[str, str], timeout_s: float) -> bytes:
        assert metadata == {"serai-caller": "core"}
        if self.away:
            raise UpstreamError(status(code_pb2.UNAVAILABLE, "away"))
        match method.rpartition("/")[2]:
            case "Verify":
                jobs = jobs_pb2.VerifyRequest.FromString(request).items
                assert 1 <= len(jobs) <= 1_000
                self.verified.append(list(jobs))
                return jobs_pb2.VerifyResponse().SerializeToString()
            case "List":
                return self._page(jobs_pb2.ListRequest.FromString(request)).SerializeToString()
            case "Disown":
                ids = list(jobs_pb2.DisownRequest.FromString(request).job_ids)
                assert 1 <= len(ids) <= 1_000
                self.disowned.append(ids)
                return b""
            case _:
                raise AssertionError(method)

    async def stream(self, method: str, request: bytes, metadata: Mapping[str, str]) -> AsyncIterator[bytes]:
        raise AssertionError(method)
        yield b""

    def _page(self, request: jobs_pb2.ListRequest) -> jobs_pb2.ListResponse:
        assert request.active_only
        self.listed += 1
        start = int(request.page_token or 0)
        end = start + request.page_size
        ids = list(self.active)
        answer = jobs_pb2.ListResponse(jobs=[jobs_pb2.JobReport(id=one, age_ms=self.active[one]) for one in ids[start:end]])
        if end < len(ids):
            answer.next_page_token = str(end)
        return answer
