"""What steers the stand-in over HTTP, below /devcore/: for people with curl, and for programs in other languages.

Requests that come from a web page (they carry an Origin) are refused: a page must not be able to fetch a token here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from aiohttp import web

from serai_devcore import queries
from serai_devcore.accounts import WalletKey
from serai_devcore.applications import JobRequest, acme_request, licensed_request, shell_request
from serai_devcore.faults import Away, Effect, Fault
from serai_devcore.jobs import Job
from serai_devcore.license_steering import HELP as LICENSE_HELP
from serai_devcore.license_steering import LicenseSteering
from serai_devcore.outcomes import heard, shown
from serai_devcore.provider import Provider
from serai_devcore.records import Direction
from serai_devcore.steering import HELP as STEERING_HELP
from serai_devcore.steering import AdminCall, Routes, Steering
from serai_devcore.wire import (
    CoreError,
    Json,
    JsonObject,
    as_object,
    bad_request,
    dump,
    integer,
    integer_or,
    parse,
    read_items,
    text,
    text_or_none,
)

if TYPE_CHECKING:
    from serai_devcore.core import DevCore

EVERYTHING = {"includeUpdates": "true", "includeProduct": "true", "includeApplication": "true", "includeParameters": "true"}

HELP: JsonObject = {
    "GET /devcore/jobs": "every job as Core knows it, with each update as it came",
    "GET /devcore/jobs/{id}": "one of them",
    "POST /devcore/jobs": (
        'start one: {"value": "…"} for acme-batch, {"shell": "echo hi", "replicas": 3, "license": "ID"}, also with "web": 8000, the port '
        'of its page, or "vnc": 5900 and "password" of its desktop; {"license": "ID"} for acme-solver (both also "username", "project"), '
        'or {"job": {…}}, the whole JSON'
    ),
    "POST /devcore/jobs/{id}/terminate": "cancel it as a user does",
    "POST /devcore/jobs/{id}/forget": "Core does not know it any more",
    "POST /devcore/expect": "the body of a create request that you will send to the provider by hand: Core knows its jobs from now on",
    "GET /devcore/products?type=jobs": "ask the provider what it supports; also licenses",
    "GET /devcore/requests?after=N": "everything that went over the wire, without tokens",
    "GET /devcore/wallets": "balances and charges",
    "POST /devcore/wallets": '{"owner": "user:NAME" | "project:ID", "category": "…", "credits": N}',
    "GET /devcore/token": "Core's own token for the provider, as text, for curl",
    "POST /devcore/tokens/expire": "every access token of the provider is expired now",
    "POST /devcore/faults": (
        '{"effect": "status|lose_answer|garbage|drop|hang|slow", "status": 500, "path": "/api/", '
        '"times": 3, "probability": 0.5, "delayMs": 0, "why": "…"}'
    ),
    "GET /devcore/faults": "the faults in force; also the answer to a new one",
    "DELETE /devcore/faults": "behave again",
    "POST /devcore/away": '{"how": "refuse" | "hang", "ms": 5000}: be away for so long',
    **STEERING_HELP,
    **LICENSE_HELP,
}


NO_STORE = {"Cache-Control": "no-store"}
"""Some answers hold secrets."""
_KEYS_OF = {
    "shell": ("replicas", "license", "web", "vnc", "password", "username", "project"),
    "license": ("username", "project"),
}
"""What may stand beside the key that tells the kind of job."""
FAULT_KEYS = ("effect", "status", "why", "path", "times", "probability", "delayMs")


class Admin:
    def __init__(self, core: DevCore) -> None:
        self._core = core

    def add_routes(self, app: web.Application) -> None:
        """Register every call of HELP."""
        routes: Routes = {
            ("GET", "/devcore/"): (self._help, ()),
            ("GET", "/devcore/jobs"): (self._jobs, ()),
            ("POST", "/devcore/jobs"): (self._submit, ("value", "shell", "replicas", "job", *_KEYS_OF["shell"][1:])),
            ("GET", "/devcore/jobs/{id}"): (self._job, ()),
            ("POST", "/devcore/jobs/{id}/terminate"): (self._terminate, ()),
            ("POST", "/devcore/jobs/{id}/forget"): (self._forget, ()),
            ("POST", "/devcore/expect"): (self._expect, ("type", "items")),
            ("GET", "/devcore/products"): (self._products, ()),
            ("GET", "/devcore/requests"): (self._requests, ()),
            ("GET", "/devcore/wallets"): (self._wallets, ()),
            ("POST", "/devcore/wallets"): (self._set_wallet, ("owner", "category", "credits")),
            ("POST", "/devcore/tokens/expire"): (self._expire, ()),
            ("GET", "/devcore/faults"): (self._faults, ()),
            ("POST", "/devcore/faults"): (self._add_fault, FAULT_KEYS),
            ("DELETE", "/devcore/faults"): (self._clear_faults, ()),
        }
        routes |= Steering(self._core).routes() | LicenseSteering(self._core).routes()
        for (method, path), (call, keys) in routes.items():
            app.router.add_route(method, path, self._wrap(call, keys))
        app.router.add_get("/devcore/token", self._token)
        app.router.add_post("/devcore/away", self._away)

    def _wrap(self, call: AdminCall, keys: tuple[str, ...]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """`keys` = what the body may have."""

        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                answer = await call(request, await _body(request, keys))
            except CoreError as error:
                return _json(error.body(self._core.generation), error.status)
            return _json(answer)

        return handle

    async def _help(self, request: web.Request, body: JsonObject) -> Json:
        return HELP

    async def _jobs(self, request: web.Request, body: JsonObject) -> Json:
        return {"items": [self._show(job) for job in self._core.jobs]}

    async def _job(self, request: web.Request, body: JsonObject) -> Json:
        job = self._find(request)
        document: JsonObject = {"job": queries.render(job, self._core.generation, EVERYTHING, self._core.product_of)}
        return self._show(job) | document

    async def _submit(self, request: web.Request, body: JsonObject) -> Json:
        """One of four kinds of job, each with its own keys."""
        kind = next((kind for kind in ("job", "shell", "license") if kind in body), "value")
        _only(body, (kind, *_KEYS_OF.get(kind, ())))
        username, project = text_or_none(body, "username", "") or "user", text_or_none(body, "project", "")
        if kind == "license":
            submission = await self._core.submit(licensed_request(text(body, "license", ""), username=username, project=project))
        elif kind == "job":
            submission = await self._core.submit_document(as_object(body["job"], "job"))
        elif kind == "shell":
            submission = await self._core.submit(replace(_shell_request(body), username=username, project=project))
        else:
            submission = await self._core.submit(acme_request(text_or_none(body, "value", "") or "Hello, World!"))
        return {"id": submission.job_id, "accepted": submission.accepted} | shown(submission.outcome)

    async def _terminate(self, request: web.Request, body: JsonObject) -> Json:
        return shown(await self._core.terminate(self._find(request).id))

    async def _forget(self, request: web.Request, body: JsonObject) -> Json:
        self._core.forget(self._find(request).id)
        return {}

    async def _expect(self, request: web.Request, body: JsonObject) -> Json:
        ids: list[Json] = list(self._core.expect(read_items(body)))
        return {"ids": ids}

    async def _products(self, request: web.Request, body: JsonObject) -> Json:
        return heard(await self._core.retrieve_products(self._provider(request).id, request.query.get("type", "jobs")))

    async def _requests(self, request: web.Request, body: JsonObject) -> Json:
        after = request.query.get("after", "0")
        wanted = request.query.get("direction")
        direction = next((d for d in Direction if d.value == wanted), None)
        found = self._core.requests.find(
            path=request.query.get("path", ""), direction=direction, after=int(after) if after.isdecimal() else 0
        )
        return {"items": [exchange.to_json() for exchange in found]}

    async def _wallets(self, request: web.Request, body: JsonObject) -> Json:
        accounts = self._core.accounts
        wallets: list[Json] = [
            {"owner": key.owner, "category": key.category, "credits": wallet.left, "used": wallet.used}
            for key, wallet in accounts.wallets.items()
        ]
        charges: list[Json] = [
            {
                "at": c.at_ms,
                "job": c.job_id,
                "chargeId": c.charge_id,
                "periods": c.periods,
                "numberOfProducts": c.number_of_products,
                "price": c.price,
                "charged": c.charged,
                "duplicate": c.duplicate,
                "short": c.short,
            }
            for c in accounts.charges
        ]
        return {"wallets": wallets, "charges": charges}

    async def _set_wallet(self, request: web.Request, body: JsonObject) -> Json:
        key = WalletKey(text(body, "owner", ""), self._provider(request).id, text(body, "category", ""))
        self._core.accounts.set_credits(key, integer(body, "credits", ""))
        return {}

    async def _expire(self, request: web.Request, body: JsonObject) -> Json:
        self._core.expire_tokens()
        return {}

    async def _faults(self, request: web.Request, body: JsonObject) -> Json:
        return {"faults": [_show_fault(fault) for fault in self._core.faults]}

    async def _add_fault(self, request: web.Request, body: JsonObject) -> Json:
        self._core.faults.add(_read_fault(body))
        return await self._faults(request, body)

    async def _clear_faults(self, request: web.Request, body: JsonObject) -> Json:
        self._core.clear_faults()
        return {}

    async def _token(self, request: web.Request) -> web.StreamResponse:
        try:
            await _body(request, ())
            return web.Response(text=self._provider(request).issuer.core_token() + "\n", headers=NO_STORE)
        except CoreError as error:
            return _json(error.body(self._core.generation), error.status)

    async def _away(self, request: web.Request) -> web.StreamResponse:
        """Answers first: afterwards nobody is there to answer."""
        try:
            body = await _body(request, ("how", "ms"))
            how = next((a for a in Away if a.value == body.get("how", "refuse")), None)
            if how is None:
                raise bad_request("how", "refuse or hang")
            away_ms = integer(body, "ms", "")
        except CoreError as error:
            return _json(error.body(self._core.generation), error.status)
        response = _json({})
        response.force_close()
        await response.prepare(request)
        await response.write_eof()
        self._core.be_away_for(how, away_ms)
        return response

    def _find(self, request: web.Request) -> Job:
        return self._core.known_job(request.match_info["id"])

    def _provider(self, request: web.Request) -> Provider:
        """The one that `?provider=` names, or else the only one."""
        return self._core.named_or_only(request.query.get("provider", ""))

    def _show(self, job: Job) -> JsonObject:
        updates: list[Json] = [{"at": a.at_ms, "applied": a.applied, "update": a.update} for a in job.arrivals]
        return {
            "id": job.id,
            "provider": job.provider,
            "state": job.state,
            "confirmed": job.confirmed,
            "startedAt": job.started_at_ms,
            "expiresAt": job.expires_at_ms,
            "outputFolder": job.output_folder,
            "updates": updates,
        }


def _shell_request(body: JsonObject) -> JobRequest:
    """A line of shell: an application of type BATCH, or with a page or a desktop at the port that is named."""
    if "web" in body and "vnc" in body:
        raise bad_request("vnc", "an application has a page or a desktop, not both")
    if "password" in body and "vnc" not in body:
        raise bad_request("password", "is that of a desktop: name its port, vnc")
    key: Literal["web", "vnc"] | None = "web" if "web" in body else "vnc" if "vnc" in body else None
    port = integer(body, key, "") if key else None
    if port is not None and not 1 <= port <= 65535:
        raise bad_request(str(key), "a TCP port, 1 to 65535")
    return shell_request(
        text(body, "shell", ""),
        replicas=integer_or(body, "replicas", "", 1),
        license_id=text_or_none(body, "license", "") or "",
        kind="WEB" if key == "web" else "VNC" if key else "BATCH",
        port=port,
        password=text_or_none(body, "password", ""),
    )


def _read_fault(body: JsonObject) -> Fault:
    effect = next((e for e in Effect if e.value == body.get("effect", "status")), None)
    if effect is None:
        raise bad_request("effect", "one of " + ", ".join(e.value for e in Effect))
    probability = body.get("probability", 1.0)
    if not isinstance(probability, int | float) or not 0 <= probability <= 1:
        raise bad_request("probability", "0 to 1")
    status = integer_or(body, "status", "", 500)
    if not 200 <= status <= 599:
        raise bad_request("status", "200 to 599")
    return Fault(
        effect,
        status=status,
        why=text_or_none(body, "why", "") or "Internal Server Error",
        path=text_or_none(body, "path", "") or "",
        times=None if body.get("times") is None else integer(body, "times", ""),
        probability=float(probability),
        delay_ms=integer_or(body, "delayMs", "", 0),
    )


def _show_fault(fault: Fault) -> JsonObject:
    """As `POST /devcore/faults` takes it, with every key; `times` = how often it will strike yet, null = until cleared."""
    return {
        "effect": fault.effect.value,
        "status": fault.status,
        "why": fault.why,
        "path": fault.path,
        "times": fault.times,
        "probability": fault.probability,
        "delayMs": fault.delay_ms,
    }


async def _body(request: web.Request, keys: tuple[str, ...]) -> JsonObject:
    if "Origin" in request.headers:
        raise CoreError(403, "not from a web page")
    raw = await request.read()
    body = parse(raw) if raw else {}
    _only(body, keys)
    return body


def _only(body: JsonObject, keys: tuple[str, ...]) -> None:
    """400 for a key that would have no effect: a mistyped wish must not look granted."""
    for key in body:
        if key not in keys:
            raise bad_request(key, f"there is no such key; this call takes {', '.join(keys) or 'no body'}")


def _json(body: Json, status: int = 200) -> web.Response:
    return web.Response(status=status, body=dump(body) + b"\n", content_type="application/json", charset="utf-8", headers=NO_STORE)
