"""Our own line: who goes to Nomad next. Nomad has no order of arrival among batch jobs (facts: nomad c6), so order and places are ours.

Jobs that want the same kind of place (see `kind`) stand in one line, in order of arrival; another kind is not held up by it. The first of a
line is released when nobody before it is known to lack room, `releases` are not yet on their way, and it is worth a try: a job of one rank
always (Nomad keeps it and starts it at once when there is room; it holds nothing meanwhile), a job of several ranks when the estimate says
that all of them fit, or after a while all the same, since an estimate can be wrong.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from serai_backends.model import Waiting
from serai_backends.nomad.room import need_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from serai_backends.nomad.room import Room
    from serai_backends.nomad.settings import NomadSettings, Placement
    from serai_backends.nomad.view import View

TRY_ANYWAY_MS = 60_000
"""After so long at the head of its line a job of several ranks is given to Nomad whatever the estimate says."""
_TOLD = 500
"""So many of a line are told their place; who stands further back is told that much."""
_MIB = 1 << 20

Kind = tuple[str, str, tuple[str, ...], tuple[tuple[str, str, str], ...], str]


def kind(placement: Placement) -> Kind:
    """What two jobs must have in common to want the same places."""
    return (placement.driver, placement.node_pool, placement.datacenters, placement.constraints, placement.device)


@dataclass(slots=True)
class _Line:
    placement: Placement
    waiting: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    """(sequence, job id), in order."""
    on_their_way: dict[str, View] = field(default_factory=dict[str, "View"])
    """Released and not wholly placed."""
    tries: set[str] = field(default_factory=set[str])
    """Those of them that were released although the estimate had no room for them: nobody goes past them."""
    head_since_ms: int | None = None
    """Since when the present head could not be released for want of room."""


class Lines:
    def __init__(self, settings: NomadSettings, room: Room) -> None:
        self._settings, self._room = settings, room
        self._lines: dict[Kind, _Line] = {}
        self._views: dict[str, View] = {}

    def add(self, view: View) -> None:
        """A QUEUED job; one that was taken back gets its old place."""
        line = self._line(view)
        if line is None or view.record.job_id in self._views:
            return
        self._views[view.record.job_id] = view
        insort(line.waiting, (view.record.sequence, view.record.job_id))

    def follow(self, view: View) -> None:
        """A released job: it counts as on its way until all of it is placed."""
        line = self._line(view)
        if line is not None and view.on_its_way:
            line.on_their_way[view.record.job_id] = view

    def follows(self, view: View) -> bool:
        """Whether it counts as on its way."""
        line = self._line(view)
        return line is not None and view.record.job_id in line.on_their_way

    def placed(self, view: View) -> bool:
        """It needs no room any more, or never will. Whether that is news for those behind it."""
        line = self._line(view)
        if line is None:
            return False
        line.tries.discard(view.record.job_id)
        return line.on_their_way.pop(view.record.job_id, None) is not None

    def remove(self, view: View) -> None:
        self.placed(view)
        line = self._line(view)
        if line is None or self._views.pop(view.record.job_id, None) is None:
            return
        entry = (view.record.sequence, view.record.job_id)
        if line.waiting and line.waiting[0] == entry:
            line.head_since_ms = None
        line.waiting.remove(entry)

    def next_released(self, now_ms: int) -> View | None:
        """A job that is to be released now; the caller stores it as RELEASED, then calls `released`."""
        for line in self._lines.values():
            if line.waiting and (view := self._worth_a_try(line, now_ms)) is not None:
                return view
        return None

    def released(self, view: View) -> None:
        """It is stored as RELEASED."""
        self.remove(view)
        self.follow(view)
        if (line := self._line(view)) is not None:
            if not self._room.fits_now(view.spec, line.placement, self._settings):
                line.tries.add(view.record.job_id)
            self._room.reserve(view.nomad_id, view.spec, line.placement, self._settings)

    def reserve_again(self, placed: Mapping[str, int]) -> None:
        """The cluster was looked at: what is on its way and has no place there yet will take room too.

        `placed`: how many allocations there were, by Nomad's job.
        """
        for line in self._lines.values():
            for view in line.on_their_way.values():
                missing = view.spec.replicas - placed.get(view.nomad_id, 0)
                if missing > 0:
                    self._room.reserve(view.nomad_id, replace(view.spec, replicas=missing), line.placement, self._settings)

    def __len__(self) -> int:
        return len(self._views)

    def next_try_ms(self, now_ms: int) -> int | None:
        """When a head is tried whatever the estimate says, or again after a roll-back; None = nobody waits for that."""
        times = [line.head_since_ms + TRY_ANYWAY_MS for line in self._lines.values() if line.head_since_ms is not None]
        times += [view.not_before_ms for view in self._views.values() if view.not_before_ms > now_ms]
        return min(times, default=None)

    def tell_places(self, *, again: bool) -> Iterator[View]:
        """Those of which what they wait for has changed, with the new words; without `again` only those that were told nothing yet."""
        for line in self._lines.values():
            before = sum(1 for view in line.on_their_way.values() if view.record.sequence < (line.waiting[0][0] if line.waiting else 0))
            for position, (_, job_id) in enumerate(line.waiting[:_TOLD]):
                view = self._views[job_id]
                if view.waiting is not None and not again:
                    continue
                waiting = self._place(line, view, before + position, head=position == 0)
                if waiting != view.waiting:
                    view.waiting = waiting
                    yield view

    def _worth_a_try(self, line: _Line, now_ms: int) -> View | None:
        view = self._first(line, now_ms)
        short = line.tries or any(other.reason for other in line.on_their_way.values())
        if view is None or short or len(line.on_their_way) >= self._settings.releases:
            return None
        if self._room.fits_now(view.spec, line.placement, self._settings):
            line.head_since_ms = None
            return view
        if line.on_their_way:
            return None
        if view.spec.replicas == 1:
            return view
        if line.head_since_ms is None:
            line.head_since_ms = now_ms
        if now_ms - line.head_since_ms < TRY_ANYWAY_MS:
            return None
        line.head_since_ms = now_ms
        return view

    def _first(self, line: _Line, now_ms: int) -> View | None:
        """The first that may be tried now: those that were taken back wait a while, and are passed meanwhile."""
        return next((view for _, job_id in line.waiting if (view := self._views[job_id]).not_before_ms <= now_ms), None)

    def _place(self, line: _Line, view: View, ahead: int, *, head: bool) -> Waiting:
        if not head:
            return Waiting(ahead=ahead)
        all_mhz, free_mhz, all_mib, free_mib = self._room.totals(line.placement)
        need, count, mhz = need_of(view.spec.resources, self._settings), view.spec.replicas, self._settings.mhz_per_core
        short_of_cores = need.mhz * count > free_mhz and all_mhz > 0
        short_of_memory = need.memory_mib * count > free_mib and all_mib > 0
        return Waiting(
            ahead=ahead,
            cpu=view.spec.resources.cpu * count if short_of_cores else 0,
            free_cpu=free_mhz // mhz if short_of_cores else 0,
            all_cpu=all_mhz // mhz if short_of_cores else 0,
            memory_bytes=need.memory_mib * count * _MIB if short_of_memory else 0,
            free_memory_bytes=free_mib * _MIB if short_of_memory else 0,
        )

    def _line(self, view: View) -> _Line | None:
        placement = self._settings.placement(view.spec.product)
        if placement is None:
            return None
        return self._lines.setdefault(kind(placement), _Line(placement))
