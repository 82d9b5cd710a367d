"""The scripts of a replica: a head with everything that is known beforehand, quoted, and the bodies in the .sh files beside this module.

Plain POSIX: they run in whatever /bin/sh an image has (dash and busybox are tried).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from serai_backends.common.files import log_name
from serai_backends.nomad.jobfile import view
from serai_backends.nomad.jobfile.texts import quote

if TYPE_CHECKING:
    from serai_backends.model import ReplicaSpec
    from serai_backends.nomad.jobfile.model import Rank
    from serai_backends.nomad.settings import Firewall, NomadSettings

PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
LOCAL = "local/serai"
"""Where the files of a task lie in its folder."""
START, NODE, NODES, HOSTS, SCRIPT, RULES, FRIENDS = "start.sh", "node.sh", "nodes", "hosts", "script.sh", "firewall.sh", "friends"
SHELL = "shell.sh"


@cache
def body(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _facts(one: Rank) -> dict[str, str]:
    """What all scripts of a replica need. `@task/` and `@alloc/` are folders that only the node knows."""
    spec, here = one.spec, "@task/serai"
    return {
        "rank": str(one.number),
        "replicas": str(spec.replicas),
        "cores": str(spec.resources.cpu),
        "job_id": spec.job_id,
        "ready": "@alloc/firewall-ready" if one.settings.firewall.enabled else "",
        "nodes": f"{here}/{NODES}",
        "script": f"{here}/{SCRIPT}" if spec.scripts else "",
    }


def _head(facts: dict[str, str], *, node_address: bool) -> str:
    """What is known on the node only is put in by the shell: the allocation's folder, the node's address."""
    lines: list[str] = ["#!/bin/sh\n"]
    for name, value in facts.items():
        for mark, variable in (("@alloc/", "$NOMAD_ALLOC_DIR"), ("@task/", "$NOMAD_TASK_DIR")):
            if value.startswith(mark):
                lines.append(f'{name}="{variable}/{value.removeprefix(mark)}"\n')
                break
        else:
            lines.append(f"{name}={quote(value)}\n")
    lines.append("node_address=${SERAI_NODE_ADDRESS-}\n" if node_address else "node_address=\n")
    return "".join(lines)


def start(one: Rank, *, fills: bool, clean: bool, first: bool = False) -> str:
    """The start script. `fills`: it writes /etc/ucloud itself, nobody did before. `clean`: nothing of the environment around is left.
    `first`: it is process 1 of the replica."""
    spec, rank, settings, facts = one.spec, one.number, one.settings, _facts(one)
    shared = settings.work == "path"
    environment = dict(spec.environment)
    facts |= {
        "who_fills": "start" if fills else "",
        "token": spec.job_id if shared else "",
        "out": f"/work/{log_name(rank, 'stdout')}" if shared else "",
        "err": f"/work/{log_name(rank, 'stderr')}" if shared else "",
        "folder": "/work" if spec.change_working_directory else "/" if clean else "",
        "first": "yes" if first else "",
        "search": environment.get("PATH", PATH if clean else ""),
    }
    head = _head(facts, node_address=settings.network == "host")
    # what a node prepares can no longer be read where Nomad laid it
    laid = "" if shared else "/etc/ucloud/.file-" if one.placement.driver == "raw_exec" else "$NOMAD_TASK_DIR/serai/file-"
    return "".join(
        (
            head,
            body("etc.sh"),
            _secrets(spec) if fills else "",
            _files(spec, laid),
            _run(spec, environment, clean=clean),
            body("start.sh"),
            _program(spec),
        )
    )


def shell(one: Rank, *, clean: bool) -> str:
    """What a shell beside the program comes from, to have what the program has: its environment and nothing else, in the job's folder."""
    environment = _run(one.spec, dict(one.spec.environment), clean=clean)
    return f'#!/bin/sh\n{environment}umask 022\ncd /work || cd /\nrun "$@"\n'


def _files(spec: ReplicaSpec, laid: str) -> str:
    """Where the server has no hand in /work, the files for it come with the job; `laid`: the beginning of their paths, empty = it has."""
    lines = ["lay_files() {\n", "    :\n"]
    if laid:
        for number, (name, _) in enumerate(spec.files):
            lines.append(f'    lay "{laid}{number}" {quote(f"/work/{name}")}\n')
    return "".join([*lines, "}\n"])


def _secrets(spec: ReplicaSpec, owner: str = "") -> str:
    """`owner`: whose they become; empty = of whoever runs this."""
    return f"owner={quote(owner)}\n{body('secrets.sh')}" if spec.secrets else "lay_secrets() { :; }\n"


def _run(spec: ReplicaSpec, environment: dict[str, str], *, clean: bool) -> str:
    """`env` sets the variables: the shell itself has names of its own, and refuses others."""
    given = {"HOME": "/work", "USER": "root" if spec.run_as_root else "ucloud"}
    if clean:
        given = {"PATH": PATH, "LANG": "C.UTF-8"} | given
    words = "".join(f" \\\n        {quote(f'{name}={value}')}" for name, value in (given | environment).items())
    # what has a `=` would be one more variable
    program = '/bin/sh -c \'exec "$@"\' sh "$@"' if "=" in spec.argv[0] else '"$@"'
    env = "env -i --" if clean else "env --"
    return f"run() {{\n    unset SERAI_NODE_ADDRESS SERAI_HOSTS\n    exec {env}{words} \\\n        {program}\n}}\n"


def _program(spec: ReplicaSpec) -> str:
    return "program" + "".join(f" \\\n    {quote(word)}" for word in spec.argv) + "\n"


def node(one: Rank) -> str:
    """What root does on the node before the start script, for programs that run on the node itself."""
    spec, settings, facts = one.spec, one.settings, _facts(one)
    uid, gid = one.prepared.user
    shared = settings.work == "path"
    facts |= {"opens_ports": "yes" if spec.ports and not settings.firewall.enabled else ""}
    facts |= {"here": "@task/serai", "hosts": f"@task/serai/{HOSTS}", "source": view.folder(spec, settings) if shared else "@alloc/data"}
    drop = f"setpriv --reuid {uid} --regid {gid} --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all --"
    inside = " unshare --user --map-root-user --" if spec.run_as_root else ""
    enter = "apart" if spec.secrets else "exec"
    drives = view.drives(spec, settings)
    binds = [f"    mkdir -p {view.ROOT} && mount -t tmpfs -o mode=0755,nosuid,nodev ucloud {view.ROOT} || return 1\n"] if drives else []
    binds += [f"    bind {quote(b.source)} {quote(b.target)} {'ro' if b.read_only else 'rw'} || return 1\n" for b in drives]
    return "".join(
        (
            _head(facts, node_address=settings.network == "host"),
            body("etc.sh"),
            _secrets(spec, f"{uid}:{gid}"),
            "bind_drives() {\n    :\n",
            *binds,
            "}\n",
            body("apart.sh") if spec.secrets else "",
            f'become() {{\n    cd / && {enter} {drop}{inside} /bin/sh /etc/ucloud/.start.sh "$1"\n}}\n',
            body("node.sh"),
        )
    )


def _set(networks: tuple[str, ...]) -> str:
    return "{ " + ", ".join(networks) + " }"


_TO_ALL = ("224.0.0.0/4", "255.255.255.255/32")
"""Multicast and broadcast, which the node itself hears too."""


def _rules(firewall: Firewall, ports: tuple[int, ...]) -> list[str]:
    """Both directions; established connections are looked at after the closed networks, so that a peer that is taken away is cut off.

    What comes through the ports of the node has its sender's address, but for jobs of the node itself and for its own loopback: these have
    the bridge's (seen with Nomad's bridge and portmap). So nobody of the jobs' networks is a proxy, whatever the settings say.
    """
    shut = (*firewall.job_networks, *firewall.closed)
    web = f"tcp dport {_set(tuple(map(str, ports)))}" if ports and firewall.proxies else ""
    back = f"tcp sport {_set(tuple(map(str, ports)))}" if web else ""
    proxies = _set(firewall.proxies)
    into = ['iifname "lo" accept', "ip saddr @friends accept"]
    into += [f"ip saddr {_set(firewall.job_networks)} drop"] if firewall.job_networks else []
    into += [f"ip saddr {proxies} {web} accept"] if web else []
    into += [f"ip saddr {_set(firewall.closed)} drop"] if firewall.closed else []
    into += ["meta nfproto ipv4 ct state established,related accept"]
    out = ['oifname "lo" accept', "ip daddr @friends accept"]
    out += [f"ip daddr {proxies} {back} ct state established accept"] if web else []
    out += [f"ip daddr {_set((*shut, *_TO_ALL))} drop"]
    out += ["meta nfproto ipv4 accept"]
    lines = ["table inet ucloud", "delete table inet ucloud", "table inet ucloud {", "set friends { type ipv4_addr; }"]
    for name, rules in (("input", into), ("output", out)):
        lines += [f"chain {name} {{", f"type filter hook {name} priority 0; policy drop;", *rules, "}"]
    lines += ["chain forward {", "type filter hook forward priority 0; policy drop;", "}", "}"]
    return lines


def firewall(spec: ReplicaSpec, settings: NomadSettings) -> str:
    rules = "\n".join(_rules(settings.firewall, spec.ports))
    head = f'#!/bin/sh\nnft={quote(settings.firewall.nft)}\nfriends="$NOMAD_TASK_DIR/serai/{FRIENDS}"\n'
    return f"{head}rules() {{\n    cat <<'RULES'\n{rules}\nRULES\n}}\n{body('firewall.sh')}"
