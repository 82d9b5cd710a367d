"""Reads about licenses, seats and license servers; pages have a file of their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, and_, case, distinct, exists, false, func, literal_column, or_, select, union_all

from serai_server.store.license_api import ANY_NUMBER
from serai_server.store.license_model import AtCore, Claim, LicenseState, Line, Payment, StoredLicense, StoredServer, StoredWindow
from serai_server.store.license_rows import FIELDS, as_claim, as_license, as_line, as_server, as_window, status_mark
from serai_server.store.reads import Reader, settled_to
from serai_server.store.rows import Row, as_text
from serai_server.store.tables import (
    LICENSE_MOVES,
    LICENSE_THERE,
    LICENSE_TO_SETTLE,
    OF_LICENSES,
    claims,
    events,
    license_history,
    license_servers,
    license_windows,
    licenses,
    unsettled,
)

_AT_ONCE = 10_000
"""Most ids that one statement asks for."""

LICENSE = list(licenses.c)[:FIELDS]
"""The columns of a StoredLicense."""

THERE = LICENSE_THERE


def _in_parts(ids: Iterable[str]) -> Iterator[list[str]]:
    """Each once, without those that no database can hold (a NUL character in PostgreSQL's text) and that are thus in none."""
    wanted = [i for i in dict.fromkeys(ids) if "\0" not in i]
    for start in range(0, len(wanted), _AT_ONCE):
        yield wanted[start : start + _AT_ONCE]


class LicenseReader:
    def __init__(self, reader: Reader) -> None:
        self._run = reader.run

    async def license(self, license_id: str) -> StoredLicense | None:
        for (wanted,) in _in_parts((license_id,)):
            for row in await self._run(select(*LICENSE).where(licenses.c.id == wanted), as_license):
                return row
        return None

    async def find(self, names: Sequence[str]) -> dict[str, StoredLicense]:
        found: dict[str, StoredLicense] = {}
        for part in _in_parts(names):
            # The second condition is that of the index.
            by_core_id = and_(licenses.c.core_id.in_(part), licenses.c.core_id != literal_column("''"))
            rows = await self._run(select(*LICENSE).where(or_(licenses.c.id.in_(part), by_core_id)), as_license)
            found |= {row.core_id: row for row in rows if row.core_id} | {row.id: row for row in rows}
        return {name: found[name] for name in names if name in found}

    async def history(self, ids: Sequence[str], limit: int) -> dict[str, tuple[bytes, ...]]:
        found: dict[str, list[bytes]] = {i: [] for i in ids}
        lines = license_history
        newest = select(func.max(lines.c.number)).where(lines.c.license_id == licenses.c.id).correlate(licenses).scalar_subquery()
        # An outer join, because SQLite begins it on the left and thus reads of each license no more than the lines that are wanted.
        wanted = and_(lines.c.license_id == licenses.c.id, lines.c.number > newest - limit)
        query = select(licenses.c.id, lines.c.body).select_from(licenses).join(lines, wanted, isouter=True)
        for part in _in_parts(ids):
            for license_id, body in await self._run(query.where(licenses.c.id.in_(part)).order_by(licenses.c.id, lines.c.number), _line):
                if body is not None:
                    found[license_id].append(body)
        return {i: tuple(bodies) for i, bodies in found.items()}

    async def bound_to(self, ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {i: [] for i in ids}
        query = select(claims.c.license_id, claims.c.job_id).where(claims.c.held_at_ms > 0)
        query = query.order_by(claims.c.license_id, claims.c.arrival, claims.c.job_id)
        for part in _in_parts(ids):
            for license_id, job_id in await self._run(query.where(claims.c.license_id.in_(part)), _two_texts):
                found[license_id].append(job_id)
        return {i: tuple(jobs) for i, jobs in found.items()}

    async def to_move(self, product: str, state: LicenseState, status: str, limit: int, keep: LicenseState | None) -> list[StoredLicense]:
        """Four stretches of one index, so that however many licenses are as they should be costs nothing."""
        c, mark = licenses.c, status_mark(status)
        wrong: tuple[ColumnElement[bool], ...] = (
            c.state < int(state),
            c.state > int(state),
            and_(c.state == int(state), c.status_mark < mark),
            and_(c.state == int(state), c.status_mark > mark),
        )
        here = and_(c.product == product, LICENSE_MOVES)
        if keep is not None:
            here = and_(here, c.state != int(keep))
        # In the index's order, which PostgreSQL needs as a reason to use it.
        parts = [select(select(c.id).where(here, w).order_by(c.state, c.status_mark, c.id).limit(limit).subquery()) for w in wrong]
        ids = union_all(*parts).limit(limit).subquery()
        return await self._run(select(*LICENSE).where(c.id.in_(select(ids))).order_by(c.id), as_license)

    async def to_settle(self, product: str, before_ms: int, limit: int) -> list[StoredLicense]:
        c = licenses.c
        query = select(*LICENSE).where(c.product == product, LICENSE_TO_SETTLE, c.payment_at_ms < before_ms)
        return await self._run(query.order_by(c.payment_at_ms, c.id).limit(limit), as_license)

    async def unsettled_events(self, consumer: str) -> dict[int, str]:
        c = events.c
        above = select(c.sequence, c.license_id).where(OF_LICENSES, c.sequence > settled_to(consumer))
        left = select(c.sequence, c.license_id).join(unsettled, unsettled.c.sequence == c.sequence)
        left = left.where(OF_LICENSES, unsettled.c.consumer == consumer)
        return dict(await self._run(union_all(above, left), _int_and_text))

    async def count(self) -> dict[str, int]:
        query = select(licenses.c.product, func.count()).where(THERE).group_by(licenses.c.product)
        return dict(await self._run(query, _text_and_int))

    async def claims(self, job_id: str) -> list[Claim]:
        for (wanted,) in _in_parts((job_id,)):
            return await self._run(select(claims).where(claims.c.job_id == wanted).order_by(claims.c.license_id), as_claim)
        return []

    async def first_in_line(self, product: str, limit: int, capacities: Mapping[str, int] = ANY_NUMBER) -> list[str]:
        return await self._run(first_in_line(product, capacities).limit(limit), as_text)

    async def waiting(self, product: str, limit: int) -> list[str]:
        return await self._run(_in_line(product, claims).limit(limit), as_text)

    async def without_license(self, product: str) -> list[str]:
        there = select(licenses.c.id).where(licenses.c.id == claims.c.license_id, THERE).correlate(claims)
        return await self._run(_in_line(product, claims).where(~exists(there)), as_text)

    async def lines(self) -> dict[str, Line]:
        held = claims.c.held_at_ms > 0
        query = select(
            claims.c.product,
            func.sum(case((held, claims.c.seats), else_=0)),
            func.count(distinct(case((held, claims.c.job_id)))),
            func.count(distinct(case((~held, claims.c.job_id)))),
        ).group_by(claims.c.product)
        return {line.product: line for line in await self._run(query, as_line)}

    async def servers(self) -> list[StoredServer]:
        return await self._run(select(license_servers).order_by(license_servers.c.name), as_server)

    async def windows(self) -> list[StoredWindow]:
        c = license_windows.c
        return await self._run(select(license_windows).order_by(c.starts_at_ms, c.id), as_window)


_AWAY: ColumnElement[bool] = or_(
    licenses.c.state != int(LicenseState.READY),
    licenses.c.payment == int(Payment.ASKED),
    and_(licenses.c.payment == int(Payment.OPEN), licenses.c.at_core == int(AtCore.WANTED)),
)
"""As tables.LICENSE_AWAY."""


def first_in_line(product: str, capacities: Mapping[str, int]) -> Select[Any]:
    """Grouped, because a job may wait for several licenses of one product; in the order of the index, so that a limit ends the search."""
    c, other = claims.alias("c"), claims.alias("o")
    # Counted for the reason that seats.py gives.
    kept = (
        select(func.count())
        .select_from(other.join(licenses, licenses.c.id == other.c.license_id))
        .where(other.c.job_id == c.c.job_id, or_(and_(THERE, _AWAY), _too_many(other, capacities)))
        .correlate(c)
        .scalar_subquery()
    )
    query = _in_line(product, c).where(kept == 0)
    # The same, said so that the index knows it.
    return query.where(c.c.needed <= capacities[product]) if product in capacities else query


def _too_many(c: FromClause, capacities: Mapping[str, int]) -> ColumnElement[bool]:
    """The claims of jobs that need more than there is."""
    if not capacities:
        return false()
    return c.c.needed > case(*((c.c.product == product, most) for product, most in capacities.items()), else_=c.c.needed)


def _in_line(product: str, c: FromClause) -> Select[Any]:
    """Jobs of the claims that wait, in order of arrival."""
    query = select(c.c.job_id).where(c.c.product == product, c.c.held_at_ms == literal_column("0"))
    return query.group_by(c.c.arrival, c.c.job_id).order_by(c.c.arrival, c.c.job_id)


def _line(row: Row) -> tuple[str, bytes | None]:
    """None = the license has no line."""
    return str(row[0]), None if row[1] is None else bytes(row[1])


def _int_and_text(row: Row) -> tuple[int, str]:
    return int(row[0]), str(row[1])


def _text_and_int(row: Row) -> tuple[str, int]:
    return str(row[0]), int(row[1])


def _two_texts(row: Row) -> tuple[str, str]:
    return str(row[0]), str(row[1])
