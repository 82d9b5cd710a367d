"""Jobs of several replicas: every one runs the same program, and learns from /etc/ucloud who it is and where the others are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from serai_conformance.judge import rule
from serai_conformance.model import Broken, NotObserved
from serai_conformance.visit import READY, Visit

_SEED = "seed Jobs, Multi-replica Jobs"
COUNT = 2
ONE = "jobs have one replica in this test (--replicas)"
FILES = ("rank", "number_of_nodes", "cores", "job_id", "node-0", "node-1")
_SCRIPT = (
    "for f in " + " ".join(FILES) + "; do "
    'p=/etc/ucloud/$f.txt; if [ -e $p ]; then echo "file $f $(wc -l < $p) $(head -n 1 $p)"; else echo "none $f"; fi; done; '
    f"echo {READY}; exec sleep 3600"
)


@dataclass(frozen=True, slots=True)
class Pair:
    """What a job of two replicas saw."""

    job_id: str
    files: tuple[Mapping[str, tuple[int, str]], ...]
    """Of each rank: file → (line ends in it, its first line). A file that is not there is not in it."""


async def pair(visit: Visit) -> Pair:
    """Made once. NotObserved when it does not come so far."""
    if visit.target.replicas < COUNT:
        raise NotObserved(ONE)
    if not visit.support.has("logs"):
        raise NotObserved("nobody can see what replicas write: logs are not declared")
    return await visit.shared("pair", lambda: _make(visit))


async def _make(visit: Visit) -> Pair:
    try:
        async with visit.having(visit.program(_SCRIPT, replicas=COUNT)) as job:
            await visit.until_running(job)
            async with visit.follow(job) as stream:
                for rank in range(COUNT):
                    await stream.until_text(rank, READY, visit.target.patience_s)
                return Pair(job.id, tuple(_read(stream.text(rank)) for rank in range(COUNT)))
    except Broken as error:
        raise NotObserved(f"what two replicas write was not seen: {error}") from error


def _read(text: str) -> dict[str, tuple[int, str]]:
    found: dict[str, tuple[int, str]] = {}
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "file":
            name, ends, *words = rest.split(" ", 2)
            found[name] = (int(ends), words[0] if words else "")
    return found


@rule("replicas.run", "All replicas of a job run, and each one's output has its rank.", f"{_SEED}; 2021 §3.3", needs=("logs",))
async def run(visit: Visit) -> None:
    if visit.target.replicas < COUNT:
        raise NotObserved(ONE)
    async with visit.having(visit.program(f"echo {READY}; exec sleep 3600", replicas=COUNT)) as job:
        await visit.until_running(job)
        async with visit.follow(job) as stream:
            for rank in range(COUNT):
                await stream.until_text(rank, READY, visit.target.patience_s)


def _text(found: Pair, rank: int, name: str) -> str:
    if name not in found.files[rank]:
        raise Broken(f"rank {rank} has no /etc/ucloud/{name}.txt")
    return found.files[rank][name][1]


@rule("replicas.rank", "/etc/ucloud/rank.txt holds the replica's rank, counted from 0.", _SEED)
async def rank_file(visit: Visit) -> None:
    found = await pair(visit)
    for rank in range(COUNT):
        if _text(found, rank, "rank") != str(rank):
            raise Broken(f"/etc/ucloud/rank.txt of rank {rank} says {_text(found, rank, 'rank')!r}")


@rule("replicas.count", "/etc/ucloud/number_of_nodes.txt holds the number of replicas.", _SEED)
async def count_file(visit: Visit) -> None:
    found = await pair(visit)
    for rank in range(COUNT):
        if _text(found, rank, "number_of_nodes") != str(COUNT):
            raise Broken(f"/etc/ucloud/number_of_nodes.txt of rank {rank} says {_text(found, rank, 'number_of_nodes')!r}, not {COUNT}")


@rule("replicas.cores", "/etc/ucloud/cores.txt holds the number of cores.", _SEED)
async def cores_file(visit: Visit) -> None:
    found = await pair(visit)
    for rank in range(COUNT):
        text = _text(found, rank, "cores")
        if not text.isdecimal() or int(text) < 1:
            raise Broken(f"/etc/ucloud/cores.txt of rank {rank} says {text!r}, where a number of cores was expected")


@rule("replicas.jobId", "/etc/ucloud/job_id.txt holds the job's id.", _SEED)
async def job_id_file(visit: Visit) -> None:
    found = await pair(visit)
    for rank in range(COUNT):
        if _text(found, rank, "job_id") != found.job_id:
            raise Broken(f"/etc/ucloud/job_id.txt of rank {rank} says {_text(found, rank, 'job_id')!r}, not {found.job_id}")


@rule("replicas.nodes", "/etc/ucloud/node-N.txt holds the address of rank N, the same one for all.", _SEED)
async def node_files(visit: Visit) -> None:
    found = await pair(visit)
    for of in range(COUNT):
        said = {_text(found, rank, f"node-{of}") for rank in range(COUNT)}
        if len(said) != 1 or not said.copy().pop():
            raise Broken(f"/etc/ucloud/node-{of}.txt says {' and '.join(sorted(said)) or 'nothing'}: one address was expected")


@rule("replicas.lines", "Each file in /etc/ucloud is a single line.", _SEED)
async def lines(visit: Visit) -> None:
    found = await pair(visit)
    for rank, files in enumerate(found.files):
        for name, (ends, _first) in files.items():
            if ends > 1:
                raise Broken(f"/etc/ucloud/{name}.txt of rank {rank} has {ends} lines")


@rule("replicas.work", "All replicas have the same working folder.", "2021 §10.2", needs=("logs",))
async def work(visit: Visit) -> None:
    if visit.target.replicas < COUNT:
        raise NotObserved(ONE)
    script = (
        'echo here > "kit-$(cat /etc/ucloud/rank.txt).txt"; i=0; '
        "while [ ! -e kit-0.txt ] || [ ! -e kit-1.txt ]; do i=$((i+1)); [ $i -gt 50 ] && echo kit-alone && break; sleep 0.1; done; "
        f"echo {READY}; exec sleep 3600"
    )
    async with visit.having(visit.program(script, replicas=COUNT)) as job:
        await visit.until_running(job)
        async with visit.follow(job) as stream:
            for rank in range(COUNT):
                await stream.until_text(rank, READY, visit.target.patience_s)
                if "kit-alone" in stream.text(rank):
                    raise Broken(f"rank {rank} did not see in its folder what the other rank wrote in its own")


RULES = (run, rank_file, count_file, cores_file, job_id_file, node_files, lines, work)
