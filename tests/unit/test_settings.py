"""serai.toml: defaults, paths relative to the file, and errors that name the key and what may stand there."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serai_server.cli.config import SHAPE, ConfigError, Settings, load, parse
from serai_server.cli.config_command import example_text
from serai_server.cli.plan import local_settings, plan_of
from serai_server.cli.toml_errors import unknown_keys, wrong_values
from serai_server.cli.up import within_descriptors
from serai_server.jobs.inputs import MappedDrive
from serai_server.settings import DrivesSettings, MappedDriveSettings, StoreSettings

FILE = Path("/etc/serai/serai.toml")
KEYS = st.sampled_from(["server", "products", "provider", "id", "cpu", "aliases", "core", "url", "zebra"])
MINIMAL = """
[provider]
id = "example"
[core]
url = "https://cloud.example.org"
public_key_file = "core.pem"
refresh_token_file = "/run/secrets/refresh"
[[products]]
id = "c1"
category = "c"
cpu = 2
memory_gib = 1.5
price_unit = "hour"
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, FILE)
    return caught.value.problems


def test_a_minimal_file_is_enough() -> None:
    """What is left out has a default, and paths are absolute, relative to the file's folder."""
    settings = parse(MINIMAL, FILE)
    assert settings.server.state_dir == "/etc/serai/.serai"
    assert settings.socket == Path("/etc/serai/.serai/serai.sock")
    assert settings.store.url == "sqlite:////etc/serai/.serai/serai.db"
    assert settings.backend.local.drives_dir == "/etc/serai/drives"
    assert (settings.core.public_key_file, settings.core.refresh_token_file) == ("/etc/serai/core.pem", "/run/secrets/refresh")


def test_products_are_what_the_catalog_takes() -> None:
    """GiB become bytes, the unit its length, and a product without a provider is ours."""
    (product,) = parse(MINIMAL, FILE).sold()
    assert product.key == "example/c/c1"
    assert (product.resources.cpu, product.resources.memory_bytes, product.period_ms) == (2, 3 * 2**29, 3_600_000)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:///jobs.db", "sqlite:////etc/serai/jobs.db"),
        ("sqlite:////var/jobs.db", "sqlite:////var/jobs.db"),
        ("postgresql://serai@/serai", "postgresql://serai@/serai"),
    ],
)
def test_the_stores_address(url: str, expected: str) -> None:
    """A file of SQLite is a path like all others; PostgreSQL's address is left as it is."""
    assert parse(MINIMAL + f'[store]\nurl = "{url}"', FILE).store.url == expected


def test_the_seeds_two_providers() -> None:
    """The seed's own example calls provider `ucloud` with a product of provider `example`."""
    text = MINIMAL.replace('id = "example"', 'id = "ucloud"\naliases = ["example"]', 1).replace(
        'id = "c1"', 'id = "c1"\nprovider = "example"'
    )
    assert parse(text, FILE).sold()[0].provider == "example"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("[servr]", "servr: there is no such setting; did you mean server?"),
        ('[server]\nstate_dirr = ""', "server.state_dirr: there is no such setting; did you mean state_dir?"),
        ("[drives]\nzzz = 1", "drives.zzz: there is no such setting; [drives] may have personal, project, mapped"),
        ("[backend.local]\ncpus = 1", "backend.local.cpus: there is no such setting; did you mean cpu?"),
        ('[server]\nlog_level = "loud"', "server.log_level: expected one of debug, error, info, warning"),
        ("[server]\nstop_grace_ms = -1", "server.stop_grace_ms: expected a whole number, 0 to 600,000, not -1"),
        ("[server]\nstop_grace_ms = 1979-05-27", "server.stop_grace_ms: expected a whole number, 0 to 600,000, not a date or a time"),
        ("[server]\nstate_dir = 3", "server.state_dir: expected a text, not 3"),
        ("server = 3", "server: expected a section, not 3"),
        ("[gateway]\naccess_log = 1", "gateway.access_log: expected true or false, not 1"),
        ("[backend.local]\nmemory_gib = {}", "backend.local.memory_gib: expected a number, 0 to 1,000,000, not a section"),
        ("[backend.local]\ncpu = true", "backend.local.cpu: expected a whole number, 0 to 100,000, not true"),
        ('[backend.local]\nprogram_dirs = "x"', "backend.local.program_dirs: expected a list, not a text"),
        ('[backend.local]\nprogram_dirs = ["x", []]', "backend.local.program_dirs[1]: expected a text, not a list"),
        ('[store]\nurl = "mysql://x"', "store.url: expected sqlite:///path or postgresql://…, or nothing"),
        ('[drives]\npersonal = "all"', "drives.personal: expected a text with {user} in it and without slash"),
        ('[drives]\nproject = "{project}/{user}"', "drives.project: expected a text with {project} in it, "),
        (f'[server]\nsocket = "{"s" * 120}"', "server.socket: its path is longer than the 107 bytes"),
        ("x = ", "it is not TOML: "),
        ("x = " + "9" * 5_000, "it cannot be read: Exceeds the limit (4300 digits)"),
        ("x = " + "[" * 5_000 + "]" * 5_000, "it cannot be read: lists or tables in it are nested too deep"),
    ],
)
def test_an_error_names_the_key(change: str, expected: str) -> None:
    """Path first, then what may stand there or what was probably meant."""
    text = change + MINIMAL if change == "server = 3" else MINIMAL + change
    assert problems(text)[0].startswith(expected)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("cpu = 2", "cpu = 0", "products[0].cpu: expected a whole number, 1 to 100,000, not 0"),
        ("cpu = 2", 'cpu = "2"', "products[0].cpu: expected a whole number, 1 to 100,000, not a text in quotes"),
        ("cpu = 2", "", "products[0].cpu: is missing"),
        ("memory_gib = 1.5", "memory_gib = 0", "products[0].memory_gib: expected a number, more than 0, at most 1,000,000, not 0"),
        ("cpu = 2", "cpu = 2\ncpuu = 2", "products[0].cpuu: there is no such setting; did you mean cpu?"),
        ('price_unit = "hour"', 'price_unit = "week"', "products[0].price_unit: expected one of day, hour, minute, unit"),
        ('id = "c1"', 'id = "c/1"', "products[0].id: expected a text of 1 to 250 characters without slash, comma and blank"),
        ('id = "c1"', 'id = "c1"\nprovider = "other"', "products[0].provider: 'other' is neither provider.id nor one of provider.aliases"),
        ('[provider]\nid = "example"', "", "provider: is missing"),
        ('id = "example"', 'id = "example"\naliases = ["a", "b c"]', "provider.aliases[1]: expected a text of 1 to 250 characters"),
        ('url = "https://cloud.example.org"', 'url = "cloud"', "core.url: expected an address like https://cloud.example.org"),
    ],
)
def test_an_error_in_a_product_names_its_place(old: str, new: str, expected: str) -> None:
    """Tables are counted from 0, as in the errors of Core's requests."""
    assert problems(MINIMAL.replace(old, new))[0].startswith(expected)


def test_every_problem_is_told_at_once() -> None:
    """Nobody corrects a file one error at a time: unknown keys, wrong values and missing ones, also several in one section."""
    assert len(problems(MINIMAL + "[server]\na = 1\nb = 2\n[zebra]\n")) == 3
    wrong = MINIMAL.replace("cpu = 2", 'cpu = "2"').replace('id = "example"', "") + "[server]\na = 1\nsocket = 1\nlog_level = 2\n"
    assert [line.partition(":")[0] for line in problems(wrong)] == [
        "server.a",
        "server.socket",
        "server.log_level",
        "products[0].cpu",
        "provider.id",
    ]


VALUES = st.recursive(st.booleans() | st.integers() | st.floats() | st.text(), lambda v: st.lists(v) | st.dictionaries(KEYS, v))


@settings(deadline=None)
@given(VALUES, st.sampled_from(["server", "server.socket", "products", "core.url", "provider.aliases", "jobs.workers", "drives.personal"]))
def test_a_file_is_taken_or_explained(value: object, path: str) -> None:
    """The walk that tells of every problem finds one exactly where msgspec refuses the file."""
    document: dict[str, Any] = tomllib.loads(MINIMAL)
    section, _, key = path.partition(".")
    document[section] = {**document.get(section, {}), key: value} if key else value
    try:
        msgspec.convert(document, Settings)
        taken = True
    except msgspec.ValidationError:
        taken = False
    explained = [*unknown_keys(document, SHAPE), *wrong_values(document, Settings)]
    assert taken == (not explained)


def test_no_products_and_twice_the_same() -> None:
    """A provider sells something, and each thing once."""
    product = MINIMAL[MINIMAL.index("[[products]]") :]
    assert problems("products = []\n" + MINIMAL.replace(product, ""))[0].startswith("products: expected 1 or more")
    assert problems(MINIMAL + product) == ["products[1]: c/c1 is there twice"]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing, or no text: said in words."""
    with pytest.raises(ConfigError, match="it cannot be read: No such file"):
        load(tmp_path / "nope.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(tmp_path / "bytes.toml")


def test_a_password_is_not_shown() -> None:
    """PostgreSQL's address may hold one."""
    settings = parse(MINIMAL + '[store]\nurl = "postgresql://serai:secret-token@db/serai"', FILE)
    assert "secret-token" not in repr(settings)
    assert "secret-token" not in repr(StoreSettings(url="postgresql://serai:secret-token@db/serai"))
    assert "secret-token" not in "".join(problems(MINIMAL + '[store]\nurl = "mysql://serai:secret-token@db/serai"'))


def test_the_example_is_right_and_shows_the_defaults() -> None:
    """The example passes the check, also with every line that is commented out, and those lines are the defaults."""
    as_it_is = parse(example_text(), FILE)
    # A line that shows a default is "# name = value"; the head of the file is prose.
    shown = [line.startswith("# ") and (" = " in line or line.startswith("# [[")) for line in example_text().splitlines()]
    lines = [line[2:] if is_shown else line for line, is_shown in zip(example_text().splitlines(), shown, strict=True)]
    assert lines != example_text().splitlines()
    all_of_it = parse("\n".join(lines), FILE)
    # A drive is no default: what is shown is one of a list that is empty.
    assert all_of_it.drives.mapped == (MappedDriveSettings(id="shared", path="/srv/shared"),)
    drives = msgspec.structs.replace(all_of_it.drives, mapped=())
    assert [product.id for product in all_of_it.licenses.products] == ["mesh-solver"]
    licenses = msgspec.structs.replace(all_of_it.licenses, products=())
    assert [client.name for client in all_of_it.server.clients] == ["ci.example.org"]
    server = msgspec.structs.replace(all_of_it.server, clients=())
    assert msgspec.structs.replace(all_of_it, server=server, drives=drives, licenses=licenses) == as_it_is
    assert isinstance(as_it_is, Settings)


MAPPED = """
[[drives.mapped]]
id = "1234"
path = "data"
read_only = true
users = ["ann"]
[[drives.mapped]]
id = "My drive"
path = "/srv/mine"
projects = ["p"]
"""


def test_mapped_drives() -> None:
    """The backend gets their folders, the server who may use them."""
    settings = parse(MINIMAL + MAPPED, FILE)
    assert local_settings(settings).drives == {"1234": "/etc/serai/data", "My drive": "/srv/mine"}
    assert plan_of(settings).policy.mapped == {
        "1234": MappedDrive(read_only=True, users=frozenset({"ann"})),
        "My drive": MappedDrive(projects=frozenset({"p"})),
    }


@pytest.mark.parametrize("name", ["", "a/b", "/", ".", "..", ".a", " a", "a ", "a" * 101])
def test_a_drive_that_no_path_could_name(name: str) -> None:
    """An id is one component of a path, and not a special one."""
    text = MINIMAL + MAPPED.replace('"1234"', f'"{name}"')
    assert problems(text)[0].startswith(
        "drives.mapped[0].id: expected a text of 1 to 100 characters without slash, that begins with no dot"
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("My drive", "drives.mapped[1].id: My drive is there twice"),
        ("é" * 100, "drives.mapped[0].id: expected printable characters and at most 100 bytes"),
        ("a\\tb", "drives.mapped[0].id: expected printable characters and at most 100 bytes"),
    ],
)
def test_a_drive_that_cannot_be_mapped(name: str, expected: str) -> None:
    """Twice the same, or more than a folder's name may be."""
    assert problems(MINIMAL + MAPPED.replace('"1234"', f'"{name}"')) == [expected]


NAMES = st.text(min_size=1, max_size=200) | st.text("ab@%.-/2E", min_size=1, max_size=4)


@given(st.tuples(NAMES, st.just("") | NAMES), st.tuples(NAMES, st.just("") | NAMES))
def test_nobody_reaches_the_drive_of_another(one: tuple[str, str], other: tuple[str, str]) -> None:
    """Two workspaces never share a drive, and a drive is one harmless path component."""
    rule = DrivesSettings()
    drive = rule.drive(*one)
    assert (drive == rule.drive(*other)) == (one == other)
    assert "/" not in drive
    assert "\0" not in drive
    assert not drive.startswith(".")
    assert 1 <= len(drive.encode()) <= 100


def test_a_drive_as_people_see_it() -> None:
    """Ordinary names stay as they are."""
    rule = DrivesSettings()
    assert rule.drive("JaneDoe#1234", "") == "JaneDoe#1234"
    assert rule.drive("JaneDoe#1234", "3f2a") == "3f2a@JaneDoe#1234"
    assert rule.drive("../x", "") == "%2E.%2Fx"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('[[backend.nomad.placements]]\nproduct = "nope/x"', "sell no machine type nope/x"),
        ('[[backend.nomad.placements]]\nproduct = "c/c2"', "the machine type c/c1 has none"),
        ("[[backend.nomad.placements]]\n[[backend.nomad.placements]]", "has a placement already"),
        ('[[backend.nomad.placements]]\ndriver = "exec"', 'needs backend.nomad.work = "volume"'),
        ('[[backend.nomad.placements]]\ndriver = "raw_exec"', "raw_exec is off"),
        ('[[backend.nomad.placements]]\nconstraints = ["attr.cpu.arch = amd64"]', "stands in ${…}"),
        ('network = "host"\n[backend.nomad.firewall]\nenabled = true', "cannot have a firewall"),
        ('[backend.nomad.firewall]\nenabled = true\nproxies = ["172.26.64.1/32"]', "proxies[0]: 172.26.64.1/32 is in job_networks"),
        ('[backend.nomad.firewall]\nenabled = true\nproxies = ["0.0.0.0/0"]', "proxies[0]: 0.0.0.0/0 is in job_networks"),
        ('[backend.nomad.firewall]\nenabled = true\nproxies = ["10.0.0.300/32"]', "10.0.0.300"),
        (
            '[backend.nomad.firewall]\nenabled = true\n[gateway.web]\nmode = "host"\ndomain = "apps.example.org"',
            "backend.nomad.firewall.proxies: gateway.web.mode is on",
        ),
        ('client_cert = "a.pem"', "one does nothing without the other"),
    ],
)
def test_placements_with_which_no_job_could_run_are_refused(lines: str, said: str) -> None:
    """Before a user finds out."""
    found = problems(MINIMAL + f'[backend]\nkind = "nomad"\n[backend.nomad]\n{lines}\n')
    assert any(said in problem for problem in found), found


def test_gpus_need_a_device_at_nomad() -> None:
    """The machine type has them, and nothing says what Nomad calls them."""
    text = MINIMAL.replace("cpu = 2", "cpu = 2\ngpu = 1") + '[backend]\nkind = "nomad"\n'
    assert any("has GPUs" in problem for problem in problems(text))


def test_the_environment_stands_before_the_file() -> None:
    """For the front door, each setting by the name of its variable; a wrong one is told by its key, an unknown one by its variable."""
    text = MINIMAL + "[gateway.envoy]\nport = 1\nrate = 7\n"
    given = {"SERAI_ENVOY_PORT": "8443", "SERAI_ENVOY_TOOLS": "false", "SERAI_ENVOY_ALLOWED_ORIGINS": "https://a.test, https://b.test"}
    envoy = parse(text, FILE, given).gateway.envoy
    assert (envoy.port, envoy.rate, envoy.tools, envoy.allowed_origins) == (8443, 7, False, ("https://a.test", "https://b.test"))
    assert parse(MINIMAL, FILE, {"SERAI_ENVOY_KEY": "k", "SERAI_ENVOY_CERTIFICATE": "c"}).gateway.envoy.key == "/etc/serai/k"
    with pytest.raises(ConfigError) as caught:
        parse(MINIMAL, FILE, {"SERAI_ENVOY_RATE": "many", "SERAI_ENVOY_POTR": "1"})
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["SERAI_ENVOY_POTR", "gateway.envoy.rate"]


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ('listen = "0.0.0.0:8890"', "server.tools.listen: without TLS only"),
        ('listen = "provider.example.org:8890"', "server.tools.listen: without TLS only"),
        ('listen = "[::]:8890"', "server.tools.listen: without TLS only"),
        ('listen = "8890"', "server.tools.listen: expected host:port"),
        ('listen = "127.0.0.1:70000"', "server.tools.listen: expected a port"),
        ('certificate = "c.pem"', "server.tools.certificate and server.tools.key"),
        ('client_ca = "ca.pem"', "server.tools.client_ca: clients' certificates need TLS"),
        ('socket_mode = "rw"', "server.tools.socket_mode: expected three octal digits"),
        (f'socket = "/{"x" * 120}"', "server.tools.socket: its path is longer"),
        ('[[server.clients]]\nname = "a"\nrole = "root"', "server.clients[0].role: expected"),
        ('[[server.clients]]\nname = "a"\nrole = "admin"\nproject = "p"', "server.clients[0].project: an administrator"),
        ('[[server.clients]]\nname = "a"\nrole = "viewer"\n[[server.clients]]\nname = "a"\nrole = "admin"', "server.clients[1].name: a is"),
    ],
)
def test_a_door_that_would_stand_open_is_refused(section: str, problem: str) -> None:
    """And so is what does nothing, or two things at once."""
    (found,) = problems(MINIMAL + "[server.tools]\n" + section)
    assert found.startswith(problem)


def test_the_gateways_socket() -> None:
    """There is none but where it is named, beside serai.toml; what it cannot be is told with its key."""
    assert parse(MINIMAL, FILE).gateway.socket == ""
    assert parse(MINIMAL + '[gateway]\nsocket = "run/g.sock"', FILE).gateway.socket == "/etc/serai/run/g.sock"
    (found,) = problems(MINIMAL + f'[gateway]\nsocket = "/{"x" * 120}"')
    assert found.startswith("gateway.socket: its path is longer")
    (found,) = problems(MINIMAL + '[gateway]\nsocket_mode = "660"')
    assert found.startswith("gateway.socket_mode: expected three octal digits")


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:8890", "[::1]:8890"])
def test_a_plain_port_on_loopback_is_taken(listen: str) -> None:
    """The door's socket is in state_dir unless it is named."""
    settings = parse(MINIMAL + f'[server.tools]\nlisten = "{listen}"', FILE)
    assert (settings.server.tools.listen, settings.server.tools.socket) == (listen, "/etc/serai/.serai/tools.sock")


@pytest.mark.parametrize("place", ["gateway", "gateway.envoy"])
def test_an_environment_beside_a_section_that_is_none_hides_nothing(place: str) -> None:
    """The file's own error is told, whatever the environment says."""
    with pytest.raises(ConfigError) as caught:
        parse(f"{place} = 3\n{MINIMAL}", FILE, {"SERAI_ENVOY_PORT": "8443"})
    assert [problem for problem in caught.value.problems if problem.startswith(f"{place}: ")]


def test_envoy_has_no_more_connections_and_calls_than_descriptors() -> None:
    """`serai up` takes as many as fit, for Envoy's descriptors and the gateway's; what fits stays as it was set."""
    settings = parse(MINIMAL, FILE)
    assert within_descriptors(settings, 262_144) is settings
    envoy = within_descriptors(settings, 4_096).gateway.envoy
    assert (envoy.max_connections, envoy.max_calls, envoy.open_calls) == (1_365, 512, 256)
    assert envoy.max_connections + 4 * envoy.max_calls + envoy.open_calls < 4_096
    assert within_descriptors(settings, 20_000).gateway.envoy.max_calls == 2_500
