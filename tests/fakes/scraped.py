"""What Prometheus would read of a process: one request, and the answer as samples by name and labels."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from fakes.raw_http import RawAnswer, request, say
from fakes.stack import Stack, free_port, stack

_PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def described() -> dict[str, list[str]]:
    """Of the tables of docs/metrics.md: metric → type, labels, unit, meaning."""
    lines = _PAGE.read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| `")]
    return {row[0].strip("`"): row[1:] for row in cells}


@dataclass(frozen=True, slots=True)
class Scrape:
    families: Mapping[str, Metric]

    @property
    def names(self) -> set[str]:
        """As docs and queries name them: a counter with its `_total`."""
        return {f"{family.name}_total" if family.type == "counter" else family.name for family in self.families.values()}

    def samples(self, name: str) -> dict[tuple[str, ...], float]:
        """Values by the labels' values, in the order of the labels' names."""
        return {tuple(value for _, value in sorted(one.labels.items())): one.value for one in self._family(name) if one.name == name}

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples with these labels; 0 = there is none."""
        return sum(one.value for one in self._family(name) if one.name == name and labels.items() <= one.labels.items())

    def _family(self, name: str) -> Sequence[Sample]:
        """All samples of the metric to which a sample of this name belongs."""
        bases = (name, *(name.removesuffix(ending) for ending in ("_total", "_count", "_sum", "_bucket")))
        return next((self.families[base].samples for base in bases if base in self.families), ())

    @property
    def series(self) -> int:
        return sum(len(family.samples) for family in self.families.values())


def read(text: bytes) -> Scrape:
    """Raises ValueError for what is not Prometheus' text form."""
    return Scrape({family.name: family for family in text_string_to_metric_families(text.decode())})


async def ask(port: int, path: str = "/metrics", verb: str = "GET") -> RawAnswer:
    return await say(port, request(verb, path))


async def scrape(port: int) -> Scrape:
    """Waits until somebody listens: the metrics' port opens last when a process starts."""
    async with asyncio.timeout(30):
        while True:
            try:
                answer = await ask(port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)
            else:
                break
    assert answer.status == 200, answer
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return read(answer.body)


class Watched(Stack):
    """A Serai with metrics."""

    metrics_port: int

    async def scrape(self) -> Scrape:
        return await scrape(self.metrics_port)

    async def until(self, name: str, value: float, **labels: str) -> Scrape:
        """Until the sum of these samples is so much."""
        found = await self.scrape()
        try:
            async with asyncio.timeout(30):
                while found.value(name, **labels) != value:
                    await asyncio.sleep(0.05)
                    found = await self.scrape()
        except TimeoutError:
            raise AssertionError(f"{name}{labels} is {found.value(name, **labels)}, not {value}") from None
        return found


@asynccontextmanager
async def watched(folder: Path, *, generation: str = "2021", store_url: str = "", more: str = "") -> AsyncGenerator[Watched]:
    """`more`: further sections of serai.toml."""
    async with stack(folder, generation=generation, store_url=store_url, kind=Watched, started=False) as serai:
        serai.metrics_port = free_port()
        with (folder / "serai.toml").open("a") as file:
            file.write(f'[metrics]\nlisten = "127.0.0.1:{serai.metrics_port}"\n{more}')
        await serai.start()
        yield serai
