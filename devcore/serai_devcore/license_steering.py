"""Users with licenses over HTTP, below /devcore/: for people with curl. Also their tokens.

Each answer has the provider's own (`status`, `answer`, `problem`) and what a user would see of it (`user`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from serai_devcore import licenses
from serai_devcore.accounts import Product
from serai_devcore.outcomes import heard, shown
from serai_devcore.resources import LICENSES, Resource, ResourceRequest
from serai_devcore.wire import CoreError, Json, JsonObject, as_list, as_object, boolean_or, text, text_or_none

if TYPE_CHECKING:
    from serai_devcore.core import DevCore
    from serai_devcore.steering import Routes

HELP: JsonObject = {
    "GET /devcore/licenses": "every license as Core knows it, with each update as it came",
    "POST /devcore/licenses": '{"category": "…", "product": "…", "username": "user", "project": null}: create one; no body: the example',
    "GET /devcore/licenses/{id}": "one of them",
    "DELETE /devcore/licenses/{id}": "gone when the provider says so",
    "POST /devcore/licenses/{id}/acl": '{"added": [{"entity": {…}, "permissions": ["READ"]}], "deleted": [{…}]}; told to providers in 2021',
    "POST /devcore/licenses/{id}/labels": '2026: {"labels": {"a": "b"}}',
    "POST /devcore/licenses/init": '2021: {"username": "user", "project": null}: that user looks at licenses',
    "POST /devcore/licenses/verify": '2021: {"ids": ["…"]}, or nothing for all: which licenses Core knows',
    "POST /devcore/tokens": (
        '{"username": "…", "project": null, "role": "PI" | "ADMIN" | "USER", "groups": ["…"], "admin": false}: a user\'s token'
    ),
    "GET /devcore/crashes": "2026: own ids that a provider used twice; each fatal one is an end of Core",
}


class LicenseSteering:
    def __init__(self, core: DevCore) -> None:
        self._core = core

    def routes(self) -> Routes:
        """Every call of HELP, with the keys that its body may have."""
        return {
            ("GET", "/devcore/licenses"): (self._all, ()),
            ("POST", "/devcore/licenses"): (self._create, ("category", "product", "username", "project")),
            ("POST", "/devcore/licenses/init"): (self._init, ("username", "project")),
            ("POST", "/devcore/licenses/verify"): (self._verify, ("ids",)),
            ("GET", "/devcore/licenses/{id}"): (self._one, ()),
            ("DELETE", "/devcore/licenses/{id}"): (self._delete, ()),
            ("POST", "/devcore/licenses/{id}/acl"): (self._acl, ("added", "deleted")),
            ("POST", "/devcore/licenses/{id}/labels"): (self._labels, ("labels",)),
            ("POST", "/devcore/tokens"): (self._token, ("username", "project", "role", "groups", "admin")),
            ("GET", "/devcore/crashes"): (self._crashes, ()),
        }

    async def _all(self, request: web.Request, body: JsonObject) -> Json:
        return {"items": [self._show(one) for one in self._core.resources if one.namespace == LICENSES]}

    async def _one(self, request: web.Request, body: JsonObject) -> Json:
        found = self._core.resources.known_license(request.match_info["id"])
        document: JsonObject = {"license": licenses.render(self._core, found, licenses.EVERYTHING)}
        return self._show(found) | document

    async def _create(self, request: web.Request, body: JsonObject) -> Json:
        product = self._product(request, text_or_none(body, "category", ""), text_or_none(body, "product", ""))
        username, project = text_or_none(body, "username", "") or "user", text_or_none(body, "project", "")
        made, outcome = await self._core.create_resource(ResourceRequest(LICENSES, product, {}, username, project))
        return {"id": made.id, "accepted": outcome.accepted} | shown(outcome)

    async def _delete(self, request: web.Request, body: JsonObject) -> Json:
        return shown(await self._core.delete_resource(self._core.resources.known_license(request.match_info["id"]).id))

    async def _acl(self, request: web.Request, body: JsonObject) -> Json:
        added, deleted = ([as_object(entry, name) for entry in as_list(body.get(name, []), name)] for name in ("added", "deleted"))
        return shown(await self._core.update_license_acl(request.match_info["id"], added, deleted))

    async def _labels(self, request: web.Request, body: JsonObject) -> Json:
        return shown(await self._core.update_license_labels(request.match_info["id"], as_object(body.get("labels"), "labels")))

    async def _init(self, request: web.Request, body: JsonObject) -> Json:
        username, project = text_or_none(body, "username", "") or "user", text_or_none(body, "project", "")
        return shown(await self._core.init_licenses(username, project, provider_id=self._named(request)))

    async def _verify(self, request: web.Request, body: JsonObject) -> Json:
        ids = [license_id for license_id in as_list(body.get("ids", []), "ids") if isinstance(license_id, str)]
        return heard(await self._core.verify_licenses(*ids, provider_id=self._named(request)))

    async def _token(self, request: web.Request, body: JsonObject) -> Json:
        groups = [group for group in as_list(body.get("groups") or [], "groups") if isinstance(group, str)]
        token = self._core.users.token(
            text(body, "username", ""),
            project=text_or_none(body, "project", ""),
            role=text_or_none(body, "role", "") or "USER",
            groups=groups,
            administrator=boolean_or(body, "admin", "", False),
        )
        return {"accessToken": token}

    async def _crashes(self, request: web.Request, body: JsonObject) -> Json:
        return {"items": [repeat.to_json() for repeat in self._core.repeats]}

    def _product(self, request: web.Request, category: str | None, name: str | None) -> Product:
        """The one that is named, or the provider's first license."""
        provider = self._named(request)
        fitting = [
            product
            for key, product in self._core.accounts.products.items()
            if product.kind == "license" and key[0] == provider and category in {None, key[1]} and name in {None, key[2]}
        ]
        if not fitting:
            raise CoreError(404, f"Core knows no such license product of {provider}")
        return fitting[0]

    def _named(self, request: web.Request) -> str:
        return self._core.named_or_only(request.query.get("provider", "")).id

    def _show(self, one: Resource) -> JsonObject:
        updates: list[Json] = [{"at": a.at_ms, "applied": a.applied, "update": a.update} for a in one.arrivals]
        bound: list[Json] = list(one.bound_to)
        provider, category, product = one.key
        return {
            "id": one.id,
            "provider": provider,
            "category": category,
            "product": product,
            "owner": one.owner,
            "state": one.state,
            "boundTo": bound,
            "providerGeneratedId": one.provider_generated_id,
            "confirmed": one.confirmed,
            "updates": updates,
        }
