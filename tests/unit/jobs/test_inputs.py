"""Input files and folders: where programs see them, and which drives a job may use."""

from __future__ import annotations

import pytest
from fakes.applications import PATH, app, declared, given, spec
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from serai_backends.model import Mount
from serai_server.errors import InvalidRequest, SeraiError, Unsupported
from serai_server.jobs.inputs import Drives, Inputs, MappedDrive, inputs_of, source_of

MAPPED = {
    "10": MappedDrive(),
    "20": MappedDrive(read_only=True),
    "30": MappedDrive(users=frozenset({"ann", "user"})),
    "40": MappedDrive(projects=frozenset({"p"})),
    "50": MappedDrive(users=frozenset({"ann"}), projects=frozenset({"q"})),
}
DRIVES = Drives(frozenset({"p@user", "user"}), MAPPED, "user", "p")


def inputs(resources: str = "", drives: Drives = DRIVES, **values: str) -> Inputs:
    job = spec(resources, **values)
    return inputs_of(job, given(app(declared("", **values)), job), drives, PATH)


def file(path: str, rest: str = "") -> str:
    return f'file {{ path: "{path}" {rest} }}'


def at(place: str) -> str:
    return f'mount_path: "{place}"'


def mounts(*paths: str) -> list[str]:
    """The targets of these resources."""
    found = inputs("".join(f"resources {{ {file(p)} }}" for p in paths))
    return [m.target for m in found.mounts]


def test_parameters_and_resources_become_mounts() -> None:
    """Each path once, below /work under its last name; writable if anybody asks for that; what was asked for is found by its path."""
    found = inputs(
        f"resources {{ {file('/10/data/', 'read_only: true')} }} resources {{ {file('/user')} }}",
        b=file("/10/data"),
        a=file("/p@user/in.txt", "read_only: true"),
    )
    assert found.mounts == (
        Mount("p@user/in.txt", "/work/in.txt", read_only=True),
        Mount("10/data", "/work/data"),
        Mount("user", "/work/user"),
    )
    assert found.seen_at == {"/p@user/in.txt": "/work/in.txt", "/10/data": "/work/data", "/10/data/": "/work/data", "/user": "/work/user"}


@pytest.mark.parametrize(
    ("paths", "targets"),
    [
        (["/10/a/data", "/10/b/data", "/10/c/data"], ["data", "data (2)", "data (3)"]),
        (["/10/a/in.txt", "/10/b/in.txt"], ["in.txt", "in (2).txt"]),
        (["/10/a/data", "/10/data (2)", "/10/b/data"], ["data", "data (2)", "data (3)"]),
        (
            ["/10/stdout.txt", "/10/stderr-1.txt", "/10/JobParameters.json"],
            ["stdout (2).txt", "stderr-1 (2).txt", "JobParameters (2).json"],
        ),
        (["/10/stdout.log", "/10/my-stdout.txt"], ["stdout.log", "my-stdout.txt"]),
        (["/10/a/v1.2", "/10/b/v1.2"], ["v1.2", "v1.2 (2)"]),
        (["/10/a/.bashrc", "/10/b/.bashrc"], [".bashrc", ".bashrc (2)"]),
        (["/10/a/x.tar.gz", "/10/b/x.tar.gz"], ["x.tar.gz", "x.tar (2).gz"]),
        (["/10/a/x.7z", "/10/b/x.7z"], ["x.7z", "x (2).7z"]),
    ],
)
def test_equal_names_are_told_apart(paths: list[str], targets: list[str]) -> None:
    """By a number before the extension, in the order in which they were asked for; names of the job's own files count as taken."""
    assert mounts(*paths) == [f"/work/{t}" for t in targets]


def test_a_folder_has_no_extension() -> None:
    """What the application declares as a folder gets its number at the end."""
    invocation = 'parameters { input_directory { name: "a" } } parameters { input_directory { name: "b" } }'
    job = spec(a=file("/10/x/run.d"), b=file("/10/y/run.d"))
    found = inputs_of(job, given(app(invocation), job), DRIVES, PATH)
    assert [m.target for m in found.mounts] == ["/work/run.d", "/work/run.d (2)"]


def test_a_long_name_keeps_room_for_its_number() -> None:
    """No name gets longer than a file system takes, and none is cut inside a character."""
    long = "é" * 125 + ".data"
    first, second = mounts(f"/10/a/{long}", f"/10/b/{long}")
    assert first == f"/work/{long}"
    assert second.endswith(" (2).data")
    assert len(second.removeprefix("/work/").encode()) <= 255


def test_a_place_that_was_chosen() -> None:
    """Today's mountPath is honoured directly below /work, before any other name, and everywhere for that path."""
    wanted = [file("/10/a/data"), file("/10/b/x", at(" /work/data ")), file("/10/b/x")]
    found = inputs("".join(f"resources {{ {w} }}" for w in wanted))
    assert found.mounts == (Mount("10/a/data", "/work/data (2)"), Mount("10/b/x", "/work/data"))


CHOSEN_WRONG: list[tuple[list[tuple[str, str]], type[SeraiError], int]] = [
    ([("/10/a", "/mnt/a")], Unsupported, 0),
    ([("/10/a", "/work/a/b")], Unsupported, 0),
    ([("/10/a", "data")], Unsupported, 0),
    ([("/10/a", "/work/../etc")], Unsupported, 0),
    ([("/10/a", "/work/..")], InvalidRequest, 0),
    ([("/10/a", "/work/")], InvalidRequest, 0),
    ([("/10/a", "/work/stdout.txt")], InvalidRequest, 0),
    ([("/10/a", "/work/x"), ("/10/b", "/work/x")], InvalidRequest, 1),
    ([("/10/a", "/work/x"), ("/10/a", "/work/y")], InvalidRequest, 1),
]


@pytest.mark.parametrize(("chosen", "error", "index"), CHOSEN_WRONG)
def test_a_place_that_cannot_be(chosen: list[tuple[str, str]], error: type[SeraiError], index: int) -> None:
    """Elsewhere than directly below /work, on a name of the job's own, or two at one place: refused in words, with the field's path."""
    resources = "".join(f"resources {{ {file(path, at(place))} }}" for path, place in chosen)
    with pytest.raises(error) as caught:
        inputs(resources)
    assert caught.value.field == f"{PATH}.resources[{index}].mountPath"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "//",
        "a/b",
        "10/a",
        "/10//a",
        "/10/../20/a",
        "/10/.",
        "/..",
        "/10/a//",
        "/10/a\\000b",
        "/10/" + "a" * 256,
        "/10" + "/a" * 2_100,
    ],
)
def test_a_path_that_is_none(path: str) -> None:
    """Every part has a name of its own, and a drive comes first."""
    with pytest.raises(InvalidRequest) as error:
        inputs(f"resources {{ {file(path)} }}")
    assert error.value.field == f"{PATH}.resources[0].path"


@pytest.mark.parametrize(
    ("drive", "may"),
    [
        *((drive, True) for drive in ("10", "30", "40", "p@user", "user")),
        *((drive, False) for drive in ("50", "ann", "60")),
    ],
)
def test_whose_drives(drive: str, may: bool) -> None:
    """The output's drive, the owner's own, and those that the settings open to everybody, to the user or to the project."""
    if may:
        assert inputs(f"resources {{ {file(f'/{drive}/a')} }}").mounts == (Mount(f"{drive}/a", "/work/a"),)
    else:
        with pytest.raises(InvalidRequest) as error:
            inputs(v=file(f"/{drive}/a"))
        assert error.value.field == f'{PATH}.parameters["v"].path'
        assert repr(drive) in error.value.text


def test_a_personal_job_is_in_no_project() -> None:
    """A drive that is open to a project is not open to a job outside of all projects."""
    with pytest.raises(InvalidRequest):
        inputs(f"resources {{ {file('/40/a')} }}", Drives(frozenset({"user"}), MAPPED, "user", ""))


def test_what_is_on_a_read_only_drive_is_read_only() -> None:
    """Whatever the job asks for."""
    assert inputs(f"resources {{ {file('/20/a')} }}").mounts == (Mount("20/a", "/work/a", read_only=True),)


@settings(deadline=None)
@for_all(st.text(max_size=40) | st.text("/.a ", max_size=12).map(lambda t: f"/10/{t}"))
def test_a_source_never_leads_out(path: str) -> None:
    """Whatever the path, its source has only parts with plain names, or there is none."""
    try:
        parts = source_of(path, "x").split("/")
    except InvalidRequest:
        return
    assert not {"", ".", ".."} & set(parts)
    assert "\0" not in "".join(parts)
    assert "/" + "/".join(parts) == path.removesuffix("/")


@settings(deadline=None)
@for_all(st.lists(st.text("ab.1 ()", min_size=1, max_size=6).filter(lambda t: t not in (".", "..")), max_size=8))
def test_no_two_have_one_place(names: list[str]) -> None:
    """Targets are as many as paths, each directly below /work."""
    found = inputs("".join(f"resources {{ {file(f'/10/{i}/{name}')} }}" for i, name in enumerate(names)))
    targets = [m.target for m in found.mounts]
    assert len(set(targets)) == len(names)
    assert all(t.startswith("/work/") and t.count("/") == 2 for t in targets)
