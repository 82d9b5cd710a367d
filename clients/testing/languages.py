"""The five clients: what each needs on the machine, how it is built, checked, tested, and how its example runs.

Whoever adds a language adds a row here; the tests ask nothing else of it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CLIENTS = Path(__file__).resolve().parents[1]

Command = tuple[str, ...]

BUILD_S = 1_200
"""Longest that a client may take to be built from nothing, its dependencies included, on a busy machine."""


@dataclass(frozen=True)
class Language:
    """All commands run in the client's own folder, one after the other, and must end with 0."""

    name: str
    needs: tuple[str, ...]
    """Programs that must be on PATH; without one of them the language is skipped by name."""
    build: tuple[Command, ...]
    """Makes whatever the commands below need. Run once; must be quick when nothing changed."""
    tests: tuple[Command, ...]
    """The client's own tests. SERAI_ADDRESS and SERAI_TOKEN tell of a live server that they may use."""
    example: Command
    """The example; a job's program and its arguments are appended."""
    checks: tuple[Command, ...] = ()
    """Format, lint, types: with what the toolchain brings."""
    plugins: tuple[Command, ...] = ()
    """Installs what `buf generate` needs beside the toolchain, into an ignored folder; quick when it is there."""
    committed: str = ""
    """The folder of generated code, where it is committed: compared with what `buf generate` writes. Empty = the build makes it."""

    @property
    def folder(self) -> Path:
        return CLIENTS / self.name

    def missing(self) -> str:
        """Why it cannot be tried here; empty = it can."""
        absent = [program for program in self.needs if shutil.which(program) is None]
        return f"the client for {self.name} needs {', '.join(absent)} on PATH" if absent else ""


GO = Language(
    name="go",
    needs=("go",),
    build=(("go", "build", "-o", "build/", "./..."),),
    checks=(("sh", "-c", 'test -z "$(gofmt -l *.go examples | tee /dev/stderr)"'), ("go", "vet", "./...")),
    tests=(("go", "test", "./..."),),
    example=("build/run-job",),
    committed="api",
)

_IMPORTS: Command = (sys.executable, str(CLIENTS.parent / "tools" / "generate.py"), "--imports")
"""Lays out the protos of others that ours import, for builds that run `buf generate` themselves."""

TYPESCRIPT = Language(
    name="typescript",
    needs=("node", "npm"),
    build=(
        _IMPORTS,
        ("sh", "-c", "test node_modules/.package-lock.json -nt package-lock.json || npm ci --ignore-scripts --no-audit --no-fund"),
        ("npm", "run", "--silent", "build"),
        ("npm", "run", "--silent", "examples"),
    ),
    checks=(("npm", "run", "--silent", "check"),),
    tests=(("npm", "run", "--silent", "test"),),
    example=("node", "build/examples/run-job.js"),
)

RUST = Language(
    name="rust",
    needs=("cargo",),
    build=(("cargo", "build", "--locked", "--lib", "--examples"),),
    checks=(("cargo", "fmt", "--check"), ("cargo", "clippy", "--locked", "--all-targets", "--", "--deny", "warnings")),
    tests=(("cargo", "test", "--locked"),),
    example=("target/debug/examples/run_job",),
    plugins=(
        (
            "cargo",
            "install",
            "--quiet",
            "--debug",
            "--locked",
            "--root",
            "build/plugins",
            "protoc-gen-prost@0.5.0",
            "protoc-gen-tonic@0.5.0",
        ),
    ),
    committed="src/api",
)

_JAVA_CLASSES = "target/classes:target/lib/*"
_JAVA_LINT = f'javac -Xlint:all -Werror --release 17 -d target/lint -cp "{_JAVA_CLASSES}" $(find src/main examples -name "*.java")'

JAVA = Language(
    name="java",
    needs=("java", "javac", "mvn"),
    build=(_IMPORTS, ("mvn", "-q", "-B", "-ntp", "test-compile")),
    checks=(("sh", "-c", _JAVA_LINT),),
    # The goal by itself: `mvn test` would make and compile all of the stubs once more.
    tests=(("mvn", "-q", "-B", "-ntp", "surefire:test"),),
    example=("java", "-cp", _JAVA_CLASSES, "examples/RunJob.java"),
)

PYTHON = Language(
    name="python",
    needs=("python3",),
    build=((sys.executable, "tools/environment.py"),),
    checks=((sys.executable, "-m", "basedpyright", "--project", "."),),
    tests=(("build/venv/bin/python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp", "build/tmp"),),
    example=("build/venv/bin/python", "examples/run_job.py"),
)

LANGUAGES = (GO, JAVA, PYTHON, RUST, TYPESCRIPT)


def run(commands: tuple[Command, ...], folder: Path, environment: dict[str, str] | None = None) -> None:
    """Run them in turn; what they print is shown by pytest when one fails. `environment`: None = ours. Raises AssertionError."""
    for command in commands:
        done = subprocess.run(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, check=False)
        assert done.returncode == 0, f"`{' '.join(command)}` in clients/{folder.name} ended with {done.returncode}"


def build_once(language: Language, already: set[str]) -> None:
    """`already`: names of the languages whose client stands."""
    if language.name not in already:
        run(language.build, language.folder)
        already.add(language.name)
