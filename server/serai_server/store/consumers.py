"""Who has settled what, in SQL, inside a transaction of the owner thread.

A consumer has settled everything up to `settled_to` but for what stands in `unsettled`, and nothing above. Settling in order moves the mark
and writes no row there; settling ahead turns what was jumped over into rows. So what is left is found without a look at what is done.
"""

from __future__ import annotations

from collections.abc import Sequence

from serai_server.store import tables
from serai_server.store.link import Link
from serai_server.store.model import EventSettlement
from serai_server.store.rows import as_int

PRUNED_AT_ONCE = 2_000
"""Most events that one transaction drops, so that other writes get their turn."""


SEEN_EVERY_MS = 60_000
"""How exactly it is noted when a consumer settled something: not one more write for each call."""


def register(link: Link, consumer: str, *, mark: int, owner: str = "", now_ms: int = 0) -> None:
    """Everything up to `mark` counts as settled. Of a consumer that is known only when it was seen is noted; 0 = not seen."""
    link.insert(tables.consumers, [(consumer, mark, owner, now_ms)], ignore=True)
    if now_ms:
        link.execute("UPDATE consumers SET seen_at_ms = ? WHERE name = ? AND seen_at_ms < ?", now_ms, consumer, now_ms)


def give(link: Link, consumer: str, owner: str) -> None:
    link.execute("UPDATE consumers SET owner = ? WHERE name = ?", owner, consumer)


def drop(link: Link, consumer: str) -> bool:
    """A part of what is kept of it, so that other writes get their turn; true = that was all, and it is gone. What it settled goes first:
    that is history, and stopped half way the consumer is still what it was."""
    some = "SELECT sequence FROM settlements WHERE consumer = ? ORDER BY sequence LIMIT ?"
    link.execute(f"DELETE FROM settlements WHERE consumer = ? AND sequence IN ({some})", consumer, consumer, PRUNED_AT_ONCE)  # noqa: S608
    if link.query("SELECT sequence FROM settlements WHERE consumer = ? LIMIT 1", consumer):
        return False
    link.execute("DELETE FROM unsettled WHERE consumer = ?", consumer)
    link.execute("DELETE FROM consumers WHERE name = ?", consumer)
    return True


def last_sequence(link: Link) -> int:
    """Highest sequence given out; 0 = none. Holds after pruning too, which keeps the newest event."""
    return as_int(link.query("SELECT coalesce(max(sequence), 0) FROM events")[0])


def settle(link: Link, consumer: str, settlements: Sequence[EventSettlement]) -> frozenset[int]:
    """Those that were not settled before. The first outcome of an event stays; sequences of no event are passed over. Makes the consumer
    known."""
    register(link, consumer, mark=0)
    (row,) = link.query("SELECT settled_to, seen_at_ms FROM consumers WHERE name = ?", consumer)
    mark, seen_at_ms = as_int(row), as_int(row[1:])
    now_ms = max((s.at_ms for s in settlements), default=0)
    first: dict[int, EventSettlement] = {}
    for settlement in settlements:
        first.setdefault(settlement.sequence, settlement)
    late = _settle_below(link, consumer, [s for s in first if s <= mark])
    ahead, new_mark = _settle_above(link, consumer, {s for s in first if s > mark}, mark)
    if new_mark != mark or now_ms >= seen_at_ms + SEEN_EVERY_MS:
        link.execute("UPDATE consumers SET settled_to = ?, seen_at_ms = ? WHERE name = ?", new_mark, max(seen_at_ms, now_ms), consumer)
    rows = [(consumer, s, int(first[s].outcome), first[s].detail, first[s].at_ms) for s in (*late, *ahead)]
    if rows:
        link.insert(tables.settlements, rows)
    return frozenset((*late, *ahead))


def _settle_below(link: Link, consumer: str, sequences: Sequence[int]) -> list[int]:
    """Those that were left open, now no longer."""
    if not sequences:
        return []
    among = link.among("sequence")
    listed = link.listed(sequences)
    found = [as_int(r) for r in link.query(f"SELECT sequence FROM unsettled WHERE consumer = ? AND {among}", consumer, listed)]  # noqa: S608  # no value in it
    if found:
        link.execute(f"DELETE FROM unsettled WHERE consumer = ? AND {among}", consumer, link.listed(found))  # noqa: S608
    return found


def _settle_above(link: Link, consumer: str, wanted: set[int], mark: int) -> tuple[list[int], int]:
    """Those that are events, and the new mark."""
    if not wanted:
        return [], mark
    settled: list[int] = []
    for row in link.query("SELECT sequence FROM events WHERE sequence > ? ORDER BY sequence LIMIT ?", mark, len(wanted)):
        sequence = as_int(row)
        if sequence not in wanted:
            break
        settled.append(mark := sequence)
    beyond = [s for s in wanted if s > mark]
    if not beyond:
        return settled, mark
    sql = f"SELECT sequence FROM events WHERE {link.among('sequence')}"  # noqa: S608
    known = [as_int(r) for r in link.query(sql, link.listed(beyond))]
    if not known:
        return settled, mark
    top = max(known)
    link.execute(
        "INSERT INTO unsettled (consumer, sequence) SELECT ?, sequence FROM events WHERE sequence > ? AND sequence < ?", consumer, mark, top
    )
    link.execute(f"DELETE FROM unsettled WHERE consumer = ? AND {link.among('sequence')}", consumer, link.listed(known))  # noqa: S608
    return [*settled, *known], top


_PRUNABLE = """
SELECT e.sequence FROM events e
WHERE e.sequence <= (SELECT coalesce(min(settled_to), 0) FROM consumers)
  AND e.sequence < (SELECT max(sequence) FROM events)
  AND NOT EXISTS (SELECT 1 FROM consumers c JOIN unsettled u ON u.consumer = c.name WHERE u.sequence = e.sequence)
  AND NOT EXISTS (SELECT 1 FROM consumers c JOIN settlements s ON s.consumer = c.name WHERE s.sequence = e.sequence AND s.at_ms >= ?)
ORDER BY e.sequence LIMIT ?
"""


def prune(link: Link, settled_before_ms: int) -> int:
    """Drop at most PRUNED_AT_ONCE events that everyone settled before that time; how many it were."""
    found = [as_int(r) for r in link.query(_PRUNABLE, settled_before_ms, PRUNED_AT_ONCE)]
    if found:
        among, listed = link.among("sequence"), link.listed(found)
        link.execute(f"DELETE FROM settlements WHERE {among}", listed)  # noqa: S608
        link.execute(f"DELETE FROM events WHERE {among}", listed)  # noqa: S608
    return len(found)
