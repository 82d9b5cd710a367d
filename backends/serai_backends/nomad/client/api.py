"""Every call to Nomad that the backend makes. Plain ones go by `requester`, streams by one aiohttp session.

All methods raise BackendUnavailable when Nomad cannot be reached, times out, or answers 403, 429 or 5xx; the text says what to do.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar
from urllib.parse import quote

import msgspec

from serai_backends.clock import SteadyClock
from serai_backends.nomad import wire
from serai_backends.nomad.client import environment, events, logs, shells
from serai_backends.nomad.client.errors import Answered, Asked, NoHostVolumes, NotAllowed, VariableConflict, registration
from serai_backends.nomad.client.requester import Requester
from serai_backends.nomad.client.streams import Clock, Streams

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

    from serai_backends.model import LogChunk, Stream, TerminalSize
    from serai_backends.nomad.client.requester import Answer
    from serai_backends.nomad.settings import NomadSettings

_T = TypeVar("_T")
JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
PAGE = 500
"""Allocations in one answer: about a millisecond of the interpreter for each hundred."""
_LIVE = 'ClientStatus != "complete" and ClientStatus != "failed" and ClientStatus != "lost"'


@dataclass(frozen=True, slots=True)
class Registered:
    eval_id: str
    index: int
    """JobModifyIndex of the job."""
    warnings: str


class _Registered(msgspec.Struct, rename="pascal"):
    eval_id: str = msgspec.field(default="", name="EvalID")
    job_modify_index: int = 0
    warnings: str = ""


class HostVolume(msgspec.Struct, frozen=True, rename="pascal"):
    id: str = msgspec.field(default="", name="ID")
    name: str = ""
    node_id: str = msgspec.field(default="", name="NodeID")
    state: str = ""
    """pending, ready, unavailable."""
    host_path: str = ""


class _HostVolumeAnswer(msgspec.Struct, rename="pascal"):
    volume: HostVolume


def _decoder(kind: type[_T]) -> msgspec.json.Decoder[_T]:
    return msgspec.json.Decoder(kind)


_NOTHING: msgspec.json.Decoder[object] = _decoder(object)
_REGISTERED, _JOB, _JOBS = _decoder(_Registered), _decoder(wire.Job), _decoder(list[wire.Job])
_ALLOCATION, _ALLOCATIONS = _decoder(wire.Allocation), _decoder(list[wire.Allocation])
_EVALUATIONS, _NODE, _NODES = _decoder(list[wire.Evaluation]), _decoder(wire.Node), _decoder(list[wire.Node])
_VARIABLE, _VARIABLES = _decoder(wire.Variable), _decoder(list[wire.Variable])
_VOLUME, _VOLUMES = _decoder(_HostVolumeAnswer), _decoder(list[HostVolume])


class NomadClient:
    """Made by `open_client`."""

    def __init__(self, requester: Requester, streams: Streams, silence_ms: int) -> None:
        self._requester, self._streams, self._silence_ms = requester, streams, silence_ms
        self.access = requester.access

    @property
    def namespace(self) -> str:
        """The one that everything is asked of."""
        return self.access.namespace

    # jobs

    async def register(self, job: Mapping[str, JSON]) -> Registered:
        """Create the job if Nomad has none of its id. Raises AlreadyRegistered, and RegistrationRefused when it never will be taken."""
        nomad_id = str(job["ID"])
        body = {"Job": job, "EnforceIndex": True, "JobModifyIndex": 0}
        try:
            answer = (await self._requester.call("PUT", "jobs", _REGISTERED, need="submit-job", body=body)).value
        except Answered as refused:
            meant = registration(refused, nomad_id)
            raise (meant or self._requester.trouble(refused, Asked("PUT /v1/jobs", "submit-job"))) from None
        return Registered(answer.eval_id, answer.job_modify_index, answer.warnings)

    async def deregister(self, nomad_id: str, *, purge: bool = False) -> None:
        """Have it stopped, with `purge` forgotten as well. Unknown: done."""
        params = {"purge": "true"} if purge else {}
        await self._requester.ask("DELETE", f"job/{_q(nomad_id)}", _NOTHING, need="submit-job", params=params)

    async def job(self, nomad_id: str) -> wire.Job | None:
        return _value(await self._requester.ask("GET", f"job/{_q(nomad_id)}", _JOB, need="read-job"))

    async def jobs(self, prefix: str) -> tuple[list[wire.Job], int]:
        """Jobs whose id begins so, with `meta`, and the index at which the list was begun."""
        found: list[wire.Job] = []
        index: int | None = None
        async for page in self._pages("jobs", _JOBS, {"prefix": prefix, "meta": "true"}, need="list-jobs", page=PAGE):
            found += page.value
            index = page.index if index is None else index
        return found, index or 0

    # allocations and evaluations

    async def allocations(self, page: int = PAGE) -> AsyncGenerator[list[wire.Allocation]]:
        """Every allocation of the namespace with its task states, page by page. One that was there from begin to end is in one of them."""
        async for answer in self._pages("allocations", _ALLOCATIONS, {"task_states": "true"}, need="read-job", page=page):
            yield answer.value

    async def used(self) -> list[wire.Allocation]:
        """Those that hold resources, with `allocated_resources`, of all namespaces that the token may see."""
        params = {"namespace": "*", "resources": "true", "task_states": "false", "filter": _LIVE}
        found: list[wire.Allocation] = []
        async for answer in self._pages("allocations", _ALLOCATIONS, params, need="read-job", page=PAGE):
            found += answer.value
        return found

    async def allocations_of(self, nomad_id: str) -> list[wire.Allocation]:
        """Also those of jobs of that id before: a purged one may have left some."""
        answer = await self._requester.ask("GET", f"job/{_q(nomad_id)}/allocations", _ALLOCATIONS, need="read-job", params={"all": "true"})
        return _value(answer) or []

    async def allocation(self, alloc_id: str) -> wire.Allocation | None:
        """With its address and ports. None = Nomad does not know it (any more)."""
        return _value(await self._requester.ask("GET", f"allocation/{_q(alloc_id)}", _ALLOCATION, need="read-job"))

    async def stop_allocation(self, alloc_id: str) -> None:
        """End it without another in its place: Nomad's parameter for that reads backwards (facts: nomad-tried §0.2). Unknown: done."""
        params = {"reschedule": "true"}
        await self._requester.ask("PUT", f"allocation/{_q(alloc_id)}/stop", _NOTHING, need="alloc-lifecycle", params=params)

    async def evaluations_of(self, nomad_id: str) -> list[wire.Evaluation]:
        return _value(await self._requester.ask("GET", f"job/{_q(nomad_id)}/evaluations", _EVALUATIONS, need="read-job")) or []

    # nodes

    async def nodes(self) -> list[wire.Node]:
        """With their resources, without their attributes."""
        found: list[wire.Node] = []
        async for answer in self._pages("nodes", _NODES, {"resources": "true"}, need='node { policy = "read" }', page=PAGE):
            found += answer.value
        return found

    async def node(self, node_id: str) -> wire.Node | None:
        """With its attributes."""
        return _value(await self._requester.ask("GET", f"node/{_q(node_id)}", _NODE, need='node { policy = "read" }'))

    # variables

    async def put_variable(self, path: str, items: Mapping[str, str], cas: int | None = None) -> int:
        """Write it; with `cas` only over the version of that ModifyIndex, 0 = only when there is none. The new ModifyIndex.
        Raises VariableConflict with what is stored."""
        params = {} if cas is None else {"cas": str(cas)}
        body = {"Path": path, "Items": dict(items)}
        need = f'variables {{ path "{path}" {{ capabilities = ["write", "read"] }} }}'
        try:
            answer = await self._requester.call("PUT", f"var/{_q(path, '/')}", _VARIABLE, need=need, params=params, body=body)
        except Answered as refused:
            if refused.status == 409:
                raise VariableConflict(path, await self._stored(path, refused)) from None
            raise self._requester.trouble(refused, Asked(f"PUT /v1/var/{path}", need)) from None
        return answer.value.modify_index

    async def variable(self, path: str) -> wire.Variable | None:
        need = f'variables {{ path "{path}" {{ capabilities = ["read"] }} }}'
        return _value(await self._requester.ask("GET", f"var/{_q(path, '/')}", _VARIABLE, need=need))

    async def delete_variable(self, path: str) -> None:
        """Unknown: done."""
        need = f'variables {{ path "{path}" {{ capabilities = ["destroy"] }} }}'
        await self._requester.ask("DELETE", f"var/{_q(path, '/')}", _NOTHING, need=need)

    async def variables(self, prefix: str) -> list[str]:
        """Paths that begin so."""
        need = f'variables {{ path "{prefix}*" {{ capabilities = ["list"] }} }}'
        found: list[str] = []
        async for answer in self._pages("vars", _VARIABLES, {"prefix": prefix}, need=need, page=PAGE):
            found += [variable.path for variable in answer.value]
        return found

    async def _stored(self, path: str, refused: Answered) -> wire.Variable:
        """What the conflict is with: Nomad says it with the refusal, but for one that may write and not read."""
        try:
            stored = _VARIABLE.decode(refused.body)
        except msgspec.DecodeError:
            stored = wire.Variable()
        return stored if stored.path and stored.items else (await self.variable(path) or stored)

    # dynamic host volumes

    async def host_volume_create(self, volume: Mapping[str, JSON]) -> HostVolume:
        """`volume` as Nomad's API has it (Name, PluginID, NodeID or Constraints, Parameters, RequestedCapabilities). Not ready at once.
        Raises RegistrationRefused when Nomad will not make it, NoHostVolumes when it cannot."""
        asked = Asked("PUT /v1/volume/host/create", "host-volume-create")
        try:
            answer = await self._requester.call("PUT", "volume/host/create", _VOLUME, need=asked.need, body={"Volume": volume})
        except Answered as refused:
            if refused.status == 404:
                raise NoHostVolumes("this Nomad has no dynamic host volumes: use 1.10 or later, or another `work`") from None
            raise (registration(refused, "") or self._requester.trouble(refused, asked)) from None
        return answer.value.volume

    async def host_volumes(self, prefix: str) -> list[HostVolume]:
        """Whose name begins so."""
        found: list[HostVolume] = []
        async for answer in self._pages("volumes", _VOLUMES, {"type": "host"}, need="host-volume-read", page=PAGE):
            found += [volume for volume in answer.value or [] if volume.name.startswith(prefix)]
        return found

    async def host_volume_delete(self, volume_id: str) -> None:
        """With all that lies in it. Unknown: done. In use: BackendUnavailable."""
        asked = Asked(f"DELETE /v1/volume/host/{volume_id}", "host-volume-delete")
        try:
            await self._requester.call("DELETE", f"volume/host/{_q(volume_id)}/delete", _NOTHING, need=asked.need)
        except Answered as refused:
            if not (refused.says_missing or "no such volume" in refused.text):
                raise self._requester.trouble(refused, asked) from None

    # streams

    def events(self, index: int) -> AsyncGenerator[events.EventBatch]:
        """Allocations, evaluations and jobs of the namespace and all nodes, from `index` on, itself included. Nomad passes silently over
        what it no longer has. The first batch comes at once; an empty one is a heartbeat. Never ends but by BackendUnavailable."""
        return events.follow(self._streams, index, self._silence_ms)

    def log(self, alloc_id: str, task: str, stream: Stream, offset: int = 0) -> AsyncGenerator[LogChunk]:
        """What Nomad has of it now; nothing when it has not started. Raises JobNotThere when Nomad has it no longer."""
        return logs.read(self._streams, alloc_id, task, stream, offset)

    async def log_size(self, alloc_id: str, task: str, stream: Stream) -> int:
        """Bytes that `log` gives now from offset 0. Raises JobNotThere when Nomad has it no longer."""
        return await logs.size(self._streams, alloc_id, task, stream)

    async def exec(
        self, alloc_id: str, task: str, argv: Sequence[str], size: TerminalSize | None = None, enter: Sequence[str] = ()
    ) -> shells.NomadShell:
        """Start a program beside the task's own, empty = a shell; with `size` in a terminal. `enter`: words before it, of something that
        becomes it. Nomad writes all words into the log of the node's agent. Raises JobNotThere when no such task runs. To be cancelled only
        when what was started is ended in another way."""
        return await shells.start(self._streams, (alloc_id, task), argv, size, enter)

    # what doctor asks

    async def get(self, path: str, kind: type[_T], *, need: str = "", params: Mapping[str, str] | None = None) -> _T | None:
        """Any other thing; None = Nomad says that it has none."""
        return _value(await self._requester.ask("GET", path, _decoder(kind), need=need, params=params))

    async def allowed(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: Mapping[str, JSON] | None = None
    ) -> bool:
        """Whether Nomad lets the token ask this. For questions that change nothing, whatever else the answer is."""
        try:
            await self._requester.call(method, path, _NOTHING, params=params, body=body)
        except NotAllowed:
            return False
        except Answered:
            return True
        return True

    async def _pages(
        self, path: str, read: msgspec.json.Decoder[list[_T]], params: dict[str, str], *, need: str, page: int
    ) -> AsyncIterator[Answer[list[_T]]]:
        token = ""
        while True:
            more = params | {"per_page": str(page)} | ({"next_token": token} if token else {})
            answer = await self._requester.ask("GET", path, read, need=need, params=more)
            if answer is None:
                return
            yield answer
            token = answer.next_token
            if not token:
                return


@asynccontextmanager
async def open_client(
    settings: NomadSettings, *, environ: Mapping[str, str] = os.environ, clock: Clock | None = None
) -> AsyncGenerator[NomadClient]:
    """Raises BackendUnavailable when what settings or environment say cannot be used; nothing is asked of Nomad."""
    access = await asyncio.to_thread(environment.read, settings, environ)
    requester = Requester(access, settings.timeout_ms)
    streams = Streams(requester, clock or SteadyClock(0), settings.timeout_ms, settings.shells)
    try:
        yield NomadClient(requester, streams, settings.silence_ms)
    finally:
        await streams.close()
        requester.close()


def _q(part: str, safe: str = "") -> str:
    return quote(part, safe=safe)


def _value(answer: Answer[_T] | None) -> _T | None:
    return None if answer is None else answer.value
