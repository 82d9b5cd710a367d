"""A report for people and for programs: a table, JSON, JUnit's XML."""

from __future__ import annotations

from itertools import groupby
from xml.etree import ElementTree

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from serai_conformance.model import Report, Result, Status
from serai_conformance.wire import Json, JsonObject

STYLES = {Status.PASSED: "green", Status.FAILED: "bold red", Status.NOT_DECLARED: "dim", Status.NOT_OBSERVED: "yellow"}


def table(report: Report, *, every: bool) -> RenderableType:
    """A row for each rule, by area, and a last line with the counts. `every`: passed ones one by one too."""
    found = Table(box=None, pad_edge=False, show_header=True, header_style="bold")
    found.add_column("rule", no_wrap=True)
    found.add_column("", no_wrap=True)
    found.add_column("what is asked; why not", overflow="fold")
    for area, results in groupby(report.results, key=lambda result: result.rule.area):
        rows = list(results)
        passed = [result for result in rows if result.status is Status.PASSED]
        if passed and not every:
            found.add_row(f"{area} ({len(passed)})", _word(Status.PASSED), ", ".join(_short(result) for result in passed))
        for result in rows:
            if every or result.status is not Status.PASSED:
                found.add_row(result.rule.name, _word(result.status), _reason(result))
    return Group(found, Text(), Text(summary(report), style="bold" if report.conforms else "bold red"))


def summary(report: Report) -> str:
    counts = ", ".join(f"{report.count(status)} {status.value}" for status in Status)
    on = f" on {report.product}" if report.product else ""
    return f"{report.target.provider} ({report.target.generation.value}){on}: {counts}; {report.took_ms / 1000:.0f} s"


def _word(status: Status) -> Text:
    return Text(status.value, style=STYLES[status])


def _short(result: Result) -> str:
    return result.rule.name.partition(".")[2]


def _reason(result: Result) -> Text:
    text = Text(result.rule.asks)
    if result.reason:
        text.append(f"\n{result.reason}", style=STYLES[result.status])
    if result.status is Status.FAILED:
        text.append(f"\n({result.rule.source})", style="dim")
    return text


def as_json(report: Report) -> JsonObject:
    rules: list[Json] = [
        {
            "name": result.rule.name,
            "status": result.status.value,
            "reason": result.reason or None,
            "asks": result.rule.asks,
            "source": result.rule.source,
            "took_ms": result.took_ms,
        }
        for result in report.results
    ]
    return {
        "provider": report.target.provider,
        "url": report.target.url,
        "generation": report.target.generation.value,
        "product": report.product or None,
        "license_product": report.license_product or None,
        "conforms": report.conforms,
        "counts": {status.value.replace(" ", "_"): report.count(status) for status in Status},
        "took_ms": report.took_ms,
        "rules": rules,
    }


def as_junit(report: Report) -> str:
    """What is not declared or not observed is skipped."""
    skipped = report.count(Status.NOT_DECLARED) + report.count(Status.NOT_OBSERVED)
    counts = {"tests": str(len(report.results)), "failures": str(report.count(Status.FAILED)), "skipped": str(skipped), "errors": "0"}
    seconds = {"time": f"{report.took_ms / 1000:.3f}"}
    suites = ElementTree.Element("testsuites", counts | seconds)
    suite = ElementTree.SubElement(suites, "testsuite", {"name": f"conformance of {report.target.provider}"} | counts | seconds)
    for result in report.results:
        names = {"classname": f"conformance.{result.rule.area}", "name": result.rule.name, "time": f"{result.took_ms / 1000:.3f}"}
        case = ElementTree.SubElement(suite, "testcase", names)
        if result.status is Status.FAILED:
            failure = ElementTree.SubElement(case, "failure", {"message": result.reason})
            failure.text = f"{result.rule.asks}\n{result.reason}\n{result.rule.source}"
        elif result.status is not Status.PASSED:
            ElementTree.SubElement(case, "skipped", {"message": f"{result.status.value}: {result.reason}"})
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True)
