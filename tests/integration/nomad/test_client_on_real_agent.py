"""The client against a real Nomad agent."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import TypeVar

import pytest
import pytest_asyncio
from fakes import nomad_alone
from fakes.nomad_pages import settings
from serai_backends.errors import BackendUnavailable, JobNotThere
from serai_backends.model import Stream, TerminalSize
from serai_backends.nomad.client import (
    AlreadyRegistered,
    NomadClient,
    NotAllowed,
    RegistrationRefused,
    VariableConflict,
    open_client,
)
from serai_backends.nomad.client.api import JSON
from serai_backends.nomad.wire import Allocation

pytestmark = [
    pytest.mark.skipif(nomad_alone.found() is None, reason=nomad_alone.WITHOUT),
    pytest.mark.asyncio(loop_scope="module"),
]
_T = TypeVar("_T")
UNKNOWN = "11111111-1111-1111-1111-111111111111"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncGenerator[NomadClient]:
    async with nomad_alone.agent() as real, open_client(settings(real.address), environ={}) as client:
        yield client


def job(name: str, script: str) -> dict[str, JSON]:
    task: dict[str, JSON] = {
        "Name": "main",
        "Driver": "raw_exec",
        "Config": {"command": "/bin/sh", "args": ["-c", script]},
        "Resources": {"CPU": 20, "MemoryMB": 20},
        "LogConfig": {"MaxFiles": 1, "MaxFileSizeMB": 10},
    }
    group: dict[str, JSON] = {
        "Name": "rank-0",
        "Count": 1,
        "Tasks": [task],
        "EphemeralDisk": {"SizeMB": 20},
        "RestartPolicy": {"Attempts": 0, "Mode": "fail"},
        "ReschedulePolicy": {"Attempts": 0, "Unlimited": False},
    }
    return {"ID": name, "Name": name, "Type": "batch", "Datacenters": ["*"], "Meta": {"serai_job_id": name}, "TaskGroups": [group]}


def _runs(pid: int) -> bool:
    """And is no zombie."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


def _is_folder(path: str) -> bool:
    return Path(path).is_dir()


async def until(look: Callable[[], Coroutine[None, None, _T | None]]) -> _T:
    async with asyncio.timeout(30):
        while (seen := await look()) is None:
            await asyncio.sleep(0.05)
        return seen


async def one(client: NomadClient, name: str, status: str) -> Allocation:
    async def look() -> Allocation | None:
        return next((a for a in await client.allocations_of(name) if a.client_status == status), None)

    return await until(look)


async def test_a_job_is_created_once(client: NomadClient) -> None:
    """And again only when it was purged."""
    registered = await client.register(job("ucloud-once", "exit 3"))
    assert (registered.index > 0, len(registered.eval_id)) == (True, 36)
    with pytest.raises(AlreadyRegistered):
        await client.register(job("ucloud-once", "exit 3"))
    known = await client.job("ucloud-once")
    assert known is not None
    assert known.meta == {"serai_job_id": "ucloud-once"}
    ended = await one(client, "ucloud-once", "failed")
    assert [event.exit_code for event in (ended.task_states or {})["main"].events or () if event.type == "Terminated"] == [3]
    await client.deregister("ucloud-once", purge=True)
    assert await client.job("ucloud-once") is None
    await client.deregister("ucloud-once")


async def test_what_is_wrong_with_a_job_is_told(client: NomadClient) -> None:
    for wrong, words in (
        ({"ID": "a b"}, "Job ID contains a space"),
        ({"NodePool": "nowhere"}, 'nonexistent node pool "nowhere"'),
        ({"Datacenters": 1}, "cannot unmarshal number"),
        ({"Type": "nothing"}, 'Invalid job type: "nothing"'),
    ):
        with pytest.raises(RegistrationRefused, match=words):
            await client.register(job("ucloud-wrong", "exit 0") | wrong)
    assert await client.job("ucloud-wrong") is None


async def test_lists_tell_what_runs_and_what_it_holds(client: NomadClient) -> None:
    """Page by page: two jobs, one allocation a page."""
    for name in ("ucloud-list-1", "ucloud-list-2"):
        await client.register(job(name, "exec sleep 600"))
        await one(client, name, "running")
    jobs, index = await client.jobs("ucloud-list-")
    assert [j.id for j in jobs] == ["ucloud-list-1", "ucloud-list-2"]
    assert all(j.meta == {"serai_job_id": j.id} for j in jobs)
    assert index >= max(j.modify_index for j in jobs)
    pages = [page async for page in client.allocations(page=1)]
    ours = [a for page in pages for a in page if a.job_id.startswith("ucloud-list-")]
    assert all(len(page) <= 1 for page in pages)
    assert {(a.job_id, (a.task_states or {})["main"].state) for a in ours} == {("ucloud-list-1", "running"), ("ucloud-list-2", "running")}
    held = [a.allocated_resources for a in await client.used() if a.job_id.startswith("ucloud-list-")]
    assert [(r.tasks or {})["main"].memory.memory_mb for r in held if r is not None] == [20, 20]
    (node,) = await client.nodes()
    assert node.node_resources is not None
    assert node.node_resources.cpu is not None
    assert node.node_resources.cpu.cpu_shares > 0
    assert (await client.node(node.id) or node).attributes is not None
    evaluations = await client.evaluations_of("ucloud-list-1")
    assert {e.triggered_by for e in evaluations} == {"job-register"}
    await client.deregister("ucloud-list-1", purge=True)
    await client.deregister("ucloud-list-2", purge=True)


async def test_an_allocation_that_is_stopped_stays_the_only_one(client: NomadClient) -> None:
    await client.register(job("ucloud-stop", "exec sleep 600"))
    running = await one(client, "ucloud-stop", "running")
    await client.stop_allocation(running.id)
    await one(client, "ucloud-stop", "complete")
    assert [a.id for a in await client.allocations_of("ucloud-stop")] == [running.id]
    await client.stop_allocation(UNKNOWN)
    assert await client.allocation(UNKNOWN) is None


async def test_a_variable_is_written_over_its_own_version_only(client: NomadClient) -> None:
    path = "nomad/jobs/ucloud-var"
    first = await client.put_variable(path, {"nodes": "10.0.0.1\n10.0.0.2"}, cas=0)
    with pytest.raises(VariableConflict) as conflict:
        await client.put_variable(path, {"nodes": "x"}, cas=0)
    assert (conflict.value.stored.modify_index, conflict.value.stored.items) == (first, {"nodes": "10.0.0.1\n10.0.0.2"})
    second = await client.put_variable(path, {"nodes": "self"}, cas=first)
    stored = await client.variable(path)
    assert stored is not None
    assert (stored.items, stored.modify_index) == ({"nodes": "self"}, second)
    assert await client.variables("nomad/jobs/ucloud-") == [path]
    await client.delete_variable(path)
    await client.delete_variable(path)
    assert await client.variable(path) is None
    assert await client.variables("nomad/jobs/ucloud-") == []


async def test_events_tell_a_life_from_an_index_on(client: NomadClient) -> None:
    """The first word comes at once, and a second listener hears the same again."""

    async def life(index: int) -> list[tuple[str, int]]:
        seen = list[tuple[str, int]]()
        async with asyncio.timeout(30), aclosing(client.events(index)) as events:
            async for batch in events:
                for event in batch.events:
                    if event.allocation is not None and event.allocation.job_id == "ucloud-life":
                        seen.append((event.allocation.client_status, event.index))
                        if event.allocation.client_status == "complete":
                            return seen
        return seen

    async with aclosing(client.events(0)) as events:
        assert (await anext(events)).events == ()
    registered = await client.register(job("ucloud-life", "sleep 0.5"))
    first = await life(registered.index)
    assert first[0][0] == "pending"
    assert first[-1][0] == "complete"
    assert await life(registered.index) == first
    assert (await life(first[-1][1]))[-1] == first[-1]


async def test_logs_are_read_from_any_offset(client: NomadClient) -> None:
    await client.register(job("ucloud-log", "i=0; while [ $i -lt 40000 ]; do echo $i; i=$((i+1)); done; echo oh >&2; exec sleep 600"))
    running = await one(client, "ucloud-log", "running")
    expected = b"".join(b"%d\n" % n for n in range(40_000))

    async def all_of(stream: Stream, offset: int = 0) -> bytes:
        return b"".join([chunk.data async for chunk in client.log(running.id, "main", stream, offset)])

    async def whole() -> bytes | None:
        return (await all_of(Stream.STDERR)) or None

    assert await until(whole) == b"oh\n"

    async def everything() -> bytes | None:
        read = await all_of(Stream.STDOUT)
        return read if len(read) >= len(expected) else None

    assert await until(everything) == expected
    assert await all_of(Stream.STDOUT, 100_000) == expected[100_000:]
    assert await all_of(Stream.STDOUT, len(expected)) == b""
    for alloc, task in ((UNKNOWN, "main"), (running.id, "nothing")):
        with pytest.raises(JobNotThere):
            _ = [chunk async for chunk in client.log(alloc, task, Stream.STDOUT)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(client: NomadClient) -> Allocation:
    await client.register(job("ucloud-shell", "exec sleep 600"))
    return await one(client, "ucloud-shell", "running")


async def test_a_program_beside_the_task_tells_both_streams_and_its_end(client: NomadClient, running: Allocation) -> None:
    """Arguments arrive as they are; exit code 0 is left out by Nomad."""
    shell = await client.exec(running.id, "main", ("/bin/sh", "-c", 'cat; echo "$1" >&2; exit $2', "sh", "a 'b' $c", "7"))
    await shell.write(b"x" * 200_000)
    await shell.end_input()
    output = b"".join([data async for data in shell.output()])
    assert (len(output), output.count(b"x"), b"a 'b' $c\n" in output, shell.exit_code) == (200_009, 200_000, True, 7)
    await shell.close()
    shell = await client.exec(running.id, "main", ("true",))
    await shell.end_input()
    assert ([data async for data in shell.output()], shell.exit_code) == ([], 0)
    await shell.close()


async def test_a_terminal_has_its_size_and_is_resized(client: NomadClient, running: Allocation) -> None:
    shell = await client.exec(running.id, "main", ("/bin/sh",), TerminalSize(columns=99, rows=33))

    async def says(words: bytes) -> None:
        heard = b""
        async with asyncio.timeout(10):
            async for data in shell.output():
                heard += data
                if words in heard:
                    return

    await shell.write(b"stty size\n")
    await says(b"33 99")
    await shell.resize(TerminalSize(columns=120, rows=50))
    await shell.write(b"stty size\n")
    await says(b"50 120")
    await shell.write(b"exit 5\n")
    _ = [data async for data in shell.output()]
    assert shell.exit_code == 5
    await shell.close()


@pytest.mark.parametrize("deaf", [False, True])
async def test_closing_a_shell_ends_what_runs_in_it(client: NomadClient, running: Allocation, tmp_path: Path, *, deaf: bool) -> None:
    """Nomad itself lets it live on (facts: nomad-tried §7), also one that does not listen to SIGHUP."""
    note = tmp_path / "pid"
    trap = "trap '' HUP TERM; " if deaf else ""
    script = f"{trap}echo $$ >{note}.new; mv {note}.new {note}; while :; do sleep 600; done"
    shell = await client.exec(running.id, "main", ("/bin/sh", "-c", script), TerminalSize(80, 24))

    async def started() -> int | None:
        return int(note.read_text()) if note.exists() else None

    pid = await until(started)
    os.kill(pid, 0)
    await shell.close()

    async def gone() -> bool | None:
        return None if _runs(pid) else True

    assert await until(gone)


async def test_a_program_that_is_not_there_ends_with_127(client: NomadClient, running: Allocation) -> None:
    """Each driver has another answer of its own to that, or none."""
    shell = await client.exec(running.id, "main", ("/no/such/program",))
    await shell.end_input()
    output = b"".join([data async for data in shell.output()])
    assert (b"/no/such/program" in output, shell.exit_code) == (True, 127)
    await shell.close()


async def test_there_is_no_shell_where_nothing_runs(client: NomadClient, running: Allocation) -> None:
    for alloc, task in ((UNKNOWN, "main"), (running.id, "nothing")):
        with pytest.raises(JobNotThere):
            await client.exec(alloc, task, ("sh",))
    await client.register(job("ucloud-over", "exit 0"))
    over = await one(client, "ucloud-over", "complete")
    with pytest.raises(JobNotThere):
        await client.exec(over.id, "main", ("sh",))


async def test_a_shell_whose_task_is_stopped_says_that_it_broke(client: NomadClient) -> None:
    await client.register(job("ucloud-broken", "exec sleep 600"))
    alloc = await one(client, "ucloud-broken", "running")
    shell = await client.exec(alloc.id, "main", ("/bin/sh",), TerminalSize(80, 24))
    await client.deregister("ucloud-broken")
    with pytest.raises((BackendUnavailable, JobNotThere)):
        async with asyncio.timeout(30):
            async for _ in shell.output():
                pass
            if shell.exit_code is not None:  # its program may also be told to have been killed
                raise BackendUnavailable("ended")
    await shell.close()


async def test_a_folder_of_a_node_is_made_and_deleted(client: NomadClient) -> None:
    capabilities: JSON = [{"AccessMode": "single-node-multi-writer", "AttachmentMode": "file-system"}]
    request: dict[str, JSON] = {"Name": "ucloud-v", "Type": "host", "PluginID": "mkdir", "RequestedCapabilities": capabilities}
    made = await client.host_volume_create(request)
    assert _is_folder(made.host_path)
    assert [volume.id for volume in await client.host_volumes("ucloud-")] == [made.id]
    await client.host_volume_delete(made.id)
    await client.host_volume_delete(made.id)
    assert not _is_folder(made.host_path)
    assert await client.host_volumes("ucloud-") == []
    with pytest.raises(RegistrationRefused, match="could not place volume"):
        await client.host_volume_create(request | {"PluginID": "nothing"})


async def test_with_acls_on_nothing_is_taken_for_an_answer() -> None:
    """An anonymous listener gets 200 and nothing from Nomad: that is told as a missing right, like every other refusal."""
    async with nomad_alone.agent(acl=True) as real, open_client(settings(real.address, timeout_ms=2_000), environ={}) as client:
        with pytest.raises(NotAllowed, match="submit-job"):
            await client.register(job("ucloud-acl", "exit 0"))
        with pytest.raises(NotAllowed, match="read-job"):
            await client.job("ucloud-acl")
        with pytest.raises(BackendUnavailable, match="token"):
            async with asyncio.timeout(20), aclosing(client.events(0)) as events:
                async for _ in events:
                    pass
