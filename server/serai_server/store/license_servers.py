"""License servers and maintenance windows, written inside a transaction of the owner thread."""

from __future__ import annotations

from serai_server.store import tables
from serai_server.store.batch import Batch
from serai_server.store.license_api import Reseal, ServerConflict
from serai_server.store.license_model import StoredServer, StoredWindow
from serai_server.store.link import Link
from serai_server.store.model import Committed
from serai_server.store.rows import Value


def add_server(server: StoredServer, _: Batch, link: Link) -> tuple[None, Committed]:
    """Raises ServerConflict before anything is written."""
    for name, product in link.query("SELECT name, product FROM license_servers WHERE name = ? OR product = ?", server.name, server.product):
        if name == server.name:
            raise ServerConflict(f"there is a license server {server.name} already; choose another name or remove it first")
        raise ServerConflict(f"product {product} has a license server already: {name}; remove it first")
    row = (server.name, server.product, server.body, server.sealed, server.observed_at_ms, server.observed)
    link.insert(tables.license_servers, [row])
    return None, Committed()


def change_server(name: str, changed: dict[str, Value], _: Batch, link: Link) -> tuple[bool, Committed]:
    """`changed`: column → new value."""
    if not link.query("SELECT 1 FROM license_servers WHERE name = ?", name):
        return False, Committed()
    for column, value in changed.items():
        link.execute(f"UPDATE license_servers SET {column} = ? WHERE name = ?", value, name)  # noqa: S608  # columns' names, no value
    return True, Committed()


def remove_server(name: str, _: Batch, link: Link) -> tuple[bool, Committed]:
    return link.execute("DELETE FROM license_servers WHERE name = ?", name) > 0, Committed()


def reseal(anew: Reseal, _: Batch, link: Link) -> tuple[int | Exception, Committed]:
    """How many keys it were, or what `anew` raised, and then nothing was written."""
    sealed = link.query("SELECT name, sealed FROM license_servers WHERE length(sealed) > 0 ORDER BY name")
    try:
        fresh = [(str(name), anew(str(name), bytes(key))) for name, key in sealed]
    except Exception as error:
        # The caller's own, whatever it is.
        return error, Committed()
    for name, key in fresh:
        link.execute("UPDATE license_servers SET sealed = ? WHERE name = ?", key, name)
    return len(fresh), Committed()


def add_window(window: StoredWindow, _: Batch, link: Link) -> tuple[None, Committed]:
    """One that is there is left as it is: its id is new with each window, so this is a repetition."""
    row = (window.id, window.product, window.starts_at_ms, window.ends_at_ms, window.body)
    link.insert(tables.license_windows, [row], ignore=True)
    return None, Committed()


def remove_window(window_id: str, _: Batch, link: Link) -> tuple[bool, Committed]:
    return link.execute("DELETE FROM license_windows WHERE id = ?", window_id) > 0, Committed()
