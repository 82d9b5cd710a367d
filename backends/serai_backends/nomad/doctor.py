"""What stands between Serai and jobs on this cluster, each with how to mend it: `Backend.check` and `serai doctor`.

Rights are tried by asking for what changes nothing whatever the answer is, not read off the token: a registration that Nomad has to
refuse, a log of a task that does not exist, a variable that is taken away again. What no question can tell is said to be untried.
"""

from __future__ import annotations

import os
import re
import secrets
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from serai_backends.errors import BackendUnavailable, JobNotThere
from serai_backends.model import Finding, Severity
from serai_backends.nomad import names
from serai_backends.nomad.client import NotAllowed
from serai_backends.nomad.doctor_nodes import node_findings
from serai_backends.nomad.doctor_reach import reach_findings

if TYPE_CHECKING:
    from serai_backends.nomad import wire
    from serai_backends.nomad.client import NomadClient
    from serai_backends.nomad.client.environment import Access
    from serai_backends.nomad.settings import NomadSettings

POLICY = "examples/nomad/serai-policy.hcl"
OLDEST, SAFE = (1, 8), (2, 0, 4)
EVENT_BUFFER = 1_000
ALLOCATIONS = 200
_NOBODY = "serai-doctor"
"""A job and a task that nobody has."""


class _Version(msgspec.Struct, rename="pascal"):
    version: str = ""


class _Server(msgspec.Struct, rename="pascal"):
    enabled: bool = False
    event_buffer_size: int | None = None
    enable_event_broker: bool | None = None


class _Client(msgspec.Struct, rename="pascal"):
    enabled: bool = False
    gc_max_allocs: int = msgspec.field(default=0, name="GCMaxAllocs")
    max_kill_timeout: str = ""
    disable_remote_exec: bool = False


class _Acl(msgspec.Struct, rename="pascal"):
    enabled: bool = False


class _Config(msgspec.Struct, rename="pascal"):
    acl: _Acl = msgspec.field(default_factory=_Acl, name="ACL")
    version: _Version = msgspec.field(default_factory=_Version)
    server: _Server = msgspec.field(default_factory=_Server)
    client: _Client = msgspec.field(default_factory=_Client)


class _Agent(msgspec.Struct):
    config: _Config = msgspec.field(default_factory=_Config)


class _Namespace(msgspec.Struct, rename="pascal"):
    name: str = ""


async def findings(client: NomadClient, settings: NomadSettings) -> list[Finding]:
    """Never raises for what it finds."""
    found = way_in(client.access)
    try:
        leader = await client.get("status/leader", str)
        if leader is None:
            words = f"{client.access.address} answers 404: is that the address of a Nomad agent?"
            return [*found, _error("nomad", words)]
        if not leader:
            return [*found, _error("nomad", f"the servers behind {client.access.address} have no leader: nothing can run until they have")]
    except BackendUnavailable as error:
        return [*found, _error("nomad", str(error))]
    found.append(Finding(Severity.NOTE, "nomad", f"{client.access.address} answers; namespace {client.access.namespace}"))
    for part in (_agent, _namespace, _events, _jobs, _variables, _volumes, _allocations):
        try:
            found += await part(client, settings)
        except BackendUnavailable as error:
            found.append(_error("nomad", str(error)))
    try:
        nodes = await client.nodes()
        found += await node_findings(client, settings, nodes)
    except BackendUnavailable as error:
        nodes = []
        found.append(_error("nodes", str(error)))
    found += reach_findings(settings, [node.address for node in nodes])
    return [*found, *_drives(settings)]


def _error(subject: str, text: str) -> Finding:
    return Finding(Severity.ERROR, subject, text)


def _warning(subject: str, text: str) -> Finding:
    return Finding(Severity.WARNING, subject, text)


def _missing(client: NomadClient, right: str, *, severity: Severity = Severity.ERROR) -> Finding:
    where = (
        f"the token of {client.access.token.source} lacks" if client.access.token.source else "there is no token, and ACLs are on: it needs"
    )
    return Finding(severity, "token", f"{where} `{right}` (namespace {client.access.namespace}): add it to its policy, see {POLICY}")


def way_in(access: Access) -> list[Finding]:
    """Whether somebody on the way can read the token."""
    if not access.verified:
        return [_warning("tls", "NOMAD_SKIP_VERIFY is on: anybody on the way can be Nomad and read the token. Set ca_cert instead")]
    host = access.base.removeprefix("http://").rsplit(":", 1)[0]
    near = bool(access.socket) or host in ("127.0.0.1", "localhost", "[::1]")
    if access.tls is None and not near:
        return [
            _warning("tls", f"{access.address} is plain HTTP: token and jobs can be read on the way. Use https and Nomad's `tls` block")
        ]
    return []


async def _agent(client: NomadClient, settings: NomadSettings) -> list[Finding]:
    try:
        agent = await client.get("agent/self", _Agent) or _Agent()
    except NotAllowed:
        return [_missing(client, 'agent { policy = "read" }', severity=Severity.NOTE)]
    config, found = agent.config, list[Finding]()
    version = numbers(config.version.version)
    if version and version < OLDEST:
        found.append(_error("version", f"Nomad {config.version.version} is too old: 1.8 is the first whose ranks never run twice"))
    elif version and version < SAFE:
        found.append(
            _warning("version", f"Nomad {config.version.version}: update to 2.0.4 or later, for CVE-2026-14891 and CVE-2026-14896")
        )
    if config.server.enabled and config.server.enable_event_broker is False:
        found.append(_error("events", "the servers tell no events: set `server { enable_event_broker = true }`"))
    if config.server.enabled and (config.server.event_buffer_size or 0) < EVENT_BUFFER:
        size = config.server.event_buffer_size or 100
        found.append(_warning("events", f"event_buffer_size is {size}: set `server {{ event_buffer_size = 10000 }}` on all servers"))
    if not config.acl.enabled:
        root = " and, with raw_exec, be root on the nodes" if settings.firewall.enabled or settings.raw_exec else ""
        found.append(_warning("acl", f"ACLs are off: whoever reaches Nomad may stop jobs, read them{root}. Switch them on"))
    if config.client.enabled:
        found += _client(config.client, settings)
    return found


def _client(config: _Client, settings: NomadSettings) -> list[Finding]:
    """Of the node whose agent this is; other nodes tell nobody."""
    found = list[Finding]()
    if config.gc_max_allocs < ALLOCATIONS:
        text = f"client.gc_max_allocs is {config.gc_max_allocs}: nodes throw ended jobs away early. Set 500 or more on all nodes"
        found.append(_warning("nodes", text))
    longest = seconds(config.max_kill_timeout)
    if longest is not None and longest * 1000 < settings.kill_timeout_ms:
        text = f"client.max_kill_timeout {config.max_kill_timeout} is less than jobs.stop_grace_ms {settings.kill_timeout_ms}"
        found.append(_warning("nodes", text))
    if config.disable_remote_exec:
        found.append(_warning("nodes", "client.disable_remote_exec is on: terminals cannot be opened"))
    return found


async def _namespace(client: NomadClient, settings: NomadSettings) -> list[Finding]:
    name = client.access.namespace
    try:
        known = await client.get(f"namespace/{name}", _Namespace)
    except NotAllowed:
        return [_missing(client, f'namespace "{name}" {{ … }}')]
    if known is not None:
        return await _strangers(client, settings)
    return [_error("namespace", f"there is no namespace {name}: `nomad namespace apply {name}`")]


async def _strangers(client: NomadClient, settings: NomadSettings) -> list[Finding]:
    """The namespace should hold jobs of this provider only: whoever may submit there reads all variables of jobs."""
    jobs, _ = await client.jobs("")
    others = [job.id for job in jobs if (job.meta or {}).get(names.META_PROVIDER) != settings.provider and not job.stop]
    if not others:
        return []
    shown = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
    text = f"the namespace {client.access.namespace} has jobs that are not Serai's ({shown}): give Serai one of its own"
    return [_warning("namespace", text)]


async def _events(client: NomadClient, _settings: NomadSettings) -> list[Finding]:
    try:
        async with aclosing(client.events(0)) as events:
            await anext(events)
    except BackendUnavailable as error:
        return [_error("events", str(error))]
    return []


async def _jobs(client: NomadClient, _settings: NomadSettings) -> list[Finding]:
    """Create, read, list, stop."""
    name = f"{_NOBODY}-{secrets.token_hex(4)}"
    task = {"Name": names.MAIN, "Driver": "exec", "Config": {"command": "/bin/true"}}
    job = {"ID": name, "Name": name, "Type": "batch", "Datacenters": ["*"], "TaskGroups": [{"Name": "rank-0", "Tasks": [task]}]}
    tried = {
        # it would have to be there already: refused after the right was looked at
        "submit-job": await client.allowed("PUT", "jobs", body={"Job": job, "EnforceIndex": True, "JobModifyIndex": 2**53}),
        "submit-job (to stop and purge)": await client.allowed("DELETE", f"job/{name}", params={"purge": "true"}),
        "read-job": await client.allowed("GET", f"job/{name}") and await client.allowed("GET", "allocations", params={"per_page": "1"}),
        "list-jobs": await client.allowed("GET", "jobs", params={"prefix": name, "meta": "true"}),
    }
    return [_missing(client, right) for right, has in tried.items() if not has]


async def _variables(client: NomadClient, _settings: NomadSettings) -> list[Finding]:
    """All ranks start behind one."""
    path = names.variable(f"{_NOBODY}-{secrets.token_hex(4)}")
    right = 'variables {{ path "nomad/jobs/*" {{ capabilities = ["{}"] }} }}'
    found = list[Finding]()
    try:
        await client.put_variable(path, {"tried": "yes"}, cas=0)
    except NotAllowed:
        return [_missing(client, right.format("write"))]
    for name, step in (("read", client.variable), ("list", client.variables), ("destroy", client.delete_variable)):
        try:
            await step(path)
        except NotAllowed:
            found.append(_missing(client, right.format(name)))
    return found


async def _volumes(client: NomadClient, settings: NomadSettings) -> list[Finding]:
    if settings.work != "volume":
        return []
    capabilities = [{"AccessMode": "single-node-multi-writer", "AttachmentMode": "file-system"}]
    volume = {"Name": _NOBODY, "Type": "host", "PluginID": f"{_NOBODY}-none", "RequestedCapabilities": capabilities}
    tried = {
        "host-volume-create": await client.allowed("PUT", "volume/host/create", body={"Volume": volume}),
        "host-volume-read": await client.allowed("GET", "volumes", params={"type": "host", "per_page": "1"}),
        "host-volume-delete": await client.allowed("DELETE", "volume/host/11111111-1111-1111-1111-111111111111/delete"),
    }
    return [_missing(client, right) for right, has in tried.items() if not has]


async def _allocations(client: NomadClient, _settings: NomadSettings) -> list[Finding]:
    """These rights are of an allocation, and Nomad looks for that first."""
    there = await _one_allocation(client)
    if there is None:
        text = "read-logs, alloc-exec (terminals) and alloc-lifecycle were not tried: nothing runs in the namespace"
        return [Finding(Severity.NOTE, "token", f"{text}. Ask again while a job does")]
    logs = {"task": _NOBODY, "type": "stdout", "plain": "true"}
    tried = {
        "read-logs": await client.allowed("GET", f"client/fs/logs/{there.id}", params=logs),
        "alloc-lifecycle": await client.allowed("PUT", f"client/allocation/{there.id}/signal", body={"Task": _NOBODY, "Signal": "SIGCONT"}),
        "alloc-exec": await _may_exec(client, there.id),
    }
    found = [_missing(client, right, severity=Severity.WARNING) for right, has in tried.items() if not has]
    if not tried["alloc-exec"]:
        found.append(
            _warning("terminals", "users and `serai jobs exec` cannot open shells without alloc-exec, which Core is told they can")
        )
    return found


async def _one_allocation(client: NomadClient) -> wire.Allocation | None:
    try:
        async with aclosing(client.allocations()) as pages:
            async for page in pages:
                for allocation in page:
                    if allocation.client_status == "running":
                        return allocation
    except NotAllowed:  # told by `_jobs`
        pass
    return None


async def _may_exec(client: NomadClient, alloc_id: str) -> bool:
    try:
        shell = await client.exec(alloc_id, _NOBODY, ("true",))
    except NotAllowed:
        return False
    except (JobNotThere, BackendUnavailable):
        return True
    await shell.close()
    return True


def _drives(settings: NomadSettings) -> list[Finding]:
    folder = Path(settings.drives_dir)
    if settings.work != "path":
        return [
            Finding(Severity.NOTE, "work", f"work is {settings.work}: output stays on the nodes, and logs are what Nomad keeps of them")
        ]
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        what = "cannot be written by this user" if folder.is_dir() else "is not there: make it, or mount the shared file system there"
        return [_error("drives", f"drives_dir {folder} {what}")]
    nodes = settings.node_drives_dir or settings.drives_dir
    return [Finding(Severity.NOTE, "drives", f"the nodes must see {folder} as {nodes}: that cannot be looked at from here")]


def numbers(version: str) -> tuple[int, ...]:
    """(2, 0, 6) of "2.0.6-dev"."""
    parts = re.split(r"[-+]", version, maxsplit=1)[0].split(".")
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else ()


def seconds(duration: str) -> float | None:
    """Of Go's `1m30s`; None = it is no such text."""
    units, total, rest = {"ms": 0.001, "h": 3600.0, "m": 60.0, "s": 1.0}, 0.0, duration
    while rest:
        digits = rest[: len(rest) - len(rest.lstrip("0123456789."))]
        unit = next((u for u in units if rest[len(digits) :].startswith(u)), None)
        if not digits or unit is None:
            return None
        total += float(digits) * units[unit]
        rest = rest[len(digits) + len(unit) :]
    return total if duration else None
