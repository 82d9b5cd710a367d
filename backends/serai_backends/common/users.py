"""Which user of the machine runs a job when the server is root: the one to whom the job's drive belongs.

So the jobs of one drive can work on each other's files, and never on another drive's. The first job of a drive gets a user that owns no
drive and runs nothing, and the drive's folder is given to it. A drive that lies elsewhere and belongs to somebody outside of the range is
the operator's: it is never given away, and each of its jobs has a user of its own.

kill -9 between any two steps: the drive's folder is not there, or it is root's; the next job of the drive goes on from either.
"""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from typing import Protocol

from serai_backends.common import files
from serai_backends.errors import BackendUnavailable

_TRY_AGAIN = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR}


class Drives(Protocol):
    """Where drives lie."""

    @property
    def drives_dir(self) -> str:
        """Root of the drives: drive X is the folder X in it …"""
        ...

    @property
    def drives(self) -> dict[str, str]:
        """… but for those that lie elsewhere: id → folder, absolute."""
        ...


class UserRange(Drives, Protocol):
    """The users of this machine that drives belong to."""

    @property
    def uid_first(self) -> int: ...

    @property
    def uid_count(self) -> int: ...


class Users:
    def __init__(self, settings: UserRange) -> None:
        self._settings = settings
        # Anywhere in the range: after a restart the first job must not get the user id of the last one before it.
        self._next = secrets.randbelow(settings.uid_count)

    def choose(self, drive: str, used: set[int]) -> int:
        """The user for a job whose output lies in `drive`; `used`: those of all jobs that have not ended. One caller at a time.

        Blocking. Raises OSError when the machine has nothing left, and BackendUnavailable when every user of the range is taken.
        """
        try:
            return self._choose(drive, used)
        except OSError as error:
            if error.errno in _TRY_AGAIN:
                raise
            return self.free(used)  # the start will fail at the same place, and say so in words

    def _choose(self, drive: str, used: set[int]) -> int:
        elsewhere = self._settings.drives.get(drive)
        root = os.open(elsewhere or self._settings.drives_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if elsewhere is not None:
                owner = os.fstat(root).st_uid
                return owner if self._is_ours(owner) else self.free(used)
            return self._of_drive(root, drive, used)
        finally:
            os.close(root)

    def _of_drive(self, root: int, drive: str, used: set[int]) -> int:
        with suppress(FileExistsError):
            os.mkdir(drive, 0o755, dir_fd=root)
            os.fsync(root)
        folder = os.open(drive, files.DIRECTORY, dir_fd=root)
        try:
            owner = os.fstat(folder).st_uid
            if self._is_ours(owner):
                return owner
            uid = self.free(used)
            if owner == os.geteuid():
                os.fchown(folder, uid, uid)
                os.fsync(folder)
            return uid
        finally:
            os.close(folder)

    def _is_ours(self, uid: int) -> bool:
        return self._settings.uid_first <= uid < self._settings.uid_first + self._settings.uid_count

    def _owners(self) -> set[int]:
        """Of every drive: their users are not given to others."""
        found: set[int] = set()
        with suppress(FileNotFoundError), os.scandir(self._settings.drives_dir) as entries:
            for entry in entries:
                found.add(entry.stat(follow_symlinks=False).st_uid)
        for folder in self._settings.drives.values():
            with suppress(OSError):
                found.add(os.stat(folder).st_uid)  # noqa: PTH116 - as above
        return found

    def free(self, used: set[int]) -> int:
        """One that owns no drive and is not in `used`. In turn, so that a user that just ended does not go to the next job at once."""
        taken, count = used | self._owners(), self._settings.uid_count
        for _ in range(count):
            uid = self._settings.uid_first + self._next % count
            self._next += 1
            if uid not in taken:
                return uid
        raise BackendUnavailable("every user id of the range is in use: make uid_count larger")
