"""What may be opened, by whom and how many: the rank must run, ports are the application's, all items or none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.backends import InstantBackend, ReachableBackend
from fakes.clock import FakeClock
from fakes.core_on import PRODUCTS, START_MS, core_on, terminate, until
from fakes.sessions import CONSOLE, PASSWORD, SHELL, VNC, WEB, Site, machine_at, reachable_job, site_in
from serai.jobs.v1.application_pb2 import ApplicationType
from serai_backends.errors import BackendUnavailable
from serai_backends.model import Endpoint, Features, JobObservation
from serai_server.errors import (
    BackendDown,
    InvalidRequest,
    JobUnknown,
    SeraiError,
    SessionUnknown,
    TooManySessions,
    Unsupported,
    WrongState,
)
from serai_server.sessions.limits import SessionLimits
from serai_server.sessions.openable import Wanted
from serai_server.sessions.service import Asked
from serai_server.store.model import JobChange, State
from serai_server.store.session_model import SessionKind


@pytest.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Site]:
    """Job 1 runs (2 ranks, page, desktop), job 2 runs without either, job 3 is over."""
    async with site_in(tmp_path) as found:
        await found.run(reachable_job("1", replicas=2), reachable_job("2", web_port=None, vnc_port=None), reachable_job("3"))
        await terminate(found.core, "3")
        await until(found.core, "3", lambda row: row.state.final)
        yield found


async def test_what_is_answered_is_told_and_kept_as_hashes(site: Site) -> None:
    """Secrets are random and are shown once; nothing that is stored or listed has them."""
    items = [Wanted(SHELL, "1"), Wanted(WEB, "1", 1), Wanted(VNC, "1")]
    opened = await site.sessions.open(items, "alice")
    assert len({one.secret for one in opened}) == 3
    assert all(len(one.secret) >= 43 for one in opened)
    assert [one.password for one in opened] == [None, None, PASSWORD]
    assert [(s.kind, s.job_id, s.rank, s.row.user) for s in (one.session for one in opened)] == [
        (SHELL, "1", 0, "alice"),
        (WEB, "1", 1, "alice"),
        (VNC, "1", 0, "alice"),
    ]
    shown = repr([session.message() for session in await site.sessions.list()]) + repr(await site.core.store.sessions.all())
    assert not any(one.secret in shown for one in opened)


@pytest.mark.parametrize(
    ("wanted", "kind", "field", "words"),
    [
        (Wanted(SHELL, "9"), JobUnknown, "job.id", "no job '9' is known here"),
        (Wanted(SHELL, "no/id"), JobUnknown, "job.id", "is known here"),
        (Wanted(WEB, ""), JobUnknown, "job.id", "is known here"),
        (Wanted(SHELL, "1", 2), InvalidRequest, "rank", "this job has ranks 0 to 1"),
        (Wanted(SHELL, "1", -1), InvalidRequest, "rank", "this job has ranks 0 to 1"),
        (Wanted(VNC, "2", 1), InvalidRequest, "rank", "only rank 0"),
        (Wanted(SHELL, "3"), WrongState, "job.id", "job 3 is over"),
        (Wanted(WEB, "2"), Unsupported, "sessionType", "job 2 has no web page"),
        (Wanted(VNC, "2"), Unsupported, "sessionType", "job 2 has no desktop"),
        (Wanted(WEB, "1", target="22"), InvalidRequest, "target", "leave the target out"),
        (Wanted(VNC, "1", target="127.0.0.1:5901"), InvalidRequest, "target", "leave the target out"),
        (Wanted(SHELL, "1", target="sh"), InvalidRequest, "target", "leave the target out"),
        (Wanted(CONSOLE, "1"), InvalidRequest, "job.id", "belongs to no job"),
    ],
)
async def test_what_cannot_be_opened_is_said_with_its_place(
    site: Site, wanted: Wanted, kind: type[SeraiError], field: str, words: str
) -> None:
    """Each with the path of the field, as Core or as an operator names it; and nothing of the request is opened."""
    operators = {"job.id": "job_id", "sessionType": "kind"}
    for at, path in (("items[4]", f"items[4].{field}"), ("", operators.get(field, field))):
        with pytest.raises(kind, match=words) as caught:
            await site.sessions.open([Wanted(SHELL, "1"), replace(wanted, at=at)])
        assert caught.value.field == path
    assert await site.sessions.list() == []


async def test_the_applications_own_target_may_be_named(site: Site) -> None:
    """Generation 2026 may say which port it means, and there is only one."""
    (opened,) = await site.sessions.open([Wanted(WEB, "1", target="8888")])
    assert opened.session.row.port == 8888


@pytest.mark.parametrize("count", [0, 1_001])
async def test_a_request_has_a_number_of_items(site: Site, count: int) -> None:
    """As every bulk of UCloud."""
    with pytest.raises(InvalidRequest, match="expected 1 to 1000 items"):
        await site.sessions.open([Wanted(SHELL, "1")] * count)


async def test_a_job_that_waits_has_no_sessions(tmp_path: Path) -> None:
    """Nothing runs yet that could be reached."""
    clock = FakeClock(START_MS)
    machine = machine_at(clock)
    machine.cpu = 0
    async with site_in(tmp_path, machine=machine, clock=clock) as site:
        machine.cpu = 1
        await site.run(reachable_job("1"))
        await site.core.jobs.create([reachable_job("2")])
        await until(site.core, "2", lambda row: bool(row.replica_facts))
        with pytest.raises(WrongState, match="job 2 does not run yet"):
            await site.open(SHELL, "2")


@pytest.mark.parametrize("kind", [SHELL, WEB, VNC])
async def test_what_the_backend_cannot_do_is_unsupported(tmp_path: Path, kind: SessionKind) -> None:
    """Also for operators; the console is always there."""
    async with core_on(tmp_path, InstantBackend(), FakeClock(START_MS), web_pages=True) as core:
        await core.jobs.create([reachable_job("1")])
        await until(core, "1", lambda row: row.state is State.RUNNING)
        with pytest.raises(Unsupported, match="this provider does not open"):
            await core.sessions.service.open([Wanted(kind, "1")])
        assert await core.sessions.service.open([Wanted(CONSOLE)])


async def test_what_a_product_does_not_offer_is_unsupported(tmp_path: Path) -> None:
    """`without` of a machine type counts for sessions too."""
    products = (replace(PRODUCTS[0], without=frozenset({"terminal"})), PRODUCTS[1])
    async with site_in(tmp_path, products=products) as site:
        await site.run(reachable_job("1"))
        assert [s.docker.terminal for s in site.core.jobs.products()] == [False, True]
        with pytest.raises(Unsupported):
            await site.open(SHELL, "1")
        assert await site.open(WEB, "1")


# How many


async def test_a_job_has_a_number_of_sessions(tmp_path: Path) -> None:
    """At the limit shells are refused, also by the bulk and when all ask at once; another job has its own number."""
    async with site_in(tmp_path, limits=SessionLimits(most_per_job=3)) as site:
        await site.run(reachable_job("1"), reachable_job("2"))
        with pytest.raises(TooManySessions, match="job 1 has 3 sessions"):
            await site.sessions.open([Wanted(SHELL, "1")] * 4)
        got = await asyncio.gather(*(site.open(SHELL, "1") for _ in range(8)), return_exceptions=True)
        assert sum(isinstance(one, TooManySessions) for one in got) == 5
        assert len(await site.sessions.list("1")) == 3
        await site.open(SHELL, "2")
        await site.sessions.close((await site.sessions.list("1"))[0].id)
        await site.open(SHELL, "1")


async def test_there_is_a_number_of_shells(tmp_path: Path) -> None:
    """Over all jobs, operators' programs included."""
    async with site_in(tmp_path, limits=SessionLimits(most_shells=2)) as site:
        await site.run(reachable_job("1"), reachable_job("2"))
        await site.open(SHELL, "1")
        program = await site.sessions.for_program("2", 0)
        for job_id in ("1", "2"):
            with pytest.raises(TooManySessions, match="2 shells"):
                await site.open(SHELL, job_id)
            with pytest.raises(TooManySessions):
                await site.sessions.for_program(job_id, 0)
        await site.open(WEB, "1")
        site.sessions.end(program, "done")
        await site.open(SHELL, "2")


async def test_whoever_opens_pages_all_day_is_never_refused(tmp_path: Path) -> None:
    """At the limit, the longest unused page of the same user makes room; another user's and a
    shell stay."""
    async with site_in(tmp_path, limits=SessionLimits(most_per_job=4)) as site:
        await site.run(reachable_job("1"))
        shell = await site.open(SHELL, "1", user="alice")
        bobs = await site.open(WEB, "1", user="bob")
        first, second = [await site.open(WEB, "1", user="alice") for _ in range(2)]
        site.clock.move(1_000)
        cookie = await site.cookie(first)  # used later than the second one
        third = await site.open(WEB, "1", user="alice")
        left = {session.id for session in await site.sessions.list()}
        assert left == {one.session.id for one in (shell, bobs, first, third)}
        assert second.session.over.is_set()
        assert (await site.sessions.authorize(Asked(cookie, WEB, "1", 0))).endpoint is not None
        with pytest.raises(TooManySessions):
            await site.open(VNC, "1", user="alice")
        assert len(await site.core.store.sessions.all()) == 4


async def test_who_is_connected_makes_no_room(tmp_path: Path) -> None:
    """However long ago they came; when they leave, they do."""
    async with site_in(tmp_path, limits=SessionLimits(most_per_job=1)) as site:
        await site.run(reachable_job("1"))
        desktop = await site.open(VNC, "1")
        async with aclosing(site.sessions.hold(Asked(desktop.secret, VNC))) as held:
            await anext(held)
            with pytest.raises(TooManySessions):
                await site.open(VNC, "1")
        await site.open(VNC, "1")
        assert desktop.session.over.is_set()


async def test_expired_ones_do_not_count(tmp_path: Path) -> None:
    """Whether or not the keeper has looked."""
    async with site_in(tmp_path, limits=SessionLimits(most_per_job=1)) as site:
        await site.run(reachable_job("1"))
        await site.open(SHELL, "1")
        site.clock.move(300_000)
        await site.open(SHELL, "1")


# While the job moves


class Moving:
    """A store whose job changes between the look at it and the writing of its session, `times` times."""

    def __init__(self, site: Site, times: int, change: dict[str, object]) -> None:
        self._site, self._left, self._change = site, times, change
        self._store = site.core.store
        self.licenses, self.sessions = self._store.licenses, self._store.sessions

    async def job(self, job_id: str) -> object:
        row = await self._store.job(job_id)
        assert row is not None
        if self._left:
            self._left -= 1
            await self._store.change_job(JobChange(job_id, row.version, **self._change))  # pyright: ignore[reportArgumentType]  # fields of it
        return row


async def test_a_job_that_changes_meanwhile_is_looked_at_again(site: Site) -> None:
    """A charge is no reason to refuse anybody."""
    site.sessions._store = Moving(site, 3, {"warned_ms": 5})  # pyright: ignore[reportAttributeAccessIssue]  # only what is asked here
    assert await site.open(WEB, "1")


async def test_a_job_that_ends_meanwhile_gets_no_session(site: Site) -> None:
    """Concluded from a row that is not so any more: nothing is opened, or it would outlive its job."""
    site.sessions._store = Moving(site, 1, {"state": State.FAILURE, "ended_at_ms": 9})  # pyright: ignore[reportAttributeAccessIssue]  # as above
    with pytest.raises(WrongState, match="job 1 is over"):
        await site.open(WEB, "1")
    assert await site.core.store.sessions.all() == []


async def test_a_program_in_a_job_that_ends_meanwhile_is_not_started(site: Site) -> None:
    """The same for operators' programs, which are not stored."""
    site.sessions._store = Moving(site, 1, {"state": State.FAILURE, "ended_at_ms": 9, "forgotten_at_ms": 9})  # pyright: ignore[reportAttributeAccessIssue]  # as above
    with pytest.raises(WrongState, match="job 1 is over"):
        await site.sessions.for_program("1", 0)
    assert await site.sessions.list() == []


async def test_a_rank_of_which_nothing_can_be_told_is_not_opened(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The backend is away: tried again later, and what is open stays open."""
    held = await site.open(VNC, "1")

    async def away(job_id: str) -> JobObservation | None:
        raise BackendUnavailable(f"{job_id}: not now")

    monkeypatch.setattr(site.backend, "inspect", away)
    with pytest.raises(BackendDown):
        await site.open(VNC, "1")
    await site.look()
    assert not held.session.over.is_set()


# Shells, for whoever runs them


async def test_a_shell_that_has_begun_lasts_until_it_is_ended(site: Site) -> None:
    """It has no time of its own; when its program is over, it is over at once, and the store is told."""
    opened = await site.open(SHELL, "1")
    session = site.sessions.shell_of(opened.secret)
    await site.sessions.begin(session)
    assert session.expires_at_ms == 0
    site.clock.move(100 * 3_600_000)
    await site.look()
    await site.sessions.begin(site.sessions.shell_of(opened.secret))  # whoever comes back
    site.sessions.end(session, "the shell's program has ended")
    site.sessions.end(session, "again")
    assert (session.over.is_set(), session.why_over) == (True, "the shell's program has ended")
    with pytest.raises(SessionUnknown):
        site.sessions.shell_of(opened.secret)
    await site.look()
    assert await site.core.store.sessions.all() == []


async def test_a_shell_that_is_over_does_not_begin(site: Site) -> None:
    """Closed between the look at its secret and its beginning."""
    opened = await site.open(SHELL, "1")
    session = site.sessions.shell_of(opened.secret)
    await site.sessions.close(session.id)
    with pytest.raises(SessionUnknown):
        await site.sessions.begin(session)


async def test_an_operators_program_is_listed_and_closed_like_a_session(site: Site) -> None:
    """It is in no store, because nobody can come back to it."""
    session = await site.sessions.for_program("1", 1)
    await site.sessions.begin(session)
    assert [s.id for s in await site.sessions.list("1")] == [session.id]
    assert await site.core.store.sessions.all() == []
    await site.sessions.close(session.id)
    assert session.over.is_set()
    with pytest.raises(InvalidRequest):
        await site.sessions.for_program("1", 7)
    with pytest.raises(SessionUnknown):
        site.sessions.shell_of("")


async def test_lists_are_newest_first_and_of_a_job(site: Site) -> None:
    """Of one job, or of all with the operators' own; a job that is not known is said to be so."""
    for kind, job_id in ((SHELL, "1"), (CONSOLE, ""), (SHELL, "2")):
        await site.open(kind, job_id)
        site.clock.move(1)
    assert [s.job_id for s in await site.sessions.list()] == ["2", "", "1"]
    assert [s.job_id for s in await site.sessions.list("1")] == ["1"]
    for wrong in ("9", "no/id"):
        with pytest.raises(JobUnknown):
            await site.sessions.list(wrong)
    await site.sessions.close("unknown")


# Applications


async def test_ports_come_from_the_application(tmp_path: Path) -> None:
    """Web 80 and VNC 5900 unless it says others; a batch job without either has none."""
    web, vnc, both, none = (reachable_job(str(n), web_port=None, vnc_port=None) for n in range(4))
    web.status.resolved_application.invocation.application_type = ApplicationType.APPLICATION_TYPE_WEB
    vnc.status.resolved_application.invocation.application_type = ApplicationType.APPLICATION_TYPE_VNC
    both.status.resolved_application.invocation.web.SetInParent()
    both.status.resolved_application.invocation.vnc.port = 80
    async with site_in(tmp_path) as site:
        await site.run(web, vnc, both, none)
        assert [site.backend.machine.jobs[str(n)].spec.ports for n in range(4)] == [(80,), (5900,), (80,), ()]
        cookie = await site.cookie(await site.open(WEB, "0"))
        assert (await site.sessions.authorize(Asked(cookie, WEB, "0", 0))).endpoint == Endpoint("127.1.0.1", 80)
        assert (await site.open(VNC, "1")).password is None


@pytest.mark.parametrize("port", [0, -1, 65_536, 2**31 - 1])
@pytest.mark.parametrize("which", ["web", "vnc"])
async def test_a_port_that_is_none_is_refused_with_its_path(site: Site, which: str, port: int) -> None:
    """Before anything is stored."""
    wrong = reachable_job("4", **{f"{which}_port": port})
    with pytest.raises(InvalidRequest, match=f"expected a port of 1 to 65535, found {port}") as caught:
        await site.core.jobs.create([wrong])
    assert caught.value.field == f"items[0].status.resolvedApplication.invocation.{which}.port"
    assert await site.core.store.job("4") is None


async def test_pages_that_are_not_served_open_no_port(tmp_path: Path) -> None:
    """Without a way in from outside, web applications are refused, and a batch job's page is not mapped."""
    backend = site_backend()
    async with core_on(tmp_path, backend, FakeClock(START_MS)) as core:
        web = reachable_job("1")
        web.status.resolved_application.invocation.application_type = ApplicationType.APPLICATION_TYPE_WEB
        with pytest.raises(Unsupported, match="web applications"):
            await core.jobs.create([web])
        await core.jobs.create([reachable_job("2")])
        await until(core, "2", lambda row: row.state is State.RUNNING)
        assert backend.machine.jobs["2"].spec.ports == (5901,)
        assert [s.docker.web for s in core.jobs.products()] == [False, False]


def site_backend() -> ReachableBackend:
    return ReachableBackend(machine_at(FakeClock(START_MS)))


async def test_what_the_backend_can_is_declared(site: Site) -> None:
    """Core offers its users what is declared, and nothing else."""
    assert site.backend.features == Features(logs=True, suspension=True, terminal=True, web=True, vnc=True)
    docker = site.core.jobs.products()[0].docker
    assert (docker.web, docker.vnc, docker.terminal) == (True, True, True)
