"""Each metric is written down, with its type, labels and unit, and none is written down that is not there."""

from __future__ import annotations

import re

import pytest
from fakes.scraped import described
from serai_gateway.counts import GatewayCounts
from serai_server.cli import metrics_of_gateway, metrics_of_server, telemetry
from serai_server.counts import BACKEND_CALLS, BACKEND_OUTCOMES, Counts
from serai_telemetry.counts import Labels
from serai_telemetry.families import Metric

DECLARED = (*metrics_of_server.METRICS, *metrics_of_gateway.METRICS, telemetry.BUILD)


@pytest.mark.parametrize("metric", DECLARED, ids=lambda metric: metric.name)
def test_each_metric_has_a_row(metric: Metric) -> None:
    """With what the code declares of it, and words."""
    kind, labels, unit, meaning = described()[metric.name]
    assert kind == metric.kind
    assert tuple(re.findall(r"`(\w+)`", labels)) == metric.labels
    assert unit == (metric.unit or "0 or 1")
    assert len(meaning) > 10


def test_no_metric_is_described_that_is_not_declared() -> None:
    """But those of the process, which the library declares; tests/e2e/test_metrics.py compares them with a scrape."""
    assert {name for name in described() if name.startswith("serai_")} == {metric.name for metric in DECLARED}


def test_names_are_as_prometheus_wants_them() -> None:
    """One each; counters end with _total and nothing else does; times are in seconds and sizes in bytes."""
    names = [metric.name for metric in DECLARED]
    assert len(names) == len(set(names))
    for metric in DECLARED:
        assert re.fullmatch(r"serai_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert (metric.unit == "seconds") == metric.name.endswith("_seconds")
        assert (metric.unit == "bytes") == ("bytes" in metric.name)


@pytest.mark.parametrize("metric", DECLARED, ids=lambda metric: metric.name)
def test_no_label_may_hold_an_id(metric: Metric) -> None:
    """A label for jobs, users, sessions or addresses would make a series for each of them."""
    assert not {"job", "job_id", "user", "owner", "project", "session", "path", "address", "id"} & set(metric.labels)


def closed() -> dict[Metric, list[Labels]]:
    """Counters that begin at 0 for all labels that there can be."""
    server, gateway = Counts(), GatewayCounts()
    return {
        metrics_of_server.COMMITS: list(server.store.commits.counts),
        metrics_of_server.ENTERED: list(server.jobs.entered.counts),
        metrics_of_server.RETRIES: list(server.jobs.retries.counts),
        metrics_of_server.SETTLED: list(server.ledger.settled.counts),
        metrics_of_server.BACKEND_CALLS: [("local", call, outcome) for call in BACKEND_CALLS for outcome in BACKEND_OUTCOMES],
        metrics_of_gateway.DELIVERED: list(gateway.delivered.counts),
        metrics_of_gateway.RETRIED: list(gateway.retried.counts),
    }


@pytest.mark.parametrize(("metric", "known"), closed().items(), ids=lambda value: getattr(value, "name", ""))
def test_each_word_of_a_closed_set_is_described(metric: Metric, known: list[Labels]) -> None:
    """As it is shown, in lower_snake."""
    meaning = described()[metric.name][-1]
    shown = metric.family(dict.fromkeys(known, 0)).samples
    assert len(shown) > 1
    for sample in shown:
        for label, word in sample.labels.items():
            assert re.fullmatch(r"[a-z]+(_[a-z]+)*", word)
            assert label == "backend" or f"`{word}`" in meaning


def test_outcomes_have_one_spelling() -> None:
    """At the server, which stores what Core said, as at the gateway, which heard it."""
    stored = {
        str(sample.labels["outcome"])
        for sample in metrics_of_server.SETTLED.family(dict.fromkeys(closed()[metrics_of_server.SETTLED], 0)).samples
    }
    assert stored == {str(outcome) for _, outcome in GatewayCounts().delivered.counts}
