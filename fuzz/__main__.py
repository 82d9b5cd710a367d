"""`python -m fuzz [target…]`: sends a million wrong things, prints what became of them, ends with 1 when something was found.

python -m fuzz                          the long form, as `make fuzz`
python -m fuzz --short                  the same targets in about two minutes, as `make fuzz FUZZ=short`
python -m fuzz codec --inputs 50000 --seed 7
python -m fuzz codec --input fuzz/finds/codec-0123456789ab
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
import traceback
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fuzz.guided import available
from fuzz.tally import Tally
from fuzz.targets import TARGETS

RESULTS = Path(__file__).parent / "results"


def main(arguments: list[str]) -> int:
    """The exit code: 0, 1 for a find, 2 for wrong arguments (by argparse)."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="target", help=", ".join(TARGETS))
    parser.add_argument("--short", action="store_true", help="about two minutes in all")
    parser.add_argument("--inputs", type=int, default=0, metavar="N", help="for each target, instead of its own number")
    parser.add_argument("--seed", type=int, default=0, help="of all chance; 0 (the default) takes one from the clock and says it")
    parser.add_argument("--input", type=Path, metavar="FILE", help="do one input of one target again")
    given = parser.parse_args(arguments)
    names: list[str] = given.targets or list(TARGETS)
    if unknown := sorted(set(names) - set(TARGETS)):
        parser.error(f"there is no target {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    if given.input is not None:
        if len(names) != 1:
            parser.error("--input wants the name of its target")
        Console().print(TARGETS[names[0]].again(given.input.read_bytes()), markup=False)
        return 0
    return _run(names, short=given.short, inputs=given.inputs, seed=given.seed or time.time_ns() % 2**31)


def _run(names: list[str], *, short: bool, inputs: int, seed: int) -> int:
    console = Console(width=None if sys.stdout.isatty() else 170)
    if not available():
        console.print("there is no atheris for this machine: nothing is led by coverage")
    tallies: list[Tally] = []
    for name in names:
        count = inputs or (TARGETS[name].short if short else TARGETS[name].long)
        console.print(f"[dim]{time.strftime('%H:%M:%S')} {name}: {count:,} inputs, seed {seed} …[/dim]")
        tallies.append(_outcome(name, count, seed))
        _tell(console, tallies[-1])
    console.print(_table(tallies))
    console.print(f"[dim]kept in {_keep(tallies, seed)}[/dim]")
    good = sum(tally.holds for tally in tallies)
    # A plain line, which CI reads too.
    console.print(f"{good} passed, {len(tallies) - good} failed", highlight=False)
    return 0 if good == len(tallies) else 1


def _outcome(name: str, count: int, seed: int) -> Tally:
    """A target that breaks itself keeps nobody from the others' outcome."""
    try:
        return TARGETS[name].run(count, seed)
    except Exception as error:
        tally = Tally(name, seed)
        tally.find(f"the target itself broke: {''.join(traceback.format_exception(error))[-3_000:]}", b"")
        return tally.end()


def _tell(console: Console, tally: Tally) -> None:
    for find in tally.finds:
        console.print(f"FOUND by {tally.target}: {find.what}\n  {find.command}", markup=False)
    if tally.grows:
        grown, most = tally.growth_bytes / 2**20, tally.limit_bytes / 2**20
        console.print(f"FOUND by {tally.target}: its process grew by {grown:.1f} MiB after the warm-up; {most:.1f} are noise", markup=False)


def _table(tallies: list[Tally]) -> Table:
    inputs, seconds = sum(tally.inputs for tally in tallies), sum(tally.seconds for tally in tallies)
    table = Table(title=f"{inputs:,} inputs in {seconds:,.0f} s")
    for column in ("target", "inputs", "answers", "seconds", "growth, MiB", "most, MiB", "finds"):
        table.add_column(column, justify="left" if column in {"target", "answers"} else "right")
    for tally in tallies:
        table.add_row(
            tally.target,
            f"{tally.inputs:,}",
            ", ".join(f"{name} {count:,}" for name, count in sorted(tally.answers.items())),
            f"{tally.seconds:.0f}",
            f"{tally.growth_bytes / 2**20:+.1f}",
            f"{tally.limit_bytes / 2**20:.1f}",
            "[green]none[/green]" if tally.holds else f"[red]{len(tally.finds) or 'grows'}[/red]",
        )
    return table


def _keep(tallies: list[Tally], seed: int) -> Path:
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.json"
    rows = [
        {
            "target": tally.target,
            "inputs": tally.inputs,
            "answers": dict(tally.answers),
            "seconds": round(tally.seconds, 1),
            "growth_bytes": tally.growth_bytes,
            "limit_bytes": tally.limit_bytes,
            "finds": [find.what for find in tally.finds],
        }
        for tally in tallies
    ]
    machine = {"python": platform.python_version(), "machine": platform.machine(), "atheris": available()}
    file.write_text(json.dumps({**machine, "seed": seed, "targets": rows}, indent=2) + "\n")
    return file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
