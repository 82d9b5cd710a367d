"""Command lines and environments from an application's invocation and a job's values.

No shell is ever involved: the result is an argument vector. Rules and worked examples: facts on the wire of 2021, §9.1 and §9.2. An
application whose command is one template is a script instead; what its templates give comes from outside (`templates`), because
rendering them is not safe in this process.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from serai_server.errors import InvalidRequest, Unsupported
from serai_server.jobs.applications import App, Element, EnvironmentName, Flag, Template, Unknown, Variables, Word
from serai_server.jobs.parameters import Values, parameter_path
from serai_server.jobs.texts import value_text

SCRIPT = "/etc/ucloud/script.sh"
"""Where a replica finds the text of ReplicaSpec.scripts."""

MOST_ARGUMENT_BYTES = 131_071
"""Linux refuses a longer single argument (MAX_ARG_STRLEN)."""
MOST_COMMAND_BYTES = 1_048_576
"""Of the command line and the environment together."""
_WIDEST_CHARACTER = 4
"""Bytes in UTF-8."""
ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Command:
    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Writing:
    """What the elements of an invocation are written with."""

    values: Values
    seen_at: Mapping[str, str]
    """Path of each file value to where the program sees it."""
    path: str
    """Where the specification stands in the request."""
    todays: bool
    """Texts of generation 2026."""
    rendered: Mapping[Template, str]
    """What each template gives; one that is missing counts as "", for checks before anything is rendered."""
    licenses: Mapping[str, str] = field(default_factory=dict[str, str])
    """License to what stands for it on the command line."""


def build_command(app: App, writing: Writing) -> Command:
    """The job's command. Raises InvalidRequest for values or invocations that give no command, Unsupported for kinds of element that
    this server does not know."""
    environment = _environment(app, writing)
    argv: list[str] = []
    if app.script is not None:
        argv.append(SCRIPT)
    else:
        for element in app.command:
            argv += _arguments(element, writing, environment)
    if not argv:
        raise InvalidRequest("the application's invocation gives an empty command line", field=f"{writing.path}.parameters")
    _check_sizes(argv, environment, writing.path)
    return Command(tuple(argv), tuple(environment.items()) if environment else ())


def _environment(app: App, writing: Writing) -> dict[str, str]:
    """Each variable's arguments, joined by one space. One that names another variable gets its value, as Kubernetes does it for UCloud's
    own provider; a name that the application does not set stays `$(NAME)`, as it does there."""
    found: dict[str, str] = {}
    named: dict[str, str] = {}
    for name, element in app.environment:
        if not ENVIRONMENT_NAME.fullmatch(name):
            words = f"the application sets an environment variable with a name that no system takes: {name[:64]!r}"
            raise InvalidRequest(words, field=f"{writing.path}.parameters")
        if isinstance(element, EnvironmentName):
            named[name] = element.name
            continue
        arguments = _arguments(element, writing, {})
        if arguments:
            found[name] = " ".join(arguments)
    for name, other in named.items():
        found[name] = found.get(other, f"$({other})") if other not in named else f"$({other})"
    return dict(sorted(found.items())) if named else found


def _arguments(element: Element, writing: Writing, environment: Mapping[str, str]) -> Iterable[str]:
    match element:
        case Word(word):
            return (word,)
        case Variables():
            return _variables(element, writing)
        case Flag():
            return _flag(element, writing)
        case EnvironmentName(name):
            # Today's provider passes the text $NAME, in quotes that keep every shell from expanding it; what was meant is the value.
            return (environment.get(name, f"${name}"),) if writing.todays else ()
        case Template():
            return (writing.rendered.get(element, ""),)
        case Unknown():
            raise Unsupported("the application's invocation has a kind of parameter that this server does not know")


def _variables(var: Variables, writing: Writing) -> Iterable[str]:
    words: list[str] = []
    for name in var.names:
        given = writing.values.get(name)
        if given is None:
            continue
        if var.prefix:
            words.append(var.prefix)
        text = value_text(given.declared, given.kind, given.value, writing.seen_at, writing.licenses, todays=writing.todays)
        words.append(f"{var.glued_prefix}{text}{var.glued_suffix}")
        if var.suffix:
            words.append(var.suffix)
    return (*var.before, *words, *var.after) if words else ()


def _flag(flag: Flag, writing: Writing) -> Iterable[str]:
    given = writing.values.get(flag.name)
    if given is None:
        return ()
    if given.kind != "boolean":
        raise InvalidRequest("expected a boolean, because the application uses it as a flag", field=parameter_path(writing.path, flag.name))
    return (flag.flag,) if given.value.boolean.value else ()


def command_bytes(words: Iterable[str]) -> int:
    """What words of a command line or `NAME=value` count for in MOST_COMMAND_BYTES."""
    return sum(len(word.encode()) + 1 for word in words)


def _check_sizes(argv: list[str], environment: Mapping[str, str], path: str) -> None:
    words = [*argv, *(f"{k}={v}" for k, v in environment.items())] if environment else argv
    together = "".join(words)
    try:
        together.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest("an argument of the command line holds half a character", field=f"{path}.parameters") from error
    if len(together) * _WIDEST_CHARACTER < MOST_ARGUMENT_BYTES and "\0" not in together:
        return  # nearly every command there is
    for word in words:
        if "\0" in word:
            raise InvalidRequest("an argument of the command line holds a NUL character", field=f"{path}.parameters")
        if len(word.encode()) > MOST_ARGUMENT_BYTES:
            raise InvalidRequest(f"an argument of the command line is longer than {MOST_ARGUMENT_BYTES} bytes", field=f"{path}.parameters")
    if command_bytes(words) > MOST_COMMAND_BYTES:
        raise InvalidRequest(
            f"the command line is longer than {MOST_COMMAND_BYTES} bytes in all, with the environment", field=f"{path}.parameters"
        )
