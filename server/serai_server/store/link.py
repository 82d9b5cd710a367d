"""What the owner thread needs of a database: one writing connection, as SQLite and PostgreSQL each make it.

SQL passes through here with `?` for a value; a link turns it into its driver's form. Every method raises StoreUnavailable or WriteRefused
and no exception of a driver.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from sqlalchemy import Table

from serai_server.store.api import StoreUnavailable
from serai_server.store.rows import Row, Value

Cell = Value | Sequence[Value] | None


class CommitUnknown(StoreUnavailable):
    """The connection was lost while COMMIT was under way: what became of the transaction is seen after connecting again."""


class Link(Protocol):
    def connect(self) -> bool:
        """Make sure that there is a connection. True = it is a new one, so nothing that was known of the database holds."""
        ...

    def begin(self) -> None: ...

    def commit(self) -> None:
        """Raises CommitUnknown when the outcome cannot be told; after StoreUnavailable nothing was changed."""
        ...

    def rollback(self) -> None:
        """Never raises; a connection that cannot even do that is closed."""
        ...

    def query(self, sql: str, *values: Cell) -> list[Row]: ...

    def execute(self, sql: str, *values: Cell) -> int:
        """How many rows it touched."""
        ...

    def among(self, column: str) -> str:
        """The condition that the column is one of the values of `listed`, which is its one `?`."""
        ...

    def listed(self, values: Collection[Value]) -> Cell: ...

    def insert(self, table: Table, rows: Sequence[tuple[Value, ...]], *, ignore: bool = False) -> None:
        """All columns, in order. `ignore` passes over rows that break a unique index."""
        ...

    def update(self, table: Table, names: Sequence[str], rows: Sequence[tuple[Value, ...]]) -> None:
        """Each row: the new values of the columns in `names`, then the id of the row to change."""
        ...

    def script(self, sql: str) -> None:
        """Several statements, inside the open transaction."""
        ...

    def tables(self) -> set[str]:
        """Names of the tables that are there."""
        ...

    def close(self) -> None: ...
