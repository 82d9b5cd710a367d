"""serai.toml, the one settings file: found, read, checked and made into what server and gateway want.

Relative paths are relative to the file's folder, so that a file means the same from wherever the command is run.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, inspect
from serai_backends.model import Resources
from serai_gateway import settings as gateway

from serai_server.cli.environment import merge
from serai_server.cli.toml_errors import unknown_keys, wrong_values
from serai_server.jobs.folders import component
from serai_server.jobs.products import DAY_MS, HOUR_MS, MINUTE_MS, Product
from serai_server.license_settings import LicensesSettings
from serai_server.licenses.products import LicenseProduct
from serai_server.nomad_settings import NomadBackendSettings
from serai_server.settings import (
    BackendSettings,
    DrivesSettings,
    JobsSettings,
    MetricsSettings,
    ProductSettings,
    ServerSettings,
    SessionsSettings,
    StoreSettings,
    TracesSettings,
)
from serai_server.socket_path import too_long
from serai_server.tools_settings import client_contradictions

DEFAULT_FILE = "serai.toml"
ENVIRONMENT = "SERAI_CONFIG"

_PERIOD_MS = {"minute": MINUTE_MS, "hour": HOUR_MS, "day": DAY_MS, "unit": 0}
_HIGHEST_PORT = 65_535
_NOMAD_FILES = ("token_file", "ca_cert", "ca_path", "client_cert", "client_key")


class ConfigError(Exception):
    """The file cannot be read or is wrong; `problems` has one line for each thing, with the key's path."""

    def __init__(self, file: Path, problems: list[str]) -> None:
        super().__init__(f"{file}: " + "; ".join(problems))
        self.file = file
        self.problems = problems


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    server: ServerSettings = ServerSettings()
    store: StoreSettings = StoreSettings()
    jobs: JobsSettings = JobsSettings()
    sessions: SessionsSettings = SessionsSettings()
    metrics: MetricsSettings = MetricsSettings()
    traces: TracesSettings = TracesSettings()
    drives: DrivesSettings = DrivesSettings()
    backend: BackendSettings = BackendSettings()
    products: Annotated[tuple[ProductSettings, ...], Meta(min_length=1)]
    licenses: LicensesSettings = LicensesSettings()
    provider: gateway.ProviderSettings
    core: gateway.CoreSettings
    gateway: gateway.GatewaySettings = gateway.GatewaySettings()

    @property
    def state_dir(self) -> Path:
        return Path(self.server.state_dir)

    @property
    def socket(self) -> Path:
        return Path(self.server.socket)

    def sold(self) -> tuple[Product, ...]:
        """The products, as the server's catalog takes them."""
        return tuple(
            Product(
                id=p.id,
                category=p.category,
                provider=p.provider,
                resources=Resources(cpu=p.cpu, memory_bytes=int(p.memory_gib * 2**30), gpu=p.gpu),
                period_ms=_PERIOD_MS[p.price_unit],
                price=p.price_per_unit,
                tools=frozenset(p.tools),
                without=frozenset(p.without),
            )
            for p in self.products
        )

    def sold_licenses(self) -> tuple[LicenseProduct, ...]:
        """The license products, as the server takes them."""
        return tuple(
            LicenseProduct(
                id=p.id,
                category=p.category,
                provider=p.provider,
                description=p.description or p.id,
                tags=p.tags,
                price=p.price_per_unit,
                environment=p.environment,
                key_file=p.key_file,
                argument=p.argument,
            )
            for p in self.licenses.products
        )

    def for_gateway(self, *, tcp: bool = True) -> gateway.Settings:
        """`tcp`: as gateway.Settings has it."""
        return gateway.Settings(
            provider=self.provider,
            core=self.core,
            gateway=self.gateway,
            tcp=tcp,
            tools_socket=self.server.tools.socket,
            registration_file=str(self.state_dir / "registration.json"),
        )


SHAPE = inspect.type_info(Settings)
"""The file's shape as data: for errors in words, and for the test that each setting is in the docs."""


def load(file: Path) -> Settings:
    """Read and check a file, with what the environment says of the front door; all paths in the answer are absolute, and all empty defaults
    filled in. Raises ConfigError."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is not UTF-8 text"
        raise ConfigError(file, [f"it cannot be read: {reason}"]) from error
    return parse(text, file, os.environ)


def parse(text: str, file: Path, environment: Mapping[str, str] | None = None) -> Settings:
    """As `load`, of a text that stands for the contents of `file`; `environment` None = an empty one."""
    try:
        raw = tomllib.loads(text)
        problems = [*merge(raw, environment or {}), *unknown_keys(raw, SHAPE), *wrong_values(raw, Settings)]
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(file, [f"it is not TOML: {error}"]) from error
    except RecursionError as error:
        raise ConfigError(file, ["it cannot be read: lists or tables in it are nested too deep"]) from error
    except ValueError as error:
        # TOML sets no limit to the digits of a whole number, Python does.
        raise ConfigError(file, [f"it cannot be read: {error}"]) from error
    if problems:
        raise ConfigError(file, problems)
    settings = _filled_in(msgspec.convert(raw, Settings), file.absolute().parent)
    problems = _contradictions(settings)
    if problems:
        raise ConfigError(file, problems)
    return settings


def _filled_in(read: Settings, folder: Path) -> Settings:
    state = folder / read.server.state_dir
    local = read.backend.local
    replace = msgspec.structs.replace
    return replace(
        read,
        server=replace(
            read.server,
            state_dir=str(state),
            socket=str(folder / read.server.socket if read.server.socket else state / "serai.sock"),
            tools=read.server.tools.relative_to(folder, state),
        ),
        store=replace(read.store, url=_store_url(read.store.url, folder, state)),
        backend=replace(
            read.backend,
            local=replace(
                local, drives_dir=str(folder / local.drives_dir), program_dirs=tuple(str(folder / p) for p in local.program_dirs)
            ),
            nomad=_nomad_filled_in(read.backend.nomad, folder),
        ),
        drives=replace(read.drives, mapped=tuple(replace(d, path=str(folder / d.path)) for d in read.drives.mapped)),
        products=tuple(replace(p, provider=p.provider or read.provider.id) for p in read.products),
        core=read.core.relative_to(folder),
        gateway=read.gateway.relative_to(folder, state),
        licenses=_licenses_filled_in(read, folder, state),
    )


def _nomad_filled_in(read: NomadBackendSettings, folder: Path) -> NomadBackendSettings:
    files = {name: str(folder / path) if (path := str(getattr(read, name))) else "" for name in _NOMAD_FILES}
    return msgspec.structs.replace(read, drives_dir=str(folder / read.drives_dir), **files)


def _licenses_filled_in(read: Settings, folder: Path, state: Path) -> LicensesSettings:
    replace, found = msgspec.structs.replace, read.licenses
    key = folder / found.encryption_key_file if found.encryption_key_file else state / "licenses.key"
    return replace(
        found,
        encryption_key_file=str(key),
        lmutil=str(folder / found.lmutil) if found.lmutil else "",
        products=tuple(replace(p, provider=p.provider or read.provider.id) for p in found.products),
    )


def _store_url(url: str, folder: Path, state: Path) -> str:
    if not url:
        return f"sqlite:///{state / 'serai.db'}"
    kind, _, path = url.partition(":///")
    return f"sqlite:///{folder / path}" if kind == "sqlite" else url


def _contradictions(settings: Settings) -> list[str]:
    """What no single value shows to be wrong."""
    problems: list[str] = []
    for name, listen in (("listen", settings.metrics.listen), ("gateway_listen", settings.metrics.gateway_listen)):
        if listen and int(listen.rpartition(":")[2]) > _HIGHEST_PORT:
            problems.append(f"metrics.{name}: a port is at most {_HIGHEST_PORT}")
    problems += too_long({"server.socket": settings.server.socket})
    problems += settings.server.tools.contradictions() + client_contradictions(settings.server.clients)
    ids: set[str] = set()
    for index, drive in enumerate(settings.drives.mapped):
        if drive.id in ids:
            problems.append(f"drives.mapped[{index}].id: {drive.id} is there twice")
        elif component(drive.id) != drive.id:
            problems.append(f"drives.mapped[{index}].id: expected printable characters and at most 100 bytes")
        ids.add(drive.id)
    seen: set[tuple[str, str, str]] = set()
    for index, product in enumerate(settings.products):
        key = (product.provider, product.category, product.id)
        if key in seen:
            problems.append(f"products[{index}]: {product.category}/{product.id} is there twice")
        seen.add(key)
        if product.provider not in settings.provider.names:
            problems.append(f"products[{index}].provider: {product.provider!r} is neither provider.id nor one of provider.aliases")
    return problems + _license_contradictions(settings) + _nomad_contradictions(settings) + _gateway_contradictions(settings)


def _gateway_contradictions(settings: Settings) -> list[str]:
    web, public = settings.gateway.web, urlsplit(settings.gateway.public_url)
    problems = too_long(
        {"gateway.socket": settings.gateway.socket, "gateway.web.authz_socket": web.authz_socket if web.mode != "off" else ""}
    )
    if web.mode != "host":
        return problems
    if not web.domain:
        problems.append("gateway.web.domain: mode host needs the domain below which the pages' names are")
    elif f".{public.hostname or ''}".endswith(f".{web.domain}"):
        problems.append(f"gateway.web.domain: {public.hostname} of gateway.public_url is in it; pages need a domain of their own")
    return problems


def _license_contradictions(settings: Settings) -> list[str]:
    problems: list[str] = []
    seen = {(product.provider, product.category, product.id) for product in settings.products}
    for index, product in enumerate(settings.licenses.products):
        key = (product.provider, product.category, product.id)
        at = f"licenses.products[{index}]"
        if key in seen:
            problems.append(f"{at}: there is a product {product.category}/{product.id} already")
        seen.add(key)
        if product.provider not in settings.provider.names:
            problems.append(f"{at}.provider: {product.provider!r} is neither provider.id nor one of provider.aliases")
        if product.argument == "file" and not product.key_file:
            problems.append(f"{at}.argument: file is the path of the key's file, and key_file is off")
    return problems


def _nomad_contradictions(settings: Settings) -> list[str]:
    nomad = settings.backend.nomad
    problems: list[str] = []
    placed = [placement.product for placement in nomad.placements]
    sold = {f"{product.category}/{product.id}": product for product in settings.products}
    if settings.backend.kind == "nomad":
        problems += [
            f"backend.nomad.placements: the machine type {name} has none; add one for it, or one for `*`"
            for name in sold
            if name not in placed and "*" not in placed
        ]
    for index, placement in enumerate(nomad.placements):
        at = f"backend.nomad.placements[{index}]"
        if placement.product in placed[:index]:
            problems.append(f"{at}.product: {placement.product} has a placement already")
        elif placement.product != "*" and placement.product not in sold:
            problems.append(f"{at}.product: the settings sell no machine type {placement.product}")
        if placement.driver == "exec" and nomad.work != "volume":
            problems.append(f'{at}.driver: exec mounts no folders; it needs backend.nomad.work = "volume"')
        if any(not text.startswith("${") for text in placement.constraints):
            problems.append(f"{at}.constraints: an attribute of Nomad stands in ${{…}}, such as ${{attr.cpu.arch}} = amd64")
        wants_gpu = [name for name, product in sold.items() if product.gpu and placement.product in {name, "*"}]
        if wants_gpu and not placement.device and settings.backend.kind == "nomad":
            problems.append(f"{at}.device: the machine type {wants_gpu[0]} has GPUs; name Nomad's device, such as nvidia/gpu")
        if placement.driver == "raw_exec" and not nomad.raw_exec:
            problems.append(f"backend.nomad.placements[{index}].driver: raw_exec is off; backend.nomad.raw_exec = true allows it")
    if nomad.firewall.enabled and nomad.network == "host":
        problems.append("backend.nomad.firewall.enabled: replicas in the host's network cannot have a firewall of their own")
    return problems + _proxy_contradictions(settings) + _certificate_contradictions(nomad)


def _proxy_contradictions(settings: Settings) -> list[str]:
    wall = settings.backend.nomad.firewall
    problems: list[str] = []
    if not wall.enabled:
        return problems
    try:
        jobs = [ip_network(text, strict=False) for text in wall.job_networks]
        proxies = [ip_network(text, strict=False) for text in wall.proxies]
    except ValueError as error:
        return [f"backend.nomad.firewall: {error}"]
    for index, proxy in enumerate(proxies):
        if any(proxy.overlaps(network) for network in jobs):
            why = f"{proxy} is in job_networks, and other jobs come with such addresses"
            problems.append(f"backend.nomad.firewall.proxies[{index}]: {why}. Name the gateway's and Envoy's own")
    if settings.backend.kind == "nomad" and settings.gateway.web.mode != "off" and not wall.proxies:
        why = "gateway.web.mode is on, and the replicas' firewalls let nobody in"
        problems.append(f"backend.nomad.firewall.proxies: {why}; name the addresses of the gateway and of Envoy")
    return problems


def _certificate_contradictions(nomad: NomadBackendSettings) -> list[str]:
    if (nomad.client_cert == "") != (nomad.client_key == ""):
        return ["backend.nomad.client_cert and backend.nomad.client_key: one does nothing without the other"]
    return []
