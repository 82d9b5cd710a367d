"""The job's folder, made ready on the server before Nomad is asked for anything, and what is taken out of it again after the end.

    {drive}/Jobs/{title}/{job id}     /work: owned by the drive's user, whom common/users.py chooses
        stdout.txt, stderr-1.txt, …   the logs, which the start script appends to
        {name}                        for each input a link into the replica's view of its drive (see view.py)
        .ucloud/{job id}              proof that this is the job's folder; written last, so a job whose folder is not ready never runs
        .ucloud/rank-N                rank N was started (made by the start script)
        .ucloud/began-N               its program was started (made by the start script)
        .ucloud/start-N-CODE          rank N could not be started (made by the start script, see codes.py)

Everything goes through folder descriptors and follows no link; what is found in the place of the job's own must belong to its user.
kill -9 between any two steps: `prepare` goes on from whatever is there, `tidy` removes whatever is left.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from serai_backends.common import beneath, files, submission
from serai_backends.common.users import Users
from serai_backends.errors import BackendUnavailable
from serai_backends.model import Why
from serai_backends.nomad.jobfile import access, codes, view
from serai_backends.nomad.jobfile.model import Prepared

if TYPE_CHECKING:
    from collections.abc import Generator

    from serai_backends.model import Mount, ReplicaSpec
    from serai_backends.nomad.settings import NomadSettings

_AGAIN = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN}
_FULL = {errno.ENOSPC, errno.EDQUOT}
_KINDS = {errno.ENOENT: Why.INPUT_MISSING, errno.ENOTDIR: Why.INPUT_MISSING} | dict.fromkeys(
    (errno.EXDEV, errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG), Why.INPUT_FORBIDDEN
)


class CannotPrepare(Exception):
    """The job cannot be started; `why` and the detail that it asks for."""

    def __init__(self, why: Why, detail: str) -> None:
        super().__init__(detail)
        self.why, self.detail = why, detail


@contextmanager
def _in_words() -> Generator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _AGAIN:
            raise BackendUnavailable(f"the job's folder cannot be made now: {error}") from error
        if error.errno in _FULL:
            raise CannotPrepare(Why.NO_SPACE, "the job's drive") from error
        raise CannotPrepare(Why.SANDBOX_FAILED, f"the job's folder could not be made ready: {error}") from error


class JobFolders:
    def __init__(self, settings: NomadSettings) -> None:
        self._settings = settings
        self._users = Users(settings)

    def choose(self, spec: ReplicaSpec, used: set[int]) -> Prepared:
        """Whose the job's folder is to be; folders above it, which other jobs have too, are made, unless an input is none that the job can
        have: such a job leaves nothing behind. `used`: the users of all jobs that have not ended.

        Blocking, idempotent, durable; one caller at a time. Raises CannotPrepare, BackendUnavailable.
        """
        if self._settings.work != "path":
            return self._without_folder(spec, used)
        with _in_words():
            for mount in spec.mounts:
                self._look_at(mount, None)  # to find the owner makes their drive
            owner = self._owner(spec, used)
            for mount in spec.mounts:
                self._look_at(mount, owner)
            os.close(self._open_path(spec.output_folder.rpartition("/")[0] or spec.output_folder, create=True, owner=owner))
            return Prepared(*owner)

    def make(self, spec: ReplicaSpec, chosen: Prepared) -> None:
        """Make and fill the job's folder for the user that was chosen; look at each input. Several at once are as good as one.

        Blocking, idempotent, durable. Raises CannotPrepare, BackendUnavailable.
        """
        if self._settings.work != "path" or chosen.uid is None or chosen.gid is None:
            return
        owner = (chosen.uid, chosen.gid)
        with _in_words():
            for mount in spec.mounts:
                self._look_at(mount, owner)
            work = self._open(spec, create=True, owner=owner)
            try:
                _own(work, owner, "the job's folder")
                self._fill(spec, work, owner)
            finally:
                os.close(work)

    def prepare(self, spec: ReplicaSpec, used: set[int]) -> Prepared:
        """`choose`, then `make`."""
        chosen = self.choose(spec, used)
        self.make(spec, chosen)
        return chosen

    def _without_folder(self, spec: ReplicaSpec, used: set[int]) -> Prepared:
        """Containers and chroots keep jobs apart that are all nobody. On the node itself only the user does."""
        placement = self._settings.placement(spec.product)
        if placement is None or placement.driver != "raw_exec":
            return Prepared(None, None)
        with _in_words():
            uid = self._users.free(used)
        return Prepared(uid, uid)

    def tidy(self, spec: ReplicaSpec) -> None:
        """After the job's last process: links to inputs and `.ucloud` go; what the job or its user put in their place stays.

        Blocking, idempotent; a folder that is not there any more is none of our business. Raises nothing.
        """
        if self._settings.work != "path":
            return
        with suppress(OSError):
            work = self._open(spec)
            try:
                for mount in spec.mounts:
                    _unlink(work, mount)
                _remove_own(work, spec)
            finally:
                os.close(work)

    def marks(self, spec: ReplicaSpec, rank: int) -> frozenset[int] | None:
        """What the start script of the rank left, for `codes.explain`; None = there is no shared folder. To be read before `tidy`."""
        if self._settings.work != "path":
            return None
        with suppress(OSError):
            own = self._open(spec, below=view.OWN)
            try:
                found = {code for code in codes.MARKED if files.exists(own, f"start-{rank}-{code}")}
                if files.exists(own, f"began-{rank}"):
                    found.add(codes.BEGUN)
                return frozenset(found if files.exists(own, f"rank-{rank}") else {*found, codes.NOT_BEGUN})
            finally:
                os.close(own)
        return frozenset({codes.NOT_BEGUN})

    def _open(self, spec: ReplicaSpec, *, create: bool = False, owner: tuple[int, int] | None = None, below: str = "") -> int:
        return self._open_path(f"{spec.output_folder}/{below}" if below else spec.output_folder, create=create, owner=owner)

    def _open_path(self, path: str, *, create: bool, owner: tuple[int, int] | None) -> int:
        uid = owner[0] if owner is not None and os.geteuid() == 0 else None
        return files.open_output(self._settings.drives_dir, self._settings.drives, path, create=create, owner=uid)

    def _owner(self, spec: ReplicaSpec, used: set[int]) -> tuple[int, int]:
        """A folder that is there already keeps its user: on a drive of the operator's, where each job has one of its own, too."""
        if os.geteuid() != 0:
            return os.geteuid(), os.getegid()
        with suppress(FileNotFoundError):
            there = self._open(spec)
            try:
                uid = os.fstat(there).st_uid
            finally:
                os.close(there)
            if self._settings.uid_first <= uid < self._settings.uid_first + self._settings.uid_count:
                return uid, uid
        uid = self._users.choose(spec.output_folder.partition("/")[0], used)
        return uid, uid

    def _look_at(self, mount: Mount, owner: tuple[int, int] | None) -> None:
        """`owner` None = not known yet: whether it is there."""
        shown = f"/{mount.source}"
        try:
            fd = beneath.open_source(self._settings.drives_dir, self._settings.drives, mount.source)
        except OSError as error:
            if error.errno in _AGAIN:
                raise
            why = Why.INPUT_FORBIDDEN if isinstance(error, files.UnsafePath) else _KINDS.get(error.errno or 0, Why.MOUNT_FAILED)
            raise CannotPrepare(why, shown if why is not Why.MOUNT_FAILED else f"{shown}: {error.strerror}") from error
        try:
            mode = os.fstat(fd).st_mode
            is_one = stat.S_ISREG(mode) or stat.S_ISDIR(mode)
            if not is_one or (owner is not None and not access.may(fd, *owner, write=not mount.read_only)):
                raise CannotPrepare(Why.INPUT_FORBIDDEN, shown)
        finally:
            os.close(fd)

    def _fill(self, spec: ReplicaSpec, work: int, owner: tuple[int, int]) -> None:
        own = files.open_folder(work, view.OWN, create=True)
        try:
            for name, text in spec.files:
                _lay(work, own, name, text.encode(), owner)
            for rank in range(spec.replicas):
                for stream in ("stdout", "stderr"):
                    name = files.log_name(rank, stream)
                    fd = files.open_regular(work, name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
                    try:
                        _own(fd, owner, name)
                    finally:
                        os.close(fd)
            for mount in spec.mounts:
                _link(work, mount, owner)
            _own(own, owner, view.OWN)
            proof = files.open_regular(own, spec.job_id, os.O_WRONLY | os.O_CREAT, 0o644)
            os.fsync(proof)
            os.close(proof)
            os.fsync(own)
            os.fsync(work)
        finally:
            os.close(own)


def _own(fd: int, owner: tuple[int, int], what: str) -> None:
    """Give what we made to the job's user; what is another's is refused."""
    found = os.fstat(fd)
    if found.st_uid == owner[0]:
        return
    # a log that we made and did not come to give away is empty: what is not was moved there, and may be what the user cannot read
    if found.st_uid != os.geteuid() or (stat.S_ISREG(found.st_mode) and (found.st_size > 0 or found.st_nlink > 1)):
        raise CannotPrepare(Why.SANDBOX_FAILED, f"{what} belongs to another user ({found.st_uid})")
    os.fchown(fd, *owner)


def _lay(work: int, own: int, name: str, data: bytes, owner: tuple[int, int]) -> None:
    """A file whole or not at all; one that is there already stays. No unnamed file: network file systems have none."""
    if files.exists(work, name):
        return
    temporary = "new"
    with suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=own)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=own)
    try:
        files.write_all(fd, data)
        os.fchown(fd, *owner)
        os.fsync(fd)
    finally:
        os.close(fd)
    with suppress(FileExistsError):
        os.link(temporary, name, src_dir_fd=own, dst_dir_fd=work, follow_symlinks=False)
    os.unlink(temporary, dir_fd=own)


def _place(work: int, mount: Mount, owner: tuple[int, int] | None = None) -> tuple[int, str]:
    """The folder that the input's link lies in, and its name there; with `owner` folders on the way are made."""
    above, _, name = mount.target.removeprefix(submission.WORK).rpartition("/")
    if not above:
        return os.dup(work), name
    uid = owner[0] if owner is not None and os.geteuid() == 0 else None
    return files.open_folder(work, above, create=owner is not None, owner=uid), name


def _link(work: int, mount: Mount, owner: tuple[int, int]) -> None:
    try:
        folder, name = _place(work, mount, owner)
    except (NotADirectoryError, files.UnsafePath) as error:
        raise CannotPrepare(Why.MOUNT_FAILED, f"/{mount.source}: the way to {mount.target} is taken by something else") from error
    try:
        # It stays the server's: by now another job of the user can have something else at this name, which must not be given to him.
        with suppress(FileExistsError):
            os.symlink(view.link_to(mount), name, dir_fd=folder)
        if _said(folder, name) != view.link_to(mount):
            raise CannotPrepare(Why.MOUNT_FAILED, f"/{mount.source}: {mount.target} is in the job's folder already")
    finally:
        os.close(folder)


def _said(folder: int, name: str) -> str | None:
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError:
        return None


def _unlink(work: int, mount: Mount) -> None:
    with suppress(OSError):
        folder, name = _place(work, mount)
        try:
            if _said(folder, name) == view.link_to(mount):
                os.unlink(name, dir_fd=folder)
        finally:
            os.close(folder)
    # folders that were only there for the link
    parts = mount.target.removeprefix(submission.WORK).split("/")[:-1]
    with suppress(OSError):
        while parts:
            above = files.open_folder(work, "/".join(parts[:-1])) if parts[:-1] else os.dup(work)
            try:
                os.rmdir(parts.pop(), dir_fd=above)
            finally:
                os.close(above)


def _remove_own(work: int, spec: ReplicaSpec) -> None:
    """What Serai and its start scripts made, by name: the user can have put a million files beside it, and they stay."""
    own = os.open(view.OWN, files.DIRECTORY, dir_fd=work)
    try:
        for name in (spec.job_id, "new"):
            with suppress(OSError):
                os.unlink(name, dir_fd=own)
        for rank in range(spec.replicas):
            for name in (f"began-{rank}", f"new-{rank}"):
                with suppress(OSError):
                    os.unlink(name, dir_fd=own)
            for name in (f"rank-{rank}", *(f"start-{rank}-{code}" for code in codes.MARKED)):
                with suppress(OSError):
                    os.rmdir(name, dir_fd=own)
    finally:
        os.close(own)
    os.rmdir(view.OWN, dir_fd=work)
