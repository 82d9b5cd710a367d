"""How a stand-in is to be."""

from __future__ import annotations

from dataclasses import dataclass

from serai_devcore.wire import Generation


@dataclass(frozen=True, slots=True)
class Settings:
    generation: Generation = Generation.G2021
    host: str = "127.0.0.1"
    port: int = 0
    """0 = any free one; `DevCore.url` tells it."""
    token_lifetime_s: int | None = None
    """None = the generation's own: 15 or 10 minutes."""
    initial_credits: int | None = 1_000_000_000
    """What each wallet holds at first; None = only wallets that were set exist."""
    provider_timeout_s: float = 5.0
    """How long Core waits for a provider's answer (facts 2021 §1 "today", today §6.1)."""
    poll_every_ms: int = 0
    """How often Core asks its providers by itself, in ms; 0 = never. 2026: manifest, support and branding, each 10,000 in the real one;
    2021: `verify` of active jobs, each 30,000 in the real one."""
    check_support: bool = False
    """Whether Core refuses calls that the provider does not declare. 2026 knows only what polls have told it."""
    first_job_id: int = 1000
    seed: int = 0
    """Of the chance with which faults strike."""
