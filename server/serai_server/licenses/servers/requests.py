"""What an operator may ask of license servers and maintenance: each field checked, with its path."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from serai.core.v1.resources_pb2 import ProductReference
from serai.licenses.v1 import license_servers_service_pb2 as pb
from serai.licenses.v1.license_pb2 import Maintenance, MaintenanceAvailability

from serai_server.errors import InvalidRequest
from serai_server.licenses.products import LicenseCatalog, LicenseProduct

LONGEST_KEY = 48 * 1024
_NAME = re.compile(r"[a-z0-9._-]{1,64}").fullmatch
_FEATURE = re.compile(r"[A-Za-z0-9._-]{1,64}").fullmatch
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?").fullmatch
_MOST_FEATURES = 1_000
MOST_SEATS = 1_000_000
_FIRST_MS = 1_000_000_000_000
_LAST_MS = 100_000_000_000_000
"""Far beyond what a calendar of Core's can show."""
_LONGEST_DESCRIPTION = 4_000


def check_server(server: pb.LicenseServer, catalog: LicenseCatalog) -> None:
    """Raises InvalidRequest."""
    if _NAME(server.name) is None:
        words = f"name {server.name[:80]!r}: expected 1 to 64 characters of a-z, 0-9, dot, underscore and hyphen"
        raise InvalidRequest(words, field="server.name")
    check_addresses(server.addresses, "server.addresses")
    check_vendor_port(server.vendor_port, "server.vendor_port")
    check_features(server.features, "server.features")
    if server.seats_per not in pb.SeatsPer.values():
        raise InvalidRequest(f"{server.seats_per} is neither for each job nor for each replica", field="server.seats_per")
    find_product(server.product, catalog, "server.product")


def check_addresses(addresses: Sequence[pb.LicenseServerAddress], path: str) -> None:
    """Raises InvalidRequest."""
    if len(addresses) not in (1, 3):
        raise InvalidRequest(f"expected 1 address, or the 3 of a triad, found {len(addresses)}", field=path)
    for index, address in enumerate(addresses):
        _check_address(address, f"{path}[{index}]")
    places = [(address.host.lower(), address.port) for address in addresses]
    if len(set(places)) != len(places):
        raise InvalidRequest("two addresses of a triad are the same", field=path)


def check_vendor_port(port: int, path: str) -> None:
    """Raises InvalidRequest."""
    _check_port(port, path, "0 for none")


def _check_address(address: pb.LicenseServerAddress, path: str) -> None:
    if not is_host(address.host):
        raise InvalidRequest("expected a host name or an IP address, without a port", field=f"{path}.host")
    _check_port(address.port, f"{path}.port", "0 for 27000")


def is_host(text: str) -> bool:
    """A name as in RFC 1123, or an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        labels = text.removesuffix(".").split(".")
        # A last label of digits only is a bad IPv4 address and no name: resolvers take it for an address.
        return len(text) <= 253 and all(_LABEL(label) for label in labels) and not labels[-1].isdecimal()
    return "%" not in text


def _check_port(port: int, path: str, none: str) -> None:
    if not 0 <= port <= 65_535:
        raise InvalidRequest(f"expected 1 to 65535, or {none}", field=path)


def check_features(features: Sequence[pb.LicenseFeature], path: str) -> None:
    """Raises InvalidRequest."""
    if len(features) > _MOST_FEATURES:
        raise InvalidRequest(f"expected at most {_MOST_FEATURES} features, found {len(features)}", field=path)
    names: set[str] = set()
    for index, feature in enumerate(features):
        if _FEATURE(feature.name) is None:
            words = "expected 1 to 64 characters of A-Z, a-z, 0-9, dot, underscore and hyphen"
            raise InvalidRequest(words, field=f"{path}[{index}].name")
        # FlexNet makes no difference between large and small letters.
        if feature.name.lower() in names:
            raise InvalidRequest(f"feature {feature.name} is there twice", field=f"{path}[{index}].name")
        names.add(feature.name.lower())
        if not 1 <= feature.seats <= MOST_SEATS:
            raise InvalidRequest(f"expected 1 to {MOST_SEATS} seats of {feature.name}", field=f"{path}[{index}].seats")


def check_key(key: bytes) -> None:
    """Raises InvalidRequest, without anything of the key."""
    if len(key) > LONGEST_KEY:
        raise InvalidRequest(f"a key has at most {LONGEST_KEY // 1024} KiB; this one has {len(key)} bytes", field="key")


def find_product(reference: ProductReference, catalog: LicenseCatalog, path: str) -> LicenseProduct:
    """Raises InvalidRequest."""
    product = catalog.find(reference)
    if product is None:
        sold = ", ".join(f"{p.category}/{p.id}" for p in catalog.all()[:10]) or "none"
        words = f"no license product {reference.category}/{reference.id} of provider {reference.provider!r} is in the settings"
        raise InvalidRequest(f"{words} ([[licenses.products]]; there: {sold})", field=path)
    return product


def check_maintenance(maintenance: Maintenance, now_ms: int) -> None:
    """Raises InvalidRequest."""
    if not 1 <= len(maintenance.description) <= _LONGEST_DESCRIPTION or not maintenance.description.strip():
        raise InvalidRequest(f"expected a description of 1 to {_LONGEST_DESCRIPTION} characters", field="maintenance.description")
    if maintenance.availability not in MaintenanceAvailability.values()[1:]:
        raise InvalidRequest("expected MINOR_DISRUPTION, MAJOR_DISRUPTION or NO_SERVICE", field="maintenance.availability")
    if not _FIRST_MS <= maintenance.starts_at <= _LAST_MS:
        raise InvalidRequest("expected ms since 1970, 1000000000000 or more", field="maintenance.starts_at")
    if not maintenance.HasField("estimated_ends_at"):
        return
    ends = maintenance.estimated_ends_at
    if not maintenance.starts_at < ends <= _LAST_MS:
        raise InvalidRequest("it must end after its start", field="maintenance.estimated_ends_at")
    if ends <= now_ms:
        raise InvalidRequest("it is over already", field="maintenance.estimated_ends_at")
