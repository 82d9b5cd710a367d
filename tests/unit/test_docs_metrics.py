"""Each metric is written down, with its type, labels and unit, and none is written down that is not there."""

from __future__ import annotations

import re

import pytest
from fakes.scraped import described
from serai_server.cli import metrics_of_gateway, metrics_of_server, telemetry
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
