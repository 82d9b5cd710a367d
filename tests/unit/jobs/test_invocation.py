"""Command lines: the worked examples of the facts on the wire of 2021 (§9.2), the rules of §9.1 that they leave out, and today's texts."""

from __future__ import annotations

import pytest
from fakes.applications import PATH, app, declared, given, spec
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from serai.jobs.v1.application_pb2 import Application
from serai_backends.model import Features
from serai_server.errors import InvalidRequest, SeraiError, Unsupported
from serai_server.jobs.applications import Template, app_of
from serai_server.jobs.inputs import Drives, inputs_of
from serai_server.jobs.invocation import SCRIPT, Command, Writing, build_command
from serai_server.jobs.parameters import values_of
from serai_server.jobs.texts import go_text, java_text

DEBUG = """invocation { word { word: "acme-batch" } } invocation { var { variable_names: "debug" prefix_global: "--debug " } }
           invocation { var { variable_names: "value" } }"""
GLUED = """invocation { var { variable_names: "a" variable_names: "b" prefix_global: "--entries" prefix_variable: "--entry"
           suffix_variable: "--next" is_suffix_variable_part_of_arg: true suffix_global: "--end" } }"""
PREFIX = """invocation { var { variable_names: "a" variable_names: "b" prefix_global: "--entries" prefix_variable: " --n= "
            is_prefix_variable_part_of_arg: true } }"""
FLAG = 'invocation { word { word: "my tool" } } invocation { bool_flag { variable_name: "f" flag: " --hello world " } }'
FILES = """invocation { var { variable_names: "f" prefix_global: "-i" } } invocation { var { variable_names: "peer" } }
           invocation { var { variable_names: "enum" } }
           parameters { enumeration { name: "enum" options { name: "Fast" value: "--speed=9" } } }"""
VALUE = 'invocation { var { variable_names: "v" } } '
DRIVES = Drives(frozenset({"123"}), {}, "user", "")


def build(
    invocation: str, values: dict[str, str] | None = None, *, todays: bool = False, rendered: dict[str, str] | None = None
) -> Command:
    values = values or {}
    job = spec(**values)
    application = app(declared(invocation, **values))
    found = given(application, job)
    texts = {Template(source): text for source, text in (rendered or {}).items()}
    return build_command(application, Writing(found, inputs_of(job, found, DRIVES, PATH).seen_at, PATH, todays, texts))


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
            {
                "f": 'file { path: "/123/data/in file.txt" }',
                "peer": 'peer { hostname: "db" job_id: "7" }',
                "enum": 'text { value: "Fast" }',
            },
            ["-i", "/work/in file.txt", "db", "--speed=9"],
        ),
        ('invocation { word { word: "a" } } invocation { env { variable: "HOME" } }', {}, ["a"]),
    ],
)
def test_worked_examples(invocation: str, values: dict[str, str], argv: list[str]) -> None:
    """Each worked example gives exactly its argument vector; nothing is quoted, split or expanded."""
    if "enum" in invocation and "enum" not in values:
        values = {**values, "enum": 'text { value: "Fast" }'}
    assert list(build(invocation, values).argv) == argv


def test_environment_joins_the_arguments_by_a_space() -> None:
    """An environment variable is its parameter's arguments with one space between; without arguments it is not set."""
    entry = 'environment {{ key: "{0}" value {{ var {{ variable_names: "{1}" variable_names: "b" prefix_global: "N=" }} }} }}'
    command = build(
        'invocation { word { word: "p" } }' + entry.format("X", "a") + 'environment { key: "Y" value { var { variable_names: "none" } } }',
        {"a": "integer { value: 1 }", "b": 'text { value: "q r" }'},
    )
    assert command.environment == (("X", "N= 1 q r"),)


def test_shell_characters_stay_what_they_are() -> None:
    """A value full of shell syntax is one argument, byte for byte."""
    nasty = "$(reboot) `id` ; rm -rf / \\\" ' \n é"
    job = spec()
    job.parameters["v"].text.value = nasty
    application = app(VALUE + 'parameters { text { name: "v" } }')
    assert build_command(application, Writing(given(application, job), {}, PATH, False, {})).argv == (nasty,)


TEXTS: list[tuple[str, str, str, str]] = [
    ('boolean { name: "v" true_value: "yes" false_value: "no" }', "boolean { value: true }", "true", "yes"),
    ('boolean { name: "v" true_value: "yes" false_value: "no" }', "boolean { value: false }", "false", "no"),
    ('boolean { name: "v" }', "boolean { value: false }", "false", "false"),
    ('floating_point { name: "v" }', "floating_point { value: 1 }", "1.0", "1"),
    ('floating_point { name: "v" }', "floating_point { value: 1e7 }", "1.0E7", "1e+07"),
    ('integer { name: "v" }', "integer { value: 10000000 }", "10000000", "10000000"),
    ('enumeration { name: "v" options { name: "Fast" value: "9" } }', 'text { value: "Fast" }', "9", "9"),
    ('textarea { name: "v" }', 'text { value: "a\\nb" }', "a\nb", "a\nb"),
    ('textarea { name: "v" }', 'textarea { value: "a" }', "a", "a"),
]


@pytest.mark.parametrize(("parameter", "value", "then", "today"), TEXTS)
def test_texts_by_generation(parameter: str, value: str, then: str, today: str) -> None:
    """2021: true/false and Java's numbers. Today: the application's own words and Go's numbers. Whole numbers and choices are the same."""
    invocation = VALUE + f"parameters {{ {parameter} }}"
    assert build(invocation, {"v": value}).argv == (then,)
    assert build(invocation, {"v": value}, todays=True).argv == (today,)


def test_a_variable_of_the_environment_on_the_command_line() -> None:
    """Today: the application's own variable is expanded, and what it does not set stays `$NAME` as at the reference. 2021: nothing."""
    invocation = """invocation { word { word: "p" } } invocation { env { variable: "MODE" } } invocation { env { variable: "HOME" } }
                    environment { key: "MODE" value { word { word: "a $(b)" } } }"""
    assert build(invocation, todays=True).argv == ("p", "a $(b)", "$HOME")
    assert build(invocation).argv == ("p",)


def test_a_variable_that_names_another() -> None:
    """It gets the other's value, in whatever order they stand; names that are not set, and circles, stay as Kubernetes leaves them."""
    invocation = 'invocation { word { word: "p" } }' + "".join(
        f'environment {{ key: "{key}" value {{ {value} }} }}'
        for key, value in {
            "A": 'env { variable: "Z" }',
            "B": 'env { variable: "HOME" }',
            "C": 'env { variable: "C" }',
            "Z": 'word { word: "z" }',
        }.items()
    )
    assert build(invocation).environment == (("A", "z"), ("B", "$(HOME)"), ("C", "$(C)"), ("Z", "z"))


def test_templates() -> None:
    """A template that is the whole command is a script; among others, and in the environment, it is the one text that it gave."""
    assert build('invocation { jinja { template: "x" } }').argv == (SCRIPT,)
    mixed = """invocation { word { word: "p" } } invocation { jinja { template: "x" } }
               environment { key: "T" value { jinja { template: "y" } } }"""
    assert build(mixed, rendered={"x": "a b", "y": "c"}) == Command(("p", "a b"), (("T", "c"),))


@pytest.mark.parametrize("size", [0, 200_000])
def test_half_a_character_is_refused(size: int) -> None:
    """A template can give what no UTF-8 has; no program can be started with it."""
    for mixed in (
        'invocation { word { word: "p" } } invocation { jinja { template: "x" } }',
        'invocation { word { word: "p" } } environment { key: "T" value { jinja { template: "x" } } }',
    ):
        with pytest.raises(InvalidRequest, match="half a character"):
            build(mixed, rendered={"x": "\ud800" + "a" * size})


@pytest.mark.parametrize(
    ("invocation", "values", "error"),
    [
        ("", {}, InvalidRequest),
        (FLAG, {"f": 'text { value: "true" }'}, InvalidRequest),
        ('invocation { word { word: "a\\000b" } }', {}, InvalidRequest),
        (f'invocation {{ word {{ word: "{"x" * 131_072}" }} }}', {}, InvalidRequest),
        (f'invocation {{ word {{ word: "{"x" * 100_000}" }} }}' * 11, {}, InvalidRequest),
        ("invocation { }", {}, Unsupported),
        ('invocation { word { word: "a" } } environment { key: "A=B" value { word { word: "x" } } }', {}, InvalidRequest),
        ('invocation { var { variable_names: "m" } }', {"m": 'modules { modules: "[\\"gcc\\"]" }'}, Unsupported),
    ],
)
def test_what_gives_no_command_is_refused(invocation: str, values: dict[str, str], error: type[Exception]) -> None:
    """An empty command, a flag that is no boolean, NUL, overlong arguments and unknown kinds are errors, never a wrong command."""
    with pytest.raises(error):
        build(invocation, values)


@settings(deadline=None)
@for_all(st.binary(max_size=300), st.binary(max_size=200), st.booleans())
def test_any_application_gives_a_command_or_a_named_error(noise: bytes, values: bytes, todays: bool) -> None:
    """Whatever protobuf reads as an application and its values, the result is a command without NUL or an error for a person."""
    message, job = Application(), spec()
    message.invocation.invocation.add().word.word = "p"
    try:
        message.invocation.MergeFromString(noise)
        job.MergeFromString(values)
        application = app_of(message.SerializeToString(deterministic=True))
    except Exception:
        return
    try:
        found = values_of(application, job, Features(inputs=True, peers=True), PATH, undeclared=todays)
        command = build_command(application, Writing(found, inputs_of(job, found, DRIVES, PATH).seen_at, PATH, todays, {}))
    except SeraiError as error:
        assert str(error)
    else:
        assert command.argv
        assert not any("\0" in word for word in command.argv)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1.0"), (1e10, "1.0E10"), (1e-4, "1.0E-4"), (0.0, "0.0"), (-0.0, "-0.0"), (0.001, "0.001"), (123456.75, "123456.75"),
        (9999999.0, "9999999.0"), (1e7, "1.0E7"), (-2.5e-7, "-2.5E-7"), (1.5e300, "1.5E300"), (float("nan"), "NaN"),
        (float("-inf"), "-Infinity"), (100.0, "100.0"), (12345678.9, "1.23456789E7"), (3.14, "3.14"),
    ],
)  # fmt: skip
def test_floating_point_is_written_as_java_does(value: float, text: str) -> None:
    """Floating-point values of 2021 look as Java's Double.toString makes them (§9.1 rule 7)."""
    assert java_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"), (0.5, "0.5"), (100000.0, "100000"), (1e6, "1e+06"), (1234567.0, "1.234567e+06"), (123456789.0, "1.23456789e+08"),
        (1.5e21, "1.5e+21"), (1e20, "1e+20"), (1e-4, "0.0001"), (1e-5, "1e-05"), (0.00012345, "0.00012345"), (-2.5, "-2.5"),
        (3.14, "3.14"), (0.0, "0"), (-0.0, "-0"), (12345678.9, "1.23456789e+07"), (1e100, "1e+100"), (-1e-7, "-1e-07"),
        (1.7976931348623157e308, "1.7976931348623157e+308"), (123456.7, "123456.7"), (float("inf"), "+Inf"), (float("nan"), "NaN"),
    ],
)  # fmt: skip
def test_floating_point_is_written_as_go_does(value: float, text: str) -> None:
    """Today's look as Go's fmt.Sprint makes them; the pairs were printed by Go."""
    assert go_text(value) == text


@settings(deadline=None)
@for_all(st.floats(allow_nan=False, allow_infinity=False))
def test_written_numbers_are_read_back_as_they_were(value: float) -> None:
    """No digit is lost in either form."""
    assert float(java_text(value)) == float(go_text(value)) == value
