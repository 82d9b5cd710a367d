"""Licenses, their readers and their history, written inside a transaction of the owner thread.

Unlike jobs these are written at once and not gathered in the batch: they are few, and whoever takes seats later in the same transaction
asks the database how they are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from serai_server.store import tables
from serai_server.store.batch import Batch
from serai_server.store.license_api import DecideLicense, LicenseConflict, QuotaReached
from serai_server.store.license_model import LicenseChange, LicenseNote, NewLicense, Quota, StoredLicense
from serai_server.store.license_rows import (
    CHANGING,
    FIELDS,
    as_license,
    changed_license,
    changing_license,
    first_license,
    license_row,
)
from serai_server.store.link import Link
from serai_server.store.model import Committed, EventKind, NewEvent
from serai_server.store.rows import as_int

KEPT_LINES = 1_000
"""Lines of history that a license keeps."""

_SELECT = f"SELECT {', '.join(tables.columns(tables.licenses)[:FIELDS])} FROM licenses WHERE "  # noqa: S608  # no value in it


@dataclass(slots=True)
class _Outcome:
    """What a call makes of licenses, before any of it is written."""

    rows: dict[str, StoredLicense]
    """As stored; then as they become."""
    created: dict[str, None] = field(default_factory=dict[str, None])
    changed: dict[str, None] = field(default_factory=dict[str, None])
    readers: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """All readers of those licenses that get others."""
    notes: list[LicenseNote] = field(default_factory=list[LicenseNote])
    of_holders: dict[str, Callable[[str], LicenseNote]] = field(default_factory=dict[str, Callable[[str], LicenseNote]])

    def create(self, given: NewLicense) -> None:
        self.rows[given.id] = first_license(given)
        self.created[given.id] = None
        self.readers[given.id] = given.readers
        self.notes.extend(given.notes)

    def change(self, change: LicenseChange) -> None:
        row = changed_license(self.rows[change.license_id], change)
        self.rows[row.id] = row
        self.changed[row.id] = None
        if change.readers is not None:
            self.readers[row.id] = change.readers
        if row.deleted_at_ms:
            self.readers[row.id] = ()
        self.notes.extend(change.notes)
        if change.note_of_holder is not None:
            self.of_holders[row.id] = change.note_of_holder

    def write(self, batch: Batch, link: Link) -> Committed:
        """Parents before children: readers and lines refer to their license."""
        if self.created:
            link.insert(tables.licenses, [license_row(self.rows[i]) for i in self.created])
        changed = [changing_license(self.rows[i]) for i in self.changed if i not in self.created]
        if changed:
            link.update(tables.licenses, CHANGING, changed)
        self._write_readers(link)
        self.notes += [self.of_holders[license_id](job_id) for license_id, job_id in _holders(link, list(self.of_holders))]
        return Committed((), (), batch.log(_write_notes(link, self.notes, _last_lines(link, self.notes))))

    def _write_readers(self, link: Link) -> None:
        others = [i for i in self.readers if i not in self.created]
        if others:
            link.execute(f"DELETE FROM license_readers WHERE {link.among('license_id')}", link.listed(others))  # noqa: S608
        rows = [(key, self.rows[i].created_at_ms, i) for i, keys in self.readers.items() for key in dict.fromkeys(keys)]
        if rows:
            link.insert(tables.license_readers, rows)


def create(licenses: Sequence[NewLicense], quota: Quota | None, batch: Batch, link: Link) -> tuple[None, Committed]:
    """Raises LicenseConflict and QuotaReached before anything is written."""
    outcome = _Outcome(_load(link, [given.id for given in licenses]))
    digests = {i: row.digest for i, row in outcome.rows.items()}
    for index, given in enumerate(licenses):
        if digests.setdefault(given.id, given.digest) != given.digest:
            raise LicenseConflict(given.id, index)
    for given in licenses:
        if given.id not in outcome.rows:
            outcome.create(given)
    if quota is not None:
        there = as_int(link.query("SELECT count(*) FROM license_readers WHERE reader = ?", quota.reader)[0])
        if there + len(outcome.created) > quota.most:
            raise QuotaReached(f"{there} of {quota.most} licenses are there already")
    return None, outcome.write(batch, link)


def decide(
    ids: Sequence[str], decision: DecideLicense, batch: Batch, link: Link
) -> tuple[list[StoredLicense | None] | Exception, Committed]:
    """The rows after, or what `decision` raised, and then nothing was written."""
    outcome = _Outcome(_load(link, ids))
    try:
        for place, license_id in enumerate(ids):
            row = outcome.rows.get(license_id)
            step = decision(place, row)
            if isinstance(step, NewLicense):
                if row is not None or not license_id or step.id != license_id:
                    raise ValueError(f"license {license_id} is there already, or the new one has another id")  # noqa: TRY301
                outcome.create(step)
            elif step is not None:
                _check(license_id, row, step)
                outcome.change(step)
    except Exception as error:
        # The caller's own, whatever it is.
        return error, Committed()
    return [outcome.rows.get(i) for i in ids], outcome.write(batch, link)


def note(link: Link, notes: Sequence[LicenseNote]) -> list[NewEvent]:
    """What a job's step means to licenses: writes the lines, and gives the events. Licenses that are not there are passed over."""
    last = _last_lines(link, notes, " AND deleted_at_ms = 0")
    return _write_notes(link, [n for n in notes if n.license_id in last], last)


def _check(license_id: str, row: StoredLicense | None, change: LicenseChange) -> None:
    """Raises ValueError for a step that does not fit its row."""
    if row is None or (change.license_id, change.expected_version) != (license_id, row.version):
        raise ValueError(f"the step is not one of license {license_id} as it is")
    if any(n.license_id != license_id for n in change.notes):
        raise ValueError(f"a note of license {license_id}'s step is of another license")


def _load(link: Link, ids: Collection[str]) -> dict[str, StoredLicense]:
    if not ids:
        return {}
    return {row.id: row for row in map(as_license, link.query(_SELECT + link.among("id"), link.listed(list(dict.fromkeys(ids)))))}


def _holders(link: Link, ids: Sequence[str]) -> list[tuple[str, str]]:
    """Licenses and the jobs that hold their seats, in order of arrival."""
    if not ids:
        return []
    sql = f"SELECT license_id, job_id FROM claims WHERE {link.among('license_id')} AND held_at_ms > 0 ORDER BY arrival, job_id"  # noqa: S608
    return [(str(r[0]), str(r[1])) for r in link.query(sql, link.listed(ids))]


def _last_lines(link: Link, notes: Sequence[LicenseNote], condition: str = "") -> dict[str, int]:
    """License → number of its newest line, 0 = it has none. Those that are not stored, or not as the condition says, are missing."""
    if not notes:
        return {}
    newest = "(SELECT coalesce(max(h.number), 0) FROM license_history h WHERE h.license_id = licenses.id)"
    sql = f"SELECT id, {newest} FROM licenses WHERE {link.among('id')}{condition}"  # noqa: S608  # no value in it
    return {str(r[0]): int(r[1]) for r in link.query(sql, link.listed(list(dict.fromkeys(n.license_id for n in notes))))}


def _write_notes(link: Link, notes: Sequence[LicenseNote], last: dict[str, int]) -> list[NewEvent]:
    """`last` is counted on. Returns the events that the notes are for Core."""
    lines: list[tuple[str, int, int, bytes]] = []
    for line in notes:
        if line.body:
            last[line.license_id] += 1
            lines.append((line.license_id, last[line.license_id], line.at_ms, line.body))
    if lines:
        link.insert(tables.license_history, lines)
    for license_id in dict.fromkeys(line[0] for line in lines):
        too_old = last[license_id] - KEPT_LINES
        if too_old > 0:
            link.execute("DELETE FROM license_history WHERE license_id = ? AND number <= ?", license_id, too_old)
    return [NewEvent("", EventKind.LICENSE, n.event, n.at_ms, n.license_id) for n in notes if n.event]
