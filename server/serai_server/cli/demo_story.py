"""What the demo tells: one story per job, from Core's request to the bill, as data. The view shows it, the check judges it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from serai_devcore import Arrival, Charge, Exchange, Job

FileSize = tuple[str, int]
"""Path below the output folder, and bytes."""


@dataclass(frozen=True, slots=True)
class OutputLine:
    at_ms: int
    """When the demo read it."""
    rank: int
    stream: str
    """"stdout" or "stderr"."""
    text: str


@dataclass(slots=True)
class Story:
    """One job's life as Core saw it. Times are ms since epoch."""

    title: str
    began_at_ms: int
    exchange: Exchange | None = None
    """Core's create and its answer."""
    job: Job | None = None
    updates: list[Arrival] = field(default_factory=list[Arrival])
    lines: list[OutputLine] = field(default_factory=list[OutputLine])
    files: list[FileSize] = field(default_factory=list[FileSize])
    charges: list[Charge] = field(default_factory=list[Charge])
    credits_left: int = 0
    """What the payer has after the bill."""
    problems: list[str] = field(default_factory=list[str])

    @property
    def cost(self) -> int:
        return sum(charge.charged for charge in self.charges)

    def text_of(self, rank: int) -> str:
        """What a rank wrote on stdout."""
        return "\n".join(line.text for line in self.lines if line.rank == rank and line.stream == "stdout")

    def expect(self, holds: bool, words: str) -> None:
        """Note a problem, in words, when something is not as expected."""
        if not holds:
            self.problems.append(words)

    def to_json(self) -> dict[str, object]:
        return {
            "title": self.title,
            "job": self.job.id if self.job else None,
            "request": self.exchange.to_json() if self.exchange else None,
            "updates": [
                {
                    "at_ms": u.at_ms,
                    "after_ms": u.at_ms - self.began_at_ms,
                    "state": u.state or None,
                    "status": u.status,
                    "applied": u.applied,
                }
                for u in self.updates
            ],
            "output": [{"rank": x.rank, "stream": x.stream, "text": x.text} for x in self.lines],
            "output_folder": self.job.output_folder if self.job else None,
            "files": [{"path": path, "bytes": size} for path, size in self.files],
            "charges": [
                {
                    "charge_id": c.charge_id,
                    "periods": c.periods,
                    "number_of_products": c.number_of_products,
                    "credits": c.charged,
                }
                for c in self.charges
            ],
            "credits": self.cost,
            "credits_left": self.credits_left,
            "problems": self.problems,
        }


def judge(story: Story, replicas: int) -> None:
    """What must be so for any job that ends well."""
    job, exchange = story.job, story.exchange
    story.expect(
        exchange is not None and exchange.status == 200 and exchange.answer == {"responses": [None]},
        'the provider answers {"responses":[null]}',
    )
    if job is None:
        story.problems.append("Core keeps the job")
        return
    story.expect(job.states[-2:] == ["RUNNING", "SUCCESS"], f"Core sees RUNNING, then SUCCESS; it saw {', '.join(job.states) or 'nothing'}")
    story.expect(job.states.count("RUNNING") == 1, "RUNNING is told once")
    story.expect(
        all(not charge.duplicate and not charge.short for charge in story.charges), "nothing is charged twice, and all of it is paid"
    )
    story.expect(
        sum(charge.periods * charge.number_of_products for charge in story.charges) == replicas,
        f"a begun minute of {replicas} replica(s) is billed, no more and no less",
    )
    story.expect(job.output_folder is not None, "Core knows the output folder")


def judge_batch(story: Story) -> None:
    """The seed's job: acme-batch with its text."""
    judge(story, 1)
    story.expect("Hello, World!" in story.text_of(0), "acme-batch prints its text")
    story.expect(any(path == "report.txt" for path, _ in story.files), "acme-batch leaves report.txt")


def judge_replicas(story: Story, replicas: int) -> None:
    """Every replica prints its own rank and the same job."""
    judge(story, replicas)
    for rank in range(replicas):
        told = dict(line.split(None, 1) for line in story.text_of(rank).splitlines() if len(line.split(None, 1)) == 2)
        story.expect(told.get("rank.txt") == str(rank), f"replica {rank} is told its rank")
        story.expect(told.get("number_of_nodes.txt") == str(replicas), f"replica {rank} is told how many there are")
        story.expect(told.get("job_id.txt") == (story.job.id if story.job else None), f"replica {rank} is told its job")
        story.expect(all(f"node-{n}.txt" in told for n in range(replicas)), f"replica {rank} is told every address")


def files_below(folder: Path) -> list[FileSize]:
    """Every file, in order; links are not followed."""
    return sorted((path.relative_to(folder).as_posix(), path.lstat().st_size) for path in _walk(folder))


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)
        else:
            yield path


class LineCutter:
    """Makes whole lines of the pieces of each rank's streams."""

    def __init__(self, tell: Callable[[int, str, str], None]) -> None:
        self._tell = tell
        self._begun: dict[tuple[int, str], bytes] = {}

    def feed(self, rank: int, stream: str, data: bytes) -> None:
        *whole, rest = (self._begun.pop((rank, stream), b"") + data).split(b"\n")
        self._begun[rank, stream] = rest
        for line in whole:
            self._tell(rank, stream, line.decode("utf-8", "replace"))

    def end(self) -> None:
        """Lines without an end are lines too."""
        for (rank, stream), rest in self._begun.items():
            if rest:
                self._tell(rank, stream, rest.decode("utf-8", "replace"))
        self._begun.clear()
