"""What a backend is given of a job: everything that was asked for, made anew from what is stored."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes.clock import FakeClock
from fakes.jobs import seed_job, stored_job
from fakes.license_servers import no_licenses
from google.protobuf import text_format
from serai.jobs.v1.job_pb2 import Job
from serai.jobs.v1.jobs_service_pb2 import JobNotes
from serai_backends.errors import SubmissionRefused
from serai_backends.model import Features, Mount, Peer, ReplicaSpec, Resources, Why
from serai_server.errors import InvalidRequest
from serai_server.jobs.inputs import MappedDrive
from serai_server.jobs.products import MINUTE_MS, Product
from serai_server.jobs.spec import Around, Policy, replica_spec
from serai_server.jobs.templates import Renderer
from serai_server.store.model import State, StoredJob

PRODUCT = Product("c1", "c", "example", Resources(4, 8 << 30, 1), MINUTE_MS)
FEATURES = Features(inputs=True, peers=True)
POLICY = Policy(
    most_replicas=64, undeclared_parameters=True, drive=lambda user, _: user, mapped={"10": MappedDrive(read_only=True)}, todays_texts=True
)


async def spec_of(job: Job, replicas: int = 1, policy: Policy = POLICY, *others: StoredJob, project: str = "") -> ReplicaSpec:
    """`others`: the jobs that the server has beside this one."""
    row = stored_job(body=job.SerializeToString(), replicas=replicas, time_limit_ms=60_000, project=project)

    async def find(job_id: str) -> StoredJob | None:
        return next((other for other in others if other.id == job_id), None)

    return await replica_spec(row, PRODUCT, FEATURES, Around(policy, Renderer(FakeClock()), find, no_licenses()))


async def test_the_seeds_job() -> None:
    """The seed's batch job as it always was, with its limit for the backend's estimates."""
    assert await spec_of(seed_job(), policy=replace(POLICY, todays_texts=False, mapped={})) == ReplicaSpec(
        job_id="54112",
        replicas=1,
        argv=("acme-batch", "--debug", "true", "Hello, World!"),
        environment=(),
        resources=PRODUCT.resources,
        output_folder="user/Jobs/Acme batch/54112",
        image="acme/batch:1.0.0",
        product="c/c1",
        time_limit_ms=60_000,
    )


async def test_inputs_peers_and_files() -> None:
    """Mounts and peers of parameters and resources, the command with the mounted names, the container's wishes, and JobParameters.json
    as it came, for people to read."""
    job = seed_job()
    invocation = job.status.resolved_application.invocation
    invocation.parameters.add().input_file.name = "in"
    invocation.invocation.add().var.variable_names.append("in")
    invocation.container.run_as_root = True
    invocation.container.change_working_directory = False
    job.specification.parameters["in"].file.path = "/10/data/in.txt"
    job.specification.resources.add().file.path = "/user/in.txt"
    peer = job.specification.resources.add().peer
    peer.hostname, peer.job_id = "db", "7"
    job.status.job_parameters_json = '{"siteVersion":3,"big":12345678901234567890.10,"t":"\\u00e6 é"}'
    spec = await spec_of(job, 1, POLICY, stored_job(id="7"))
    assert spec.argv[-1] == "/work/in.txt"
    assert spec.mounts == (Mount("10/data/in.txt", "/work/in.txt", read_only=True), Mount("user/in.txt", "/work/in (2).txt"))
    assert spec.peers == (Peer("db", "7"),)
    assert (spec.run_as_root, spec.change_working_directory) == (True, False)
    assert spec.files == (("JobParameters.json", '{\n  "siteVersion": 3,\n  "big": 12345678901234567890.10,\n  "t": "\\u00e6 é"\n}\n'),)


def acl(entry: str) -> bytes:
    return text_format.Parse(f"acl {{ {entry} }}", JobNotes()).SerializeToString()


EDIT = "permissions: PERMISSION_READ permissions: PERMISSION_EDIT"
MINE = "user"
"""Owner of the job that wants to reach another one."""


@pytest.mark.parametrize(
    ("project", "other"),
    [
        ("", stored_job(id="7", owner=MINE)),
        ("p1", stored_job(id="7", owner="alice", project="p1")),
        ("", stored_job(id="7", owner="alice", notes=acl(f'entity {{ user {{ username: "{MINE}" }} }} {EDIT}'))),
        ("p1", stored_job(id="7", owner="alice", notes=acl(f'entity {{ user {{ username: "{MINE}" }} }} permissions: PERMISSION_ADMIN'))),
    ],
    ids=["own", "project", "edit", "admin"],
)
async def test_a_peer_that_may_be_reached(project: str, other: StoredJob) -> None:
    """Of the same workspace, or one that its owner may edit."""
    job = with_peer()
    assert (await spec_of(job, 1, POLICY, other, project=project)).peers == (Peer("db", "7"),)


@pytest.mark.parametrize(
    ("project", "other"),
    [
        ("", stored_job(id="8", owner=MINE)),
        ("", stored_job(id="7", owner=MINE, state=State.SUCCESS)),
        ("", stored_job(id="7", owner="alice")),
        ("", stored_job(id="7", owner=MINE, project="p1")),
        ("p1", stored_job(id="7", owner=MINE)),
        ("p1", stored_job(id="7", owner=MINE, project="p2")),
        ("", stored_job(id="7", owner="alice", notes=acl(f'entity {{ user {{ username: "{MINE}" }} }} permissions: PERMISSION_READ'))),
        ("", stored_job(id="7", owner="alice", notes=acl(f'entity {{ user {{ username: "bob" }} }} {EDIT}'))),
        ("p1", stored_job(id="7", owner="alice", notes=acl(f'entity {{ project_group {{ project_id: "p1" group: "{MINE}" }} }} {EDIT}'))),
    ],
    ids=["unknown", "over", "other-user", "other-workspace", "personal", "other-project", "read-only", "somebody-else", "group"],
)
async def test_a_peer_that_may_not_be_reached(project: str, other: StoredJob) -> None:
    """Whatever Core let through: the words are those of a job that is not there, so that ids cannot be tried out."""
    with pytest.raises(SubmissionRefused) as error:
        await spec_of(with_peer(), 1, POLICY, other, project=project)
    assert (str(error.value), error.value.why) == ("db", Why.PEER_GONE)


def with_peer() -> Job:
    job = seed_job()
    peer = job.specification.resources.add().peer
    peer.hostname, peer.job_id = "db", "7"
    return job


async def test_parameters_that_are_no_text_are_written_as_they_came() -> None:
    """Half a character, which JSON allows, cannot be laid out anew."""
    job = seed_job()
    job.status.job_parameters_json = '{"t":"\\ud800"}'
    assert (await spec_of(job)).files == (("JobParameters.json", '{"t":"\\ud800"}\n'),)


def scripted(template: str) -> Job:
    """The seed's job of an application that is one template."""
    job = seed_job()
    invocation = job.status.resolved_application.invocation
    del invocation.invocation[:]
    invocation.invocation.add().jinja.template = template
    return job


async def test_a_script() -> None:
    """The template's text is the program, for bash unless it says otherwise; it sees the values, the machine and the job."""
    spec = await spec_of(
        scripted("run {{ debug | flag('-d') }} {{ value }} {{ ucloud.machine.memoryInGigs }} {{ ucloud.application.name }}")
    )
    assert spec.argv == ("/etc/ucloud/script.sh",)
    assert spec.scripts == ("#!/usr/bin/env bash\nrun '-d' 'Hello, World!' 8 'acme-batch'",)
    own = await spec_of(scripted("#!/usr/bin/env python3\nprint({{ ucloud.jobId }}, {{ ucloud.machine.gpu }}, {{ ucloud.machine.name }})"))
    assert own.scripts == ("#!/usr/bin/env python3\nprint('54112', 1, 'c1')",)


async def test_a_script_for_each_rank() -> None:
    """Where the template asks for its rank."""
    assert (await spec_of(scripted("{{ ucloud.rank }}"), replicas=2)).scripts == ("#!/usr/bin/env bash\n0", "#!/usr/bin/env bash\n1")


async def test_templates_among_others_and_in_the_environment() -> None:
    """One argument, one value; nothing is quoted, because no shell reads them."""
    job = seed_job()
    invocation = job.status.resolved_application.invocation
    invocation.invocation.add().jinja.template = "<{{ value }}>"
    invocation.environment["V"].jinja.template = "{{ debug }} {{ value }}"
    invocation.environment["W"].jinja.template = "<{{ value }}>"
    spec = await spec_of(job)
    assert spec.argv == ("acme-batch", "--debug", "true", "Hello, World!", "<Hello, World!>")
    assert spec.environment == (("V", "True Hello, World!"), ("W", "<Hello, World!>"))


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ 1 / 0 }}", "The application's template cannot be rendered: line 1: division by zero"),
        ("{% if", "unexpected"),
        ("a{{ '\\0' }}", "NUL"),
    ],
)
async def test_a_template_that_fails(template: str, words: str) -> None:
    """The words become the job's FAILURE."""
    with pytest.raises(InvalidRequest) as error:
        await spec_of(scripted(template))
    assert words in error.value.text
