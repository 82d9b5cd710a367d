"""What Nomad is asked to run, without Nomad: goldens of a few jobs, and what is refused."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from serai_backends.errors import SubmissionRefused
from serai_backends.model import Mount, Peer, ReplicaSpec, Resources
from serai_backends.nomad.jobfile import Prepared, build, drivers, spec_hash
from serai_backends.nomad.settings import Driver, NomadSettings, Placement
from unit.nomad.jobs import CASES, ODD, OWNER, group, settings, spec, task

GOLDEN = Path(__file__).parents[2] / "golden" / "nomad" / "jobs"


@pytest.mark.parametrize("name", CASES)
def test_jobs_are_as_they_were_looked_at(name: str) -> None:
    """Golden files; `SERAI_GOLDEN=write` writes them anew, to be read before they are committed."""
    described, attempt, cluster = CASES[name]
    text = json.dumps(build(described, attempt, OWNER, cluster), indent=1, ensure_ascii=False) + "\n"
    file = GOLDEN / f"{name}.json"
    if os.environ.get("SERAI_GOLDEN") == "write":
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


def test_the_same_job_has_the_same_hash_and_another_has_not() -> None:
    """Of everything that Nomad is asked, and stored with it."""
    job = build(spec(), 1, OWNER, settings())
    meta = job["Meta"]
    assert isinstance(meta, dict)
    assert meta["serai_spec"] == spec_hash(job) == spec_hash(build(spec(), 1, OWNER, settings()))
    for other in (
        build(spec(argv=("x",)), 1, OWNER, settings()),
        build(spec(), 2, OWNER, settings()),
        build(spec(), 1, Prepared(5, 5), settings()),
    ):
        assert spec_hash(other) != spec_hash(job)


@pytest.mark.parametrize("driver", ["docker", "podman", "raw_exec", "exec"])
def test_no_word_of_a_user_stands_where_nomad_replaces(driver: Driver) -> None:
    """`${…}` is only replaced outside of templates; there only our own words stand."""
    words = tuple(f"{odd}MARK" for odd in ODD)
    described = spec(
        argv=("prog", *words), environment=(("E", words[2]),), scripts=(words[2],), files=((words[2].replace("/", ""), words[3]),)
    )
    job = build(described, 1, OWNER, settings(driver, work="volume" if driver == "exec" else "path"))
    main = dict(task(job))
    del main["Templates"]
    assert "MARK" not in json.dumps(main)


@pytest.mark.parametrize("driver", ["docker", "podman", "raw_exec", "exec"])
def test_which_drivers_need_an_image(driver: Driver) -> None:
    """The settings say it of a machine type exactly where a job without one is refused; so the server need not wait for that."""
    cluster = settings(driver, work="volume" if driver == "exec" else "path")
    described = spec(image="")
    if cluster.needs_image(described.product):
        with pytest.raises(SubmissionRefused, match="names no container image"):
            build(described, 1, OWNER, cluster)
    else:
        build(described, 1, OWNER, cluster)


def test_each_machine_type_needs_what_its_own_placement_does() -> None:
    """One without a placement needs nothing: its jobs cannot run at all."""
    placements = (Placement(product="cpu/bare", driver="raw_exec"), Placement(product="cpu/box"))
    some = msgspec.structs.replace(settings(), placements=placements)
    assert [some.needs_image(name) for name in ("cpu/bare", "cpu/box", "cpu/other")] == [False, True, False]


@pytest.mark.parametrize("described", [spec(argv=("x" * 9_000,)), spec(environment=(("E", "x" * 9_000),)), spec(scripts=("x" * 9_000,))])
def test_a_job_too_large_is_refused_before_it_is_made(described: ReplicaSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand ranks of a few MiB each are more than the server's memory."""
    monkeypatch.delattr(drivers, "main")
    with pytest.raises(SubmissionRefused, match="too large"):
        build(replace(described, replicas=1_000), 1, OWNER, settings())


@pytest.mark.parametrize("driver", ["docker", "podman", "exec"])
def test_programs_have_no_capabilities(driver: Driver) -> None:
    """Nomad gives those of a container's root to nobody too, where nothing is said."""
    config = task(build(spec(), 1, OWNER, settings(driver, work="volume" if driver == "exec" else "path")))["Config"]
    assert isinstance(config, dict) and config["cap_drop"] == ["all"]


@pytest.mark.parametrize("text", [*ODD, "<serai<<1serai<", "<serai", "<<serai<"])
def test_delimiters_never_occur_in_the_text(text: str) -> None:
    """So that no part of a user's text is a template."""
    templates = task(build(spec(argv=("x", text)), 1, OWNER, settings()))["Templates"]
    assert isinstance(templates, list)
    plain = [each for each in templates if isinstance(each, dict) and "LeftDelim" in each]
    assert plain
    for each in plain:
        assert str(each["LeftDelim"]) not in str(each["EmbeddedTmpl"])


REFUSED: dict[str, tuple[ReplicaSpec, NomadSettings, str]] = {
    "no image": (spec(image=""), settings(), "names no container image"),
    "image": (spec(image="${x}"), settings(), "not the name of an image"),
    "root": (spec(run_as_root=True), settings(), "wants to be root"),
    "gpu": (spec(resources=Resources(1, 1, gpu=1)), settings(), "names no device"),
    "folder": (spec(output_folder="home/Jobs/${x}/1"), settings(), "rename it"),
    "folder with a directive": (spec(output_folder="home/Jobs/t/%{if true}x%{endif} (1)"), settings(), "rename it"),
    "inputs": (spec(mounts=(Mount("home/x", "/work/x"),)), settings(work="scratch"), "inputs need drives"),
    "exec": (spec(), settings("exec"), 'work = "volume"'),
    "raw_exec volume": (spec(), settings("raw_exec", work="volume"), "mounts no volumes"),
    "exec root": (spec(run_as_root=True), settings("exec", work="volume"), "never as root"),
    "host peers": (spec(peers=(Peer("db", "1"),)), settings(network="host"), "no peers"),
    "host firewall": (spec(), settings(network="host", firewall=True), "network namespace"),
    "podman colon": (spec(output_folder="home/Jobs/a:b/1"), settings("podman"), "podman"),
    "too large": (spec(argv=("x", "y" * (9 << 20))), settings(), "too large"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_run_is_refused_in_words(name: str) -> None:
    """SubmissionRefused says what is wrong and what to do."""
    described, cluster, words = REFUSED[name]
    with pytest.raises(SubmissionRefused, match=words):
        build(described, 1, OWNER, cluster)


def test_raw_exec_needs_the_settings_and_a_user() -> None:
    """Off unless allowed; never as the node's root."""
    closed = NomadSettings(state_dir="/s", provider="p", drives_dir="/d", placements=(Placement(driver="raw_exec"),))
    with pytest.raises(SubmissionRefused, match="raw_exec"):
        build(spec(), 1, OWNER, closed)
    with pytest.raises(SubmissionRefused, match="must not be root"):
        build(spec(), 1, Prepared(0, 0), settings("raw_exec"))


def test_placements_are_by_machine_type() -> None:
    """Pool, datacenters, constraints and priority of the placement; none at all is refused."""
    job = build(spec(), 1, OWNER, settings())
    assert (job["NodePool"], job["Datacenters"], job["Priority"]) == ("hpc", ["dc1"], 60)
    assert job["Constraints"] == [{"LTarget": "${attr.cpu.arch}", "Operand": "=", "RTarget": "amd64"}]
    narrow = NomadSettings(state_dir="/s", provider="p", drives_dir="/d", placements=(Placement(product="a/b"),))
    with pytest.raises(SubmissionRefused, match="machine type c/d"):
        build(spec(product="c/d"), 1, OWNER, narrow)


def test_a_far_limit_only_where_the_job_has_one() -> None:
    """The job's own limit is kept by the server; Nomad's lies behind it."""
    assert group(build(spec(time_limit_ms=60_000), 1, OWNER, settings()))["MaxRunDuration"] == (60_000 + 30 * 86_400_000) * 1_000_000
    assert "MaxRunDuration" not in group(build(spec(), 1, OWNER, settings()))


def test_resources_are_of_the_machine_type() -> None:
    """Cores in the cluster's measure, memory rounded up to whole MiB, GPUs as the placement calls them."""
    assert task(build(spec(), 1, OWNER, settings()))["Resources"] == {"CPU": 2000, "MemoryMB": 513}
    gpu = spec(resources=Resources(cpu=1, memory_bytes=0, gpu=2))
    assert task(build(gpu, 1, OWNER, settings(gpu="nvidia/gpu")))["Resources"] == {
        "CPU": 1000,
        "MemoryMB": 16,
        "Devices": [{"Name": "nvidia/gpu", "Count": 2}],
    }


@pytest.mark.parametrize("driver", ["docker", "podman", "raw_exec", "exec"])
@pytest.mark.parametrize("firewall", [False, True])
def test_a_hostname_is_asked_for_only_where_nomad_gives_one(driver: Driver, firewall: bool) -> None:
    """Nomad starts no group that wants one and has a task of another driver than docker."""
    cluster = settings(driver, work="volume" if driver == "exec" else "path", firewall=firewall)
    networks = group(build(spec(), 1, OWNER, cluster))["Networks"]
    assert isinstance(networks, list) and isinstance(networks[0], dict)
    assert ("Hostname" in networks[0]) == (driver == "docker" and not firewall)


def test_on_the_nodes_network_a_port_tells_the_nodes_address() -> None:
    """Without any Nomad tells no address there, and ranks that wait for each other's would wait for ever."""
    networks = group(build(spec(replicas=2), 1, OWNER, settings("raw_exec", network="host")))["Networks"]
    assert networks == [{"Mode": "host", "ReservedPorts": [], "DynamicPorts": [{"Label": "address"}]}]
