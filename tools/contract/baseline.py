"""`python -m contract.baseline check`: the protos keep what the last release promised. `… make`: note what this release promises.

A baseline is buf's image of the protos, without comments, as `proto/releases/{version}.binpb`. It is made anew for as long as its version
has no tag in git, here and where this was cloned from; of a released version it never changes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from contract.promises import Promises, broken

ROOT = Path(__file__).resolve().parents[2]
_RELEASES = Path("proto") / "releases"


def releases(root: Path) -> list[Path]:
    """Baselines from the oldest version to the newest. ValueError for a file whose name is not a version of three numbers."""
    return sorted((root / _RELEASES).glob("*.binpb"), key=lambda file: version_of(file.stem))


def version_of(text: str) -> tuple[int, int, int]:
    """ValueError unless it is three numbers."""
    major, minor, patch = text.split(".")
    return int(major), int(minor), int(patch)


def read(file: Path) -> Promises:
    """What the release promised."""
    return Promises.of(FileDescriptorSet.FromString(file.read_bytes()))


def build(root: Path, target: Path) -> None:
    """buf's image of the protos as they are. CalledProcessError when buf refuses them."""
    subprocess.run(["buf", "build", "proto", "--exclude-source-info", "-o", str(target)], cwd=root, check=True)


def check(root: Path = ROOT) -> int:
    """Tells what is broken; the exit code."""
    found = releases(root)
    if not found:
        print(f"there is no baseline in {_RELEASES}: run `make release-baseline`")
        return 1
    last = found[-1]
    kept = subprocess.run(["buf", "breaking", "proto", "--against", str(last)], cwd=root, check=False).returncode == 0
    with tempfile.TemporaryDirectory() as scratch:
        image = Path(scratch) / "now.binpb"
        build(root, image)
        words = broken([read(file) for file in found], read(image))
    for line in words:
        print(line)
    if words or not kept:
        print(f"the protos do not keep what release {last.stem} promised: see CONTRIBUTING.md, Changing the API")
    return 0 if kept and not words else 1


def make(root: Path = ROOT) -> int:
    """Writes the baseline of the version in pyproject.toml; the exit code."""
    version = str(tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["version"])
    tag = f"v{version}"
    tags = subprocess.run(["git", "tag", "--list", tag], cwd=root, check=True, capture_output=True, text=True).stdout
    if tags.strip():
        print(f"{version} was released (tag {tag}): its baseline does not change. Raise the version in pyproject.toml first")
        return 1
    target = root / _RELEASES / f"{version}.binpb"
    if target.exists() and (words := _released_elsewhere(root, tag)):
        print(f"{words}: {_RELEASES}/{target.name} stays as it is")
        return 1
    target.parent.mkdir(exist_ok=True)
    build(root, target)
    print(f"{_RELEASES}/{version}.binpb is what {version} promises; commit it")
    return 0


def _released_elsewhere(root: Path, tag: str) -> str:
    """Why a baseline that is there may not be made anew, and what to do; empty = it may. A clone need not have the tags of its origin."""
    for remote in subprocess.run(["git", "remote"], cwd=root, check=True, capture_output=True, text=True).stdout.split():
        asked = subprocess.run(
            ["git", "ls-remote", "--tags", remote, f"refs/tags/{tag}"],
            cwd=root,
            check=False,
            capture_output=True,
            text=True,
            env=os.environ | {"GIT_TERMINAL_PROMPT": "0"},
        )
        if asked.returncode != 0:
            return (
                f"{remote} does not say whether it has the tag {tag}. Run `git fetch --tags {remote}`, "
                f"or delete the file first if you know that this version was not released"
            )
        if asked.stdout.strip():
            return (
                f"{tag[1:]} was released ({remote} has the tag {tag}). "
                f"Run `git fetch --tags {remote}`, and raise the version in pyproject.toml first"
            )
    return ""


def main() -> None:
    commands = {"check": check, "make": make}
    command = commands.get(sys.argv[1] if len(sys.argv) == 2 else "")
    if command is None:
        raise SystemExit("usage: python -m contract.baseline check|make")
    raise SystemExit(command())


if __name__ == "__main__":
    main()
