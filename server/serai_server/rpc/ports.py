"""What the front needs of the use cases behind it. JobsService and EventLog have these shapes; tests bring fakes with their rules."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from serai.core.v1.resources_pb2 import ProductReference, ResourceOwner
from serai.jobs.v1.job_pb2 import ComputeSupport, Job
from serai.jobs.v1.jobs_service_pb2 import (
    ExtendItem,
    FollowRequest,
    FollowResponse,
    JobReport,
    ListRequest,
    ListResponse,
    SubmitRequest,
    SubmitResponse,
    UpdateAclItem,
)
from serai.licenses.v1.license_pb2 import License, LicenseSpecification, LicenseSupport, Maintenance, ResolvedLicenseSupport
from serai.licenses.v1.license_servers_service_pb2 import (
    LicenseFeature,
    LicensePayment,
    LicenseServer,
    LicenseServerAddress,
    LicenseServerReport,
    MaintenanceWindow,
    PaymentDecision,
)
from serai.licenses.v1.licenses_provider_service_pb2 import ProviderUpdatedAcl
from serai.licenses.v1.licenses_service_pb2 import BrowseRequest, LicenseIncludeFlags, SearchRequest, UpdatedAcl
from serai.sessions.v1.sessions_service_pb2 import ShellRequest, ShellResponse
from serai_backends.model import Capacity

from serai_server.events.consumers import Asker, ConsumerReport
from serai_server.jobs.origin import Tool
from serai_server.licenses.access import Actor
from serai_server.sessions.openable import Wanted
from serai_server.sessions.service import Asked, Authorized, Opened
from serai_server.sessions.session import Session
from serai_server.store.model import EventSettlement, StoredEvent
from serai_server.store.token_model import StoredToken


class Jobs(Protocol):
    """The use cases of jobs (serai_server.jobs.service). All may raise SeraiError and what store and backends raise."""

    async def create(self, items: Sequence[Job], tool: Tool | None = None) -> None: ...

    async def submit(self, request: SubmitRequest, tool: Tool | None = None) -> SubmitResponse: ...

    async def of_project(self, job_ids: Sequence[str], project: str) -> Sequence[bool]:
        """For each id, whether it is one of a job of this project."""
        ...

    def products(self) -> Sequence[ComputeSupport]: ...

    async def utilization(self) -> Capacity: ...

    async def get(self, job_id: str) -> JobReport: ...

    async def list(self, request: ListRequest) -> ListResponse: ...

    def watch(self, job_id: str) -> AsyncIterator[JobReport]: ...

    def follow(self, request: FollowRequest) -> AsyncIterator[FollowResponse]: ...


class Changes(Protocol):
    """What may be asked of jobs that exist (serai_server.jobs.changes)."""

    async def terminate(self, items: Sequence[Job], *, for_core: bool) -> None: ...

    async def extend(self, items: Sequence[ExtendItem]) -> None: ...

    async def extend_by(self, job_ids: Sequence[str], added_ms: int) -> None: ...

    async def extend_to(self, job_ids: Sequence[str], time_limit_ms: int) -> None: ...

    async def suspend(self, job_ids: Sequence[str], at: str = "items") -> None: ...

    async def unsuspend(self, job_ids: Sequence[str], at: str = "items") -> None: ...

    async def verify(self, items: Sequence[Job], *, cautious: bool = False) -> None: ...

    async def update_acl(self, items: Sequence[UpdateAclItem]) -> None: ...

    async def update_labels(self, items: Sequence[Job]) -> None: ...

    async def disown(self, job_ids: Sequence[str]) -> None: ...


class Events(Protocol):
    """The event log (serai_server.events)."""

    def subscribe(self, consumer: str, from_now: bool, batch_size: int, asker: Asker) -> AsyncIterator[Sequence[StoredEvent]]:
        """`batch_size` 0 = the most that there may be in one."""
        ...

    async def acknowledge(self, consumer: str, settlements: Sequence[EventSettlement], asker: Asker) -> None: ...

    async def consumers(self) -> Sequence[ConsumerReport]: ...

    async def drop(self, consumer: str) -> None: ...

    async def give(self, consumer: str, owner: str) -> None: ...


class Sessions(Protocol):
    """The use cases of sessions (serai_server.sessions.service)."""

    async def open(self, items: Sequence[Wanted], user: str = "") -> list[Opened]: ...

    async def redeem(self, asked: Asked) -> tuple[Session, str]: ...

    async def authorize(self, asked: Asked) -> Authorized: ...

    def hold(self, asked: Asked) -> AsyncIterator[Authorized]: ...

    async def list(self, job_id: str = "") -> Sequence[Session]: ...

    async def close(self, session_id: str) -> None: ...


class Shells(Protocol):
    """Terminals (serai_server.sessions.shells)."""

    def shell(self, requests: AsyncIterator[ShellRequest], *, holder: bool) -> AsyncIterator[ShellResponse]:
        """See SessionsService.Shell. `holder`: the caller shows a session's secret, and may not name a program."""
        ...


class Tokens(Protocol):
    """The use cases of tokens (serai_server.tokens.service)."""

    async def create(self, name: str, role: int, project: str, lifetime_ms: int | None, created_by: str) -> tuple[StoredToken, str]: ...

    async def list(self, *, every: bool) -> Sequence[StoredToken]: ...

    async def revoke(self, token_id: str, by: str) -> StoredToken: ...


class LicenseServers(Protocol):
    """What the operator may ask of license servers (serai_server.licenses.servers.operations)."""

    async def add(self, server: LicenseServer, key: bytes) -> LicenseServerReport: ...

    async def list(self) -> Sequence[LicenseServerReport]: ...

    async def get(self, name: str) -> LicenseServerReport: ...

    async def remove(self, name: str, *, force: bool) -> None: ...

    async def set_key(self, name: str, key: bytes) -> None: ...

    async def set_seats(self, name: str, features: Sequence[LicenseFeature]) -> LicenseServerReport: ...
    async def set_addresses(self, name: str, addresses: Sequence[LicenseServerAddress], vendor_port: int | None) -> LicenseServerReport: ...

    async def probe(self, name: str) -> LicenseServerReport: ...

    async def rotate_key(self) -> int: ...

    async def add_maintenance(self, product: ProductReference, maintenance: Maintenance) -> MaintenanceWindow: ...

    async def list_maintenance(self) -> Sequence[MaintenanceWindow]: ...

    async def remove_maintenance(self, window_id: str) -> None: ...


class LicensePayments(Protocol):
    """What the operator may ask of money for licenses (serai_server.licenses.payments)."""

    async def get(self, name: str) -> LicensePayment: ...

    async def list(self) -> Sequence[LicensePayment]: ...

    async def set(self, name: str, decision: PaymentDecision.ValueType) -> LicensePayment: ...

    async def register_again(self, name: str) -> None: ...


class Licenses(Protocol):
    """The use cases of licenses for users and operators (serai_server.licenses.service)."""

    async def browse(self, request: BrowseRequest, actor: Actor) -> tuple[int, list[License], str]: ...

    async def search(self, request: SearchRequest, actor: Actor) -> tuple[int, list[License], str]: ...

    async def retrieve(self, license_id: str, flags: LicenseIncludeFlags, actor: Actor) -> License: ...

    async def products(self) -> dict[str, list[ResolvedLicenseSupport]]: ...

    async def create(self, items: Sequence[LicenseSpecification], owner: ResourceOwner, actor: Actor) -> list[str]: ...

    async def delete(self, ids: Sequence[str], actor: Actor) -> None: ...

    async def update_acl(self, items: Sequence[UpdatedAcl], actor: Actor) -> None: ...

    async def init(self, actor: Actor) -> None: ...


class LicensesOfCore(Protocol):
    """The use cases of licenses for UCloud/Core (serai_server.licenses.provider)."""

    async def create(self, items: Sequence[License]) -> None: ...

    async def delete(self, items: Sequence[License]) -> None: ...

    async def verify(self, items: Sequence[License]) -> None: ...

    async def support(self) -> list[LicenseSupport]: ...

    async def update_acl(self, items: Sequence[ProviderUpdatedAcl]) -> None: ...

    async def update_labels(self, items: Sequence[License]) -> None: ...

    async def init(self) -> None: ...
