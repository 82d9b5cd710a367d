"""What doctor says of a real cluster: nothing where all is well, and for each thing that is not, that thing."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import aiohttp
import msgspec
import pytest
import pytest_asyncio
from fakes import nomad_alone
from fakes.nomad_alone import RealAgent
from fakes.nomad_pages import settings
from serai_backends.model import Finding, Severity
from serai_backends.nomad.client import open_client
from serai_backends.nomad.doctor import findings
from serai_backends.nomad.settings import NomadSettings, Placement

pytestmark = [
    pytest.mark.skipif(nomad_alone.found() is None, reason=nomad_alone.WITHOUT),
    pytest.mark.asyncio(loop_scope="module"),
]
POLICY = (Path(__file__).parents[3] / "examples/nomad/serai-policy.hcl").read_text()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def real() -> AsyncGenerator[RealAgent]:
    async with nomad_alone.agent(acl=True) as agent:
        await put(agent, "namespace/ucloud", {"Name": "ucloud"})
        await put(agent, "jobs?namespace=ucloud", {"Job": _RUNNING})
        async with aiohttp.ClientSession(agent.address, headers={"X-Nomad-Token": agent.token}) as session, asyncio.timeout(30):
            while True:
                async with session.get("/v1/allocations?namespace=ucloud") as response:
                    if "running" in [a["ClientStatus"] for a in await response.json()]:
                        break
                await asyncio.sleep(0.1)
        yield agent


_RUNNING = {
    "ID": "ucloud-1",
    "Type": "batch",
    "Datacenters": ["*"],
    "Meta": {"serai_provider": "test"},
    "TaskGroups": [
        {
            "Name": "rank-0",
            "EphemeralDisk": {"SizeMB": 100},
            "Tasks": [
                {
                    "Name": "main",
                    "Driver": "raw_exec",
                    "Config": {"command": "/bin/sleep", "args": ["600"]},
                    "Resources": {"CPU": 20, "MemoryMB": 20},
                    "LogConfig": {"MaxFiles": 1, "MaxFileSizeMB": 10},
                }
            ],
        }
    ],
}


async def put(agent: RealAgent, path: str, body: object) -> dict[str, object]:
    async with (
        aiohttp.ClientSession(agent.address, headers={"X-Nomad-Token": agent.token}) as session,
        session.put(f"/v1/{path}", data=msgspec.json.encode(body)) as response,
    ):
        text = await response.text()
        assert response.ok, text
        return msgspec.json.decode(text, type=dict[str, object]) if text else {}


def on(agent: RealAgent, drives: Path, *placements: Placement) -> NomadSettings:
    return msgspec.structs.replace(
        settings(agent.address, timeout_ms=2_000),
        namespace="ucloud" if agent.token else "default",
        drives_dir=str(drives),
        network="host",
        raw_exec=True,
        placements=placements or (Placement(driver="raw_exec"),),
    )


async def asked(mine: NomadSettings, token: str = "") -> list[Finding]:
    async with open_client(mine, environ={"NOMAD_TOKEN": token}) as client:
        return await findings(client, mine)


def troubles(found: list[Finding]) -> list[tuple[Severity, str]]:
    return [(f.severity, f.subject) for f in found if f.severity is not Severity.NOTE]


async def with_policy(agent: RealAgent, name: str, rules: str) -> str:
    """A token that may do no more than that."""
    await put(agent, f"acl/policy/{name}", {"Name": name, "Rules": rules})
    return str((await put(agent, "acl/token", {"Name": name, "Type": "client", "Policies": [name]}))["SecretID"])


async def test_with_the_policy_of_the_examples_all_is_well(real: RealAgent, tmp_path: Path) -> None:
    found = await asked(on(real, tmp_path), await with_policy(real, "whole", POLICY))
    assert troubles(found) == [(Severity.WARNING, "isolation")]  # network host


async def test_a_task_of_nomad_gets_in_by_its_socket_and_its_identity(real: RealAgent, tmp_path: Path) -> None:
    """As docs/nomad.md has Serai itself run: no address and no token in its settings; the policy is attached to its job."""
    await put(real, "namespace/serai", {"Name": "serai"})
    attached = {"Namespace": "serai", "JobID": "serai"}
    await put(real, "acl/policy/serai-job", {"Name": "serai-job", "Rules": POLICY, "JobACL": attached})
    told = tmp_path / "told"
    program = (
        "import asyncio, sys; from serai_backends.nomad.client import open_client\n"
        "from serai_backends.nomad.doctor import findings\nfrom serai_backends.nomad.settings import NomadSettings\n"
        f"mine = NomadSettings(state_dir='/x', provider='p', drives_dir={str(tmp_path)!r}, namespace='ucloud')\n"
        "async def ask():\n"
        "    async with open_client(mine) as client:\n"
        "        found = [f'{f.severity.name} {f.subject}' for f in await findings(client, mine)]\n"
        f"        open({str(told)!r}, 'w').write('\\n'.join([client.access.address, *found, 'end']))\n"
        "asyncio.run(ask())"
    )
    job = msgspec.json.decode(msgspec.json.encode(_RUNNING), type=dict[str, object]) | {"ID": "serai", "Name": "serai"}
    task = {
        "Name": "serai",
        "Driver": "raw_exec",
        "Config": {"command": sys.executable, "args": ["-c", program]},
        "Identities": [{"Name": "default", "File": True}],
        "Identity": {"Name": "default", "File": True},
        "LogConfig": {"MaxFiles": 1, "MaxFileSizeMB": 10},
    }
    job["TaskGroups"] = [{"Name": "serai", "EphemeralDisk": {"SizeMB": 100}, "Tasks": [task]}]
    await put(real, "jobs?namespace=serai", {"Job": job})
    async with asyncio.timeout(30):
        while not _text(told).endswith("end"):
            await asyncio.sleep(0.1)
    address, *found, _ = _text(told).splitlines()
    assert address.startswith("unix://")
    assert "NOTE nomad" in found
    wrong = {line.split()[1] for line in found if line.startswith("ERROR")}
    assert not wrong & {"nomad", "token", "events", "nodes", "namespace"}, found


def _text(file: Path) -> str:
    return file.read_text() if file.exists() else ""


@pytest.mark.parametrize(
    ("line", "right", "severity"),
    [
        ('"list-jobs"', "`list-jobs`", Severity.ERROR),
        ('"read-job"', "`read-job`", Severity.ERROR),
        ('"submit-job"', "`submit-job`", Severity.ERROR),
        ('"read-logs"', "`read-logs`", Severity.WARNING),
        ('"alloc-exec"', "`alloc-exec`", Severity.WARNING),
        ('"alloc-lifecycle"', "`alloc-lifecycle`", Severity.WARNING),
        ('"host-volume-create"', "`host-volume-create`", Severity.ERROR),
        ('"host-volume-delete"', "`host-volume-delete`", Severity.ERROR),
        ('path "nomad/jobs/*"', 'capabilities = ["write"]', Severity.ERROR),
        ("node {", 'node { policy = "read" }', Severity.ERROR),
        ("agent {", 'agent { policy = "read" }', Severity.NOTE),
    ],
)
async def test_each_right_that_is_missing_is_named(real: RealAgent, tmp_path: Path, line: str, right: str, severity: Severity) -> None:
    """Taken one by one out of the policy of the examples."""
    if line.endswith("{"):
        rules = re.sub(rf"^{line}.*?^}}", "", POLICY, flags=re.MULTILINE | re.DOTALL)
    elif line.startswith("path"):
        rules = POLICY.replace("nomad/jobs/*", "nomad/other/*")
    else:
        rules = re.sub(rf"^ *{line},.*$", "", POLICY, flags=re.MULTILINE)
    assert rules != POLICY
    token = await with_policy(real, re.sub(r"[^a-z]", "", line), rules)
    found = await asked(msgspec.structs.replace(on(real, tmp_path), work="volume"), token)
    assert any(f.severity is severity and right in f.text for f in found), found


async def test_without_a_token_jobs_cannot_run(real: RealAgent, tmp_path: Path) -> None:
    """And the event stream, which Nomad opens and says nothing on, is told as well."""
    found = await asked(on(real, tmp_path))
    assert (Severity.ERROR, "events") in troubles(found)
    assert any("there is no token, and ACLs are on: it needs `submit-job`" in f.text for f in found)


async def test_a_namespace_that_is_not_there_is_told(real: RealAgent, tmp_path: Path) -> None:
    found = await asked(msgspec.structs.replace(on(real, tmp_path), namespace="nowhere"), real.token)
    assert [f.text for f in found if f.subject == "namespace"] == ["there is no namespace nowhere: `nomad namespace apply nowhere`"]


async def test_placements_without_nodes_are_told(real: RealAgent, tmp_path: Path) -> None:
    """Pool, datacenter, driver, device, network; as warnings where an autoscaler adds nodes."""
    placements = (
        Placement(product="a/pool", driver="raw_exec", node_pool="nowhere"),
        Placement(product="a/dc", driver="raw_exec", datacenters=("moon-*",)),
        Placement(product="a/driver", driver="docker"),
        Placement(product="a/gpu", driver="raw_exec", device="nvidia/gpu"),
        Placement(product="a/good", driver="raw_exec", datacenters=("dc*",), node_pool="all"),
    )
    mine = on(real, tmp_path, *placements)
    found = await asked(mine, real.token)
    wrong = [f"placement a/{what}" for what in ("pool", "dc", "driver", "driver", "gpu")]
    assert [subject for severity, subject in troubles(found) if severity is Severity.ERROR] == wrong
    found = await asked(msgspec.structs.replace(mine, cluster_grows=True, network="cni/none"), real.token)
    assert (Severity.WARNING, "placement a/pool") in troubles(found)
    assert any("no network cni/none" in f.text for f in found)


async def test_settings_of_the_agent_that_lose_facts_are_told(tmp_path: Path) -> None:
    """And raw_exec where nothing needs it, a kill time-out above the clients', drives that are not there."""
    async with nomad_alone.agent(events=50, allocations=20) as agent:
        mine = msgspec.structs.replace(on(agent, tmp_path / "none", Placement(driver="exec")), kill_timeout_ms=60_000)
        found = await asked(mine)
    texts = " ".join(f.text for f in found)
    for words in (
        "event_buffer_size is 50",
        "gc_max_allocs is 20",
        "max_kill_timeout 30s is less than",
        "not needed",
        "drives_dir",
        "write anywhere",
    ):
        assert words in texts
