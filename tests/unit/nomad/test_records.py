"""Rows of jobs survive; many are written in one transaction; a folder has one server."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING

import msgspec
import pytest
from fakes.nomad_words import spec_of
from hypothesis import given
from hypothesis import strategies as st
from serai_backends.errors import BackendUnavailable
from serai_backends.model import End, JobObservation, Mount, Peer, Phase, ReplicaObservation, ReplicaSpec, Why
from serai_backends.nomad import records
from serai_backends.nomad.records import NAME, Record, Stage, StopReason, open_records, read_record

if TYPE_CHECKING:
    from pathlib import Path


def row(job_id: str, sequence: int, stage: Stage = Stage.QUEUED) -> Record:
    return Record(job_id=job_id, sequence=sequence, stage=stage, spec=spec_of(job_id))


async def test_rows_are_there_for_the_next_server_in_order_of_arrival(tmp_path: Path) -> None:
    """Whatever was written last of each."""
    opened, rows = open_records(tmp_path)
    assert rows == []
    await opened.save(row("b", 2), row("a", 1), row("c", 3))
    await opened.save(row("b", 2, Stage.OPENED))
    await opened.delete("c")
    await opened.delete("none")
    assert read_record(tmp_path, "b") == row("b", 2, Stage.OPENED)
    assert read_record(tmp_path, "c") is None
    await opened.close()
    again, rows = open_records(tmp_path)
    await again.close()
    assert rows == [row("a", 1), row("b", 2, Stage.OPENED)]


async def test_a_thousand_rows_cost_few_transactions(tmp_path: Path) -> None:
    """Those that wait are written together."""
    opened, _ = open_records(tmp_path)
    syncs: list[int] = []
    committed = opened._commit
    opened._commit = lambda batch: (syncs.append(len(batch)), committed(batch))[1]  # type: ignore[method-assign]
    await asyncio.gather(*(opened.save(row(str(number), number)) for number in range(1_000)))
    await opened.close()
    assert sum(syncs) == 1_000
    assert len(syncs) < 50


async def test_a_caller_that_goes_away_splits_nothing(tmp_path: Path) -> None:
    """Its row is written all the same, and the next ones too."""
    opened, _ = open_records(tmp_path)
    task = asyncio.create_task(opened.save(row("a", 1), row("b", 2)))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await opened.save(row("c", 3))
    await opened.close()
    again, rows = open_records(tmp_path)
    await again.close()
    assert [found.job_id for found in rows] == ["a", "b", "c"]


async def test_a_folder_has_one_server(tmp_path: Path) -> None:
    """The second is told whose it is; and nothing can be written after a close."""
    opened, _ = open_records(tmp_path)
    with pytest.raises(BackendUnavailable, match="another server"):
        open_records(tmp_path)
    await opened.close()
    with pytest.raises(BackendUnavailable, match="closed"):
        await opened.save(row("a", 1))


async def test_a_disk_that_refuses_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody believes that a row is stored."""
    opened, _ = open_records(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(opened, "_database", sqlite3.connect(":memory:", check_same_thread=False))
        with pytest.raises(BackendUnavailable, match="cannot write"):
            await opened.save(row("a", 1))
        opened._database.close()
    await opened.save(row("b", 2))
    await opened.close()


def test_files_of_others_are_refused_in_words(tmp_path: Path) -> None:
    """A newer form, and what is no database."""
    with sqlite3.connect(tmp_path / NAME) as database:
        database.execute("PRAGMA user_version = 9")
    database.close()
    with pytest.raises(BackendUnavailable, match="newer Serai"):
        open_records(tmp_path)
    (tmp_path / NAME).write_bytes(b"no database at all, but long enough to be one" * 50)
    with pytest.raises(BackendUnavailable, match="cannot be read"):
        open_records(tmp_path)


texts = st.text(max_size=8)
replicas = st.builds(ReplicaObservation, rank=st.integers(0, 9), phase=st.sampled_from(Phase), end=st.sampled_from(End), cause=texts)
observations = st.builds(JobObservation, job_id=texts, phase=st.sampled_from(Phase), replicas=st.lists(replicas, max_size=2).map(tuple))
specs = st.builds(
    ReplicaSpec,
    job_id=texts,
    replicas=st.integers(1, 9),
    argv=st.lists(texts).map(tuple),
    environment=st.lists(st.tuples(texts, texts)).map(tuple),
    resources=st.just(spec_of().resources),
    output_folder=texts,
    mounts=st.lists(st.builds(Mount, texts, texts, st.booleans()), max_size=2).map(tuple),
    peers=st.lists(st.builds(Peer, texts, texts), max_size=2).map(tuple),
)


@given(
    st.builds(
        Record,
        job_id=texts,
        sequence=st.integers(0, 1 << 40),
        stage=st.sampled_from(Stage),
        spec=specs,
        stop=st.none() | st.sampled_from(StopReason),
        failure=st.none() | st.tuples(st.sampled_from(Why), texts),
        observation=st.none() | observations,
    )
)
def test_a_row_is_read_as_it_was_written(record: Record) -> None:
    """Every field, whatever texts stand in it."""
    assert records._decode(records._encode(record)) == record
    assert msgspec.json.decode(records._encode(record))
