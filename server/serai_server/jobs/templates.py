"""Applications whose command is a jinja template, as all new ones of today's Core are: checked when a job comes, rendered when it starts.

A create must be fast and must not hold up others, so there templates are counted and measured, and only small ones are parsed, once for
each application. Rendering is somebody else's program at work: it happens, with the parsing, in a short-lived process with bounds
(`template_worker`), when the job is given to the backend, and what is wrong then is the job's FAILURE with the reason in words.
`template_worker` says what the walls are.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypedDict, cast

import jinja2
import markupsafe
from jinja2 import Environment
from serai_backends.errors import BackendUnavailable

from serai_server.clock import Clock
from serai_server.errors import InvalidRequest
from serai_server.jobs.applications import Template
from serai_server.jobs.rendering_turns import Turns
from serai_server.jobs.template_source import parsed

_MOST_TEMPLATES = 32
_MOST_CHARACTERS = 64 * 1024
"""Of all templates of an application."""
_MOST_PARSED_HERE = 4 * 1024
"""Characters of all templates of an application; parsing that many takes up to 20 ms, in which nobody else has a turn."""
_MOST_ANSWER_BYTES = 128 << 20
_WALL_S = 30.0
"""Only a machine that is far too busy needs so long: the worker's own limit is on CPU time."""
_MOST_AT_ONCE = 2
_RANKS_PER_SECOND = 50
"""Each so many replicas with a text of their own add a second of CPU time."""

_WORKER = Path(__file__).with_name("template_worker.py")
_PACKAGES = sorted({str(Path(__file__).parents[2]), *(str(Path(module.__file__ or "").parents[1]) for module in (jinja2, markupsafe))})
"""Where the worker finds `template_source`, jinja2 and markupsafe."""

Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Context:
    """What a template sees."""

    values: Mapping[str, Value]
    ucloud: Mapping[str, Value | Mapping[str, Value]]
    """`ucloud` without its `rank`."""


class _Answer(TypedDict, total=False):
    texts: list[list[str]]
    error: str


def check_templates(templates: Sequence[Template], where: str) -> None:
    """What an application's templates may be, together. Raises InvalidRequest with `where`, for small ones also when they are no templates;
    parsing takes longer than a create may, so what is wrong with larger ones the worker finds when the job starts."""
    if len(templates) > _MOST_TEMPLATES:
        raise InvalidRequest(f"expected {_MOST_TEMPLATES} templates at most, found {len(templates)}", field=where)
    size = sum(len(template.source) for template in templates)
    if size > _MOST_CHARACTERS:
        raise InvalidRequest(f"the application's templates are longer than {_MOST_CHARACTERS} characters in all", field=where)
    if size > _MOST_PARSED_HERE:
        return
    try:
        for template in templates:
            _look_at(template.source)
    except ValueError as error:
        raise InvalidRequest(f"the application's template cannot be used: {error}", field=where) from error


@lru_cache(maxsize=256)
def _look_at(source: str) -> None:
    parsed(source, Environment(autoescape=True))


class Renderer:
    """Renders templates, a few at the same time."""

    def __init__(self, clock: Clock) -> None:
        self._places = asyncio.Semaphore(_MOST_AT_ONCE)
        self._turns = Turns(clock)

    async def render(
        self, owner: str, script: Template | None, pieces: Sequence[Template], context: Context, replicas: int
    ) -> list[tuple[str, ...]]:
        """The script's texts for bash, one or one for each rank, and then the one text of each piece, which no shell reads.
        One render of an `owner` is done at a time, and what took too long is not tried again for a while.

        Raises InvalidRequest for what a template does, and BackendUnavailable when no process can be had now.
        """
        wanted = [{"source": script.source, "escaping": True, "ranks": replicas}] if script is not None else []
        wanted += [{"source": p.source, "escaping": False, "ranks": 1} for p in pieces]
        cpu_s = 1 + (replicas // _RANKS_PER_SECOND if script is not None else 0)
        # With owner and values: what is slow with one user's values may be quick with another's, and must not be refused them.
        same = hashlib.sha256(json.dumps([owner, wanted, context.values]).encode()).digest()
        too_slow = InvalidRequest(_wrong(f"it needs more than {cpu_s} s of computing"))
        if self._turns.was_slow(same):
            raise too_slow
        work = json.dumps({"templates": wanted, "context": context.values, "ucloud": context.ucloud, "cpu_s": cpu_s}).encode()
        with self._turns.of(owner):
            async with self._places:
                code, raw = await _run(work)
        if code == -signal.SIGXCPU:
            self._turns.remember_slow(same)
            raise too_slow
        try:
            answer = cast("_Answer", json.loads(raw)) if code == 0 else None
        except ValueError:
            answer = None
        if answer is None:
            raise InvalidRequest(_wrong(_ended(code)))
        if "texts" not in answer:
            raise InvalidRequest(_wrong(answer.get("error", "no reason is known")))
        return [tuple(texts) for texts in answer["texts"]]


def _ended(code: int) -> str:
    return "it gives what cannot be read" if code == 0 else f"its process ended with {f'signal {-code}' if code < 0 else f'code {code}'}"


def _wrong(why: str) -> str:
    """With what a template says of itself, in which there may be characters that nobody can keep."""
    shown = "".join(c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in why)
    return f"The application's template cannot be rendered: {shown}"


async def _run(work: bytes) -> tuple[int, bytes]:
    """Exit code and output of one worker; it is gone when this returns, however it returns."""
    pipe, nowhere = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", "-B", str(_WORKER), *_PACKAGES, stdin=pipe, stdout=pipe, stderr=nowhere, env={}, cwd="/"
        )
    except OSError as error:
        raise BackendUnavailable(f"the application's template cannot be rendered now: {error.strerror}") from error
    try:
        async with asyncio.timeout(_WALL_S):
            raw = await _talk(process, work)
            return await process.wait(), raw
    except TimeoutError as error:
        raise BackendUnavailable(f"the application's template was not rendered within {_WALL_S:.0f} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _talk(process: asyncio.subprocess.Process, work: bytes) -> bytes:
    stdin, stdout = process.stdin, process.stdout
    if stdin is None or stdout is None:
        raise RuntimeError("both are pipes")
    stdin.write(work)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its exit code says it
        await stdin.drain()
    stdin.close()
    found = bytearray()
    while piece := await stdout.read(1 << 16):
        found += piece
        if len(found) > _MOST_ANSWER_BYTES:
            process.kill()
            return b""
    return bytes(found)
