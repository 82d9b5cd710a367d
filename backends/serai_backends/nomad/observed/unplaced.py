"""Why a job is not placed, for the person who waits: from the newest evaluation that says so (facts: nomad c6, nomad-tried §4).

A job that cannot be placed is `complete` for its evaluation; the reasons stand in FailedTGAllocs, one for each group. A machine that suits
and is full is worth more words than one that does not suit: the first will be free some day.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from serai_backends.nomad.wire import AllocMetric, Evaluation

_SHOWN = 3
_FULL: Mapping[str, str] = {
    "cpu": "free cores",
    "cores": "free cores",
    "numa-cores": "free cores",
    "memory": "free memory",
    "disk": "free disk space",
    "devices": "a free GPU",
    "network": "free network ports",
    "bandwidth": "free network bandwidth",
}
"""By the first word of a dimension; some go on with ": …"."""
_MISSING: Mapping[str, str] = {
    "missing drivers": "a machine that can run this kind of job (none has the driver for it)",
    "missing devices": "a machine with the GPU that the job asks for",
    "missing compatible host volumes": "a machine that has the job's folder",
    "missing network": "a machine with the job's network",
    "missing secrets provider": "a machine that can read the job's secrets",
    "distinct_hosts": "more machines: each replica needs one of its own",
    "did not meet topology requirement": "a machine that reaches the job's volume",
}
_OWN_CONSTRAINT = re.compile(r"\$\{(?:attr\.|meta\.|node\.)?([^}]+)\} (\S+) ?(.*)", re.DOTALL)
_CSI = re.compile(r"CSI |missing CSI")
_OPERATORS: Mapping[str, str] = {
    "=": "is", "==": "is", "is": "is", "!=": "is not", "not": "is not", ">": "is above", ">=": "is at least", "<": "is below",
    "<=": "is at most", "regexp": "is like", "version": "is of version", "semver": "is of version", "set_contains": "has",
    "set_contains_all": "has", "set_contains_any": "has one of",
}  # fmt: skip
_UNSUITED = "a machine that suits this machine type"
_NO_MACHINE = "a machine: none of those that its machine type may use is ready"


def why_unplaced(evaluations: Sequence[Evaluation]) -> str:
    """Words that go on "The job is …"; "" = all of it is placed, or Nomad does not say why it is not."""
    for evaluation in sorted(evaluations, key=lambda e: e.create_index, reverse=True):
        failed = evaluation.failed_tg_allocs
        if failed:
            return _words(failed)
        if evaluation.status == "complete":
            return ""
    return ""


def _words(failed: Mapping[str, AllocMetric]) -> str:
    things = list(dict.fromkeys(thing for metric in failed.values() for thing in _things(metric)))
    shown = things[:_SHOWN]
    said = shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
    places = sum(1 + max(metric.coalesced_failures, 0) for metric in failed.values())
    return f"waiting for {said}" + (f", for {places} of its replicas" if places > 1 else "")


def _things(metric: AllocMetric) -> Iterator[str]:
    """For what a group waits, one thing or more."""
    if metric.quota_exhausted:
        yield "others of its project to end: the cluster's quota is used up"
        return
    if metric.nodes_exhausted or metric.dimension_exhausted:
        dimensions = sorted(metric.dimension_exhausted or ())
        yield from [_full(name) for name in dimensions] or ["room on a machine"]
        return
    filtered = sorted((metric.constraint_filtered or {}).keys() - {"computed class ineligible"})
    if filtered:
        yield from (_missing(reason) for reason in filtered)
    else:
        yield _UNSUITED if metric.nodes_filtered or metric.nodes_evaluated else _NO_MACHINE


def _full(dimension: str) -> str:
    return _FULL.get(re.split(r"[:\s]", dimension.strip(), maxsplit=1)[0], "room on a machine")


def _missing(reason: str) -> str:
    if reason in _MISSING:
        return _MISSING[reason]
    if _CSI.match(reason):
        return "its volume, which is not there or in use"
    if "host network" in reason:
        return _MISSING["missing network"]
    constraint = _OWN_CONSTRAINT.fullmatch(reason)
    if constraint is None:
        return f"a machine with {reason}"
    name, operator, value = constraint.groups()
    if operator in {"is_set", "is_not_set"}:
        return f"a machine {'with' if operator == 'is_set' else 'without'} {name}"
    return f"a machine whose {name} {_OPERATORS.get(operator, operator)} {value}".rstrip()
