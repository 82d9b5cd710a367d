"""Which maintenance window counts now. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from serai.licenses.v1.license_pb2 import Maintenance

from serai_server.store.license_model import StoredWindow


def is_open(window: StoredWindow, now_ms: int) -> bool:
    return window.starts_at_ms <= now_ms and (not window.ends_at_ms or now_ms < window.ends_at_ms)


def told(windows: Iterable[StoredWindow], now_ms: int) -> dict[str, Maintenance]:
    """By product: the worst of the windows that are open, or else the next one to come."""
    found: dict[str, tuple[bool, int, int, StoredWindow]] = {}
    for window in windows:
        open_now = is_open(window, now_ms)
        if open_now or window.starts_at_ms > now_ms:
            rank = (open_now, _availability(window) if open_now else 0, -window.starts_at_ms, window)
            if window.product not in found or rank[:3] > found[window.product][:3]:
                found[window.product] = rank
    return {product: Maintenance.FromString(rank[3].body) for product, rank in found.items()}


def open_now(windows: Iterable[StoredWindow], now_ms: int) -> dict[str, Maintenance]:
    """By product: the worst of the windows that are open."""
    return told([window for window in windows if is_open(window, now_ms)], now_ms)


def next_edge_ms(windows: Iterable[StoredWindow], now_ms: int) -> int | None:
    """When the next window opens or closes; None = none will."""
    edges = [edge for window in windows for edge in (window.starts_at_ms, window.ends_at_ms) if edge > now_ms]
    return min(edges, default=None)


def _availability(window: StoredWindow) -> int:
    """The worse, the higher: the enum's numbers are in that order."""
    return int(Maintenance.FromString(window.body).availability)
