"""How the demo looks: what happens, line by line as it happens; on a terminal in colour, in a pipe as plain text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Protocol, cast

from rich.console import Console, RenderableType
from rich.highlighter import JSONHighlighter
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text
from rich.tree import Tree
from serai_devcore import Arrival, Exchange

from serai_server.cli.demo_story import OutputLine, Story
from serai_server.cli.output import clean

_PLAIN_WIDTH = 140
_STATES = {"IN_QUEUE": "yellow", "RUNNING": "cyan", "SUCCESS": "green", "FAILURE": "red", "EXPIRED": "red", "CANCELING": "magenta"}
_RANKS = ("blue", "magenta", "cyan", "yellow")
_FOLDED = ("resolvedApplication", "resolvedSupport", "resolvedProduct")
"""Subtrees that are long and the same in each request."""
_CREDITS_PER_KRONE = 1_000_000


class View(Protocol):
    """Hears of everything as it happens."""

    def started(self, facts: Mapping[str, str]) -> None: ...
    def story(self, story: Story) -> None: ...
    def request(self, story: Story, exchange: Exchange) -> None: ...
    def update(self, story: Story, arrival: Arrival) -> None: ...
    def line(self, story: Story, line: OutputLine) -> None: ...
    def ended(self, story: Story) -> None: ...
    def finished(self, stories: list[Story], seconds: float, kept: str) -> None: ...


class SilentView:
    """For --json: the document comes at the end."""

    def started(self, facts: Mapping[str, str]) -> None: ...
    def story(self, story: Story) -> None: ...
    def request(self, story: Story, exchange: Exchange) -> None: ...
    def update(self, story: Story, arrival: Arrival) -> None: ...
    def line(self, story: Story, line: OutputLine) -> None: ...
    def ended(self, story: Story) -> None: ...
    def finished(self, stories: list[Story], seconds: float, kept: str) -> None: ...


class RichView:
    """For people."""

    def __init__(self, console: Console | None = None) -> None:
        self._out = console or _console()
        self._number = 0

    def started(self, facts: Mapping[str, str]) -> None:
        self._emit(Text("Serai", style="bold") + Text(": a job from UCloud's request to its bill, all on this machine"))
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 2), pad_edge=False)
        for name, value in facts.items():
            table.add_row(Text(f"  {name}", style="dim"), clean(value))
        self._emit(table)

    def story(self, story: Story) -> None:
        self._number += 1
        self._emit(Text())
        self._emit(Rule(Text(f"{self._number}. {story.title}", style="bold"), align="left", style="dim"))

    def request(self, story: Story, exchange: Exchange) -> None:
        self._head("Core asks")
        words = [Text(f"{exchange.method} {exchange.path}", style="bold")]
        words += [Text(f"{name}: {clean(value)}", style="dim") for name, value in exchange.headers.items()]
        self._inside(*words)
        self._inside(self._json(shortened(exchange.body)))
        self._head("Serai answers")
        good = exchange.status == 200
        answer = json.dumps(exchange.answer, separators=(",", ":")) if exchange.answer is not None else exchange.note
        self._inside(Text(f"{exchange.status}  ", style="green" if good else "red") + Text(clean(answer)))
        self._head("What Core is told, and what the replicas write")

    def update(self, story: Story, arrival: Arrival) -> None:
        line = self._clock(story, arrival.at_ms)
        line.append("Core     ", style="bold")
        if arrival.state:
            line.append(arrival.state, style=f"bold {_STATES.get(arrival.state, '')}".strip())
            line.append("  ")
        folder = arrival.update.get("outputFolder")
        if isinstance(folder, str) and not arrival.state:
            line.append(f"output folder {clean(folder)}  ")
        line.append(clean(arrival.status))
        self._inside(line)

    def line(self, story: Story, line: OutputLine) -> None:
        shown = self._clock(story, line.at_ms)
        shown.append(f"rank {line.rank:<4}", style=_RANKS[line.rank % len(_RANKS)])
        shown.append(clean(line.text), style="dim" if line.stream == "stderr" else "")
        self._inside(shown)

    def ended(self, story: Story) -> None:
        folder = story.job.output_folder if story.job else None
        if folder is not None:
            self._head("The files it leaves")
            tree = Tree(Text(clean(folder), style="bold"), guide_style="dim")
            for path, size in story.files:
                tree.add(Text(clean(path)) + Text(f"  {size} B", style="dim"))
            self._inside(tree)
        self._head("The bill")
        self._inside(self._bill(story))
        for problem in story.problems:
            self._inside(Text(f"not as expected: {problem}", style="red"))

    def finished(self, stories: list[Story], seconds: float, kept: str) -> None:
        self._emit(Text())
        problems = sum(len(story.problems) for story in stories)
        verdict = Text("All as expected", style="bold green") if not problems else Text(f"{problems} not as expected", style="bold red")
        self._emit(verdict + Text(f", in {seconds:.1f} s.", style="not bold"))
        if kept:
            self._emit(Text(f"Everything is kept in {clean(kept)}", overflow="fold"))

    def _bill(self, story: Story) -> Table:
        table = Table(box=None, header_style="dim", padding=(0, 3, 0, 0), pad_edge=False)
        for heading, justify in (("charge", "left"), ("minutes", "right"), ("replicas", "right"), ("credits", "right"), ("kr.", "right")):
            table.add_column(heading, justify="right" if justify == "right" else "left")
        for charge in story.charges:
            kroner = charge.charged / _CREDITS_PER_KRONE
            table.add_row(
                clean(charge.charge_id), str(charge.periods), str(charge.number_of_products), f"{charge.charged:,}", f"{kroner:.2f}"
            )
        table.add_row(Text("left", style="dim"), "", "", f"{story.credits_left:,}", f"{story.credits_left / _CREDITS_PER_KRONE:.2f}")
        return table

    def _head(self, words: str) -> None:
        self._emit(Text())
        self._emit(Text(f"  {words}", style="bold"))

    def _emit(self, part: RenderableType) -> None:
        """Print and flush; in a pipe without the blanks that fill a line up on a terminal."""
        if self._out.is_terminal:
            self._out.print(part)
            return
        with self._out.capture() as captured:
            self._out.print(part)
        self._out.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))
        self._out.file.flush()

    def _inside(self, *parts: RenderableType) -> None:
        for part in parts:
            self._emit(Padding(part, (0, 0, 0, 4)))

    def _clock(self, story: Story, at_ms: int) -> Text:
        return Text(f"{(at_ms - story.began_at_ms) / 1000:6.2f} s  ", style="dim")

    def _json(self, text: str) -> RenderableType:
        if not self._out.is_terminal:
            return Text(text)
        return JSONHighlighter()(Text(text))


def shortened(body: object, width: int = 96) -> str:
    """JSON for people: what fits stands on one line, and long subtrees that say nothing new are folded."""
    return _pretty(_fold(body), 0, width)


def _fold(value: object) -> object:
    if isinstance(value, dict):
        known = cast("dict[str, object]", value)
        return {key: _folded(inner) if key in _FOLDED else _fold(inner) for key, inner in known.items()}
    if isinstance(value, list):
        return [_fold(inner) for inner in cast("list[object]", value)]
    return value


def _folded(value: object) -> object:
    return _Folded(len(json.dumps(value))) if isinstance(value, dict) else value


class _Folded:
    """Stands for a subtree of so many bytes."""

    def __init__(self, size: int) -> None:
        self.words = f"{{ … {size:,} bytes … }}"


def _pretty(value: object, indent: int, width: int) -> str:
    flat = _flat(value)
    if len(flat) + indent <= width or not isinstance(value, dict | list) or not value:
        return flat
    pad = " " * (indent + 2)
    if isinstance(value, dict):
        known = cast("dict[str, object]", value)
        rows = [f"{pad}{json.dumps(key)}: {_pretty(inner, indent + 2, width)}" for key, inner in known.items()]
        return "{\n" + ",\n".join(rows) + "\n" + " " * indent + "}"
    rows = [pad + _pretty(inner, indent + 2, width) for inner in cast("list[object]", value)]
    return "[\n" + ",\n".join(rows) + "\n" + " " * indent + "]"


def _flat(value: object) -> str:
    if isinstance(value, _Folded):
        return value.words
    if isinstance(value, dict):
        known = cast("dict[str, object]", value)
        return "{" + ", ".join(f"{json.dumps(key)}: {_flat(inner)}" for key, inner in known.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flat(inner) for inner in cast("list[object]", value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _console() -> Console:
    out = Console(highlight=False, markup=False, emoji=False)
    return out if out.is_terminal else Console(highlight=False, markup=False, emoji=False, width=_PLAIN_WIDTH)
