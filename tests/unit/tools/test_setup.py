"""tools/setup.sh on machines that lack something, with stand-ins for the programs that it calls."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

PYTHON = f"""\
#!/bin/sh
case "$*" in
  *"import ensurepip"*) exit ${{NO_VENV:-0}} ;;
  "-m venv"*)
    echo "$*" >> "$LOG"
    mkdir -p .venv/bin
    printf '#!/bin/sh\\necho "venv: $*" >> "$LOG"\\n' > .venv/bin/python
    chmod +x .venv/bin/python ;;
  *) exec {sys.executable} "$@" ;;
esac
"""
NO_PIP = "#!/bin/sh\nexit 1\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the script, and beside it the few programs of a machine where an ordinary user has nothing else."""
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "setup.sh", tmp_path / "tools")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "sh", "dirname", "mkdir", "chmod"):
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    write(programs / "python3", PYTHON)
    write(programs / "id", "#!/bin/sh\necho 1000\n")
    return tmp_path


def write(program: Path, text: str) -> None:
    program.write_text(text)
    program.chmod(0o755)


def set_up(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(checkout / "tools" / "setup.sh")],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": str(checkout / "bin"), "LOG": str(checkout / "log"), **environment},
    )


def test_without_venv_nothing_is_tried(checkout: Path) -> None:
    """Exit code 1 after the sentence, and no sentence about what is not the matter."""
    write(checkout / "bin" / "bwrap", NO_PIP)
    done = set_up(checkout, NO_VENV="1")
    assert done.returncode == 1
    assert "Without python3-venv the environment .venv cannot be made" in done.stderr
    assert "bubblewrap" not in done.stderr
    assert not (checkout / ".venv").exists()
    assert "one to three minutes" not in done.stdout


def test_without_bubblewrap_the_environment_is_made(checkout: Path) -> None:
    """It is said that no job can run; the rest is set up, with a word before what takes long."""
    done = set_up(checkout)
    assert done.returncode == 0, done.stderr
    assert "Without bubblewrap no job can run." in done.stderr
    assert "python3-venv" not in done.stderr
    assert done.stdout.splitlines() == ["making .venv from the lock; one to three minutes", "ready: .venv/bin/serai"]


def test_a_half_made_environment_is_made_anew(checkout: Path) -> None:
    """A set-up that was interrupted leaves a python without pip."""
    (checkout / ".venv" / "bin").mkdir(parents=True)
    write(checkout / ".venv" / "bin" / "python", NO_PIP)
    assert set_up(checkout).returncode == 0
    assert (checkout / "log").read_text().splitlines()[0] == "-m venv --clear .venv"


def test_a_whole_environment_is_used_again(checkout: Path) -> None:
    """Also on a machine that could not make one."""
    assert set_up(checkout).returncode == 0
    (checkout / "log").unlink()
    done = set_up(checkout, NO_VENV="1")
    assert (done.returncode, "one to three minutes" in done.stdout) == (0, False)
    assert "-m venv" not in (checkout / "log").read_text()


def test_set_up_goes_on_without_the_parts_of_the_console(checkout: Path) -> None:
    """Offline they cannot come; they are asked for, and the rest is ready all the same."""
    (checkout / ".venv" / "bin").mkdir(parents=True)
    write(checkout / ".venv" / "bin" / "python", '#!/bin/sh\necho "$*" >> "$LOG"\ncase "$*" in *vendor*) exit 1 ;; esac\n')
    done = set_up(checkout)
    assert "tools/vendor.py" in (checkout / "log").read_text().splitlines()
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "ready: .venv/bin/serai")
