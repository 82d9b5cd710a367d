"""What the store keeps of tokens, which tools show at the tools' door."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Role(IntEnum):
    """What a tool may do; each may do what those before it may. Numbers are those of serai.access.v1.Role."""

    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True)
class StoredToken:
    id: str
    """No secret: for lists, logs and revoking."""
    secret: bytes
    """SHA-256 of the secret that was given out."""
    name: str
    """For people; may be empty."""
    role: Role
    project: str
    """Empty = not limited to one."""
    created_at_ms: int
    created_by: str
    """Empty = somebody at the server's own socket."""
    expires_at_ms: int
    """0 = it does not."""
    used_day_ms: int
    """Beginning (UTC) of the last day on which it was used; 0 = never."""
    revoked_at_ms: int
    """0 = it was not taken back."""
