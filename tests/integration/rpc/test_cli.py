"""The `serai` command against a real server on its socket, as a process would run it: output, exit codes, words."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
from fakes.commands import Ran, ran
from fakes.elsewhere import Elsewhere, elsewhere
from fakes.front import Front, served
from fakes.slow_relay import slow_relay
from fakes.usecases import STDERR, STDOUT, job
from serai.core.v1.resources_pb2 import ProductReference
from serai.jobs.v1 import job_pb2
from serai.jobs.v1.jobs_service_pb2 import FollowResponse, ReplicaPhase, ReplicaReport, SubmitRequest
from serai_devcore import Generation
from serai_devcore.clock import SystemClock
from serai_devcore.tokens import TokenIssuer
from serai_server.cli.config_command import example_text
from serai_server.cli.exits import Exit
from serai_server.cli.main import run
from serai_server.errors import InvalidRequest
from serai_server.store.api import StoreUnavailable

Answer = TypeVar("Answer")


@dataclass
class Server(Elsewhere):
    front: Front
    socket: Path


@asynccontextmanager
async def serving(socket: Path) -> AsyncGenerator[Server]:
    async with served(socket, Front()) as running:
        yield Server(running.front, running.socket)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with elsewhere(serving(tmp_path / "serai.sock")) as running:
        yield running


Serai = Callable[..., Ran[bytes]]


@pytest.fixture
def serai(server: Server, capfdbinary: pytest.CaptureFixture[bytes]) -> Serai:
    def call(*arguments: str, socket: Path | None = None, program: Sequence[str] = ()) -> Ran[bytes]:
        return ran(capfdbinary, *arguments, "--socket", str(socket or server.socket), *program)

    return call


@pytest.fixture
def three(server: Server) -> None:
    """Jobs 1 and 2 of alice, 3 of bob; 2 is over."""
    jobs = server.front.jobs
    server.do(jobs.create([job("1"), job("2"), job("3", owner="bob", replicas=3)]))
    server.do(jobs.change("2", job_pb2.JOB_STATE_FAILURE, "the machine went away"))


@pytest.mark.usefixtures("three")
class TestList:
    def test_people_get_a_table(self, serai: Serai) -> None:
        """Newest first, a line for each job, no colour in a pipe."""
        ran = serai("jobs", "list")
        lines = ran.out.decode().splitlines()
        assert ran.code == Exit.OK
        assert lines[0].split()[:3] == ["JOB", "STATE", "OWNER"]
        assert [line.split()[0] for line in lines[1:]] == ["3", "2", "1"]
        assert "the machine went away" in lines[2]
        assert b"\x1b" not in ran.out

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ([], ["3", "2", "1"]),
            (["--state", "failure"], ["2"]),
            (["--state", "IN_QUEUE", "--state", "FAILURE"], ["3", "2", "1"]),
            (["--owner", "bob"], ["3"]),
            (["--active"], ["3", "1"]),
            (["--limit", "2"], ["3", "2"]),
            (["--limit", "0"], ["3", "2", "1"]),
        ],
        ids=" ".join,
    )
    def test_programs_get_one_document(self, serai: Serai, options: list[str], expected: list[str]) -> None:
        """Filters and limit hold for both forms of output."""
        assert [j["id"] for j in serai("jobs", "list", "--json", *options).json["jobs"]] == expected

    def test_a_state_that_is_none_is_a_usage_error(self, serai: Serai) -> None:
        """Said by the command line, not by the server."""
        assert serai("jobs", "list", "--state", "ASLEEP").code == Exit.USAGE


def test_a_long_list_is_read_by_page(server: Server, serai: Serai) -> None:
    """More jobs than one page holds."""
    server.do(server.front.jobs.create([job(str(i)) for i in range(700)]))
    assert len(serai("jobs", "list", "--json", "--limit", "0").json["jobs"]) == 700
    assert len(serai("jobs", "list", "--json", "--limit", "650").json["jobs"]) == 650


def test_an_empty_list(serai: Serai) -> None:
    """Nothing on stdout, a word on stderr; programs get an empty document."""
    ran = serai("jobs", "list")
    assert (ran.code, ran.out, ran.words) == (Exit.OK, b"", "no jobs")
    assert serai("jobs", "list", "--json").json == {"jobs": []}


@pytest.mark.usefixtures("three")
class TestShow:
    def test_people_get_all_of_it(self, server: Server, serai: Serai) -> None:
        """The job, and each replica with how it ended."""
        server.front.jobs.reports["3"].replica_reports.extend(
            [
                ReplicaReport(rank=0, phase=ReplicaPhase.REPLICA_PHASE_EXITED, exit_code=0),
                ReplicaReport(rank=1, phase=ReplicaPhase.REPLICA_PHASE_EXITED, signal=9, cause="out of memory"),
            ]
        )
        text = serai("jobs", "show", "3").out.decode()
        assert "example/c/c1" in text
        assert "signal 9" in text
        assert "out of memory" in text

    def test_programs_get_one_document(self, serai: Serai) -> None:
        """Numbers as numbers, null for what is not there."""
        document = serai("jobs", "show", "2", "--json").json
        assert (document["state"], document["created_at_ms"], document["started_at_ms"]) == ("FAILURE", 1_000, None)

    def test_an_unknown_job(self, serai: Serai) -> None:
        """A code of its own, and words."""
        ran = serai("jobs", "show", "9")
        assert (ran.code, ran.out) == (Exit.NOT_FOUND, b"")
        assert ran.words == "serai: no job '9' is known here"


ALL_BYTES = bytes(range(256))


@pytest.mark.usefixtures("three")
class TestLogs:
    @pytest.fixture(autouse=True)
    def output(self, server: Server) -> None:
        server.front.jobs.output["3"] = [
            FollowResponse(rank=0, stream=STDOUT, offset=0, data=ALL_BYTES),
            FollowResponse(rank=1, stream=STDOUT, offset=0, data=b"one\ntw"),
            FollowResponse(rank=0, stream=STDERR, offset=0, data=b"oh"),
            FollowResponse(rank=1, stream=STDOUT, offset=6, data=b"o"),
            FollowResponse(rank=0, stream=STDOUT, offset=256, data=b"\r\nend"),
        ]

    def test_bytes_come_out_as_they_were_written(self, serai: Serai) -> None:
        """Every byte, no line end added, and stderr on stderr."""
        ran = serai("jobs", "logs", "3")
        assert (ran.code, ran.out, ran.words) == (Exit.OK, ALL_BYTES + b"\r\nend", "oh")

    def test_one_stream(self, serai: Serai) -> None:
        """The one that was asked for is on stdout, whichever it is."""
        assert serai("jobs", "logs", "3", "--stream", "stderr").out == b"oh"
        assert serai("jobs", "logs", "3", "--rank", "1", "--stream", "stdout").out == b"one\ntwo"

    def test_every_rank(self, serai: Serai) -> None:
        """Whole lines with their rank, also when a line came in pieces and the last one has no end."""
        ran = serai("jobs", "logs", "3", "--all", "--stream", "stdout")
        assert sorted(ran.out.split(b"\n"))[-3:] == [b"0| end", b"1| one", b"1| two"]

    def test_programs_get_lines(self, serai: Serai) -> None:
        """A JSON object for each piece; bytes that are no text are base64."""
        lines = [json.loads(line) for line in serai("jobs", "logs", "3", "--json").out.splitlines()]
        assert [sorted(line) for line in lines] == [
            ["data_base64", "offset", "rank", "stream"],
            ["data", "offset", "rank", "stream"],
            ["data", "offset", "rank", "stream"],
        ]
        assert lines[2] == {"rank": 0, "stream": "stdout", "offset": 256, "data": "\r\nend"}

    def test_a_wrong_request_is_told_without_names_of_fields(self, server: Server, serai: Serai) -> None:
        """People know options and not the fields of messages."""
        server.front.jobs.wrong = InvalidRequest("rank 7: this job has ranks 0 to 2", field="ranks")
        ran = serai("jobs", "logs", "3", "--rank", "7")
        assert (ran.code, ran.words) == (Exit.USAGE, "serai: rank 7: this job has ranks 0 to 2")

    def test_an_unknown_job(self, serai: Serai) -> None:
        """Nothing on stdout."""
        ran = serai("jobs", "logs", "9", "-f")
        assert (ran.code, ran.out) == (Exit.NOT_FOUND, b"")


@pytest.mark.usefixtures("three")
class TestStop:
    def test_several_at_once(self, server: Server, serai: Serai) -> None:
        """Also one that is over already."""
        ran = serai("jobs", "stop", "1", "2", "3", "--wait", "--json")
        assert (ran.code, [j["state"] for j in ran.json["jobs"]]) == (Exit.OK, ["SUCCESS", "FAILURE", "SUCCESS"])
        assert server.front.jobs.reports["3"].status == "stopped"

    def test_nothing_is_stopped_when_one_is_unknown(self, server: Server, serai: Serai) -> None:
        """A mistyped id does not cost the others their life."""
        assert serai("jobs", "stop", "1", "9").code == Exit.NOT_FOUND
        assert server.front.jobs.reports["1"].state == job_pb2.JOB_STATE_IN_QUEUE

    def test_waiting_in_vain(self, server: Server, serai: Serai) -> None:
        """The stop is stored all the same, and the code says that it has not happened."""

        async def stubborn(items: object, *, for_core: bool) -> None:
            """A job whose program does not end."""

        server.front.jobs.terminate = stubborn
        ran = serai("jobs", "stop", "1", "--wait", "--timeout", "0.2")
        assert ran.code == Exit.NOT_YET
        assert "job 1 is not over yet" in ran.err


def test_no_server(serai: Serai, tmp_path: Path) -> None:
    """Words that say what to do, and a code that scripts can wait on."""
    ran = serai("jobs", "list", socket=tmp_path / "nobody.sock")
    assert (ran.code, ran.out) == (Exit.NOT_REACHABLE, b"")
    assert "no server answers on" in ran.err
    assert "serai serve" in ran.err


def test_a_connection_that_takes_its_time(server: Server, serai: Serai, tmp_path: Path) -> None:
    """On a busy machine: that is no server that does not answer."""
    slow = slow_relay(tmp_path / "slow.sock", server.socket, 0.6)
    server.do(slow.__aenter__())
    try:
        ran = serai("jobs", "list", socket=tmp_path / "slow.sock")
    finally:
        server.do(slow.__aexit__(None, None, None))
    assert ran.code == Exit.OK, ran.err


def test_a_server_that_cannot_work_now(server: Server, serai: Serai) -> None:
    """Reachable and of no use: the server's own words."""
    server.front.jobs.wrong = StoreUnavailable("disk full")
    ran = serai("jobs", "list")
    assert ran.code == Exit.NOT_REACHABLE
    assert ran.words == "serai: the provider cannot store anything right now; nothing was changed, try again"


def test_an_error_inside_the_server(server: Server, serai: Serai) -> None:
    """The error id and no more."""
    server.front.jobs.wrong = RuntimeError("secret-token")
    ran = serai("jobs", "show", "1")
    assert ran.code == Exit.ERROR
    assert "tell its operator the error id" in ran.err.splitlines()[-1]


def test_the_socket_comes_from_the_settings(server: Server, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Without --socket the settings file says where the server is."""
    file = tmp_path / "serai.toml"
    file.write_text(example_text().replace('# socket = ""', f'socket = "{server.socket}"'))
    assert run(["jobs", "list", "--json", "--config", str(file)]) == Exit.OK
    assert json.loads(capfdbinary.readouterr().out) == {"jobs": []}


@pytest.mark.parametrize("arguments", [["jobs", "list"], ["config", "check"], ["serve"], ["doctor"]], ids=" ".join)
def test_no_settings_file(arguments: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A usage error that names the file, how to name another, and how to make one."""
    missing = str(tmp_path / "nope.toml")
    assert run([*arguments, "--config", missing]) == Exit.USAGE
    told = capfd.readouterr().err
    assert f"there is no {missing}; name the settings with --config" in told
    assert "`serai config example > serai.toml` makes one" in told


@pytest.mark.usefixtures("_no_settings")
def test_the_doctor_needs_no_settings_file(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked before anything is set up: then it tries the defaults, says so, and leaves nothing behind."""
    monkeypatch.chdir(tmp_path)
    code = run(["doctor", "--json"])
    told = capfd.readouterr()
    assert "there is no serai.toml here: this is about the default settings" in told.err
    assert code == (Exit.OK if json.loads(told.out)["usable"] else Exit.ERROR)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SERAI_CONFIG", raising=False)


def test_config_check_tells_every_problem(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A line for each."""
    file = tmp_path / "serai.toml"
    file.write_text(example_text().replace("cpu = 1 ", 'cpu = "one" ') + "\n[servr]\n[zebra]\n")
    assert run(["config", "check", "--config", str(file)]) == Exit.USAGE
    told = capfd.readouterr().err
    assert told.count("there is no such setting") == 2
    assert "products[0].cpu: expected a whole number" in told


def test_config_example_is_a_right_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What `config example` prints passes `config check`, which says what is not there yet and what that means."""
    assert run(["config", "example"]) == Exit.OK
    file = tmp_path / "serai.toml"
    file.write_text(capfd.readouterr().out)
    assert run(["config", "check", "--config", str(file)]) == Exit.OK
    told = capfd.readouterr()
    assert "is right, but the gateway could not do its work now: provider example sells example-compute-1" in told.out
    assert f"there is no {tmp_path / 'core.pem'} yet; `serai register` gets it, and `serai serve` does not start without it" in told.err
    assert told.err.count("note: ") == 2
    (tmp_path / "refresh.token").write_text("token")
    (tmp_path / "core.pem").write_text("nonsense")
    assert run(["config", "check", "--config", str(file)]) == Exit.OK
    assert "neither PEM nor" in capfd.readouterr().err
    (tmp_path / "core.pem").write_text(TokenIssuer("example", Generation.G2021, SystemClock()).public_key_pem)
    assert run(["config", "check", "--config", str(file)]) == Exit.OK
    told = capfd.readouterr()
    assert "is right: provider example" in told.out
    assert told.err == ""


@pytest.mark.parametrize(
    "arguments", [["--help"], ["jobs", "--help"], ["jobs", "logs", "-h"], ["config", "check", "--help"], ["--version"]], ids=" ".join
)
def test_help_is_there(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    """Help and version need no server and no settings."""
    assert run(arguments) == Exit.OK
    assert capfd.readouterr().out


def test_a_missing_part_breaks_nothing_else(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """A subcommand whose module is not installed says so; the list of commands needs no module at all."""
    monkeypatch.setitem(sys.modules, "serai_server.cli.demo", None)
    assert run(["demo"]) == Exit.ERROR
    assert "not part of this installation" in capfd.readouterr().err
    assert run(["--help"]) == Exit.OK


async def test_a_reader_that_goes_away(server: Server) -> None:
    """`serai jobs logs … | head` ends quietly with the code that a shell gives to SIGPIPE."""
    server.do(server.front.jobs.create([job("1")]))
    server.front.jobs.output["1"] = [FollowResponse(stream=STDOUT, data=b"x" * 65_536)] * 64
    reader, writer = os.pipe()
    os.close(reader)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "serai_server.cli",
        "jobs",
        "logs",
        "1",
        "--socket",
        str(server.socket),
        stdout=writer,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(writer)
    _, err = await asyncio.wait_for(process.communicate(), 20)
    assert (process.returncode, err) == (Exit.READER_GONE, b"")


class TestSubmit:
    def test_a_program_becomes_a_job(self, server: Server, serai: Serai) -> None:
        """All that the options say, and each word of the program as it is; its id alone is on stdout."""
        options = ["--owner", "alice", "--project", "p", "--image", "debian:12", "--product", "c/c1", "--replicas", "2", "--name", "a b"]
        more = ["--time-limit", "1h", "--env", "A=1", "--env", "B=x=y", "--submission-id", "n1"]
        ran = serai("jobs", "submit", *options, *more, program=["sh", "-c", "echo --owner $A"])
        assert (ran.code, ran.out, ran.err) == (Exit.OK, b"tool-s-n1\n", "")
        assert server.front.jobs.submitted == [
            SubmitRequest(
                owner="alice",
                project="p",
                image="debian:12",
                command=["sh", "-c", "echo --owner $A"],
                environment={"A": "1", "B": "x=y"},
                product=ProductReference(id="c1", category="c"),
                replicas=2,
                time_limit_ms=3_600_000,
                name="a b",
                submission_id="n1",
            )
        ]

    def test_for_programs(self, server: Server, serai: Serai) -> None:
        """The id and the state; what is not said is left to the server."""
        ran = serai("jobs", "submit", "--owner", "alice", "--json", program=["date"])
        assert (ran.code, ran.json) == (Exit.OK, {"id": "tool-s-0", "state": "IN_QUEUE"})
        assert server.front.jobs.submitted == [SubmitRequest(owner="alice", command=["date"], replicas=1)]

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--env", "A"], "NAME=VALUE"),
            (["--env", "=1"], "NAME=VALUE"),
            (["--product", "a/b/c/d"], "CATEGORY/NAME"),
            (["--product", "a//c"], "CATEGORY/NAME"),
            (["--time-limit", "1d"], "1h30m"),
            (["--replicas", "0"], "x>=1"),
        ],
    )
    def test_what_cannot_be_meant(self, server: Server, serai: Serai, options: list[str], words: str) -> None:
        """Is said in words that show what can, and nothing is asked."""
        ran = serai("jobs", "submit", "--owner", "alice", *options, program=["date"])
        assert (ran.code, ran.out, server.front.jobs.submitted) == (Exit.USAGE, b"", [])
        assert words in ran.err


@pytest.mark.usefixtures("three")
class TestChanges:
    def test_time_is_added(self, server: Server, serai: Serai) -> None:
        """To each job once, however often it is named."""
        ran = serai("jobs", "extend", "1", "2", "1", "--by", "1h30m", "--json")
        assert (ran.code, [j["id"] for j in ran.json["jobs"]]) == (Exit.OK, ["1", "2"])
        assert server.front.jobs.asked == [("extend by 5400000", ["1", "2"])]

    def test_a_limit_in_all(self, server: Server, serai: Serai) -> None:
        """`--to` says it."""
        ran = serai("jobs", "extend", "1", "2", "--to", "4h", "--json")
        assert (ran.code, [j["id"] for j in ran.json["jobs"]]) == (Exit.OK, ["1", "2"])
        assert server.front.jobs.asked == [("extend to 14400000", ["1", "2"])]

    @pytest.mark.parametrize("options", [[], ["--by", "1h", "--to", "4h"]])
    def test_either_more_or_in_all(self, server: Server, serai: Serai, options: list[str]) -> None:
        """Both, or neither, is a mistake that is said in words."""
        ran = serai("jobs", "extend", "1", *options)
        assert (ran.code, server.front.jobs.asked) == (Exit.USAGE, [])
        assert "either --by or --to" in ran.err

    @pytest.mark.parametrize("span", ["", "0s", "-5m", "1d", "90"])
    def test_a_span_that_is_none(self, server: Server, serai: Serai, span: str) -> None:
        """Words that show what one looks like, and nothing is asked."""
        ran = serai("jobs", "extend", "1", "--by", span)
        assert (ran.code, server.front.jobs.asked) == (Exit.USAGE, [])
        assert "1h30m" in ran.err

    def test_suspend_and_resume(self, server: Server, serai: Serai) -> None:
        """Both show the jobs as they are."""
        assert serai("jobs", "suspend", "1").code == serai("jobs", "resume", "1").code == Exit.OK
        assert server.front.jobs.asked == [("suspend", ["1"]), ("unsuspend", ["1"])]

    def test_an_unknown_job(self, serai: Serai) -> None:
        """A code of its own."""
        assert serai("jobs", "suspend", "1", "9").code == Exit.NOT_FOUND
