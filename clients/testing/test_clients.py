"""Each client against a live Serai: it builds, its own tests pass, and its example does what clients/README.md says of it."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.nomad_certificates import Authority

from testing.example import run_example
from testing.generate import generate
from testing.languages import BUILD_S, Language, run
from testing.live import Door, Site, Way

_TWO_STREAMS = "printf 'caf\\303\\251 \\377\\000 bytes\\n'; echo 'to stderr' >&2; sleep 0.3; printf 'no line end'"
"""Text, bytes that are no text, both streams, and an end in the middle of a line."""
_LINES = 12_000
_MANY_LINES = f"""
i=0
while [ $i -lt {_LINES} ]; do
  echo "line $i of a long log that is followed to its last byte"
  i=$((i + 1))
  [ $((i % 1000)) -ne 0 ] || sleep 0.25
done
"""


@pytest.mark.timeout(BUILD_S)
def test_client_is_built_and_its_checks_pass(built: Language) -> None:
    """From a clean checkout with the language's own tools and registry; format, lint and types are as the toolchain wants them."""
    run(built.checks, built.folder)


@pytest.mark.timeout(BUILD_S)
def test_committed_code_is_what_the_protos_make(language: Language, tmp_path: Path) -> None:
    """Generated code is committed only where users of the language need it, and never edited by hand."""
    if not language.committed:
        pytest.skip(f"the client for {language.name} generates its code when it is built")
    generate(language, tmp_path)
    made, committed = tmp_path / language.committed, language.folder / language.committed
    names = {path.relative_to(top) for top in (made, committed) for path in top.rglob("*") if path.is_file()}
    differs = sorted(str(n) for n in names if not _same(made / n, committed / n))
    assert names and not differs, f"run `make generate`: {differs}"


def _same(left: Path, right: Path) -> bool:
    return left.is_file() and right.is_file() and left.read_bytes() == right.read_bytes()


@pytest.mark.timeout(BUILD_S)
async def test_clients_own_tests_pass(built: Language, direct: Way) -> None:
    """The tests that users of the language would run, with a live server at hand."""
    await asyncio.to_thread(run, built.tests, built.folder, direct.door.environment())


async def test_example_submits_watches_and_follows(built: Language, door: Door, site: Site) -> None:
    """The job's own bytes on stdout and stderr, unchanged; each state once, in order; exit code 0."""
    told = await run_example(built, door, "sh", "-c", _TWO_STREAMS)
    assert told.code == 0, told.stderr.decode()
    assert told.stdout == b"caf\xc3\xa9 \xff\x00 bytes\nno line end"
    assert told.job_stderr == b"to stderr\n"
    assert [state for state in told.states if state != "IN_QUEUE"] == ["RUNNING", "SUCCESS"]
    assert told.end == "ended: exit code 0"
    assert site.state(told.job_id) == "SUCCESS"


async def test_example_ends_with_the_jobs_exit_code(built: Language, door: Door) -> None:
    """A program that fails makes the example fail in the same way; what it wrote before is all there."""
    told = await run_example(built, door, "sh", "-c", "echo before; echo why >&2; exit 7")
    assert (told.code, told.stdout, told.job_stderr, told.end) == (7, b"before\n", b"why\n", "ended: exit code 7")


async def test_wrong_token_is_a_clear_error(built: Language, door: Door) -> None:
    """One line that names the error, exit code 125, nothing on stdout; the token itself is not repeated."""
    wrong = replace(door, token="serai_00000000_" + "A" * 43)
    told = await run_example(built, wrong, "echo", "never")
    assert (told.code, told.stdout) == (125, b"")
    assert told.stderr.startswith(b"serai: UNAUTHENTICATED: ")
    assert told.stderr.count(b"\n") == 1
    assert wrong.token.encode() not in told.stderr


async def test_server_of_another_authority_is_not_spoken_to(built: Language, envoy: Way, tmp_path: Path) -> None:
    """It never sees the token: the connection ends before a call is made."""
    impostor = replace(envoy.door, ca_file=Path(Authority(tmp_path).file))
    told = await run_example(built, impostor, "echo", "never")
    assert (told.code, told.stdout) == (125, b"")
    # Each library has its own code for it, and Python's a line of its own for the log besides.
    assert re.match(rb"serai: (UNAVAILABLE|INTERNAL): ", told.stderr.splitlines()[-1])


async def test_no_server_is_a_clear_error_at_once(built: Language) -> None:
    """A mistake in the address must not wait for ever."""
    told = await run_example(built, Door("nobody", "http://127.0.0.1:9", "serai_none_none"), "echo", "never")
    assert (told.code, told.stdout) == (125, b"")
    assert told.stderr.startswith(b"serai: UNAVAILABLE: ")


async def test_silent_job_is_followed_to_its_end(built: Language, envoy: Way) -> None:
    """Envoy closes streams in which nothing happens for a while, here for 2 s; whoever watches and follows does not see it."""
    told = await run_example(built, envoy.door, "sh", "-c", "echo before; sleep 5; echo after")
    assert (told.code, told.stdout) == (0, b"before\nafter\n"), told.stderr.decode()


async def test_log_is_whole_over_cuts_and_a_restart(built: Language, way: Way, site: Site) -> None:
    """Connections cut in the middle of the log, and a server that is killed and started anew: not a byte is lost or comes twice."""
    restarted: list[asyncio.Future[None]] = []
    loop = asyncio.get_running_loop()

    def restart() -> None:
        site.kill()
        site.start()

    def disturb(come: int) -> None:
        cuts = way.relay.cuts
        if cuts < 3 and come > (cuts + 1) * 100_000:
            way.relay.cut()
        elif cuts == 3 and come > 400_000 and not restarted:
            restarted.append(loop.run_in_executor(None, restart))

    told = await run_example(built, way.door, "sh", "-c", _MANY_LINES, on_output=disturb)
    await asyncio.gather(*restarted)
    assert told.code == 0, told.stderr.decode()
    assert (way.relay.cuts, len(restarted)) == (3, 1)
    assert told.stdout == b"".join(b"line %d of a long log that is followed to its last byte\n" % i for i in range(_LINES))
