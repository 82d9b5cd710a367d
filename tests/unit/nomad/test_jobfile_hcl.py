"""The job in Nomad's own language: what an operator reads, and that Nomad reads the same job in it."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from serai_backends.nomad.jobfile import JSON, Prepared, build, hcl
from unit.nomad.jobs import CASES, ODD, OWNER, settings, spec

if TYPE_CHECKING:
    from serai_backends.nomad.jobfile import JobFile

NASTY = (
    *ODD,
    "$${x} %%{x}",
    "$$$${",
    "a\nb\n",
    "$${a}\nb\n",
    "END\nEND_\n",
    "\x01\x7f\b\f\r\n",
    "\\b\\f \\\\b \\\b",
    "\\u0024{",
    "<<END\n",
    "a\n\n\n",
    "\n",
    "\u2028\n\u2028\n",
)


def differences(wanted: JSON, found: JSON, path: str = "") -> list[str]:
    """What of `wanted` is not so in `found`, which may say more; no list and an empty one are the same."""
    if isinstance(wanted, dict):
        inner = found if isinstance(found, dict) else {}
        return [each for key, value in wanted.items() for each in differences(value, inner.get(key), f"{path}.{key}")]
    if isinstance(wanted, list):
        items = found if isinstance(found, list) else []
        if len(items) != len(wanted):
            return [f"{path}: {len(items)} instead of {len(wanted)}"]
        return [each for number, value in enumerate(wanted) for each in differences(value, items[number], f"{path}[{number}]")]
    return [] if wanted == found else [f"{path}: {found!r} instead of {wanted!r}"]


def read_by_nomad(text: str, folder: Path) -> JobFile:
    program = shutil.which("nomad")
    if program is None:
        pytest.skip("nomad is not on PATH: it must read the job")
    file = folder / "job.nomad.hcl"
    file.write_text(text, encoding="utf-8")
    done = subprocess.run([program, "job", "run", "-output", str(file)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return cast("dict[str, JobFile]", json.loads(done.stdout))["Job"]


@pytest.mark.parametrize("name", CASES)
def test_nomad_reads_the_job_that_it_would_be_sent(name: str, tmp_path: Path) -> None:
    """Each value of `build`, in each kind of job."""
    described, attempt, cluster = CASES[name]
    job = build(described, attempt, OWNER, cluster)
    assert differences(job, read_by_nomad(hcl(job), tmp_path)) == []


@pytest.mark.parametrize("word", NASTY)
def test_no_text_changes_on_its_way(word: str, tmp_path: Path) -> None:
    """As argument, as a file of its own, as a script."""
    described = replace(spec(), argv=("x", word), files=(("f", word),), scripts=(word,))
    job = build(described, 1, Prepared(None, None), settings(work="scratch"))
    assert differences(job, read_by_nomad(hcl(job), tmp_path)) == []


def test_it_reads_like_a_job_of_a_person() -> None:
    """Scripts in heredocs, durations with units, a word on each thing that is not plain."""
    described, attempt, cluster = CASES["docker-batch"]
    text = hcl(build(described, attempt, OWNER, cluster))
    for part in (
        'job "ucloud-4711" {',
        '  group "rank-0" {',
        'kill_timeout = "3s"',
        "data = <<END",
        "# The barrier",
        '        type = "tmpfs"',
    ):
        assert part in text
