"""The tables, for queries and for the test that compares them with the migrations. The migrations make the schema; this describes it.

Times are ms since epoch and 0 = never, so that no column is nullable and both databases compare alike.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, LargeBinary, MetaData, Table, Text, and_, literal_column
from sqlalchemy.types import TypeEngine

from serai_server.store.license_model import AtCore, LicenseState, Payment

metadata = MetaData()

# SQLite stores an INTEGER PRIMARY KEY as the row's own key; PostgreSQL's "integer" would be 32 bits.
_INT: TypeEngine[int] = BigInteger().with_variant(Integer(), "sqlite")


def _int(name: str) -> Column[int]:
    return Column(name, _INT, nullable=False)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _bytes(name: str) -> Column[bytes]:
    return Column(name, LargeBinary, nullable=False)


jobs = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True, nullable=False),
    _int("state"),
    _int("target"),
    _int("version"),
    _bytes("digest"),
    _text("owner"),
    _text("project"),
    _text("application"),
    _text("product"),
    _text("name"),
    _int("replicas"),
    _int("time_limit_ms"),
    _int("period_ms"),
    _text("output_folder"),
    _int("created_at_ms"),
    _int("submitted_at_ms"),
    _int("started_at_ms"),
    _int("ended_at_ms"),
    _int("forgotten_at_ms"),
    _int("stop_requested_at_ms"),
    _text("status"),
    _bytes("replica_facts"),
    _int("charged_periods"),
    _int("wake_at_ms"),
    _bytes("body"),
    _int("ran_ms"),
    _int("running_since_ms"),
    _int("warned_ms"),
    _bytes("notes"),
    _int("claims"),
    sqlite_strict=True,
)
"""Columns in the order of StoredJob's fields: rows are read and written by position."""

Index("jobs_by_age", jobs.c.created_at_ms, jobs.c.id)
Index("jobs_by_owner", jobs.c.owner, jobs.c.created_at_ms, jobs.c.id)
Index(
    "jobs_active",
    jobs.c.created_at_ms,
    jobs.c.id,
    sqlite_where=jobs.c.forgotten_at_ms == 0,
    postgresql_where=jobs.c.forgotten_at_ms == 0,
)

events = Table(
    "events",
    metadata,
    Column("sequence", _INT, primary_key=True, autoincrement=False, nullable=False),
    _text("job_id"),
    _int("kind"),
    _bytes("body"),
    _int("at_ms"),
    _text("license_id"),
    sqlite_strict=True,
)
"""Of a job, or of a license: the other id is empty."""
Index("events_by_job", events.c.job_id, events.c.sequence)

# Conditions are spelled out, values too: an index that covers only such rows is of use only to a query that says the same words.
OF_LICENSES = events.c.license_id != literal_column("''")
Index("events_of_licenses", events.c.sequence, events.c.license_id, sqlite_where=OF_LICENSES, postgresql_where=OF_LICENSES)

consumers = Table(
    "consumers",
    metadata,
    Column("name", Text, primary_key=True, nullable=False),
    _int("settled_to"),
    _text("owner"),
    _int("seen_at_ms"),
    sqlite_strict=True,
)
"""Everything up to `settled_to` is settled but for what stands in unsettled; everything above is not settled. So asking for what is left
reads only what is left, however much was settled before. `owner`, `seen_at_ms`: see
model.Backlog."""

unsettled = Table(
    "unsettled",
    metadata,
    Column("consumer", Text, ForeignKey("consumers.name"), primary_key=True, nullable=False),
    Column("sequence", _INT, primary_key=True, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

settlements = Table(
    "settlements",
    metadata,
    Column("consumer", Text, ForeignKey("consumers.name"), primary_key=True, nullable=False),
    Column("sequence", _INT, primary_key=True, nullable=False),
    _int("outcome"),
    _text("detail"),
    _int("at_ms"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

Index(
    "settlements_unpaid",
    settlements.c.at_ms,
    sqlite_where=settlements.c.outcome == 3,
    postgresql_where=settlements.c.outcome == 3,
)

intervals = Table(
    "intervals",
    metadata,
    Column("job_id", Text, ForeignKey("jobs.id"), primary_key=True, nullable=False),
    Column("version", _INT, primary_key=True, nullable=False),
    _int("started_at_ms"),
    _int("ended_at_ms"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""`version` is the job's when the interval began: it orders intervals also when the clock was set back."""
Index(
    "intervals_open",
    intervals.c.job_id,
    unique=True,
    sqlite_where=intervals.c.ended_at_ms == 0,
    postgresql_where=intervals.c.ended_at_ms == 0,
)

ledger = Table(
    "ledger",
    metadata,
    Column("job_id", Text, ForeignKey("jobs.id"), primary_key=True, nullable=False),
    Column("first_period", _INT, primary_key=True, nullable=False),
    _int("units"),
    _int("number_of_products"),
    _text("charge_id"),
    _int("at_ms"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

licenses = Table(
    "licenses",
    metadata,
    Column("id", Text, primary_key=True, nullable=False),
    _int("state"),
    _int("version"),
    _bytes("digest"),
    _text("owner"),
    _text("project"),
    _text("product"),
    _int("created_at_ms"),
    _int("deleted_at_ms"),
    _int("at_core"),
    _text("core_id"),
    _int("payment"),
    _int("charges"),
    _int("payment_at_ms"),
    _text("status"),
    _bytes("body"),
    _bytes("acl"),
    _text("provider"),
    _text("category"),
    _text("product_id"),
    _int("status_mark"),
    _text("folded"),
    sqlite_strict=True,
)
"""Columns in the order of StoredLicense's fields, then what lists and searches are made of: the parts of the product's key, a number that
stands for the status (an index cannot hold a long text), and the text to be searched, in one case. No row is ever deleted."""

LICENSE_THERE = licenses.c.deleted_at_ms == literal_column("0")
_NOT_LOST = licenses.c.at_core != literal_column(str(int(AtCore.LOST)))
LICENSE_MOVES = and_(LICENSE_THERE, _NOT_LOST, licenses.c.payment < literal_column(str(int(Payment.UNPAID))))
"""Its state follows its product's server (Payment.keeps_away)."""
LICENSE_PAYING = f"(l.payment = {int(Payment.ASKED)} OR l.payment = {int(Payment.OPEN)} AND l.at_core = {int(AtCore.WANTED)})"
"""Of licenses l: Core has not said yet whether it is paid, or does not know it yet."""
LICENSE_AWAY = f"(l.state <> {int(LicenseState.READY)} OR {LICENSE_PAYING})"
"""Of licenses l: no job gets seats of it now."""
LICENSE_TO_SETTLE = and_(
    LICENSE_THERE,
    _NOT_LOST,
    licenses.c.payment >= literal_column(str(int(Payment.UNSURE))),
    licenses.c.payment <= literal_column(str(int(Payment.UNPAID))),
)
"""Payment.to_settle"""

Index("licenses_by_age", licenses.c.created_at_ms, licenses.c.id, sqlite_where=LICENSE_THERE, postgresql_where=LICENSE_THERE)
Index("licenses_by_core_id", licenses.c.core_id, sqlite_where=licenses.c.core_id != "", postgresql_where=licenses.c.core_id != "")
Index(
    "licenses_by_product",
    licenses.c.product,
    licenses.c.state,
    licenses.c.status_mark,
    licenses.c.id,
    sqlite_where=LICENSE_MOVES,
    postgresql_where=LICENSE_MOVES,
)
Index(
    "licenses_to_settle",
    licenses.c.product,
    licenses.c.payment_at_ms,
    licenses.c.id,
    sqlite_where=LICENSE_TO_SETTLE,
    postgresql_where=LICENSE_TO_SETTLE,
)

license_readers = Table(
    "license_readers",
    metadata,
    Column("reader", Text, primary_key=True, nullable=False),
    Column("created_at_ms", _INT, primary_key=True, nullable=False),
    Column("license_id", Text, ForeignKey("licenses.id"), primary_key=True, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""Under which keys lists find a license that is there. The key is a list's order, so a page reads its own rows and no others."""
Index("license_readers_by_license", license_readers.c.license_id)

license_history = Table(
    "license_history",
    metadata,
    Column("license_id", Text, ForeignKey("licenses.id"), primary_key=True, nullable=False),
    Column("number", _INT, primary_key=True, nullable=False),
    _int("at_ms"),
    _bytes("body"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""`number` grows by one with each line of a license, so the newest ones are a stretch of the key."""

claims = Table(
    "claims",
    metadata,
    Column("job_id", Text, primary_key=True, nullable=False),
    Column("license_id", Text, primary_key=True, nullable=False),
    _text("product"),
    _int("seats"),
    _int("needed"),
    _int("arrival"),
    _int("held_at_ms"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""Of jobs that are not final. They refer to no job's row, because within a transaction they are written before it."""
_c = claims.c
Index("claims_by_product", _c.product, _c.held_at_ms, _c.arrival, _c.job_id, _c.seats, _c.needed)
Index("claims_by_license", claims.c.license_id, claims.c.arrival)

license_servers = Table(
    "license_servers",
    metadata,
    Column("name", Text, primary_key=True, nullable=False),
    _text("product"),
    _bytes("body"),
    _bytes("sealed"),
    _int("observed_at_ms"),
    _bytes("observed"),
    sqlite_strict=True,
)
Index("license_servers_by_product", license_servers.c.product, unique=True)

license_windows = Table(
    "license_windows",
    metadata,
    Column("id", Text, primary_key=True, nullable=False),
    _text("product"),
    _int("starts_at_ms"),
    _int("ends_at_ms"),
    _bytes("body"),
    sqlite_strict=True,
)


sessions = Table(
    "sessions",
    metadata,
    Column("id", Text, primary_key=True, nullable=False),
    _bytes("secret"),
    _bytes("cookie"),
    _int("kind"),
    _text("job_id"),
    _int("rank"),
    _text("username"),
    _int("port"),
    _int("opened_at_ms"),
    _int("redeemed_at_ms"),
    _int("expires_at_ms"),
    sqlite_strict=True,
)
"""Columns in the order of StoredSession's fields. Of jobs that are not final, and the operators' own (job_id empty)."""
Index("sessions_by_job", sessions.c.job_id)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Text, primary_key=True, nullable=False),
    _bytes("secret"),
    _text("name"),
    _int("role"),
    _text("project"),
    _int("created_at_ms"),
    _text("created_by"),
    _int("expires_at_ms"),
    _int("used_day_ms"),
    _int("revoked_at_ms"),
    sqlite_strict=True,
)
"""Columns in the order of StoredToken's fields."""


def columns(table: Table) -> tuple[str, ...]:
    """Names in the order of the table."""
    return tuple(c.name for c in table.columns)
