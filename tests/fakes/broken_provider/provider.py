"""The provider: its state, its calls, and the lives of its jobs."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from fakes.broken_provider import answers
from fakes.broken_provider.faults import Fault
from fakes.broken_provider.programs import Run
from fakes.broken_provider.reading import LICENSE, PRODUCT, Refusal, Span, Wanted, WireLicense, items_of, read, unsupported, wanted
from fakes.broken_provider.reports import Reports
from fakes.broken_provider.sockets import Sockets
from fakes.broken_provider.tokens import Tokens

PROVIDER = "fake"
Handler: TypeAlias = "Callable[[bytes], Awaitable[dict[str, Any]]]"
SLOW_S = 5.5


class BrokenProvider:
    """Listens on loopback while its context lasts; leaving it ends every process."""

    def __init__(self, key: RSAPublicKey, core_url: str, folder: Path, fault: Fault | None = None, *, todays: bool = False) -> None:
        self.fault = fault
        self.todays = todays
        self.runs: dict[str, Run] = {}
        self.licenses: dict[str, dict[str, Any]] = {}
        self.sessions: dict[str, Run] = {}
        self.tokens = Tokens(key, fault)
        self._folder = folder
        self._reports = Reports(core_url, fault, todays=todays)
        self._stack = contextlib.AsyncExitStack()
        self._tasks: set[asyncio.Task[None]] = set()
        self._asked = 0
        self.url = ""

    async def __aenter__(self) -> BrokenProvider:
        await self._stack.enter_async_context(self._reports)
        app = web.Application(client_max_size=1 << 24)
        sockets = Sockets(self)
        app.router.add_get(f"/ucloud/jobs.provider.{PROVIDER}/websocket", sockets.follow)
        app.router.add_get(f"/ucloud/{PROVIDER}/websocket", sockets.shell)
        app.router.add_route("*", "/ucloud/{provider}/{path:.*}", self._serve)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.2)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        for run in self.runs.values():
            run.kill()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    # --- one call ---------------------------------------------------------------------------------------------------------------------

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        try:
            return answers.good(await self._answer(request), self.fault, request.path)
        except Refusal as error:
            return answers.bad(error, self.fault, request.path)

    async def _answer(self, request: web.Request) -> dict[str, Any]:
        route = f"{request.method} {request.match_info['path']}"
        licensed = request.match_info["path"].startswith("licenses") and self.fault is Fault.OPEN_LICENSES
        if not licensed:
            self.tokens.check(request.headers.get("Authorization"))
        if request.match_info["provider"] != PROVIDER and self.fault is not Fault.ANY_PROVIDER:
            raise Refusal(404, "no such provider here")
        if self.fault is Fault.CONTENT_TYPE and request.can_read_body and request.content_type != "application/json":
            raise Refusal(415, "expected application/json")
        handler = self._routes().get(route)
        if handler is None:
            if self.fault is Fault.UNKNOWN_CALL and request.method == "POST":
                return {}
            raise Refusal(404, "no such call")
        return await handler(await request.read())

    def _routes(self) -> dict[str, Handler]:
        calls: dict[str, Handler] = {
            "GET jobs/retrieveProducts": self._products,
            "POST jobs": self._create,
            "POST jobs/terminate": self._terminate,
            "POST jobs/extend": self._extend,
            "POST jobs/suspend": self._suspend,
            "POST jobs/interactiveSession": self._sessions,
            "GET licenses/retrieveProducts": self._license_products,
            "POST licenses": self._create_licenses,
            "DELETE licenses": self._delete_licenses,
            "GET integration/retrieveManifest": self._manifest,
            "POST integration/init": self._nothing,
        }
        if self.todays:
            return calls | {"POST jobs/onUpdatedLabels": self._each, "POST jobs/requestDynamicParameters": self._parameters}
        if self.fault is not Fault.ACL_MISSING:
            calls["POST jobs/updateAcl"] = self._each
        calls |= {"POST jobs/verify": self._verify, "GET jobs/retrieveUtilization": self._utilization}
        return calls | {"POST licenses/updateAcl": self._each, "POST licenses/verify": self._each, "POST licenses/init": self._nothing}

    # --- what is declared -------------------------------------------------------------------------------------------------------------

    async def _products(self, _raw: bytes) -> dict[str, Any]:
        self._asked += 1
        return answers.products(self.fault, self._asked)

    async def _license_products(self, _raw: bytes) -> dict[str, Any]:
        product = {k: v for k, v in LICENSE.items() if k != "category"} if self.fault is Fault.LICENSE_WITHOUT_CATEGORY else LICENSE
        return {"responses": [{"product": LICENSE, "maintenance": None}, {"product": product, "maintenance": None}]}

    async def _manifest(self, _raw: bytes) -> dict[str, Any]:
        return {"enabled": False}

    async def _nothing(self, _raw: bytes) -> dict[str, Any]:
        return {}

    async def _each(self, raw: bytes) -> dict[str, Any]:
        return {"responses": [{} for _ in items_of(raw, fault=self.fault)]}

    async def _parameters(self, _raw: bytes) -> dict[str, Any]:
        return {"parameters": []}

    async def _utilization(self, _raw: bytes) -> dict[str, Any]:
        if self.fault is Fault.SLOW:
            await asyncio.sleep(SLOW_S)
        memory: object = "16 GiB" if self.fault is Fault.TEXT_UTILIZATION else 1 << 34
        block = {"cpu": 8.0, "memory": memory}
        return {"capacity": block, "usedCapacity": block, "queueStatus": {"running": len(self.runs), "pending": 0}}

    # --- jobs -------------------------------------------------------------------------------------------------------------------------

    async def _create(self, raw: bytes) -> dict[str, Any]:
        given = items_of(raw, fault=self.fault)
        found: list[Wanted] = []
        for item in given:
            try:
                found.append(self._checked(wanted(item, self.fault)))
            except Refusal:
                if self.fault is Fault.HALF_A_BULK:
                    self._begin(found)
                raise
        self._begin(found)
        ids = [self._own_id(one.job.id) for one in found]
        return {"responses": [{"id": own} for own in (ids[:1] if self.fault is Fault.SHORT_ANSWER else ids)]}

    def _checked(self, one: Wanted) -> Wanted:
        before = self.runs.get(one.job.id)
        if (
            before is not None
            and self.fault is not Fault.REPLACED
            and (before.wanted.digest != one.digest or self.fault is Fault.REPEAT_REFUSED)
        ):
            raise Refusal(409, f"job {one.job.id} is here with another content")
        return one

    def _own_id(self, job_id: str) -> str:
        match self.fault:
            case Fault.SAME_IDS:
                return "fake-job"
            case Fault.COMMA_IDS:
                return f"fake,{job_id}"
            case _:
                return f"fake-{job_id}"

    def _begin(self, found: list[Wanted]) -> None:
        for one in found:
            if one.job.id not in self.runs:
                run = self.runs[one.job.id] = Run(one.job.id, one, self._folder / one.job.id, self.fault, one.limit_s)
                self._spawn(self._live(run))

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _live(self, run: Run) -> None:
        folder = {} if self.fault is Fault.NO_FOLDER else {"outputFolder": f"/1/Jobs/{run.id}"}
        if run.stopping:
            await self._over(run, run.stopping, "The job was stopped")
            return
        running = asyncio.create_task(run.run())
        await run.change(state="RUNNING")
        known = await self._reports.update(run.id, state="RUNNING", status="The job runs", **folder)
        if (not known and self.fault is not Fault.DISOWNED_RUNS) or (
            not await self._reports.charge(run) and self.fault is not Fault.BROKE_RUNS
        ):
            run.stop("SUCCESS")
        codes = await running
        failed = any(codes) and self.todays != (self.fault is Fault.EXIT_CODE)
        await self._over(run, run.stopping or ("FAILURE" if failed else "SUCCESS"), f"The job has ended: {codes}")

    async def _over(self, run: Run, state: str, words: str) -> None:
        if self.fault is Fault.ENDS_FIRST:
            await run.change(settled=True)
            await asyncio.sleep(0.3)
        await self._reports.update(run.id, state=state, status=words)
        if self.fault is Fault.TWO_ENDS:
            await self._reports.update(run.id, state="FAILURE" if state != "FAILURE" else "SUCCESS", status=words)
        await run.change(state=state, settled=True)

    async def _terminate(self, raw: bytes) -> dict[str, Any]:
        given = items_of(raw, fault=self.fault, fewest=0 if self.todays else 1)
        for item in given:
            job_id = item.get("id")
            run = self.runs.get(job_id) if isinstance(job_id, str) else None
            if run is None:
                if self.fault is Fault.UNKNOWN_404:
                    raise Refusal(404, "no such job")
                self._spawn(self._lost(str(job_id)))
            elif self.fault is Fault.TWICE_409 and run.stopping:
                raise Refusal(409, "the job is stopped already")
            elif self.fault is not Fault.RUNS_ON:
                run.stop("SUCCESS")
        return {"responses": [{} for _ in given]}

    async def _lost(self, job_id: str) -> None:
        await self._reports.update(job_id, state="FAILURE", status="Your job is no longer available")

    async def _verify(self, raw: bytes) -> dict[str, Any]:
        for item in items_of(raw, fault=self.fault):
            if item.get("id") not in self.runs and self.fault is not Fault.VERIFY_SILENT:
                self._spawn(self._lost(str(item.get("id"))))
        return {}

    def _known(self, item: dict[str, Any]) -> Run:
        job = item.get("job")
        run = self.runs.get(str(job.get("id"))) if isinstance(job, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType] - JSON
        if run is None:
            raise Refusal(404, "no such job")
        return run

    async def _extend(self, raw: bytes) -> dict[str, Any]:
        given = items_of(raw, fault=self.fault)
        found = [(self._known(item), read(item.get("requestedTime") or {}, Span).total_s) for item in given]
        for run, more_s in found:
            run.extend(more_s)
            if self.todays:
                total_ms = int(run.limit_s) * (1 if self.fault is Fault.TOTAL_IN_SECONDS else 1000)
                self._spawn(self._new_limit(run.id, total_ms))
        return {"responses": [{} for _ in given]}

    async def _new_limit(self, job_id: str, total_ms: int) -> None:
        await self._reports.update(job_id, newTimeAllocation=total_ms)

    async def _suspend(self, _raw: bytes) -> dict[str, Any]:
        raise unsupported("jobs are not suspended here", self.fault)

    async def _sessions(self, raw: bytes) -> dict[str, Any]:
        responses = [self._session(item) for item in items_of(raw, fault=self.fault)]
        if self.fault is Fault.SESSIONS_SORTED:
            responses.sort(key=lambda one: int(one["rank"]))
        return {"responses": responses}

    def _session(self, item: dict[str, Any]) -> dict[str, Any]:
        kind, rank = item.get("sessionType"), item.get("rank")
        if kind not in {"SHELL", "WEB", "VNC"}:
            raise Refusal(400, "sessionType: expected SHELL, WEB or VNC")
        run = self._known(item)
        if not isinstance(rank, int) or not 0 <= rank < run.replicas:
            raise Refusal(400, "rank: the job has no such one")
        if (kind == "VNC" and self.fault is not Fault.UNDECLARED_OPENS) or (kind == "WEB" and self.fault is Fault.DECLARED_REFUSED):
            raise unsupported(f"no {kind} here", self.fault)
        secret = "0123456789abcdef" if self.fault is Fault.SAME_SECRET else secrets.token_urlsafe(24)
        self.sessions[secret] = run
        of_job = {"jobId": run.id, "rank": rank}
        match kind:
            case "SHELL":
                return {"type": "shell", **of_job, "sessionIdentifier": secret}
            case "WEB":
                return {"type": "web", **of_job, "redirectClientTo": f"/ucloud/{PROVIDER}/page/{secret}"}
            case _:
                return {"type": "vnc", **of_job, "url": f"/ucloud/{PROVIDER}/desktop/{secret}", "password": None}

    # --- licenses ---------------------------------------------------------------------------------------------------------------------

    async def _create_licenses(self, raw: bytes) -> dict[str, Any]:
        given = items_of(raw, fault=self.fault)
        for item in given:
            license_: WireLicense = read(item, WireLicense)
            product = license_.specification.product
            if (product.id, product.category, product.provider) != tuple(LICENSE.values()):
                raise Refusal(400, "specification.product: not sold here")
        for item in given:
            if self.licenses.setdefault(item["id"], item) is item and not self.todays:
                self._spawn(self._ready(item["id"]))
        return {"responses": [None for _ in given]}

    async def _ready(self, license_id: str) -> None:
        state = "DONE" if self.fault is Fault.LICENSE_STATE else "READY"
        update = {"state": state, "status": "Ready for use", "binding": None, "timestamp": 0}
        await self._reports.tell("/api/licenses/control/update", {"id": license_id, "update": update})

    async def _delete_licenses(self, raw: bytes) -> dict[str, Any]:
        given = items_of(raw, fault=self.fault)
        for item in given:
            if self.licenses.pop(str(item.get("id")), None) is None and self.fault is Fault.LICENSE_GONE_404:
                raise Refusal(404, "no such license")
        return {"responses": [{} for _ in given]}


__all__ = ["PRODUCT", "PROVIDER", "BrokenProvider"]
