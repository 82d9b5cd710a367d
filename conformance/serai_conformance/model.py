"""What a test of a provider is made of: whom it is for, rules, and what became of each rule."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

from cryptography.hazmat.primitives.asymmetric import rsa

if TYPE_CHECKING:
    from serai_conformance.visit import Visit

PrivateKey: TypeAlias = rsa.RSAPrivateKey


class Generation(Enum):
    """Which UCloud/Core the provider is made for: that of the two documents, or today's."""

    G2021 = "2021"
    G2026 = "2026"


G2021, G2026 = Generation.G2021, Generation.G2026


@dataclass(frozen=True, slots=True)
class Target:
    """The provider under test, and how it is to be tested."""

    url: str
    """Where its calls go: `http://127.0.0.1:8889`, without a path."""
    provider: str
    """Its id, which its products name too."""
    key: PrivateKey = field(repr=False)
    """The private half of the key by which it knows Core."""
    generation: Generation = G2021
    path_name: str = ""
    """Its name in paths, where that is not its id ("" = its id)."""
    product: str = ""
    """The machine type to run jobs on: its id; "" = the first one on which jobs can run."""
    license_product: str = ""
    """As `product`, of licenses."""
    image: str = "debian:stable-slim"
    """The image of the jobs' tool; it must have /bin/sh."""
    listen: tuple[str, int] | None = None
    """Host and port where the kit plays Core's side of the control calls; None = nobody does, and what only Core sees is not judged."""
    replicas: int = 2
    """Most replicas of a job; 1 = the rules for several are not judged."""
    answer_within_s: float = 5.0
    """s that a call may take: today's Core waits no longer (today §4)."""
    patience_s: float = 60.0
    """s that the provider is given to run a job, to end it, to tell Core."""
    at_once: int = 4
    """Rules that are tried at the same time."""
    trust: ssl.SSLContext | None = field(default=None, repr=False)
    """Whose certificates are believed where `url` is https; None = those of this machine's CAs."""

    @property
    def base(self) -> str:
        """Of the paths of its calls."""
        return f"/ucloud/{self.name}"

    @property
    def name(self) -> str:
        return self.path_name or self.provider


class Status(Enum):
    PASSED = "passed"
    FAILED = "failed"
    NOT_DECLARED = "not declared"
    """The provider does not say that it can do this."""
    NOT_OBSERVED = "not observed"
    """Nobody could see it: the kit does not play Core, or something before it did not work."""


class Verdict(Exception):
    """Ends a rule's check with another word than `passed`; the text says why, to the person who wrote the provider."""

    status = Status.FAILED


class Broken(Verdict):
    """The provider does not keep the rule."""


class NotDeclared(Verdict):
    status = Status.NOT_DECLARED


class NotObserved(Verdict):
    status = Status.NOT_OBSERVED


class CannotTest(Exception):
    """There is nothing to test: nobody answers, or the provider does not take the key. The text says what to do."""


class Phase(Enum):
    """When a rule is tried."""

    MAIN = 0
    """With others."""
    DISTURBING = 1
    """By itself, after the others: Core misbehaves here."""
    LAST = 2
    """When all jobs are ended: it looks back at the whole test."""


Check: TypeAlias = "Callable[[Visit], Awaitable[None]]"


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that a provider must do."""

    name: str
    """`area.what`; stable, for those who count."""
    asks: str
    """What a provider must do, a sentence."""
    source: str
    """Where that is known from."""
    check: Check = field(repr=False)
    """Raises a Verdict when the rule is not kept or cannot be judged."""
    generations: frozenset[Generation] = frozenset(Generation)
    needs: tuple[str, ...] = ()
    """Flags of the product's support block that must be true, `licenses` for a license product; else the rule is not declared."""
    needs_core: bool = False
    """Only Core sees it."""
    phase: Phase = Phase.MAIN

    @property
    def area(self) -> str:
        return self.name.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Result:
    rule: Rule
    status: Status
    reason: str
    """"" = passed."""
    took_ms: int


@dataclass(frozen=True, slots=True)
class Report:
    """What became of each rule, in the order of the rules."""

    target: Target
    product: str
    """The machine type that was used; "" = none was declared."""
    license_product: str
    results: tuple[Result, ...]
    took_ms: int

    def count(self, status: Status) -> int:
        return sum(result.status is status for result in self.results)

    @property
    def conforms(self) -> bool:
        return self.count(Status.FAILED) == 0

    def named(self, status: Status) -> list[str]:
        """The names of the rules that ended so."""
        return [result.rule.name for result in self.results if result.status is status]


def only(*generations: Generation) -> frozenset[Generation]:
    return frozenset(generations)
