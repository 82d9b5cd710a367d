"""Command lines: the worked examples of the facts on the wire of 2021 (§9.2) and the rules of §9.1 that they leave out."""

from __future__ import annotations

import pytest
from google.protobuf import text_format
from serai.jobs.v1.application_pb2 import Application, AppParameterValue
from serai_server.errors import InvalidRequest, Unsupported
from serai_server.jobs.invocation import Command, build_command, double_text, work_path

DEBUG = """invocation { word { word: "acme-batch" } } invocation { var { variable_names: "debug" prefix_global: "--debug " } }
           invocation { var { variable_names: "value" } }"""
GLUED = """invocation { var { variable_names: "a" variable_names: "b" prefix_global: "--entries" prefix_variable: "--entry"
           suffix_variable: "--next" is_suffix_variable_part_of_arg: true suffix_global: "--end" } }"""
PREFIX = """invocation { var { variable_names: "a" variable_names: "b" prefix_global: "--entries" prefix_variable: " --n= "
            is_prefix_variable_part_of_arg: true } }"""
FLAG = 'invocation { word { word: "my tool" } } invocation { bool_flag { variable_name: "f" flag: " --hello world " } }'
FILES = """invocation { var { variable_names: "f" prefix_global: "-i" } } invocation { var { variable_names: "lic" } }
           invocation { var { variable_names: "enum" } }
           parameters { enumeration { name: "enum" options { name: "Fast" value: "--speed=9" } } }"""


def build(invocation: str, **values: str) -> Command:
    application = text_format.Parse(f"invocation {{ {invocation} }}", Application())
    given = {name: text_format.Parse(value, AppParameterValue()) for name, value in values.items()}
    return build_command(application, given, "parameters")


@pytest.mark.parametrize(
    ("invocation", "values", "argv"),
    [
        (
            DEBUG,
            {"debug": "boolean { value: true }", "value": 'text { value: "Hello, World!" }'},
            ["acme-batch", "--debug", "true", "Hello, World!"],
        ),
        (DEBUG, {"debug": "boolean { value: false }", "value": 'text { value: "" }'}, ["acme-batch", "--debug", "false", ""]),
        (DEBUG, {"value": 'text { value: "x y" }'}, ["acme-batch", "x y"]),
        (
            GLUED,
            {"a": "integer { value: 42 }", "b": 'text { value: "hello" }'},
            ["--entries", "--entry", "42--next", "--entry", "hello--next", "--end"],
        ),
        (PREFIX, {"b": 'text { value: "z" }'}, ["--entries", "--n=z"]),
        (FLAG, {"f": "boolean { value: true }"}, ["my tool", "--hello world"]),
        (FLAG, {"f": "boolean { value: false }"}, ["my tool"]),
        (FLAG, {}, ["my tool"]),
        (
            FILES,
            {"f": 'file { path: "/123/data/in file.txt" }', "lic": 'license_server { id: "77" }', "enum": 'text { value: "Fast" }'},
            ["-i", "/work/in file.txt", "77", "--speed=9"],
        ),
        (FILES, {"enum": 'text { value: "Other" }'}, ["Other"]),
        ('invocation { word { word: "a" } } invocation { env { variable: "HOME" } }', {}, ["a"]),
    ],
)
def test_worked_examples(invocation: str, values: dict[str, str], argv: list[str]) -> None:
    """Each worked example gives exactly its argument vector; nothing is quoted, split or expanded."""
    assert list(build(invocation, **values).argv) == argv


def test_environment_joins_the_arguments_by_a_space() -> None:
    """An environment variable is its parameter's arguments with one space between; without arguments it is not set."""
    entry = 'environment {{ key: "{0}" value {{ var {{ variable_names: "{1}" variable_names: "b" prefix_global: "N=" }} }} }}'
    command = build(
        'invocation { word { word: "p" } }' + entry.format("X", "a") + 'environment { key: "Y" value { var { variable_names: "none" } } }',
        a="integer { value: 1 }",
        b='text { value: "q r" }',
    )
    assert command.environment == (("X", "N= 1 q r"),)


def test_shell_characters_stay_what_they_are() -> None:
    """A value full of shell syntax is one argument, byte for byte."""
    nasty = "$(reboot) `id` ; rm -rf / \\\" ' \n é"
    value = AppParameterValue()
    value.text.value = nasty
    application = text_format.Parse(
        'invocation { invocation { word { word: "p" } } invocation { var { variable_names: "v" } } }', Application()
    )
    assert build_command(application, {"v": value}, "").argv == ("p", nasty)


@pytest.mark.parametrize(
    ("invocation", "values", "error"),
    [
        ("", {}, InvalidRequest),
        (FLAG, {"f": 'text { value: "true" }'}, InvalidRequest),
        ('invocation { word { word: "a\\000b" } }', {}, InvalidRequest),
        (f'invocation {{ word {{ word: "{"x" * 131_072}" }} }}', {}, InvalidRequest),
        (f'invocation {{ word {{ word: "{"x" * 100_000}" }} }}' * 11, {}, InvalidRequest),
        ('invocation { jinja { template: "x" } }', {}, Unsupported),
        ("invocation { }", {}, Unsupported),
        ('invocation { word { word: "a" } } environment { key: "A=B" value { word { word: "x" } } }', {}, InvalidRequest),
        ('invocation { var { variable_names: "m" } }', {"m": "modules { }"}, Unsupported),
    ],
)
def test_what_gives_no_command_is_refused(invocation: str, values: dict[str, str], error: type[Exception]) -> None:
    """An empty command, a flag that is no boolean, NUL, overlong arguments and unknown kinds are errors, never a wrong command."""
    with pytest.raises(error):
        build(invocation, **values)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1.0"), (1e10, "1.0E10"), (1e-4, "1.0E-4"), (0.0, "0.0"), (-0.0, "-0.0"), (0.001, "0.001"), (123456.75, "123456.75"),
        (9999999.0, "9999999.0"), (1e7, "1.0E7"), (-2.5e-7, "-2.5E-7"), (1.5e300, "1.5E300"), (float("nan"), "NaN"),
        (float("-inf"), "-Infinity"), (100.0, "100.0"), (12345678.9, "1.23456789E7"), (3.14, "3.14"),
    ],
)  # fmt: skip
def test_floating_point_is_written_as_java_does(value: float, text: str) -> None:
    """Floating-point values look as Java's Double.toString makes them (§9.1 rule 7)."""
    assert double_text(value) == text


@pytest.mark.parametrize(("path", "seen"), [("/1/a/b.txt", "/work/b.txt"), ("/1/a/b/", "/work/b"), ("/1", "/work/1")])
def test_files_are_seen_below_work(path: str, seen: str) -> None:
    """A file or folder is its last component below /work, without the slash that 2021's reference adds by mistake (§9.1 rule 8)."""
    assert work_path(path) == seen
