"""The conformance kit against Serai, whole, on both backends and in both generations, where no rule is broken; and against a provider with
planted faults, of which it finds each one and nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from xml.etree import ElementTree

import pytest
from fakes.broken_provider import PROVIDER, BrokenProvider, Fault
from fakes.broken_provider.faults import FOUND_BY, OF_TODAY
from fakes.conformance_site import LOCAL, PLACES, UNIT, Site, conformance_site
from fakes.cuttable import cuttable
from fakes.nomad_agents import AGENTS
from fakes.nomad_certificates import Authority, Pair
from fakes.stack import free_port
from serai_conformance import RULES, Generation, Report, Status, Target, run
from serai_conformance.model import PrivateKey
from serai_conformance.tokens import generate_key, private_pem

NEVER_SEEN = ["whole.ids"]
"""Serai gives no ids of its own."""
PATIENCE_S = 10.0
"""With a fault: what waits in vain waits that long."""
SLOW = frozenset(
    {
        "extend.lasts",
        "follow.tail",
        "follow.end",
        "follow.strangers",
        "life.expired",
        "life.success",
        "verify.keeps",
        "news.repeated",
        "news.alone",
        "news.renewed",
        "news.disowned",
        "charges.repeated",
        "charges.amount",
        "charges.amount-2026",
    }
)
"""Rules that take seconds: tried with the fault that they must find, and without any."""
KEY = generate_key()


async def report_on(
    folder: Path,
    generation: Generation,
    fault: Fault | None = None,
    *,
    only: tuple[str, ...] = (),
    listen: bool = True,
    key: PrivateKey = KEY,
) -> Report:
    """The kit's report on the provider with the fault."""
    port = free_port()
    todays = generation is Generation.G2026
    async with BrokenProvider(KEY.public_key(), f"http://127.0.0.1:{port}", folder, fault, todays=todays) as provider:
        place = ("127.0.0.1", port) if listen else None
        return await run(
            Target(provider.url, PROVIDER, key, generation, listen=place, patience_s=PATIENCE_S if fault else 60.0, at_once=32), only=only
        )


def failed(report: Report) -> dict[str, str]:
    return {result.rule.name: result.reason for result in report.results if result.status is Status.FAILED}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("generation", list(Generation), ids=lambda g: g.value)
@pytest.mark.parametrize("place", PLACES)
async def test_serai_keeps_every_rule(tmp_path: Path, place: str, generation: Generation) -> None:
    """On this machine, there behind Envoy too, and on a Nomad cluster. What it declares is all tried, and Core's side is seen."""
    if place in AGENTS and os.geteuid() != 0:
        pytest.skip("raw_exec tasks make a mount namespace of their own: needs root")
    async with conformance_site(place, tmp_path, generation) as site:
        report = await run(site.target)
        assert failed(report) == {}, site.serai.tail(40)
        assert report.named(Status.NOT_OBSERVED) == NEVER_SEEN
        if place not in AGENTS:
            assert report.named(Status.NOT_DECLARED) == []


@pytest.mark.parametrize("generation", list(Generation), ids=lambda g: g.value)
async def test_a_provider_without_faults_passes(tmp_path: Path, generation: Generation) -> None:
    """Every rule; a desktop is all that this one does not declare."""
    report = await report_on(tmp_path, generation)
    assert failed(report) == {}
    assert report.named(Status.NOT_OBSERVED) == []
    assert report.named(Status.NOT_DECLARED) == ["sessions.vnc"]


@pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: fault.name.lower())
async def test_each_planted_fault_is_found(tmp_path: Path, fault: Fault) -> None:
    """The rules that are about it fail, and no other rule does."""
    generation = Generation.G2026 if fault in OF_TODAY else Generation.G2021
    names = tuple(rule.name for rule in RULES if rule.name not in SLOW or rule.name in FOUND_BY[fault])
    found = failed(await report_on(tmp_path, generation, fault, only=names))
    assert set(found) == set(FOUND_BY[fault]), found
    assert all(len(reason) > 20 for reason in found.values()), found


async def test_what_only_core_sees_is_not_observed_without_it(tmp_path: Path) -> None:
    """Without --core-listen: no rule about control calls is judged, and the others are."""
    names = ("products.", "access.", "life.success", "news.form", "charges.form", "whole.")
    report = await report_on(tmp_path, Generation.G2021, only=names, listen=False)
    assert failed(report) == {}
    needing = {result.rule.name for result in report.results if result.rule.needs_core}
    assert needing
    assert needing <= set(report.named(Status.NOT_OBSERVED))


async def serai(*arguments: str) -> tuple[int, bytes, bytes]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "serai_server.cli",
        "conformance",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(100):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out, err


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "key.pem"
    file.write_bytes(private_pem(KEY))
    return file


async def test_the_command(tmp_path: Path, key_file: Path) -> None:
    """0 and 1 as rules are kept or broken; a table for people, JSON and JUnit's XML for programs."""
    for fault, code in ((None, 0), (Fault.PRODUCT_TWICE, 1)):
        async with BrokenProvider(KEY.public_key(), "http://127.0.0.1:1", tmp_path / "jobs", fault) as provider:
            called = (provider.url, "--provider", PROVIDER, "--key", str(key_file), "--only", "products.", "--only", "access.")
            found, out, err = await serai(*called)
            assert found == code, err
            assert b"products.once" in out if fault else b"steady" in out
            junit = tmp_path / "junit.xml"
            found, out, err = await serai(*called, "--json", "--junit", str(junit))
            assert found == code, err
            document = json.loads(out)
            assert document["conforms"] is (code == 0)
            assert [rule["name"] for rule in document["rules"] if rule["status"] == "failed"] == (["products.once"] if fault else [])
            suite = ElementTree.fromstring(junit.read_text())
            assert suite.get("failures") == str(code)
            assert len(suite.findall(".//testcase")) == len(document["rules"])


async def test_nothing_to_test_is_said_in_words(tmp_path: Path, key_file: Path) -> None:
    """2: nobody answers, the key is not the provider's, its name is another one, the options make no sense."""
    other = tmp_path / "other.pem"
    other.write_bytes(private_pem(generate_key()))
    async with BrokenProvider(KEY.public_key(), "http://127.0.0.1:1", tmp_path / "jobs") as provider:
        named = ("--provider", PROVIDER)
        for arguments, words in (
            ((f"http://127.0.0.1:{free_port()}", *named, "--key", str(key_file)), b"does not answer"),
            ((provider.url, *named, "--key", str(other)), b"does not take the key"),
            ((provider.url, "--provider", "nobody", "--key", str(key_file)), b"is nobody the provider's id?"),
            ((provider.url, *named, "--key", str(key_file), "--product", "none"), b"declares no product none"),
            ((provider.url, *named, "--key", str(key_file), "--only", "none."), b"no rule's name begins with none."),
            ((provider.url, *named, "--key", str(tmp_path / "no.pem")), b"no.pem"),
            (("ftp://x", *named, "--key", str(key_file)), b"expected http://"),
            ((provider.url, *named, "--key", str(key_file), "--core-listen", "here"), b"expected HOST:PORT"),
        ):
            code, out, err = await serai(*arguments)
            assert (code, out) == (2, b""), err
            assert words in err, err


def tls_of(pair: Pair) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.cert, pair.key)
    return context


async def test_a_certificate_of_a_ca_of_ones_own(tmp_path: Path, key_file: Path) -> None:
    """Calls and WebSockets are made over TLS, and by --ca alone are they believed."""
    ca = Authority(tmp_path)
    async with (
        BrokenProvider(KEY.public_key(), "http://127.0.0.1:1", tmp_path / "jobs") as provider,
        cuttable(int(provider.url.rpartition(":")[2]), tls_of(ca.issue("localhost", ip="127.0.0.1"))) as way,
    ):
        rules = ("--only", "access.", "--only", "follow.output", "--only", "follow.stranger")
        command = (f"https://127.0.0.1:{way.port}", "--provider", PROVIDER, "--key", str(key_file), *rules)
        code, out, err = await serai(*command, "--ca", ca.file, "--json")
        assert code == 0, (out, err)
        statuses = {rule["name"]: rule["status"] for rule in json.loads(out)["rules"]}
        assert {name for name in statuses if name.startswith("follow.")}
        assert set(statuses.values()) == {"passed"}
        code, out, err = await serai(*command)
        assert (code, out) == (2, b"")
        assert b"--ca FILE names the PEM of who has" in err


async def test_tls_that_fails_is_told_in_words(tmp_path: Path, key_file: Path) -> None:
    """What is wrong with it, and what to do; 2, as whenever nothing could be tested."""
    ca, other, stranger = Authority(tmp_path), Authority(tmp_path, "other"), tmp_path / "none.pem"
    stranger.write_text("no certificate")
    good, elsewhere = ca.issue("localhost", ip="127.0.0.1"), ca.issue("elsewhere")
    async with AsyncExitStack() as opened:
        provider = await opened.enter_async_context(BrokenProvider(KEY.public_key(), "http://127.0.0.1:1", tmp_path / "jobs"))
        port = int(provider.url.rpartition(":")[2])
        ways = [tls_of(good), tls_of(elsewhere)]
        right, wrong_name = [(await opened.enter_async_context(cuttable(port, tls))).port for tls in ways]
        for url, ca_file, words in (
            (f"https://127.0.0.1:{right}", other.file, "--ca FILE names the PEM of who has"),
            (f"https://127.0.0.1:{wrong_name}", ca.file, "its certificate is for another name"),
            (f"https://127.0.0.1:{port}", ca.file, "what answers there is no TLS"),
            (f"https://127.0.0.1:{right}", str(stranger), "expected the PEM of one or more certificates"),
            (provider.url, ca.file, "--ca is for providers that are called by https://"),
            (f"http://127.0.0.1:{right}", "", "if it wants TLS, its address is https://"),
        ):
            more = ("--ca", ca_file) if ca_file else ()
            code, out, err = await serai(url, "--provider", PROVIDER, "--key", str(key_file), "--only", "products.", *more)
            assert (code, out) == (2, b""), (words, out, err)
            assert words in " ".join(err.decode().split()), (words, err)


async def test_ctrl_c_leaves_nothing_running(tmp_path: Path, key_file: Path) -> None:
    """130, and every job that the kit began is asked to end."""
    async with BrokenProvider(KEY.public_key(), "http://127.0.0.1:1", tmp_path / "jobs") as provider:
        command = ("conformance", provider.url, "--provider", PROVIDER, "--key", str(key_file), "--only", "follow.")
        quiet = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "serai_server.cli", *command, stdin=quiet, stdout=quiet, stderr=quiet
        )
        async with asyncio.timeout(60):
            while not provider.runs:
                await asyncio.sleep(0.02)
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 130
        assert all(run.stopping for run in provider.runs.values())


async def test_the_command_against_serai(tmp_path: Path) -> None:
    """As somebody runs it who has the example settings, over the command line alone."""
    async with conformance_site(LOCAL, tmp_path, Generation.G2021) as site:
        code, out, err = await _command(site, tmp_path)
        assert code == 0, (out, err)
        assert b"0 failed" in out


async def _command(site: Site, folder: Path) -> tuple[int, bytes, bytes]:
    file = folder / "key.pem"
    file.write_bytes(private_pem(site.target.key))
    assert site.target.listen is not None
    core = f"{site.target.listen[0]}:{site.target.listen[1]}"
    named = ("--provider", "example", "--key", str(file), "--core-listen", core, "--product", UNIT)
    return await serai(site.target.url, *named, "--only", "terminate.", "--only", "life.", "--only", "whole.", "--verbose")


async def test_keys_are_made_once(tmp_path: Path) -> None:
    """A pair and a refresh token; never over files that are there."""
    code, out, err = await serai("keys", "--dir", str(tmp_path / "new"))
    assert code == 0, err
    files = sorted((tmp_path / "new").iterdir())
    assert [file.name for file in files] == ["conformance-private-key.pem", "conformance-public-key.pem", "conformance-refresh-token"]
    assert files[0].stat().st_mode & 0o77 == 0
    assert b"PRIVATE" not in out
    assert (await serai("keys", "--dir", str(tmp_path / "new")))[0] == 1
