"""serai.toml: defaults, paths relative to the file, and errors that name the key and what may stand there."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serai_server.cli.config import ConfigError, Settings, load, parse
from serai_server.cli.config_command import example_text
from serai_server.settings import DrivesSettings, StoreSettings

FILE = Path("/etc/serai/serai.toml")
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
        ("[drives]\nzzz = 1", "drives.zzz: there is no such setting; [drives] may have personal, project"),
        ("[backend.local]\ncpus = 1", "backend.local.cpus: there is no such setting; did you mean cpu?"),
        ('[server]\nlog_level = "loud"', "server.log_level: expected one of debug, error, info, warning"),
        ("[server]\nstop_grace_ms = -1", "server.stop_grace_ms: expected int >= 0"),
        ("[server]\nstate_dir = 3", "server.state_dir: expected str, got int"),
        ("server = 3", "server: expected object, got int"),
        ('[store]\nurl = "mysql://x"', "store.url: expected str matching regex"),
        ('[drives]\npersonal = "all"', "drives.personal: expected str matching regex"),
        ('[drives]\nproject = "{project}/{user}"', "drives.project: expected str matching regex"),
        (f'[server]\nsocket = "{"s" * 120}"', "server.socket: its path is longer than the 107 bytes"),
        ("x = ", "it is not TOML: "),
    ],
)
def test_an_error_names_the_key(change: str, expected: str) -> None:
    """Path first, then what may stand there or what was probably meant."""
    text = change + MINIMAL if change == "server = 3" else MINIMAL + change
    assert problems(text)[0].startswith(expected)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("cpu = 2", "cpu = 0", "products[0].cpu: expected int >= 1"),
        ("cpu = 2", 'cpu = "2"', "products[0].cpu: expected int, got str"),
        ("cpu = 2", "", "products[0].cpu: is missing"),
        ("cpu = 2", "cpu = 2\ncpuu = 2", "products[0].cpuu: there is no such setting; did you mean cpu?"),
        ('price_unit = "hour"', 'price_unit = "week"', "products[0].price_unit: expected one of day, hour, minute, unit"),
        ('id = "c1"', 'id = "c/1"', "products[0].id: expected str matching regex"),
        ('id = "c1"', 'id = "c1"\nprovider = "other"', "products[0].provider: 'other' is neither provider.id nor one of provider.aliases"),
        ('[provider]\nid = "example"', "", "provider: is missing"),
    ],
)
def test_an_error_in_a_product_names_its_place(old: str, new: str, expected: str) -> None:
    """Tables are counted from 0, as in the errors of Core's requests."""
    assert problems(MINIMAL.replace(old, new))[0].startswith(expected)


def test_every_unknown_key_is_told_at_once() -> None:
    """Nobody corrects a file one error at a time."""
    assert len(problems(MINIMAL + "[server]\na = 1\nb = 2\n[zebra]\n")) == 3


def test_no_products_and_twice_the_same() -> None:
    """A provider sells something, and each thing once."""
    product = MINIMAL[MINIMAL.index("[[products]]") :]
    assert problems("products = []\n" + MINIMAL.replace(product, ""))[0].startswith("products: expected array of length >= 1")
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
    lines = [line[2:] if line.startswith("# ") and " = " in line else line for line in example_text().splitlines()]
    assert lines != example_text().splitlines()
    assert parse("\n".join(lines), FILE) == as_it_is
    assert isinstance(as_it_is, Settings)


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
