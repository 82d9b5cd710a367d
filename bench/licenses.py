"""Browsing licenses: what a page costs with 100,000 licenses over what it costs with 1,000, by the use case and the store that serve it.

Pages are those of a project's PI (who sees all of them), of a member who was given a tenth of them by name, and of the operator; the first
page, and one from anywhere in the middle. Small and large store take turns, so what else the machine does hits both.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import uvloop
from serai.core.v1.resources_pb2 import PERMISSION_READ, AclEntity, ProductReference, ResourceAclEntry, ResourceOwner, UserEntity
from serai.licenses.v1.license_pb2 import License, LicenseSpecification
from serai.licenses.v1.licenses_service_pb2 import BrowseRequest, LicenseIncludeFlags
from serai_server.licenses.access import OPERATOR, Actor
from serai_server.licenses.products import LicenseCatalog, LicenseProduct
from serai_server.licenses.requests import of_core
from serai_server.licenses.service import LicensesService
from serai_server.store.open import open_store

from bench.ratio import Ratio

FEW, MANY = 1_000, 100_000
PAGES = 400
"""Of each kind, from each store."""
PAGE_SIZE = 100
START_MS = 1_790_000_000_000
PRODUCT = LicenseProduct("example-license", "example-license", "example")
FLAGS = LicenseIncludeFlags(include_others=True, include_product=True, include_support=True)
ACTORS = {"PI": Actor("pi", "p", "PI"), "member": Actor("member", "p", "USER"), "operator": OPERATOR}


@dataclass(slots=True)
class Site:
    """A store full of licenses, and tokens of places in its middle."""

    service: LicensesService
    tokens: dict[str, list[str]]


def run() -> list[Ratio]:
    # In the working folder, because /tmp may be memory.
    folder = Path(tempfile.mkdtemp(prefix=".bench-licenses-", dir=Path.cwd()))
    try:
        return list(uvloop.run(_measured(folder)))
    finally:
        shutil.rmtree(folder)


async def _measured(folder: Path) -> list[Ratio]:
    async with AsyncExitStack() as stack:
        few, many = [await _site(stack, folder, count) for count in (FEW, MANY)]
        return [ratio for who in ACTORS for ratio in await _pages(who, few, many)]


async def _site(stack: AsyncExitStack, folder: Path, count: int) -> Site:
    store = await stack.enter_async_context(open_store(f"sqlite:///{folder / f'{count}.db'}", lambda _: None))
    catalog = LicenseCatalog([PRODUCT])
    for start in range(0, count, 1_000):
        rows = [of_core(_license(start + n), n, catalog, START_MS + start + n) for n in range(1_000)]
        await store.licenses.create(rows)
    service = LicensesService(
        store=store.licenses, catalog=catalog, look=lambda _: None, wall=lambda: START_MS + count, register_at_core=False
    )
    return Site(service, {who: await _tokens(service, actor, count) for who, actor in ACTORS.items()})


def _license(number: int) -> License:
    """Every tenth is shared with a member by name."""
    shared = ResourceAclEntry(entity=AclEntity(user=UserEntity(username="member")), permissions=[PERMISSION_READ])
    license_ = License(
        id=str(5_000 + number),
        owner=ResourceOwner(created_by=f"user-{number % 97}", project="p"),
        specification=LicenseSpecification(product=ProductReference(id=PRODUCT.id, category=PRODUCT.category, provider=PRODUCT.provider)),
    )
    license_.permissions.others.extend([shared] if number % 10 == 0 else [])
    return license_


async def _tokens(service: LicensesService, actor: Actor, count: int) -> list[str]:
    """Places all over the list, and its start."""
    tokens = [""]
    steps = max(count // PAGE_SIZE // 20, 1)
    for place in range(20):
        request = BrowseRequest(items_per_page=10, items_to_skip=min(place * steps * PAGE_SIZE, 10_000), next=tokens[-1] or None)
        token = (await service.browse(request, actor))[2]
        if not token:
            break
        tokens.append(token)
    return tokens


async def _pages(who: str, few: Site, many: Site) -> Iterator[Ratio]:
    chooser = random.Random(6)
    took: dict[str, list[float]] = {"few": [], "many": []}
    for turn in range(PAGES + 20):
        for name, site in (("few", few), ("many", many)):
            request = BrowseRequest(flags=FLAGS, items_per_page=PAGE_SIZE, next=chooser.choice(site.tokens[who]) or None)
            start = time.perf_counter()
            await site.service.browse(request, ACTORS[who])
            if turn >= 20:  # the first ones only warm up
                took[name].append((time.perf_counter() - start) * 1_000)
    p99 = {name: quantiles(times, n=100)[98] for name, times in took.items()}
    detail = f"medians of {PAGES} pages of {PAGE_SIZE}: {median(took['many']):.2f} ms over {median(took['few']):.2f} ms with {FEW:,}"
    return iter(
        [
            Ratio(
                name=f"a page of {MANY:,} licenses, {who}",
                value=median(took["many"]) / median(took["few"]),
                limit=1.5,
                direction="at most",
                unit="x",
                detail=detail,
            ),
            Ratio(
                name=f"p99 of such a page, {who}",
                value=p99["many"],
                limit=0,
                direction="printed",
                unit="ms",
                detail=f"with {FEW:,} licenses {p99['few']:.2f} ms",
            ),
        ]
    )
