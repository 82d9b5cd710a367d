"""The kit as UCloud/Core: takes the provider's control calls with Core's rules, notes them, and misbehaves when a rule asks for it.

2021 §2, §6.2; today §3, §9. It knows the jobs and licenses that the kit made, and no others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from aiohttp import web

from serai_conformance.model import CannotTest, Generation, Target
from serai_conformance.tokens import Signer
from serai_conformance.watch import Asked, Charge, Known, Records, Told, now_s
from serai_conformance.wire import Json, JsonObject, NotJson, dig, dump, is_whole, merged, objects_at, parse, text_at

MOST_ITEMS = 1000
BODY_LIMIT = 16 << 20


class _No(Exception):
    """Core refuses."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


class _Cut(Exception):
    """Core did it, and its answer is lost."""


@dataclass(slots=True)
class Mischief:
    """What goes wrong at Core, for rules on what a provider does then."""

    fail_once: dict[str, int] = field(default_factory=dict[str, int])
    """Job → status with which the next request of updates that has it is answered; nothing of it is taken."""
    lose_once: set[str] = field(default_factory=set[str])
    """Jobs (or who pays) whose next charge is taken without an answer."""
    broke: set[str] = field(default_factory=set[str])
    """Jobs and payers without money."""
    forgotten: set[str] = field(default_factory=set[str])
    """Jobs that Core does not know any more."""
    stale: set[str] = field(default_factory=set[str])
    """Tokens that are not taken any more."""


class ControlSide:
    """Listens while its context lasts."""

    def __init__(self, target: Target, signer: Signer) -> None:
        self.records = Records()
        self.mischief = Mischief()
        self.tokens: list[str] = []
        """Given out, oldest first."""
        self.refused_tokens = 0
        """Control calls without a token of ours."""
        self._target = target
        self._signer = signer
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        if self._runner is None:
            raise RuntimeError("Core's side is used outside of `async with`")
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}"

    @property
    def _old(self) -> bool:
        return self._target.generation is Generation.G2021

    async def __aenter__(self) -> Self:
        assert self._target.listen is not None  # noqa: S101 - made for targets that ask for it
        host, port = self._target.listen
        app = web.Application(client_max_size=BODY_LIMIT)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.5)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise CannotTest(f"cannot listen at {host}:{port} as Core: {error.strerror or error}") from error
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    # --- one call ---------------------------------------------------------------------------------------------------------------------

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        try:
            body = parse(raw) if raw else None
        except NotJson:
            body = None
        answer: JsonObject = {}
        try:
            answer, status = self._do(request.method, request.path, body, request.query, request.headers.get("Authorization", "")), 200
        except _No as no:
            answer |= {"statusCode": no.status, "why": no.why, "errorCode": None, "detailedCode": 0}
            status = no.status
        except _Cut:
            status = 0
        self.records.asked.append(Asked(request.path, status, body))
        self.records.changed()
        if status == 0 and request.transport is not None:
            request.transport.abort()
        return web.Response(status=status or 500, body=dump(answer), content_type="application/json")

    def _do(self, method: str, path: str, body: Json, query: Mapping[str, str], authorization: str) -> JsonObject:
        route = f"{method} {path}"
        if route == "POST /auth/providers/refresh":
            return self._refresh(body)
        calls: dict[str, Callable[[Json, Mapping[str, str]], JsonObject]] = {
            "POST /api/jobs/control/update": lambda given, _query: self._update("job", given),
            "POST /api/licenses/control/update": lambda given, _query: self._update("license", given),
            "GET /api/jobs/control/retrieve": self._retrieve,
            "GET /api/licenses/control/retrieve": self._retrieve,
            "GET /api/jobs/control/browse": lambda _body, given: self._browse("job", given),
            "GET /api/licenses/control/browse": lambda _body, given: self._browse("license", given),
            "POST /api/jobs/control/chargeCredits": self._charge,
            "POST /api/licenses/control/chargeCredits": self._charge,
        }
        if not self._old:
            calls["POST /api/accounting/v2/reportUsage"] = self._usage
            calls["POST /api/jobs/control/checkCredits"] = lambda _body, _given: {"insufficientFunds": [], "duplicateCharges": []}
            calls["POST /api/providers/resources/checkExistence"] = self._existence
        call = calls.get(route)
        if call is None:
            raise _No(404, "Not found")
        self._check(authorization)
        return call(body, query)

    def _refresh(self, body: Json) -> JsonObject:
        """Any refresh token will do: the kit is told none."""
        asked = objects_at(body, "items")
        if not asked or not all(text_at(item, "refreshToken") for item in asked):
            raise _No(400, "items[0].refreshToken: expected a text")
        given = [self._signer.provider(self._target.provider) for _ in asked]
        self.tokens += given
        return {"responses": [{"accessToken": token, "csrfToken": ""} for token in given]}

    def _check(self, authorization: str) -> None:
        scheme, _, token = authorization.partition(" ")
        if scheme != "Bearer" or token not in self.tokens:
            self.refused_tokens += 1
        elif token not in self.mischief.stale:
            return
        raise _No(401, "Unauthorized") if self._old else _No(403, "Forbidden")

    # --- the calls --------------------------------------------------------------------------------------------------------------------

    def _items(self, body: Json, *, fewest: int) -> list[JsonObject]:
        found = dig(body, "items")
        if not isinstance(found, list) or not fewest <= len(found) <= MOST_ITEMS:
            raise _No(400, f"items: expected {fewest} to {MOST_ITEMS}")
        if not all(isinstance(item, dict) for item in found):
            raise _No(400, "items: expected objects")
        return objects_at(body, "items")

    def _update(self, kind: str, body: Json) -> JsonObject:
        """All or none: one unknown id spoils the request (2021 §2.1; today §9)."""
        items = self._items(body, fewest=1 if self._old else 0)
        ids = [text_at(item, "id") for item in items]
        updates = [update if isinstance(update := item.get("update"), dict) else {} for item in items]
        problem: _No | None = None
        spoiled = next((job for job in ids if job in self.mischief.fail_once), None)
        if spoiled is not None:
            problem = _No(self.mischief.fail_once.pop(spoiled), "Core is not well")
        elif any(self._known(resource_id) is None for resource_id in ids):
            problem = _No(400, "Unable to use all requested resources") if self._old else _No(404, "Not found")
        elif any("timestamp" in update and not is_whole(update["timestamp"]) for update in updates) and not self._old:
            problem = _No(400, "timestamp: expected an integer")
        self.records.told += [
            Told(resource_id, update, now_s(), problem is None, kind) for resource_id, update in zip(ids, updates, strict=True)
        ]
        if problem is not None:
            raise problem
        for resource_id, update in zip(ids, updates, strict=True):
            self._apply(self.records.known[resource_id], update)
        return {}

    def _known(self, resource_id: str) -> Known | None:
        return None if resource_id in self.mischief.forgotten else self.records.known.get(resource_id)

    @staticmethod
    def _apply(known: Known, update: JsonObject) -> None:
        state, expected = text_at(update, "state"), text_at(update, "expectedState")
        if known.final or (expected and expected != known.state) or (update.get("expectedDifferentState") is True and state == known.state):
            return
        known.output_folder = text_at(update, "outputFolder") or known.output_folder
        known.state = state or known.state

    def _retrieve(self, _body: Json, query: Mapping[str, str]) -> JsonObject:
        known = self._known(query.get("id", ""))
        if known is None:
            raise _No(404, "Not found") if self._old else _No(403, "Write permission is required")
        return self.document(known)

    def _browse(self, kind: str, query: Mapping[str, str]) -> JsonObject:
        found = [k for k in self.records.known.values() if k.kind == kind and k.id not in self.mischief.forgotten]
        wanted = query.get("filterState")
        return {"itemsPerPage": 50, "items": [self.document(k) for k in found if wanted in {None, k.state}], "next": None}

    def _charge(self, body: Json, _query: Mapping[str, str]) -> JsonObject:
        items = self._items(body, fewest=1)
        problem = None if all(self._known(text_at(item, "id")) for item in items) else _No(400, "Unable to use all requested resources")
        self.records.charges += [Charge(item, "chargeCredits", now_s(), taken=problem is None) for item in items]
        if problem is not None:
            raise problem
        self._lose(text_at(item, "id") for item in items)
        poor: list[Json] = [{"id": job} for item in items if (job := text_at(item, "id")) in self.mischief.broke]
        return {"insufficientFunds": poor, "duplicateCharges": []}

    def _usage(self, body: Json, _query: Mapping[str, str]) -> JsonObject:
        items = self._items(body, fewest=0)
        self.records.charges += [Charge(item, "reportUsage", now_s(), taken=True) for item in items]
        self._lose(text_at(item, "owner", "username") for item in items)
        return {"responses": [text_at(item, "owner", "username") not in self.mischief.broke for item in items]}

    def _lose(self, names: Iterable[str]) -> None:
        lost = self.mischief.lose_once.intersection(names)
        if lost:
            self.mischief.lose_once -= lost
            raise _Cut

    def _existence(self, body: Json, _query: Mapping[str, str]) -> JsonObject:
        return {"responses": [self._known(text_at(item, "id")) is not None for item in self._items(body, fewest=0)]}

    def document(self, known: Known) -> JsonObject:
        """The job or license as Core has it now."""
        status = known.document.get("status")
        now: JsonObject = (status if isinstance(status, dict) else {}) | {"state": known.state}
        output: JsonObject = {"outputFolder": known.output_folder or None}
        return merged(known.document, {"status": now}, {"output": output} if known.kind == "job" else {})
