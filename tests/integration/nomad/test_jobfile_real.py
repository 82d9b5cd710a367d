"""What the job file asks for, on a real agent in each driver. Skipped by name where there is none."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import msgspec
import pytest
from fakes.nomad_node import Agent, exit_code, let_pass
from serai_backends.model import Mount, ReplicaSpec, Resources
from serai_backends.nomad import names
from serai_backends.nomad.jobfile import JobFolders, Prepared, build
from serai_backends.nomad.jobfile.codes import BEGUN, FOLDER_NOT_OURS, NOT_EXECUTABLE, NOT_FOUND, RAN_BEFORE, explain
from serai_backends.nomad.settings import Driver, Firewall, NomadSettings, Placement

IMAGE = "acme/batch:1.0.0"
BRIDGE = "172.26.64.1"
BATCH = Path(__file__).parents[3] / "examples" / "acme-batch"
WORDS = (
    "a b",
    "",
    "$HOME ${HOME} ${env.HOME} ${attr.kernel.name} ${NOMAD_ALLOC_ID}",
    '{{ env "HOME" }}{{ key "x" }}',
    "<serai< >serai> <1serai<",
    "'\"\\\n\t`id`\r",
    "%{ if true } æ 🦀",
    "-x",
    "=",
    "a=b",
    "*",
    "~",
    "\x01\x7f",
    "x" * 100_000,
)
pytestmark = pytest.mark.timeout(240)
_numbers = count(1)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    folder = tmp_path_factory.mktemp("nomad")
    let_pass(folder)
    shutil.copytree(BATCH, folder / "programs")
    agent = Agent(folder / "agent", folder / "programs")
    yield agent
    agent.close()


class Cluster:
    """Settings, folders and short words for one test."""

    def __init__(self, agent: Agent, drives: Path, driver: Driver) -> None:
        agent.has(driver, IMAGE if driver == "docker" else "")
        self.agent, self.drives = agent, drives
        self.settings = NomadSettings(
            state_dir="/nowhere", provider="test", drives_dir=str(drives), raw_exec=True, placements=(Placement(driver=driver),)
        )

    def spec(self, *argv: str, replicas: int = 1) -> ReplicaSpec:
        job_id = f"real.{os.getpid()}-{next(_numbers)}"
        return ReplicaSpec(
            job_id=job_id,
            replicas=replicas,
            argv=argv,
            environment=(("GREETING", "a b=c"),),
            resources=Resources(1, 64 << 20),
            output_folder=f"home/Jobs/a title/{job_id}",
            image=IMAGE,
        )

    def prepare(self, spec: ReplicaSpec) -> Prepared:
        return JobFolders(self.settings).prepare(spec, set())

    def start(self, spec: ReplicaSpec) -> str:
        """Prepared, its variable written first where it is one rank, registered; several ranks are opened when all are placed."""
        job = build(spec, 1, self.prepare(spec), self.settings)
        nomad_id = names.nomad_id(spec.job_id, 1)
        if spec.replicas == 1:
            self.agent.write(nomad_id)
        self.agent.register(job)
        if spec.replicas > 1:
            self.agent.write(nomad_id, "\n".join(self.agent.addresses(nomad_id, spec.replicas)))
        return nomad_id

    def run(self, spec: ReplicaSpec) -> list[tuple[int, int]]:
        return [exit_code(each) for each in self.agent.over(self.start(spec), spec.replicas)]

    def file(self, spec: ReplicaSpec, name: str) -> Path:
        return self.drives / spec.output_folder / name

    def said(self, spec: ReplicaSpec, name: str = "stdout.txt") -> str:
        return self.file(spec, name).read_bytes().decode()


@pytest.fixture
def drives(tmp_path: Path) -> Path:
    let_pass(tmp_path)
    (tmp_path / "drives").mkdir()
    return tmp_path / "drives"


@pytest.fixture(params=["docker", "raw_exec"])
def cluster(request: pytest.FixtureRequest, agent: Agent, drives: Path) -> Cluster:
    return Cluster(agent, drives, "docker" if request.param == "docker" else "raw_exec")


@pytest.fixture
def docker(agent: Agent, drives: Path) -> Cluster:
    return Cluster(agent, drives, "docker")


def test_the_batch_program_of_the_example_runs(cluster: Cluster) -> None:
    """Its words, its report in the job's folder, owned by the drive's user."""
    program = "acme-batch" if cluster.settings.placements[0].driver == "docker" else str(cluster.agent.programs / "acme-batch")
    spec = cluster.spec(program, "--debug", "true", "ä b")
    assert cluster.run(spec) == [(0, 0)]
    assert "acme-batch 1.0.0 starts" in cluster.said(spec) and "value: ä b" in cluster.said(spec, "report.txt")
    assert cluster.file(spec, "report.txt").stat().st_uid == (cluster.drives / "home").stat().st_uid >= cluster.settings.uid_first


def test_words_arrive_byte_by_byte(cluster: Cluster) -> None:
    """Arguments, environment with names that no shell takes, files."""
    spec = replace(cluster.spec("printf", "[%s]\\n", *WORDS), files=(("${a} {{b}}", WORDS[3]),))
    assert cluster.run(spec) == [(0, 0)], cluster.said(spec, "stderr.txt")
    assert cluster.said(spec) == "".join(f"[{word}]\n" for word in WORDS)
    assert cluster.said(spec, "${a} {{b}}") == WORDS[3]
    odd = (("odd.name", "${HOME}"), ("-x", "1"), ("IFS", "x"), ("PATH", "/bin:/usr/bin"), ("rank", "9"), ("UID", "7"), ("PPID", "8"))
    environment = (*((f"E{number}", word) for number, word in enumerate(WORDS)), *odd)
    spec = replace(cluster.spec("cat", "/proc/self/environ"), environment=environment)
    assert cluster.run(spec) == [(0, 0)], cluster.said(spec, "stderr.txt")
    found = {name: value for name, _, value in (entry.partition("=") for entry in cluster.said(spec).split("\0"))}
    assert {name: found.get(name) for name, _ in environment} == dict(environment)
    assert not [name for name in found if name.startswith("SERAI")]


@pytest.mark.parametrize(
    ("argv", "code", "mark"),
    [
        (("sh", "-c", "exit 7"), 7, None),
        (("sh", "-c", "exit 127"), 127, None),
        (("sh", "-c", f"exit {NOT_FOUND}"), NOT_FOUND, None),
        (("no-such-program",), NOT_FOUND, NOT_FOUND),
        (("/etc/hosts",), NOT_EXECUTABLE, NOT_EXECUTABLE),
        (("/etc",), NOT_EXECUTABLE, NOT_EXECUTABLE),
    ],
)
def test_a_start_that_failed_is_told_from_a_program_that_did(cluster: Cluster, argv: tuple[str, ...], code: int, mark: int | None) -> None:
    """By the code and the mark together."""
    spec = cluster.spec(*argv)
    assert cluster.run(spec) == [(code, 0)]
    assert JobFolders(cluster.settings).marks(spec, 0) == {mark or BEGUN}


def test_what_a_replica_sees(cluster: Cluster) -> None:
    """/etc/ucloud, inputs by links, a script that cannot be changed, and no rights beyond the user's own."""
    data = cluster.drives / "home" / "data"
    line = """cat /etc/ucloud/script.sh > s
/etc/ucloud/script.sh 1
echo >> /etc/ucloud/script.sh
cat ro/x
echo y >> rw/x
echo no >> ro/x"""
    script = """#!/bin/sh
cd /etc/ucloud && cat rank.txt cores.txt number_of_nodes.txt job_id.txt nodes.txt
grep -E 'CapEff|NoNew' /proc/self/status"""
    mounts = (Mount("home/data", "/work/ro", read_only=True), Mount("home/data", "/work/rw"))
    spec = replace(cluster.spec("sh", "-c", line), scripts=(script,), mounts=mounts)
    owner = JobFolders(cluster.settings).prepare(replace(spec, mounts=()), set())
    data.mkdir()
    (data / "x").write_text("input\n")
    for path in (data, data / "x"):
        os.chown(path, owner.uid or 0, owner.gid or 0)
    assert cluster.run(spec)[0][0] != 0
    lines = cluster.said(spec).splitlines()
    assert lines[:5] == ["0", "1", "1", spec.job_id, "node-0"]
    assert [line.split()[1] for line in lines[5:7]] == ["0000000000000000", "1"]
    assert lines[7:] == ["input"]
    assert (data / "x").read_text() == "input\ny\n"
    assert cluster.said(spec, "s") == spec.scripts[0] + "\n"


def test_three_ranks_find_each_other(docker: Cluster) -> None:
    """By the names and addresses of /etc/ucloud, over TCP; nobody starts before all have addresses."""
    line = """r=$(cat /etc/ucloud/rank.txt) next=$(( (r + 1) % 3 ))
nc -l -p 7000 -e sh -c "cat > got-$r" &
until echo from $r | nc node-$next 7000; do sleep 0.05; done
wait
cat /etc/ucloud/node-$next.txt"""
    for enabled in (False, True):
        docker.settings = msgspec.structs.replace(docker.settings, firewall=Firewall(enabled=enabled))
        spec = docker.spec("sh", "-c", line, replicas=3)
        assert docker.run(spec) == [(0, 0)] * 3
        assert [docker.said(spec, f"got-{rank}") for rank in range(3)] == ["from 2\n", "from 0\n", "from 1\n"]
        assert len({docker.said(spec, name) for name in ("stdout.txt", "stdout-1.txt", "stdout-2.txt")}) == 3


def connects(address: str, port: int, *, seconds: float = 0.5) -> bool:
    try:
        socket.create_connection((address, port), seconds).close()
    except OSError:
        return False
    return True


SERVE = """nc -ll -p 7000 -e true &
while :; do
    for t in $(cat targets 2> /dev/null); do
        if nc -w 1 ${t%:*} ${t#*:} < /dev/null > /dev/null 2>&1; then echo $t yes; else echo $t no; fi
    done
    sleep 0.1
done"""


def test_the_firewall_closes_both_directions_and_opens_by_the_variable(docker: Cluster) -> None:
    """Other jobs, the bridge and closed networks: neither reached nor reaching; a peer is, within a second, and is cut off again."""
    docker.settings = msgspec.structs.replace(docker.settings, firewall=Firewall(enabled=True))
    with socket.create_server((BRIDGE, 0)) as here:
        first, second = (docker.spec("sh", "-c", SERVE) for _ in range(2))
        ids = [docker.start(each) for each in (first, second)]
        a, b = (docker.agent.addresses(each, 1)[0] for each in ids)
        docker.file(first, "targets").write_text(f"{b}:7000 {BRIDGE}:{here.getsockname()[1]} {a}:7000")

        def verdicts() -> dict[str, str]:
            said = docker.said(first).splitlines()
            docker.file(first, "stdout.txt").write_bytes(b"")
            return dict(line.split() for line in said if line.count(" ") == 1)

        def seen(target: str, verdict: str) -> bool:
            return verdicts().get(target) == verdict

        docker.agent.until(lambda: seen(f"{a}:7000", "yes"), "it reaches itself")
        docker.agent.until(lambda: seen(f"{b}:7000", "no"), "not another job")
        docker.agent.until(lambda: seen(f"{BRIDGE}:{here.getsockname()[1]}", "no"), "not the bridge")
        assert not connects(a, 7000)
        docker.agent.write(ids[0], peers=b)
        docker.agent.write(ids[1], peers=a)
        opened = docker.agent.until(lambda: seen(f"{b}:7000", "yes"), "a peer is reached")
        docker.agent.write(ids[1])
        closed = docker.agent.until(lambda: seen(f"{b}:7000", "no"), "it is cut off by the other's rules alone")
        print(f"opened after {opened:.2f} s, closed after {closed:.2f} s")
        assert opened < 10 and closed < 10


def test_what_is_sent_to_all_does_not_reach_the_node(agent: Agent, drives: Path) -> None:
    """Services of the node hear broadcasts and multicasts of its bridge."""
    cluster = Cluster(agent, drives, "raw_exec")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
        here.bind(("0.0.0.0", 0))
        here.settimeout(1)
        line = f"""from socket import *
one = socket(AF_INET, SOCK_DGRAM)
one.setsockopt(SOL_SOCKET, SO_BROADCAST, 1)
for to in ("255.255.255.255", "224.0.0.1"):
    try: one.sendto(b"heard", (to, {here.getsockname()[1]}))
    except PermissionError: print("closed")"""
        for enabled, said in ((False, ""), (True, "closed\nclosed\n")):
            cluster.settings = msgspec.structs.replace(cluster.settings, firewall=Firewall(enabled=enabled))
            spec = cluster.spec("python3", "-c", line)
            assert cluster.run(spec) == [(0, 0)], cluster.said(spec, "stderr.txt")
            assert cluster.said(spec) == said
            if enabled:
                with pytest.raises(TimeoutError):
                    here.recv(99)
            else:
                assert [here.recv(99) for _ in range(2)] == [b"heard"] * 2


def test_web_ports_are_open_to_proxies_only(docker: Cluster) -> None:
    """The node's end of the bridge stands for the proxy, with no jobs' network said to be around it: its port, and no other."""
    walled = Firewall(enabled=True, proxies=(f"{BRIDGE}/32",), job_networks=(), closed=("172.26.64.0/20",))
    docker.settings = msgspec.structs.replace(docker.settings, firewall=walled)
    spec = replace(docker.spec("sh", "-c", "nc -ll -p 7001 -e true & nc -ll -p 7000 -e true"), ports=(7000,))
    nomad_id = docker.start(spec)
    address = docker.agent.addresses(nomad_id, 1)[0]
    docker.agent.until(lambda: connects(address, 7000), "the port is open")
    assert not connects(address, 7001)
    ports = docker.agent.allocations(nomad_id)[0].allocated_resources
    assert ports is not None and ports.shared is not None
    assert [(port.label, port.to) for port in ports.shared.ports or ()] == [("port-7000", 7000)]


def test_without_rules_nothing_runs(docker: Cluster) -> None:
    """A node without nft: the program is never started."""
    docker.settings = msgspec.structs.replace(docker.settings, firewall=Firewall(enabled=True, nft="/no/such/nft"))
    spec = docker.spec("sh", "-c", "echo ran")
    found = docker.agent.over(docker.start(spec))
    assert found[0].client_status == "failed"
    assert docker.said(spec) == "" and exit_code(found[0], names.FIREWALL)[0] == 1


def test_a_second_start_is_refused(cluster: Cluster) -> None:
    """Whatever Nomad does: here the job is purged behind our back and registered again."""
    spec = cluster.spec("sh", "-c", "echo ran")
    assert cluster.run(spec) == [(0, 0)]
    nomad_id = names.nomad_id(spec.job_id, 1)
    cluster.agent.call("DELETE", f"/v1/job/{nomad_id}?purge=true")
    cluster.agent.until(lambda: cluster.agent.call("GET", f"/v1/job/{nomad_id}") is None, "purged")
    assert cluster.run(spec) == [(RAN_BEFORE, 0)]
    assert cluster.said(spec) == "ran\n"


def test_a_folder_that_was_swapped_for_a_link_is_not_entered(cluster: Cluster) -> None:
    """Between the server's check and the node's mount: neither read nor written, and nothing runs."""
    victim = cluster.drives.parent / "victim"
    victim.mkdir()
    victim.chmod(0o777)
    spec = cluster.spec("sh", "-c", "echo ran; touch x")
    job = build(spec, 1, cluster.prepare(spec), cluster.settings)
    shutil.rmtree(cluster.drives / spec.output_folder)
    (cluster.drives / spec.output_folder).symlink_to(victim)
    nomad_id = names.nomad_id(spec.job_id, 1)
    cluster.agent.write(nomad_id)
    cluster.agent.register(job)
    assert exit_code(cluster.agent.over(nomad_id)[0]) == (FOLDER_NOT_OURS, 0)
    assert list(victim.iterdir()) == []


def test_links_swapped_while_it_runs_lead_nowhere(cluster: Cluster) -> None:
    """The input's link, and a folder inside its drive, lead to the node's files by no way that the user can make."""
    (cluster.drives / "other").mkdir(mode=0o700)
    (cluster.drives / "other" / "secret").write_text("secret")
    spec = replace(
        cluster.spec("sh", "-c", "cat in/up/other/secret in/out/other/secret /run/ucloud/drives/rw/other/secret; exit 0"),
        mounts=(Mount("home/data", "/work/in"),),
    )
    owner = JobFolders(cluster.settings).prepare(replace(spec, mounts=()), set())
    data = cluster.drives / "home" / "data"
    data.mkdir()
    os.chown(data, owner.uid or 0, owner.gid or 0)
    (data / "up").symlink_to("../..")
    (data / "out").symlink_to(cluster.drives)
    assert cluster.run(spec) == [(0, 0)]
    assert cluster.said(spec) == ""


def test_stop_reaches_the_program_itself(cluster: Cluster) -> None:
    """SIGTERM arrives at the program: no shell stands between."""
    spec = cluster.spec("sh", "-c", "trap 'echo got it; exit 5' TERM; echo ready; while :; do sleep 0.05; done")
    nomad_id = cluster.start(spec)
    cluster.agent.until(lambda: "ready" in cluster.said(spec), "it runs")
    cluster.agent.stop(nomad_id)
    assert exit_code(cluster.agent.over(nomad_id)[0]) == (5, 0)
    assert cluster.said(spec) == "ready\ngot it\n"


def test_root_inside_is_the_user_outside(agent: Agent, drives: Path) -> None:
    """On a bare node by a user namespace."""
    cluster = Cluster(agent, drives, "raw_exec")
    spec = replace(cluster.spec("sh", "-c", "id -u; touch made; stat -c %u made; nft list ruleset || echo no"), run_as_root=True)
    assert cluster.run(spec) == [(0, 0)]
    assert cluster.said(spec).split()[:2] == ["0", "0"]
    assert cluster.file(spec, "made").stat().st_uid >= cluster.settings.uid_first


def test_an_image_without_a_shell_is_told_from_a_program_that_is_missing(docker: Cluster) -> None:
    """Docker's own init says 127, as any program could; but the start script never began."""
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("nothing"))
        file.seek(0)
        subprocess.run(["docker", "import", "-", "serai-test/no-shell:1"], stdin=file, check=True, capture_output=True)
    try:
        spec = replace(docker.spec("x"), image="serai-test/no-shell:1")
        assert docker.run(spec) == [(127, 0)]
    finally:
        subprocess.run(["docker", "image", "rm", "-f", "serai-test/no-shell:1"], check=True, capture_output=True)
    found = explain(127, 5, JobFolders(docker.settings).marks(spec, 0))
    assert found is not None and "/bin/sh" in found[1]


def volume(cluster: Cluster, name: str) -> str:
    """A dynamic host volume as a job of `work = "volume"` has it; its id. Not usable before its state says so."""
    parameters = {"mode": "0770", "uid": "65534", "gid": "65534"}
    wanted = {"AccessMode": "single-node-multi-writer", "AttachmentMode": "file-system"}
    body = {"Volume": {"Name": name, "PluginID": "mkdir", "RequestedCapabilities": [wanted], "Parameters": parameters}}
    made = str(cluster.agent.call("PUT", "/v1/volume/host/create", body)["Volume"]["ID"])
    cluster.agent.until(lambda: bool(cluster.agent.call("GET", f"/v1/volume/host/{made}")["State"] == "ready"), "the volume is ready")
    return made


@pytest.mark.parametrize("driver", ["exec", "docker"])
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_volume_of_the_nodes_own_is_work(agent: Agent, drives: Path, driver: Driver, ranks: int) -> None:
    """The batch program, /etc/ucloud, files and script with no folder that server and node share."""
    cluster = Cluster(agent, drives, driver)
    cluster.settings = msgspec.structs.replace(cluster.settings, work="volume", network="host" if driver == "exec" else "bridge")
    script = "#!/bin/sh\ncd /etc/ucloud; cat rank.txt number_of_nodes.txt nodes.txt node-*.txt /work/in > /local/seen; exec acme-batch ä"
    spec = replace(
        cluster.spec("/etc/ucloud/script.sh", replicas=ranks),
        scripts=(script,),
        files=(("in", "{{ x }}\n"),),
        environment=(("ACME_OUTPUT", "/local"),),
    )
    nomad_id = names.nomad_id(spec.job_id, 1)
    made = volume(cluster, nomad_id)
    try:
        job = build(spec, 1, cluster.prepare(spec), cluster.settings)
        agent.write(nomad_id, "self" if ranks == 1 else "10.0.0.1\n10.0.0.2")
        agent.register(job)
        found = agent.over(nomad_id, ranks)
        assert [exit_code(each) for each in found] == [(0, 0)] * ranks
        for rank, each in enumerate(found):
            # not from the log: what docker's says through Nomad can be less than all
            said = agent.text(f"/v1/client/fs/cat/{each.id}?path=main/local/seen").splitlines()
            assert said[: 2 + ranks] == [str(rank), str(ranks), *(f"node-{number}" for number in range(ranks))]
            own = said[2 + ranks]
            assert said[2 + ranks :] == [*(["10.0.0.1", "10.0.0.2"] if ranks == 2 else [own]), "{{ x }}"] and own.count(".") == 3
            assert "value: ä" in agent.text(f"/v1/client/fs/cat/{each.id}?path=main/local/report.txt")
    finally:
        agent.stop(nomad_id)
        agent.call("DELETE", f"/v1/volume/host/{made}/delete")


@pytest.mark.parametrize("driver", ["raw_exec", "docker"])
def test_scratch_is_the_allocations_own(agent: Agent, drives: Path, driver: Driver) -> None:
    """/work can be written, and the program's folder is it; nothing is left of it on the server."""
    cluster = Cluster(agent, drives, driver)
    cluster.settings = msgspec.structs.replace(cluster.settings, work="scratch")
    spec = cluster.spec("sh", "-c", "pwd > made; cat made")
    found = agent.over(cluster.start(spec))
    assert exit_code(found[0]) == (0, 0)
    assert agent.text(f"/v1/client/fs/cat/{found[0].id}?path=alloc/data/made") == "/work\n"
    assert list(drives.iterdir()) == []


def test_many_starts_at_once_run_each_once(agent: Agent, drives: Path) -> None:
    """8 jobs on one node share its mount points and do not see each other's."""
    cluster = Cluster(agent, drives, "raw_exec")
    specs = [cluster.spec("sh", "-c", "cat /etc/ucloud/job_id.txt") for _ in range(8)]
    threads = [threading.Thread(target=cluster.start, args=(spec,)) for spec in specs]
    for spec in specs:
        cluster.prepare(spec)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for spec in specs:
        assert exit_code(agent.over(names.nomad_id(spec.job_id, 1))[0]) == (0, 0)
        assert cluster.said(spec) == f"{spec.job_id}\n"
