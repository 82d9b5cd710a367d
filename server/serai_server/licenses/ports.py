"""What licenses, seats and jobs need to know of license servers. `servers.Servers` has this shape; tests bring fakes with its rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol


class Standing(Enum):
    NONE = "none"
    """The product has no server."""
    UNKNOWN = "unknown"
    """It was not looked at since this process began; licenses stay as they are."""
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Status:
    """How the server of a product stands, for its users."""

    standing: Standing
    words: str = ""
    """Why it is DOWN, without addresses; empty = nothing to say."""


@dataclass(frozen=True, slots=True)
class SeatPlan:
    """The seats of a product, as the operator has configured them."""

    feature: str
    """The feature with the fewest; empty = not counted."""
    seats: int
    """Of that feature; 0 = not counted."""
    per_replica: bool


@dataclass(frozen=True, slots=True)
class Reach:
    """How a program gets a license."""

    addresses: tuple[tuple[str, int], ...]
    """(host, port): one, or three of a triad."""
    key: bytes = field(repr=False)
    """What the vendor gave; empty = none is needed."""

    @property
    def port_at_host(self) -> str:
        """As LM_LICENSE_FILE names a server: `27000@host`, a triad with commas (facts nomad c12)."""
        return ",".join(f"{port}@{host}" for host, port in self.addresses)


class LicenseServers(Protocol):
    """A product is named by its key, "{provider}/{category}/{id}"."""

    def status(self, product: str) -> Status: ...

    def seats(self, product: str) -> SeatPlan | None:
        """None = it has no server."""
        ...

    def limits(self) -> Mapping[str, int | None]:
        """Seats that jobs of ours may hold in all, by product: what is configured and the server has, without what others use as far as the
        server has told. None = not counted. Products without a server are missing."""
        ...

    def capacities(self) -> Mapping[str, int]:
        """The most seats that a job could ever have of a product now: as `limits`, were nobody else to use any. Products that are not
        counted are missing."""
        ...

    async def has_key(self, product: str) -> bool:
        """Whether its server has a vendor's key. False = it has none, or there is no server."""
        ...

    async def reach(self, product: str) -> Reach:
        """With the vendor's key, unsealed. Raises LicenseServerUnknown when the product has no server, VaultError when the key cannot be
        unsealed, and what the store raises."""
        ...

    def look_soon(self, product: str) -> None:
        """Have the server looked at without waiting for its turn, unless it is UP."""
        ...

    def on_change(self, told: Callable[[str], None]) -> None:
        """`told(product)` after each change of its status, limits or server."""
        ...
