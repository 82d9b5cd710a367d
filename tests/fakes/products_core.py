"""Products at Core, of both generations (facts 2021 §8.4; facts today §2 step 9 and core2/pkg/accounting/products.go)."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from fakes.gateway_tokens import key, sign


@dataclass
class ProductsCore:
    generation: str = "2021"
    provider: str = "example"
    url: str = ""
    versions: list[dict[str, Any]] = field(default_factory=list)
    """2021: every version that was ever sent; 2026: the present ones."""
    refuses: dict[str, tuple[int, str]] = field(default_factory=dict)
    """By a product's name: status and words."""
    created: list[str] = field(default_factory=list)
    page: int = 250

    @property
    def path(self) -> str:
        return "/api/products" if self.generation == "2021" else "/api/products/v2"

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[ProductsCore]:
        app = web.Application()
        app.router.add_post("/auth/providers/refresh", self._refresh)
        app.router.add_post(self.path, self._create)
        app.router.add_get(f"{self.path}/browse", self._browse)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _refresh(self, request: web.Request) -> web.Response:
        if json.loads(await request.read()) != {"items": [{"refreshToken": "good"}]}:
            return web.json_response({"why": "Forbidden"}, status=403)
        now_s = int(time.time())
        token = sign({"sub": f"#P_{self.provider}", "role": "PROVIDER", "iat": now_s, "exp": now_s + 600}, key())
        return web.json_response({"responses": [{"accessToken": token}]})

    async def _create(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"].startswith("Bearer ")
        items = (await request.json())["items"]
        for item in items:
            assert (item["type"], item["productType"]) in {("compute", "COMPUTE"), ("license", "LICENSE")}
            if item["category"]["provider"] != self.provider:
                return web.json_response({"why": "Forbidden"}, status=403)
            if item["name"] in self.refuses:
                status, why = self.refuses[item["name"]]
                return web.json_response({"why": why}, status=status)
        for item in items:
            self.created.append(item["name"])
            same = [one for one in self.versions if self._name(one) == self._name(item)]
            if self.generation == "2021":
                # Newest last here, and told in any order.
                self.versions.insert(0, {**item, "version": len(same) + 1})
            else:
                self.versions = [one for one in self.versions if one not in same] + [item]
        return web.json_response({})

    async def _browse(self, request: web.Request) -> web.Response:
        query = request.query
        assert query["itemsPerPage"] == "250"
        area = query["filterArea" if self.generation == "2021" else "filterProductType"]
        ours = [one for one in self.versions if one["category"]["provider"] == query["filterProvider"]]
        found = [one for one in ours if one.get("productType", "COMPUTE") == area]
        start = int(query.get("next", "0"))
        page = found[start : start + self.page]
        more = start + self.page < len(found)
        return web.json_response({"itemsPerPage": 250, "items": page, "next": str(start + self.page) if more else None})

    def _name(self, item: dict[str, Any]) -> tuple[str, str]:
        return item["category"]["name"], item["name"]
