"""`serai doctor` on a machine that serves licenses: the program that is asked for seats, and the file that keys are sealed with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from serai_server.cli.config_command import example_text
from serai_server.cli.main import run
from serai_server.licenses.servers.vault import Vault

Doctor = Callable[[], dict[str, tuple[str, str]]]


@pytest.fixture
def doctor(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Doctor:
    """What it says of licenses: subject → severity and words."""
    text = example_text().replace('# lmutil = ""', f'lmutil = "{tmp_path / "lmutil"}"')
    text = text.replace('# encryption_key_file = ""', f'encryption_key_file = "{tmp_path / "keys"}"')
    for line in ("[[licenses.products]]", 'id = "mesh-solver"', 'category = "mesh-solver"'):
        text = text.replace(f"# {line}", line)
    file = tmp_path / "serai.toml"
    file.write_text(text)

    def ask() -> dict[str, tuple[str, str]]:
        run(["doctor", "--json", "--config", str(file)])
        findings = json.loads(capfd.readouterr().out)["findings"]
        return {f["subject"]: (f["severity"], f["text"]) for f in findings if f["subject"].startswith("licenses.")}

    return ask


def test_lmutil(tmp_path: Path, doctor: Doctor) -> None:
    """Not there, or no program: only our own seats are counted. No hindrance to jobs."""
    program = tmp_path / "lmutil"
    severity, words = doctor()["licenses.lmutil"]
    assert severity == "warning"
    assert words.startswith(f"{program} is not there; until it is, only the seats of our own jobs are counted")
    program.touch(0o644)
    assert doctor()["licenses.lmutil"][1].startswith(f"{program} is no program that may be executed; ")
    program.chmod(0o755)
    assert doctor() == {}


def test_the_key_file(tmp_path: Path, doctor: Doctor) -> None:
    """One that was not made yet is none; one that is open to others or damaged keeps jobs waiting."""
    (tmp_path / "lmutil").touch(0o755)
    keys = tmp_path / "keys"
    Vault(keys).seal("solver", b"key", first=True)
    assert doctor() == {}
    keys.chmod(0o640)
    severity, words = doctor()["licenses.encryption_key_file"]
    assert severity == "warning"
    assert words.startswith(f"jobs that need a vendor's key wait: others can read or write {keys}; `chmod 600 {keys}`")
    assert words.endswith("then rotate its keys with `serai licenses server rotate-key`")
    keys.chmod(0o600)
    keys.write_text("damaged\n")
    assert "is damaged" in doctor()["licenses.encryption_key_file"][1]
