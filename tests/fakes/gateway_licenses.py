"""Core's control API of licenses: the rules of facts 2021 §2.3 and §5.2, today §6.1 and §9, and core2/pkg/orchestrator/license.go."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from serai_gateway.control.transport import Answer, CoreUnreachable

from fakes.gateway_core import USAGE, FakeCore, error

UPDATE = "/api/licenses/control/update"
CHARGE = "/api/licenses/control/chargeCredits"
REGISTER = "/api/licenses/control/register"
BROWSE = "/api/licenses/control/browse"


@dataclass
class LicensesCore(FakeCore):
    """A Core that has licenses too; `known` and `funded` are asked with their ids as with those of jobs."""

    registered: dict[str, str] = field(default_factory=dict)
    """Core's id by ours."""
    owners: dict[str, tuple[str | None, str | None]] = field(default_factory=dict)
    """User and project by Core's id."""
    told: dict[str, list[str]] = field(default_factory=dict)
    """What Core was told of each license, by Core's id: words and charges."""
    asked: list[str] = field(default_factory=list)
    """Queries of browse."""
    page: int = 250
    filters: bool = True
    """false: filterProviderIds is passed over."""
    slow_ms: int | None = None
    """Registrations are cut off, and stored so long after that."""
    working: list[tuple[int, list[Any]]] = field(default_factory=list)
    browse_fault: Callable[[], Answer | None] = lambda: None
    dead: bool = False
    """It has seen an id of ours twice (today §6.1)."""

    async def get(self, path: str, bearer: str | None) -> Answer:
        if bearer not in self.valid:
            return error(401, "Unauthorized") if self.generation == "2021" else error(403, "Forbidden")
        self.end_work()
        address = urlsplit(path)
        assert address.path == BROWSE
        self.asked.append(address.query)
        fault = self.browse_fault()
        if fault is not None:
            return fault
        query = {key: values[0] for key, values in parse_qs(address.query).items()}
        wanted = set(query["filterProviderIds"].split(","))
        found = [one for one in self.registered.items() if one[0] in wanted or not self.filters]
        start = int(query.get("next", "0"))
        more = start + self.page < len(found)
        items = [self._license(ours, core) for ours, core in found[start : start + self.page]]
        return Answer(200, json.dumps({"itemsPerPage": 250, "items": items, "next": str(start + self.page) if more else None}).encode())

    async def post(self, path: str, body: bytes, bearer: str | None) -> Answer:
        self.end_work()
        if path == REGISTER and self.slow_ms is not None and bearer in self.valid:
            self.working.append((self.clock.now_ms() + self.slow_ms, json.loads(body)["items"]))
            raise CoreUnreachable("no answer in time")
        return await super().post(path, body, bearer)

    def _license(self, ours: str, core: str) -> dict[str, Any]:
        """Core of 2021 tells no id of ours (facts 2021 §0.2 #2)."""
        return {"id": core, "owner": {"createdBy": "user"}} | ({"providerGeneratedId": ours} if self.generation == "2026" else {})

    def end_work(self) -> None:
        """Stores what was cut off and is due by now."""
        if self.dead:
            raise CoreUnreachable("no connection")
        due = [items for at_ms, items in self.working if at_ms <= self.clock.now_ms()]
        self.working = [(at_ms, items) for at_ms, items in self.working if at_ms > self.clock.now_ms()]
        for items in due:
            self._register(items)

    def _judge(self, path: str, items: list[Any]) -> Answer:
        if path not in {UPDATE, CHARGE, REGISTER, USAGE}:
            return super()._judge(path, items)
        if path == USAGE:
            for item in items:
                kind, _, name = item["description"]["scope"].partition("-")
                if kind == "license":
                    self.told.setdefault(name, []).append(f"={item['usage']}")
            return super()._judge(path, items)
        for item in items:
            answer = self.poison(item.get("id", item.get("providerGeneratedId", "")))
            if answer is not None:
                return answer
        if path == REGISTER:
            return self._register(items)
        if not all(self.known(item["id"]) for item in items):
            return error(400, "Unable to use all requested resources") if self.generation == "2021" else error(404, "Not found")
        short: list[Any] = []
        for item in items:
            if path == UPDATE:
                assert item["update"]["timestamp"] == 0, "null is an error to today's Core"
                self.told.setdefault(item["id"], []).append(item["update"]["status"])
            else:
                self.told.setdefault(item["id"], []).append(item["chargeId"])
                if not self.funded(item["id"]):
                    short.append({"id": item["id"]})
        return Answer(200, b"{}" if path == UPDATE else json.dumps({"insufficientFunds": short, "duplicateCharges": []}).encode())

    def _register(self, items: list[Any]) -> Answer:
        for item in items:
            if item["spec"]["product"]["provider"] != "example":
                return error(403, "forbidden")
        ids: list[dict[str, str]] = []
        for item in items:
            ours = item["providerGeneratedId"]
            if ours in self.registered and self.generation == "2026":
                self.dead = True
                raise CoreUnreachable("the connection failed")
            core = self.registered.setdefault(ours, str(9_000 + len(self.registered)))
            self.owners[core] = (item["createdBy"], item["project"])
            ids.append({"id": core})
        return Answer(200, json.dumps({"responses": ids}).encode())
