"""What has to be done next for a job: a pure function of what is stored and what is known. The table is the contract.

| stage | what is known | next |
|---|---|---|
| QUEUED | | nothing: the line releases it |
| RELEASED | its folder is not made | PREPARE |
| RELEASED | not registered | one rank without peers: OPEN (starting it is registering it); else REGISTER |
| RELEASED | nothing of it is there any more | FINISH |
| RELEASED | a rank is lost with its node, drained, preempted or placed twice before the gate opened | TAKE_BACK |
| RELEASED | a rank is over otherwise before the gate opened | STOP |
| RELEASED | every address is known, peers' doors are open | OPEN (which stops it instead when the addresses have no room in a variable) |
| RELEASED | some rank is not placed at the deadline | TAKE_BACK |
| OPENED | the variable is not known to be written, every address is known or none is needed | WRITE_GATE |
| OPENED | not registered | REGISTER |
| OPENED | all over | FINISH |
| OPENED | Nomad does not know it | FINISH |
| OPENED | a rank's node is out of reach for too long | STOP |
| OPENED | a rank could not start a second ago, or is lost, others live; somebody stopped one | STOP |
| STOPPING, TAKEN_BACK | not deregistered by this process | DEREGISTER |
| STOPPING | nothing of it lives | FINISH |
| TAKEN_BACK | nothing of it lives | CLEAR: purge, next attempt, QUEUED |
| ENDED | | nothing |

Each step is idempotent and stores what it decides before it acts, so kill -9 anywhere leaves a stage from which the same table goes on.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from serai_backends.model import End, Why
from serai_backends.nomad.records import Stage

if TYPE_CHECKING:
    from serai_backends.nomad.view import View


START_PATIENCE_MS = 1_000
"""From a start that failed until the job's other ranks are stopped."""


class Step(Enum):
    NOTHING = "nothing"
    PREPARE = "prepare"
    REGISTER = "register"
    OPEN = "open"
    WRITE_GATE = "write_gate"
    TAKE_BACK = "take_back"
    STOP = "stop"
    DEREGISTER = "deregister"
    CLEAR = "clear"
    FINISH = "finish"


def next_step(view: View, now_ms: int, *, placement_deadline_ms: int) -> Step:
    match view.record.stage:
        case Stage.RELEASED:
            return _released(view, now_ms, placement_deadline_ms)
        case Stage.OPENED:
            return _opened(view, now_ms)
        case Stage.STOPPING | Stage.TAKEN_BACK:
            if not view.deregistered and not view.gone:
                return Step.DEREGISTER
            if view.unsure or (not view.gone and not view.nothing_lives):
                return Step.NOTHING
            return Step.FINISH if view.record.stage is Stage.STOPPING else Step.CLEAR
        case _:
            return Step.NOTHING


def _released(view: View, now_ms: int, placement_deadline_ms: int) -> Step:  # noqa: PLR0911 - one line of the table each
    if not view.record.prepared:
        return Step.PREPARE
    if not view.record.registered_index:
        return Step.REGISTER if view.gated else Step.OPEN
    if view.gone and not view.unsure:
        return Step.FINISH
    if any(rank.over for rank in view.ranks) or view.extra:
        taken = {Why.NODE_DRAINED, Why.PREEMPTED}
        lost = view.extra or all(rank.facts.end is End.LOST or rank.facts.why in taken for rank in view.ranks if rank.over)
        return Step.TAKE_BACK if lost else Step.STOP
    if view.addresses is not None and not any(rank.unreached_since_ms for rank in view.ranks):
        return Step.OPEN
    if deadline_of(view, placement_deadline_ms) <= now_ms:
        return Step.TAKE_BACK
    return Step.NOTHING


def _opened(view: View, now_ms: int) -> Step:
    if not view.gate_written and not view.gone and not view.over and (not view.gated or view.addresses is not None):
        return Step.WRITE_GATE
    if not view.record.registered_index:
        return Step.REGISTER
    if (view.over and not any(rank.given_up for rank in view.ranks)) or (view.gone and not view.unsure):
        return Step.FINISH
    failed = [rank for rank in view.ranks if rank.failed]
    # What keeps one rank from starting mostly keeps the others too: they are let to say so themselves.
    soon = all(rank.facts.end is End.START_FAILED for rank in failed) and now_ms < min(view.failed_starts, default=0) + START_PATIENCE_MS
    if (failed and not soon) or view.extra:
        return Step.STOP
    return Step.NOTHING


def deadline_of(view: View, placement_deadline_ms: int) -> int:
    """When a job of which a part is placed is taken back, in ms since epoch; the end of time when nothing of it is placed."""
    return view.first_placed_at_ms + placement_deadline_ms if view.first_placed_at_ms is not None else 1 << 62
