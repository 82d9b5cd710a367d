"""What people see: tables and colours on a terminal, plain wide lines in a pipe, JSON for programs.

Names and words come from users of UCloud, so nothing of them reaches a terminal as a control sequence or as markup.
"""

from __future__ import annotations

import datetime as dt
import unicodedata
from collections.abc import Mapping, Sequence

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text
from serai.core.v1.resources_pb2 import Permission, ProductReference, ResourceAclEntry
from serai.jobs.v1.job_pb2 import JobState
from serai.jobs.v1.jobs_service_pb2 import JobLicense, JobReport, ReplicaPhase, ReplicaReport

_PIPE_WIDTH = 200
_GAP = 2
"""Cells between two columns."""
_LEAST_WORDS = 24
"""Cells that a table's last column, the one in words, keeps."""
_LEAST_FOLDED = 10
"""Cells that any other column keeps when it has to fold."""
_PREFIX = "JOB_STATE_"
_COLOURS = {
    "IN_QUEUE": "yellow",
    "RUNNING": "cyan",
    "CANCELING": "magenta",
    "SUCCESS": "green",
    "FAILURE": "red",
    "EXPIRED": "red",
    "SUSPENDED": "blue",
}

Json = Mapping[str, object]


def state_names() -> tuple[str, ...]:
    """Every state as it is spelled here: "IN_QUEUE", …"""
    return tuple(v.name.removeprefix(_PREFIX) for v in JobState.DESCRIPTOR.values if v.number)


def state_name(state: JobState.ValueType) -> str:
    return JobState.Name(state).removeprefix(_PREFIX)


def state_number(name: str) -> JobState.ValueType:
    return JobState.Value(_PREFIX + name)


def phase_words(phase: ReplicaPhase.ValueType) -> str:
    """ "running", "out of memory", …; empty = not told, or one that a later release knows."""
    known = ReplicaPhase.DESCRIPTOR.values_by_number.get(phase)
    return known.name.removeprefix("REPLICA_PHASE_").lower().replace("_", " ") if known is not None and phase else ""


def clean(text: str) -> str:
    """`text` on one line and without anything that a terminal obeys."""
    return "".join(c if unicodedata.category(c)[0] != "C" else "\N{REPLACEMENT CHARACTER}" for c in text)


def console() -> Console:
    """For stdout. In a pipe there is no colour, and lines are wide so that columns are not cut."""
    out = Console(highlight=False, markup=False, emoji=False)
    return out if out.is_terminal else Console(highlight=False, markup=False, emoji=False, width=_PIPE_WIDTH)


def print_json(document: object) -> None:
    """One document and a line end."""
    click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2))


def print_json_line(document: object) -> None:
    click.echo(msgspec.json.encode(document))


def job_json(report: JobReport) -> Json:
    """A job as programs get it: times in ms since epoch, null = not yet or none."""
    return {
        "id": report.id,
        "state": state_name(report.state),
        "status": report.status,
        "stopping": report.stopping,
        "owner": report.owner,
        "project": report.project or None,
        "application": {"name": report.application.name, "version": report.application.version},
        "product": product_json(report.product),
        "name": report.name or None,
        "replicas": report.replicas,
        "created_at_ms": report.created_at_ms,
        "started_at_ms": report.started_at_ms if report.HasField("started_at_ms") else None,
        "ended_at_ms": report.ended_at_ms if report.HasField("ended_at_ms") else None,
        "ran_ms": report.ran_ms,
        "running_since_ms": report.running_since_ms if report.HasField("running_since_ms") else None,
        "time_limit_ms": report.time_limit_ms if report.HasField("time_limit_ms") else None,
        "charged_periods": report.charged_periods,
        "output_folder": report.output_folder or None,
        "undelivered_events": report.undelivered_events,
        "labels": dict(report.labels),
        "acl": [_acl_json(entry) for entry in report.acl],
        "licenses": [_license_json(one) for one in report.licenses],
        "ranks": [_replica_json(r) for r in report.replica_reports],
    }


def product_json(product: ProductReference) -> Json:
    return {"id": product.id, "category": product.category, "provider": product.provider}


def _license_json(one: JobLicense) -> Json:
    held_at_ms = one.held_at_ms if one.HasField("held_at_ms") else None
    return {"id": one.id, "product": product_json(one.product), "seats": one.seats, "held_at_ms": held_at_ms}


def _acl_json(entry: ResourceAclEntry) -> Json:
    group = entry.entity.project_group
    who = {"user": entry.entity.user.username} if entry.entity.HasField("user") else {"project": group.project_id, "group": group.group}
    return {**who, "permissions": _permissions(entry)}


def _permissions(entry: ResourceAclEntry) -> list[str]:
    return [Permission.Name(p).removeprefix("PERMISSION_") for p in entry.permissions]


def _replica_json(replica: ReplicaReport) -> Json:
    return {
        "rank": replica.rank,
        "phase": phase_words(replica.phase),
        "exit_code": replica.exit_code if replica.HasField("exit_code") else None,
        "signal": replica.signal if replica.HasField("signal") else None,
        "node": replica.node or None,
        "cause": replica.cause or None,
        "started_at_ms": replica.started_at_ms if replica.HasField("started_at_ms") else None,
        "ended_at_ms": replica.ended_at_ms if replica.HasField("ended_at_ms") else None,
    }


def room(out: Console) -> int | None:
    """Cells of a terminal's line; None = a pipe, where a table has all its columns whatever is in them."""
    return out.width if out.is_terminal else None


def jobs_table(reports: Sequence[JobReport], room: int | None = None) -> Table:
    """A line for each job; in a narrow `room` without its less telling columns."""
    headings = ("JOB", "STATE", "OWNER", "APPLICATION", "REPLICAS", "CREATED", "RAN", "STATUS")
    rows = [
        (
            Text(clean(report.id)),
            state_text(report),
            Text(clean(report.owner)),
            Text(clean(f"{report.application.name} {report.application.version}")),
            Text(str(report.replicas)),
            Text(when(report.created_at_ms)),
            Text(ran(report)),
            Text(clean(report.status)),
        )
        for report in reports
    ]
    return fitted(headings, rows, ("CREATED", "REPLICAS", "RAN"), room)


def job_card(report: JobReport) -> Table:
    """All of one job but its replicas, a line for each thing."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    lines: list[tuple[str, str | Text]] = [
        ("job", clean(report.id)),
        ("state", state_text(report)),
        ("status", clean(report.status)),
        ("name", clean(report.name)),
        ("owner", clean(report.owner)),
        ("project", clean(report.project)),
        ("application", clean(f"{report.application.name} {report.application.version}")),
        ("product", clean(product_name(report.product))),
        ("licenses", clean("; ".join(_license_words(one) for one in report.licenses))),
        ("replicas", str(report.replicas)),
        ("created", when(report.created_at_ms)),
        ("started", when(report.started_at_ms)),
        ("ended", when(report.ended_at_ms)),
        ("ran", ran(report)),
        ("time limit", span(report.time_limit_ms) if report.time_limit_ms else ""),
        ("billed", f"{report.charged_periods} period{'' if report.charged_periods == 1 else 's'} each" if report.charged_periods else ""),
        ("shared with", clean(", ".join(_with_whom(entry) for entry in report.acl))),
        ("labels", clean(", ".join(f"{key}={value}" for key, value in report.labels.items()))),
        ("output", clean(report.output_folder)),
        ("not yet told to Core", _events(report.undelivered_events)),
    ]
    for heading, value in lines:
        if value:
            table.add_row(heading, value)
    return table


def product_name(product: ProductReference) -> str:
    return f"{product.provider}/{product.category}/{product.id}"


def _license_words(one: JobLicense) -> str:
    seats = f"{one.seats} seat{'' if one.seats == 1 else 's'}"
    return f"{one.id} of {product_name(one.product)}, {f'holds {seats}' if one.held_at_ms else f'waits for {seats}'}"


def replicas_table(replicas: Sequence[ReplicaReport], room: int | None = None) -> Table:
    """A line for each replica; in a narrow `room` without its less telling columns."""
    headings = ("RANK", "PHASE", "ENDED WITH", "NODE", "STARTED", "ENDED", "CAUSE")
    rows = [
        (
            Text(str(replica.rank)),
            Text(phase_words(replica.phase)),
            _end(replica),
            Text(clean(replica.node)),
            Text(when(replica.started_at_ms)),
            Text(when(replica.ended_at_ms)),
            Text(clean(replica.cause)),
        )
        for replica in replicas
    ]
    return fitted(headings, rows, ("NODE", "STARTED", "ENDED"), room)


def fitted(headings: Sequence[str], rows: Sequence[Sequence[Text]], spare: Sequence[str], room: int | None) -> Table:
    """A table whose first column is never cut and whose last one folds.

    When `room` is too narrow, columns of `spare` are left out one after the other; then all but the first fold; then others are left out.
    """
    first, *between, last = headings
    full = {heading: max([len(heading), *(row[i].cell_len for row in rows)]) for i, heading in enumerate(headings)}
    words = {last: min(full[last], _LEAST_WORDS)}
    folded = {heading: min(full[heading], max(len(heading), _LEAST_FOLDED)) for heading in between}
    others = [heading for heading in reversed(between) if heading not in spare]
    gone: list[str] = []
    least = full | words
    widths = _share(full, least, room)
    for heading in (*spare, None, *others):
        if widths is not None:
            break
        if heading is None:
            least = full | folded | words
        else:
            gone.append(heading)
        kept = {heading: width for heading, width in full.items() if heading not in gone}
        widths = _share(kept, least, room)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading, width in (widths or {first: full[first]}).items():
        fixed = width if heading == first or room is not None else None
        right = heading in ("REPLICAS", "RANK")
        table.add_column(
            heading, width=fixed, no_wrap=room is None and heading != last, overflow="fold", justify="right" if right else "left"
        )
    shown = [headings.index(heading) for heading in widths or (first,)]
    for row in rows:
        table.add_row(*(row[i] for i in shown))
    return table


def _share(wanted: Mapping[str, int], least: Mapping[str, int], room: int | None) -> dict[str, int] | None:
    """The width of each column: what it wants, less what the one with most to give must give up. None = no room for all."""
    widths = dict(wanted)
    while room is not None and sum(widths.values()) + _GAP * (len(widths) - 1) > room:
        giver = max(widths, key=lambda heading: widths[heading] - least[heading])
        if widths[giver] <= least[giver]:
            return None
        widths[giver] -= 1
    return widths


def _end(replica: ReplicaReport) -> Text:
    if replica.HasField("signal"):
        return Text(f"signal {replica.signal}", style="red")
    if replica.HasField("exit_code"):
        return Text(f"exit code {replica.exit_code}", style="red" if replica.exit_code else "")
    return Text()


def _with_whom(entry: ResourceAclEntry) -> str:
    group = entry.entity.project_group
    who = entry.entity.user.username if entry.entity.HasField("user") else f"{group.group} of {group.project_id}"
    return f"{who} ({', '.join(_permissions(entry)).lower()})"


def _events(count: int) -> str:
    return "" if not count else "1 event" if count == 1 else f"{count} events"


def state_text(report: JobReport) -> Text:
    name = state_name(report.state)
    return Text(f"{name} (stopping)" if report.stopping and name != "CANCELING" else name, style=_COLOURS.get(name, ""))


def when(at_ms: int) -> str:
    """Local time to the second, with its distance from UTC; 0 = nothing."""
    return dt.datetime.fromtimestamp(at_ms // 1_000).astimezone().isoformat(" ", "seconds") if at_ms else ""


def ran(report: JobReport) -> str:
    """How long it has been RUNNING in all, by the server's clock."""
    goes_on_ms = max(report.created_at_ms + report.age_ms - report.running_since_ms, 0) if report.running_since_ms else 0
    return span(report.ran_ms + goes_on_ms) if report.started_at_ms else ""


def span(length_ms: int) -> str:
    """ "4.2 s", "3 min 05 s", "2 h 10 min"."""
    seconds, ms = divmod(max(length_ms, 0), 1_000)
    if seconds < 60:
        return f"{seconds}.{ms // 100} s"
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"
