"""How licenses ought to stand, by their server and the maintenance windows."""

from __future__ import annotations

import pytest
from serai.licenses.v1.license_pb2 import Maintenance, MaintenanceAvailability
from serai_server.licenses import words
from serai_server.licenses.maintenance import next_edge_ms, open_now, told
from serai_server.licenses.ports import Standing, Status
from serai_server.licenses.states import Aim, aim_of
from serai_server.store.license_model import LicenseState, StoredWindow

MINOR, MAJOR, NONE = (MaintenanceAvailability.ValueType(n) for n in (1, 2, 3))
START_MS = 1_790_000_000_000


def window(
    name: str, starts: int, ends: int = 0, availability: MaintenanceAvailability.ValueType = NONE, product: str = "p"
) -> StoredWindow:
    body = Maintenance(description=f"Work {name}.", availability=availability, starts_at=starts, estimated_ends_at=ends or None)
    return StoredWindow(name, product, starts, ends, body.SerializeToString())


@pytest.mark.parametrize(
    ("standing", "expected"),
    [
        (Standing.UP, Aim(LicenseState.READY, words.READY)),
        (Standing.DOWN, Aim(LicenseState.UNAVAILABLE, words.down("refused"))),
        (Standing.NONE, Aim(LicenseState.UNAVAILABLE, words.NO_SERVER)),
        (Standing.UNKNOWN, None),
    ],
)
def test_licenses_follow_their_server(standing: Standing, expected: Aim | None) -> None:
    """What is not known since the process began changes nothing."""
    assert aim_of(Status(standing, "refused"), None, sold=True) == expected


def test_a_window_without_service_ends_use_and_a_lesser_one_is_told() -> None:
    """Whatever the server answers meanwhile; after the window the server's own word counts again."""
    nothing = Maintenance.FromString(window("a", START_MS, START_MS + 3_600_000).body)
    told_so = aim_of(Status(Standing.UP), nothing, sold=True)
    assert told_so is not None
    assert told_so.state is LicenseState.UNAVAILABLE
    assert "Work a." in told_so.status
    assert "2026-09-21 15:13 UTC" in told_so.status
    less = Maintenance.FromString(window("b", START_MS, availability=MINOR).body)
    lesser = aim_of(Status(Standing.UP), less, sold=True)
    assert lesser is not None
    assert lesser.state is LicenseState.READY
    assert "minor disruptions" in lesser.status


def test_what_is_not_sold_any_more_cannot_be_used() -> None:
    assert aim_of(Status(Standing.UP), None, sold=False) == Aim(LicenseState.UNAVAILABLE, words.NOT_SOLD)


def test_the_worst_open_window_counts_or_else_the_next_one() -> None:
    """Windows that are over are in nobody's way."""
    windows = [
        window("over", 10, 20),
        window("later", 200, 300),
        window("soon", 150, 160, MINOR),
        window("open", 90, 0, MINOR, "q"),
        window("worse", 95, 110, MAJOR, "q"),
    ]
    assert {product: found.description for product, found in told(windows, 100).items()} == {"p": "Work soon.", "q": "Work worse."}
    assert {product: found.description for product, found in open_now(windows, 100).items()} == {"q": "Work worse."}
    assert next_edge_ms(windows, 100) == 110
    assert next_edge_ms(windows[:1], 100) is None
