"""`serai products`: Core is told what the settings sell, once, and what it has is shown."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from fakes.commands import Ran, ran
from fakes.elsewhere import Elsewhere, elsewhere
from fakes.products_core import ProductsCore
from serai_server.cli.exits import Exit

PRODUCTS = """
[[products]]
id = "cpu-1"
category = "cpu"
cpu = 1
memory_gib = 2.9
price_per_unit = 1500
[[products]]
id = "gpu-1"
category = "gpu"
cpu = 16
memory_gib = 64
gpu = 2
price_unit = "hour"
price_per_unit = 12000000
"""


@dataclass
class Site:
    folder: Path
    core: ProductsCore
    capture: pytest.CaptureFixture[str]

    def write(self, products: str = PRODUCTS, url: str = "") -> None:
        text = f"""
[provider]
id = "example"
aliases = ["other"]
[core]
url = "{url or self.core.url}"
public_key_file = "core.pem"
refresh_token_file = "refresh"
generation = "{self.core.generation}"
timeout_ms = 5000
{products}"""
        (self.folder / "serai.toml").write_text(text)
        (self.folder / "refresh").write_text("good")

    def serai(self, *arguments: str) -> Ran[str]:
        try:
            return ran(self.capture, "products", *arguments, "--config", str(self.folder / "serai.toml"))
        finally:
            structlog.reset_defaults()  # a command's process would end here, and its set-up of logs with it

    def outcomes(self) -> list[tuple[str, str]]:
        return [(one["id"], one["outcome"]) for one in self.serai("push", "--json").json["products"]]

    def at_core(self) -> list[str | None]:
        return [one["at_core"] for one in self.serai("list", "--json").json["products"]]


@dataclass
class Running(Elsewhere):
    core: ProductsCore


@asynccontextmanager
async def serving(generation: str) -> AsyncGenerator[Running]:
    core = ProductsCore(generation)
    async with core.running():
        yield Running(core)


@pytest.fixture
def make(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[[str], Site]]:
    """A site of a generation."""

    def build(generation: str) -> Site:
        core = threads.enter_context(elsewhere(serving(generation))).core
        site = Site(tmp_path, core, capfd)
        site.write()
        return site

    with ExitStack() as threads:
        yield build


BODY_2021 = {
    "type": "compute",
    "balance": None,
    "name": "gpu-1",
    "pricePerUnit": 12_000_000,
    "category": {"name": "gpu", "provider": "example"},
    "description": "16 vCPU, 64 GB memory, 2 GPU",
    "priority": 0,
    "cpu": 16,
    "memoryInGigs": 64,
    "gpu": 2,
    "version": 1,
    "freeToUse": False,
    "unitOfPrice": "CREDITS_PER_HOUR",
    "chargeType": "ABSOLUTE",
    "hiddenInGrantApplications": False,
    "productType": "COMPUTE",
}
BODY_2026 = {
    "type": "compute",
    "category": {
        "name": "gpu",
        "provider": "example",
        "productType": "COMPUTE",
        "accountingUnit": {"name": "DKK", "namePlural": "DKK", "floatingPoint": True, "displayFrequencySuffix": False},
        "accountingFrequency": "PERIODIC_HOUR",
        "freeToUse": False,
        "allowSubAllocations": True,
    },
    "name": "gpu-1",
    "description": "16 vCPU, 64 GB memory, 2 GPU",
    "productType": "COMPUTE",
    "price": 12_000_000,
    "fraction": {"numerator": 1, "denominator": 1},
    "hiddenInGrantApplications": False,
    "cpu": 16,
    "memoryInGigs": 64,
    "gpu": 2,
}


@pytest.mark.parametrize(("generation", "body"), [("2021", BODY_2021), ("2026", BODY_2026)])
def test_a_dry_run_prints_what_core_would_be_told(make: Callable[[str], Site], generation: str, body: dict[str, Any]) -> None:
    """In the generation's own form; Core is told nothing. Memory is whole GiB, never more than a replica has."""
    site = make(generation)
    ran = site.serai("push", "--dry-run")
    items = ran.json["items"]
    assert (ran.code, site.core.path in ran.err, site.core.created) == (Exit.OK, True, [])
    assert items[1] == body
    assert (items[0]["memoryInGigs"], items[0]["gpu"]) == (2, None if generation == "2021" else 0)
    document = site.serai("push", "--dry-run", "--json").json
    assert document == {"path": site.core.path, "body": {"items": items}}


@pytest.mark.parametrize("generation", ["2021", "2026"])
def test_pushing_again_tells_core_only_what_differs(make: Callable[[str], Site], generation: str) -> None:
    """The first time both are registered, then both are there already and Core of 2021 gets no more versions; a new price is sent."""
    site = make(generation)
    assert site.at_core() == ["missing", "missing"]
    assert site.outcomes() == [("cpu-1", "registered"), ("gpu-1", "registered")]
    assert site.at_core() == ["same", "same"]
    assert site.outcomes() == [("cpu-1", "there"), ("gpu-1", "there")]
    site.write(PRODUCTS.replace("1500", "1600"))
    assert site.at_core() == ["different", "same"]
    assert site.outcomes() == [("cpu-1", "changed"), ("gpu-1", "there")]
    assert site.outcomes() == [("cpu-1", "there"), ("gpu-1", "there")]
    assert site.core.created == ["cpu-1", "gpu-1", "cpu-1"]


def test_people_get_tables(make: Callable[[str], Site]) -> None:
    """What is sold at which price, and what became of each; no colour in a pipe."""
    site = make("2026")
    first = site.serai("push").out.splitlines()
    assert [line.split() for line in first] == [
        ["PRODUCT", "CATEGORY", "OUTCOME"],
        ["cpu-1", "cpu", "registered"],
        ["gpu-1", "gpu", "registered"],
    ]
    rows = [line.split() for line in site.serai("list").out.splitlines()]
    assert rows[0][-2:] == ["AT", "CORE"]
    assert rows[1] == ["cpu-1", "cpu", "example", "1", "2.9", "GiB", "0", "0.0015", "kr", "per", "minute", "yes"]
    assert rows[2] == ["gpu-1", "gpu", "example", "16", "64", "GiB", "2", "12", "kr", "per", "hour", "yes"]


def test_what_core_has_comes_in_pages(make: Callable[[str], Site]) -> None:
    """Products of many pages are found, and what is no machine type of ours is passed over."""
    site = make("2026")
    site.outcomes()
    ours = {"provider": "example"}
    strange = [{"name": 5, "category": {**ours, "name": "cpu"}}, {"category": ours}, {"name": "disk", "category": {**ours, "name": "d"}}]
    site.core.versions = [*strange, *site.core.versions]
    site.core.page = 1
    assert site.at_core() == ["same", "same"]


def test_one_product_that_core_refuses_does_not_hold_the_others(make: Callable[[str], Site]) -> None:
    """Its words are told, and the exit code says that something is not as it should be; 409 means that it is there already."""
    site = make("2021")
    site.core.refuses = {"cpu-1": (400, "Price is too low")}
    ran = site.serai("push")
    assert ran.code == Exit.ERROR
    assert "refused: 400: Price is too low" in ran.out
    assert site.core.created == ["gpu-1"]
    site.core.refuses = {"cpu-1": (409, "Conflict")}
    assert site.outcomes() == [("cpu-1", "there"), ("gpu-1", "there")]


def test_a_category_that_core_counts_otherwise_is_refused_here(make: Callable[[str], Site]) -> None:
    """Today's Core never changes how a category is counted, and would only half take the product: it is not sent."""
    site = make("2026")
    site.outcomes()
    site.core.versions[0]["category"]["accountingFrequency"] = "PERIODIC_DAY"
    site.core.versions[1]["category"]["accountingUnit"] = {"name": "Core", "namePlural": "Core", "floatingPoint": False}
    site.core.created.clear()
    assert site.at_core() == ["clash", "clash"]
    ran = site.serai("push", "--json")
    assert (ran.code, [one["outcome"] for one in ran.json["products"]]) == (Exit.ERROR, ["refused", "refused"])
    assert "new category" in ran.json["products"][0]["why"]
    assert site.core.created == []


def test_one_category_is_counted_in_one_way(make: Callable[[str], Site]) -> None:
    """Today: products of one category with different price units are refused before Core is asked. Core of 2021 takes them."""
    mixed = PRODUCTS.replace('"gpu"', '"cpu"')
    for generation, code in (("2026", Exit.USAGE), ("2021", Exit.OK)):
        site = make(generation)
        site.write(mixed)
        ran = site.serai("push")
        assert ran.code == code, ran.err
        assert ("one category" in ran.err) == (code == Exit.USAGE)


def test_without_core_the_settings_are_shown_all_the_same(make: Callable[[str], Site]) -> None:
    """With a note why nobody knows how they stand; pushing is an error."""
    site = make("2021")
    site.write(url="http://127.0.0.1:9")
    ran = site.serai("list")
    assert (ran.code, ran.out.splitlines()[1].split()[-1]) == (Exit.OK, "?")
    assert "Core cannot be asked: no connection" in ran.err
    assert site.serai("list", "--offline").err == ""
    ran = site.serai("push")
    assert (ran.code, "Core cannot be told" in ran.err) == (Exit.ERROR, True)
    site.write()
    (site.folder / "refresh").write_text("stale")
    ran = site.serai("push")
    assert (ran.code, "core.refresh_token_file" in ran.err) == (Exit.ERROR, True)


def test_a_core_of_the_other_generation_is_named_as_the_cause(make: Callable[[str], Site]) -> None:
    """The setting to look at, and not just 404."""
    site = make("2021")
    site.core.generation = "2026"
    site.write()
    ran = site.serai("push")
    assert (ran.code, "core.generation" in ran.err) == (Exit.ERROR, True)


LICENSES = """
[[licenses.products]]
id = "matlab"
category = "matlab"
description = "Mathematics"
tags = ["mathematics"]
price_per_unit = 5
[[licenses.products]]
id = "comsol"
category = "comsol"
"""
LICENSE_2021 = {
    "type": "license",
    "balance": None,
    "maxUsableBalance": None,
    "name": "matlab",
    "pricePerUnit": 5,
    "category": {"name": "matlab", "provider": "example"},
    "description": "Mathematics",
    "priority": 0,
    "tags": ["mathematics"],
    "version": 1,
    "freeToUse": False,
    "allowAllocationRequestsFrom": "ALL",
    "unitOfPrice": "PER_UNIT",
    "chargeType": "ABSOLUTE",
    "hiddenInGrantApplications": False,
    "productType": "LICENSE",
}
LICENSE_2026 = {
    "type": "license",
    "category": {
        "name": "matlab",
        "provider": "example",
        "productType": "LICENSE",
        "accountingUnit": {"name": "License", "namePlural": "Licenses", "floatingPoint": False, "displayFrequencySuffix": False},
        "accountingFrequency": "ONCE",
        "freeToUse": False,
        "allowSubAllocations": True,
    },
    "name": "matlab",
    "description": "Mathematics",
    "productType": "LICENSE",
    "price": 5,
    "fraction": {"numerator": 1, "denominator": 1},
    "hiddenInGrantApplications": False,
}


@pytest.mark.parametrize(("generation", "body"), [("2021", LICENSE_2021), ("2026", LICENSE_2026)])
def test_licenses_are_told_of_after_the_machine_types(make: Callable[[str], Site], generation: str, body: dict[str, Any]) -> None:
    """In Core's form of a license, counted once each; one without a description is called by its name. Nothing of servers or keys."""
    site = make(generation)
    site.write(PRODUCTS + LICENSES)
    items = site.serai("push", "--dry-run").json["items"]
    assert [item["name"] for item in items] == ["cpu-1", "gpu-1", "matlab", "comsol"]
    assert items[2] == body
    assert items[3]["description"] == "comsol"


@pytest.mark.parametrize("generation", ["2021", "2026"])
def test_licenses_are_compared_with_what_core_has(make: Callable[[str], Site], generation: str) -> None:
    """Among Core's licenses and not among its machine types; another price or other words are sent again."""
    site = make(generation)
    site.write(PRODUCTS + LICENSES)
    assert [(one["id"], one["at_core"]) for one in site.serai("list", "--json").json["licenses"]] == [
        ("matlab", "missing"),
        ("comsol", "missing"),
    ]
    pushed = site.serai("push", "--json").json["products"]
    assert [(one["id"], one["type"], one["outcome"]) for one in pushed[1:3]] == [
        ("gpu-1", "compute", "registered"),
        ("matlab", "license", "registered"),
    ]
    assert {outcome for _, outcome in site.outcomes()} == {"there"}
    site.write(PRODUCTS + LICENSES.replace("price_per_unit = 5", "price_per_unit = 6"))
    assert site.outcomes()[2:] == [("matlab", "changed"), ("comsol", "there")]
    site.write(PRODUCTS + LICENSES.replace("price_per_unit = 5", "price_per_unit = 6").replace("Mathematics", "All of it"))
    assert site.outcomes()[2:] == [("matlab", "changed"), ("comsol", "there")]
    assert site.core.created == ["cpu-1", "gpu-1", "matlab", "comsol", "matlab", "matlab"]


def test_tags_are_part_of_a_license_in_2021(make: Callable[[str], Site]) -> None:
    """Today's Core has none."""
    for generation, outcome in (("2021", "changed"), ("2026", "there")):
        site = make(generation)
        site.write(PRODUCTS + LICENSES)
        site.outcomes()
        site.write(PRODUCTS + LICENSES.replace('["mathematics"]', '["numbers"]'))
        assert site.outcomes()[2] == ("matlab", outcome)


def test_people_see_what_a_license_costs(make: Callable[[str], Site]) -> None:
    """In kroner to Core of 2021, in the category's own unit today."""
    for generation, price in (("2021", ["5e-06", "kr"]), ("2026", ["5"])):
        site = make(generation)
        site.write(PRODUCTS + LICENSES)
        rows = [line.split() for line in site.serai("list", "--offline").out.splitlines()]
        assert rows[3] == ["matlab", "matlab", "example", "-", "-", "-", *price, "per", "license", "?"]


def test_a_category_of_licenses_that_core_counts_otherwise(make: Callable[[str], Site]) -> None:
    """By the hour it is never ours; in kroner it is as long as nothing has to be changed there."""
    site = make("2026")
    site.write(PRODUCTS + LICENSES)
    site.outcomes()
    site.core.versions[2]["category"]["accountingUnit"] = {"name": "DKK", "namePlural": "DKK", "floatingPoint": True}
    site.core.versions[3]["category"]["accountingFrequency"] = "PERIODIC_HOUR"
    assert site.outcomes()[2:] == [("matlab", "there"), ("comsol", "refused")]
    site.write(PRODUCTS + LICENSES.replace("price_per_unit = 5", "price_per_unit = 6"))
    assert site.outcomes()[2:] == [("matlab", "refused"), ("comsol", "refused")]


def test_a_category_has_machines_or_licenses(make: Callable[[str], Site]) -> None:
    """Today's Core counts a category in one way; Core of 2021 does not mind."""
    for generation, code in (("2026", Exit.USAGE), ("2021", Exit.OK)):
        site = make(generation)
        site.write(PRODUCTS + LICENSES.replace('category = "matlab"', 'category = "cpu"'))
        ran = site.serai("push")
        assert ran.code == code, ran.err
        assert ("a machine type and the other a license" in ran.err) == (code == Exit.USAGE)
