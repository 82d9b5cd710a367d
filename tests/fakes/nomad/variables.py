"""Calls about variables: /v1/var/… and /v1/vars."""

from __future__ import annotations

import re

from aiohttp import web

from fakes.nomad import shapes
from fakes.nomad.client import Clients
from fakes.nomad.cluster import Cluster, Variable
from fakes.nomad.http import Conflict, Refused, Row, answer, body, inner, namespace, number, page

_PATH = re.compile(r"[a-zA-Z0-9\-_~/]{1,128}")
_LIMIT = 64 * 1024


class Variables:
    def __init__(self, cluster: Cluster, clients: Clients) -> None:
        self._cluster, self._clients = cluster, clients

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/vars", self.list),
            web.get("/v1/var/{path:.*}", self.read),
            web.put("/v1/var/{path:.*}", self.write),
            web.post("/v1/var/{path:.*}", self.write),
            web.delete("/v1/var/{path:.*}", self.delete),
        ]

    async def list(self, request: web.Request) -> web.Response:
        prefix, where = request.query.get("prefix", ""), namespace(request)
        rows = [
            Row(f"{v.namespace}.{v.path}", lambda v=v: shapes.variable(v, items=False))
            for v in self._cluster.variables.values()
            if v.path.startswith(prefix) and where in {"*", v.namespace}
        ]
        return page(request, rows, self._cluster.at("variables"))

    async def read(self, request: web.Request) -> web.Response:
        found = self._cluster.variables.get((namespace(request), request.match_info["path"]))
        if found is None:
            raise Refused(404, "variable not found")
        return answer(shapes.variable(found, items=True), found.modify_index)

    async def write(self, request: web.Request) -> web.Response:
        path, where = request.match_info["path"], namespace(request)
        sent = await body(request)
        items = {str(k): str(v) for k, v in inner(sent, "Items").items()}
        if not _PATH.fullmatch(path):
            raise Refused(400, f'RPC Error:: 400,invalid path "{path}"')
        if not items:
            raise Refused(400, "variable missing required Items object")
        if sum(len(k.encode()) + len(v.encode()) for k, v in items.items()) > _LIMIT:
            raise Refused(400, "RPC Error:: 400,variables are limited to 64KiB in total size")
        stored = self._cluster.variables.get((where, path))
        self._check(request, stored)
        return answer(shapes.variable(self.put(where, path, items), items=True), self._cluster.index)

    def put(self, where: str, path: str, items: dict[str, str]) -> Variable:
        stored = self._cluster.variables.get((where, path))
        index, now = self._cluster.next("variables"), self._cluster.clock()
        made = Variable(path, where, items, stored.create_index if stored else index, index, stored.create_time if stored else now, now)
        self._cluster.variables[where, path] = made
        self._cluster.tell(index, shapes.variable_event(made, index, deleted=False))
        self._clients.variable_written(where, path)
        return made

    def _check(self, request: web.Request, stored: Variable | None) -> None:
        if "cas" not in request.query:
            return
        wanted = number(request, "cas")
        if wanted != (stored.modify_index if stored else 0):
            nothing = Variable(request.match_info["path"], namespace(request), {}, 0, 0, 0, 0)
            held = shapes.variable(stored or nothing, items=stored is not None)
            raise Conflict(held)

    async def delete(self, request: web.Request) -> web.Response:
        where, path = namespace(request), request.match_info["path"]
        stored = self._cluster.variables.get((where, path))
        self._check(request, stored)
        index = self._cluster.next("variables")
        if stored is not None:
            del self._cluster.variables[where, path]
            self._cluster.tell(index, shapes.variable_event(stored, index, deleted=True))
            self._clients.variable_written(where, path)
        return web.Response(status=204, headers={"X-Nomad-Index": str(index)})
