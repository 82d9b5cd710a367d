"""Why a job waits at Nomad, told to the person who waits; from what a real Nomad said (tests/golden/nomad/evaluations)."""

from __future__ import annotations

import pytest
from fakes.nomad_recorded import EVALUATIONS, evaluations, names
from serai_backends.nomad.observed import why_unplaced
from serai_backends.nomad.wire import AllocMetric, Evaluation

_DRIVER = "a machine that can run this kind of job (none has the driver for it)"
WORDS = {
    "memory": "waiting for free memory",
    "cpu": "waiting for free cores",
    "disk": "waiting for free disk space",
    "constraint": "waiting for a machine whose kernel.name is windows",
    "driver": f"waiting for {_DRIVER}",
    "device": "waiting for a machine with the GPU that the job asks for",
    "datacenter": "waiting for a machine: none of those that its machine type may use is ready",
    "volume": "waiting for a machine that has the job's folder",
    "network": "waiting for a machine with the job's network",
    "several": f"waiting for free memory and {_DRIVER}, for 3 of its replicas",
}


def failed(index: int = 1, status: str = "complete", **groups: AllocMetric) -> Evaluation:
    return Evaluation(status=status, failed_tg_allocs=groups or None, create_index=index)


@pytest.mark.parametrize("name", sorted(WORDS))
def test_words_for_a_reason(name: str) -> None:
    """Each reason has its words, in whatever order the evaluations come."""
    recorded = evaluations(name)
    assert why_unplaced(recorded) == why_unplaced(recorded[::-1]) == WORDS[name]


def test_every_recording_is_expected() -> None:
    """No reason was recorded that has no expectation here."""
    assert names(EVALUATIONS) == WORDS.keys()


def test_nothing_is_said_when_all_is_placed() -> None:
    """An evaluation that placed all ends what earlier ones said; without any evaluation nothing is known."""
    full = failed(5, rank=AllocMetric(nodes_exhausted=1, dimension_exhausted={"memory": 1}))
    assert why_unplaced([]) == ""
    assert why_unplaced([full, failed(4)]) == "waiting for free memory"
    assert why_unplaced([full, failed(9)]) == ""


def test_an_evaluation_that_still_waits_says_nothing_of_its_own() -> None:
    """The one that comes after a failed one has no reasons yet; those of the one before it still hold."""
    full = failed(5, rank=AllocMetric(nodes_exhausted=1, dimension_exhausted={"cpu": 1}))
    assert why_unplaced([failed(6, "blocked"), full, failed(7, "pending"), failed(8, "canceled")]) == "waiting for free cores"


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        (AllocMetric(quota_exhausted=("memory",)), "waiting for others of its project to end: the cluster's quota is used up"),
        (AllocMetric(nodes_exhausted=2, dimension_exhausted={"cores": 1, "memory": 1}), "waiting for free cores and free memory"),
        (AllocMetric(nodes_exhausted=1, dimension_exhausted={"devices: no devices match request": 1}), "waiting for a free GPU"),
        (AllocMetric(nodes_exhausted=1, dimension_exhausted={"network: port collision": 1}), "waiting for free network ports"),
        (AllocMetric(nodes_exhausted=1), "waiting for room on a machine"),
        # one that is full suits; one that was left out does not
        (
            AllocMetric(nodes_filtered=3, constraint_filtered={"missing drivers": 3}, nodes_exhausted=1, dimension_exhausted={"memory": 1}),
            "waiting for free memory",
        ),
        (
            AllocMetric(nodes_filtered=2, constraint_filtered={"computed class ineligible": 2}),
            "waiting for a machine that suits this machine type",
        ),
        (
            AllocMetric(nodes_filtered=2, constraint_filtered={"${attr.cpu.arch} = arm64": 1, "${meta.rack} is_set ": 1}),
            "waiting for a machine whose cpu.arch is arm64 and a machine with rack",
        ),
        (
            AllocMetric(nodes_filtered=1, constraint_filtered={"distinct_hosts": 1}),
            "waiting for more machines: each replica needs one of its own",
        ),
        (
            AllocMetric(nodes_filtered=1, constraint_filtered={"CSI volume x has exhausted its available writer claims": 1}),
            "waiting for its volume, which is not there or in use",
        ),
    ],
)
def test_words_for_metrics(metric: AllocMetric, words: str) -> None:
    """What a single machine cannot show in a recording: quotas, full devices, several reasons at once."""
    assert why_unplaced([failed(1, rank=metric)]) == words
