"""Who may reach whom: the addresses of other jobs in each job's variable, which its firewalls read.

Two jobs are connected when one of them has asked for the other; each is then told the other's addresses. A job that asks is only started
when its peers' firewalls had time to load its addresses. When either ends, its addresses go from the other's variable: Nomad hands
addresses out again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from serai_backends.nomad import names
from serai_backends.nomad.records import Stage

if TYPE_CHECKING:
    from serai_backends.nomad.store import Views
    from serai_backends.nomad.view import View

SETTLE_MS = 1_500
"""From the answer to a changed variable until the firewalls have it (facts: nomad-tried §8, with a short `wait`)."""

MOST_BYTES = 64 * 1024
"""Of all names and values in one variable: Nomad takes no more."""


class Doors:
    def __init__(self, views: Views) -> None:
        self._views = views
        self._asked_by: dict[str, set[str]] = {}
        """Jobs that have asked for this one and are not over."""
        for view in views:
            if view.record.stage is not Stage.ENDED:
                self.ask(view)

    def ask(self, view: View) -> None:
        """The job's peers are noted; before its addresses are known that opens nothing."""
        for peer in view.spec.peers:
            self._asked_by.setdefault(peer.job_id, set()).add(view.record.job_id)

    def close(self, view: View) -> list[View]:
        """It is over. Those whose variables have to be told."""
        for peer in view.spec.peers:
            if (asked := self._asked_by.get(peer.job_id)) is not None:
                asked.discard(view.record.job_id)
                if not asked:
                    del self._asked_by[peer.job_id]
        return [other for other in self._neighbours(view) if other.record.stage is Stage.OPENED]

    def missing(self, view: View) -> str:
        """The hostname of a peer that is not running; empty = all run."""
        for peer in view.spec.peers:
            other = self._views.get(peer.job_id)
            if other is None or other.record.stage is not Stage.OPENED or not other.started:
                return peer.hostname
        return ""

    def addresses(self, view: View) -> str:
        """What the job's variable says of other jobs: one address a line, in order."""
        found: set[str] = set()
        for other in self._neighbours(view):
            if other.record.stage in {Stage.RELEASED, Stage.OPENED}:
                found.update(other.addresses or ())
        return "\n".join(sorted(found))

    def items(self, view: View) -> dict[str, str]:
        """The job's variable, whole."""
        nodes = "\n".join(view.addresses or ()) if view.gated else "self"
        return {names.NODES: nodes, names.PEERS: self.addresses(view), names.HOSTS: self._hosts(view)}

    def too_many(self, view: View) -> bool:
        """Nomad would not take the job's variable, now or ever: those who are in it are too many."""
        return sum(len(name) + len(text) for name, text in self.items(view).items()) > MOST_BYTES

    def _hosts(self, view: View) -> str:
        lines: list[str] = []
        for peer in view.spec.peers:
            other = self._views.get(peer.job_id)
            for rank, address in enumerate((other.addresses if other is not None else None) or ()):
                lines += [f"{address} {peer.hostname}"] if rank == 0 else []
                lines.append(f"{address} {peer.hostname}-{rank}")
        return "\n".join(lines)

    def _neighbours(self, view: View) -> list[View]:
        ids = {peer.job_id for peer in view.spec.peers} | self._asked_by.get(view.record.job_id, set())
        return [other for job_id in sorted(ids) if (other := self._views.get(job_id)) is not None]
