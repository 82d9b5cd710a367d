"""Runs a client's example as a person does, and reads what it said. Its form is the same in every language: clients/README.md."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from testing.languages import Language
from testing.live import Door

LONGEST_S = 90.0
"""For one run of an example, on a busy machine."""
_ABOUT = re.compile(r"serai: job (\S+) (.*)")


@dataclass(frozen=True)
class Told:
    """What came out of one run."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def job_id(self) -> str:
        return self._about()[0][0]

    @property
    def states(self) -> list[str]:
        """Of the job, each once, in their order."""
        return [words.removeprefix("is ") for _, words in self._about() if words.startswith("is ")]

    @property
    def end(self) -> str:
        """The last thing said of the job."""
        return self._about()[-1][1]

    @property
    def job_stderr(self) -> bytes:
        """What is no line of the example's own."""
        return b"".join(line for line in self.stderr.splitlines(keepends=True) if not line.startswith(b"serai: "))

    def _about(self) -> list[tuple[str, str]]:
        lines = self.stderr.decode(errors="replace").splitlines()
        return [(found[1], found[2]) for line in lines if (found := _ABOUT.fullmatch(line))]


async def run_example(language: Language, door: Door, *program: str, on_output: Callable[[int], None] = lambda _: None) -> Told:
    """Run it to its end. `on_output` gets how many bytes of the job's stdout have come, each time when more did."""
    process = await asyncio.create_subprocess_exec(
        *language.example,
        *program,
        cwd=language.folder,
        env=door.environment(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None

    async def read(stream: asyncio.StreamReader, told: Callable[[int], None]) -> bytes:
        whole = bytearray()
        while piece := await stream.read(65_536):
            whole += piece
            told(len(whole))
        return bytes(whole)

    try:
        async with asyncio.timeout(LONGEST_S):
            out, err = await asyncio.gather(read(process.stdout, on_output), read(process.stderr, lambda _: None))
            return Told(await process.wait(), out, err)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
