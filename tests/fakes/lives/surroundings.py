"""What a server process has around it: the machine as its backend, Core as its transport, and itself as the gateway's upstream."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from random import Random

from serai_backends.common.board import Board
from serai_backends.errors import BackendUnavailable, CursorExpired
from serai_backends.model import Capacity, CheckReport, Features, JobObservation, LogChunk, ReplicaSpec, Stream, WatchEvent
from serai_devcore.accounts import Accounts, Product
from serai_devcore.jobs import JobBook
from serai_devcore.wire import CoreError, Generation, JsonObject, parse, read_items
from serai_gateway.control.transport import Answer, CoreUnreachable
from serai_gateway.upstream import Upstream

from fakes.clock import FakeClock
from fakes.lives.machine import Machine
from fakes.lives.plan import PERIODS, PRICE, Life
from fakes.lives.power import Power

PROVIDER, CATEGORY = "example", "example-compute"


class MachineBackend:
    """The machine as one server process sees it. Calls fail now and then, before or after their effect, and watches break."""

    def __init__(self, machine: Machine, clock: FakeClock, power: Power, dice: Random) -> None:
        self._machine = machine
        self._clock = clock
        self._power = power
        self._dice = dice
        self._board = Board()
        machine.listener = self._publish

    @property
    def name(self) -> str:
        return "scripted"

    @property
    def features(self) -> Features:
        return Features(suspension=True, time_extension=True)

    async def submit(self, spec: ReplicaSpec) -> None:
        await self._before()
        self._machine.submit(spec, self._clock.now_ms())
        await self._after()

    async def cancel(self, job_id: str, grace_ms: int = 0) -> None:
        del grace_ms  # how long an end takes is in the script
        await self._before()
        self._machine.cancel(job_id, self._clock.now_ms())
        await self._after()

    async def suspend(self, job_id: str) -> None:
        await self._before()
        self._machine.suspend(job_id, self._clock.now_ms())
        await self._after()

    async def resume(self, job_id: str) -> None:
        await self._before()
        self._machine.resume(job_id, self._clock.now_ms())
        await self._after()

    async def inspect(self, job_id: str) -> JobObservation | None:
        await self._before()
        found = self._machine.inspect(job_id)
        await self._after()
        return found

    async def forget(self, job_id: str) -> None:
        await self._before()
        self._machine.forget(job_id)
        self._board.remove(job_id)
        await self._after()

    async def list(self) -> Sequence[JobObservation]:
        await self._power.cross()
        return [p.observation(i) for i, p in self._machine.programs.items() if not p.forgotten]

    async def watch(self, after: int | None = None) -> AsyncIterator[WatchEvent]:
        async for event in self._board.watch(after):
            await self._power.cross()
            match self._dice.random():
                case chance if chance < 0.005:
                    raise BackendUnavailable("the watch broke")
                case chance if chance < 0.01:
                    raise CursorExpired("too much has happened since")
                case _:
                    yield event

    def logs(
        self,
        job_id: str,
        rank: int,
        stream: Stream,
        offset: int = 0,
        *,
        tail: int | None = None,
        follow: bool = False,
        output_folder: str = "",
    ) -> AsyncIterator[LogChunk]:
        raise NotImplementedError("no program here prints")

    async def capacity(self) -> Capacity:
        return Capacity(1, 1, 0, 0, 0, 0)

    async def check(self) -> CheckReport:
        return CheckReport()

    async def close(self) -> None:
        self._board.close()

    async def _before(self) -> None:
        await self._power.cross()
        if self._dice.random() < 0.01:
            raise BackendUnavailable("not reached")

    async def _after(self) -> None:
        await self._power.cross()
        if self._dice.random() < 0.01:
            raise BackendUnavailable("the answer was lost")

    def _publish(self, job_id: str) -> None:
        seen = self._machine.inspect(job_id)
        if seen is not None:
            self._board.publish(seen)


class CoreSide:
    """UCloud/Core with real books (serai_devcore's); it outlives every server."""

    def __init__(self, generation: Generation, clock: FakeClock, lives: Sequence[Life], dice: Random) -> None:
        self.generation = generation
        self._clock = clock
        self._dice = dice
        self.jobs = JobBook(generation, clock)
        self.accounts = Accounts(generation, clock, self.jobs, initial_credits=10**15)
        for name in PERIODS:
            self.accounts.add_product(Product(name, CATEGORY, PROVIDER, price_per_unit=PRICE))
        for life in lives:
            self.jobs.insert(_document(life))
        self.away_until_ms = 0
        self.lost_answers = 0

    def answer(self, path: str, body: bytes) -> Answer:
        """Raises CoreUnreachable, before its effect or after it."""
        now_ms = self._clock.now_ms()
        if now_ms < self.away_until_ms:
            raise CoreUnreachable("no connection")
        if path == "/auth/providers/refresh":
            claims = json.dumps({"iat": now_ms // 1000, "exp": now_ms // 1000 + 900}).encode()
            token = f"e30.{base64.urlsafe_b64encode(claims).rstrip(b'=').decode()}.c2ln"
            return Answer(200, json.dumps({"responses": [{"accessToken": token}]}).encode())
        luck = self._dice.random()
        if luck < 0.03:
            raise CoreUnreachable("no connection")
        if luck < 0.04:
            return Answer(503, b"busy")
        if luck < 0.05:
            return Answer(500, b'{"why": "Internal error"}')
        answer = self._do(path, body)
        if luck < 0.12:
            self.lost_answers += 1
            raise CoreUnreachable("the answer was lost")
        return answer

    def _do(self, path: str, body: bytes) -> Answer:
        try:
            return Answer(200, json.dumps(self._result(path, read_items(parse(body)))).encode())
        except CoreError as error:
            return Answer(error.status, json.dumps(error.body(self.generation)).encode())

    def _result(self, path: str, items: list[JsonObject]) -> JsonObject:
        match path:
            case "/api/jobs/control/update":
                self.jobs.update(PROVIDER, items)
                return {}
            case "/api/jobs/control/chargeCredits":
                return self.accounts.charge(PROVIDER, items)
            case "/api/accounting/v2/reportUsage" if self.generation is Generation.G2026:
                return self.accounts.report_usage(PROVIDER, items)
            case _:
                raise CoreError(404, "Not found")


class CoreTransport:
    """One process's way to Core."""

    def __init__(self, core: CoreSide, power: Power) -> None:
        self._core = core
        self._power = power

    async def post(self, path: str, body: bytes, bearer: str | None) -> Answer:
        assert bearer or path == "/auth/providers/refresh"
        await self._power.cross()
        await asyncio.sleep(0)  # a call takes its time, in which others go on
        answer = self._core.answer(path, body)
        await self._power.cross()
        return answer

    async def get(self, path: str, bearer: str | None) -> Answer:
        raise NotImplementedError(f"deliveries read nothing: {path} {bearer is None}")


class PoweredUpstream:
    """The gateway's way to the server of the same process."""

    def __init__(self, inner: Upstream, power: Power) -> None:
        self._inner = inner
        self._power = power

    async def unary(self, method: str, request: bytes, metadata: Mapping[str, str], timeout_s: float) -> bytes:
        await self._power.cross()
        answer = await self._inner.unary(method, request, metadata, timeout_s)
        await self._power.cross()
        return answer

    def stream(self, method: str, request: bytes, metadata: Mapping[str, str]) -> AsyncIterator[bytes]:
        return self._inner.stream(method, request, metadata)


def _document(life: Life) -> JsonObject:
    return {
        "id": life.id,
        "owner": {"createdBy": life.owner, "project": life.project or None},
        "specification": {"product": {"id": life.product, "category": CATEGORY, "provider": PROVIDER}, "replicas": life.replicas},
    }
