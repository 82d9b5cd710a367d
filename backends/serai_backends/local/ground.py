"""What every part of one open backend stands on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serai_backends.clock import SteadyClock
    from serai_backends.common.threads import Threads
    from serai_backends.local.probe import Machine
    from serai_backends.local.settings import LocalSettings


@dataclass(frozen=True, slots=True)
class Ground:
    settings: LocalSettings
    machine: Machine
    threads: Threads
    clock: SteadyClock
