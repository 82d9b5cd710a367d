"""What every backend with secrets must do: the right bytes for the replicas of one job, and nothing of them anywhere else."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from serai_backends.api import TakesSecrets
from serai_backends.errors import BackendUnavailable, SubmissionRefused
from serai_backends.model import End, Phase, ReplicaSpec, Secret, Stream

if TYPE_CHECKING:
    from conftest import Site  # pyright: ignore[reportMissingImports]  # pytest's own import of the conftest beside this file

CANARY = "canary-5b1f0c6e"
BINARY = bytes(range(256)) * 3 + CANARY.encode() + b"\x00\xff\n"
HERE = "/etc/ucloud/secrets"
SHOW = f"cd {HERE} && for f in *; do stat -c '%a %u %n' $f; od -An -v -tx1 $f | tr -d ' \\n'; echo; done; stat -c %a .; id -u"


class Source:
    """Hands out what it was given; fails as often as it was told to."""

    def __init__(self, *secrets: Secret, fails: int = 0) -> None:
        self.secrets, self.fails = secrets, fails
        self.refuses = False
        self.asked: list[str] = []

    async def __call__(self, job_id: str) -> tuple[Secret, ...]:
        self.asked.append(job_id)
        if self.refuses:
            raise SubmissionRefused("the license of the job is gone")
        if len(self.asked) <= self.fails:
            raise BackendUnavailable("the vault of keys is shut")
        return self.secrets


@pytest.fixture
def keeper(site: Site) -> Site:
    if not site.backend.features.secrets:
        pytest.skip("takes no secrets")
    return site


def give(site: Site, *secrets: Secret, fails: int = 0) -> Source:
    source = Source(*secrets, fails=fails)
    assert isinstance(site.backend, TakesSecrets)
    site.backend.take_secrets_from(source)
    return source


def spec_of(site: Site, line: str, *secrets: str, job_id: str = "job", replicas: int = 1, cpu: int = 1) -> ReplicaSpec:
    return replace(site.raw(job_id, ("sh", "-c", line), replicas=replicas, cpu=cpu), secrets=secrets)


async def text_of(site: Site, rank: int = 0, job_id: str = "job") -> str:
    return b"".join([chunk.data async for chunk in site.backend.logs(job_id, rank, Stream.STDOUT)]).decode()


async def test_every_replica_finds_exactly_the_given_bytes(keeper: Site) -> None:
    """Binary content too, and an empty one: mode 0400, in a folder that only the program's own user enters, all of them his."""
    small, empty = Secret("license-17", b"plain text"), Secret("empty", b"")
    source = give(keeper, Secret("key.bin", BINARY), small, empty)
    await keeper.backend.submit(spec_of(keeper, SHOW, "license-17", "key.bin", "empty", replicas=2))
    found = await keeper.ended("job")
    assert [(r.end, r.exit_code) for r in found.replicas] == [(End.EXITED, 0)] * 2, found
    for rank in range(2):
        *files, folder, uid = (await text_of(keeper, rank)).splitlines()
        names, contents = files[::2], files[1::2]
        assert names == [f"400 {uid} {name}" for name in ("empty", "key.bin", "license-17")]
        assert [bytes.fromhex(content) for content in contents] == [b"", BINARY, b"plain text"]
        assert folder in {"500", "700"}
    assert set(source.asked) == {"job"}


async def test_the_largest_ones_arrive(keeper: Site) -> None:
    """As large as they may be, of bytes that no text has."""
    content = os.urandom(keeper.harness.largest_secret)
    give(keeper, Secret("large", content))
    await keeper.backend.submit(spec_of(keeper, f"od -An -v -tx1 {HERE}/large", "large"))
    found = await keeper.ended("job")
    assert found.replicas[0].exit_code == 0, found
    assert bytes.fromhex(await text_of(keeper)) == content


async def test_a_job_without_secrets_has_none(keeper: Site) -> None:
    """And nobody is asked for it."""
    source = give(keeper, Secret("key", CANARY.encode()))
    await keeper.backend.submit(spec_of(keeper, f"test ! -e {HERE}"))
    assert (await keeper.ended("job")).replicas[0].exit_code == 0
    assert source.asked == []


NAMES = ["", ".hidden", "..", "a/b", "a b", "ä", "x" * 65, "new\nline", "nul\0"]


@pytest.mark.parametrize("names", [*((name,) for name in NAMES), ("same", "same"), tuple(f"s{i}" for i in range(17))])
async def test_wrong_names_are_refused(keeper: Site, names: tuple[str, ...]) -> None:
    """At once, before anything is stored."""
    give(keeper)
    with pytest.raises(SubmissionRefused):
        await keeper.backend.submit(replace(keeper.spec("job", "exit", "0"), secrets=names))
    assert await keeper.backend.list() == []


def holds(path: Path) -> bool:
    try:
        return CANARY.encode() in path.read_bytes()
    except OSError:
        return False


def leaks(site: Site) -> list[str]:
    """Files of the state folder and of the drives, and command lines and environments of this machine, that hold the canary."""
    found = [str(path) for folder in site.harness.folders() for path in folder.rglob("*") if path.is_file() and holds(path)]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            found += [str(entry / name) for name in ("cmdline", "environ") if holds(entry / name)]
    return found


async def test_the_content_is_in_no_file_argument_or_variable(keeper: Site, capfd: pytest.CaptureFixture[str]) -> None:
    """While the job runs, when it has ended, and when it was forgotten. Nor in what the backend logs."""
    give(keeper, Secret("key", CANARY.encode()))
    line = f"wc -c < {HERE}/key > seen; until [ -e go ]; do sleep 0.05; done; cat {HERE}/key | wc -c"
    job = spec_of(keeper, line, "key", replicas=2)
    await keeper.backend.submit(job)
    await keeper.running("job")
    async with asyncio.timeout(30):
        while not keeper.harness.get(f"{job.output_folder}/seen"):
            await asyncio.sleep(0.02)
    assert leaks(keeper) == []
    keeper.harness.put(f"{job.output_folder}/go", "")
    found = await keeper.ended("job")
    assert found.replicas[0].exit_code == 0
    assert await text_of(keeper) == f"{len(CANARY)}\n"
    assert CANARY not in repr(found)
    assert leaks(keeper) == []
    await keeper.backend.forget("job")
    assert leaks(keeper) == []
    logged = capfd.readouterr()
    assert CANARY not in logged.out + logged.err


async def test_another_job_of_the_same_user_does_not_see_it(keeper: Site) -> None:
    """Not in its own files, and not by any process that it sees."""
    give(keeper, Secret("key", CANARY.encode()))
    first = spec_of(keeper, f"wc -c < {HERE}/key; until [ -e go ]; do sleep 0.05; done", "key")
    await keeper.backend.submit(first)
    await keeper.running("job")
    look = (
        # by what it sees of processes, also where jobs share the node's
        "ls /etc/ucloud; "
        f"for p in /proc/[0-9]*; do for f in root{HERE}/key cwd/../secrets/key environ cmdline; do "
        f"grep -q '{CANARY[:6]}''{CANARY[6:]}' $p/$f 2>/dev/null && [ $f != cmdline ] && echo found $p/$f; "
        "ls $p/fd 2>/dev/null | grep -q memfd && echo memfd; done; done; echo looked"
    )
    other = spec_of(keeper, look, job_id="other")
    await keeper.backend.submit(other)
    assert (await keeper.ended("other")).replicas[0].exit_code == 0
    text = await text_of(keeper, job_id="other")
    assert "secrets" not in text and "found" not in text and "memfd" not in text and text.endswith("looked\n")
    keeper.harness.put(f"{first.output_folder}/go", "")
    assert (await keeper.ended("job")).replicas[0].exit_code == 0


async def test_a_source_that_fails_is_asked_again(keeper: Site) -> None:
    """The job keeps waiting and says why; then it runs."""
    source = give(keeper, Secret("key", CANARY.encode()), fails=2)
    await keeper.backend.submit(spec_of(keeper, f"wc -c < {HERE}/key", "key"))
    waiting = await keeper.until("job", lambda found: "vault" in found.reason)
    assert (waiting.phase, waiting.reason) == (Phase.WAITING, "the vault of keys is shut")
    found = await keeper.ended("job")
    assert (found.replicas[0].exit_code, found.reason) == (0, "")
    assert len(source.asked) >= 3


async def test_a_job_whose_secrets_are_not_there_can_be_canceled(keeper: Site) -> None:
    """It ends at once and never runs."""
    give(keeper, fails=1_000)
    await keeper.backend.submit(spec_of(keeper, "echo ran > /work/ran", "key"))
    await keeper.until("job", lambda found: "vault" in found.reason)
    await keeper.backend.cancel("job")
    found = await keeper.ended("job")
    assert {replica.end for replica in found.replicas} == {End.CANCELED}


async def test_a_source_that_refuses_ends_the_job(keeper: Site) -> None:
    """START_FAILED on every rank, with the words of the refusal; nothing runs, and others are not held up."""
    source = give(keeper)
    source.refuses = True
    await keeper.backend.submit(spec_of(keeper, "echo ran", "key", replicas=2))
    found = await keeper.ended("job")
    assert found.reason == "the license of the job is gone"
    assert {(r.end, r.cause) for r in found.replicas} == {(End.START_FAILED, "the license of the job is gone")}
    await keeper.backend.submit(spec_of(keeper, "true", job_id="next"))
    assert (await keeper.ended("next")).replicas[0].exit_code == 0


@pytest.mark.parametrize(
    "given", [(), (Secret("other", b"x"),), (Secret("key", b"x"), Secret("more", b"x")), (Secret("key", b"x" * 49153),)]
)
async def test_what_was_not_asked_for_is_not_taken(keeper: Site, given: tuple[Secret, ...]) -> None:
    """Others than the job names, or one that is too large: START_FAILED."""
    give(keeper, *given)
    await keeper.backend.submit(spec_of(keeper, "echo ran", "key"))
    assert {r.end for r in (await keeper.ended("job")).replicas} == {End.START_FAILED}


async def test_a_job_that_waited_when_the_server_went_away(keeper: Site) -> None:
    """The next server asks again, after it was told whom; before, the job waits."""
    give(keeper, Secret("key", b"old"))
    await keeper.backend.submit(keeper.spec("first", "hang", cpu=4))
    await keeper.running("first")
    await keeper.backend.submit(spec_of(keeper, f"cat {HERE}/key", "key"))
    await keeper.reopen()
    await keeper.backend.cancel("first")
    await keeper.ended("first")
    found = await keeper.backend.inspect("job")
    assert found is not None and found.phase is Phase.WAITING
    give(keeper, Secret("key", b"new"))
    assert (await keeper.ended("job")).replicas[0].exit_code == 0
    assert await text_of(keeper) == "new"


async def test_a_program_that_is_root_in_its_view_owns_them_too(keeper: Site) -> None:
    """Where the application may be root: mode and owner are what that user sees as itself."""
    give(keeper, Secret("key", BINARY))
    if keeper.harness.image:
        pytest.skip("this cluster's containers have no root")
    line = f"stat -c '%a %u' {HERE}/key; od -An -v -tx1 {HERE}/key | tr -d ' \\n'"
    await keeper.backend.submit(replace(spec_of(keeper, line, "key"), run_as_root=True))
    found = await keeper.ended("job")
    owner, content = (await text_of(keeper)).splitlines()
    assert (found.replicas[0].exit_code, owner, bytes.fromhex(content)) == (0, "400 0", BINARY)


async def test_a_job_with_secrets_is_ended_as_any_other(keeper: Site) -> None:
    """SIGTERM reaches the program itself, which may end as it wants."""
    give(keeper, Secret("key", BINARY))
    job = spec_of(keeper, "trap 'echo told; exit 4' TERM; echo > up; while :; do sleep 0.05; done", "key")
    await keeper.backend.submit(job)
    await keeper.running("job")
    async with asyncio.timeout(30):
        while keeper.harness.get(f"{job.output_folder}/up") is None:
            await asyncio.sleep(0.02)
    await keeper.backend.cancel("job", grace_ms=10_000)
    assert (await keeper.ended("job")).replicas[0].end is End.CANCELED
    assert await text_of(keeper) == "told\n"
