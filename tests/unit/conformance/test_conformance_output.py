"""The report for people and for programs, and how it comes to its words."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from rich.console import Console
from serai_conformance import Generation, Report, Result, Rule, Status, Target
from serai_conformance.model import Broken, Phase
from serai_conformance.output import as_json, as_junit, table
from serai_conformance.tokens import generate_key
from serai_conformance.visit import Visit
from serai_conformance.wire import NotJson, dig, parse, with_item, without

RESULTS = (
    ("a.good", Status.PASSED, ""),
    ("a.bad", Status.FAILED, "it was <answered> 500 & more"),
    ("b.not", Status.NOT_DECLARED, "logs is not declared"),
    ("b.dark", Status.NOT_OBSERVED, "only Core sees it"),
)


async def _nothing(_visit: Visit) -> None:
    raise Broken("never called")


@pytest.fixture
def report() -> Report:
    target = Target("http://127.0.0.1:1", "example", generate_key(), Generation.G2026)
    results = [Result(Rule(name, f"{name} is asked.", "seed", _nothing), status, reason, 12) for name, status, reason in RESULTS]
    return Report(target, "category/product", "", tuple(results), 3456)


def _printed(report: Report, *, every: bool) -> str:
    console = Console(width=160)
    with console.capture() as captured:
        console.print(table(report, every=every))
    return captured.get()


def test_the_table_says_what_failed_and_why(report: Report) -> None:
    """Passed ones in one line of their area unless all are asked for; a failed one with reason and source; counts at the end."""
    text = _printed(report, every=False)
    assert "a (1)" in text
    assert "a.good is asked." not in text
    assert "it was <answered> 500 & more" in text
    assert "1 passed, 1 failed, 1 not declared, 1 not observed; 3 s" in text
    assert "a.good is asked." in _printed(report, every=True)


def test_json_holds_all_of_it(report: Report) -> None:
    """Counts by status, and each rule in order; the key is nowhere."""
    document = as_json(report)
    assert document["conforms"] is False
    assert document["counts"] == {"passed": 1, "failed": 1, "not_declared": 1, "not_observed": 1}
    assert [dig(document, "rules", at, "name") for at in range(4)] == [name for name, _, _ in RESULTS]
    assert dig(document, "rules", 0, "reason") is None
    assert "PRIVATE" not in str(document)
    assert "key" not in repr(report.target)


def test_junit_is_xml_that_others_read(report: Report) -> None:
    """A failure for a broken rule, skipped for what was not judged."""
    suite = ElementTree.fromstring(as_junit(report))
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("4", "1", "2")
    (failure,) = suite.findall(".//failure")
    assert failure.get("message") == "it was <answered> 500 & more"
    assert len(suite.findall(".//skipped")) == 2


def test_phases_are_in_order() -> None:
    """What looks back at everything is last."""
    assert [phase.name for phase in sorted(Phase, key=lambda phase: phase.value)] == ["MAIN", "DISTURBING", "LAST"]


def test_documents_are_changed_in_copies() -> None:
    """A rule's change of a document is not seen by the next rule."""
    document = parse(b'{"a":{"b":1,"c":[]},"d":null}')
    assert isinstance(document, dict)
    assert with_item(document, "a.b", 2) == {"a": {"b": 2, "c": []}, "d": None}
    assert with_item(document, "a.x.y", 2) == {"a": {"b": 1, "c": [], "x": {"y": 2}}, "d": None}
    assert without(document, "a.c") == {"a": {"b": 1}, "d": None}
    assert document == {"a": {"b": 1, "c": []}, "d": None}
    with pytest.raises(NotJson):
        parse(b'{"a":')
