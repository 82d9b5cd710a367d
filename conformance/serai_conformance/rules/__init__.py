"""All rules, by area, in the order in which they are reported."""

from __future__ import annotations

from serai_conformance.model import Rule
from serai_conformance.rules import (
    access,
    bodies,
    charges,
    create,
    declared,
    ends,
    follow,
    follow_2021,
    follow_2026,
    forms,
    licenses,
    life,
    news,
    other_calls,
    products,
    replicas,
    sessions,
    whole,
)

RULES: tuple[Rule, ...] = (
    *products.RULES,
    *declared.RULES,
    *access.RULES,
    *bodies.RULES,
    *forms.RULES,
    *create.RULES,
    *ends.RULES,
    *other_calls.RULES,
    *replicas.RULES,
    *follow.RULES,
    *follow_2021.RULES,
    *follow_2026.RULES,
    *sessions.RULES,
    *licenses.RULES,
    *life.RULES,
    *news.RULES,
    *charges.RULES,
    *whole.RULES,
)
