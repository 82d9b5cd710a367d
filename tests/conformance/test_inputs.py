"""What every backend with inputs must do: mounts of files and folders, files in the job's folder, scripts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from serai_backends.errors import SubmissionRefused
from serai_backends.model import End, JobObservation, Mount, Stream, Why

if TYPE_CHECKING:
    from conftest import Site  # pyright: ignore[reportMissingImports]  # pytest's own import of the conftest beside this file


@pytest.fixture
def inputs(site: Site) -> Site:
    if not site.backend.features.inputs:
        pytest.skip("has no inputs")
    return site


async def run(site: Site, line: str, *mounts: Mount, replicas: int = 1) -> tuple[JobObservation, str]:
    await site.backend.submit(replace(site.raw("job", ("sh", "-c", line), replicas=replicas), mounts=mounts))
    found = await site.ended("job")
    return found, b"".join([chunk.data async for chunk in site.backend.logs("job", 0, Stream.STDOUT)]).decode()


async def test_files_and_folders_of_drives_are_seen_in_work(inputs: Site) -> None:
    """By every rank, under their own names; what the job writes to them is in the drive."""
    inputs.harness.put("drive/data/in.txt", "input\n")
    inputs.harness.put("other/folder/sub/deep.txt", "deep\n")
    mounts = (Mount("drive/data/in.txt", "/work/renamed"), Mount("other/folder", "/work/folder"), Mount("other", "/work/whole"))
    line = "cat renamed folder/sub/deep.txt whole/folder/sub/deep.txt; echo more >> renamed; echo new > folder/$(cat /etc/ucloud/rank.txt)"
    found, text = await run(inputs, line, *mounts, replicas=2)
    assert [replica.exit_code for replica in found.replicas] == [0, 0]
    assert text.startswith("input\n") and text.endswith("deep\ndeep\n")
    assert inputs.harness.get("drive/data/in.txt") == "input\nmore\nmore\n"
    assert inputs.harness.get("other/folder/0") == inputs.harness.get("other/folder/1") == "new\n"


async def test_read_only_is_read_only(inputs: Site) -> None:
    """Neither written, nor made, nor removed in it."""
    inputs.harness.put("drive/data/in.txt", "input\n")
    mounts = (Mount("drive/data/in.txt", "/work/file", read_only=True), Mount("drive/data", "/work/data", read_only=True))
    line = (
        "for c in 'echo x > file' 'echo x > data/in.txt' 'touch data/new' 'rm data/in.txt'; do sh -c \"$c\" 2> /dev/null && echo $c; done"
    )
    found, text = await run(inputs, line + "; cat file", *mounts)
    assert (found.replicas[0].exit_code, text) == (0, "input\n")
    assert inputs.harness.get("drive/data/in.txt") == "input\n"
    assert inputs.harness.get("drive/data/new") is None


@pytest.mark.parametrize("source", ["drive/data/none.txt", "drive/none/in.txt", "none/in.txt", "drive/data/in.txt/below", "none"])
async def test_a_missing_input_is_named(inputs: Site, source: str) -> None:
    """Every rank START_FAILED, INPUT_MISSING, and the path; nothing has run."""
    inputs.harness.put("drive/data/in.txt", "input\n")
    found, text = await run(inputs, "echo ran", Mount("drive/data/in.txt", "/work/in"), Mount(source, "/work/name"), replicas=2)
    assert {(r.end, r.why, r.cause) for r in found.replicas} == {(End.START_FAILED, Why.INPUT_MISSING, f"/{source}")}
    assert (found.why, found.reason, found.running_since_ms, text) == (Why.INPUT_MISSING, f"/{source}", None, "")


@pytest.mark.parametrize(
    "source", ["drive/../other/in.txt", "drive/../../etc/passwd", "drive//etc/passwd", "..", "../etc", ".", "", "/etc", "drive/"]
)
async def test_what_leads_out_of_its_drive_is_refused(inputs: Site, source: str) -> None:
    """INPUT_FORBIDDEN with the path as it was written."""
    inputs.harness.put("drive/data/in.txt", "x")
    inputs.harness.put("other/in.txt", "x")
    found, _ = await run(inputs, "echo ran", Mount(source, "/work/name"))
    assert (found.replicas[0].end, found.why, found.reason) == (End.START_FAILED, Why.INPUT_FORBIDDEN, f"/{source}")


@pytest.mark.parametrize("target", ["/work", "/work/", "/etc/x", "/work/../etc/x", "work/x", "/work/a//b", "/workx/a"])
async def test_targets_elsewhere_are_refused(inputs: Site, target: str) -> None:
    """Inputs are below /work only."""
    with pytest.raises(SubmissionRefused):
        await inputs.backend.submit(replace(inputs.spec("job", "exit", "0"), mounts=(Mount("drive/x", target),)))
    assert await inputs.backend.list() == []


@pytest.mark.parametrize(("first", "second"), [("/work/a", "/work/a"), ("/work/a", "/work/a/b")])
async def test_targets_in_each_other_are_refused(inputs: Site, first: str, second: str) -> None:
    """Whose mount point would it be?"""
    with pytest.raises(SubmissionRefused):
        await inputs.backend.submit(replace(inputs.spec("job", "exit", "0"), mounts=(Mount("drive/x", first), Mount("drive/y", second))))


async def test_files_lie_in_the_folder_before_the_start(inputs: Site) -> None:
    """Whole, writable for the job; one that is there already stays."""
    inputs.harness.put("drive/Jobs/conformance/job/there.json", "mine\n")
    spec = replace(
        inputs.raw("job", ("sh", "-c", "cat JobParameters.json there.json && echo x >> JobParameters.json")),
        files=(("JobParameters.json", '{"ä": 1}\n'), ("there.json", "other\n")),
    )
    await inputs.backend.submit(spec)
    assert (await inputs.ended("job")).replicas[0].exit_code == 0
    text = b"".join([chunk.data async for chunk in inputs.backend.logs("job", 0, Stream.STDOUT)])
    assert text.decode() == '{"ä": 1}\nmine\n'
    assert inputs.harness.get(f"{spec.output_folder}/JobParameters.json") == '{"ä": 1}\nx\n'


@pytest.mark.parametrize("name", ["", "..", "a/b", "/x", "a\0"])
async def test_names_that_are_none_are_refused(inputs: Site, name: str) -> None:
    """A file lies in the job's folder itself."""
    with pytest.raises(SubmissionRefused):
        await inputs.backend.submit(replace(inputs.spec("job", "exit", "0"), files=((name, "x"),)))


async def test_scripts_can_be_executed(inputs: Site) -> None:
    """One for all ranks, or one for each; mode 0755 and read-only."""
    one = replace(inputs.raw("one", ("/etc/ucloud/script.sh", "a b"), replicas=2), scripts=("#!/bin/sh\necho one $1",))
    each = replace(
        inputs.raw("each", ("/etc/ucloud/script.sh",), replicas=2),
        scripts=("#!/bin/sh\necho zero; echo >> /etc/ucloud/script.sh", "#!/bin/sh\necho first"),
    )
    await inputs.backend.submit(one)
    await inputs.backend.submit(each)
    texts: list[str] = []
    for job_id, rank in (("one", 0), ("one", 1), ("each", 0), ("each", 1)):
        await inputs.ended(job_id)
        texts += [b"".join([chunk.data async for chunk in inputs.backend.logs(job_id, rank, Stream.STDOUT)]).decode()]
    assert texts == ["one a b\n", "one a b\n", "zero\n", "first\n"]
    assert (await inputs.ended("each")).replicas[0].exit_code != 0
    with pytest.raises(SubmissionRefused):
        await inputs.backend.submit(replace(inputs.spec("odd", "exit", "0", replicas=3), scripts=("a", "b")))
    inputs.jobs.remove("odd")


async def test_root_inside_is_nobody_outside(inputs: Site) -> None:
    """`run_as_root`: uid 0 in its own view, the files it makes belong to the job's user."""
    if inputs.harness.image:
        pytest.skip("programs are root in containers only where the container engine maps users")
    spec = replace(inputs.raw("job", ("sh", "-c", "id -u; id -g; whoami; touch made; stat -c %u made")), run_as_root=True)
    await inputs.backend.submit(spec)
    await inputs.ended("job")
    text = b"".join([chunk.data async for chunk in inputs.backend.logs("job", 0, Stream.STDOUT)]).decode()
    assert text.split() == ["0", "0", "root", "0"]
