"""What a release promised in options is kept: each change that breaks somebody is told, each that breaks nobody is not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from contract import baseline
from contract.files import descriptor_set
from contract.promises import Promises, broken
from google.api import annotations_pb2
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorSet, MethodDescriptorProto
from serai.access.v1 import access_pb2
from serai.wire.v1 import options_pb2 as pb2

ROOT = Path(__file__).parents[3]
BEFORE = descriptor_set()


def message(descriptors: FileDescriptorSet, name: str) -> DescriptorProto:
    return next(one for file in descriptors.file for one in file.message_type if f"{file.package}.{one.name}" == f"serai.{name}")


def field(descriptors: FileDescriptorSet, of: str, name: str) -> Any:
    return next(one for one in message(descriptors, of).field if one.name == name)


def form(descriptors: FileDescriptorSet, of: str, name: str) -> pb2.FieldForm:
    return field(descriptors, of, name).options.Extensions[pb2.field]


def enum(descriptors: FileDescriptorSet, name: str) -> EnumDescriptorProto:
    return next(one for file in descriptors.file for one in file.enum_type if f"{file.package}.{one.name}" == f"serai.{name}")


def method(descriptors: FileDescriptorSet, name: str) -> MethodDescriptorProto:
    service, _, wanted = name.rpartition(".")
    services = (one for file in descriptors.file for one in file.service if one.name == service)
    return next(one for found in services for one in found.method if one.name == wanted)


def access(descriptors: FileDescriptorSet, name: str) -> access_pb2.Access:
    return method(descriptors, name).options.Extensions[access_pb2.access]


def route(descriptors: FileDescriptorSet, name: str) -> pb2.Route:
    return method(descriptors, name).options.Extensions[pb2.route]


def http(descriptors: FileDescriptorSet, name: str) -> Any:
    extension: Any = annotations_pb2.http
    return method(descriptors, name).options.Extensions[extension]


def after(change: Callable[[FileDescriptorSet], object]) -> FileDescriptorSet:
    changed = FileDescriptorSet()
    changed.CopyFrom(BEFORE)
    change(changed)
    return changed


def told(change: Callable[[FileDescriptorSet], object]) -> list[str]:
    return broken([Promises.of(BEFORE)], Promises.of(after(change)))


def add_field(descriptors: FileDescriptorSet, *, required: bool) -> None:
    added = message(descriptors, "jobs.v1.JobSpecification").field.add(name="new", json_name="new", number=99)
    added.options.Extensions[pb2.field].required = required


def drop(items: Any, name: str) -> None:
    items.remove(next(one for one in items if one.name == name))


def test_nothing_changed() -> None:
    """Then nothing is broken; there is a lot to keep."""
    promises = Promises.of(BEFORE)
    assert broken([promises], promises) == []
    kinds = [kind for kind, _ in promises.by_key]
    assert {kind: kinds.count(kind) > 30 for kind in ("message", "field", "value", "method", "route", "way")} == dict.fromkeys(
        ("message", "field", "value", "method", "route", "way"), True
    )


BREAKING: dict[str, tuple[Callable[[FileDescriptorSet], object], str]] = {
    "another path": (lambda d: setattr(route(d, "JobsService.Create"), "path", "/x"), "route ingoing POST /ucloud/{provider}/jobs is gone"),
    "another verb": (
        lambda d: setattr(route(d, "JobsService.Create"), "verb", "PUT"),
        "route ingoing POST /ucloud/{provider}/jobs is gone",
    ),
    "an alias less": (lambda d: route(d, "OtherTypesService.Create").also.pop(), "route ingoing POST /ucloud/{provider}/shares is gone"),
    "no bulk": (lambda d: setattr(route(d, "JobsService.Extend"), "bulk", False), "bulk was True and is False"),
    "empty as null": (lambda d: setattr(route(d, "JobsService.Extend"), "empty_element", 0), "empty_element was 1 and is 0"),
    "anybody may": (lambda d: setattr(route(d, "JobsService.Extend"), "open", True), "open was False and is True"),
    "another JSON name": (lambda d: setattr(field(d, "jobs.v1.Job", "owner"), "json_name", "who"), "json_name was 'owner' and is 'who'"),
    "required now": (lambda d: setattr(form(d, "jobs.v1.Job", "status"), "required", True), "required was False and is True"),
    "left out now": (lambda d: setattr(form(d, "jobs.v1.Job", "status"), "null_rule", 1), "null_rule was 0 and is 1"),
    "internal now": (lambda d: setattr(form(d, "jobs.v1.Job", "status"), "internal", True), "internal was False and is True"),
    "raw now": (lambda d: setattr(form(d, "jobs.v1.Job", "id"), "scalar", 1), "scalar was 0 and is 1"),
    "strict numbers": (lambda d: setattr(form(d, "jobs.v1.IntegerValue", "value"), "scalar", 0), "scalar was 2 and is 0"),
    "another tag": (lambda d: setattr(form(d, "jobs.v1.AppParameterValue", "file"), "tag", "path"), "tag was 'file' and is 'path'"),
    "another union key": (
        lambda d: setattr(message(d, "jobs.v1.AppParameterValue").options.Extensions[pb2.message], "union_key", "kind"),
        "union_key was 'type' and is 'kind'",
    ),
    "strict words": (
        lambda d: setattr(enum(d, "jobs.v1.JobState").options.Extensions[pb2.enum], "strict", True),
        "strict was False and is True",
    ),
    "another status": (
        lambda d: setattr(enum(d, "core.v1.ErrorReason").value[1].options.Extensions[pb2.error], "http_status", 422),
        "http_status was 400 and is 422",
    ),
    "another way": (lambda d: setattr(http(d, "JobsService.Get"), "get", "/v1/job/{job_id}"), "way GET /v1/jobs/{job_id} is gone"),
    "a way less": (lambda d: http(d, "JobsService.Follow").additional_bindings.pop(), "way POST /v1/jobs/{job_id}:follow is gone"),
    "a part of the answer": (lambda d: setattr(http(d, "JobsService.Get"), "response_body", "job"), "response_body was '' and is 'job'"),
    "no body": (lambda d: setattr(http(d, "JobsService.Create"), "body", ""), "body was '*' and is ''"),
    "a greater role": (lambda d: setattr(access(d, "JobsService.Get"), "role", access_pb2.ROLE_ADMIN), "role was 1 and is 3"),
    "no tool": (lambda d: setattr(access(d, "JobsService.Get"), "role", 0), "role was 1 and is 0"),
    "no projects": (lambda d: setattr(access(d, "JobsService.Get"), "of_project", False), "of_project was True and is False"),
    "a caller less": (lambda d: access(d, "JobsService.Get").callers.pop(), "callers was (1, 4) and is (1,)"),
    "a field less": (lambda d: drop(message(d, "jobs.v1.Job").field, "status"), "field serai.jobs.v1.Job.status is gone"),
    "a method less": (
        lambda d: drop(next(s for f in d.file for s in f.service if s.name == "JobsService").method, "Watch"),
        "method serai.jobs.v1.JobsService.Watch is gone",
    ),
    "a new key that must be there": (lambda d: add_field(d, required=True), "field serai.jobs.v1.JobSpecification.new is new and required"),
}


@pytest.mark.parametrize("name", list(BREAKING))
def test_what_breaks_somebody_is_told(name: str) -> None:
    """With the place, and what was and is."""
    change, words = BREAKING[name]
    found = told(change)
    assert any(words in line for line in found), found


FINE: dict[str, Callable[[FileDescriptorSet], object]] = {
    "a new field": lambda d: add_field(d, required=False),
    "not required any more": lambda d: setattr(form(d, "jobs.v1.Job", "id"), "required", False),
    "text for numbers too": lambda d: setattr(form(d, "jobs.v1.JobSpecification", "replicas"), "scalar", pb2.SCALAR_FORM_LENIENT_NUMBER),
    "other words too": lambda d: setattr(enum(d, "licenses.v1.SortDirection").options.Extensions[pb2.enum], "strict", False),
    "a smaller role": lambda d: setattr(access(d, "JobsService.Disown"), "role", access_pb2.ROLE_VIEWER),
    "a role where no tool might": lambda d: setattr(access(d, "JobsService.Verify"), "role", access_pb2.ROLE_ADMIN),
    "tokens of projects too": lambda d: setattr(access(d, "JobsService.Disown"), "of_project", True),
    "a caller more": lambda d: access(d, "JobsService.Create").callers.append(access_pb2.CALLER_CONSOLE),
    "a way more": lambda d: http(d, "JobsService.Get").additional_bindings.add(post="/v1/jobs/{job_id}:get", body="*"),
    "a path more": lambda d: route(d, "OtherTypesService.Create").also.append("/ucloud/{provider}/new"),
    "no cache": lambda d: setattr(form(d, "jobs.v1.JobStatus", "resolved_application"), "repeats", False),
    "deprecated": lambda d: setattr(field(d, "jobs.v1.Job", "status").options, "deprecated", True),
}


@pytest.mark.parametrize("name", list(FINE))
def test_what_breaks_nobody_is_not_told(name: str) -> None:
    """And it is a change."""
    assert after(FINE[name]) != BEFORE
    assert told(FINE[name]) == []


def test_what_was_deprecated_in_two_releases_may_go() -> None:
    """Not after one, and nothing else with it; a method takes its paths along."""

    def deprecate(descriptors: FileDescriptorSet) -> None:
        field(descriptors, "jobs.v1.Job", "status").options.deprecated = True
        method(descriptors, "JobsService.Create").options.deprecated = True

    def remove(descriptors: FileDescriptorSet) -> None:
        drop(message(descriptors, "jobs.v1.Job").field, "status")
        drop(next(s for f in descriptors.file for s in f.service if s.name == "JobsService").method, "Create")

    first, deprecated, gone = Promises.of(BEFORE), Promises.of(after(deprecate)), Promises.of(after(remove))
    assert len(broken([deprecated], gone)) == len(broken([first, deprecated], gone)) == 4
    assert broken([first, deprecated, deprecated], gone) == []
    also = Promises.of(after(lambda d: (remove(d), drop(message(d, "jobs.v1.Job").field, "output"))))
    assert broken([first, deprecated, deprecated], also) == [
        "field serai.jobs.v1.Job.output is gone; first it has to be deprecated for two releases"
    ]


def test_the_first_release_breaks_nothing() -> None:
    """There is nothing to keep yet."""
    assert broken([], Promises.of(BEFORE)) == []


INSIDE: dict[str, tuple[Callable[[DescriptorProto], object], str]] = {
    "a message": (
        lambda m: setattr(m.nested_type[0].options.Extensions[pb2.message], "union_key", "kind"),
        "message serai.jobs.v1.Job.Part: union_key",
    ),
    "its field": (lambda m: setattr(m.nested_type[0].field[0], "json_name", "other"), "field serai.jobs.v1.Job.Part.one: json_name"),
    "an enum": (
        lambda m: setattr(m.enum_type[0].options.Extensions[pb2.enum], "lower_case", True),
        "enum serai.jobs.v1.Job.Color: lower_case",
    ),
    "an enum of a message in it": (
        lambda m: drop(m.nested_type[0].enum_type[0].value, "BIG"),
        "value serai.jobs.v1.Job.Part.Size.BIG is gone",
    ),
}


@pytest.mark.parametrize("name", list(INSIDE))
def test_what_stands_inside_messages_is_kept_too(name: str) -> None:
    """Messages and enums, as deep as they go."""

    def nested(descriptors: FileDescriptorSet) -> None:
        job = message(descriptors, "jobs.v1.Job")
        part = job.nested_type.add(name="Part")
        part.field.add(name="one", json_name="one", number=1)
        part.enum_type.add(name="Size").value.add(name="BIG")
        job.enum_type.add(name="Color")

    change, words = INSIDE[name]
    before = after(nested)
    changed = after(lambda d: (nested(d), change(message(d, "jobs.v1.Job"))))
    found = broken([Promises.of(before)], Promises.of(changed))
    assert any(words in line for line in found), found


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The protos with what buf needs, in a folder of their own."""
    subprocess.run([sys.executable, str(ROOT / "tools" / "generate.py"), "--imports"], check=True)
    for name in ("buf.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "proto" / "serai", tmp_path / "proto" / "serai")
    shutil.copytree(ROOT / ".venv" / "googleapis", tmp_path / ".venv" / "googleapis")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    return tmp_path


def edit(project: Path, old: str, new: str) -> None:
    file = project / "proto" / "serai" / "jobs" / "v1" / "job.proto"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_a_baseline_is_made_and_kept(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """buf tells what it compares, we what stands in options; a baseline is made anew until its version has a tag."""
    assert baseline.check(project) == 1
    assert "run `make release-baseline`" in capfd.readouterr().out
    assert baseline.make(project) == 0
    assert baseline.check(project) == 0
    edit(project, "optional int64 started_at = 3;", "optional string started_at = 3;")
    assert baseline.check(project) == 1
    assert "started_at" in capfd.readouterr().out
    edit(project, "optional string started_at = 3;", "optional int64 started_at = 3 [(serai.wire.v1.field).required = true];")
    assert baseline.check(project) == 1
    assert "required was False and is True" in capfd.readouterr().out
    assert baseline.make(project) == 0
    assert baseline.check(project) == 0
    version = baseline.releases(project)[0].stem
    commit(project, "commit", "-qm", "x", "--allow-empty")
    commit(project, "tag", f"v{version}")
    assert baseline.make(project) == 1
    assert "was released" in capfd.readouterr().out


def commit(project: Path, *more: str) -> None:
    subprocess.run(["git", "-C", str(project), "-c", "user.name=x", "-c", "user.email=x@example.org", *more], check=True)


def test_a_clone_without_tags_does_not_write_over_a_release(project: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It asks where it comes from; where that cannot be told, the file stays and what to do is said."""
    assert baseline.make(project) == 0
    file = baseline.releases(project)[0]
    origin = tmp_path / "origin.git"
    subprocess.run(["git", "init", "-q", "--bare", str(origin)], check=True)
    commit(project, "commit", "-qm", "x", "--allow-empty")
    commit(project, "remote", "add", "origin", str(origin))
    edit(project, "optional int64 started_at = 3;", "optional int64 started_at = 3 [(serai.wire.v1.field).required = true];")

    def outcome() -> tuple[int, bool, str]:
        before = file.read_bytes()
        return baseline.make(project), file.read_bytes() == before, capfd.readouterr().out

    assert outcome()[:2] == (0, False), "no tag there either"
    edit(project, "optional int64 started_at = 3 [(serai.wire.v1.field).required = true];", "optional int64 started_at = 3;")
    commit(project, "push", "-q", "origin", f"HEAD:refs/tags/v{file.stem}")
    code, is_kept, words = outcome()
    assert (code, is_kept) == (1, True)
    assert "was released" in words
    assert "git fetch --tags origin" in words
    origin.rename(tmp_path / "gone.git")
    code, is_kept, words = outcome()
    assert (code, is_kept) == (1, True)
    assert "does not say whether" in words
    file.unlink()
    assert baseline.make(project) == 0


def test_baselines_are_in_the_order_of_versions(tmp_path: Path) -> None:
    """By number and not by letter."""
    folder = tmp_path / "proto" / "releases"
    folder.mkdir(parents=True)
    for version in ("0.10.0", "0.2.0", "0.9.1"):
        (folder / f"{version}.binpb").touch()
    assert [file.stem for file in baseline.releases(tmp_path)] == ["0.2.0", "0.9.1", "0.10.0"]
