"""Client certificates that are an identity: those of the settings, by the names that a CA of the operator's has signed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from serai_server.errors import Unauthenticated
from serai_server.store.token_model import Role
from serai_server.tokens.holder import Holder


@dataclass(frozen=True, slots=True)
class Client:
    """Who has a certificate of this name."""

    name: str
    role: Role
    project: str
    """Empty = not limited to one."""


class Certificates:
    def __init__(self, clients: Iterable[Client]) -> None:
        self._holders = {c.name: Holder(f"certificate {c.name}", c.role, c.project) for c in clients}

    def holder(self, names: Iterable[str]) -> Holder | None:
        """Who has the certificate with these names; None = nobody of the settings. Raises Unauthenticated when they are several."""
        found = [self._holders[name] for name in sorted(set(names)) if name in self._holders]
        if len(found) > 1:
            listed = " and ".join(holder.who for holder in found)
            raise Unauthenticated(f"this certificate has names of several clients ({listed}); use one for each")
        return found[0] if found else None
