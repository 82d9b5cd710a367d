"""Jobs that the tests of the job file are about, and their settings."""

from __future__ import annotations

from dataclasses import replace

from serai_backends.model import Mount, Peer, ReplicaSpec, Resources
from serai_backends.nomad.jobfile import JSON, JobFile, Prepared
from serai_backends.nomad.settings import Driver, Firewall, NomadSettings, Placement

OWNER = Prepared(2_000_000_007, 2_000_000_007)
ODD = (
    "a b",
    "",
    "$HOME ${HOME} ${env.HOME} ${attr.kernel.name}",
    "{{ env `HOME` }}",
    "<serai< >serai>",
    "'\"\\\n\t`id`",
    "%{ if } æ 🦀",
    "-x",
    "=",
)


def settings(
    driver: Driver = "docker", *, gpu: str = "", work: str = "path", network: str = "bridge", firewall: bool = False
) -> NomadSettings:
    assert work in {"path", "volume", "scratch"}
    return NomadSettings(
        state_dir="/var/lib/serai/nomad",
        provider="example",
        drives_dir="/srv/drives",
        node_drives_dir="/mnt/drives",
        drives={"mapped": "/data/mapped"},
        work="path" if work == "path" else "volume" if work == "volume" else "scratch",
        network=network,
        raw_exec=True,
        placements=(
            Placement(product="cpu/*", driver=driver),
            Placement(
                driver=driver,
                node_pool="hpc",
                datacenters=("dc1",),
                constraints=(("${attr.cpu.arch}", "=", "amd64"),),
                device=gpu,
                priority=60,
            ),
        ),
        firewall=Firewall(enabled=firewall, proxies=("10.9.0.0/24",)),
    )


def spec(**changes: object) -> ReplicaSpec:
    plain = ReplicaSpec(
        job_id="4711",
        replicas=1,
        argv=("acme-batch", "--debug", "true", "ä ${x}"),
        environment=(("GREETING", "a b=c"), ("odd.name", "x")),
        resources=Resources(cpu=2, memory_bytes=(512 << 20) + 1),
        output_folder="home/Jobs/Batch/4711",
        image="acme/batch:1.0.0",
    )
    return replace(plain, **changes)  # pyright: ignore[reportArgumentType]  # each test names fields that there are


def group(job: JobFile, rank: int = 0) -> dict[str, JSON]:
    groups = job["TaskGroups"]
    assert isinstance(groups, list)
    found = groups[rank]
    assert isinstance(found, dict)
    return found


def task(job: JobFile, rank: int = 0, name: str = "main") -> dict[str, JSON]:
    tasks = group(job, rank)["Tasks"]
    assert isinstance(tasks, list)
    return next(each for each in tasks if isinstance(each, dict) and each["Name"] == name)


CASES: dict[str, tuple[ReplicaSpec, int, NomadSettings]] = {
    "docker-batch": (spec(time_limit_ms=3_600_000, files=(("JobParameters.json", "{}"),)), 1, settings()),
    "docker-ranks-firewall": (
        spec(
            replicas=2,
            ports=(8080,),
            peers=(Peer("db", "4700"),),
            mounts=(Mount("mapped/in", "/work/in", read_only=True), Mount("home/x", "/work/x")),
        ),
        2,
        settings(firewall=True),
    ),
    "raw-exec-root": (
        spec(run_as_root=True, scripts=("#!/bin/sh\necho {{ hi }}",), mounts=(Mount("other", "/work/o"),)),
        1,
        settings("raw_exec"),
    ),
    "exec-volume": (spec(replicas=2, files=(("a", "{{ b }}"),)), 1, settings("exec", work="volume", network="host")),
    "podman-scratch": (spec(change_working_directory=False), 1, settings("podman", work="scratch")),
    "docker-gpu-host": (
        spec(resources=Resources(cpu=1, memory_bytes=0, gpu=2), ports=(80,)),
        1,
        settings(gpu="nvidia/gpu", network="host"),
    ),
}
