"""Metrics of what people hold: seats of licenses, followers of output, shells and pages; from nothing to something and back."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from fakes.license_stack import LOCAL, adding, licensed_shell, licensed_site, serai
from fakes.lmgrd import FakeLmgrd
from fakes.scraped import Scrape, Watched, scrape, watched
from fakes.stack import free_port
from serai_devcore.applications import shell_request

SEATS = {"server": "acme", "product": "example/example-license/example-license"}
FOLLOW = "/serai.jobs.v1.JobsService/Follow"


async def until(port: int, name: str, value: float, **labels: str) -> Scrape:
    async with asyncio.timeout(60):
        while (found := await scrape(port)).value(name, **labels) != value:
            await asyncio.sleep(0.1)
    return found


async def test_seats(tmp_path: Path) -> None:
    """Held, waited for, how many there are, and whether the server answers; a license server that goes away is seen."""
    port = free_port()
    more = f'[metrics]\nlisten = "127.0.0.1:{port}"\n'
    async with FakeLmgrd(solver=2) as lmgrd, licensed_site(LOCAL, tmp_path, more=more) as site:
        config = await scrape(port)
        assert config.samples("serai_license_seats") == {}
        added = await serai(site.serai, *adding(lmgrd, 1))
        assert added.code == 0, added
        found = await until(port, "serai_license_server_up", 1, **SEATS)
        assert found.value("serai_license_seats", **SEATS) == found.value("serai_license_seats_limit", **SEATS) == 1
        assert found.value("serai_license_seats_held", **SEATS) == 0
        license_id = (await site.bought()).id
        first = await site.submit(licensed_shell(license_id, "while [ ! -e go ]; do sleep 0.05; done"))
        await site.until_state(first, "RUNNING")
        second = await site.submit(licensed_shell(license_id, "true"))
        found = await until(port, "serai_license_waiting_jobs", 1, **SEATS)
        assert found.value("serai_license_seats_held", **SEATS) == 1
        (site.serai.work(first) / "go").touch()
        await site.serai.until_final(first, second)
        found = await until(port, "serai_license_seats_held", 0, **SEATS)
        assert found.value("serai_license_waiting_jobs", **SEATS) == 0
        removed = await serai(site.serai, "licenses", "server", "remove", "acme", "--yes")
        if removed.code == 0:
            assert (await scrape(port)).samples("serai_license_server_up") == {}


async def test_followers_and_shells(tmp_path: Path) -> None:
    """Who follows has a stream open at the server, for as long as they follow; in the end it is one call that went well."""
    async with watched(tmp_path) as running:
        sent = await running.core.submit(shell_request("echo begun; while [ ! -e go ]; do sleep 0.05; done"))
        await running.core.until(lambda: running.core.jobs[sent.job_id].state == "RUNNING")
        follower = await asyncio.create_subprocess_exec(
            *command(running, "jobs", "logs", "-f", sent.job_id), stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL
        )
        assert follower.stdout is not None
        await follower.stdout.readline()
        found = await running.until("serai_rpc_streams_open", 1, method=FOLLOW)
        assert found.value("serai_shells_open") == 0
        (running.work(sent.job_id) / "go").touch()
        await running.until_final(sent.job_id)
        async with asyncio.timeout(30):
            await follower.wait()
        found = await running.until("serai_rpc_streams_open", 0, method=FOLLOW)
        assert found.value("serai_rpc_calls_total", method=FOLLOW, caller="operator", code="OK") >= 1
        assert found.samples("serai_rpc_call_duration_seconds_count").get((FOLLOW,)) is None, "a stream's time says nothing"


def command(running: Watched, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "serai_server.cli", *arguments, "--config", str(running.folder / "serai.toml"))
