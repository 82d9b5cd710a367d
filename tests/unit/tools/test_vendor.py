"""tools/vendor.py: the console's third-party files come whole and unchanged, or not at all, and set-up goes on without them."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TOOL = ROOT / "tools" / "vendor.py"
NAME = "acme-thing-1.2.3.tgz"
GOOD = {"package/LICENSE": b"free", "package/core/a.js": b"export {}", "package/core/b/c.js": b"1", "package/install.js": b"evil()"}


def archive(files: dict[str, bytes], link: str = "") -> bytes:
    """As npm packs it; `link`: a path in it that is a symbolic link to elsewhere."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        if link:
            member = tarfile.TarInfo(link)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(member)
    return out.getvalue()


class Site:
    """A folder with archives, a lock and a target."""

    def __init__(self, folder: Path, content: bytes) -> None:
        self.folder, self.target, self.lock = folder / "archives", folder / "deep" / "vendor", folder / "lock.json"
        self.folder.mkdir()
        (self.folder / NAME).write_bytes(content)
        self.write_lock(content, "LICENSE", "core/")

    def write_lock(self, content: bytes, *files: str) -> None:
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
        package = {"name": "@acme/thing", "version": "1.2.3", "integrity": integrity, "folder": "thing", "files": files}
        self.lock.write_text(json.dumps({"packages": [package]}))

    def bring(self, *arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
        given = arguments or ("--from", str(self.folder))
        command = [sys.executable, str(TOOL), "--into", str(self.target), "--lock", str(self.lock), *given]
        environment = os.environ | ({"PATH": path} if path is not None else {})
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    def files(self) -> dict[str, bytes]:
        found = (file for file in self.target.rglob("*") if file.is_file() and file.name != "brought")
        return {file.relative_to(self.target).as_posix(): file.read_bytes() for file in found}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, archive(GOOD))


def test_only_what_the_lock_lists_is_unpacked(site: Site) -> None:
    """A folder with all below it, a file by its name, and nothing else of the package; nothing is left beside the target."""
    done = site.bring()
    assert (done.returncode, done.stderr) == (0, "")
    assert site.files() == {"thing/LICENSE": b"free", "thing/core/a.js": b"export {}", "thing/core/b/c.js": b"1"}
    assert [file.name for file in site.target.parent.iterdir()] == ["vendor"]


def test_a_second_time_nothing_is_fetched(site: Site) -> None:
    """Nor is it when the archives are gone; another lock brings it anew and leaves nothing of the old."""
    assert site.bring().returncode == 0
    (site.folder / NAME).unlink()
    done = site.bring()
    assert (done.returncode, done.stdout) == (0, "")
    new = archive({"package/LICENSE": b"freer"})
    (site.folder / NAME).write_bytes(new)
    site.write_lock(new, "LICENSE")
    assert site.bring().stdout != ""
    assert site.files() == {"thing/LICENSE": b"freer"}


def test_an_archive_with_another_hash_is_refused(site: Site) -> None:
    """In words with both hashes; what was there before stays."""
    assert site.bring().returncode == 0
    before = site.files()
    (site.folder / NAME).write_bytes(archive(GOOD | {"package/core/a.js": b"steal()"}))
    site.lock.write_text(site.lock.read_text() + "\n")  # another lock, so that it looks again
    done = site.bring()
    assert done.returncode == 1
    assert "is not what it was" in done.stderr
    assert "All else works" in done.stderr
    assert site.files() == before


@pytest.mark.parametrize("path", ["package/core/../../../evil.js", "/package/core/evil.js", "elsewhere/core/evil.js"])
def test_nothing_is_written_outside_of_the_target(tmp_path: Path, path: str) -> None:
    """Whatever path an archive with the right hash names."""
    site = Site(tmp_path, archive(GOOD | {path: b"evil"}))
    site.bring()
    assert list(tmp_path.rglob("evil.js")) == []


def test_a_link_in_an_archive_is_refused(tmp_path: Path) -> None:
    """It could show files of this machine to whoever opens the console."""
    done = Site(tmp_path, archive(GOOD, link="package/core/link.js")).bring()
    assert done.returncode == 1
    assert "is not a plain file" in done.stderr


def test_a_listed_file_that_the_package_lacks_is_an_error(site: Site) -> None:
    """The pages would miss it only in the browser."""
    site.write_lock(archive(GOOD), "LICENSE", "core/", "lib/")
    done = site.bring()
    assert (done.returncode, "has no lib/" in done.stderr, site.target.exists()) == (1, True, False)


def test_without_npm_it_says_what_to_do(site: Site, tmp_path: Path) -> None:
    """One sentence for what is missing, one for how to try again."""
    done = site.bring("--lock", str(site.lock), path=str(tmp_path))
    assert done.returncode == 1
    assert "npm is not installed" in done.stderr
    assert "tools/vendor.py" in done.stderr


def test_npm_is_asked_for_the_locked_version(site: Site, tmp_path: Path) -> None:
    """By name and version, without running anything of the package; npm's own error is told when it cannot."""
    programs = tmp_path / "bin"
    programs.mkdir()
    npm = programs / "npm"
    npm.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\ncp {site.folder}/{NAME} "$4"\n')
    npm.chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    assert site.bring("--lock", str(site.lock), path=path).returncode == 0
    asked = (tmp_path / "asked").read_text()
    assert asked.startswith("pack @acme/thing@1.2.3 ")
    assert "--ignore-scripts" in asked
    assert len(site.files()) == 3
    npm.write_text('#!/bin/sh\necho "npm error network is away" >&2\nexit 1\n')
    site.write_lock(archive(GOOD), "LICENSE")
    done = site.bring("--lock", str(site.lock), path=path)
    assert (done.returncode, "network is away" in done.stderr) == (1, True)
