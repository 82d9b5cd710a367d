"""`python -m bench [name…]`: runs every module of the table, or the named ones; prints the ratios, keeps them in `bench/results/`.

Ends with 1 when a limit is broken, so that a script can tell.
"""

from __future__ import annotations

import importlib
import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import cast

from rich.console import Console
from rich.table import Table

from bench.ratio import Ratio

# Not measurements themselves: the frame, and helpers that measurements start.
_FRAME = {"__init__", "__main__", "ratio"}
RESULTS = Path(__file__).parent / "results"


def names() -> list[str]:
    """Modules of this folder that have `run`."""
    found = sorted(file.stem for file in Path(__file__).parent.glob("*.py") if file.stem not in _FRAME)
    return [name for name in found if hasattr(importlib.import_module(f"bench.{name}"), "run")]


def main(wanted: list[str]) -> int:
    """The exit code: 0, 1 for a broken limit, 2 for an unknown name."""
    console = Console()
    known = names()
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        console.print(f"No such measurement: {', '.join(unknown)}. There are: {', '.join(known)}.")
        return 2
    ratios: list[Ratio] = []
    for name in wanted or known:
        console.print(f"[dim]measuring {name} …[/dim]")
        run = cast("Callable[[], list[Ratio]]", importlib.import_module(f"bench.{name}").run)
        ratios += run()
    console.print(_table(ratios))
    console.print(f"[dim]kept in {_keep(ratios)}[/dim]")
    return 0 if all(ratio.holds for ratio in ratios) else 1


def _table(ratios: list[Ratio]) -> Table:
    table = Table(title="Side by side, in one run")
    for column in ("what", "measured", "limit", ""):
        table.add_column(column, justify="left" if column == "what" else "right")
    table.add_column("detail", style="dim")
    for ratio in ratios:
        limit = "" if ratio.direction == "printed" else f"{ratio.direction} {ratio.limit:g}"
        verdict = "" if ratio.direction == "printed" else "[green]holds[/green]" if ratio.holds else "[red]broken[/red]"
        unit = "" if ratio.unit == "x" else f" {ratio.unit}"
        table.add_row(ratio.name, f"{ratio.value:.3g}{unit}", limit, verdict, ratio.detail)
    return table


def _keep(ratios: list[Ratio]) -> Path:
    RESULTS.mkdir(exist_ok=True)
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    file = RESULTS / f"{now}.json"
    machine = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.system()}
    rows = [{**asdict(ratio), "holds": ratio.holds} for ratio in ratios]
    file.write_text(json.dumps({"time": now, **machine, "ratios": rows}, indent=2) + "\n")
    return file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
