"""From a replica's exit to Core's having the final state, over a bare loopback POST on one connection.

A real `serai serve` with real sandboxes, the stand-in for Core as the receiver. The replica's last act is to print the time; Core's
time is taken when its book has the final state. Printed, without a limit: how long an exit takes to be told is mostly the number of
steps that are stored on the way.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from serai_devcore.applications import shell_request
from serai_devcore.core import DevCore

from bench.ratio import Ratio

JOBS = 50
AT_ONCE = 2
POSTS = 200
SCRIPT = "sleep 0.2; exec date +%s%N"


def run() -> list[Ratio]:
    """p50 and p99 as multiples of a bare POST's, in one run."""
    # The tests' stack runs Serai as an operator does; it is not part of any package.
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    exits_ms, posts_ms = asyncio.run(_measure())
    rows: list[Ratio] = []
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        one, floor = _share(exits_ms, share), _share(posts_ms, share)
        detail = f"{one:.1f} ms ({len(exits_ms)} jobs, {AT_ONCE} at once); a bare POST {floor:.2f} ms"
        rows.append(Ratio(f"exit to Core has the final state, over a bare POST, {name}", one / floor, 0, "printed", "x", detail))
    rows.append(Ratio("exit to Core has the final state, p50", median(exits_ms), 0, "printed", "ms", f"longest {max(exits_ms):.1f} ms"))
    return rows


def _share(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


class _Ends:
    """When Core had each job's final state, in ns since epoch."""

    def __init__(self, core: DevCore) -> None:
        self._core = core
        self._changed = core.changed
        self.at_ns: dict[str, int] = {}
        core.changed = self._look  # type: ignore[method-assign]  # called after each thing that happens in Core

    def _look(self) -> None:
        now = time.time_ns()
        for job in self._core.jobs:
            if job.final:
                self.at_ns.setdefault(job.id, now)
        self._changed()


async def _measure() -> tuple[list[float], list[float]]:
    """ms of each exit, ms of each bare POST."""
    from fakes.stack import stack  # noqa: PLC0415 - see run()

    exits_ms: list[float] = []
    posts_ms: list[float] = []
    with tempfile.TemporaryDirectory(prefix="serai-bench-") as name:
        async with stack(Path(name)) as running, _BarePosts() as bare:
            ends = _Ends(running.core)

            async def one() -> None:
                sent = await running.core.submit(shell_request(SCRIPT))
                if not sent.accepted:
                    raise RuntimeError(f"a job was refused: {sent.answer.why}")
                await running.until_final(sent.job_id)
                exited = int((running.work(sent.job_id) / "stdout.txt").read_text())
                exits_ms.append((ends.at_ns[sent.job_id] - exited) / 1e6)

            await asyncio.gather(*(one() for _ in range(AT_ONCE)))
            exits_ms.clear()  # the first ones warm up
            for _ in range(JOBS // AT_ONCE):
                async with asyncio.TaskGroup() as group:
                    for _ in range(AT_ONCE):
                        group.create_task(one())
                # In between, so that both see the same machine.
                posts_ms += [await bare.post() for _ in range(POSTS * AT_ONCE // JOBS)]
    return exits_ms, posts_ms


class _BarePosts:
    """An HTTP server that does nothing, and one connection to it."""

    BODY = b'{"items":[{"id":"1000","update":{"state":"SUCCESS","status":"The job has finished processing!"}}]}'
    ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"

    async def __aenter__(self) -> _BarePosts:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
                writer.write(self.ANSWER)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    async def post(self) -> float:
        """ms."""
        began = time.perf_counter()
        self._writer.write(
            b"POST /api/jobs/control/update HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(self.BODY), self.BODY)
        )
        await self._reader.readexactly(len(self.ANSWER))
        return (time.perf_counter() - began) * 1e3
