"""A job's input files and folders: which drives it may use, and where its programs see what it asked for.

Every file value of a job, in parameters and in resources, is seen at `/work/{name}`, where the name is the last component of its
path (facts 2021 §10.2). Where two have the same name, or one has a name that Serai writes to itself, the later one gets a number as people
know it from their file managers. Whether something is there, and whether its path leads out of its drive, is the backend's to find out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from serai.jobs.v1.application_pb2 import FileValue
from serai.jobs.v1.job_pb2 import JobSpecification
from serai_backends.model import Mount

from serai_server.errors import InvalidRequest, Unsupported
from serai_server.jobs.parameters import Values, parameter_path

PARAMETERS_FILE = "JobParameters.json"

_OURS = re.compile(r"(?:stdout|stderr)(?:-\d+)?\.txt")
"""Names that the job's own output has in its folder."""
_EXTENSION = re.compile(r"(?<=.)\.(?=[0-9]*[A-Za-z])[A-Za-z0-9]{1,8}$")
_LONGEST_COMPONENT = 255
_LONGEST_PATH = 4_095
_ROOM_FOR_NUMBER = 12


@dataclass(frozen=True, slots=True)
class MappedDrive:
    """A drive that lies where the settings say."""

    read_only: bool = False
    users: frozenset[str] = frozenset()
    projects: frozenset[str] = frozenset()
    """Who may use it, by username or by project; both empty = everybody."""

    def open_to(self, user: str, project: str) -> bool:
        everybody = not self.users and not self.projects
        return everybody or user in self.users or (project != "" and project in self.projects)


@dataclass(frozen=True, slots=True)
class Drives:
    """The drives that one job may use."""

    own: frozenset[str]
    mapped: Mapping[str, MappedDrive]
    user: str
    project: str

    def read_only(self, drive: str, where: str) -> bool:
        """Whether a drive may only be read. Raises InvalidRequest for one that the job may not use at all."""
        mapped = self.mapped.get(drive)
        if mapped is not None and mapped.open_to(self.user, self.project):
            return mapped.read_only
        if mapped is None and drive in self.own:
            return False
        raise InvalidRequest(
            f"the drive {drive!r} is neither the job's own nor open to {self.user!r} here; the provider decides which drives are",
            field=where,
        )

    def check_output(self, drive: str, where: str) -> None:
        """Raises InvalidRequest if the job may not write to the drive that its output goes to."""
        if self.mapped and self.read_only(drive, where):
            raise InvalidRequest(f"the drive {drive!r}, where the job's output goes, is read-only", field=where)


@dataclass(frozen=True, slots=True)
class Inputs:
    mounts: tuple[Mount, ...] = ()
    seen_at: Mapping[str, str] = field(default_factory=dict[str, str])
    """Each value's path, as it was given, to where the program sees it."""


NO_INPUTS = Inputs()


@dataclass(slots=True)
class _Wanted:
    """One path, however often it is asked for."""

    where: str
    name: str
    is_folder: bool
    read_only: bool
    explicit: str = ""
    """The target that the user asked for; "" = none."""


def inputs_of(spec: JobSpecification, values: Values, drives: Drives, path: str) -> Inputs:
    """The job's mounts: those of parameters by the parameters' names, then those of resources in their order. `path` is where the
    specification stands in the request. Raises InvalidRequest and Unsupported."""
    wanted: dict[str, _Wanted] = {}
    sources: dict[str, str] = {}
    for where, file, is_folder in _files(spec, values, path):
        source = sources[file.path] = source_of(file.path, f"{where}.path")
        drive, _, _ = source.partition("/")
        read_only = drives.read_only(drive, f"{where}.path") or file.read_only
        explicit = _explicit_target(file.mount_path, f"{where}.mountPath")
        one = wanted.setdefault(source, _Wanted(where, source.rsplit("/", 1)[-1], is_folder, read_only, explicit))
        one.read_only = one.read_only and read_only
        if explicit and one.explicit not in ("", explicit):
            raise InvalidRequest(f"{file.path} is to be mounted at {one.explicit} and at {explicit}", field=f"{where}.mountPath")
        one.explicit = one.explicit or explicit
    targets = _targets(wanted)
    mounts = tuple(Mount(source, targets[source], one.read_only) for source, one in wanted.items())
    return Inputs(mounts, {given: targets[source] for given, source in sources.items()})


def _files(spec: JobSpecification, values: Values, path: str) -> Iterator[tuple[str, FileValue, bool]]:
    for name in sorted(n for n, given in values.items() if given.kind == "file"):
        given = values[name]
        yield parameter_path(path, name), given.value.file, given.declared.kind == "input_directory"
    for index, value in enumerate(spec.resources):
        if value.WhichOneof("value") == "file":
            yield f"{path}.resources[{index}]", value.file, False


def source_of(path: str, where: str) -> str:
    """`{drive}/{rest}` of a path of UCloud. Raises InvalidRequest for what is not one, and for whatever could mean another place."""
    if not path.startswith("/") or "\0" in path or len(path.encode()) > _LONGEST_PATH:
        raise InvalidRequest("expected a path like /{drive}/{folder}/{file}", field=where)
    components = path[1:].removesuffix("/").split("/")
    for component in components:
        if component in ("", ".", ".."):
            raise InvalidRequest(f"expected a path whose parts have names, found {component!r} as one of them", field=where)
        if len(component.encode()) > _LONGEST_COMPONENT:
            raise InvalidRequest(f"expected names of at most {_LONGEST_COMPONENT} bytes in the path", field=where)
    return "/".join(components)


def _explicit_target(mount_path: str, where: str) -> str:
    """The target that today's Core passes on for a user; "" when there is none."""
    wanted = mount_path.strip()
    if not wanted:
        return ""
    name = wanted.removeprefix("/work/").removesuffix("/")
    if not wanted.startswith("/work/") or "/" in name:
        raise Unsupported(f"{where}: this provider shows files and folders directly below /work only, not at {wanted}", field=where)
    if name in ("", ".", "..") or "\0" in name or len(name.encode()) > _LONGEST_COMPONENT:
        raise InvalidRequest("expected /work/{name}", field=where)
    if _taken_by_us(name):
        raise InvalidRequest(f"{name} is what the job's own file is called", field=where)
    return f"/work/{name}"


def _targets(wanted: Mapping[str, _Wanted]) -> dict[str, str]:
    """Each source's target. What a user chose comes first, so that no name that was made up is in its way."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for source, one in wanted.items():
        if one.explicit:
            if one.explicit in taken:
                raise InvalidRequest(f"another file or folder is to be mounted at {one.explicit} too", field=f"{one.where}.mountPath")
            taken.add(one.explicit)
            found[source] = one.explicit
    for source, one in wanted.items():
        if not one.explicit:
            target = next(t for t in _candidates(one) if t not in taken)
            taken.add(target)
            found[source] = target
    return found


def _candidates(one: _Wanted) -> Iterable[str]:
    if not _taken_by_us(one.name):
        yield f"/work/{one.name}"
    extension = "" if one.is_folder else _extension(one.name)
    stem = _cut(one.name.removesuffix(extension), _LONGEST_COMPONENT - len(extension.encode()) - _ROOM_FOR_NUMBER)
    number = 2
    while True:
        yield f"/work/{stem} ({number}){extension}"
        number += 1


def _taken_by_us(name: str) -> bool:
    return name == PARAMETERS_FILE or _OURS.fullmatch(name) is not None


def _extension(name: str) -> str:
    found = _EXTENSION.search(name)
    return found.group() if found else ""


def _cut(text: str, most_bytes: int) -> str:
    return text.encode()[:most_bytes].decode(errors="ignore")
