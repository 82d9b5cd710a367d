"""The console's pages in a real browser: what an operator sees of jobs, and how they come in and go."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fakes.browser import Person, browser, person
from fakes.console_site import STDERR, STDOUT, ConsoleSite, console_site
from playwright.async_api import Page, expect
from serai.jobs.v1 import job_pb2


@asynccontextmanager
async def operator(**options: object) -> AsyncGenerator[tuple[ConsoleSite, Person, Page]]:
    """A site, and somebody logged in who sees the jobs. Leaving says that the browser had nothing to complain of."""
    async with console_site() as site, browser() as running, person(running, **options) as somebody:
        page = await somebody.at(site.login())
        yield site, somebody, page
        assert somebody.complaints == []


async def test_an_address_of_login_leads_to_the_jobs() -> None:
    """Its secret is not in the address bar any more, and the cookie is out of reach for scripts, other sites and other paths."""
    async with operator() as (site, somebody, page):
        await expect(page.get_by_role("heading", name="Jobs", exact=True).first).to_be_visible()
        assert page.url == f"{site.url}/console/"
        assert await page.evaluate("document.cookie") == ""
        (cookie,) = await somebody.context.cookies()
        assert (cookie.get("httpOnly"), cookie.get("sameSite"), cookie.get("path")) == (True, "Strict", "/console")
        await expect(page.locator("#empty")).to_contain_text("No jobs yet")


async def test_the_list_is_live() -> None:
    """A new job appears, its state and words change in place, and the site's use is told."""
    async with operator() as (site, _, page):
        await expect(page.locator("#empty")).to_contain_text("No jobs yet")
        await site.jobs.runs("4711", name="My simulation", replicas=3)
        row = page.get_by_role("row").filter(has_text="4711")
        await expect(row.locator(".state")).to_have_text("RUNNING")
        await expect(row.locator("[data-job]")).to_contain_text("1 min")
        await site.jobs.change("4711", job_pb2.JOB_STATE_SUSPENDED, "paused by its user")
        await expect(row.locator(".state")).to_have_text("SUSPENDED")
        await expect(row).to_contain_text("paused by its user")
        await expect(page.locator("#site")).to_contain_text("3 of 8 in use")
        await expect(page.locator("#site")).to_contain_text("1 GiB of 16 GiB in use")
        await expect(page.locator("#site")).to_contain_text("2 running, 1 waiting")


async def test_output_is_shown_live_in_colours_of_every_rank() -> None:
    """Both streams, characters that came in halves, progress bars, and nothing that a terminal would obey."""
    async with operator() as (site, _, page):
        await site.jobs.runs("4711", replicas=3)
        await site.jobs.write("4711", 0, STDOUT, b"\x1b[1;32mgreen\x1b[0m plain \x1b[38;5;208morange\x1b[0m\n")
        await page.goto(f"{site.url}/console/job?id=4711")
        lines = page.locator("#output .line")
        await expect(lines).to_have_count(1)
        await expect(lines.first.locator(".fg-2.bold")).to_have_text("green")
        await expect(lines.first).to_have_text("green plain orange")
        smile = "\N{GRINNING FACE}".encode()
        await site.jobs.write("4711", 1, STDOUT, "zwölf ".encode() + smile[:2])
        await site.jobs.write("4711", 2, STDERR, b"\x1b]0;title\x07\x1b[2Jwrong!\n")
        await site.jobs.write("4711", 1, STDOUT, smile[2:] + b"\n 10 %\r 99 %")
        await expect(lines.nth(1)).to_have_text("zwölf \N{GRINNING FACE}")
        await expect(lines.nth(2)).to_have_text("wrong!")
        await expect(lines.nth(3)).to_have_text(" 99 %")
        assert await lines.nth(1).locator(".rank").get_attribute("data-rank") == "1"
        await expect(lines.nth(2)).to_have_class("line stderr ")
        await page.select_option("#stream", "stderr")
        await expect(page.locator("#output .line:visible")).to_have_count(1)
        await page.select_option("#stream", "")
        await page.select_option("#rank", "1")
        await expect(lines).to_have_count(2)
        await page.select_option("#rank", "")
        await expect(lines).to_have_count(4)
        await site.jobs.ends("4711")
        await expect(page.locator("#about")).to_have_text("The output has ended.")
        await expect(page.locator("#title .state")).to_have_text("SUCCESS")


async def test_usage_is_told_in_numbers() -> None:
    """How long it ran, what was billed, how long it waited; and a picture with a bar for each replica."""
    async with operator() as (site, _, page):
        await site.jobs.runs("4711", replicas=3)
        await site.jobs.ends("4711")
        await page.goto(f"{site.url}/console/job?id=4711")
        await expect(page.locator("#ran .big")).to_have_text("1 min 05 s")
        await expect(page.locator("#billed .big")).to_have_text("2 periods billed for each replica")
        await expect(page.locator("#billed")).to_contain_text("example/c/c1")
        await expect(page.locator("#replicas .big")).to_have_text("3 exited")
        await expect(page.locator("#replicas")).to_contain_text("waited 5.0 s before")
        bars = page.locator("#picture rect.done")
        await expect(bars).to_have_count(3)
        ran, waited = await bars.first.get_attribute("width"), await page.locator("#picture rect.waited").first.get_attribute("width")
        assert ran is not None
        assert waited is not None
        assert 12 < float(ran) / float(waited) < 14  # 65 s to 5 s


async def test_what_users_write_is_text_everywhere() -> None:
    """Markup in names, owners, words, labels, causes and output is shown as it is and does nothing."""
    evil = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
    async with operator() as (site, _, page):
        report = await site.jobs.runs("4711", owner=evil, name=evil)
        report.labels[evil] = evil
        report.replica_reports[0].cause = evil
        await site.jobs.change("4711", job_pb2.JOB_STATE_RUNNING, evil)
        await site.jobs.write("4711", 0, STDOUT, evil.encode() + b"\n")
        row = page.get_by_role("row").filter(has_text="4711")
        await expect(row.locator(".name")).to_have_text(evil)
        await page.get_by_role("link", name="4711").click()
        await expect(page.locator("#output .line")).to_have_text(evil)
        await expect(page.locator("#status")).to_have_text(evil)
        await expect(page.locator("h1")).to_contain_text(evil)
        assert await page.locator("main img, main script, header img").count() == 0
        assert await page.title() == f"{evil} · RUNNING"


async def test_logging_out_ends_every_window() -> None:
    """The one where it was said, and the others, which are told why."""
    async with operator() as (site, somebody, page):
        await site.jobs.runs("4711")
        other = await somebody.at(f"{site.url}/console/job?id=4711")
        await expect(other.locator("h1")).to_contain_text("4711")
        await page.get_by_role("button", name="Log out").click()
        for window in (page, other):
            await expect(window.locator("#says")).to_contain_text("You are logged out. Run serai console")
        await page.reload()
        await expect(page.locator("#says")).to_contain_text("You are not logged in here")
        assert any("401" in complaint for complaint in somebody.complaints)
        somebody.complaints.clear()  # the browser's own word for the answers to what was tried after that


async def test_pages_come_back_after_a_cut() -> None:
    """The server away for a moment: the page says so and goes on with the output from where it was, without a line twice."""
    async with operator() as (site, somebody, page):
        await site.jobs.runs("4711")
        await site.jobs.write("4711", 0, STDOUT, b"one\ntwo\n")
        await page.goto(f"{site.url}/console/job?id=4711")
        lines = page.locator("#output .line")
        await expect(lines).to_have_count(2)
        site.way.cut()
        await site.jobs.write("4711", 0, STDOUT, b"three\n")
        await expect(page.locator("#says")).to_contain_text("The connection to the provider was cut. Trying again")
        site.way.mend()
        await expect(lines).to_have_text(["one", "two", "three"])
        await expect(page.locator("#says")).to_be_hidden()
        somebody.complaints.clear()


async def test_a_phone_shows_all_of_it() -> None:
    """Nothing is wider than the screen, in the dark too."""
    async with operator(viewport={"width": 380, "height": 740}, color_scheme="dark") as (site, _, page):
        await site.jobs.runs("4711", name="A name that is long enough to need more than one line of a phone", replicas=3)
        await expect(page.locator("tbody tr")).to_have_count(1)
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        await page.get_by_role("link", name="4711").click()
        await expect(page.locator("#rows tr")).to_have_count(3)
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_everything_can_be_reached_by_the_keyboard() -> None:
    """From the top of the list to a job, and the way into its terminal."""
    async with operator() as (site, _, page):
        await site.jobs.runs("4711")
        await expect(page.get_by_role("link", name="4711")).to_be_visible()
        for _ in range(12):
            await page.keyboard.press("Tab")
            if await page.evaluate("document.activeElement.textContent") == "4711":
                break
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/console/job?id=4711")
        await expect(page.get_by_role("button", name="Terminal")).to_be_visible()


async def test_older_jobs_are_shown_when_asked_for() -> None:
    """A page of fifty first; the filter narrows both."""
    async with operator() as (site, _, page):
        for number in range(60):
            await site.jobs.runs(str(5000 + number), owner="bob" if number % 2 else "alice")
        await expect(page.locator("tbody tr")).to_have_count(50)
        await page.get_by_role("button", name="Older jobs").click()
        await expect(page.locator("tbody tr")).to_have_count(60)
        await expect(page.get_by_role("button", name="Older jobs")).to_be_hidden()
        await page.get_by_label("Owner").fill("bob")
        await expect(page.locator("tbody tr")).to_have_count(30)
        await page.get_by_label("State").select_option("FAILURE")
        await expect(page.locator("#empty")).to_have_text("No job is like that.")


async def test_a_long_log_stays_bounded() -> None:
    """Its end is shown, with a word for what is not; lines beyond the bound go, the oldest first."""
    async with operator() as (site, _, page):
        await site.jobs.runs("4711")
        for part in range(100):
            await site.jobs.write("4711", 0, STDOUT, b"".join(b"%06d %s\n" % (part * 100 + i, b"x" * 57) for i in range(100)))
        await page.goto(f"{site.url}/console/job?id=4711")
        lines = page.locator("#output .line")
        await expect(lines.last).to_contain_text("009999")
        await expect(lines.first).to_contain_text("bytes before this are not shown")
        for part in range(100, 200):
            await site.jobs.write("4711", 0, STDOUT, b"".join(b"%06d\n" % (part * 100 + i) for i in range(100)))
        await expect(lines.last).to_contain_text("019999")
        assert await lines.count() == 5_000
        assert await page.evaluate("(b => b.scrollTop + b.clientHeight >= b.scrollHeight - 8)(document.getElementById('output'))")


async def test_what_a_job_waits_for_is_said() -> None:
    """In the list and on the job's own page, from before anything of it runs."""
    async with operator() as (site, _, page):
        await site.jobs.runs("4711")
        report = site.jobs.reports["4711"]
        report.ClearField("started_at_ms")
        report.ClearField("running_since_ms")
        del report.replica_reports[:]
        await site.jobs.change("4711", job_pb2.JOB_STATE_IN_QUEUE, "waits for 2 more cores")
        await expect(page.get_by_role("row").filter(has_text="4711")).to_contain_text("waits for 2 more cores")
        await page.get_by_role("link", name="4711").click()
        await expect(page.locator("#status")).to_have_text("waits for 2 more cores")
        await expect(page.locator("#ran .big")).to_have_text("not yet")
        await expect(page.locator("#about")).to_have_text("Waiting for output…")
