"""Metrics as Prometheus shows them: each is declared once, with all that the documentation says of it, and filled from plain counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client import Metric as Family
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from serai_telemetry.counts import Labels, Spread

_NS = 1_000_000_000

_WORDS = frozenset(("state", "kind", "reason", "outcome"))
"""Labels whose values are names of our protos: shown in lower_snake, as all words of ours are."""

Number = int | float


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of docs/metrics.md."""

    name: str
    """A counter's ends with _total."""
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    """What one of it is, in a word: "seconds", "calls"."""
    words: str
    labels: tuple[str, ...] = ()

    def family(self, values: Mapping[Labels, Number]) -> Family:
        """A counter or a gauge."""
        make = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        family = make(self.name, self.words, labels=self.labels)
        for labels, value in list(values.items()):  # in one step: other threads may count meanwhile
            family.add_metric(self._shown(labels), value)
        return family

    def one(self, value: Number) -> Family:
        """A counter or a gauge without labels."""
        return self.family({(): value})

    def spreads(self, found: Mapping[Labels, Spread], scale: int = _NS) -> Family:
        """A histogram; `scale`: how many of the counted unit make one that is shown. The default is for ns shown as seconds."""
        family = HistogramMetricFamily(self.name, self.words, labels=self.labels)
        for labels, spread in list(found.items()):
            family.add_metric(self._shown(labels), _buckets(spread, scale), spread.total / scale)
        return family

    def _shown(self, labels: Labels) -> list[str]:
        return [str(value).lower() if name in _WORDS else str(value) for name, value in zip(self.labels, labels, strict=True)]


def _buckets(spread: Spread, scale: int) -> list[tuple[str, float]]:
    """Cumulative, as Prometheus wants them."""
    buckets: list[tuple[str, float]] = []
    sum_so_far = 0
    for bound, count in zip((*(str(bound / scale) for bound in spread.bounds), "+Inf"), list(spread.counts), strict=True):
        sum_so_far += count
        buckets.append((bound, sum_so_far))
    return buckets
