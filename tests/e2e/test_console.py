"""The console at a whole Serai: real jobs in sandboxes, shells in them, a real browser, the address that `serai console` prints."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from fakes.browser import Person, browser, need_vendored, person, screen, until_pixel, until_screen
from fakes.cuttable import Cuttable, cuttable
from fakes.real_desktop import need_desktop
from fakes.stack import Stack, stack
from playwright.async_api import Page, ViewportSize, expect
from serai_devcore.applications import JobRequest, shell_request
from serai_devcore.wire import Json, dig_text

DESKTOP = r"""
Xvfb :9 -screen 0 640x480x24 -nolisten tcp -noreset &
until xsetroot -display :9 -solid '#20a0c0'; do sleep .1; done
exec x11vnc -display :9 -rfbport 5901 -forever -shared -passwd geheim -noxdamage -nocursor -no6"""
WIDE = ViewportSize(width=900, height=600)
SMALL = ViewportSize(width=700, height=420)
WRITE = r"""
r=$(cat /etc/ucloud/rank.txt)
printf '\033[3%dmrank %s zwölf\033[0m\n' $((r+1)) $r
echo oh >&2
until [ -e end ]; do sleep .1; done"""


@asynccontextmanager
async def site(folder: Path) -> AsyncGenerator[tuple[Stack, Person, Cuttable]]:
    """A Serai, and an operator who is logged in, over a connection that can be cut."""
    need_vendored()
    async with stack(folder) as running, cuttable(running.port) as way, browser() as chromium, person(chromium, viewport=WIDE) as somebody:
        code, out, err = await running.cli("console", "--json", "--address", f"http://127.0.0.1:{way.port}")
        assert code == 0, err
        page = await somebody.at(json.loads(out)["address"])
        await expect(page.locator("#empty")).to_contain_text("No jobs yet")
        yield running, somebody, way


async def started(running: Stack, request: JobRequest) -> str:
    """The id of a job that runs."""
    sent = await running.core.submit(request)
    assert sent.accepted, sent.answer
    await running.until_state(sent.job_id, "RUNNING")
    return sent.job_id


async def job_page(somebody: Person, job_id: str) -> Page:
    page = somebody.context.pages[0]
    await page.get_by_role("link", name=job_id).click()
    return page


async def terminal(somebody: Person, job_id: str, rank: int = 0) -> Page:
    """A window with a shell in it, its prompt "$ " and nothing else on the screen."""
    page = await job_page(somebody, job_id)
    async with somebody.context.expect_page() as opening:
        await page.locator(f"[data-open='SHELL-{rank}']").click()
    window = await opening.value
    await expect(window.locator("#state")).to_have_text("Connected")
    await window.keyboard.type("PS1='$ ' PS2='> '; cd /work; clear\n")
    await until_screen(window, ["$"])
    return window


async def until_smaller(window: Page, rows: int) -> int:
    """The terminal's rows when they are fewer than these."""
    async with asyncio.timeout(40):
        while (found := await window.evaluate("terminal.rows")) >= rows:
            await asyncio.sleep(0.05)
    return found


async def test_a_shell_in_a_jobs_sandbox_is_typed_into(tmp_path: Path) -> None:
    """In the rank that was chosen: it sees the job's own folder, knows its size, and ends by itself; its job goes on."""
    async with site(tmp_path) as (running, somebody, _):
        job_id = await started(running, shell_request("sleep 600", replicas=2))
        window = await terminal(somebody, job_id, rank=1)
        await window.keyboard.type("cat /etc/ucloud/rank.txt; stty size; echo Größe > 'mein Text'\n")
        rows, columns = await window.evaluate("[terminal.rows, terminal.cols]")
        await until_screen(window, ["$ cat /etc/ucloud/rank.txt; stty size; echo Größe > 'mein Text'", "1", f"{rows} {columns}", "$"])
        assert (running.work(job_id) / "mein Text").read_text() == "Größe\n"
        await window.set_viewport_size(SMALL)
        smaller = await until_smaller(window, rows)
        await window.keyboard.type("clear; stty size\n")
        await until_screen(window, [f"{smaller} {await window.evaluate('terminal.cols')}", "$"])
        await window.keyboard.type("exit 3\n")
        await expect(window.locator("#state")).to_have_text("Ended")
        assert (await running.until_state(job_id, "RUNNING"))["id"] == job_id
        assert somebody.complaints == []


def vi() -> str:
    """The program itself, where `vi` is a link into folders that sandboxes do not have."""
    found = shutil.which("vi")
    if found is None:
        pytest.skip("vi is not installed")
    return os.path.realpath(found)


async def test_vi_is_drawn_right(tmp_path: Path) -> None:
    """A file is opened, a line is added, the window made smaller: after each the screen is what vi draws, and the file is saved."""
    async with site(tmp_path) as (running, somebody, _):
        job_id = await started(running, shell_request("printf 'eins\\nzwei\\n' > notes.txt; sleep 600"))
        window = await terminal(somebody, job_id)
        await window.keyboard.type(f"{vi()} -N -u NONE -i NONE -c 'set noruler noshowcmd' notes.txt\n")
        rows = await window.evaluate("terminal.rows")
        await until_screen(window, ["eins", "zwei", *["~"] * (rows - 3), '"notes.txt" 2L, 10B'])
        await window.keyboard.type("Godrölf \N{GRINNING FACE}")
        await until_screen(window, ["eins", "zwei", "drölf \N{GRINNING FACE}", *["~"] * (rows - 4), "-- INSERT --"])
        await window.set_viewport_size(SMALL)
        fewer = await until_smaller(window, rows)
        await until_screen(window, ["eins", "zwei", "drölf \N{GRINNING FACE}", *["~"] * (fewer - 4), "-- INSERT --"])
        await window.keyboard.press("Escape")
        await window.keyboard.type(":wq\n")
        async with asyncio.timeout(40):
            while (await screen(window))[-1] != "$":
                await asyncio.sleep(0.05)
        assert (running.work(job_id) / "notes.txt").read_text() == "eins\nzwei\ndrölf \N{GRINNING FACE}\n"
        assert somebody.complaints == []


async def test_a_cut_connection_comes_back_to_vi(tmp_path: Path) -> None:
    """The same program at the same place: what was typed and not saved is still there, drawn right; also in a page loaded again."""
    async with site(tmp_path) as (running, somebody, way):
        job_id = await started(running, shell_request("sleep 600"))
        window = await terminal(somebody, job_id)
        await window.keyboard.type(f"{vi()} -N -u NONE -i NONE -c 'set noruler noshowcmd' new.txt\n")
        rows = await window.evaluate("terminal.rows")
        await until_screen(window, ["", *["~"] * (rows - 2), '"new.txt" [New]'])
        await window.keyboard.type("ikept")
        await until_screen(window, ["kept", *["~"] * (rows - 2), "-- INSERT --"])
        way.cut()
        await expect(window.locator("#state")).to_have_text("Cut off")
        way.mend()
        await expect(window.locator("#state")).to_have_text("Connected again")
        await until_screen(window, ["kept", *["~"] * (rows - 2), "-- INSERT --"])
        await window.keyboard.type(" too")
        await until_screen(window, ["kept too", *["~"] * (rows - 2), "-- INSERT --"])
        await window.reload()
        await until_screen(window, ["kept too", *["~"] * (rows - 2), "-- INSERT --"])
        await window.keyboard.press("Escape")
        await window.keyboard.type(":wq\n")
        async with asyncio.timeout(40):
            while not (running.work(job_id) / "new.txt").exists():
                await asyncio.sleep(0.05)
        assert (running.work(job_id) / "new.txt").read_text() == "kept too\n"


async def test_a_jobs_desktop_is_shown(tmp_path: Path) -> None:
    """A screen inside the sandbox, with the colour that it has there: to an operator, and to a user whom Core gave the address."""
    need_desktop()
    async with site(tmp_path) as (running, somebody, way):
        request = shell_request(DESKTOP)
        job_id = await started(
            running, replace(request, application=replace(request.application, kind="VNC", port=5901, password="geheim"))
        )
        page = await job_page(somebody, job_id)
        await expect(page.locator("#output")).to_contain_text("PORT=5901")
        async with somebody.context.expect_page() as opening:
            await page.get_by_role("button", name="Desktop").click()
        window = await opening.value
        await until_pixel(window, (0x20, 0xA0, 0xC0))
        await expect(window.locator("#state")).to_have_text("Connected")
        opened = await running.core.open_session(job_id, "VNC")
        assert isinstance(opened.body, dict)
        (told,) = cast("list[Json]", opened.body["responses"])
        secret, password = dig_text(told, "url").rpartition("/")[2], dig_text(told, "password")
        holder = await somebody.at(f"http://127.0.0.1:{way.port}/console/session#vnc:{secret}:{password}")
        await until_pixel(holder, (0x20, 0xA0, 0xC0))
        await running.core.terminate(job_id)
        for one in (window, holder):
            await expect(one.locator("#state")).to_have_text("Not connected")
        assert somebody.complaints == []


async def test_a_job_is_seen_from_its_start_to_its_bill(tmp_path: Path) -> None:
    """Three ranks write in colours and two streams, live; then state, exit codes and the usage's numbers are as Core was told."""
    async with site(tmp_path) as (running, somebody, _):
        job_id = await started(running, shell_request(WRITE, replicas=3))
        page = await job_page(somebody, job_id)
        lines = page.locator("#output .line")
        await expect(lines).to_have_count(6)
        for rank in range(3):
            line = page.locator("#output .line.stdout").filter(has=page.locator(f".rank[data-rank='{rank}']"))
            await expect(line.locator(f".fg-{rank + 1}")).to_have_text(f"rank {rank} zwölf")
        await expect(page.locator("#output .line.stderr")).to_have_count(3)
        await expect(page.locator("#picture rect.runs")).to_have_count(3)
        (running.work(job_id) / "end").touch()
        await expect(page.locator("#title .state")).to_have_text("SUCCESS")
        await expect(page.locator("#rows")).to_contain_text("exit code 0")
        await expect(page.locator("#about")).to_have_text("The output has ended.")
        await running.until_final(job_id)
        code, out, err = await running.cli("jobs", "show", job_id, "--json")
        assert code == 0, err
        told = json.loads(out)
        periods = told["charged_periods"]
        assert periods >= 1
        await expect(page.locator("#billed .big")).to_have_text(f"{periods} period{'s'[: periods != 1]} billed for each replica")
        seconds = told["ran_ms"] / 1_000
        if seconds < 60:
            await expect(page.locator("#ran .big")).to_have_text(f"{int(seconds * 10) / 10:.1f} s")
        await expect(page.locator("#replicas .big")).to_have_text("3 exited")
        assert somebody.complaints == []


async def test_a_log_longer_than_anybody_reads_is_shown_at_once(tmp_path: Path) -> None:
    """A job makes one of 20 GiB in a moment. Its end is there, and goes on."""
    async with site(tmp_path) as (running, somebody, _):
        script = "truncate -s 20G /work/stdout.txt; printf '\\nafter the hole\\n'; until [ -e end ]; do sleep .1; done; echo bye"
        job_id = await started(running, shell_request(script))
        page = await job_page(somebody, job_id)
        await expect(page.locator("#output .line").first).to_contain_text("bytes before this are not shown")
        await expect(page.locator("#output .line").last).to_have_text("after the hole")
        (running.work(job_id) / "end").touch()
        await expect(page.locator("#output .line").last).to_have_text("bye")
        await expect(page.locator("#about")).to_have_text("The output has ended.")
        assert somebody.complaints == []
