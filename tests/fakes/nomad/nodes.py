"""Calls about nodes, the agent itself, namespaces, and dynamic host volumes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import cast

from aiohttp import web

from fakes.nomad import shapes
from fakes.nomad.broker import Event
from fakes.nomad.client import Clients
from fakes.nomad.cluster import Allocation, Cluster, Node
from fakes.nomad.http import Refused, Row, answer, body, flag, inner, page
from fakes.nomad.scheduler import MIGRATED, Scheduler
from fakes.nomad.spec import Json


class Nodes:
    def __init__(self, cluster: Cluster, scheduler: Scheduler, clients: Clients, version: str, *, token: str | None, buffer: int) -> None:
        self._cluster, self._scheduler, self._clients = cluster, scheduler, clients
        self._version, self._token, self._buffer = version, token, buffer
        self.http = ""

    def routes(self) -> list[web.RouteDef]:
        posts: list[web.RouteDef] = []
        for name, handler in (("drain", self.drain), ("eligibility", self.eligibility)):
            posts += [web.put(f"/v1/node/{{id}}/{name}", handler), web.post(f"/v1/node/{{id}}/{name}", handler)]
        return [
            *posts,
            web.get("/v1/nodes", self.list),
            web.get("/v1/node/pools", self.pools),
            web.get("/v1/node/{id}", self.read),
            web.get("/v1/node/{id}/allocations", self.allocations),
            web.get("/v1/agent/self", self.agent),
            web.get("/v1/agent/health", self.health),
            web.get("/v1/status/leader", self.leader),
            web.get("/v1/acl/token/self", self.token_self),
            web.get("/v1/namespaces", self.namespaces),
            web.get("/v1/namespace/{name}", self.namespace),
            web.get("/v1/regions", self.regions),
            web.get("/v1/volumes", self.volumes),
            web.put("/v1/volume/host/create", self.create_volume),
            web.get("/v1/volume/host/{id}", self.volume),
            web.delete("/v1/volume/host/{id}/delete", self.delete_volume),
            web.delete("/v1/volume/host/{id}", self.delete_volume),
        ]

    # nodes

    async def list(self, request: web.Request) -> web.Response:
        prefix, ask = request.query.get("prefix", ""), flag(request, "resources")
        rows = [
            Row(n.id, lambda n=n: shapes.node_stub(n, self._version, ask=ask))
            for n in self._cluster.nodes.values()
            if n.id.startswith(prefix)
        ]
        return page(request, rows, self._cluster.at("nodes"))

    def _node(self, request: web.Request) -> Node:
        found = self._cluster.nodes.get(request.match_info["id"])
        if found is None:
            raise Refused(404, "node not found")
        return found

    async def read(self, request: web.Request) -> web.Response:
        node = self._node(request)
        return answer(shapes.node_whole(node, self._version, self.http), node.modify_index)

    async def allocations(self, request: web.Request) -> web.Response:
        node = self._node(request)
        rows = [a for a in self._cluster.allocs.values() if a.node is node]
        return answer([shapes.alloc_whole(a, with_job=True) for a in rows], self._cluster.at("allocs"))

    async def eligibility(self, request: web.Request) -> web.Response:
        node, sent = self._node(request), await body(request)
        self.set_eligible(node, sent.get("Eligibility") == "eligible")
        return self._changed(node)

    async def drain(self, request: web.Request) -> web.Response:
        node, sent = self._node(request), await body(request)
        if sent.get("DrainSpec"):
            self.drained(node)
        else:
            node.draining = False
            self.set_eligible(node, bool(sent.get("MarkEligible")))
        return self._changed(node)

    def _changed(self, node: Node) -> web.Response:
        at = node.modify_index
        return answer({"EvalIDs": [], "EvalCreateIndex": 0, "NodeModifyIndex": at, "Index": at, "LastContact": 0, "KnownLeader": False}, at)

    def told(self, node: Node, kind: str) -> int:
        """The node changed: its own event."""
        index = self._cluster.next("nodes")
        node.modify_index = index
        self._cluster.tell(index, shapes.node_event(kind, node, self._version, self.http, index))
        return index

    def set_eligible(self, node: Node, eligible: bool) -> None:
        node.eligible = eligible
        self.told(node, "NodeEligibility")
        if eligible:
            self._scheduler.unblock()

    def drained(self, node: Node) -> None:
        """Batch jobs are stopped at the drain's deadline, nothing comes in their place, and it looks like success."""
        node.draining, node.eligible = True, False
        self.told(node, "NodeDrain")
        here = [a for a in self._cluster.allocs.values() if a.node is node and not a.terminal]
        if here:
            index = self._cluster.next("allocs", "evals")
            events: list[Event] = []
            for alloc in here:
                alloc.transition = {"Migrate": True, "MigrateDisablePlacement": True}
                alloc.desired, alloc.desired_description = "stop", MIGRATED
                alloc.modify_index = alloc.alloc_modify_index = index
                events.append(shapes.alloc_event("AllocationUpdateDesiredStatus", alloc, index))
            self._cluster.tell(index, *events)
            for alloc in here:
                self._clients.stop(alloc)
        node.draining = False

    def down(self, node: Node) -> None:
        """Its heartbeats stopped. What becomes of its allocations is the scheduler's; the tasks themselves may well live on."""
        here = [a for a in self._cluster.allocs.values() if a.node is node and not a.client_terminal]
        waits = any(a.group.disconnect is not None and a.group.disconnect.lost_after for a in here)
        node.status = "disconnected" if waits else "down"
        self.told(node, "NodeStreamEvent")
        self._look_again(here)

    def _look_again(self, allocs: list[Allocation]) -> None:
        for job in {a.job.key: a.job for a in allocs}.values():
            index = self._cluster.next("evals")
            one = self._cluster.new_eval(job, "node-update", index)
            self._cluster.tell(index, shapes.eval_event("EvaluationUpdated", one, index))
            self._scheduler.evaluate(one)

    def up(self, node: Node) -> None:
        """It is heard of again: unknown allocations run on as if nothing was; lost ones are ended, and told once more in other states."""
        node.status = "ready"
        self.told(node, "NodeStreamEvent")
        here = [a for a in self._cluster.allocs.values() if a.node is node]
        for alloc in here:
            self._clients.reconnected(alloc)
        self._clients.flush()
        self._look_again([a for a in here if a.desired == "run"])
        self._scheduler.unblock()

    # the agent

    async def pools(self, request: web.Request) -> web.Response:
        return answer(
            [{"Name": name, "Description": "", "Meta": None, "CreateIndex": 1, "ModifyIndex": 1} for name in sorted(self._cluster.pools)], 1
        )

    async def agent(self, request: web.Request) -> web.Response:
        server = {"Enabled": True, "EventBufferSize": self._buffer, "EnableEventBroker": True, "BootstrapExpect": 1}
        client = {"Enabled": True, "GCMaxAllocs": max((n.spec.max_allocs for n in self._cluster.nodes.values()), default=50)}
        config: Json = {
            "Datacenter": "dc1",
            "Region": "global",
            "Version": {"Version": self._version, "VersionPrerelease": "", "VersionMetadata": ""},
        }
        config |= {"Server": server, "Client": client, "ACL": {"Enabled": self._token is not None}, "TLSConfig": {"EnableHTTP": False}}
        member = {
            "Name": "fake.global",
            "Status": "alive",
            "Tags": {"role": "nomad", "region": "global", "dc": "dc1", "build": self._version},
        }
        return answer({"config": config, "member": member, "stats": {"nomad": {"server": "true", "leader": "true"}}}, 0)

    async def health(self, request: web.Request) -> web.Response:
        return answer({"server": {"ok": True, "message": "ok"}, "client": {"ok": True, "message": "ok"}}, 0)

    async def leader(self, request: web.Request) -> web.Response:
        return answer("127.0.0.1:4647", 0)

    async def regions(self, request: web.Request) -> web.Response:
        return answer(["global"], 0)

    async def token_self(self, request: web.Request) -> web.Response:
        told: Json = {
            "AccessorID": "acls-disabled",
            "SecretID": "",
            "Name": "ACLs disabled token",
            "Type": "client",
            "Policies": None,
            "Roles": None,
        }
        if self._token is not None:
            told |= {"AccessorID": "8a4e9d2c-0000-0000-0000-000000000001", "Name": "a token of the fake", "Policies": ["serai"]}
        return answer(told | {"Global": False, "ExpirationTTL": "", "ExpirationTime": None, "CreateIndex": 0, "ModifyIndex": 0}, 0)

    def _namespace(self, name: str) -> Json:
        return {
            "Name": name,
            "Description": self._cluster.namespaces[name],
            "Quota": "",
            "Meta": None,
            "CreateIndex": 1,
            "ModifyIndex": 1,
            "Capabilities": None,
        }

    async def namespaces(self, request: web.Request) -> web.Response:
        return answer([self._namespace(n) for n in sorted(self._cluster.namespaces)], 1)

    async def namespace(self, request: web.Request) -> web.Response:
        if request.match_info["name"] not in self._cluster.namespaces:
            raise Refused(404, "Namespace not found")
        return answer(self._namespace(request.match_info["name"]), 1)

    # dynamic host volumes

    async def volumes(self, request: web.Request) -> web.Response:
        where = request.query.get("namespace") or "default"
        found = [v for v in self._cluster.host_volumes.values() if where in {"*", str(v["Namespace"])}]
        return answer(found, self._cluster.at("volumes"))

    async def create_volume(self, request: web.Request) -> web.Response:
        volume = inner(await body(request), "Volume")
        name, plugin = str(volume.get("Name") or ""), volume.get("PluginID")
        if not name:
            raise Refused(500, "volume validation failed: missing name")
        if plugin != "mkdir":
            raise Refused(500, f'no node meets constraints: plugin "{plugin}" is not there')
        wanted = str(volume.get("NodeID") or "")
        ready = [n for n in self._cluster.nodes.values() if n.status == "ready" and n.eligible and wanted in {"", n.id}]
        if not ready:
            raise Refused(500, "no node meets constraints")
        node = min(ready, key=lambda n: len(n.volumes))
        index, made = self._cluster.next("volumes"), self._cluster.new_id()
        folder = self._clients.data / "host_volumes" / made
        parameters = cast("dict[str, str]", volume.get("Parameters") or {})
        _make(folder, int(parameters.get("mode", "0700"), 8))
        node.volumes[name] = str(folder)
        row = volume | {"ID": made, "Namespace": volume.get("Namespace") or "default", "NodeID": node.id, "NodePool": node.spec.pool}
        row |= {"HostPath": str(folder), "State": "ready", "CreateIndex": index, "ModifyIndex": index}
        self._cluster.host_volumes[made] = row
        self._scheduler.unblock()
        return answer({"Volume": row | {"State": "pending"}, "Warnings": ""}, index)

    async def volume(self, request: web.Request) -> web.Response:
        found = self._cluster.host_volumes.get(request.match_info["id"])
        if found is None:
            raise Refused(404, "volume not found")
        return answer(found, self._cluster.at("volumes"))

    async def delete_volume(self, request: web.Request) -> web.Response:
        found = self._cluster.host_volumes.pop(request.match_info["id"], None)
        if found is None:
            raise Refused(500, f"no such volume: {request.match_info['id']}")
        self._cluster.nodes[str(found["NodeID"])].volumes.pop(str(found["Name"]), None)
        shutil.rmtree(str(found["HostPath"]), ignore_errors=True)
        return answer({}, self._cluster.next("volumes"))


def _make(folder: Path, mode: int) -> None:
    folder.mkdir(parents=True)
    folder.chmod(mode)
