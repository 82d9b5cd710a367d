"""Lists of licenses: what is in them, their order and pages, and that a workspace's list costs the same however many licenses there are."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
from fakes.license_rows import move, new_license
from fakes.store_plans import asked_of, explained, rows_read, second_link, take_statistics
from serai_server.store.license_model import LicenseChange, LicenseFilter, LicenseSort, LicenseState, StoredLicense
from serai_server.store.open import open_store
from serai_server.store.sql_store import SqlStore


@pytest.fixture
async def store(url: str) -> AsyncIterator[SqlStore]:
    async with open_store(url, lambda _: None) as opened:
        yield opened


async def ids(store: SqlStore, condition: LicenseFilter, most: int = 100) -> list[str]:
    return [row.id for row in (await store.licenses.page(condition, most, "")).licenses]


async def leaf_through(store: SqlStore, condition: LicenseFilter, most: int) -> list[str]:
    seen: list[str] = []
    token = ""
    while True:
        page = await store.licenses.page(condition, most, token)
        seen += [row.id for row in page.licenses]
        token = page.next_token
        if not token:
            return seen
        assert len(page.licenses) == most


PRODUCTS = ("example/b/x", "example/a/z", "another/b/y")
STATES = tuple(LicenseState)

KEYS: dict[LicenseSort, Callable[[StoredLicense], int | str]] = {
    LicenseSort.CREATED_AT: lambda row: row.created_at_ms,
    LicenseSort.CREATED_BY: lambda row: row.owner,
    LicenseSort.PRODUCT: lambda row: row.product.split("/")[2],
    LicenseSort.CATEGORY: lambda row: row.product.split("/")[1],
    LicenseSort.PROVIDER: lambda row: row.product.split("/")[0],
    LicenseSort.STATE: lambda row: int(row.state),
}


async def fill(store: SqlStore) -> list[StoredLicense]:
    """Thirty, many alike in what lists are ordered by; every third is under two keys."""
    await store.licenses.create(
        [
            new_license(
                f"{n * 7 % 30:02}",
                owner=("bob", "alice", "Carol")[n % 3],
                product=PRODUCTS[n % 7 % 3],
                created_at_ms=n // 4,
                state=STATES[n % 5 % 3],
                readers=("u:1", "g:1") if n % 3 == 0 else ("u:1",) if n % 3 == 1 else ("g:1",),
            )
            for n in range(30)
        ]
    )
    found = await store.licenses.find([f"{n:02}" for n in range(30)])
    return list(found.values())


@pytest.mark.parametrize("sort", LicenseSort)
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("readers", [None, ("u:1",), ("u:1", "g:1", "nobody")], ids=["operator", "one key", "several keys"])
async def test_every_order_in_pages(store: SqlStore, sort: LicenseSort, descending: bool, readers: tuple[str, ...] | None) -> None:
    """Each license once, also those under several keys, and rows alike by their id; the last page has no token."""
    rows = await fill(store)
    expected = sorted(rows, key=lambda row: (KEYS[sort](row), row.id), reverse=descending)
    if readers == ("u:1",):
        mine = {f"{n * 7 % 30:02}" for n in range(30) if n % 3 != 2}
        expected = [row for row in expected if row.id in mine]
    condition = LicenseFilter(readers=readers, sort=sort, descending=descending)
    assert await leaf_through(store, condition, 7) == [row.id for row in expected]
    whole = await store.licenses.page(condition, len(expected), "")
    assert list(whole.licenses) == expected
    assert whole.next_token == ""
    skipped = await store.licenses.page(condition, 5, "", skip=4)
    assert [row.id for row in skipped.licenses] == [row.id for row in expected[4:9]]
    after = await store.licenses.page(condition, 5, skipped.next_token, skip=2)
    assert [row.id for row in after.licenses] == [row.id for row in expected[11:16]]


async def test_more_keys_than_are_walked_side_by_side(store: SqlStore) -> None:
    """Somebody in hundreds of groups gets the same list."""
    rows = await fill(store)
    many = ("u:1", "g:1", *(f"g:{n}" for n in range(2, 600)))
    expected = [row.id for row in sorted(rows, key=lambda row: (row.created_at_ms, row.id), reverse=True)]
    assert await leaf_through(store, LicenseFilter(readers=many), 4) == expected


async def test_licenses_that_come_and_go_do_not_shift_pages(store: SqlStore) -> None:
    """A token names a place, so what is deleted or made before it is neither skipped nor shown twice."""
    await store.licenses.create([new_license(str(n), created_at_ms=n) for n in range(6)])
    condition = LicenseFilter(readers=("u:alice",))
    page = await store.licenses.page(condition, 2, "")
    assert [row.id for row in page.licenses] == ["5", "4"]
    await move(store, "4", deleted=True)
    await move(store, "2", deleted=True)
    await store.licenses.create([new_license("6", created_at_ms=6)])
    page = await store.licenses.page(condition, 2, page.next_token)
    assert [row.id for row in page.licenses] == ["3", "1"]


@pytest.mark.parametrize("readers", [None, ("u:alice",), ("u:alice", "g:x")], ids=["operator", "one key", "several keys"])
async def test_filters(store: SqlStore, readers: tuple[str, ...] | None) -> None:
    """Each alone and some together; a deleted license is in no list."""
    every = ("u:alice", "g:x")
    await store.licenses.create(
        [
            new_license("1", owner="ann", product="p/c/x", created_at_ms=10, readers=every),
            new_license("2", owner="bob", product="p/d/y", created_at_ms=20, readers=every, status="Lizenz läuft über"),
            new_license("3", owner="ann", product="q/c/y", created_at_ms=30, readers=every, status="100%_of \\ it"),
            new_license("4", owner="Émile", product="q/d/x/with/slashes", created_at_ms=40, readers=every),
            new_license("5", readers=every),
        ]
    )
    await move(store, "5", deleted=True)
    await store.licenses.decide(["1"], lambda _, row: LicenseChange("1", 1, core_id="54"))

    async def found(**fields: object) -> str:
        condition = replace(LicenseFilter(readers=readers, descending=False), **fields)  # pyright: ignore[reportArgumentType] - real fields
        return "".join(await ids(store, condition))

    assert await found() == "1234"
    assert await found(owner="ann") == "13"
    assert await found(created_after_ms=20) == "234"
    assert await found(created_before_ms=20) == "12"
    assert await found(created_after_ms=20, created_before_ms=30) == "23"
    assert await found(provider="p") == "12"
    assert await found(category="c") == "13"
    assert await found(product_id="y") == "23"
    assert await found(product_id="x/with/slashes") == "4"
    assert await found(provider="p", category="c", product_id="x") == "1"
    assert await found(hide_provider="p") == "34"
    assert await found(hide_category="c", hide_product_id="y") == "4"
    assert await found(ids=("3", "1", "5", "nobody")) == "13"
    assert await found(ids=()) == ""
    assert await found(core_ids=("54", "2")) == "12"
    assert await found(core_ids=("1",)) == ""
    assert await found(core_ids=()) == ""
    assert await found(readers=()) == ""
    assert await found(text="ANN") == "13"
    assert await found(text="LÄUFT ÜBER") == "2"
    assert await found(text="émile") == "4"
    assert await found(text="Q/C") == "3"
    assert await found(text="100%_OF \\") == "3"
    assert await found(text="%") == "3"
    assert await found(text="_") == "3"
    assert await found(text="4") == "14", "the id under which UCloud knows it counts too"
    assert await found(text="54") == "1"
    assert await found(text="nothing like it") == ""
    assert await found(text="z", owner="bob") == "2"


@pytest.mark.parametrize("field", ["owner", "provider", "category", "product_id", "text"])
async def test_a_text_that_no_database_can_hold_finds_nothing(store: SqlStore, field: str) -> None:
    """A NUL character, in any field: no error, on either database."""
    await store.licenses.create([new_license("1")])
    assert await ids(store, replace(LicenseFilter(), **{field: "a\0b"})) == []  # pyright: ignore[reportArgumentType] - texts all
    assert await ids(store, LicenseFilter(readers=("\0", "u:alice"), hide_provider="\0")) == ["1"]
    assert await ids(store, LicenseFilter(ids=("\0",), core_ids=("\0",))) == []


async def test_who_may_read_a_license_may_change(store: SqlStore) -> None:
    """All keys are replaced at once; a change that names none leaves them."""
    await store.licenses.create([new_license("1", readers=("a", "b", "a"))])
    await store.licenses.decide(["1"], lambda _, row: LicenseChange("1", 1, readers=("b", "c")))
    await store.licenses.decide(["1"], lambda _, row: LicenseChange("1", 2, status="x"))
    assert [await ids(store, LicenseFilter(readers=(key,))) for key in "abc"] == [[], ["1"], ["1"]]


def token(*place: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


@pytest.mark.parametrize(
    "wrong",
    [
        "x",
        "é",
        "====",
        token(),
        token(1, True, 5),
        token(1, True, "5", "1"),
        token(1, True, -1, "1"),
        token(1, True, 2**63, "1"),
        token(1, True, 5, "\0"),
        token(1, True, 5, 1),
        token(1, True, None, "1"),
        base64.urlsafe_b64encode(b"[" * 100_000).decode(),
        token(1, False, 5, "1"),
        token(2, True, "a", "1"),
    ],
)
async def test_a_token_of_something_else_is_refused(store: SqlStore, wrong: str) -> None:
    """Not made here, or made for another order."""
    with pytest.raises(ValueError, match="token"):
        await store.licenses.page(LicenseFilter(), 5, wrong)


def fill_large(url: str, dialect: str) -> None:
    """100,000 licenses of 1,000 workspaces, made by the database itself."""
    link = second_link(url)
    link.begin()
    empty = "x''" if dialect == "sqlite" else "''::bytea"
    series = "WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 99999) "
    link.execute(
        "INSERT INTO licenses (id, state, version, digest, owner, project, product, created_at_ms, deleted_at_ms, at_core, core_id, "
        "payment, charges, payment_at_ms, status, body, acl, provider, category, product_id, status_mark, folded) "
        f"{series} SELECT 'l' || n, 2, 1, {empty}, 'user', '', 'p/c/' || (n % 5), n, 0, 1, '', 2, 0, 0, '', {empty}, {empty}, "
        "'p', 'c', '' || (n % 5), 0, 'l' || n FROM n"
    )
    link.execute(f"INSERT INTO license_readers (reader, created_at_ms, license_id) {series} SELECT 'u:' || (n % 1000), n, 'l' || n FROM n")
    # A fifth of everything, and thus what a reader of few licenses must not be taken for.
    link.execute(
        f"INSERT INTO license_readers (reader, created_at_ms, license_id) {series} SELECT 'g:all', n, 'l' || n FROM n WHERE n % 5 = 0"
    )
    link.commit()
    link.close()


LISTS = {
    "one key": LicenseFilter(readers=("u:7",)),
    "several keys": LicenseFilter(readers=("u:7", "u:8", "g:all")),
    "of some days": LicenseFilter(readers=("g:all",), created_before_ms=50_000, descending=False),
    "with a filter": LicenseFilter(readers=("u:7", "g:all"), hide_product_id="2"),
    "operator": LicenseFilter(),
}


async def plans(store: SqlStore) -> dict[str, str]:
    """How the database carries out the first and a later page of each list."""
    names: list[str] = []
    with asked_of(store) as asked:
        for name, condition in LISTS.items():
            names += [name, f"{name}, later"]
            await store.licenses.page(condition, 25, "")
            await store.licenses.page(condition, 25, token(1, condition.descending, 40_000, "l40000"))
    return dict(zip(names, explained(store, asked), strict=True))


async def test_a_workspaces_list_reads_its_own_rows_however_many_there_are(url: str, dialect: str) -> None:
    """First and later pages of 25 out of 100,000: walks of indexes that end with the page, before and after the database took statistics.
    SQLite says so by its plan, which is that of an empty database; PostgreSQL by the rows that it has read."""
    async with open_store(url, lambda _: None) as store:
        few = await plans(store)
        fill_large(url, dialect)
        large = await plans(store)
        take_statistics(url)
    async with open_store(url, lambda _: None) as store:
        analyzed = await plans(store)
    if dialect == "sqlite":
        assert few == large
        for name, plan in (*large.items(), *analyzed.items()):
            walked = "licenses USING INDEX licenses_by_age" if "operator" in name else "license_readers USING PRIMARY KEY (reader=?"
            assert walked in plan, plan
            assert not re.search(r"SCAN licen\w+$", plan, re.MULTILINE), plan
            if name.partition(",")[0] in ("one key", "operator"):
                # What comes after the walk sorts one page.
                assert "TEMP B-TREE" not in plan.partition("SCAN anon")[0], plan
    else:
        assert {name: rows_read(plan) for name, plan in analyzed.items() if rows_read(plan) > 200} == {}
