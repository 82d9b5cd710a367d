"""A job's values: defaults, and everything about them that Core leaves unchecked, refused with the path of the field."""

from __future__ import annotations

import pytest
from fakes.applications import PATH, app, given, spec
from serai_backends.model import Features
from serai_server.errors import InvalidRequest, Unsupported
from serai_server.jobs.parameters import Values

NUMBER = 'parameters { integer { name: "n" min: 1 max: 9 step: 2 optional: true } }'
RATE = 'parameters { floating_point { name: "n" min: 0.5 max: 1.5 optional: true } }'
CHOICE = 'parameters { enumeration { name: "e" optional: true options { name: "one" value: "1" } options { name: "two" value: "2" } } }'


def where(name: str) -> str:
    return f'{PATH}.parameters["{name}"]'


WRONG: list[tuple[str, dict[str, str], str, str]] = [
    (NUMBER, {"n": "integer { value: 0 }"}, "n", "expected 1 or more, found 0"),
    (NUMBER, {"n": "integer { value: 10 }"}, "n", "expected 9 or less, found 10"),
    (NUMBER, {"n": 'text { value: "7" }'}, "n", "expected a value of type integer, found text"),
    (NUMBER, {"n": "floating_point { value: 2 }"}, "n", "expected a value of type integer, found floating_point"),
    (RATE, {"n": "floating_point { value: 0.25 }"}, "n", "expected 0.5 or more, found 0.25"),
    (RATE, {"n": "floating_point { value: inf }"}, "n", "expected 1.5 or less, found inf"),
    (RATE, {"n": "floating_point { value: nan }"}, "n", "expected a number"),
    (CHOICE, {"e": 'text { value: "three" }'}, "e", "expected one of 'one', 'two', found 'three'"),
    (CHOICE, {"e": 'text { value: "1" }'}, "e", "expected one of 'one', 'two', found '1'"),
    ('parameters { text { name: "t" } }', {}, "t", "the application needs a value for this parameter"),
    ('parameters { peer { name: "p" } }', {}, "p", "the application needs a value for this parameter"),
    ('parameters { text { name: "t" } }', {"t": 'text { value: "a\\000b" }'}, "t", "expected a text without NUL characters"),
    ('parameters { textarea { name: "t" } }', {"t": 'textarea { value: "\\000" }'}, "t", "expected a text without NUL characters"),
    ('parameters { readme { name: "r" } }', {"r": 'text { value: "x" }'}, "r", "this parameter takes no value"),
    ("", {"x": 'text { value: "x" }'}, "x", "the application declares no parameter of this name"),
]


@pytest.mark.parametrize(("invocation", "values", "name", "words"), WRONG)
def test_wrong_values_are_named(invocation: str, values: dict[str, str], name: str, words: str) -> None:
    """Limits, choices, types, NUL, what is missing and what nobody declared."""
    with pytest.raises(InvalidRequest) as error:
        given(app(invocation), spec(**values))
    assert error.value.field == where(name)
    assert error.value.text.startswith(words)


RIGHT: list[tuple[str, dict[str, str]]] = [
    (NUMBER, {"n": "integer { value: 1 }"}),
    (NUMBER, {"n": "integer { value: 9 }"}),
    (NUMBER, {"n": "integer { value: 4 }"}),
    (RATE, {"n": "floating_point { value: 1.5 }"}),
    (CHOICE, {"e": 'text { value: "two" }'}),
    ('parameters { enumeration { name: "e" } }', {"e": 'text { value: "anything" }'}),
    ('parameters { textarea { name: "t" } }', {"t": 'text { value: "x" }'}),
]


@pytest.mark.parametrize(("invocation", "values"), RIGHT)
def test_right_values_are_taken(invocation: str, values: dict[str, str]) -> None:
    """Limits belong to what is allowed, a step does not bind (UCloud's own form does not either), and a choice without options is free."""
    assert set(given(app(invocation), spec(**values))) == set(values)


def plain(values: Values) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, one in values.items():
        found[name] = getattr(getattr(one.value, one.kind), "value")  # noqa: B009 - any member of the union
    return found


DEFAULTS: list[tuple[str, str, dict[str, object]]] = [
    ("text", '"a"', {"v": "a"}),
    ("text", '{"type":"text","value":"a"}', {"v": "a"}),
    ("textarea", '"a"', {"v": "a"}),
    ("integer", "5", {"v": 5}),
    ("integer", '{"type":"integer","value":5}', {"v": 5}),
    ("integer", "5.5", {}),
    ("integer", '"5"', {}),
    ("integer", "9223372036854775808", {}),
    ("floating_point", "5", {"v": 5.0}),
    ("floating_point", "0.5", {"v": 0.5}),
    ("boolean", "false", {"v": False}),
    ("boolean", "0", {}),
    ("enumeration", '"1"', {"v": "1"}),
    ("input_file", '"/1/a"', {}),
    ("text", "null", {}),
    ("text", "", {}),
    ("text", "{", {}),
    ("text", "[1]", {}),
]


@pytest.mark.parametrize(("kind", "default", "found"), DEFAULTS)
def test_defaults(kind: str, default: str, found: dict[str, object]) -> None:
    """Bare or with a type; of the parameter's kind, or none. An enumeration's may name the value rather than the choice."""
    options = 'options { name: "one" value: "1" }' if kind == "enumeration" else ""
    escaped = default.replace("\\", "\\\\").replace('"', '\\"')
    application = app(f'parameters {{ {kind} {{ name: "v" optional: true default_value: "{escaped}" {options} }} }}')
    assert plain(given(application, spec())) == found


def test_a_given_value_beats_the_default_and_a_default_is_enough() -> None:
    """A parameter that is not optional is content with its default."""
    application = app('parameters { integer { name: "v" default_value: "5" } }')
    assert plain(given(application, spec())) == {"v": 5}
    assert plain(given(application, spec(v="integer { value: 6 }"))) == {"v": 6}


def test_undeclared_values_are_left_out_where_core_adds_them() -> None:
    """Today's Core adds ucMetricSampleRate to every job (facts on today's Core §7): it is not there for the command line."""
    job = spec(ucMetricSampleRate='text { value: "0ms" }')
    assert given(app('parameters { text { name: "t" optional: true } }'), job, undeclared=True) == {}


@pytest.mark.parametrize("kind", ["readme", "workflow", "modules", "private_network"])
def test_declarations_without_a_value_break_no_job(kind: str) -> None:
    """Today's Core declares them, and not always as optional; a job without a value for one runs."""
    assert given(app(f'parameters {{ {kind} {{ name: "v" }} }}'), spec()) == {}


def test_an_empty_list_of_modules_is_no_value() -> None:
    """It asks for nothing."""
    application = app('parameters { modules { name: "v" } }')
    for text in ("", "null", "[]"):
        assert given(application, spec(v=f'modules {{ modules: "{text}" }}')) == {}


IMPOSSIBLE: list[tuple[str, str, str]] = [
    ("input_file", 'file { path: "/1/a" }', "input files and folders"),
    ("peer", 'peer { hostname: "a" job_id: "1" }', "connections to other jobs"),
    ("license_server", 'license_server { id: "1" }', "software licenses"),
    ("network_ip", 'network { id: "1" }', "public IP addresses"),
    ("ingress", 'ingress { id: "1" }', "public links"),
    ("modules", 'modules { modules: "[\\"gcc\\"]" }', "software modules"),
    ("workflow", "workflow { }", "workflows"),
    ("private_network", 'private_network { id: "1" }', "private networks"),
    ("", 'block_storage { id: "1" }', "block storage"),
    ("", 'api_server { server: "http://a" }', "inference servers"),
]


@pytest.mark.parametrize(("parameter", "value", "words"), IMPOSSIBLE)
def test_what_the_provider_cannot_give_is_refused_with_its_path(parameter: str, value: str, words: str) -> None:
    """In parameters, declared or not, and in resources: the job is refused rather than run without it."""
    nothing = Features()
    application = app(f'parameters {{ {parameter} {{ name: "v" }} }}' if parameter else "")
    with pytest.raises(Unsupported) as error:
        given(application, spec(v=value), nothing, undeclared=True)
    assert error.value.field == where("v")
    assert words in error.value.text
    with pytest.raises(Unsupported) as error:
        given(app(""), spec(f"resources {{ {value} }}"), nothing)
    assert error.value.field == f"{PATH}.resources[0]"
    assert words in error.value.text
