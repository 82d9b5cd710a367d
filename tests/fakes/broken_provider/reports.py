"""What the provider tells Core: in order for each job, again until Core has it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import aiohttp

from fakes.broken_provider.faults import Fault
from fakes.broken_provider.programs import Run
from fakes.broken_provider.reading import PRODUCT

_PAUSE_S = 0.05


class Reports:
    """Use as `async with`."""

    def __init__(self, core_url: str, fault: Fault | None, *, todays: bool) -> None:
        self._url = core_url
        self._fault = fault
        self._todays = todays
        self._token = ""
        self._session: aiohttp.ClientSession | None = None
        self._again = 0

    async def __aenter__(self) -> Reports:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def tell(self, path: str, item: dict[str, Any], *, once: bool = False) -> dict[str, Any] | None:
        """Core's answer; None = it does not know the job, or (with `once`) did not take it."""
        fresh = True
        while True:
            if not self._token:
                await self._refresh()
            status, body = await self._post(path, {"items": [item]}, self._token)
            if status == 200:
                return body
            if status in {401, 403} and fresh and self._fault is not Fault.TOKEN_KEPT:
                self._token, fresh = "", False
                continue
            if status in {400, 404} or once:
                return None
            if self._fault is Fault.UPDATE_LOST and path.endswith("update") and status == 503:
                return body
            if self._fault is Fault.CHARGED_ANEW and "chargeId" in item:
                self._again += 1
                item = item | {"chargeId": f"{item['chargeId']}-{self._again}"}
            await asyncio.sleep(_PAUSE_S)

    async def _refresh(self) -> None:
        while not self._token:
            status, body = await self._post("/auth/providers/refresh", {"items": [{"refreshToken": "fake"}]}, "")
            if status == 200:
                self._token = str(body["responses"][0]["accessToken"])
            else:
                await asyncio.sleep(_PAUSE_S)

    async def _post(self, path: str, body: dict[str, Any], token: str) -> tuple[int, dict[str, Any]]:
        assert self._session is not None
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with self._session.post(self._url + path, json=body, headers=headers) as answer:
                return answer.status, await answer.json()
        return 0, {}

    async def update(self, job_id: str, **update: Any) -> bool:
        """false = Core does not know the job."""
        if self._fault is Fault.NULL_TIMESTAMP and update.get("state") == "RUNNING":
            await self.tell("/api/jobs/control/update", {"id": job_id, "update": {"status": "Soon", "timestamp": None}}, once=True)
        return await self.tell("/api/jobs/control/update", {"id": job_id, "update": update | {"timestamp": 0}}) is not None

    async def charge(self, run: Run) -> bool:
        """One period of each replica; false = there is no money."""
        if self._todays:
            return await self._usage(run)
        charge_id = "1" if self._fault is Fault.CHARGE_IDS else f"{run.id}-1"
        units, products = 0 if self._fault is Fault.NO_UNITS else 1, 1 if self._fault is Fault.ONE_PRODUCT else run.replicas
        item = {"id": run.id, "chargeId": charge_id, "units": units, "numberOfProducts": products, "performedBy": None, "description": None}
        answer = await self.tell("/api/jobs/control/chargeCredits", item)
        return answer is None or not answer["insufficientFunds"]

    async def _usage(self, run: Run) -> bool:
        scope = None if self._fault is Fault.NO_SCOPE else f"job-{run.id}"
        item: dict[str, Any] = {
            "isDeltaCharge": False,
            "owner": {"type": "user", "username": run.owner},
            "categoryIdV2": {"name": PRODUCT["category"], "provider": PRODUCT["provider"]},
            "usage": run.replicas,
            "description": {"scope": scope, "description": None},
        }
        answer = await self.tell("/api/accounting/v2/reportUsage", item)
        if self._fault is Fault.USAGE_FALLS:
            await self.tell("/api/accounting/v2/reportUsage", item | {"usage": 0})
        return answer is None or all(answer["responses"])
