"""Targets `openapi` and `v1`: requests that schemathesis makes of the documents in docs/api, good and bad ones. An input is one request.

Rules: no 5xx, statuses and kinds of content that the document names, bodies that fit its schemas. UCloud's wire is asked at the gateway, in
both generations; `/v1` through a real Envoy, at a whole Serai as `serai up` runs it.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import tempfile
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fakes.up import up
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis.errors import Unsatisfiable

from fuzz.memory import Watch
from fuzz.site import errors_in, site
from fuzz.tally import Tally, status_class

_DOCUMENTS = Path(__file__).parent.parent / "docs" / "api"
_STREAMS = (":subscribe", ":follow", ":watch")
"""They have no end that one could wait for; the target `grpc` calls the same methods."""
_ADDRESSES = ("LicenseServersService.Add", "LicenseServersService.SetAddresses")
"""The server connects to what these name, and nothing that is made up may be anybody's address."""
_TIMEOUT_S = 30.0
_QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much, HealthCheck.large_base_example]
_HEADERS = frozenset({"host", "connection", "content-length", "transfer-encoding", "authorization", "upgrade", "expect"})
"""Not schemathesis's business: broken HTTP is the target `heads`."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a document's requests go."""

    url: str
    headers: Callable[[str], Mapping[str, str]]
    """For a path."""
    fixed: Mapping[str, str]
    """Of the path's parameters: without these nothing would be found."""
    look: Callable[[], None]


def run_ucloud(inputs: int, seed: int) -> Tally:
    tally = Tally("openapi", seed)
    for generation in ("2021", "2026"):
        asyncio.run(_ucloud(tally, generation, inputs // 2))
    return tally.end()


def run_v1(inputs: int, seed: int) -> Tally:
    tally = Tally("v1", seed)
    asyncio.run(_v1(tally, inputs))
    return tally.end()


async def _ucloud(tally: Tally, generation: str, inputs: int) -> None:
    async with site(tally, generation=generation) as (serai, watch):

        def headers(path: str) -> Mapping[str, str]:
            return serai.user_headers() if path.startswith("/api/") else serai.core_headers()

        place = _Place(serai.url, headers, {"provider": "example"}, lambda: watch.look(tally.inputs))
        await asyncio.to_thread(_Requests(tally, f"ucloud-{generation}", place).send, inputs)


async def _v1(tally: Tally, inputs: int) -> None:
    with tempfile.TemporaryDirectory(prefix="serai-fuzz-") as name:
        async with _behind_envoy(Path(name), tally) as place:
            await asyncio.to_thread(_Requests(tally, "v1", place).send, inputs)


@asynccontextmanager
async def _behind_envoy(folder: Path, tally: Tally) -> AsyncGenerator[_Place]:
    async with up(folder, tls=False, envoy="drain_ms = 0\nrate = 1000000\nflood_rate = 1000000") as serai:
        token = await serai.token("admin")
        assert serai.process is not None
        watch = Watch(serai.process.pid)
        bearer = {"Authorization": f"Bearer {token}"}
        yield _Place(serai.front.url, lambda _: bearer, {}, lambda: watch.look(tally.inputs))
        watch.tell(tally)
        for line in errors_in(serai.log, others=True):
            tally.find(f"in the log: {line[:200]} … {line[-400:]}", line.encode())


class _Requests:
    """Of one document."""

    def __init__(self, tally: Tally, document: str, place: _Place) -> None:
        # By name: it takes a second to import, for these targets alone, and its types are generic in what nobody here knows.
        schemathesis: Any = importlib.import_module("schemathesis")
        general: Any = importlib.import_module("schemathesis.checks")
        checks: Any = importlib.import_module("schemathesis.specs.openapi.checks")
        self._tally = tally
        self._place = place
        schema: Any = schemathesis.openapi.from_dict(json.loads((_DOCUMENTS / f"{document}.json").read_text()))
        found: list[Any] = [result.ok() for result in schema.get_all_operations()]
        self._operations = [one for one in found if not _left_out(one)]
        self._modes: tuple[Any, Any] = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
        self._checks: list[Any] = [
            general.not_a_server_error,
            checks.status_code_conformance,
            checks.content_type_conformance,
            checks.response_schema_conformance,
        ]

    def send(self, inputs: int) -> None:
        """About as many, the same number for each call and both kinds of requests."""
        each = max(1, inputs // (len(self._operations) * len(self._modes)))
        for operation in self._operations:
            for mode in self._modes:
                if not self._tally.full:
                    self._send(operation, mode, each)

    def _send(self, operation: Any, mode: Any, count: int) -> None:
        @seeded(self._tally.seed)
        @settings(max_examples=count, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=_QUIET)
        @given(case=operation.as_strategy(generation_mode=mode))
        def one(case: Any) -> None:
            self._judge(case, self._sent(case))

        try:
            one()
        except Unsatisfiable:
            return  # nothing about this call can be said wrongly

    def _sent(self, case: Any) -> Any:
        for name, value in self._place.fixed.items():
            if case.path_parameters and name in case.path_parameters:
                case.path_parameters[name] = value
        headers: Mapping[str, object] = case.headers or {}
        case.headers = {key: value for key, value in headers.items() if key.lower() not in _HEADERS}
        return case.call(base_url=self._place.url, headers=dict(self._place.headers(case.operation.path)), timeout=_TIMEOUT_S)

    def _judge(self, case: Any, response: Any) -> None:
        self._tally.add(status_class(response.status_code))
        self._place.look()
        try:
            case.validate_response(response, checks=self._checks)
        except (AssertionError, BaseExceptionGroup) as error:  # one failed check, or several
            said = str(error)
            self._tally.find(f"{case.operation.label}, {response.status_code}: {said[:600]}", said.encode())


def _left_out(operation: Any) -> bool:
    identity: str = operation.definition.raw.get("operationId", "")
    return operation.path.endswith(_STREAMS) or identity in _ADDRESSES
