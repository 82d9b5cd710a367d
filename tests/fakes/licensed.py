"""Jobs and servers with licenses, for tests of the server's inside: a real fake license server over TCP, one product, one license."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from serai.core.v1.resources_pb2 import ProductReference, ResourceOwner
from serai.jobs.v1.job_pb2 import Job
from serai.licenses.v1.license_pb2 import License, LicenseSpecification
from serai.licenses.v1.license_servers_service_pb2 import (
    SEATS_PER_JOB,
    SEATS_PER_REPLICA,
    LicenseFeature,
    LicenseServer,
    LicenseServerAddress,
)
from serai_backends.api import SecretSource
from serai_backends.model import Features
from serai_server.licenses.products import LicenseProduct
from serai_server.licensing import LicensesPlan
from serai_server.main import Core
from serai_server.store.license_model import LicenseState

from fakes.clock import FakeClock
from fakes.core_on import job, patiently
from fakes.instant import InstantBackend

PRODUCT = LicenseProduct("example-license", "example-license", "example")
"""Without a price: jobs use it at once, without a word of Core."""
PRICED = LicenseProduct("example-license", "example-license", "example", price=1)


PROBE_TIMEOUT_MS = 10 * 365 * 24 * 3_600_000
"""Its connections are real ones and its clock is a test's, in which a minute can pass before the kernel has answered."""


class SecretsBackend(InstantBackend):
    """Of the kind that gives jobs their secrets."""

    source: SecretSource | None = None

    @property
    def features(self) -> Features:
        return Features(logs=True, suspension=True, secrets=True)

    def take_secrets_from(self, source: SecretSource) -> None:
        self.source = source


def licenses_plan(folder: Path, *products: LicenseProduct) -> LicensesPlan:
    return LicensesPlan(key_file=folder / "licenses.key", products=products or (PRODUCT,), probe_timeout_ms=PROBE_TIMEOUT_MS)


def reference(product: LicenseProduct = PRODUCT) -> ProductReference:
    return ProductReference(id=product.id, category=product.category, provider=product.provider)


def license_message(license_id: str, owner: str = "user", project: str = "", product: LicenseProduct = PRODUCT) -> License:
    """As Core sends it."""
    return License(
        id=license_id,
        owner=ResourceOwner(created_by=owner, project=project or None),
        specification=LicenseSpecification(product=reference(product)),
    )


def server_message(
    port: int,
    seats: int = 0,
    *,
    name: str = "lm",
    product: LicenseProduct = PRODUCT,
    features: Sequence[str] = ("solver",),
    per_replica: bool = False,
) -> LicenseServer:
    """On this machine; `seats` 0 = not counted."""
    return LicenseServer(
        name=name,
        addresses=[LicenseServerAddress(host="127.0.0.1", port=port)],
        product=reference(product),
        features=[LicenseFeature(name=feature, seats=seats) for feature in features] if seats else [],
        seats_per=SEATS_PER_REPLICA if per_replica else SEATS_PER_JOB,
    )


def licensed_job(job_id: str, *words: str, licenses: Sequence[str] = ("5123",), replicas: int = 1, minutes: int = 60) -> Job:
    """A job whose first license is the value of the parameter `license`, which stands on its command line, and the others resources."""
    message = job(job_id, *words, replicas=replicas, minutes=minutes)
    invocation = message.status.resolved_application.invocation
    invocation.parameters.add().license_server.name = "license"
    invocation.invocation.add().var.variable_names.append("license")
    message.specification.parameters["license"].license_server.id = licenses[0]
    for license_id in licenses[1:]:
        message.specification.resources.add().license_server.id = license_id
    return message


async def ready(core: Core, license_id: str = "5123") -> None:
    """Until the license is."""
    await stands(core, LicenseState.READY, license_id)


async def stands(core: Core, state: LicenseState, license_id: str = "5123", clock: FakeClock | None = None) -> None:
    """Until the license does. A clock that is given moves on meanwhile."""

    async def as_wanted() -> bool:
        row = await core.store.licenses.license(license_id)
        return row is not None and row.state is state

    await patiently(as_wanted, clock)
