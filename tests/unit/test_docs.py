"""What people rely on is written down: each setting, each error, each command with its options, each exit code."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import cast

import click
import pytest
from msgspec import inspect
from serai.core.v1 import errors_pb2
from serai.wire.v1 import options_pb2
from serai_devcore import Generation
from serai_server.cli import kit
from serai_server.cli.config import SHAPE, load
from serai_server.cli.config_command import example_text
from serai_server.cli.exits import MEANINGS, Exit
from serai_server.cli.main import cli
from serai_server.cli.up import needs_tcp
from serai_server.jobs import causes

DOCS = Path(__file__).parents[2] / "docs"
_OF_EVERY_COMMAND = {"config", "socket", "as_json", "help"}


def settings(kind: inspect.Type, path: str = "") -> Iterator[tuple[str, inspect.Field]]:
    if isinstance(kind, inspect.VarTupleType):
        kind = kind.item_type
    if isinstance(kind, inspect.StructType):
        for field in kind.fields:
            at = f"{path}.{field.encode_name}".removeprefix(".")
            inner = list(settings(field.type, at))
            yield from inner or [(at, field)]


def rows(page: str) -> dict[str, list[str]]:
    """Rows of the page's tables by their first cell, without code marks."""
    lines = [line for line in (DOCS / page).read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    cells = [[cell.strip().strip("`") for cell in line.strip("|").split(" | ")] for line in lines]
    return {row[0].strip(): row for row in cells}


def commands(command: click.Command, path: str = "serai") -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from commands(inner, f"{path} {name}")
    else:
        yield path, command


@pytest.mark.parametrize(("path", "field"), list(settings(SHAPE)), ids=lambda v: v if isinstance(v, str) else "")
def test_each_setting_has_a_row(path: str, field: inspect.Field) -> None:
    """With its default as it is in the code, or "required"."""
    row = rows("settings.md").get(path)
    assert row is not None, f"docs/settings.md has no row for {path}"
    default = row[1]
    if field.required:
        assert default == "required"
    else:
        plain = field.default if isinstance(field.default, (str, int, float, bool)) else list(field.default)
        assert default.strip("`").replace('"', "").replace("true", "True").replace("false", "False") == str(plain).replace("'", "")


def shown_in_the_example() -> dict[str, object]:
    """Values by path, of what stands there and of what is commented out."""
    lines = [line.removeprefix("# ") if re.match(r"# (\w+ = |\[\[)", line) else line for line in example_text().splitlines()]
    found: dict[str, object] = {}

    def walk(value: object, path: str) -> None:
        if isinstance(value, dict):
            for key, inner in cast("dict[str, object]", value).items():
                walk(inner, f"{path}.{key}".removeprefix("."))
        elif path in ("products", "server.clients", "drives.mapped", "backend.nomad.placements", "licenses.products"):
            for product in cast("list[object]", value):
                walk(product, path)
        else:
            found[path] = value

    walk(tomllib.loads("\n".join(lines)), "")
    return found


@pytest.mark.parametrize(("path", "field"), list(settings(SHAPE)), ids=lambda v: v if isinstance(v, str) else "")
def test_each_setting_is_in_the_example(path: str, field: inspect.Field) -> None:
    """With its real default where it has one."""
    shown = shown_in_the_example()
    assert path in shown, f"serai config example does not show {path}"
    if not field.required:
        default: object = field.default
        assert shown[path] == (list(cast("tuple[object, ...]", default)) if isinstance(default, tuple) else default)


def test_no_setting_is_described_that_is_not_there() -> None:
    """A setting that was removed goes from the page too."""
    there = {path for path, _ in settings(SHAPE)}
    assert {name for name in rows("settings.md") if "." in name} - there == set()


@pytest.mark.parametrize("name", list(errors_pb2.ErrorReason.keys()))
def test_each_error_has_a_row(name: str) -> None:
    """With the codes of the table."""
    form = errors_pb2.ErrorReason.DESCRIPTOR.values_by_name[name].GetOptions().Extensions[options_pb2.error]
    row = rows("errors.md")[name.removeprefix("ERROR_REASON_")]
    assert row[1:4] == [form.grpc_code, str(form.http_status), form.error_code or "\N{EN DASH}"]


@pytest.mark.parametrize(("path", "command"), list(commands(cli)), ids=lambda v: v if isinstance(v, str) else "")
def test_each_command_is_there_and_teaches(path: str, command: click.Command) -> None:
    """A row on the page, words in its help, and an example for each that is called with arguments."""
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    assert f"`{path}`" in page
    assert command.help
    if path.startswith(("serai jobs", "serai licenses", "serai sessions", "serai console", "serai config", "serai doctor")):
        assert re.search(rf"^ *{re.escape(path)}\b", command.help, re.MULTILINE), "the help has no example"


@pytest.mark.parametrize(
    ("path", "command"),
    [c for c in commands(cli) if c[0].startswith(("serai jobs", "serai licenses", "serai sessions", "serai console"))],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_each_option_of_jobs_licenses_and_sessions_is_named(path: str, command: click.Command) -> None:
    """By its long form, in the command's row."""
    line = next(line for line in (DOCS / "cli.md").read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{path}`"))
    for option in command.params:
        if isinstance(option, click.Option) and option.name not in _OF_EVERY_COMMAND:
            assert any(f"`{name}`" in line for name in option.opts), f"{path} has {option.opts}, and its row does not say so"


@pytest.mark.parametrize("code", list(Exit))
def test_each_exit_code_has_a_row(code: Exit) -> None:
    """With the same words as `serai --help`."""
    assert rows("cli.md")[str(int(code))][1] == MEANINGS[code]


@pytest.mark.parametrize("cause", causes.TABLE, ids=lambda c: c.key)
def test_each_cause_has_a_row(cause: causes.Cause) -> None:
    """With whose doing it is."""
    row = rows("causes.md").get(cause.key)
    assert row is not None, f"docs/causes.md has no row for {cause.key}"
    assert row[2].strip(" |") == cause.blame.value


def test_there_are_twenty_causes_and_more() -> None:
    """Each with a key and words of its own."""
    assert len({c.key for c in causes.TABLE}) == len({c.words for c in causes.TABLE}) == len(causes.TABLE) > 20


@pytest.fixture
def stand_ins(tmp_path: Path) -> Path:
    """Settings as `serai devcore` writes them, in a checkout that is `tmp_path`."""
    file = tmp_path / ".devcore" / kit.SETTINGS
    file.parent.mkdir()
    made = kit.Kit(core_url="http://127.0.0.1:8080", generation=Generation.G2021)
    file.write_text(kit.settings_text(made), encoding="utf-8")
    return file


def test_the_stand_ins_socket_is_where_the_clients_look(stand_ins: Path) -> None:
    """clients/README.md sends people to the socket of a provider with the stand-in's settings."""
    named = re.findall(r"SERAI_ADDRESS=unix:\.\./\.\./(\S+)", (DOCS.parent / "clients" / "README.md").read_text("utf-8"))
    assert named == [str(load(stand_ins).socket.relative_to(stand_ins.parents[1]))]


def test_the_stand_in_reaches_the_gateway_behind_envoy(stand_ins: Path) -> None:
    """With what docs/devcore.md says to add for pages through Envoy, the gateway still listens where the stand-in calls."""
    section = (DOCS / "devcore.md").read_text("utf-8").partition("The same through Envoy")[2]
    added = section.partition("```toml\n")[2].partition("```")[0]
    text = stand_ins.read_text("utf-8")
    for table, lines in re.findall(r"^(\[[a-z.]+\]\n)((?:[a-z_]+ = .*\n)+)", added, flags=re.MULTILINE):
        assert table in text
        text = text.replace(table, table + lines)
    stand_ins.write_text(text, "utf-8")
    settings = load(stand_ins)
    assert (settings.gateway.public_url, settings.gateway.web.port) == ("http://127.0.0.1:8443", settings.gateway.envoy.apps_port)
    assert needs_tcp(settings)
    assert (settings.gateway.address, settings.gateway.port) == ("127.0.0.1", 8889)


def test_tokens_that_pages_have_one_make_are_not_committed() -> None:
    """docs/quickstart.md writes one into the checkout."""
    (name,) = re.findall(r"> (\S+\.token)\)", (DOCS / "quickstart.md").read_text("utf-8"))
    assert any(fnmatch(f"/{name}", line) for line in (DOCS.parent / ".gitignore").read_text("utf-8").splitlines())
