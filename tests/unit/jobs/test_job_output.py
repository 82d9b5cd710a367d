"""What is wrong with a wish for output is said before anything is read."""

from __future__ import annotations

import pytest
from fakes.backends import InstantBackend
from fakes.jobs import stored_job
from serai.jobs.v1.jobs_service_pb2 import FollowRequest
from serai_server.errors import InvalidRequest
from serai_server.jobs.output import Output
from serai_server.jobs.registry import Registry


@pytest.mark.parametrize(
    ("replicas", "ranks", "words"),
    [
        (3, [7], "rank 7: this job has ranks 0 to 2"),
        (3, [0, 3], "rank 3: this job has ranks 0 to 2"),
        (3, [-1], "rank -1: this job has ranks 0 to 2"),
        (1, [1], "rank 1: this job has only rank 0"),
    ],
)
async def test_a_rank_that_the_job_lacks(replicas: int, ranks: list[int], words: str) -> None:
    """The rank that was asked for and those that there are."""
    output = Output(InstantBackend(), Registry())
    with pytest.raises(InvalidRequest) as caught:
        async for _ in output.read(stored_job(replicas=replicas), FollowRequest(job_id="54112", ranks=ranks)):
            pass
    assert (caught.value.text, caught.value.field) == (words, "ranks")
