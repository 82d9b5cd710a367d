"""What a license is to a job: whether it may be used, what its program is told of it, and the vendor's key.

The rules are those of Core of 2021 (facts 2021 §5.3), checked here too, because today's Core checks no more than that the user may edit
the license.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import structlog
from serai_backends.errors import BackendUnavailable, SubmissionRefused
from serai_backends.model import Secret

from serai_server.errors import InvalidRequest, LicenseServerUnknown, NotEnoughLicenses, WrongState
from serai_server.licenses import words
from serai_server.licenses.ports import LicenseServers, Reach
from serai_server.licenses.products import LicenseCatalog, LicenseProduct
from serai_server.licenses.requests import is_license_id
from serai_server.licenses.servers.vault import VaultError
from serai_server.store.license_api import LicenseStore
from serai_server.store.license_model import LicenseState, NewClaim, StoredLicense

log = structlog.get_logger("serai.licenses")

MOST_LICENSES = 16
"""Different licenses of one job."""
SECRETS_FOLDER = "/etc/ucloud/secrets"
KEY_VARIABLE = "SERAI_LICENSE_FILE"
"""Paths of the vendors' keys, with colons between."""


class KeyNotRead(BackendUnavailable):
    """The vendor's key cannot be unsealed now. The text is for the job's user: what it is waiting for."""


@dataclass(frozen=True, slots=True)
class Used:
    """A license that a job names."""

    id: str
    where: str
    """Path of the value in the request."""


@dataclass(frozen=True, slots=True)
class Whose:
    """The job that wants to use licenses."""

    owner: str
    project: str
    provider: str
    """Of its machine type."""
    replicas: int


@dataclass(frozen=True, slots=True)
class Told:
    """What a job's programs get."""

    texts: Mapping[str, str]
    """License id → what stands on the command line for it."""
    environment: Mapping[str, str]
    secrets: tuple[str, ...]


NOTHING_TOLD = Told({}, {}, ())


class LicensesInJobs:
    def __init__(self, *, store: LicenseStore, catalog: LicenseCatalog, servers: LicenseServers) -> None:
        self._store = store
        self._catalog = catalog
        self._servers = servers

    async def check(self, used: Iterable[Used], whose: Whose) -> tuple[NewClaim, ...]:
        """The claims of a new job. Raises InvalidRequest for a license that it may not use or that is not there, in the same words;
        WrongState for one that cannot be used now; NotEnoughLicenses for more seats than there are."""
        places: dict[str, str] = {}
        for one in used:
            places.setdefault(one.id, one.where)
        if len(places) > MOST_LICENSES:
            raise InvalidRequest(f"expected at most {MOST_LICENSES} licenses", field=next(iter(places.values())))
        found = await self._store.find([name for name in places if is_license_id(name)])
        claims: dict[str, NewClaim] = {}
        for name, where in places.items():
            row = self._usable(found.get(name), whose, where)
            if row.id not in claims:
                claims[row.id] = NewClaim(row.id, row.product, self._seats(row.product, whose))
                self._check_seats(row.product, claims.values(), where)
        return tuple(claims.values())

    def _usable(self, row: StoredLicense | None, whose: Whose, where: str) -> StoredLicense:
        if row is None or row.deleted_at_ms or not _same_workspace(row, whose):
            raise InvalidRequest("there is no such license in the job's workspace; choose another one", field=where)
        if row.product.partition("/")[0] != whose.provider:
            raise InvalidRequest("the license is of another provider than the machine type", field=where)
        # For one that is being prepared the job waits: users of today's Core are never told that it is not READY (facts today §9).
        if row.state is LicenseState.UNAVAILABLE:
            raise WrongState(f"{where}: not all resources are ready. {row.status}", field=where)
        return row

    def _seats(self, product: str, whose: Whose) -> int:
        plan = self._servers.seats(product)
        return whose.replicas if plan is not None and plan.per_replica else 1

    def _check_seats(self, product: str, claims: Iterable[NewClaim], where: str) -> None:
        """What the licenses of one product need together, for it would never come free. `where` is the last of them."""
        plan = self._servers.seats(product)
        of_product = [claim.seats for claim in claims if claim.product == product]
        if plan is None or not plan.feature or sum(of_product) <= plan.seats:
            return
        fewer = [*(["replicas"] if plan.per_replica else []), *(["licenses of the same product"] if len(of_product) > 1 else [])]
        words = f"the job needs {sum(of_product)} seats of the license and there {'is' if plan.seats == 1 else 'are'} {plan.seats}"
        raise NotEnoughLicenses(f"{where}: {words}; use fewer {' or '.join(fewer)}")

    async def told(self, job_id: str) -> Told:
        """What the programs of a job that has its seats are told. Raises SubmissionRefused when it can never have that, KeyNotRead
        to try again later, and what the store raises."""
        texts: dict[str, str] = {}
        variables: dict[str, list[str]] = {}
        keys: list[str] = []
        for claim in await self._store.claims(job_id):
            product = self._product(claim.product)
            reach = await self._reach(claim.product)
            if product.key_file and reach.key:
                keys.append(secret_name(claim.license_id))
            text = _argument(product, reach, claim.license_id)
            row = await self._store.license(claim.license_id)
            for name in {claim.license_id, row.core_id if row is not None else ""} - {""}:
                texts[name] = text
            for variable in product.environment:
                if reach.port_at_host not in variables.setdefault(variable, []):
                    variables[variable].append(reach.port_at_host)
        if keys:
            variables[KEY_VARIABLE] = [f"{SECRETS_FOLDER}/{name}" for name in keys]
        return Told(texts, {name: ":".join(values) for name, values in variables.items()}, tuple(keys))

    async def secrets(self, job_id: str) -> tuple[Secret, ...]:
        """The vendors' keys for a job that has its seats (SecretSource of backends). Raises as `told`."""
        found: list[Secret] = []
        for claim in await self._store.claims(job_id):
            if not claim.held_at_ms or not self._product(claim.product).key_file:
                continue
            reach = await self._reach(claim.product)
            if reach.key:
                # A backend takes what the job was told of, and nothing more.
                found.append(Secret(secret_name(claim.license_id), reach.key))
        return tuple(found)

    def _product(self, key: str) -> LicenseProduct:
        product = self._catalog.by_key(key)
        if product is None:
            raise SubmissionRefused(words.NOT_SOLD)
        return product

    async def _reach(self, product: str) -> Reach:
        try:
            return await self._servers.reach(product)
        except LicenseServerUnknown as error:
            raise SubmissionRefused(words.NO_SERVER) from error
        except VaultError as error:
            # An operator has to put the file back; the job need not be lost for that.
            log.warning("license_server.key_not_read", product=product, why=f"its key cannot be unsealed: {error}")
            raise KeyNotRead(words.KEY_NOT_READ) from error


def secret_name(license_id: str) -> str:
    return f"license-{license_id}"


def _same_workspace(row: StoredLicense, whose: Whose) -> bool:
    return row.project == whose.project and (bool(row.project) or row.owner == whose.owner)


def _argument(product: LicenseProduct, reach: Reach, license_id: str) -> str:
    host, port = reach.addresses[0]
    match product.argument:
        case "port_at_host":
            return reach.port_at_host
        case "file":
            return f"{SECRETS_FOLDER}/{secret_name(license_id)}"
        case "address":
            return f"{host}:{port}"
        case "address_and_key":
            key = reach.key.decode("utf-8", "replace").strip()
            if "\0" in key:
                raise SubmissionRefused(words.KEY_NO_ARGUMENT)
            return f"{host}:{port}/{key}" if key else f"{host}:{port}"
