"""Bring the console's terminal and desktop: files of packages that others publish, each package known by its hash.

They are not committed. `tools/setup.sh` calls this, and the wheel takes in what it brought, so whoever installs the wheel builds nothing.
Packages come by `npm pack`, from whatever registry npm is set to; or, without npm, from a folder with the same archives (`--from`).
Only what `vendor.lock.json` lists is unpacked, and only from an archive with the hash that stands there.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import msgspec

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "tools" / "vendor.lock.json"
TARGET = ROOT / "gateway" / "serai_gateway" / "console" / "vendor"
STAMP = "brought"
"""File beside the packages with the lock's digest: what is there is what the lock says."""
_INSIDE = "package"
"""Folder in which npm's archives hold everything."""
_MOST_BYTES = 16 * 1024 * 1024
"""Of the unpacked files of one package."""
_NPM_S = 120


class VendorError(Exception):
    """A package cannot be had, or is not what the lock says; the text is for people."""


class Package(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    version: str
    integrity: str
    """As npm publishes it: "sha512-" and base64 of the archive's digest."""
    folder: str
    """Where its files go, below the target."""
    files: tuple[str, ...]
    """Paths in the package; one with a slash at its end means all below it."""

    @property
    def archive(self) -> str:
        """The archive's name as `npm pack` gives it."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


class Lock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    packages: tuple[Package, ...]


Fetch = Callable[[Package, Path], Path]
"""Puts a package's archive somewhere, in the given folder or not, and says where. Raises VendorError."""


def by_npm(package: Package, folder: Path) -> Path:
    """From the registry that npm is set to."""
    npm = shutil.which("npm")
    if npm is None:
        raise VendorError("npm is not installed. Install it, or put its packages' archives in a folder and say --from FOLDER")
    what = f"{package.name}@{package.version}"
    command = [npm, "pack", what, "--pack-destination", str(folder), "--ignore-scripts", "--fetch-retries=1", "--loglevel=error"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=_NPM_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise VendorError(f"npm did not bring {what} within {_NPM_S} seconds") from error
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise VendorError(f"npm could not bring {what}: {said[0] if said else f'exit code {done.returncode}'}")
    return folder / package.archive


def from_folder(folder: Path) -> Fetch:
    """From archives that somebody put there, named as `npm pack` names them."""

    def fetch(package: Package, _folder: Path) -> Path:
        return folder / package.archive

    return fetch


def bring(lock_file: Path, target: Path, fetch: Fetch) -> bool:
    """Makes `target` hold what the lock says; false = it did already. VendorError otherwise, and `target` is as it was."""
    text = lock_file.read_bytes()
    digest = hashlib.sha256(text).hexdigest()
    stamp = target / STAMP
    if stamp.is_file() and stamp.read_text() == digest:
        return False
    lock = msgspec.json.decode(text, type=Lock)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".vendor-") as made:
        new, downloads = Path(made) / "new", Path(made) / "downloads"
        downloads.mkdir()
        for package in lock.packages:
            for path, content in unpacked(package, checked(package, fetch(package, downloads))):
                file = new / package.folder / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
        (new / STAMP).write_text(digest)
        # A kill in between leaves no target, and the next call brings it again.
        if target.exists():
            target.rename(Path(made) / "old")
        new.rename(target)
    return True


def checked(package: Package, archive: Path) -> bytes:
    """The archive's bytes, which have the lock's hash. VendorError otherwise."""
    try:
        content = archive.read_bytes()
    except OSError as error:
        raise VendorError(f"{package.name}: {archive} cannot be read: {error.strerror}") from error
    found = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
    if found != package.integrity:
        raise VendorError(
            f"{package.name} {package.version} is not what it was: the archive has {found}, the lock says {package.integrity}"
        )
    return content


def unpacked(package: Package, archive: bytes) -> list[tuple[PurePosixPath, bytes]]:
    """The listed files by their path in the package. VendorError when one is missing, is no plain file, or all are too long."""
    found: list[tuple[PurePosixPath, bytes]] = []
    met: set[str] = set()
    size = 0
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            listed = _listed(package.files, path)
            if listed is None or member.isdir():
                continue
            content = tar.extractfile(member) if member.isreg() else None
            if content is None or ".." in path.parts or path.is_absolute():
                raise VendorError(f"{package.name}: {member.name} is not a plain file")
            size += member.size
            if size > _MOST_BYTES:
                raise VendorError(f"{package.name} unpacks to more than {_MOST_BYTES} bytes")
            met.add(listed)
            found.append((path.relative_to(_INSIDE), content.read()))
    missing = [name for name in package.files if name not in met]
    if missing:
        raise VendorError(f"{package.name} {package.version} has no {missing[0]}")
    return found


def _listed(files: Sequence[str], path: PurePosixPath) -> str | None:
    """The entry of the lock because of which this file is taken; None = it is not."""
    inside = path.as_posix().removeprefix(f"{_INSIDE}/")
    if path.parts[:1] != (_INSIDE,):
        return None
    return next((name for name in files if inside == name or (name.endswith("/") and inside.startswith(name))), None)


def main() -> int:
    parser = argparse.ArgumentParser(description="Bring the console's terminal and desktop, which others publish.")
    parser.add_argument("--from", dest="folder", type=Path, help="take the archives from this folder and not from npm's registry")
    parser.add_argument("--into", type=Path, default=TARGET, help=argparse.SUPPRESS)
    parser.add_argument("--lock", type=Path, default=LOCK, help=argparse.SUPPRESS)
    given = parser.parse_args()
    try:
        new = bring(given.lock, given.into, from_folder(given.folder) if given.folder else by_npm)
    except VendorError as error:
        print(f"The console's terminal and desktop are missing: {error}.", file=sys.stderr)
        print("All else works. To try again: .venv/bin/python tools/vendor.py", file=sys.stderr)
        return 1
    if new:
        print("brought the console's terminal and desktop")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
