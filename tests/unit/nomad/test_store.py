"""The views of all jobs: what was forgotten is remembered as that for a while."""

from __future__ import annotations

from pathlib import Path

from fakes.nomad_words import view_of
from serai_backends.nomad.records import Stage, open_records
from serai_backends.nomad.store import Views


async def test_what_was_forgotten_is_known_as_that(tmp_path: Path) -> None:
    """A list that was asked for before may still have it; it must not be taken for a job whose row was lost."""
    records, rows = open_records(tmp_path)
    views = Views(records, rows, shared=False)
    view = await views.add(view_of(Stage.ENDED, job_id="a").record)
    assert view is not None
    assert not views.was_removed(view.nomad_id)
    await views.remove("a")
    assert views.was_removed(view.nomad_id)
    await records.close()
