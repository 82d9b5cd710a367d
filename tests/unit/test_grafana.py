"""The dashboard and the alert rules ask for metrics that there are, by labels that these have, in PromQL that parses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, cast

import promql_parser
import pytest
import yaml
from serai.core.v1.errors_pb2 import ErrorReason
from serai_server.cli import metrics_of_gateway, metrics_of_server, telemetry
from serai_telemetry.families import Metric

FOLDER = Path(__file__).parents[2] / "docs" / "grafana"
DECLARED: dict[str, Metric] = {m.name: m for m in (*metrics_of_server.METRICS, *metrics_of_gateway.METRICS, telemetry.BUILD)}
OF_OTHERS = {
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_open_fds",
    "process_max_fds",
    "up",  # Prometheus' own
    "envoy_server_days_until_first_cert_expiring",  # a real Envoy has it: tests/integration/front/test_metrics_of_envoy.py
}
OF_PROMETHEUS = {"instance", "job", "le"}
"""Labels that every series has, and that of a histogram's buckets."""
WORDS: dict[str, set[str]] = {
    "consumer": {"core", "others"},
    "reason": {ErrorReason.Name(reason).removeprefix("ERROR_REASON_").lower() for reason in ErrorReason.values()},
    "status": {"unreachable", "too_long", "cancelled", "2.*", "2..", "5.."},
}
"""Values that queries may ask for, of labels that have words of ours."""
VARIABLES = {"$__rate_interval": "5m", "$instance": ".*", "$job": "serai"}


class Target(TypedDict):
    expr: str
    refId: str
    legendFormat: str


class Panel(TypedDict, total=False):
    id: int
    type: str
    title: str
    targets: list[Target]
    gridPos: dict[str, int]


class Rule(TypedDict, total=False):
    alert: str
    expr: str
    labels: dict[str, str]
    annotations: dict[str, str]


class Group(TypedDict):
    name: str
    rules: list[Rule]


@dataclass(frozen=True)
class Query:
    where: str
    text: str
    legend: str = ""


def panels() -> list[Panel]:
    return cast("dict[str, list[Panel]]", json.loads((FOLDER / "serai.json").read_text(encoding="utf-8")))["panels"]


def groups() -> list[Group]:
    read = cast("dict[str, list[Group]]", yaml.safe_load((FOLDER / "alerts.yaml").read_text(encoding="utf-8")))
    assert list(read) == ["groups"]
    return read["groups"]


def queries() -> Iterator[Query]:
    for panel in panels():
        for target in panel.get("targets", []):
            text = target["expr"]
            for variable, value in VARIABLES.items():
                text = text.replace(variable, value)
            yield Query(f"panel {panel.get('title')} {target['refId']}", text, target["legendFormat"])
    for group in groups():
        for rule in group["rules"]:
            yield Query(f"rule {rule.get('alert')}", rule.get("expr", ""))


QUERIES = list(queries())


def selectors(text: str) -> list[promql_parser.VectorSelector]:
    """Of a query; ValueError when it does not parse."""
    found: list[promql_parser.VectorSelector] = []

    def visit(one: object) -> None:
        if isinstance(one, promql_parser.VectorSelector):
            found.append(one)
        elif isinstance(one, promql_parser.MatrixSelector):
            found.append(one.vector_selector)

    promql_parser.walk(promql_parser.parse(text), visit)
    return found


def base(name: str) -> tuple[str, str]:
    """The metric, and which of a histogram's series."""
    for ending in ("_bucket", "_sum", "_count"):
        if name.removesuffix(ending) in DECLARED and name != name.removesuffix(ending):
            return name.removesuffix(ending), ending
    return name, ""


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.where)
def test_each_query_asks_for_what_there_is(query: Query) -> None:
    """A metric that is declared (and so is in a scrape: tests/e2e/test_metrics.py), in the form that its type has; labels are its own."""
    found = selectors(query.text)
    assert found, "a query asks for something"
    asked: set[str] = set()
    for one in found:
        assert one.name is not None
        name, series = base(one.name)
        if name in OF_OTHERS:
            continue
        metric = DECLARED[name]
        assert (metric.kind == "histogram") == bool(series), f"{name} is a {metric.kind}"
        labels = set(metric.labels) | OF_PROMETHEUS
        asked |= labels
        assert {matcher.name for matcher in one.matchers.matchers} <= labels
        for matcher in one.matchers.matchers:
            for value in matcher.value.split("|") if matcher.name in WORDS else ():
                assert value in WORDS[matcher.name], f"{matcher.name} is never {value!r}"
    grouped = {label.strip() for group in re.findall(r"\bby \(([^)]*)\)", query.text) for label in group.split(",") if label.strip()}
    shown = set(re.findall(r"{{(\w+)}}", query.legend))
    if asked:
        assert grouped <= asked
        assert shown <= asked


@pytest.mark.parametrize("query", [q for q in QUERIES if "_total" in q.text], ids=lambda query: query.where)
def test_counters_are_read_as_rates(query: Query) -> None:
    """A counter's value begins anew with each start of the process."""
    for one in selectors(query.text):
        name = str(one.name)
        if name.endswith("_total"):
            assert re.search(rf"\b(rate|increase)\({name}\b", query.text)


def test_each_metric_is_on_the_dashboard() -> None:
    """All that is declared can be seen."""
    shown = {base(str(one.name))[0] for query in QUERIES if query.where.startswith("panel") for one in selectors(query.text)}
    assert set(DECLARED) - shown == set()


def test_a_wrong_query_would_be_found() -> None:
    """The parser refuses what Prometheus would, so the tests above say something."""
    for wrong in ("sum by (x rate(a[5m]))", "rate(a_total)", "sum(a", 'a{b="c}'):
        with pytest.raises(ValueError, match=r".+"):
            promql_parser.parse(wrong)


def test_panels_lie_side_by_side() -> None:
    """No two on one place, each with an id and a title of its own meaning."""
    taken: set[tuple[int, int]] = set()
    ids = [panel.get("id") for panel in panels()]
    assert len(ids) == len(set(ids))
    for panel in panels():
        place = panel.get("gridPos", {})
        assert place["x"] + place["w"] <= 24
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, panel.get("title")
        taken |= cells
        assert panel.get("title")


def test_each_alert_says_what_is_so_and_what_to_do() -> None:
    """With a name, a severity and both sentences."""
    rules = [rule for group in groups() for rule in group["rules"]]
    names = [rule.get("alert") for rule in rules]
    assert len(names) == len(set(names)) >= 8
    for rule in rules:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"Serai[A-Z][A-Za-z]+", rule.get("alert", ""))
        assert rule.get("labels", {}).get("severity") in {"critical", "warning", "info"}
        assert set(rule.get("annotations", {})) == {"summary", "description"}
        duration = cast("dict[str, str]", rule).get("for")
        assert duration is None or promql_parser.parse_duration(duration)
