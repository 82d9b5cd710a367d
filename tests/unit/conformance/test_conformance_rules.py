"""The rules as a list: names, words, documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fakes.broken_provider.faults import FOUND_BY, OF_TODAY, Fault
from serai_conformance import RULES, Generation, Rule

PAGE = Path(__file__).parents[3] / "docs" / "conformance.md"


def test_names_are_unique_and_speak() -> None:
    """`area.what`, and no two of one name."""
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert all(re.fullmatch(r"[a-zA-Z]+\.[a-zA-Z0-9-]+", rule.name) for rule in RULES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_each_rule_is_a_sentence_with_a_source(rule: Rule) -> None:
    """For people who write providers."""
    assert rule.asks.endswith(".")
    assert rule.source
    assert rule.generations


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_each_rule_has_its_row(rule: Rule) -> None:
    """In docs/conformance.md, with the same words; `python tools/conformance_rules.py` writes them."""
    (row,) = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{rule.name}` |")]
    assert rule.asks in row
    assert rule.source in row
    for need in rule.needs:
        assert need in row


def test_no_row_is_about_a_rule_that_is_not_there() -> None:
    """Rows go with their rules."""
    rows = re.findall(r"^\| `([a-zA-Z]+\.[a-zA-Z0-9-]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [rule.name for rule in RULES]


def test_every_fault_is_found_by_rules_of_its_generation() -> None:
    """No fault is planted that nothing can find, and there are more than twenty-five."""
    by_name = {rule.name: rule for rule in RULES}
    assert set(FOUND_BY) == set(Fault)
    assert len(Fault) > 25
    for fault, names in FOUND_BY.items():
        generation = Generation.G2026 if fault in OF_TODAY else Generation.G2021
        assert all(generation in by_name[name].generations for name in names), fault
