"""The scripts of a replica, run directly in a mount namespace of their own, by each shell that images and nodes have. No agent needed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from fakes.nomad_node import let_pass
from serai_backends.model import Mount, ReplicaSpec, Resources
from serai_backends.nomad.jobfile import JobFolders, build
from serai_backends.nomad.jobfile.codes import FOLDER_NOT_OURS, NO_ADDRESSES, NOT_EXECUTABLE, NOT_FOUND, NOT_READY, RAN_BEFORE
from serai_backends.nomad.settings import Driver, Firewall, NomadSettings, Placement
from unit.nomad.jobs import task

if TYPE_CHECKING:
    from collections.abc import Callable

    from serai_backends.nomad.jobfile import JobFile

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not all(shutil.which(name) for name in ("unshare", "setpriv", "busybox", "dash")),
    reason="the scripts need root, unshare, setpriv, and the shells dash and busybox",
)
# what a node or a container engine does before: a view of files in which all mounts are private, and the shell that is tried is /bin/sh
_NODE = 'mount --bind "$shell" /bin/sh && exec /bin/sh "$NOMAD_TASK_DIR/serai/node.sh"'
_CONTAINER = """mount --bind "$shell" /bin/sh && mkdir -p /work /etc/ucloud && mount --bind "$folder" /work &&
mount -t tmpfs -o mode=0777 none /etc/ucloud &&
exec setpriv --reuid "$uid" --regid "$uid" --clear-groups --bounding-set=-all --inh-caps=-all /bin/sh "$NOMAD_TASK_DIR/serai/start.sh" """


class Bench:
    """One rank of a job whose files lie where Nomad would have put them."""

    def __init__(self, folder: Path, shell: str, driver: Driver) -> None:
        let_pass(folder)
        self.drives, self.task, self.alloc = folder / "drives", folder / "task", folder / "alloc"
        for each in (self.drives, self.task / "serai", self.alloc):
            each.mkdir(parents=True)
        self.shell, self.driver = shutil.which(shell) or shell, driver
        self.settings = NomadSettings(
            state_dir="/nowhere", provider="p", drives_dir=str(self.drives), raw_exec=True, placements=(Placement(driver=driver),)
        )
        self.uid = -1
        self.spec = ReplicaSpec("job-1", 1, ("true",), (), Resources(3, 0), "home/Jobs/t/job-1", image="x")

    @property
    def folder(self) -> Path:
        return self.drives / self.spec.output_folder

    def lay(self, spec: ReplicaSpec, nodes: str, rank: int = 0) -> int:
        """The user that the job runs as."""
        self.spec = spec
        prepared = JobFolders(self.settings).prepare(spec, set())
        job: JobFile = build(spec, 1, prepared, self.settings)
        templates = task(job, rank)["Templates"]
        assert isinstance(templates, list)
        for each in templates:
            assert isinstance(each, dict)
            name = str(each["DestPath"])
            if name.startswith("local/serai/"):
                file = self.task / name.removeprefix("local/")
                file.write_text(str(each["EmbeddedTmpl"]) if "LeftDelim" in each else nodes if name.endswith("/nodes") else "10.1.1.1 db\n")
                file.chmod(int(str(each["Perms"]), 8))
        assert prepared.uid is not None
        self.uid = prepared.uid
        return self.uid

    def start(self, spec: ReplicaSpec, nodes: str = "self\n", rank: int = 0) -> subprocess.Popen[bytes]:
        self.lay(spec, nodes, rank)
        return self.again()

    def again(self) -> subprocess.Popen[bytes]:
        """Start what was laid, without a look at the folder."""
        environment = {"PATH": os.environ["PATH"], "NOMAD_TASK_DIR": str(self.task), "NOMAD_ALLOC_DIR": str(self.alloc)}
        environment |= {"shell": self.shell, "folder": str(self.folder), "uid": str(self.uid)}
        script = _NODE if self.driver == "raw_exec" else _CONTAINER
        command = ["unshare", "--mount", "--propagation", "private", "--", "/bin/bash", "-c", script]
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)

    def run(self, spec: ReplicaSpec, nodes: str = "self\n", rank: int = 0) -> int:
        return self.start(spec, nodes, rank).wait(30)

    def said(self, name: str = "stdout.txt") -> str:
        return (self.folder / name).read_bytes().decode()


# nodes have util-linux, whose setpriv gives a user up; busybox's cannot, and takes its place in its own shell
@pytest.fixture(params=[("dash", "raw_exec"), ("dash", "docker"), ("busybox", "docker")], ids="-".join)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    shell, driver = request.param
    return Bench(tmp_path, shell, "raw_exec" if driver == "raw_exec" else "docker")


def test_the_files_of_etc_ucloud(bench: Bench) -> None:
    """One line each, nodes.txt one for each node; the same as on the local backend; not to be written."""
    line = 'cd /etc/ucloud; for f in *.txt; do echo "$f: $(tr "\\n" , < $f)"; done; echo x 2> /dev/null > rank.txt || echo closed; pwd -P'
    spec = replace(bench.spec, argv=("/bin/sh", "-c", line), replicas=2)
    assert bench.run(spec, "10.0.0.1\n10.0.0.2\n", 1) == 0
    assert bench.said("stdout-1.txt").splitlines() == [
        "cores.txt: 3,",
        "job_id.txt: job-1,",
        "node-0.txt: 10.0.0.1,",
        "node-1.txt: 10.0.0.2,",
        "nodes.txt: node-0,node-1,",
        "number_of_nodes.txt: 2,",
        "rank.txt: 1,",
        "closed",
        "/etc/ucloud",
    ]


def test_self_is_found_out(bench: Bench) -> None:
    """Without any program: an address of this network namespace that is not the loopback, or the loopback where there is no other."""
    assert bench.run(replace(bench.spec, argv=("cat", "/etc/ucloud/node-0.txt"))) == 0
    table = Path("/proc/net/fib_trie").read_text()
    assert bench.said().strip() in table or bench.said() == "127.0.0.1\n"


@pytest.mark.parametrize("nodes", ["", "\n", "10.0.0.1\n10.0.0.2\n"])
def test_a_wrong_number_of_addresses_is_no_start(bench: Bench, nodes: str) -> None:
    """Nothing runs with half of a job's addresses."""
    assert bench.run(replace(bench.spec, argv=("echo", "ran")), nodes) == NO_ADDRESSES
    assert bench.said() == "" and JobFolders(bench.settings).marks(bench.spec, 0) == {NO_ADDRESSES}


@pytest.mark.parametrize(
    ("argv", "code"),
    [(("none",), NOT_FOUND), (("/none",), NOT_FOUND), (("none/x",), NOT_FOUND), (("/etc",), NOT_EXECUTABLE), (("",), NOT_FOUND)],
)
def test_programs_that_cannot_be_run(bench: Bench, argv: tuple[str, ...], code: int) -> None:
    """Each kind has a code and a mark of its own."""
    assert bench.run(replace(bench.spec, argv=argv)) == code
    assert JobFolders(bench.settings).marks(bench.spec, 0) == {code}


@pytest.mark.parametrize("path", ["/none:/bin:/usr/bin", "/bin", ":/usr/bin:/bin", "/usr/bin:/bin:"])
def test_programs_are_looked_up_by_the_jobs_own_path(bench: Bench, path: str) -> None:
    """Its environment's, as the system would; an empty part is the present folder."""
    assert bench.run(replace(bench.spec, argv=("sh", "-c", "exit 7"), environment=(("PATH", path),))) == 7


def test_a_program_with_an_equals_sign_is_no_variable(bench: Bench) -> None:
    """`env` would take it for one."""
    uid = bench.lay(bench.spec, "self\n")
    program = bench.folder / "a=b"
    program.write_text('#!/bin/sh\necho "$0 $1 $X"\n')
    program.chmod(0o755)
    os.chown(program, uid, uid)
    assert bench.run(replace(bench.spec, argv=("/work/a=b", "c d"), environment=(("X", "y"),))) == 0
    assert bench.said() == "/work/a=b c d y\n"


def test_a_rank_runs_once(bench: Bench) -> None:
    """The folder says so, whichever node it comes to, and two at the same moment are one."""
    spec = replace(bench.spec, argv=("sh", "-c", "echo ran"))
    bench.lay(spec, "self\n")
    both = [bench.again() for _ in range(2)]
    assert sorted(each.wait(30) for each in both) == [0, RAN_BEFORE]
    assert bench.run(spec) == RAN_BEFORE
    assert bench.said() == "ran\n"


def test_a_folder_without_its_proof_is_not_entered(bench: Bench) -> None:
    """And nothing is left in it."""
    bench.lay(replace(bench.spec, argv=("echo", "ran")), "self\n")
    victim = bench.drives / "victim"
    victim.mkdir(mode=0o777)
    victim.chmod(0o777)
    bench.folder.rename(bench.folder.with_name("moved"))
    bench.folder.symlink_to(victim)
    assert bench.again().wait(30) == FOLDER_NOT_OURS
    assert list(victim.iterdir()) == []


def test_a_log_that_cannot_be_written_is_no_start(bench: Bench) -> None:
    """A folder in its place, made by another job of the user after the check."""
    bench.lay(replace(bench.spec, argv=("echo", "ran")), "self\n")
    (bench.folder / "stderr.txt").unlink()
    (bench.folder / "stderr.txt").mkdir()
    assert bench.again().wait(30) == NOT_READY
    assert bench.said() == ""


def test_it_waits_for_the_firewall(bench: Bench) -> None:
    """Until the flag is there, and not a moment less."""
    bench.settings = msgspec.structs.replace(bench.settings, firewall=Firewall(enabled=True))
    process = bench.start(replace(bench.spec, argv=("echo", "ran")))
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    assert bench.said() == ""
    (bench.alloc / "firewall-ready").mkdir()
    assert process.wait(10) == 0
    assert bench.said() == "ran\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_signals_reach_the_program(bench: Bench, number: signal.Signals) -> None:
    """The process that Nomad started is the program in the end: no shell is left in between."""
    process = bench.start(replace(bench.spec, argv=("sleep", "60")))
    deadline = time.monotonic() + 20
    while Path(f"/proc/{process.pid}/cmdline").read_bytes() != b"sleep\x0060\x00":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait(10) == -number


def test_inputs_are_seen_through_their_drives(tmp_path: Path) -> None:
    """On a node: read-only ones cannot be written, by whatever name."""
    bench = Bench(tmp_path, "dash", "raw_exec")
    uid = bench.lay(bench.spec, "self\n")
    (bench.drives / "home/x").write_text("in\n")
    os.chown(bench.drives / "home/x", uid, uid)
    line = "cat a b; echo 1 >> a; echo 2 >> b; echo 3 >> /run/ucloud/drives/ro/home/x; cat /etc/hosts"
    mounts = (Mount("home/x", "/work/a"), Mount("home/x", "/work/b", read_only=True))
    assert bench.run(replace(bench.spec, argv=("sh", "-c", line), mounts=mounts)) == 0
    assert bench.said().startswith("in\nin\n") and bench.said().endswith("10.1.1.1 db\n")
    assert (bench.drives / "home/x").read_text() == "in\n1\n"


@pytest.mark.parametrize("as_root", [False, True])
def test_a_program_on_a_node_does_not_reach_the_folders_of_allocations(tmp_path: Path, as_root: bool) -> None:
    """Nomad lets everybody write into them: the scripts that root runs lie there, and the friends of each firewall."""
    own, other = tmp_path / "allocs/1", tmp_path / "allocs/2"
    for each in (own, other):
        each.mkdir(parents=True)
    bench = Bench(own, "dash", "raw_exec")
    other.chmod(0o777)
    line = """echo pwned > "$1/x" || echo closed
ls "${1%/*}"
umount "${1%/*}" || unshare -m umount "${1%/*}" || echo locked
ls "$1"
echo end"""
    spec = replace(bench.spec, argv=("sh", "-c", line, "sh", str(other)), run_as_root=as_root)
    assert bench.run(spec) == 0
    assert bench.said().splitlines() == ["closed", "locked", "end"]
    assert list(other.iterdir()) == []


def test_files_come_to_a_folder_that_is_not_shared(tmp_path: Path) -> None:
    """On a node, though where Nomad laid them is closed by then."""
    bench = Bench(tmp_path, "dash", "raw_exec")
    bench.settings = msgspec.structs.replace(bench.settings, work="scratch")
    (bench.alloc / "data").mkdir(mode=0o777)
    (bench.alloc / "data").chmod(0o777)
    assert bench.run(replace(bench.spec, argv=("cp", "a", "b"), files=(("a", "1\n"), ("c", "2\n")))) == 0
    assert [(bench.alloc / "data" / name).read_text() for name in "abc"] == ["1\n", "1\n", "2\n"]


_FIRST = """mount --bind "$shell" /bin/sh && mkdir -p /work && mount --bind "$folder" /work && cd /work &&
exec env -i NOMAD_TASK_DIR="$NOMAD_TASK_DIR" /bin/sh "$NOMAD_TASK_DIR/serai/start.sh" > "$folder/said" """


@pytest.mark.parametrize("shell", ["dash", "busybox"])
@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("exit 0", 0),
        ("exit 127", 127),
        ("exit 130", 130),
        ("kill -9 $$", 137),
        ("kill $$; sleep 9", 143),
        ("sleep 0.2 & exit 3", 3),
        ("echo up; trap 'exit 4' TERM; while :; do sleep 0.05; done", 4),
        ("echo up; trap 'echo once' TERM; for i in 1 2 3 4 5 6 7 8; do sleep 0.05; done; exit 5", 5),
        ("echo up; exec sleep 600", 143),
    ],
)
def test_as_process_1_it_stands_between_the_kernel_and_the_program(tmp_path: Path, shell: str, line: str, code: int) -> None:
    """The driver exec runs it so: kill -9 of itself ends a program, SIGTERM reaches it and one that does not handle it ends by it."""
    bench = Bench(tmp_path, shell, "exec")
    bench.settings = msgspec.structs.replace(bench.settings, work="volume")
    work = tmp_path / "work"
    work.mkdir()
    job = build(replace(bench.spec, argv=("/bin/sh", "-c", line)), 1, JobFolders(bench.settings).prepare(bench.spec, set()), bench.settings)
    templates = task(job)["Templates"]
    assert isinstance(templates, list)
    (text,) = [str(each["EmbeddedTmpl"]) for each in templates if isinstance(each, dict) and each["DestPath"] == "local/serai/start.sh"]
    (bench.task / "serai" / "start.sh").write_text(text)
    environment = {"PATH": os.environ["PATH"], "NOMAD_TASK_DIR": str(bench.task), "shell": bench.shell, "folder": str(work)}
    command = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc", "--", "/bin/bash", "-c", _FIRST]
    started = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
    if line.startswith("echo up"):
        _until(lambda: (work / "said").exists() and "up" in (work / "said").read_text())
        children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)
    assert started.wait(30) == code


def _until(wanted: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not wanted():
        assert time.monotonic() < deadline
        time.sleep(0.01)
