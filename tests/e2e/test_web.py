"""A notebook in a job, opened from UCloud in a real browser: by the gateway's own way and through Envoy, everything else real too."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from fakes.browser import browser, person
from fakes.envoy import running_file
from fakes.stack import ROOT, Stack, free_port, local_text, stack
from serai_devcore.applications import EXAMPLE_PRODUCT, Application, JobRequest, word

PORT = 8888
NOTEBOOK = Application(
    "notebook", "1", "Notebook", "A page", "debian:stable-slim", (word("notebook"), word(str(PORT))), (), True, None, "WEB", PORT
)


@dataclass
class Opened:
    """A job with two ranks that each have a page."""

    running: Stack
    job_id: str

    async def address(self, rank: int = 0) -> str:
        """What UCloud sends its user to."""
        outcome = await self.running.core.open_session(self.job_id, "WEB", rank=rank)
        assert outcome.accepted, outcome
        found = re.search(r"http://app-[^\"]+", json.dumps(outcome.body))
        assert found is not None, outcome
        return found[0]

    def refusals(self) -> list[str]:
        lines = [json.loads(line) for line in self.running.log.read_text().splitlines() if line.startswith("{")]
        return [line["why"] for line in lines if line.get("event") == "web.refused"]


def programs(folder: Path) -> Path:
    """A folder with the notebook as a program that jobs find."""
    made = folder / "programs"
    made.mkdir(mode=0o755)
    shutil.copy(ROOT / "tests" / "fakes" / "notebook.py", made / "notebook.py")
    (made / "notebook").write_text('#!/bin/sh\nexec /usr/bin/python3 "$(dirname "$0")/notebook.py" "$@"\n')
    (made / "notebook").chmod(0o755)
    return made


@asynccontextmanager
async def opened(folder: Path, way: str) -> AsyncGenerator[Opened]:
    port, apps_port = free_port(), free_port()
    through_envoy = (
        f'port = {apps_port}\n[gateway.envoy]\nhost = "127.0.0.1"\nport = {port}\napps_port = {apps_port}\naccess_log = "access.log"\n'
    )
    backend = local_text(8).replace("program_dirs = [", f'program_dirs = ["{programs(folder)}", ')
    backend += f'[gateway.web]\nmode = "host"\ndomain = "localhost"\n{through_envoy if way == "envoy" else ""}'
    async with stack(folder, backend=backend) as running, AsyncExitStack() as more:
        if way == "envoy":
            text = (folder / "serai.toml").read_text()
            (folder / "serai.toml").write_text(text.replace("[gateway]\n", f'[gateway]\npublic_url = "http://provider.localtest:{port}"\n'))
            code, _, err = await running.cli("envoy", "render", "-o", str(folder / "envoy.yaml"))
            assert code == 0, err
            more.enter_context(running_file(folder / "envoy.yaml", folder / "state" / "envoy-admin.sock"))
        sent = await running.core.submit(JobRequest(NOTEBOOK, EXAMPLE_PRODUCT, replicas=2))
        assert sent.accepted, sent.answer
        await running.core.until(lambda: running.core.jobs[sent.job_id].state == "RUNNING", 60)
        yield Opened(running, sent.job_id)


@pytest.mark.parametrize("way", ["plain", "envoy"])
async def test_a_notebook_in_a_browser(tmp_path: Path, way: str) -> None:
    """UCloud's link opens the page; its kernel answers over a WebSocket; the link works once; a sibling page gets nowhere; the job's end
    closes the page's socket."""
    if shutil.which("python3", path="/usr/bin") is None:
        pytest.skip("the notebook runs by /usr/bin/python3, which is not here")
    async with asyncio.timeout(100), browser() as chromium, opened(tmp_path, way) as job, person(chromium) as user:
        address = await job.address()
        page = await user.at(address)
        await page.locator("#state", has_text="connected").wait_for()
        assert (await page.title(), page.url.partition("/.serai/")[1]) == ("Notebook", "")
        await page.locator("#code").fill("20+22")
        await page.locator("#code").press("Enter")
        await page.locator("#out", has_text="42").wait_for()
        cookies = await user.context.cookies(page.url)
        assert sorted(cookie.get("name", "") for cookie in cookies) == ["_xsrf", "serai-session"]
        assert await page.evaluate("document.cookie") == "_xsrf=2|a|b"
        async with person(chromium) as other:
            late = await other.at(address)
            assert "needs a session" in await late.locator("h1").inner_text()
        sibling = await user.at(await job.address(1))
        await sibling.locator("#state", has_text="connected").wait_for()
        target = page.url + "api/kernel"
        await sibling.evaluate("url => fetch(url, {method: 'POST', mode: 'no-cors', credentials: 'include'}).catch(() => 0)", target)
        over_socket = (
            "url => new Promise(done => { const s = new WebSocket(url); s.onopen = () => done('open'); s.onerror = () => done('no'); })"
        )
        assert await sibling.evaluate(over_socket, target.replace("http", "ws", 1)) == "no"
        assert {"session_unknown", "foreign_page"} <= set(job.refusals()), job.refusals()
        assert job.refusals()[-1] in ("foreign_page", "foreign_origin")
        stopped = await job.running.core.terminate(job.job_id)
        assert stopped.accepted, stopped
        await page.locator("#state", has_text="closed").wait_for()
