"""The page of clients/typescript in a real browser: over gRPC-Web, through the real Envoy, from another origin than Serai's."""

from __future__ import annotations

import asyncio
import http.server
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from fakes.browser import Person, browser, person
from fakes.cuttable import Cuttable, cuttable
from fakes.up import FrontDoor, Up, up
from playwright.async_api import Page, expect

from testing.languages import BUILD_S, TYPESCRIPT, build_once

pytestmark = pytest.mark.timeout(BUILD_S)

_LINES = 4_000
_MANY_LINES = f"i=0; while [ $i -lt {_LINES} ]; do echo line $i; i=$((i+1)); [ $((i % 500)) -ne 0 ] || sleep 0.4; done"


class _Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@contextmanager
def _served(folder: Path) -> Generator[str]:
    """An origin of its own for the files in `folder`."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Files, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class _Seat:
    """Somebody at a browser, before a Serai that lets pages of `origin` call."""

    serai: Up
    way: Cuttable
    """Between browser and Envoy."""
    token: str
    origin: str
    elsewhere: str
    """Another origin of the same page."""
    person: Person

    async def open(self, origin: str, token: str) -> Page:
        page = await self.person.at(origin)
        await page.get_by_label("Address").fill(self.serai.front.url)
        await page.get_by_label("Token").fill(token)
        await page.get_by_role("button", name="Connect").click()
        return page


@asynccontextmanager
async def _seat(folder: Path) -> AsyncGenerator[_Seat]:
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(browser())
        files = TYPESCRIPT.folder / "build" / "page"
        origin, elsewhere = (stack.enter_context(_served(files)) for _ in range(2))
        serai = await stack.enter_async_context(up(folder, tls=False, origins=(origin,), started=False))
        way = await stack.enter_async_context(cuttable(serai.front.port))
        await _start_behind(way, serai)
        token = await serai.token("operator")
        yield _Seat(serai, way, token, origin, elsewhere, await stack.enter_async_context(person(running)))


async def _start_behind(way: Cuttable, serai: Up) -> None:
    """Its address is that of the way, because Envoy answers to its own name only."""
    front = FrontDoor(way.port, "localhost")
    file = serai.folder / "serai.toml"
    file.write_text(file.read_text().replace(serai.front.url, front.url))
    serai.front = front
    await serai.start()


@pytest.fixture
async def seat(short_folder: Path, built_already: set[str]) -> AsyncGenerator[_Seat]:
    if reason := TYPESCRIPT.missing():
        pytest.skip(reason)
    await asyncio.to_thread(build_once, TYPESCRIPT, built_already)
    async with _seat(short_folder) as seated:
        yield seated


async def _submit(page: Page, line: str) -> None:
    await page.get_by_label("Shell command").fill(line)
    await page.get_by_role("button", name="Submit").click()


async def test_page_submits_a_job_and_shows_it_live(seat: _Seat) -> None:
    """Its states and both of its streams come as they happen; it then stands in the list; the browser has nothing to complain of."""
    page = await seat.open(seat.origin, seat.token)
    await _submit(
        page, "printf 'caf\\303'; echo why >&2; sleep 1; printf '\\251 ready\\n'; until [ -e /work/on ]; do sleep 0.1; done; exit 7"
    )
    await expect(page.locator("#log .stdout").last).to_have_text("é ready\n")
    await expect(page.locator("#log .stderr")).to_have_text("why\n")
    await expect(page.locator("#state")).to_have_text("RUNNING")
    job_id = await page.locator("#name").inner_text()
    (seat.serai.work(job_id, title="Tool", user="tools") / "on").touch()
    await expect(page.locator("#state")).to_have_text("SUCCESS, exit code 7")
    await expect(page.locator(f'[data-job="{job_id}"] td').nth(1)).to_have_text("SUCCESS")
    assert seat.person.complaints == []

    again = await seat.open(seat.origin, seat.token)
    await again.locator(f'[data-job="{job_id}"]').get_by_role("button", name="Show").click()
    await expect(again.locator("#state")).to_have_text("SUCCESS, exit code 7")


async def test_page_stops_a_job(seat: _Seat) -> None:
    """The button asks for the end, which the page then shows."""
    page = await seat.open(seat.origin, seat.token)
    await _submit(page, "echo up; sleep 1000")
    await expect(page.locator("#log")).to_have_text("up\n")
    await page.get_by_role("button", name="Stop").click()
    await expect(page.locator("#state")).to_contain_text("SUCCESS")


async def test_log_in_the_page_is_whole_over_a_cut_and_a_restart(seat: _Seat) -> None:
    """A connection that breaks, then all of Serai killed with its Envoy and started anew: not a line is lost or comes twice."""
    page = await seat.open(seat.origin, seat.token)
    await _submit(page, _MANY_LINES)
    await expect(page.locator("#log")).to_contain_text("line 400\n")
    seat.way.cut()
    seat.way.mend()
    await expect(page.locator("#log")).to_contain_text("line 1400\n")
    await seat.serai.kill()
    await seat.serai.start()
    await expect(page.locator("#state")).to_have_text("SUCCESS, exit code 0")
    lines = (await page.locator("#log").text_content() or "").splitlines()
    assert lines == [f"line {i}" for i in range(_LINES)]


async def test_page_says_that_a_token_is_wrong(seat: _Seat) -> None:
    """In words, with the code; the rest of the page stays shut."""
    page = await seat.open(seat.origin, "serai_00000000_" + "A" * 43)
    await expect(page.get_by_role("alert")).to_contain_text("UNAUTHENTICATED: ")
    await expect(page.locator("main")).to_be_hidden()


async def test_page_of_an_origin_that_is_not_allowed_reaches_nothing(seat: _Seat) -> None:
    """The browser asks Envoy, hears no, and keeps the call back, also with a good token."""
    page = await seat.open(seat.elsewhere, seat.token)
    await expect(page.get_by_role("alert")).to_contain_text("Failed to fetch")
    await expect(page.locator("main")).to_be_hidden()
    assert any("CORS policy" in complaint for complaint in seat.person.complaints)
