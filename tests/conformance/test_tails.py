"""The end of a replica's output, however long it is; see `logs` in serai_backends/api.py."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest
from serai_backends.model import Stream

if TYPE_CHECKING:
    from conftest import Site  # pyright: ignore[reportMissingImports]  # pytest's own import of the conftest beside this file

DEADLINE_S = 30


async def tail_of(site: Site, tail: int, offset: int = 0, *, follow: bool = False, folder: str = "") -> tuple[int, bytes]:
    """Of job "job": where it began, and all that came."""
    async with asyncio.timeout(DEADLINE_S):
        chunks = site.backend.logs("job", 0, Stream.STDOUT, offset, tail=tail, follow=follow, output_folder=folder)
        found = [chunk async for chunk in chunks]
    return found[0].offset if found else -1, b"".join(chunk.data for chunk in found)


async def test_the_end_of_output_is_given_by_itself(site: Site) -> None:
    """So many bytes at their own offsets, all when there are fewer, never what is before an offset that is asked for too; also what
    comes later, and from a job that has ended or was forgotten."""
    spec = site.spec("job", "print", "0123456789", "hang")
    await site.backend.submit(spec)
    await site.running("job")
    async with asyncio.timeout(DEADLINE_S):
        assert (await anext(site.backend.logs("job", 0, Stream.STDOUT, tail=10, follow=True))).offset == 0
    assert await tail_of(site, 4) == (6, b"6789")
    assert await tail_of(site, 100) == (0, b"0123456789")
    assert await tail_of(site, 4, offset=8) == (8, b"89")
    assert await tail_of(site, 4, offset=2) == (6, b"6789")
    follower = asyncio.create_task(tail_of(site, 4, follow=True))
    await site.backend.cancel("job")
    await site.ended("job")
    assert await follower == await tail_of(site, 4) == (6, b"6789")
    await site.backend.forget("job")
    assert await tail_of(site, 4, folder=spec.output_folder) == (6, b"6789")


async def test_what_is_before_the_end_costs_nothing(site: Site) -> None:
    """A log of 20 GiB, as a job makes one in a moment: its last bytes come at once, and then what is written after them."""
    if not site.harness.real:
        pytest.skip("has no files")
    spec = site.spec("job", "print", "0123456789", "hang")
    await site.backend.submit(spec)
    await site.running("job")
    async with asyncio.timeout(DEADLINE_S):
        await anext(site.backend.logs("job", 0, Stream.STDOUT, follow=True))
    _, drives = site.harness.folders()
    file, size = drives / spec.output_folder / "stdout.txt", 20 << 30
    os.truncate(file, size)
    assert await tail_of(site, 3) == (size - 3, b"\0" * 3)
    async with asyncio.timeout(DEADLINE_S):
        chunks = site.backend.logs("job", 0, Stream.STDOUT, tail=3, follow=True)
        assert (await anext(chunks)).offset == size - 3
        with file.open("ab") as writer:
            writer.write(b"more")
        found = await anext(chunks)
        assert (found.offset, found.data) == (size, b"more")
