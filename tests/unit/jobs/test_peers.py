"""Connections to other jobs: hostnames that work, told apart, each for one job."""

from __future__ import annotations

import pytest
from fakes.applications import PATH, app, declared, given, spec
from serai_backends.model import Peer
from serai_server.errors import InvalidRequest
from serai_server.jobs.peers import peers_of


def peer(hostname: str, job_id: str = "7") -> str:
    return f'peer {{ hostname: "{hostname}" job_id: "{job_id}" }}'


def peers(resources: str = "", **values: str) -> tuple[Peer, ...]:
    job = spec(resources, **values)
    return peers_of(job, given(app(declared("", **values)), job), "1", PATH)


def test_parameters_come_first_and_the_same_peer_counts_once() -> None:
    """By the parameters' names, then the resources in their order."""
    found = peers(f"resources {{ {peer('web', '9')} }} resources {{ {peer('db')} }}", z=peer("db"), a=peer("cache.internal", "8"))
    assert found == (Peer("cache.internal", "8"), Peer("db", "7"), Peer("web", "9"))


@pytest.mark.parametrize(
    "hostname",
    ["", "a b", "-a", "a-", "a..b", ".a", "a.", "ä", "a_b", "a" * 64, ".".join(["a" * 49] * 6), "a\\n", "localhost", "LocalHost",
     "localhost.x", "node-0", "Node-12"],
)  # fmt: skip
def test_a_name_that_is_none(hostname: str) -> None:
    """No DNS name, too long, or one that replicas have already."""
    with pytest.raises(InvalidRequest) as error:
        peers(v=peer(hostname))
    assert error.value.field == f'{PATH}.parameters["v"].hostname'


@pytest.mark.parametrize("hostname", ["a", "A-1.b", "node", "node-x", "a" * 63, "1"])
def test_a_name_that_is_one(hostname: str) -> None:
    """Letters, digits, dots, hyphens in between."""
    assert peers(v=peer(hostname)) == (Peer(hostname, "7"),)


@pytest.mark.parametrize("job_id", ["", "../x", "1"])
def test_a_job_that_cannot_be_a_peer(job_id: str) -> None:
    """No id of a job, or the job itself."""
    with pytest.raises(InvalidRequest) as error:
        peers(f"resources {{ {peer('db', job_id)} }}")
    assert error.value.field == f"{PATH}.resources[0].jobId"


@pytest.mark.parametrize(("one", "other"), [("db", "db"), ("db", "DB"), ("db", "db-0"), ("db", "db-12")])
def test_one_name_for_two_jobs(one: str, other: str) -> None:
    """Case does not tell names apart, and `{hostname}-N` is rank N of a peer."""
    with pytest.raises(InvalidRequest) as error:
        peers(f"resources {{ {peer(one)} }} resources {{ {peer(other, '8')} }}")
    assert error.value.field == f"{PATH}.resources[1].hostname"
