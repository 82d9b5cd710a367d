"""What a life is to be: drawn from a seed, before anything runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
PRICE = 1_000
"""Credits for one period of one replica, of every product."""
PERIODS = {"minute": MINUTE, "hour": HOUR, "day": DAY, "unit": 0}
"""Products by id, and how long the unit of their price is; 0 = once."""
SPAN_MS = 2 * DAY
"""Most of what happens in a world happens within this time; whatever is alive afterwards is ended by its user, or by its empty wallet."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a user asks for. Asked again until it is answered."""

    at_ms: int
    """After the world's start."""
    kind: str
    """create, suspend, resume, extend, terminate"""
    seconds: int = 0
    """Of an extension."""


@dataclass(frozen=True, slots=True)
class Script:
    """How the machine treats the job, and what its program does."""

    queue_ms: int
    program_ms: int | None
    """How long it runs until it ends by itself, pauses not counted; None = for ever."""
    exit_code: int
    kill_ms: int
    """How long its end takes after a cancel."""
    pause_ms: int
    resume_ms: int
    refused: bool


@dataclass(frozen=True, slots=True)
class Life:
    id: str
    owner: str
    project: str
    product: str
    replicas: int
    limit_s: int
    """0 = none."""
    quota: int | None
    """Credits that its owner has; None = enough."""
    script: Script
    wishes: tuple[Wish, ...]

    @property
    def endless(self) -> bool:
        """Only an empty wallet ends it."""
        return not self.limit_s and self.script.program_ms is None and not any(w.kind == "terminate" for w in self.wishes)


def lives(seed: int, count: int) -> list[Life]:
    dice = Random(seed)
    return [_life(dice, f"{seed}-{n}") for n in range(count)]


def log_uniform(dice: Random, least: int, most: int) -> int:
    """Each order of magnitude as likely as the others."""
    return int(math.exp(dice.uniform(math.log(least), math.log(most))))


def _life(dice: Random, job_id: str) -> Life:
    product = dice.choices(list(PERIODS), [6, 3, 1, 1])[0]
    period_ms = PERIODS[product]
    replicas = dice.choice([1, 1, 1, 2, 3, 4])
    # Rounding is tried where it is decided: around whole periods as well as anywhere.
    program_ms = dice.choice([log_uniform(dice, 1, SPAN_MS), dice.randint(1, DAY)])
    if period_ms and dice.random() < 0.3:
        program_ms = max(dice.randint(1, 5) * period_ms + dice.choice([-1_001, -999, -1, 0, 1, 999, 1_001]), 0)
    limit_s = 0 if dice.random() < 0.4 else dice.choice([log_uniform(dice, 1, SPAN_MS // SECOND), dice.randint(1, DAY // SECOND)])
    if limit_s and dice.random() < 0.3:
        limit_s = dice.randint(1, 90) * 60
    script = Script(
        queue_ms=dice.choice([0, 0, 0, 1, 900, log_uniform(dice, 1, 2 * HOUR)]),
        program_ms=None if dice.random() < 0.3 else program_ms,
        exit_code=dice.choice([0, 0, 0, 1, 137]),
        kill_ms=dice.choice([0, 0, 5, log_uniform(dice, 1, 5 * MINUTE)]),
        pause_ms=dice.choice([0, 0, log_uniform(dice, 1, 10 * MINUTE)]),
        resume_ms=dice.choice([0, 0, log_uniform(dice, 1, MINUTE)]),
        refused=dice.random() < 0.02,
    )
    poor = dice.random() < 0.1
    return Life(
        id=job_id,
        owner=f"user-{job_id}",
        project=f"project-{job_id}" if dice.random() < 0.2 else "",
        product=product,
        replicas=replicas,
        limit_s=limit_s,
        quota=dice.randint(0, 40) * PRICE * replicas // 2 if poor else None,
        script=script,
        wishes=_wishes(dice, needs_end=not (poor and product in {"minute", "hour"})),
    )


def _wishes(dice: Random, *, needs_end: bool) -> tuple[Wish, ...]:
    at_ms = dice.randint(0, 6 * HOUR)
    wishes = [Wish(at_ms, "create")]
    for _ in range(dice.choice([0, 1, 2, 4, 6, 9])):
        at_ms += dice.choice([0, 1, log_uniform(dice, 1, 12 * HOUR), dice.randint(1, 4 * HOUR)])
        kind = dice.choice(["suspend", "suspend", "resume", "resume", "extend"])
        wishes.append(Wish(at_ms, kind, log_uniform(dice, 1, 86_400) if kind == "extend" else 0))
    wishes.append(Wish(max(at_ms, SPAN_MS) + dice.randint(0, HOUR), "resume"))
    if needs_end:
        early = dice.random() < 0.2
        wishes.append(Wish(at_ms + log_uniform(dice, 1, 12 * HOUR) if early else SPAN_MS + 2 * HOUR, "terminate"))
    return tuple(sorted(wishes, key=lambda w: w.at_ms))
