"""Many at once on a Nomad agent, fake and real: ranks that start together, and a server that is killed again and again while jobs come and
go. What is measured is printed, not judged: `pytest -rP` shows it."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import pytest
from fakes.nomad_agents import AGENTS
from fakes.nomad_site import Site, site_on
from fakes.stack import TINY_PRODUCT
from serai_devcore.applications import shell_request

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="raw_exec tasks make a mount namespace of their own: needs root")
RANKS, JOBS, KILLS = 16, 10, 8


@pytest.fixture(params=AGENTS)
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Site]:
    async with (
        AGENTS[str(request.param)](tmp_path / "agent", mhz=RANKS * 1_000) as agent,
        site_on(agent, tmp_path / "serai") as made,
    ):
        yield made


async def test_sixteen_ranks_start_together(site: Site) -> None:
    """Each writes when it began: none before the last one was placed and all addresses were written. The spread is printed."""
    job_id = await site.running(
        replace(shell_request("date +%s.%N; while [ ! -e go ]; do sleep 0.1; done", replicas=RANKS), product=TINY_PRODUCT)
    )
    names = ["stdout.txt", *(f"stdout-{rank}.txt" for rank in range(1, RANKS))]
    await site.serai.core.until(lambda: all(site.text(job_id, name).endswith("\n") for name in names))
    began = [float(site.text(job_id, name)) for name in names]
    rows = cast("list[dict[str, int]]", await site.agent.rows(f"/v1/job/ucloud-{job_id}/allocations"))
    (gate,) = cast("list[dict[str, int]]", await site.agent.rows("/v1/vars?prefix=nomad/jobs/ucloud-"))
    placed, opened = max(row["CreateTime"] for row in rows) / 1e9, gate["CreateTime"] / 1e9
    (site.serai.work(job_id) / "go").touch()
    assert await site.ended(job_id) == ("SUCCESS", "The job has finished processing!")
    assert len(rows) == RANKS
    assert placed < opened < min(began)
    print(
        f"{RANKS} ranks: spread {max(began) - min(began):.3f} s; from the opened gate to the first {min(began) - opened:.3f} s, "
        f"to the last {max(began) - opened:.3f} s; placed {opened - placed:.3f} s before"
    )


@dataclass(frozen=True, slots=True)
class Wish:
    job_id: str
    ranks: int
    code: int
    stopped: bool

    def right(self, state: str, words: str) -> bool:
        if self.stopped and words == "The job was stopped.":
            return state == "SUCCESS"
        return (state, words) == ("SUCCESS", self._own_end())

    def _own_end(self) -> str:
        if not self.code:
            return "The job has finished processing!"
        if self.ranks == 1:
            return f"The program ended with exit code {self.code}."
        each = "; ".join(f"rank {rank} ended with exit code {self.code}" for rank in range(self.ranks))
        return f"{each[0].upper()}{each[1:]}."


@pytest.mark.timeout(300)
async def test_a_server_that_is_killed_again_and_again_runs_each_job_once(site: Site) -> None:
    """kill -9 at random moments while 10 jobs come, run, are stopped and end: each rank ran exactly once (at most once when it was
    stopped), Core was told one end of each job, the right one, and nothing is left at Nomad. SERAI_CHAOS_SEED repeats a run."""
    seed = int(os.environ.get("SERAI_CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
    print(f"SERAI_CHAOS_SEED={seed}")
    dice = random.Random(seed)
    wishes: list[Wish] = []
    async with asyncio.TaskGroup() as group:
        users = group.create_task(_users(site, random.Random(seed + 1), wishes))
        for _ in range(KILLS):
            await asyncio.sleep(dice.random() * 1.5)
            await site.serai.kill()
            await site.serai.start(wait=dice.random() < 0.7)
        await site.serai.until_ready()
        await users
    for wish in wishes:
        told = await site.ended(wish.job_id)
        assert wish.right(*told), f"{wish}: {told} (seed {seed})"
        finals = [a.state for a in site.serai.core.jobs[wish.job_id].arrivals if a.state in {"SUCCESS", "FAILURE", "EXPIRED"}]
        assert len(set(finals)) == 1, f"{wish}: {finals} (seed {seed})"
        file = site.serai.work(wish.job_id) / "runs"
        runs = sorted(file.read_text().split()) if file.exists() else []
        whole = [str(rank) for rank in range(wish.ranks)]
        assert runs == whole or (wish.stopped and set(runs) <= set(whole) and len(runs) == len(set(runs))), f"{wish}: {runs} (seed {seed})"
    await site.agent.until_empty()
    print(f"{KILLS} kills, {len(wishes)} jobs, {sum(wish.stopped for wish in wishes)} of them stopped by their users")


async def _users(site: Site, dice: random.Random, wishes: list[Wish]) -> None:
    """What Core refuses because nobody answers is asked for again."""
    core = site.serai.core
    while len(wishes) < JOBS:
        ranks, code, seconds = dice.choice((1, 1, 2)), dice.choice((0, 0, 3)), dice.choice((0, 0.2, 1, 2))
        stopped = dice.random() < 0.2
        script = f"cat /etc/ucloud/rank.txt >> runs; sleep {seconds}; exit {code}"
        sent = await core.submit(replace(shell_request(script, replicas=ranks), product=TINY_PRODUCT))
        if sent.accepted:
            wishes.append(Wish(sent.job_id, ranks, code, stopped))
            if stopped:
                await asyncio.sleep(dice.random())
                await core.terminate(sent.job_id)
        await asyncio.sleep(dice.random() * 0.8)


async def test_doctor_finds_the_cluster_usable(site: Site) -> None:
    """`serai doctor` tries what jobs need, and finds no error."""
    code, out, err = await site.serai.cli("doctor", "--json")
    report = json.loads(out)
    assert (code, report["usable"]) == (0, True), (report, err)
    assert not [finding for finding in report["findings"] if finding["severity"] == "error"]
    print("\n".join(f"{finding['severity']}: {finding['subject']}: {finding['text']}" for finding in report["findings"]))


async def test_nomad_takes_the_job_file_that_is_shown(site: Site) -> None:
    """`serai nomad render JOB`, as HCL and as JSON, is what `nomad job validate` has nothing against."""
    program = shutil.which("nomad")
    if program is None:
        pytest.skip("nomad is not on PATH: whether it takes the job file was not tried")
    job_id = await site.running(replace(shell_request("sleep 600 # ${HOME} {{ x }}", replicas=2), product=TINY_PRODUCT))
    for more in ((), ("--json",)):
        code, shown, err = await site.serai.cli("nomad", "render", job_id, *more)
        assert code == 0, err
        validate = await asyncio.create_subprocess_exec(
            program,
            *("job", "validate", f"-address={site.agent.address}", *(("-json",) if more else ()), "-"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={"PATH": os.environ["PATH"]},
        )
        said, _ = await validate.communicate(shown)
        assert validate.returncode == 0, said.decode()
