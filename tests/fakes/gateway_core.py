"""Core's control API for tests of deliveries: the rules of facts 2021 §2 and today §9, and a script of what goes wrong."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from serai_gateway.clock import Clock
from serai_gateway.control.transport import Answer, CoreUnreachable
from serai_gateway.settings import Generation

UPDATE = "/api/jobs/control/update"
CHARGE = "/api/jobs/control/chargeCredits"
USAGE = "/api/accounting/v2/reportUsage"
REFRESH = "/auth/providers/refresh"

Fault = Callable[[bool], Answer]
"""Given whether Core stored the batch before things went wrong; returns the answer or raises CoreUnreachable."""


def error(status: int, why: str) -> Answer:
    return Answer(status, json.dumps({"why": why, "errorCode": None}).encode())


def away(_stored: bool) -> Answer:
    raise CoreUnreachable("no connection")


def says(status: int, body: bytes = b"") -> Fault:
    return lambda _stored: Answer(status, body)


class NoGet:
    """The half of a Transport that deliveries do not use."""

    async def get(self, path: str, bearer: str | None) -> Answer:
        raise AssertionError(f"nobody asks for {path} here")


@dataclass
class FakeCore(NoGet):
    """A Transport. Accepted events are in `accepted` by job, in the order in which Core stored them."""

    clock: Clock
    generation: Generation = "2021"
    known: Callable[[str], bool] = lambda job_id: True
    funded: Callable[[str], bool] = lambda job_id: True
    poison: Callable[[str], Answer | None] = lambda job_id: None
    """An answer that any batch with this job gets, nothing stored."""
    faults: Iterator[tuple[Fault, bool] | None] = field(default_factory=lambda: iter(()))
    """For each call in turn: what goes wrong, and whether the batch is stored all the same."""
    token_life_s: int = 900
    refresh_token: str = "the refresh token"
    valid: set[str] = field(default_factory=set)
    issued: int = 0
    calls: list[tuple[str, list[Any]]] = field(default_factory=list)
    accepted: dict[str, list[str]] = field(default_factory=dict)
    charged: set[str] = field(default_factory=set)
    used: dict[tuple[str, str], int] = field(default_factory=dict)
    """Reported usage by payer and scope."""
    on_call: Callable[[str], None] = lambda path: None

    async def post(self, path: str, body: bytes, bearer: str | None) -> Answer:
        self.on_call(path)
        document = json.loads(body)
        if path == REFRESH:
            return self._refresh(document)
        if bearer not in self.valid:
            return error(401, "Unauthorized") if self.generation == "2021" else error(403, "Forbidden")
        items = document["items"]
        self.calls.append((path, items))
        for _ in range(3):
            await asyncio.sleep(0)  # a call takes its time, in which others go on
        fault = next(self.faults, None)
        if fault is not None:
            answer, stored = fault
            return answer(stored and self._judge(path, items).status == 200)
        return self._judge(path, items)

    def expire_tokens(self) -> None:
        self.valid.clear()

    def _refresh(self, document: Any) -> Answer:
        if document != {"items": [{"refreshToken": self.refresh_token}]}:
            return error(403, "Forbidden")
        self.issued += 1
        now_s = self.clock.now_ms() // 1000
        claims = json.dumps({"iat": now_s, "exp": now_s + self.token_life_s, "n": self.issued}).encode()
        token = f"e30.{base64.urlsafe_b64encode(claims).rstrip(b'=').decode()}.c2ln"
        self.valid.add(token)
        return Answer(200, json.dumps({"responses": [{"accessToken": token}]}).encode())

    def _judge(self, path: str, items: list[Any]) -> Answer:
        if not 1 <= len(items) <= 1000:
            return error(400, "Bad request")
        for item in items:
            answer = self.poison(_job_of(item))
            if answer is not None:
                return answer
        if path == USAGE:
            return self._report(items)
        if not all(self.known(item["id"]) for item in items):
            return error(400, "Unable to use all requested resources") if self.generation == "2021" else error(404, "Not found")
        return self._update(items) if path == UPDATE else self._charge(items)

    def _update(self, items: list[Any]) -> Answer:
        for item in items:
            self.accepted.setdefault(item["id"], []).append(item["update"]["status"])
        return Answer(200, b"{}")

    def _charge(self, items: list[Any]) -> Answer:
        if any(item["units"] < 1 for item in items):
            return error(400, "units must be positive")
        short: list[Any] = []
        for item in items:
            self.accepted.setdefault(item["id"], []).append(item["chargeId"])
            if item["chargeId"] in self.charged or not self.funded(item["id"]):
                short.append({"id": item["id"]})  # a duplicate comes back here too: facts 2021 §0.2 #7
            else:
                self.charged.add(item["chargeId"])
        return Answer(200, json.dumps({"insufficientFunds": short, "duplicateCharges": []}).encode())

    def _report(self, items: list[Any]) -> Answer:
        """Today's core2/pkg/accounting: items in turn, up to the first that is wrong; each amount is all of its scope."""
        if self.generation != "2026":
            return error(404, "Not found")
        paid: list[bool] = []
        for item in items:
            job = _job_of(item)
            if not self.known(job):
                return error(403, "This user/project does not exist")
            owner = item["owner"]
            payer = owner[{"project": "projectId", "user": "username"}[owner["type"]]]
            self.used[payer, item["description"]["scope"]] = item["usage"]
            self.accepted.setdefault(job, []).append(f"={item['usage']}")
            paid.append(self.funded(job))
        return Answer(200, json.dumps({"responses": paid}).encode())


def _job_of(item: Any) -> str:
    return item["id"] if "id" in item else item["description"]["scope"].removeprefix("job-")
