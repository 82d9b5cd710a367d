"""A whole Serai to send things to: server and gateway in a process of their own, a stand-in for Core, and a look at the log at the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path

from fakes.stack import Stack, stack

from fuzz.memory import Watch
from fuzz.tally import Tally

_ADDRESS = re.compile(r"0x[0-9a-f]+")
"""Of objects in memory: the same error has another one each time."""


class Site(Stack):
    """`python -m fuzz.server` in place of `serai serve`."""

    async def spawn(self, part: str) -> asyncio.subprocess.Process:
        del part
        with self.log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "fuzz.server",
                str(self.folder / "serai.toml"),
                cwd=Path(__file__).parent.parent,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
            )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.returncode is None

    def core_headers(self) -> dict[str, str]:
        """What Core sends with each call."""
        return {"Authorization": f"Bearer {self.core.providers['example'].issuer.core_token()}", "UCloud-Username": "user"}

    def user_headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.core.users.token('user')}"}


@contextlib.asynccontextmanager
async def site(tally: Tally, *, generation: str = "2021", more: str = "") -> AsyncGenerator[tuple[Site, Watch]]:
    """Serves until the block ends; then its log is read, and its growth noted. `more`: further sections of serai.toml."""
    with tempfile.TemporaryDirectory(prefix="serai-fuzz-") as name:
        folder = Path(name)
        async with stack(folder, generation=generation, started=False, kind=Site) as serai:
            (folder / "users.pem").write_text(serai.core.users.public_key_pem)
            file = folder / "serai.toml"
            text = file.read_text().replace('state_dir = "state"', 'state_dir = "state"\nlog_level = "warning"')
            text = text.replace("[gateway]", "[gateway]\naccess_log = false")
            file.write_text(text + '[gateway.users]\npublic_key_file = "users.pem"\n' + more)
            await serai.start()
            watch = Watch(serai.pid)
            watch.look(tally.inputs)
            yield serai, watch
            watch.look(tally.inputs)
            watch.tell(tally)
            if not serai.alive:
                tally.find(f"the server died: {serai.tail()}", b"")
            elif code := await serai.stop():
                tally.find(f"the server ended with {code}: {serai.tail()}", b"")
            for line in errors_in(serai.log):
                tally.find(f"in the log: {line[:200]} … {line[-400:]}", line.encode())


def errors_in(log: Path, *, others: bool = False) -> list[str]:
    """Lines that are errors of ours, or none of our own: what nobody caught is printed past the log. The first of each kind.
    `others`: there are lines of other programs as well, which say nothing."""
    found: dict[str, str] = {}
    for line in log.read_text(errors="replace").splitlines():
        try:
            entry = json.loads(line)
            if entry.get("level") in {"error", "critical"}:
                found.setdefault(_ADDRESS.sub("", str(entry.get("event")) + str(entry.get("exception"))[-200:]), line)
        except (ValueError, AttributeError):
            if line.strip() and not others:
                found.setdefault("not of the log", line)
    return list(found.values())
