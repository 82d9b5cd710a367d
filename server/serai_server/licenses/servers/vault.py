"""The vault: seals vendors' keys with keys of a file, so that a copy of the store alone tells nobody a vendor's key.

The file has one key a line, the newest first; what is sealed anew is sealed with that one. It is read at each use: an operator may put a
copy back while the server runs, and no key stays in memory for longer than it is needed.

A rotation has three steps, and a process that dies between any two of them leaves everything readable: the next rotation finishes.

1. `begin_rotation`  a new key stands in front in the file, on disk, before anything is sealed with it
2. `reseal` of every vendor's key, in one transaction of the store
3. `end_rotation`    the older keys go from the file
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

_HEAD = b"# Serai: keys that the keys of license servers are sealed with, newest first. Keep a copy, apart from copies of the store.\n"
_FORM = b"serai-license-key-1"
"""What a sealed content begins with; another form gets another number."""
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_LONGEST_FILE = 1 << 20
_SET_AGAIN = "`serai licenses server set-key`"


class VaultError(Exception):
    """A vendor's key cannot be sealed or unsealed. The text says what to do and holds nothing secret."""


class Vault:
    """All methods may block for as long as a small file takes to be read or written; nothing here is kept between them."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __repr__(self) -> str:
        return f"Vault({str(self._file)!r})"

    def seal(self, server: str, key: bytes, *, first: bool) -> bytes:
        """The vendor's key of that server, sealed. `first` = nothing else is sealed, so the file may be made when it is missing.

        Raises VaultError.
        """
        if first and not self._file.exists():
            self._make()
        return _sealed(self._ring(), server, key)

    def unseal(self, server: str, sealed: bytes) -> bytes:
        """Raises VaultError."""
        return _unsealed(self._ring(), server, sealed, self._file)

    def check(self) -> None:
        """Whether it could be used now; a file that was not made yet is none. Raises VaultError."""
        if self._file.exists():
            self._ring()

    def begin_rotation(self, *, first: bool) -> None:
        """Put a new key in front. `first` as for `seal`. Raises VaultError."""
        if first and not self._file.exists():
            self._make()
            return
        keys = self._read()
        self._ring_of(keys)
        self._write([Fernet.generate_key(), *keys])

    def reseal(self, server: str, sealed: bytes) -> bytes:
        """The same key, sealed with the newest. Raises VaultError."""
        ring = self._ring()
        return _sealed(ring, server, _unsealed(ring, server, sealed, self._file))

    def end_rotation(self) -> None:
        """Drop all keys but the newest. Only when all is sealed with that one. Raises VaultError."""
        keys = self._read()
        if len(keys) > 1:
            self._write(keys[:1])

    def _ring(self) -> MultiFernet:
        return self._ring_of(self._read())

    def _ring_of(self, keys: list[bytes]) -> MultiFernet:
        try:
            return MultiFernet([Fernet(key) for key in keys])
        except ValueError:
            # Not chained: what Fernet says could be about the bytes of a key.
            raise VaultError(f"{self._file} is damaged: a line of it is no key; put your copy of it back") from None

    def _read(self) -> list[bytes]:
        try:
            descriptor = os.open(self._file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            words = (
                f"there is no {self._file}, and vendors' keys are sealed with what was in it: put your copy of it back; without one, take"
            )
            hint = "the key of every license server away (`serai licenses server set-key NAME --no-key`), then give the keys again"
            raise VaultError(f"{words} {hint}") from None
        except OSError as error:
            raise VaultError(f"{self._file} cannot be read: {error.strerror}") from None
        try:
            self._check(os.fstat(descriptor))
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                content = file.read(_LONGEST_FILE)
        finally:
            os.close(descriptor)
        keys = [line.strip() for line in content.splitlines() if line.strip() and not line.startswith(b"#")]
        if not keys:
            raise VaultError(f"{self._file} is damaged: there is no key in it; put your copy of it back")
        return keys

    def _check(self, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise VaultError(f"{self._file} is no file")
        if found.st_mode & _OTHERS:
            words = f"others can read or write {self._file}; `chmod 600 {self._file}` makes it private"
            raise VaultError(f"{words}, then rotate its keys with `serai licenses server rotate-key`")
        if found.st_uid not in (os.geteuid(), 0):
            raise VaultError(f"{self._file} belongs to another user; give it to the one that runs the server")

    def _make(self) -> None:
        """A file with a first key, unless there is one by now."""
        temporary = self._temporary([Fernet.generate_key()])
        try:
            # A link and no rename: it fails when somebody else made the file meanwhile, whose key must not be lost.
            with contextlib.suppress(FileExistsError):
                os.link(temporary, self._file)
            temporary.unlink()
            _sync_folder(self._file.parent)
        except OSError as error:
            raise self._not_written(error) from None

    def _write(self, keys: list[bytes]) -> None:
        """After it returns a power cut does not undo it; before, the old file is there, whole."""
        file = self._file.resolve()
        temporary = self._temporary(keys)
        try:
            temporary.replace(file)
            _sync_folder(file.parent)
        except OSError as error:
            raise self._not_written(error) from None

    def _temporary(self, keys: list[bytes]) -> Path:
        """A new file beside the real one, on disk. One that a killed process left is thrown away: nothing is sealed with its keys yet."""
        real = self._file.resolve()
        temporary = real.with_name(f".{real.name}.new")
        try:
            temporary.unlink(missing_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as out:
                out.write(_HEAD + b"".join(key + b"\n" for key in keys))
                out.flush()
                os.fsync(descriptor)
        except OSError as error:
            raise self._not_written(error) from None
        return temporary

    def _not_written(self, error: OSError) -> VaultError:
        return VaultError(f"{self._file} cannot be written: {error.strerror}; licenses.encryption_key_file says where it is")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sealed(ring: MultiFernet, server: str, key: bytes) -> bytes:
    # With the server's name inside: rows whose contents were swapped are found, and no server gets another's key.
    return ring.encrypt(b"\0".join((_FORM, server.encode(), key)))


def _unsealed(ring: MultiFernet, server: str, sealed: bytes, file: Path) -> bytes:
    try:
        content = ring.decrypt(sealed)
    except InvalidToken:
        words = f"the key of license server {server!r} cannot be read with the keys of {file}: put back the copy of that file which belongs"
        raise VaultError(f"{words} to this store, or give the key again with {_SET_AGAIN}") from None
    form, _, rest = content.partition(b"\0")
    name, _, key = rest.partition(b"\0")
    if form != _FORM:
        raise VaultError(f"the key of license server {server!r} was sealed by another release; give it again with {_SET_AGAIN}")
    if name != server.encode():
        raise VaultError(
            f"what the store keeps as the key of license server {server!r} is that of another one; give it again with {_SET_AGAIN}"
        )
    return key
