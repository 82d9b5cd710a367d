"""What an operator may ask of license servers and maintenance: each wrong field is refused with its path, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fakes.license_servers import CATEGORY, PROVIDER, server
from serai.core.v1.resources_pb2 import ProductReference
from serai.licenses.v1 import license_servers_service_pb2 as pb
from serai.licenses.v1.license_pb2 import MAINTENANCE_AVAILABILITY_NO_SERVICE, Maintenance
from serai_server.errors import InvalidRequest
from serai_server.licenses.products import LicenseCatalog, LicenseProduct
from serai_server.licenses.servers.requests import check_key, check_maintenance, check_server, is_host

NOW_MS = 1_700_000_000_000
CATALOG = LicenseCatalog([LicenseProduct("solver", CATEGORY, PROVIDER)])


def good() -> pb.LicenseServer:
    wanted = server(hosts=3, vendor_port=28_000, solver=5)
    wanted.features.add(name="Mesher_v2.1-a", seats=1_000_000)
    return wanted


def test_a_good_one_is_taken() -> None:
    """One address or three, with and without a vendor's port, features and kind of seats."""
    check_server(good(), CATALOG)
    check_server(server(), CATALOG)


def _name(text: str) -> Callable[[pb.LicenseServer], None]:
    return lambda s: setattr(s, "name", text)


def _host(text: str) -> Callable[[pb.LicenseServer], None]:
    return lambda s: setattr(s.addresses[1], "host", text)


Change = Callable[[pb.LicenseServer], object]

WRONG: list[tuple[Change, str]] = [
    (_name(""), "server.name"),
    (_name("A"), "server.name"),
    (_name("x" * 65), "server.name"),
    (_name("a/b"), "server.name"),
    (_name("a\n"), "server.name"),
    (lambda s: s.addresses.pop(), "server.addresses"),
    (lambda s: s.ClearField("addresses"), "server.addresses"),
    (lambda s: s.addresses.add(host="x"), "server.addresses"),
    (lambda s: s.addresses[1].CopyFrom(pb.LicenseServerAddress(host="SOLVER-1")), "server.addresses"),
    (_host(""), "server.addresses[1].host"),
    (_host("lic1:27000"), "server.addresses[1].host"),
    (_host("-c"), "server.addresses[1].host"),
    (_host("a b"), "server.addresses[1].host"),
    (_host("lic1,evil"), "server.addresses[1].host"),
    (_host("1.2.3.4.5"), "server.addresses[1].host"),
    (lambda s: setattr(s.addresses[2], "port", 65_536), "server.addresses[2].port"),
    (lambda s: setattr(s.addresses[2], "port", -1), "server.addresses[2].port"),
    (lambda s: setattr(s, "vendor_port", 65_536), "server.vendor_port"),
    (lambda s: setattr(s.features[0], "name", ""), "server.features[0].name"),
    (lambda s: setattr(s.features[0], "name", "a b"), "server.features[0].name"),
    (lambda s: setattr(s.features[1], "name", "Solver"), "server.features[1].name"),
    (lambda s: setattr(s.features[1], "seats", 0), "server.features[1].seats"),
    (lambda s: setattr(s.features[1], "seats", 1_000_001), "server.features[1].seats"),
    (lambda s: setattr(s, "seats_per", 3), "server.seats_per"),
    (lambda s: setattr(s.product, "id", "other"), "server.product"),
    (lambda s: setattr(s.product, "provider", ""), "server.product"),
    (lambda s: s.ClearField("product"), "server.product"),
]


@pytest.mark.parametrize(("change", "path"), WRONG)
def test_a_wrong_field_is_refused(change: Change, path: str) -> None:
    """With its path."""
    wanted = good()
    change(wanted)
    with pytest.raises(InvalidRequest) as raised:
        check_server(wanted, CATALOG)
    assert raised.value.field == path


@pytest.mark.parametrize(
    ("host", "is_one"),
    [
        ("lic1", True),
        ("LIC1.example.org", True),
        ("lic1.example.org.", True),
        ("3com.example", True),
        ("10.1.2.3", True),
        ("2001:db8::1", True),
        ("::1", True),
        ("a" * 63 + ".org", True),
        ("fe80::1%eth0", False),
        ("a" * 64 + ".org", False),
        (".".join(["a" * 60] * 5), False),
        ("[::1]", False),
        ("10.1.2.300", False),
        ("lic_1", False),
        ("lic1-", False),
        ("a..b", False),
        (".", False),
        ("lic1\n", False),
        ("l\u00efc1", False),
        ("$(id)", False),
        ("27000@lic1", False),
    ],
)
def test_hosts(host: str, is_one: bool) -> None:
    """RFC 1123's names, and addresses; nothing that a program's argument or a list of servers could be misread by."""
    assert is_host(host) is is_one


def test_a_key_has_its_longest_length() -> None:
    """48 KiB; the refusal holds nothing of it."""
    check_key(b"")
    check_key(b"x" * 49_152)
    with pytest.raises(InvalidRequest, match="this one has 49153 bytes") as raised:
        check_key(b"x" * 49_153)
    assert "xx" not in str(raised.value)


def window(**fields: int | str) -> Maintenance:
    planned = Maintenance(description="d", availability=MAINTENANCE_AVAILABILITY_NO_SERVICE, starts_at=NOW_MS)
    for name, value in fields.items():
        setattr(planned, name, value)
    return planned


@pytest.mark.parametrize(
    "planned", [window(), window(starts_at=10**12), window(estimated_ends_at=NOW_MS + 1), window(description="d" * 4_000)]
)
def test_a_good_window_is_taken(planned: Maintenance) -> None:
    """Open since long ago or to come, with and without an end."""
    check_maintenance(planned, NOW_MS)


@pytest.mark.parametrize(
    ("planned", "path"),
    [
        (window(description=""), "maintenance.description"),
        (window(description=" \n"), "maintenance.description"),
        (window(description="d" * 4_001), "maintenance.description"),
        (window(availability=0), "maintenance.availability"),
        (window(availability=4), "maintenance.availability"),
        (window(starts_at=10**12 - 1), "maintenance.starts_at"),
        (window(starts_at=10**15), "maintenance.starts_at"),
        (window(estimated_ends_at=NOW_MS), "maintenance.estimated_ends_at"),
        (window(estimated_ends_at=0), "maintenance.estimated_ends_at"),
        (window(starts_at=10**12, estimated_ends_at=NOW_MS - 1), "maintenance.estimated_ends_at"),
    ],
)
def test_a_wrong_window_is_refused(planned: Maintenance, path: str) -> None:
    """With its path; one that is over already helps nobody."""
    with pytest.raises(InvalidRequest) as raised:
        check_maintenance(planned, NOW_MS)
    assert raised.value.field == path


def test_a_product_is_one_of_the_settings() -> None:
    """The refusal names those that there are."""
    with pytest.raises(InvalidRequest, match=r"no license product licenses/other .* there: licenses/solver"):
        wanted = good()
        wanted.product.CopyFrom(ProductReference(id="other", category=CATEGORY, provider=PROVIDER))
        check_server(wanted, CATALOG)
