"""Core's control API of licenses: the rules of facts 2021 §2.3 and §5.2, today §6.1 and §9, and core2/pkg/orchestrator/license.go.

They are those of the stand-in (serai_devcore.licenses), which names their sources; a test compares the two."""

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
PRODUCT = {"id": "lic-1", "category": "lic", "provider": "example"}


@dataclass
class LicensesCore(FakeCore):
    """A Core that has licenses too; `known` and `funded` are asked with their ids as with those of jobs."""

    registered: dict[str, str] = field(default_factory=dict)
    """Core's id by ours."""
    owners: dict[str, tuple[str | None, str | None]] = field(default_factory=dict)
    """User and project by Core's id; those of nobody else are `user` and None."""
    several_versions: set[str] = field(default_factory=set)
    """Products that have more than one version."""
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
    repeated: int = 0
    """How often it was sent an id of ours that it had (today §6.1)."""

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
        user, project = self.owners.get(core, ("user", None))
        shown = {"id": core, "owner": {"createdBy": user, "project": project}, "specification": {"product": PRODUCT}}
        return shown | ({"providerGeneratedId": ours} if self.generation == "2026" else {})

    def end_work(self) -> None:
        """Stores what was cut off and is due by now."""
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
        self.repeated += sum(item["providerGeneratedId"] in self.registered for item in items)
        if any(item["spec"]["product"]["provider"] != "example" for item in items):
            return error(403, "Forbidden" if self.generation == "2021" else "forbidden")
        if self.generation == "2021":
            return self._register_2021(items)
        # What stands before a repeated one is done.
        for place, item in enumerate(items):
            if item["providerGeneratedId"] in self.registered:
                self._registered(items[:place])
                return error(409, "Already exists")
        return self._registered(items)

    def _register_2021(self, items: list[Any]) -> Answer:
        """One statement for all: what its creator registered before, and a product of several versions, fail it."""
        for item in items:
            core = self.registered.get(item["providerGeneratedId"])
            owner = self.owners.get(core, ("user", None))[0] if core is not None else None
            if item["spec"]["product"]["id"] in self.several_versions or (core is not None and owner == item["createdBy"]):
                return error(500, "Internal Server Error")
        if len({item["providerGeneratedId"] for item in items}) < len(items):
            return error(500, "Internal Server Error")
        return self._registered(items)

    def _registered(self, items: list[Any]) -> Answer:
        ids: list[str] = []
        for item in items:
            core = self.registered.setdefault(item["providerGeneratedId"], str(9_000 + len(self.registered)))
            self.owners[core] = (item["createdBy"], item["project"])
            ids.append(core)
        in_order = sorted(ids, key=int) if self.generation == "2021" else ids
        return Answer(200, json.dumps({"responses": [{"id": core} for core in in_order]}).encode())
