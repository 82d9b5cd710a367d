"""Who gets seats, decided inside a transaction of the owner thread, from what it finds there.

New claims and freed ones wait in the batch and are written before anybody asks for seats, so that a job sees what all writes before it in
the group did: a seat that came free a moment ago can be had. What is decided is written at once.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence

from serai_server.store import tables
from serai_server.store.api import VersionConflict
from serai_server.store.batch import Batch
from serai_server.store.license_model import Claim, LicenseAway, LicenseState, SeatsAnswer, SeatsFull, SeatsTaken, SeatsTooFew
from serai_server.store.license_rows import as_claim
from serai_server.store.link import Link
from serai_server.store.model import Committed, JobChange, StoredJob
from serai_server.store.rows import as_int


def flush(batch: Batch, link: Link) -> None:
    """Write the claims of jobs that came, and drop those of jobs that are over."""
    if batch.claims or batch.freed:
        batch.lines.clear()
    if batch.claims:
        link.insert(tables.claims, [row for rows in batch.claims.values() for row in rows])
        batch.claims.clear()
    if batch.freed:
        link.execute(f"DELETE FROM claims WHERE {link.among('job_id')}", link.listed(list(batch.freed)))  # noqa: S608
        batch.freed.clear()


def take(
    change: JobChange, limits: Mapping[str, int | None], capacities: Mapping[str, int], batch: Batch, link: Link
) -> tuple[tuple[StoredJob | None, SeatsAnswer], Committed]:
    """See LicenseStore.take_seats. Raises VersionConflict, and ValueError for a job that is over or a step that makes no sense, before
    anything of it is written."""
    flush(batch, link)
    job = batch.job(change.job_id)
    if job is None or job.version != change.expected_version:
        raise VersionConflict(f"job {change.job_id} is not at version {change.expected_version}")
    if job.state.final:
        raise ValueError(f"job {job.id} is {job.state.name} and takes no seats")
    waiting = _waiting(link, job.id)
    answer = _away(link, waiting) or _too_few(waiting, capacities) or _full(batch, link, waiting, limits, capacities) if waiting else None
    if answer is not None:
        return (None, answer), Committed()
    after, told = batch.change(change)
    if waiting:
        held_at_ms = max(after.submitted_at_ms or after.created_at_ms, 1)
        link.execute("UPDATE claims SET held_at_ms = ? WHERE job_id = ?", held_at_ms, job.id)
        batch.lines.clear()
    return (after, SeatsTaken()), told


def _waiting(link: Link, job_id: str) -> list[Claim]:
    """None for a job that holds its seats already, one that was suspended for example."""
    names = ", ".join(tables.columns(tables.claims))
    sql = f"SELECT {names} FROM claims WHERE job_id = ? AND held_at_ms = 0 ORDER BY license_id"  # noqa: S608  # no value in it
    return [as_claim(row) for row in link.query(sql, job_id)]


def _away(link: Link, claims: Sequence[Claim]) -> LicenseAway | None:
    """A license that is gone comes before one that is not READY: the first one never comes back."""
    ids = [c.license_id for c in claims]
    columns = f"l.id, {_flag(tables.LICENSE_AWAY)}, {_flag(tables.LICENSE_PAYING)}, l.status, l.deleted_at_ms, l.state"
    rows = link.query(f"SELECT {columns} FROM licenses l WHERE {link.among('l.id')}", link.listed(ids))  # noqa: S608
    found = {str(r[0]): (bool(r[1]), bool(r[2]), str(r[3]), bool(r[4]), int(r[5])) for r in rows}
    away: LicenseAway | None = None
    for license_id in ids:
        is_away, paying, status, deleted, state = found.get(license_id, (True, False, "", True, 0))
        if deleted:
            return LicenseAway(license_id, True, status)
        if is_away and away is None:
            away = LicenseAway(license_id, False, status, paying and state == LicenseState.READY)
    return away


def _flag(condition: str) -> str:
    return f"CASE WHEN {condition} THEN 1 ELSE 0 END"


def _too_few(claims: Sequence[Claim], capacities: Mapping[str, int]) -> SeatsTooFew | None:
    """The first product of which the job needs more than there is."""
    for claim in claims:
        capacity = capacities.get(claim.product)
        if capacity is not None and claim.needed > capacity:
            return SeatsTooFew(claim.product, claim.needed, capacity)
    return None


def _full(
    batch: Batch, link: Link, claims: Sequence[Claim], limits: Mapping[str, int | None], capacities: Mapping[str, int]
) -> SeatsFull | None:
    """The first product that has no room for the job, or has others before it."""
    for product, claim in {claim.product: claim for claim in claims}.items():
        limit = limits.get(product, 0)
        if limit is None:
            continue
        used = as_int(link.query("SELECT coalesce(sum(seats), 0) FROM claims WHERE product = ? AND held_at_ms > 0", product)[0])
        if used + claim.needed > limit or _somebody_before(link, claim, capacities):
            return SeatsFull(product, used, limit, bisect_left(_line(batch, link, product), claim.arrival))
    return None


def _somebody_before(link: Link, claim: Claim, capacities: Mapping[str, int]) -> bool:
    """Whether anybody came before who waits for nothing but seats, and for no more than there are."""
    most = capacities.get(claim.product)
    fits, fits_values = ("AND c.needed <= ?", (most,)) if most is not None else ("", ())
    cases = " ".join("WHEN ? THEN ?" for _ in capacities)
    too_many = f"OR o.needed > CASE o.product {cases} ELSE o.needed END" if capacities else ""
    # Counted, where NOT EXISTS would say the same: PostgreSQL makes a join of that, which looks at everybody's claims before it answers.
    sql = f"""
        SELECT 1 FROM claims c
        WHERE c.product = ? AND c.held_at_ms = 0 AND (c.arrival, c.job_id) < (?, ?) {fits} AND 0 = (
          SELECT count(*) FROM claims o LEFT JOIN licenses l ON l.id = o.license_id
          WHERE o.job_id = c.job_id
          AND (l.id IS NULL OR {tables.LICENSE_AWAY} OR l.deleted_at_ms <> 0 {too_many}))
        ORDER BY c.arrival, c.job_id LIMIT 1
        """  # noqa: S608  # no value in it
    values = [value for pair in capacities.items() for value in pair]
    return bool(link.query(sql, claim.product, claim.arrival, claim.job_id, *fits_values, *values))


def _line(batch: Batch, link: Link, product: str) -> list[int]:
    """Arrivals of who waits for the product. Read once for all of a group who are told their place, as long as nobody comes or goes."""
    if product not in batch.lines:
        sql = "SELECT DISTINCT arrival FROM claims WHERE product = ? AND held_at_ms = 0 ORDER BY arrival"
        batch.lines[product] = [as_int(row) for row in link.query(sql, product)]
    return batch.lines[product]
