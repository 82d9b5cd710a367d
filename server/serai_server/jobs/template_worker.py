"""Renders an application's templates in a process of their own, which `templates` starts, reads and bounds. Never import this.

A template is a program that somebody else wrote. So there are three walls: jinja2's sandbox (no attribute that leads to Python's
inside, nothing that changes an object, no other templates), this process (no files, no sockets, no other processes, nobody's user id
where it was root's, so much memory and so many seconds of CPU and then it is gone) and the size of what may come out.

What a template prints is quoted for bash, as today's reference provider does it: texts in single quotes, numbers and booleans
as they are, nothing for nothing. jinja2 knows one kind of quoting, HTML's; here it is replaced before jinja2 is read.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import resource
import sys
from collections.abc import Callable
from typing import Any, TypedDict, cast

sys.path.extend(sys.argv[1:])  # python -S knows no installed packages

import markupsafe

MEMORY_BYTES = 192 << 20
MOST_OUTPUT = 1 << 20
"""Characters of one text."""
MOST_OUTPUT_IN_ALL = 16 << 20
NOBODY = 65_534


def quoted(text: str) -> str:
    return "'" + text.replace("'", "'\"'\"'") + "'"


def plain(value: object) -> str:
    """A value as today's reference prints it."""
    if isinstance(value, float):
        text = f"{value:.11f}".rstrip("0")
        return f"{text}0" if text.endswith(".") else text
    return "" if value is None else str(value)


def escape(value: Any) -> Safe:
    if hasattr(value, "__html__"):
        return Safe(value.__html__())
    return Safe(plain(value) if value is None or isinstance(value, (bool, int, float)) else quoted(str(value)))


class Safe(markupsafe.Markup):
    """Text that bash may read as it is."""

    __slots__ = ()

    @classmethod
    def escape(cls, s: Any, /) -> Safe:
        return escape(s)

    def __repr__(self) -> str:
        return f"Markup({str.__repr__(self)})"  # jinja2 writes it into the code that it makes, where the class has its own name


markupsafe.Markup = Safe  # pyright: ignore[reportAttributeAccessIssue] - the point of this module
markupsafe.escape = escape

from jinja2 import ChainableUndefined, Template, TemplateError, Undefined  # noqa: E402 - with the replaced names
from jinja2.exceptions import SecurityError  # noqa: E402
from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: E402

from serai_server.jobs.template_source import needs_rank, parsed  # noqa: E402 - reads jinja2


class One(TypedDict):
    source: str
    escaping: bool
    ranks: int
    """How many texts are wanted, for ranks from 0. One is given if no rank can be different."""


class Work(TypedDict):
    """What comes in; what goes out is `{"texts": [[…], …]}`, one for each template or one for each rank, or `{"error": words}`."""

    templates: list[One]
    context: dict[str, object]
    ucloud: dict[str, object]
    cpu_s: int


def main() -> None:
    _read_everything()
    _give_up_powers()
    work = cast("Work", json.load(sys.stdin.buffer))
    seconds = work["cpu_s"]
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    answer = json.dumps(_answer(work)).encode()
    sys.stdout.buffer.write(answer)


def _read_everything() -> None:
    """What Python and jinja2 read only at the first literal, regular expression, filter or error, while files can still be opened."""
    for module in ("html", "pprint", "textwrap"):
        importlib.import_module(module)
    made = environment(escaping=True)
    for source in ("{{ '\\u00e6' | pprint }}{{ 'a' is match('(?i)[a-z]+') }}{{ '{:d}'.format(1) }}", "{{ ''.a.b() }}"):
        with contextlib.suppress(Exception):
            made.from_string(source).render()


def _give_up_powers() -> None:
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 3),
        (resource.RLIMIT_AS, MEMORY_BYTES),
    ):
        resource.setrlimit(limit, (value, value))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


def _answer(work: Work) -> dict[str, object]:
    try:
        return {"texts": _texts(work)}
    except MemoryError:
        return {"error": f"it needs more than {MEMORY_BYTES >> 20} MiB of memory"}
    except RecursionError:
        return {"error": "it calls itself too deeply"}
    except (OSError, ImportError):  # their words tell of this machine's files
        return {"error": "it wants something of the machine that templates do not get"}
    except Exception as error:  # whatever a template can do is the template's fault
        line = _line(error)
        return {"error": f"{f'line {line}: ' if line else ''}{str(error)[:500] or type(error).__name__}"}


def _texts(work: Work) -> list[list[str]]:
    context: dict[str, object] = {**work["context"], "ternary": ternary, "dynamicInterface": nothing, "setInterfaceName": nothing}
    found: list[list[str]] = []
    in_all = 0
    for one in work["templates"]:
        made = environment(escaping=one["escaping"])
        tree = parsed(one["source"], made)
        ranks = one["ranks"] if needs_rank(tree) else 1
        template = made.from_string(tree)
        texts: list[str] = []
        for rank in range(ranks):
            context["ucloud"] = {**work["ucloud"], "rank": rank}
            texts.append(_render(template, context))
            in_all += len(texts[-1])
            if in_all > MOST_OUTPUT_IN_ALL:
                raise ValueError(f"the replicas' texts are longer than {MOST_OUTPUT_IN_ALL >> 20} MiB together")
        found.append(texts)
    return found


def _render(template: Template, context: dict[str, object]) -> str:
    pieces: list[str] = []
    size = 0
    for piece in template.generate(context):
        size += len(piece)
        if size > MOST_OUTPUT:
            raise ValueError(f"what it gives is longer than {MOST_OUTPUT >> 20} MiB")
        pieces.append(piece)
    text = "".join(pieces)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"it gives half a character, U+{ord(text[error.start]):04X}, which no text can have") from error
    return text


class Sandbox(ImmutableSandboxedEnvironment):
    def unsafe_undefined(self, obj: Any, attribute: str) -> Undefined:
        raise SecurityError(f"{attribute!r} of a {type(obj).__name__} cannot be had here")


def environment(*, escaping: bool) -> Sandbox:
    made = Sandbox(autoescape=escaping, finalize=_finalize, undefined=ChainableUndefined, keep_trailing_newline=True, cache_size=0)
    made.filters.update(flag=flag, option=option, tojson=json.dumps)
    for name in ("xmlattr", "urlize"):  # they write HTML
        made.filters.pop(name)
    made.globals.pop("lipsum")  # pyright: ignore[reportUnknownMemberType] - untyped in jinja2
    made.tests.update(match=_regex_test(whole=True), search=_regex_test(whole=False))
    return made


def _finalize(value: object) -> object:
    return Safe(plain(value)) if value is None or isinstance(value, float) else value


def flag(value: object, when_true: object, when_false: object = "") -> str:
    """`{{ verbose | flag("-v") }}`."""
    if not isinstance(when_true, str) or not isinstance(when_false, str):
        raise TemplateError("flag: expected texts")
    return (when_true if value else when_false) or Safe("")


def option(value: object, name: object, spaced: object = None) -> str:
    """`{{ level | option("--level") }}`: nothing at all without a value."""
    word = plain(name)
    if spaced is None:
        spaced = not word.endswith("=")
    if not isinstance(spaced, bool):
        raise TemplateError("option: expected true or false as the second argument")
    if value is None or isinstance(value, Undefined):
        return Safe("")
    return Safe(f"{word} {quoted(plain(value))}" if spaced else quoted(word + plain(value)))


def ternary(condition: object, if_true: object, if_false: object) -> object:
    return if_true if condition else if_false


def nothing(*_: object, **__: object) -> str:
    """Of the ways to name an application's interfaces, which this provider does not have."""
    return Safe("")


def _regex_test(*, whole: bool) -> Callable[..., bool]:
    def test(value: object, pattern: object, *, ignorecase: bool = False, multiline: bool = False) -> bool:
        if not isinstance(value, str) or not isinstance(pattern, str):
            raise TemplateError("expected a text and a pattern")
        flags = (re.IGNORECASE if ignorecase else 0) | (re.MULTILINE if multiline else 0)
        try:
            if whole and multiline:
                return re.search(f"^(?:{pattern})$", value, flags) is not None
            compiled = re.compile(pattern, flags)
        except re.error as error:
            raise TemplateError(f"the pattern is wrong: {error}") from error
        return (compiled.fullmatch(value) if whole else compiled.search(value)) is not None

    return test


def _line(error: BaseException) -> int:
    """Where in the template an error was."""
    line = cast("int", getattr(error, "lineno", 0) or 0)
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


if __name__ == "__main__":
    main()
