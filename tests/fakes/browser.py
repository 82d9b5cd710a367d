"""A real Chromium without a screen, for tests of what people see. It reaches this machine only, and each of its complaints is kept.

Where there is no Chromium, `browser()` skips the test and says so.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Error, Page, async_playwright, expect

ROOT = Path(__file__).resolve().parents[2]
BROUGHT = ROOT / "gateway" / "serai_gateway" / "console" / "vendor" / "brought"
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Names of this machine only: nothing else is ever asked for.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE *.localhost, EXCLUDE 127.0.0.1",
)
WAIT_MS = 40_000
"""For what is to be seen, on a busy machine."""
_SCREEN = """() => {
  if (!window.terminal) return [];
  const {buffer: {active}, rows} = window.terminal;
  const lines = [...Array(rows).keys()].map((y) => active.getLine(active.viewportY + y)?.translateToString(true).trimEnd() ?? "");
  while (lines.at(-1) === "") lines.pop();
  return lines;
}"""
_PIXEL = """([x, y]) => {
  const canvas = document.querySelector("#view canvas");
  if (!canvas || canvas.width < 100) return null;
  const point = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  point.drawImage(canvas, x, y, 1, 1, 0, 0, 1, 1);
  return [...point.getImageData(0, 0, 1, 1).data];
}"""


def need_vendored() -> None:
    """Skips where the console's terminal and desktop were not brought."""
    if not BROUGHT.is_file():
        pytest.skip("the console's terminal and desktop were not brought: .venv/bin/python tools/vendor.py")


@dataclass
class Person:
    """Somebody with a browser of their own: cookies, windows, and what the browser complained of."""

    context: BrowserContext
    complaints: list[str] = field(default_factory=list[str])
    """Errors and warnings of every page, among them each violation of a Content-Security-Policy."""

    async def page(self) -> Page:
        return await self.context.new_page()

    async def at(self, url: str) -> Page:
        page = await self.page()
        await page.goto(url)
        return page

    def watch(self, page: Page) -> None:
        page.set_default_timeout(WAIT_MS)
        page.on("console", self._heard)
        page.on("pageerror", self._failed)

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def _failed(self, error: Error) -> None:
        self.complaints.append(f"fault: {error}")


@asynccontextmanager
async def browser() -> AsyncGenerator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed")
    expect.set_options(timeout=WAIT_MS)
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        try:
            yield running
        finally:
            await running.close()


@asynccontextmanager
async def person(running: Browser, **options: Any) -> AsyncGenerator[Person]:
    """`options`: of Playwright's `new_context`, like viewport and color_scheme."""
    context = await running.new_context(**options)
    somebody = Person(context)
    context.on("page", somebody.watch)
    try:
        yield somebody
    finally:
        await context.close()


async def screen(page: Page) -> list[str]:
    """What the console's terminal shows, without blanks at the ends of lines and empty lines at its end."""
    return await page.evaluate(_SCREEN)


async def until_screen(page: Page, wanted: list[str]) -> None:
    """Until the terminal shows exactly this."""
    found: list[str] = []
    try:
        async with asyncio.timeout(WAIT_MS / 1_000):
            while (found := await screen(page)) != wanted:
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"the terminal shows {found}, not {wanted}") from None


async def until_pixel(page: Page, wanted: tuple[int, int, int], at: tuple[int, int] = (300, 200)) -> None:
    """Until the console's desktop has this colour there."""
    found: list[int] | None = None
    try:
        async with asyncio.timeout(WAIT_MS / 1_000):
            while (found := await page.evaluate(_PIXEL, list(at))) != [*wanted, 255]:
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"the desktop has the colour {found} there, not {wanted}") from None
