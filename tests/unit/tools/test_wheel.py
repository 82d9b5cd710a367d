"""The wheel that people install has the console in it, whole: nobody builds anything after installing."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CONSOLE = ROOT / "gateway" / "serai_gateway" / "console"


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Paths in a wheel that was built from this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        return set(opened.namelist())


def below(folder: Path) -> set[str]:
    """Paths of its files as a wheel has them."""
    return {file.relative_to(ROOT / "gateway").as_posix() for file in folder.rglob("*") if file.is_file()}


def test_the_wheel_has_what_others_publish(inside: set[str]) -> None:
    """Though git ignores it: the terminal, the desktop and their licenses."""
    if not (CONSOLE / "vendor" / "brought").is_file():
        pytest.skip("the console's terminal and desktop were not brought: .venv/bin/python tools/vendor.py")
    brought = below(CONSOLE / "vendor")
    assert "serai_gateway/console/vendor/xterm/LICENSE" in brought
    assert "serai_gateway/console/vendor/novnc/core/rfb.js" in brought
    assert brought <= inside


def test_the_wheel_has_the_pages(inside: set[str]) -> None:
    """Each file that browsers get."""
    pages = below(CONSOLE / "pages")
    assert "serai_gateway/console/pages/jobs.html" in pages
    assert pages <= inside


def locked(file: str) -> dict[str, tuple[str, frozenset[str]]]:
    """By package: its version and hashes."""
    found = re.split(r"^(?=[a-z0-9])", (ROOT / file).read_text("utf-8"), flags=re.MULTILINE)
    entries = ((re.match(r"([a-z0-9.-]+)==(\S+)", entry), entry) for entry in found)
    return {named[1]: (named[2], frozenset(re.findall(r"--hash=(\S+)", entry))) for named, entry in entries if named is not None}


def test_what_runs_is_what_was_tested() -> None:
    """The lock of production machines has all that Serai needs there, with Envoy and OpenTelemetry, as the tests had it, by its hashes; and
    nothing that only develops it."""
    run, tested = locked("requirements.run.lock.txt"), locked("requirements.lock.txt")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = {re.split(r"[^a-z0-9-]", one)[0] for one in (*project["dependencies"], *extras["envoy"], *extras["otel"])}
    assert len(wanted) > 20
    assert wanted <= run.keys()
    assert {name: tested.get(name) for name in run} == run
    assert "pytest" not in run
