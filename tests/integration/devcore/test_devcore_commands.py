"""The commands and programs that people start: `serai devcore`, `serai demo`, and the examples."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Generator
from pathlib import Path
from typing import cast

import jwt
import pytest
from serai_devcore.tokens import load_key
from serai_server.cli import kit
from serai_server.cli.config import load

EXAMPLES = Path(__file__).parents[3] / "examples"
START = "import sys; from serai_server.cli.main import main; main()"

needs_bwrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed: no job can run")


def serai(*arguments: str) -> list[str]:
    return [sys.executable, "-c", START, *arguments]


@contextlib.contextmanager
def devcore(folder: Path, *more: str) -> Generator[tuple[subprocess.Popen[str], str]]:
    """The running command and the address that it tells."""
    process = subprocess.Popen(serai("devcore", "--dir", str(folder), "--port", "0", *more), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+", first)
        assert address is not None, first
        yield process, address.group()
    finally:
        process.terminate()
        process.wait(20)
        if process.stdout is not None:
            process.stdout.close()


def fetch(url: str, body: bytes | None = None) -> bytes:
    with urllib.request.urlopen(url, body, timeout=10) as answer:
        return cast("bytes", answer.read())


def test_devcore_writes_what_a_provider_needs_and_ends_on_sigterm(tmp_path: Path) -> None:
    """Keys, token (0600), settings that pass the check, in a folder that is nobody else's, or the doctor would warn of it; exit code 0."""
    tmp_path /= "made"
    with devcore(tmp_path) as (process, url):
        assert tmp_path.stat().st_mode & 0o777 == 0o700
        assert json.loads(fetch(f"{url}/devcore/jobs")) == {"items": []}
        assert fetch(f"{url}/devcore/token").count(b".") == 2
        settings = load(tmp_path / kit.SETTINGS)
        assert (settings.core.url, settings.provider.id) == (url, "example")
        assert [product.key for product in settings.sold_licenses()] == ["example/example-license/example-license"]
        told = json.loads(fetch(f"{url}/devcore/tokens", b'{"username": "user"}'))
        public = Path(settings.gateway.users.public_key_file).read_text()
        assert jwt.decode(told["accessToken"], public, algorithms=["RS256"], audience="all:write")["sub"] == "user"
        for secret in (kit.REFRESH_TOKEN, "core-private-key.pem", "users-private-key.pem"):
            assert (tmp_path / secret).stat().st_mode & 0o777 == 0o600
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert process.stdout is not None
        rest = process.stdout.read()
    assert "curl -s" in rest
    assert (tmp_path / kit.REFRESH_TOKEN).read_text().strip() not in rest


def test_devcore_can_wait_for_a_provider_to_register_itself(tmp_path: Path) -> None:
    """--without-provider: nothing is written, nobody is known, and the words say what to do next, by generation."""
    for generation, words in (("2021", "/sign"), ("2026", "/devcore/providers -d")):
        with devcore(tmp_path / generation, "--without-provider", "--generation", generation) as (process, url):
            assert json.loads(fetch(f"{url}/devcore/providers")) == {"providers": [], "registrations": []}
            process.terminate()
            assert process.wait(20) == 0
            assert process.stdout is not None
            assert words in process.stdout.read()
        assert not (tmp_path / generation).exists()


def test_devcore_polls_when_it_is_told_to(tmp_path: Path) -> None:
    """--poll asks the provider at once, here one that is not there; without it nobody is asked."""
    there = ("--generation", "2026", "--provider-url", "http://127.0.0.1:1")
    with devcore(tmp_path, *there, "--poll", "--check-support") as (_, url):
        deadline = time.monotonic() + 30
        asked: list[str] = []
        while "/ucloud/example/jobs/retrieveProducts" not in asked and time.monotonic() < deadline:
            asked = [exchange["path"] for exchange in json.loads(fetch(f"{url}/devcore/requests"))["items"]]
        assert "/ucloud/example/jobs/retrieveProducts" in asked
        refused = json.loads(fetch(f"{url}/devcore/jobs", b'{"value": "x"}'))
        assert (refused["accepted"], refused["user"]["status"]) == (False, 400)
    with devcore(tmp_path, *there) as (_, url):
        assert json.loads(fetch(f"{url}/devcore/requests")) == {"items": []}


def test_devcore_keeps_keys_and_settings_of_an_earlier_run(tmp_path: Path) -> None:
    """A provider that is set up goes on working with a stand-in that was started again."""
    with devcore(tmp_path):
        pass
    names = (kit.REFRESH_TOKEN, kit.PUBLIC_KEY, kit.USERS_KEY, "core-private-key.pem", "users-private-key.pem")
    before = {name: (tmp_path / name).read_bytes() for name in names}
    (tmp_path / kit.SETTINGS).write_text("# mine\n")
    with devcore(tmp_path):
        pass
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert (tmp_path / kit.SETTINGS).read_text() == "# mine\n"
    assert load_key(before["core-private-key.pem"])


def test_settings_of_another_stand_in_are_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """They are left alone; what differs is told before all else, and what to do. Settings of this very one are not worth a word."""
    with devcore(tmp_path) as (_, url):
        pass
    capfd.readouterr()
    with devcore(tmp_path, "--generation", "2026", "--port", url.rpartition(":")[2]):
        pass
    words = (
        f"serai: {tmp_path / kit.SETTINGS} is from before and is not of this stand-in: core.generation is '2021' there and '2026' here; "
    )
    assert capfd.readouterr().err.startswith(words)
    both = serai("devcore", "--dir", str(tmp_path), "--port", "0")
    with subprocess.Popen(both, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(f"serai: {tmp_path / kit.SETTINGS} is from before")
        process.terminate()
    with devcore(tmp_path, "--port", url.rpartition(":")[2]):
        pass
    assert capfd.readouterr().err == ""
    with devcore(tmp_path):
        pass
    assert f"core.url is '{url}' there and " in capfd.readouterr().err


def test_devcore_says_in_words_what_it_cannot_do(tmp_path: Path) -> None:
    """A port in use, a key file that is none."""
    with devcore(tmp_path) as (_, url):
        port = url.rpartition(":")[2]
        taken = subprocess.run(serai("devcore", "--dir", str(tmp_path), "--port", port), capture_output=True, text=True, check=False)
        other = tmp_path / "other"
        nothing = subprocess.run(serai("devcore", "--dir", str(other), "--port", port), capture_output=True, text=True, check=False)
    assert (taken.returncode, "Traceback" in taken.stderr) == (1, False)
    assert f"cannot run on port {port}" in taken.stderr
    assert "choose another with --port" in taken.stderr
    assert (nothing.returncode, other.exists()) == (1, False)
    (tmp_path / "core-private-key.pem").write_text("not a key")
    bad = subprocess.run(serai("devcore", "--dir", str(tmp_path), "--port", "0"), capture_output=True, text=True, check=False)
    assert (bad.returncode, "Traceback" in bad.stderr) == (2, False)


@needs_bwrap
def test_the_demo_shows_a_job_from_request_to_bill_and_leaves_nothing() -> None:
    """Issue's words: ends by itself with 0; {"responses":[null]}; RUNNING, then SUCCESS; three replicas; files; a bill."""
    # Not pytest's own folder: its name is too long for a Unix socket below it.
    with tempfile.TemporaryDirectory(prefix="sd-") as folder:
        Path(folder).chmod(0o711)
        environment = os.environ | {"TMPDIR": folder}
        done = subprocess.run(serai("demo", "--json"), capture_output=True, text=True, check=False, env=environment, timeout=90)
        assert list(Path(folder).iterdir()) == []
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["ok"] is True
    batch, replicas = told["stories"]
    assert batch["request"]["answer"] == {"responses": [None]}
    assert batch["request"]["headers"]["Content-Type"] == "content-type: application/json; charset=utf-8"
    assert [u["state"] for u in batch["updates"] if u["state"]][-2:] == ["RUNNING", "SUCCESS"]
    assert {"path": "report.txt", "bytes": 62} in batch["files"]
    assert {line["rank"] for line in replicas["output"]} == {0, 1, 2}
    assert replicas["credits"] == 3_000_000


@needs_bwrap
def test_an_interrupted_demo_ends_its_job_and_leaves_nothing() -> None:
    """Ctrl-C in the middle of a job: exit code 130, words without a traceback, no folder, no replica."""
    with tempfile.TemporaryDirectory(prefix="sd-") as folder:
        Path(folder).chmod(0o711)
        process = subprocess.Popen(
            serai("demo"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"TMPDIR": folder, "PYTHONUNBUFFERED": "1"},
        )
        assert process.stdout is not None
        for line in process.stdout:
            if "step 1 of 4" in line:
                process.send_signal(signal.SIGINT)
                break
        rest, errors = process.communicate(timeout=60)
        assert process.returncode == 130, rest + errors
        assert "Traceback" not in errors
        assert list(Path(folder).iterdir()) == []
        assert not [command for command in commands_running() if folder in command]


def commands_running() -> list[str]:
    """Command lines of all processes; those that end meanwhile are left out."""
    found: list[str] = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


def test_the_demo_says_at_once_why_jobs_cannot_run(tmp_path: Path) -> None:
    """What the doctor finds, before anything is started and waited for: here the folders of programs are not there."""
    done = subprocess.run(serai("demo", "--examples", str(tmp_path)), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (1, "", False)
    assert done.stderr.startswith("serai: jobs cannot run here, says `serai doctor`:\nerror   sandbox: ")


def test_the_demo_without_examples_says_so(tmp_path: Path) -> None:
    done = subprocess.run(serai("demo", "--examples", str(tmp_path / "none")), capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)


def run_batch(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "ACME_OUTPUT": str(folder), "ACME_PAUSE": "0", "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        [str(EXAMPLES / "acme-batch" / "acme-batch"), *arguments], capture_output=True, text=True, check=False, env=environment
    )


def test_acme_batch_prints_its_steps_and_leaves_a_report(tmp_path: Path) -> None:
    """As the seed invokes it: `acme-batch --debug true "Hello, World!"`."""
    done = run_batch(tmp_path, "--debug", "true", "Hello, World!")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-2:] == ["Hello, World!", "done: report.txt"]
    assert "debug:" in done.stderr
    assert (tmp_path / "report.txt").read_text() == "value: Hello, World!\ncharacters: 13\nupper case: HELLO, WORLD!\n"
    assert [p.name for p in tmp_path.iterdir()] == ["report.txt"]


@pytest.mark.parametrize(
    "arguments",
    [("--debug", "maybe", "x"), ("--debug",), (), ("a", "b")],
)
def test_acme_batch_refuses_other_arguments(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run_batch(tmp_path, *arguments)
    assert done.returncode == 64
    assert done.stderr.startswith("usage:")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", ["$(id)", "`id`", "'; exit 3 #", "-n", "%s%s", "", "a  b\\n"])
def test_acme_batch_takes_any_text_as_text(tmp_path: Path, value: str) -> None:
    """What a user types is never a command."""
    done = run_batch(tmp_path, "--debug", "false", value)
    assert done.returncode == 0
    assert (tmp_path / "report.txt").read_text().splitlines()[0] == f"value: {value}"


def run_solver(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program = EXAMPLES / "acme-licensed" / "acme-solver"
    return subprocess.run(
        [str(program), *arguments], capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"], **environment}
    )


def test_acme_solver_tells_where_its_license_is_and_shows_no_key(tmp_path: Path) -> None:
    """The servers of LM_LICENSE_FILE, the length of the key's file; neither the key nor the argument, which may hold it."""
    file = tmp_path / "key"
    file.write_bytes(b"SECRET-KEY\n")
    servers = "27000@lic-1.example.org,27001@lic-2.example.org"
    done = run_solver("--license", "lic:27000/SECRET-KEY", LM_LICENSE_FILE=servers, SERAI_LICENSE_FILE=str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "acme-solver 1.0.0 starts",
        "license server: 27000@lic-1.example.org",
        "license server: 27001@lic-2.example.org",
        "key file: 11 bytes",
        "solved",
    ]
    assert "key file: none was promised" in run_solver("--license", "x", LM_LICENSE_FILE=servers).stdout


def test_acme_solver_fails_without_what_it_was_promised(tmp_path: Path) -> None:
    gone = run_solver("--license", "x", LM_LICENSE_FILE="27000@h", SERAI_LICENSE_FILE=str(tmp_path / "gone"))
    assert (gone.returncode, gone.stderr) == (1, "key file: it cannot be read\n")
    assert (run_solver("--license", "x").returncode, run_solver("--license", "").returncode, run_solver().returncode) == (1, 64, 64)


def test_ucloud_etc_prints_every_file_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "rank.txt").write_text("2\n")
    (tmp_path / "nodes.txt").write_text("node-0\nnode-1")
    (tmp_path / "token").write_text("not shown")
    done = subprocess.run([str(EXAMPLES / "ucloud-etc" / "ucloud-etc"), str(tmp_path)], capture_output=True, text=True, check=False)
    assert [line.split(None, 1) for line in done.stdout.splitlines()] == [
        ["nodes.txt", "node-0"],
        ["nodes.txt", "node-1"],
        ["rank.txt", "2"],
    ]
