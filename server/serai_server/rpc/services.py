"""Every service of the server, put together: the one place that knows which servicer answers which service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import cast

import structlog
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2
from serai.events.v1 import events_service_pb2
from serai.jobs.v1 import jobs_service_pb2
from serai.licenses.v1 import license_servers_service_pb2, licenses_provider_service_pb2, licenses_service_pb2
from serai.sessions.v1 import sessions_service_pb2
from serai.tokens.v1 import tokens_service_pb2
from serai_telemetry.spans import Traces
from structlog.typing import FilteringBoundLogger

from serai_server.clock import Clock
from serai_server.counts import RpcCounts
from serai_server.rpc.access import ANY_IDENTITY, OPEN
from serai_server.rpc.call import Call
from serai_server.rpc.chain import LIMIT_S, Chain
from serai_server.rpc.dispatch import Dispatcher
from serai_server.rpc.events import EventsServicer
from serai_server.rpc.health import Health, HealthServicer
from serai_server.rpc.jobs import JobsServicer
from serai_server.rpc.license_servers import LicenseServersServicer
from serai_server.rpc.licenses import LicensesProviderServicer, LicensesServicer
from serai_server.rpc.methods import Many, methods_of
from serai_server.rpc.ports import (
    Changes,
    Events,
    Jobs,
    LicensePayments,
    Licenses,
    LicenseServers,
    LicensesOfCore,
    Sessions,
    Shells,
    Tokens,
)
from serai_server.rpc.sessions import SessionsServicer
from serai_server.rpc.status import Failures
from serai_server.rpc.tokens import TokensServicer
from serai_server.rpc.traced import TracedChain


def _service(descriptor: object) -> ServiceDescriptor:
    # The type stubs of protobuf name the same class in two ways.
    return cast("ServiceDescriptor", descriptor)


_JOBS = _service(jobs_service_pb2.DESCRIPTOR.services_by_name["JobsService"])
_EVENTS = _service(events_service_pb2.DESCRIPTOR.services_by_name["EventsService"])
_LICENSE_SERVERS = _service(license_servers_service_pb2.DESCRIPTOR.services_by_name["LicenseServersService"])
_LICENSES = _service(licenses_service_pb2.DESCRIPTOR.services_by_name["LicensesService"])
_LICENSES_OF_CORE = _service(licenses_provider_service_pb2.DESCRIPTOR.services_by_name["LicensesProviderService"])
_SESSIONS = _service(sessions_service_pb2.DESCRIPTOR.services_by_name["SessionsService"])
_TOKENS = _service(tokens_service_pb2.DESCRIPTOR.services_by_name["TokensService"])
_HEALTH = _service(health_pb2.DESCRIPTOR.services_by_name["Health"])
_REFLECTION = _service(reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"])
_REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"
"""The same messages under the name that newer clients ask for first."""


def dispatcher(
    *,
    jobs: Jobs,
    changes: Changes,
    events: Events,
    health: Health,
    clock: Clock,
    licenses: Licenses | None = None,
    licenses_of_core: LicensesOfCore | None = None,
    license_servers: LicenseServers | None = None,
    license_payments: LicensePayments | None = None,
    sessions: Sessions | None = None,
    shells: Shells | None = None,
    tokens: Tokens | None = None,
    log: FilteringBoundLogger | None = None,
    limit_s: float = LIMIT_S,
    counts: RpcCounts | None = None,
    traces: Traces | None = None,
) -> Dispatcher:
    """All services behind one chain. `log` None = structlog's; a service of licenses, sessions or tokens that is None is not served.
    `counts` None = nobody wants to know; `traces` None = no spans."""
    logger: FilteringBoundLogger = log or structlog.get_logger("serai.rpc").bind()
    failures = Failures(logger)
    optional: list[tuple[ServiceDescriptor, object]] = []
    if licenses is not None:
        optional.append((_LICENSES, LicensesServicer(licenses)))
    if licenses_of_core is not None:
        optional.append((_LICENSES_OF_CORE, LicensesProviderServicer(licenses_of_core)))
    if license_servers is not None and license_payments is not None:
        optional.append((_LICENSE_SERVERS, LicenseServersServicer(license_servers, license_payments)))
    if tokens is not None:
        optional.append((_TOKENS, TokensServicer(tokens)))
    if sessions is not None:
        optional.append((_SESSIONS, SessionsServicer(sessions, shells)))
    ours = [_JOBS.full_name, _EVENTS.full_name, *(service.full_name for service, _ in optional)]
    mirror = _Reflection([*ours, _HEALTH.full_name, _REFLECTION.full_name])
    methods = [
        *methods_of(_JOBS, JobsServicer(jobs, changes, failures, sessions)),
        *methods_of(_EVENTS, EventsServicer(events, clock)),
        *(method for service, servicer in optional for method in methods_of(service, servicer)),
        *methods_of(_HEALTH, HealthServicer(health, ours), rule=OPEN, rules={"Watch": ANY_IDENTITY}),
        *methods_of(_REFLECTION, mirror, rule=ANY_IDENTITY),
        *methods_of(_REFLECTION, mirror, _REFLECTION_V1, ANY_IDENTITY),
    ]
    chain = Chain(failures, logger, counts=counts, limit_s=limit_s)
    return Dispatcher(chain if traces is None else TracedChain(chain, traces), methods)


class _Reflection:
    """grpc_reflection's asynchronous servicer, which makes no use of its gRPC context."""

    def __init__(self, names: list[str]) -> None:
        self._answer = cast("Many", reflection.aio.ReflectionServicer(names).ServerReflectionInfo)

    def ServerReflectionInfo(self, requests: AsyncIterator[Message], call: Call) -> AsyncIterator[Message]:
        return self._answer(requests, call)
