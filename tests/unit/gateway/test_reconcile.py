"""Core's jobs and ours are brought together in generation 2026, and nothing is stopped on an odd answer."""

from __future__ import annotations

import asyncio
import json

import pytest
import structlog
from fakes.gateway_core import error
from fakes.gateway_deliveries import CODEC, LeapingClock
from fakes.gateway_jobs import BROWSE, EXISTENCE, CoreJobs, OurJobs, core_job
from google.protobuf import text_format
from serai.jobs.v1 import job_pb2
from serai_gateway.control.calls import Calls
from serai_gateway.control.compare_jobs import MOST_GONE_TOGETHER, JobComparison
from serai_gateway.control.questions import CoreQuestions
from serai_gateway.control.reconcile import YOUNG_MS, Reconciliation
from serai_gateway.control.transport import Answer, AnswerTooLong, CoreUnreachable, Transport
from serai_gateway.settings import CoreSettings
from serai_gateway.tokens import Tokens

SETTINGS = CoreSettings(url="http://core", public_key_file="-", refresh_token_file="-", generation="2026")
EVERY_MS = SETTINGS.reconcile_every_ms


class OneToken(Tokens):
    """Always the same."""

    def __init__(self) -> None:
        self.renewals = 0

    async def current(self) -> str:
        return "token"

    async def renewed(self, *, instead_of: str) -> str:
        self.renewals += 1
        return "token"


class Site:
    """Both sides, and what brings them together."""

    def __init__(self) -> None:
        self.clock = LeapingClock()
        self.core = CoreJobs(too_long=lambda: AnswerTooLong("too long"))
        self.ours = OurJobs()
        self.tokens = OneToken()
        transport: Transport = self.core
        questions = CoreQuestions(Calls(transport, self.tokens), CODEC)
        self.reconciliation = Reconciliation(
            JobComparison(self.ours, questions, SETTINGS, self.clock), SETTINGS, self.clock, random=lambda: 0.5
        )
        self.old = self.clock.now_ms() - YOUNG_MS - 1

    def verified(self) -> list[str]:
        return [job.id for batch in self.ours.verified for job in batch]

    def run_here(self, *ids: str, at_core: bool = True) -> None:
        """Old active jobs of ours."""
        for job_id in ids:
            self.ours.active[job_id] = YOUNG_MS + 1
            if at_core:
                self.core.add(job_id, "RUNNING", self.old)


@pytest.fixture
def site() -> Site:
    return Site()


async def test_core_s_active_jobs_are_handed_to_verify(site: Site) -> None:
    """Of every state that is not over, all pages, with state and names and without what is nobody's business here."""
    for n in range(600):
        site.core.add(str(n), "RUNNING", site.old)
    site.core.add("1000", "IN_QUEUE", site.old)
    site.core.add("1001", "SUSPENDED", site.old)
    site.core.add("1002", "SUCCESS", site.old)
    assert await site.reconciliation.attempt() == EVERY_MS
    assert sorted(site.verified(), key=int) == [str(n) for n in range(600)] + ["1000", "1001"]
    assert max(len(batch) for batch in site.ours.verified) == 250
    job = next(job for batch in site.ours.verified for job in batch if job.id == "1001")
    expected = f"""
        id: "1001"
        owner {{ created_by: "user" project: "p-1" }}
        created_at: {site.old}
        specification {{
            application {{ name: "acme" version: "1.0" }}
            product {{ id: "cpu-1" category: "cpu" provider: "example" }}
            name: "mine"
            replicas: 3
        }}
        status {{ state: JOB_STATE_SUSPENDED }}
    """
    assert job == text_format.Parse(expected, job_pb2.Job())


async def test_a_job_that_is_just_being_made_is_not_told_to_be_lost(site: Site) -> None:
    """Core has a job before it calls us for it (facts today §6.1): younger ones than two minutes are left for the next time, and so are
    those of which nobody knows how old they are."""
    site.core.add("1", "IN_QUEUE", site.clock.now_ms() - YOUNG_MS + 1)
    site.core.add("2", "IN_QUEUE", site.old)
    site.core.add("3", "IN_QUEUE", 0)
    await site.reconciliation.attempt()
    assert site.verified() == ["2"]


@pytest.mark.parametrize("odd", [{"owner": None}, {"id": 5}, {"specification": {}}, {"status": [1]}, {"createdAt": "yesterday"}])
async def test_one_odd_job_does_not_spoil_a_page(site: Site, odd: dict[str, object]) -> None:
    """It is left out; the others of its page and all other pages are looked at."""
    for n in range(1, 4):
        site.core.add(str(n), "RUNNING", site.old)
    body = {"items": [{**core_job("9", "RUNNING", site.old), **odd}, *site.core.jobs.values(), 5, None], "next": None}
    site.core.answers[BROWSE] = [Answer(200, json.dumps({"items": [], "next": None}).encode()), Answer(200, json.dumps(body).encode())]
    assert await site.reconciliation.attempt() == EVERY_MS
    assert site.verified() == ["1", "2", "3"]


async def test_pages_that_are_too_long_are_asked_for_in_pieces(site: Site) -> None:
    """A page of 250 long jobs may be more than we read; 25 are not."""
    for n in range(300):
        site.core.add(str(n), "RUNNING", site.old)
    site.core.longest = 100_000
    await site.reconciliation.attempt()
    assert sorted(site.verified(), key=int) == [str(n) for n in range(300)]
    assert {query.partition("&")[0] for query in site.core.asked} >= {"itemsPerPage=250", "itemsPerPage=25"}


async def test_jobs_that_core_does_not_have_are_disowned(site: Site) -> None:
    """In batches of at most 1,000 questions; those that Core has are left alone, and so are young ones, which are not even asked for."""
    site.run_here(*(str(n) for n in range(2_500)))
    site.run_here("5000", "5001", at_core=False)
    site.ours.active["6000"] = YOUNG_MS - 1
    assert await site.reconciliation.attempt() == EVERY_MS
    assert site.ours.disowned == [["5000", "5001"]]
    assert [asked for asked in site.core.asked if asked.startswith("exist")] == ["exist 1000", "exist 1000", "exist 502"]
    assert site.ours.listed == 3


@pytest.mark.parametrize(
    "odd",
    [
        Answer(200, b'{"responses":[false]}'),
        Answer(200, b'{"responses":[false,false,false]}'),
        Answer(200, b'{"responses":[false,null]}'),
        Answer(200, b'{"responses":[0,0]}'),
        Answer(200, b'{"responses":["false","false"]}'),
        Answer(200, b"{}"),
        Answer(200, b"<html>"),
        Answer(200, b""),
        Answer(302, b'{"responses":[false,false]}'),
        error(404, "Not found"),
        error(403, "Forbidden"),
        error(500, "Internal error"),
        CoreUnreachable("no connection"),
    ],
    ids=str,
)
async def test_nothing_is_disowned_on_an_odd_answer(site: Site, odd: Answer | Exception) -> None:
    """Not of that batch and not of the one before it; it is tried again after a pause that grows, and then it goes as it should."""
    site.run_here(*(str(n) for n in range(1_000)))
    del site.core.jobs["7"]
    site.run_here("8000", at_core=False)
    site.run_here("8001")
    good = Answer(200, json.dumps({"responses": [n != 7 for n in range(1_000)]}).encode())
    site.core.answers[EXISTENCE] = [good, odd, odd, good, odd, odd]
    with structlog.testing.capture_logs() as logs:
        pauses = [await site.reconciliation.attempt()]
    assert logs[-1]["log_level"] == "warning"
    if isinstance(odd, Answer) and odd.status == 403:
        assert site.tokens.renewals == 1  # a second answer has been used up
    else:
        site.core.answers[EXISTENCE] = [good, odd]
    pauses.append(await site.reconciliation.attempt())
    assert pauses == [750, 1_500]
    assert site.ours.disowned == []
    site.core.answers.clear()
    assert await site.reconciliation.attempt() == EVERY_MS
    assert site.ours.disowned == [["7", "8000"]]


async def test_core_that_lacks_most_of_many_jobs_is_not_believed(site: Site) -> None:
    """A wrong address or a Core with a new database: nothing is stopped, and an error says what to look at."""
    site.run_here(*(str(n) for n in range(MOST_GONE_TOGETHER + 2)), at_core=False)
    with structlog.testing.capture_logs() as logs:
        assert await site.reconciliation.attempt() == EVERY_MS
    assert site.ours.disowned == []
    assert [(log["log_level"], log["jobs"]) for log in logs] == [("error", MOST_GONE_TOGETHER + 2)]
    for word in ("core.url", "provider.id", "database"):
        assert word in logs[0]["event"]
    site.core.add("0", "RUNNING", site.old)  # one of them there: a Core whose database was put back to last month looks like this
    await site.reconciliation.attempt()
    assert site.ours.disowned == []
    site.run_here(*(str(n) for n in range(100, 100 + MOST_GONE_TOGETHER)))  # half of them there: it is the right Core
    await site.reconciliation.attempt()
    assert [len(batch) for batch in site.ours.disowned] == [MOST_GONE_TOGETHER + 1]


async def test_a_few_jobs_may_all_be_gone(site: Site) -> None:
    """Up to twenty: a small provider, or a quiet day."""
    site.run_here(*(str(n) for n in range(MOST_GONE_TOGETHER)), at_core=False)
    await site.reconciliation.attempt()
    assert [len(batch) for batch in site.ours.disowned] == [MOST_GONE_TOGETHER]


@pytest.mark.parametrize(
    "answer",
    [CoreUnreachable("away"), error(404, "Not found"), Answer(200, b"[]"), Answer(200, b'{"next":null}'), Answer(200, b"\xff")],
    ids=str,
)
async def test_pages_that_do_not_come_are_asked_for_again(site: Site, answer: Answer | Exception) -> None:
    """Core away or not itself: a pause, and then all of it once more."""
    site.core.add("1", "RUNNING", site.old)
    site.core.answers[BROWSE] = [answer]
    assert await site.reconciliation.attempt() == 750
    assert await site.reconciliation.attempt() == EVERY_MS
    assert site.verified() == ["1"]


async def test_pages_that_go_round_end(site: Site) -> None:
    """A `next` that comes twice would be asked for for ever."""
    page = Answer(200, b'{"items":[],"next":"7"}')
    site.core.answers[BROWSE] = [page] * 10
    assert await site.reconciliation.attempt() == 750
    assert len(site.core.asked) == 2


async def test_a_server_that_is_away_is_waited_for(site: Site) -> None:
    """`serai serve gateway` may be up before the server."""
    site.run_here("1", at_core=False)
    site.ours.away = True
    assert [await site.reconciliation.attempt() for _ in range(8)] == [750, 1_500, 3_000, 6_000, 12_000, 22_500, 22_500, 22_500]
    site.ours.away = False
    assert await site.reconciliation.attempt() == EVERY_MS
    assert site.ours.disowned == [["1"]]


async def test_it_runs_at_start_and_then_every_so_often(site: Site) -> None:
    """With a tenth of jitter around core.reconcile_every_ms."""
    rounds = 0
    done = asyncio.Event()

    class Counting(LeapingClock):
        async def sleep(self, seconds: float) -> None:
            nonlocal rounds
            rounds += 1
            if rounds == 4:
                done.set()
            await super().sleep(seconds)

    clock = Counting()
    jitter = iter([0.0, 0.999, 0.5, 0.5, *[0.5] * 100])
    questions = CoreQuestions(Calls(site.core, site.tokens), CODEC)
    task = asyncio.create_task(
        Reconciliation(JobComparison(site.ours, questions, SETTINGS, clock), SETTINGS, clock, random=lambda: next(jitter)).run()
    )
    async with asyncio.timeout(10):
        await done.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert clock.slept_ms[:3] == [810_000, 989_820, 900_000]
    assert site.ours.listed >= 4
