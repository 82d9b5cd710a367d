"""All targets: how each is run, how many inputs it gets in the long and in the short form, and how one input of it is done again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial

from fuzz import bodies, channels, heads, openapi, reading, sockets
from fuzz.readers import READERS
from fuzz.tally import Tally


@dataclass(frozen=True, slots=True)
class Target:
    """`run`: inputs and seed to what came of it. `again`: an input to what became of it, in words; raises for a find."""

    run: Callable[[int, int], Tally]
    again: Callable[[bytes], str]
    long: int
    short: int


def _reader(name: str, long: int, short: int) -> Target:
    return Target(partial(reading.run, name), partial(reading.reproduce, name), long, short)


def _served(run: Callable[[int, int], Tally], again: Callable[[bytes], Coroutine[None, None, str]], long: int, short: int) -> Target:
    return Target(run, lambda content: asyncio.run(again(content)), long, short)


TARGETS: Mapping[str, Target] = {
    "codec": _reader("codec", 320_000, 20_000),
    "query": _reader("query", 60_000, 5_000),
    "frames": _reader("frames", 60_000, 5_000),
    "tokens": _reader("tokens", 60_000, 5_000),
    "settings": _reader("settings", 10_000, 500),
    "pages": _reader("pages", 60_000, 5_000),
    "rpc": Target(reading.run_dispatching, reading.describe, 150_000, 5_000),
    "grpc": Target(channels.run, reading.describe, 30_000, 2_000),
    "bodies": _served(bodies.run, bodies.reproduce, 250_000, 10_000),
    "heads": _served(heads.run, heads.reproduce, 40_000, 2_000),
    "sockets": _served(sockets.run, sockets.reproduce, 20_000, 1_000),
    "openapi": Target(openapi.run_ucloud, reading.describe, 1_000, 200),
    "v1": Target(openapi.run_v1, reading.describe, 600, 60),
}
assert set(READERS) <= set(TARGETS)


def long_inputs() -> int:
    return sum(target.long for target in TARGETS.values())
