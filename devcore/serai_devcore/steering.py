"""What plays Core's part towards a provider over HTTP, below /devcore/: the calls of users and of administrators, for people with curl.

Each answer has the provider's own (`status`, `answer`, `problem`) and what a user would see of it (`user`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

from aiohttp import web

from serai_devcore.follow import follow
from serai_devcore.outcomes import Outcome, heard, shown
from serai_devcore.resources import ResourceRequest
from serai_devcore.wire import (
    CoreError,
    Generation,
    Json,
    JsonObject,
    as_list,
    as_object,
    bad_request,
    integer_or,
    text,
    text_or_none,
)

if TYPE_CHECKING:
    from serai_devcore.core import DevCore

AdminCall: TypeAlias = "Callable[[web.Request, JsonObject], Awaitable[Json]]"
Routes: TypeAlias = "dict[tuple[str, str], tuple[AdminCall, tuple[str, ...]]]"

HELP: JsonObject = {
    "POST /devcore/jobs/{id}/extend": '{"hours": 1, "minutes": 0, "seconds": 0}: ask for so much time more',
    "POST /devcore/jobs/{id}/suspend": "pause it as a user does",
    "POST /devcore/jobs/{id}/unsuspend": "2026: and let it go on",
    "POST /devcore/jobs/{id}/acl": '2021: {"added": [{"entity": {…}, "permissions": ["READ"]}], "deleted": [{…}]}',
    "GET /devcore/jobs/{id}/utilization": "2021: how full the provider is, as the job's user asks",
    "POST /devcore/jobs/{id}/labels": '2026: {"labels": {"a": "b"}}',
    "POST /devcore/jobs/{id}/attach": '2026: {"resource": {"type": "peer", "hostname": "…", "jobId": "…"}}',
    "POST /devcore/jobs/{id}/detach": "2026: the same, the other way",
    "POST /devcore/jobs/{id}/parameters": "2026: which parameters the provider adds to its application",
    "POST /devcore/jobs/{id}/session": '{"type": "SHELL" | "WEB" | "VNC", "rank": 0, "target": null}',
    "POST /devcore/jobs/{id}/follow": '{"seconds": 5}: its log, by the provider\'s WebSocket',
    "GET /devcore/jobs/{id}/bill": "what it has cost in all, as periods of all replicas",
    "POST /devcore/verify": '2021: {"ids": ["…"]}, or nothing: which jobs Core believes to be active',
    "POST /devcore/terminal": '2026: {"folder": "/<drive>/path"}: a shell there',
    "POST /devcore/users": '{"call": "init" | "connect" | "unlinked", "username": "…"}',
    "POST /devcore/keys": '2026: {"title": "…", "key": "ssh-ed25519 …"}: a user\'s new SSH key',
    "POST /devcore/resources": '{"type": "licenses", "category": "…", "product": "…", "specification": {…}}: a license, a drive, a link',
    "DELETE /devcore/resources/{id}": "gone when the provider says so",
    "POST /devcore/poll": "2026: ask the manifest, all support and the branding once, now",
    "GET /devcore/providers": "who is known, and who asks to be",
    "POST /devcore/providers": '2026: {"id": "…", "domain": "127.0.0.1", "https": false, "port": 8889}: make one known',
    "GET /devcore/providers/{id}": "one of them, with its secrets; {id} is Core's number for it",
    "POST /devcore/registrations/{token}/sign": "2021: sign a provider's request as its administrator",
    "POST /devcore/registrations/{token}/approve": "2021: approve it; the provider is greeted with its secrets",
    "POST /devcore/usage/lose": "2026: Core crashed; usage of the last half minute is gone",
}


class Steering:
    def __init__(self, core: DevCore) -> None:
        self._core = core

    def routes(self) -> Routes:
        """Every call of HELP, with the keys that its body may have."""
        core = self._core
        return {
            ("POST", "/devcore/jobs/{id}/extend"): (self._extend, ("hours", "minutes", "seconds")),
            ("POST", "/devcore/jobs/{id}/suspend"): (self._by_id(core.suspend), ()),
            ("POST", "/devcore/jobs/{id}/unsuspend"): (self._by_id(core.unsuspend), ()),
            ("POST", "/devcore/jobs/{id}/acl"): (self._acl, ("added", "deleted")),
            ("GET", "/devcore/jobs/{id}/utilization"): (self._by_id(core.retrieve_utilization), ()),
            ("POST", "/devcore/jobs/{id}/labels"): (self._labels, ("labels",)),
            ("POST", "/devcore/jobs/{id}/attach"): (self._attach, ("resource",)),
            ("POST", "/devcore/jobs/{id}/detach"): (self._detach, ("resource",)),
            ("POST", "/devcore/jobs/{id}/parameters"): (self._by_id(core.request_dynamic_parameters), ()),
            ("POST", "/devcore/jobs/{id}/session"): (self._session, ("type", "rank", "target")),
            ("POST", "/devcore/jobs/{id}/follow"): (self._follow, ("seconds",)),
            ("GET", "/devcore/jobs/{id}/bill"): (self._bill, ()),
            ("POST", "/devcore/verify"): (self._verify, ("ids",)),
            ("POST", "/devcore/terminal"): (self._terminal, ("folder", "username")),
            ("POST", "/devcore/users"): (self._users, ("call", "username")),
            ("POST", "/devcore/keys"): (self._keys, ("title", "key", "username")),
            ("POST", "/devcore/resources"): (
                self._create_resource,
                ("type", "category", "product", "specification", "username", "project"),
            ),
            ("DELETE", "/devcore/resources/{id}"): (self._by_id(core.delete_resource), ()),
            ("POST", "/devcore/poll"): (self._poll, ()),
            ("GET", "/devcore/providers"): (self._providers, ()),
            ("POST", "/devcore/providers"): (self._create_provider, ("id", "domain", "https", "port")),
            ("GET", "/devcore/providers/{id}"): (self._provider, ()),
            ("POST", "/devcore/registrations/{token}/sign"): (self._sign, ()),
            ("POST", "/devcore/registrations/{token}/approve"): (self._approve, ()),
            ("POST", "/devcore/usage/lose"): (self._lose, ()),
        }

    # --- jobs -------------------------------------------------------------------------------------------------------------------------

    def _by_id(self, call: Callable[[str], Awaitable[Outcome]]) -> AdminCall:
        async def handle(request: web.Request, body: JsonObject) -> Json:
            return shown(await call(request.match_info["id"]))

        return handle

    async def _extend(self, request: web.Request, body: JsonObject) -> Json:
        hours, minutes, seconds = (integer_or(body, unit, "", 0) for unit in ("hours", "minutes", "seconds"))
        return shown(await self._core.extend(request.match_info["id"], hours=hours, minutes=minutes, seconds=seconds))

    async def _acl(self, request: web.Request, body: JsonObject) -> Json:
        added, deleted = (
            [as_object(entry, name) for entry in as_list(body.get(name, []), name)]  # one list for each
            for name in ("added", "deleted")
        )
        return shown(await self._core.update_acl(request.match_info["id"], added, deleted))

    async def _labels(self, request: web.Request, body: JsonObject) -> Json:
        return shown(await self._core.update_labels(request.match_info["id"], as_object(body.get("labels"), "labels")))

    async def _attach(self, request: web.Request, body: JsonObject) -> Json:
        return shown(await self._core.attach_resource(request.match_info["id"], as_object(body.get("resource"), "resource")))

    async def _detach(self, request: web.Request, body: JsonObject) -> Json:
        return shown(await self._core.detach_resource(request.match_info["id"], as_object(body.get("resource"), "resource")))

    async def _session(self, request: web.Request, body: JsonObject) -> Json:
        kind, target = text_or_none(body, "type", "") or "SHELL", text_or_none(body, "target", "")
        return shown(await self._core.open_session(request.match_info["id"], kind, rank=integer_or(body, "rank", "", 0), target=target))

    async def _follow(self, request: web.Request, body: JsonObject) -> Json:
        told = await follow(self._core, request.match_info["id"], listen_s=integer_or(body, "seconds", "", 5))
        return shown(told) if isinstance(told, Outcome) else told.to_json()

    async def _bill(self, request: web.Request, body: JsonObject) -> Json:
        return self._core.bill_of(request.match_info["id"]).to_json()

    async def _verify(self, request: web.Request, body: JsonObject) -> Json:
        ids = [job_id for job_id in as_list(body.get("ids", []), "ids") if isinstance(job_id, str)]
        return heard(await self._core.verify(*ids, provider_id=self._named(request)))

    # --- users and what they have -----------------------------------------------------------------------------------------------------

    async def _terminal(self, request: web.Request, body: JsonObject) -> Json:
        folder, username = text(body, "folder", ""), text_or_none(body, "username", "") or "user"
        return shown(await self._core.open_terminal_in_folder(folder, provider_id=self._named(request), username=username))

    async def _users(self, request: web.Request, body: JsonObject) -> Json:
        calls = {"init": self._core.init_user, "connect": self._core.connect_user, "unlinked": self._core.unlink_user}
        call = calls.get(text(body, "call", ""))
        if call is None:
            raise bad_request("call", "one of " + ", ".join(calls))
        return shown(await call(text_or_none(body, "username", "") or "user", provider_id=self._named(request)))

    async def _keys(self, request: web.Request, body: JsonObject) -> Json:
        title, key, username = text(body, "title", ""), text(body, "key", ""), text_or_none(body, "username", "") or "user"
        return shown(await self._core.upload_ssh_key(title, key, username=username, provider_id=self._named(request)))

    async def _create_resource(self, request: web.Request, body: JsonObject) -> Json:
        key = self._named(request), text(body, "category", ""), text(body, "product", "")
        product = self._core.accounts.products.get(key)
        if product is None:
            raise CoreError(404, f"Core knows no product {key[2]} in {key[1]} of {key[0]}")
        specification = as_object(body.get("specification", {}), "specification")
        username, project = text_or_none(body, "username", "") or "user", text_or_none(body, "project", "")
        wish = ResourceRequest(text(body, "type", ""), product, specification, username, project)
        resource, outcome = await self._core.create_resource(wish)
        told = shown(outcome)
        told["id"] = resource.id
        return told

    # --- administrators ---------------------------------------------------------------------------------------------------------------

    async def _poll(self, request: web.Request, body: JsonObject) -> Json:
        self._core.only(Generation.G2026, "polls of this kind")
        provider = self._core.provider_named(self._named(request))
        return {"support": await self._core.polls.round(provider), "branding": await self._core.polls.branding(provider)}

    async def _providers(self, request: web.Request, body: JsonObject) -> Json:
        known: list[Json] = [
            {"id": provider.resource_id, "specification": provider.specification, "url": provider.url}
            for provider in self._core.providers.values()
        ]
        asking: list[Json] = [asked.to_json() for asked in self._core.registrations.waiting()]
        return {"providers": known, "registrations": asking}

    async def _create_provider(self, request: web.Request, body: JsonObject) -> Json:
        self._core.only(Generation.G2026, "way to create a provider")
        return self._core.registrations.retrieve(self._core.registrations.create(body).resource_id)

    async def _provider(self, request: web.Request, body: JsonObject) -> Json:
        return self._core.registrations.retrieve(request.match_info["id"])

    async def _sign(self, request: web.Request, body: JsonObject) -> Json:
        self._core.only(Generation.G2021, "signing")
        return self._core.registrations.sign(request.match_info["token"])

    async def _approve(self, request: web.Request, body: JsonObject) -> Json:
        self._core.only(Generation.G2021, "approval")
        return await self._core.registrations.approve(request.match_info["token"])

    async def _lose(self, request: web.Request, body: JsonObject) -> Json:
        self._core.only(Generation.G2026, "usage in memory")
        self._core.lose_unsaved_usage()
        return {}

    def _named(self, request: web.Request) -> str:
        return self._core.named_or_only(request.query.get("provider", "")).id
