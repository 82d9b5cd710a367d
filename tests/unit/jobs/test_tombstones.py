"""Rows of jobs that nobody here knows."""

from __future__ import annotations

import pytest
from fakes.usecases import job
from serai_server.jobs.tombstones import tombstone


@pytest.mark.parametrize(("said", "kept"), [(-5, 1), (0, 1), (3, 3), (2**31 - 1, 10_000)])
def test_as_many_replicas_as_there_can_be(said: int, kept: int) -> None:
    """Whatever Core says of the job: following its output goes through all ranks."""
    assert tombstone(job("1", replicas=said), 1).replicas == kept
