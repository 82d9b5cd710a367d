"""Writes the table of rules into docs/conformance.md, from the rules themselves; a test compares."""

from __future__ import annotations

from pathlib import Path

from serai_conformance import RULES, Generation, Rule

PAGE = Path(__file__).parents[1] / "docs" / "conformance.md"
HEADING = "## All rules\n"


def row(rule: Rule) -> str:
    """A rule's row."""
    generations = "" if len(rule.generations) == len(Generation) else next(iter(rule.generations)).value
    needs = ", ".join([*rule.needs, *(["Core"] if rule.needs_core else [])])
    return f"| `{rule.name}` | {rule.asks} | {generations} | {needs} | {rule.source} |"


def text() -> str:
    """What stands below the heading."""
    return "\n".join(["", "| rule | what is asked | only | needs | known from |", "|---|---|---|---|---|", *map(row, RULES), ""])


if __name__ == "__main__":
    before, _, _ = PAGE.read_text(encoding="utf-8").partition(HEADING)
    PAGE.write_text(before + HEADING + text(), encoding="utf-8")
