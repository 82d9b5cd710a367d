"""What the demo judges and shows, against recorded stories: no server runs here."""

from __future__ import annotations

import io
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.devcore_time import StillClock
from rich.console import Console
from serai_devcore import Arrival, Charge, DevCore, Direction, Exchange, Generation, Product, acme_request
from serai_devcore.documents import job_document
from serai_devcore.jobs import JobBook
from serai_devcore.provider import Provider
from serai_devcore.tokens import TokenIssuer, generate_key
from serai_server.cli import kit
from serai_server.cli.config import parse
from serai_server.cli.demo_story import LineCutter, OutputLine, Story, files_below, judge_batch, judge_replicas
from serai_server.cli.demo_view import RichView, shortened

BEGAN = 1_700_000_000_000
EXCHANGE = Exchange(
    number=1,
    at_ms=BEGAN,
    direction=Direction.TO_PROVIDER,
    method="POST",
    path="/ucloud/ucloud/jobs",
    query="",
    headers={"Authorization": "Bearer (hidden)"},
    body={"items": [job_document(acme_request(), "7", BEGAN, Generation.G2021)]},
    status=200,
    answer={"responses": [None]},
)
CHARGE = Charge(BEGAN + 9, "7", "7-0", 1, 1, 1_000_000, 1_000_000)


def story(replicas: int = 1) -> Story:
    """A job that went well: RUNNING, SUCCESS, its text, its report, its bill."""
    clock = StillClock(BEGAN)
    jobs = JobBook(Generation.G2021, clock)
    job = jobs.insert(job_document(replace(acme_request(), replicas=replicas), "7", BEGAN, Generation.G2021))
    for update in (
        {"outputFolder": "/user/Jobs/Acme batch/7", "status": "queued"},
        {"state": "RUNNING"},
        {"state": "SUCCESS", "status": "over"},
    ):
        clock.now += 100
        jobs.update("example", [{"id": "7", "update": dict(update)}])
    told = Story("A job", BEGAN, EXCHANGE, job, list(job.arrivals), charges=[replace(CHARGE, number_of_products=replicas)], credits_left=5)
    told.lines = [OutputLine(BEGAN + 150, 0, "stdout", "Hello, World!")]
    told.files = [("report.txt", 12)]
    return told


def etc(told: Story, replicas: int, **wrong: str) -> Story:
    told.lines = []
    for rank in range(replicas):
        files = {"rank.txt": str(rank), "number_of_nodes.txt": str(replicas), "job_id.txt": "7"}
        files |= {f"node-{n}.txt": f"127.1.0.{n + 1}" for n in range(replicas)} | {k.replace("_txt", ".txt"): v for k, v in wrong.items()}
        told.lines += [OutputLine(BEGAN, rank, "stdout", f"{name:<20} {value}") for name, value in files.items()]
    return told


def test_a_job_that_went_well_has_no_problem() -> None:
    one, three = story(), etc(story(3), 3)
    judge_batch(one)
    judge_replicas(three, 3)
    assert one.problems == three.problems == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"exchange": replace(EXCHANGE, answer={"responses": []})}, "the provider answers"),
        ({"exchange": replace(EXCHANGE, status=500)}, "the provider answers"),
        ({"job": None}, "Core keeps the job"),
        ({"charges": []}, "is billed"),
        ({"charges": [CHARGE, CHARGE]}, "is billed"),
        ({"charges": [replace(CHARGE, short=True)]}, "charged twice"),
        ({"lines": []}, "prints its text"),
        ({"files": []}, "report.txt"),
    ],
)
def test_each_thing_that_goes_wrong_is_a_problem_in_words(change: dict[str, object], words: str) -> None:
    told = story()
    for name, value in change.items():
        setattr(told, name, value)
    judge_batch(told)
    assert any(words in problem for problem in told.problems)


@pytest.mark.parametrize("last", ["FAILURE", ""])
def test_a_job_that_does_not_succeed_is_a_problem(last: str) -> None:
    told = story()
    assert told.job is not None
    told.job.arrivals = told.job.arrivals[:-1] + ([Arrival(BEGAN, {"state": last}, kept=True, applied=True)] if last else [])
    judge_batch(told)
    assert any("RUNNING, then SUCCESS" in problem for problem in told.problems)


@pytest.mark.parametrize("wrong", [{"rank_txt": "9"}, {"number_of_nodes_txt": "1"}, {"job_id_txt": "8"}])
def test_a_replica_that_is_told_something_else_is_a_problem(wrong: dict[str, str]) -> None:
    told = etc(story(3), 3, **wrong)
    judge_replicas(told, 3)
    assert told.problems


def shown(told: Story, *, terminal: bool) -> str:
    out = io.StringIO()
    view = RichView(Console(file=out, width=120, force_terminal=terminal, highlight=False, markup=False, emoji=False))
    view.started({"Core": "http://127.0.0.1:1"})
    view.story(told)
    assert told.exchange is not None
    view.request(told, told.exchange)
    for arrival in told.updates:
        view.update(told, arrival)
    for line in told.lines:
        view.line(told, line)
    view.ended(told)
    view.finished([told], 1.25, "")
    return out.getvalue()


def test_a_pipe_gets_plain_lines() -> None:
    """No colour, no blanks at the end; request, answer, updates with times, output by rank, files, bill, verdict."""
    text = shown(story(), terminal=False)
    assert "\x1b" not in text
    assert not any(line != line.rstrip() for line in text.splitlines())
    for words in (
        "POST /ucloud/ucloud/jobs",
        '"value": {"type": "text", "value": "Hello, World!"}',
        '200  {"responses":[null]}',
        "0.20 s  Core     RUNNING",
        "0.30 s  Core     SUCCESS  over",
        "0.15 s  rank 0   Hello, World!",
        "report.txt  12 B",
        "7-0",
        "All as expected",
    ):
        assert words in text


def test_a_terminal_gets_colour_and_problems_are_told() -> None:
    told = story()
    told.problems.append("the sky is green")
    text = shown(told, terminal=True)
    assert "\x1b[" in text
    assert "not as expected: the sky is green" in text
    assert "1 not as expected" in text


def test_what_a_job_writes_cannot_steer_the_terminal() -> None:
    """Output and words of jobs come from users: control characters are replaced."""
    told = story()
    told.lines = [OutputLine(BEGAN, 0, "stdout", "\x1b]0;owned\x07[bold]x[/bold]")]
    text = shown(told, terminal=False)
    assert "\x1b" not in text
    assert "[bold]x[/bold]" in text


def test_long_subtrees_are_folded_and_short_ones_stay_on_a_line() -> None:
    text = shortened({"a": {"b": [1, None, True]}, "resolvedApplication": {"x": "y" * 2000}, "list": ["z" * 60, "w" * 60]})
    assert '"a": {"b": [1, null, true]}' in text
    assert '"resolvedApplication": { … 2,009 bytes … }' in text
    assert len(text.splitlines()) == 8


def test_pieces_become_whole_lines_for_each_stream() -> None:
    heard: list[tuple[int, str, str]] = []
    cutter = LineCutter(lambda rank, stream, text: heard.append((rank, stream, text)))
    cutter.feed(0, "stdout", b"one\ntw")
    cutter.feed(1, "stdout", b"other\n")
    cutter.feed(0, "stderr", b"oh\n")
    cutter.feed(0, "stdout", b"o\nrest \xff")
    cutter.end()
    cutter.end()
    assert heard == [(0, "stdout", "one"), (1, "stdout", "other"), (0, "stderr", "oh"), (0, "stdout", "two"), (0, "stdout", "rest �")]


def test_files_are_listed_without_following_links(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b").write_bytes(b"12")
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert [path for path, _ in files_below(tmp_path)] == ["a", "loop", "sub/b"]


def test_the_kits_settings_are_read_as_they_were_meant(tmp_path: Path) -> None:
    """Also names that need escapes; every key is one that the settings know."""
    odd = Path('/opt/with "quotes" and ünïcode \N{SNOWMAN}/bin')
    made = kit.Kit(
        core_url="http://127.0.0.1:8080",
        generation=Generation.G2026,
        provider="p",
        aliases=(),
        gateway_port=0,
        program_dirs=(odd,),
        products=(
            Product("m", "c", "p", cpu=3, memory_gib=5, price_per_unit=7),
            Product("l", "lc", "p", kind="license", unit="PER_UNIT", price_per_unit=9, description='A "license"'),
        ),
    )
    text = kit.settings_text(made)
    assert tomllib.loads(text)["core"]["generation"] == "2026"
    settings = parse(text, tmp_path / "serai.toml")
    assert settings.backend.local.program_dirs == (str(odd),)
    assert settings.core.public_key_file == str(tmp_path / kit.PUBLIC_KEY)
    assert settings.gateway.users.public_key_file == str(tmp_path / kit.USERS_KEY)
    assert [(p.id, p.cpu, p.memory_gib, p.provider, p.price_per_unit) for p in settings.products] == [("m", 3, 5, "p", 7)]
    assert [(p.key, p.price, p.description) for p in settings.sold_licenses()] == [("p/lc/l", 9, 'A "license"')]


def test_the_refresh_token_is_its_owners_alone(tmp_path: Path) -> None:
    """0600, also over a file that was open to all; no link is followed."""
    issuer, core = TokenIssuer("p", Generation.G2021, StillClock(), key=generate_key()), DevCore()
    token = tmp_path / kit.REFRESH_TOKEN
    token.write_text("old and much longer than the new one could ever be" * 9)
    token.chmod(0o666)
    kit.write_keys(tmp_path, core, Provider("p", issuer, ""))
    assert token.stat().st_mode & 0o777 == 0o600
    assert token.read_text().strip() == issuer.refresh_token
    assert (tmp_path / kit.PUBLIC_KEY).read_text() == issuer.public_key_pem
    assert (tmp_path / kit.USERS_KEY).read_text() == core.users.public_key_pem
    token.unlink()
    token.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"):
        kit.write_keys(tmp_path, core, Provider("p", issuer, ""))
