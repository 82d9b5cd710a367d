"""Terminals and desktops in a real browser, over the gateway's own sockets; the program at the other end is played by the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from fakes.browser import Person, browser, need_vendored, person, until_pixel, until_screen
from fakes.console_site import ConsoleSite, console_site
from fakes.gateway_sessions import FakeShell, Held
from fakes.real_desktop import desktop, need_desktop
from playwright.async_api import Page, expect
from serai.sessions.v1 import sessions_service_pb2 as pb2


@asynccontextmanager
async def visitor(complaints: int | None = 0) -> AsyncGenerator[tuple[ConsoleSite, Person]]:
    """A site with job 4711, and somebody without a login. `complaints`: how many the browser may have; None = any."""
    need_vendored()
    async with console_site() as site, browser() as running, person(running, viewport={"width": 900, "height": 600}) as somebody:
        await site.jobs.runs("4711")
        site.sessions.run("4711", vnc=("127.0.0.1", 9))
        yield site, somebody
        if complaints is not None:
            assert len(somebody.complaints) == complaints, somebody.complaints


async def terminal(site: ConsoleSite, somebody: Person) -> tuple[Page, Held, FakeShell]:
    """A page with a shell in it."""
    held = site.sessions.open(pb2.SESSION_KIND_SHELL, "4711")
    shell = site.sessions.shells[held.told.id] = FakeShell(echoes=False)
    page = await somebody.at(f"{site.url}/console/session#shell:{held.secret}")
    await expect(page.locator("#state")).to_have_text("Connected")
    return page, held, shell


async def test_the_holder_of_a_shell_needs_no_login() -> None:
    """What is typed arrives, what the program writes is drawn, the size is told; the secret stays in the browser."""
    async with visitor() as (site, somebody):
        page, held, shell = await terminal(site, somebody)
        shell.write("\x1b[1;31mrot\x1b[0m zwölf \N{GRINNING FACE}\r\n$ ".encode())
        await until_screen(page, ["rot zwölf \N{GRINNING FACE}", "$"])
        await page.keyboard.type("ls -l\n")
        await page.keyboard.press("Control+C")
        async with asyncio.timeout(40):
            while bytes(shell.typed) != b"ls -l\r\x03":
                await asyncio.sleep(0.02)
        columns, rows = shell.size
        assert 80 < columns < 130
        assert 20 < rows < 40
        await page.set_viewport_size({"width": 600, "height": 400})
        async with asyncio.timeout(40):
            while shell.size[0] >= columns or shell.size[1] >= rows:
                await asyncio.sleep(0.02)
        assert await page.evaluate("[terminal.cols, terminal.rows]") == list(shell.size)
        shell.end(0)
        await expect(page.locator("#state")).to_have_text("Ended")
        assert held.secret not in page.url.partition("#")[0]


async def test_a_cut_connection_comes_back_to_the_same_shell() -> None:
    """It says so, and shows each line once; what was typed before is still there."""
    async with visitor(None) as (site, somebody):
        page, _, shell = await terminal(site, somebody)
        shell.write(b"before\r\n")
        await until_screen(page, ["before"])
        site.way.cut()
        await expect(page.locator("#says")).to_contain_text("The connection was cut. The shell is kept for a minute")
        await expect(page.locator("#state")).to_have_text("Cut off")
        shell.write(b"meanwhile\r\n")
        async with asyncio.timeout(40):
            while site.way.refused == 0:
                await asyncio.sleep(0.02)
        site.way.mend()
        await expect(page.locator("#state")).to_have_text("Connected again")
        await until_screen(page, ["before", "meanwhile"])
        await expect(page.locator("#says")).to_be_hidden()
        await page.keyboard.type("x")
        async with asyncio.timeout(40):
            while bytes(shell.typed) != b"x":
                await asyncio.sleep(0.02)


async def test_a_shell_that_is_open_elsewhere_or_over_is_told() -> None:
    """In the server's own words, with a way to try again."""
    async with visitor() as (site, somebody):
        page, held, shell = await terminal(site, somebody)
        other = await somebody.at(page.url)
        await expect(other.locator("#says")).to_have_text("this shell is open in another window")
        shell.end(3)
        await expect(page.locator("#says")).to_have_text("The shell has ended.")
        await other.get_by_role("button", name="Try again").click()
        await expect(other.locator("#says")).to_contain_text("this session is not known here, or it is over")
        assert held.over.is_set()
        for address in ("session#shell:short", "session"):
            wrong = await somebody.at(f"{site.url}/console/{address}")
            await expect(wrong.locator("#says")).to_contain_text("This address holds no session")


async def test_no_secret_is_in_the_address_of_a_terminals_socket() -> None:
    """Proxies write addresses with their queries into their logs; the first message has the secret."""
    async with visitor() as (site, somebody):
        addresses: list[str] = []
        somebody.context.on("page", lambda page: page.on("websocket", lambda socket: addresses.append(socket.url)))
        _, held, _ = await terminal(site, somebody)
        assert len(addresses) == 1
        assert held.secret not in addresses[0]


async def test_an_operator_opens_a_terminal_from_the_jobs_page() -> None:
    """In a window of its own that says where it is; the session is listed, and can be ended there."""
    async with visitor() as (site, somebody):
        await somebody.at(site.login())
        page = await somebody.at(f"{site.url}/console/job?id=4711")
        async with somebody.context.expect_page() as opening:
            await page.get_by_role("button", name="Terminal").click()
        window = await opening.value
        await expect(window.locator("#state")).to_have_text("Connected")
        await expect(window.locator("#what")).to_have_text("Terminal · job 4711, rank 0")
        assert await window.evaluate("window.opener") is None  # a job's page could send the operator's window elsewhere
        await page.get_by_role("link", name="Sessions").click()
        row = page.get_by_role("row").filter(has_text="terminal")
        await expect(row).to_contain_text("4711")
        await row.get_by_role("button", name="End").click()
        await expect(window.locator("#state")).to_have_text("Ended")
        await expect(row).to_have_count(0)


async def test_a_refusal_to_open_is_told_on_the_jobs_page() -> None:
    """And leaves no empty window behind."""
    async with visitor(1) as (site, somebody):
        await somebody.at(site.login())
        page = await somebody.at(f"{site.url}/console/job?id=4711")
        site.sessions.endpoints.clear()
        await page.get_by_role("button", name="Desktop").click()
        await expect(page.locator("#says")).to_have_text("this rank does not run")
        assert len(somebody.context.pages) == 2
        assert "400" in somebody.complaints[0]  # the browser's own word for that answer


async def test_a_desktop_is_shown(tmp_path: Path) -> None:
    """Its picture in the browser has the colour that it has on its screen; and the window has its name."""
    need_desktop()
    async with visitor() as (site, somebody), desktop(tmp_path, "#c02040") as port:
        site.sessions.run("4711", vnc=("127.0.0.1", port))
        held = site.sessions.open(pb2.SESSION_KIND_VNC, "4711")
        page = await somebody.at(f"{site.url}/console/session?job=4711&rank=0#vnc:{held.secret}")
        await expect(page.locator("#state")).to_have_text("Connected")
        await until_pixel(page, (0xC0, 0x20, 0x40))
        assert await page.evaluate("document.querySelector('#view canvas').width") == 640
        site.sessions.end("4711")
        await expect(page.locator("#state")).to_have_text("Not connected")
        await expect(page.get_by_role("button", name="Connect again")).to_be_visible()


async def test_a_desktops_password_is_asked_for_or_brought(tmp_path: Path) -> None:
    """The operator's page brings it; the holder of a bare secret types it, and a wrong one is told."""
    need_desktop()
    async with visitor(None) as (site, somebody), desktop(tmp_path, "#20c040", password="geheim") as port:
        site.sessions.run("4711", vnc=("127.0.0.1", port))
        site.sessions.passwords["4711"] = "geheim"
        await somebody.at(site.login())
        page = await somebody.at(f"{site.url}/console/job?id=4711")
        async with somebody.context.expect_page() as opening:
            await page.get_by_role("button", name="Desktop").click()
        await until_pixel(await opening.value, (0x20, 0xC0, 0x40))
        held = site.sessions.open(pb2.SESSION_KIND_VNC, "4711")
        bare = await somebody.at(f"{site.url}/console/session#vnc:{held.secret}")
        await bare.get_by_label("The desktop's password").fill("wrong")
        await bare.get_by_role("button", name="Let me in").click()
        await expect(bare.locator("#says")).to_contain_text("The desktop refused to let you in")


async def test_without_the_parts_of_others_the_page_says_so(tmp_path: Path) -> None:
    """Where set-up could not bring them."""
    from serai_gateway.console.files import PAGES, Files

    async with console_site(Files(PAGES, tmp_path)) as site, browser() as running, person(running) as somebody:
        page = await somebody.at(f"{site.url}/console/session#shell:{'a' * 43}")
        await expect(page.locator("#says")).to_contain_text("The terminal is missing here")
