"""Templates of applications, rendered by the real worker: what they give, what bash makes of it, and what they cannot do."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.clock import FakeClock
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import Environment
from jinja2.filters import FILTERS as DEFAULT_FILTERS
from serai_backends.errors import BackendUnavailable
from serai_server.errors import InvalidRequest
from serai_server.jobs.applications import Template
from serai_server.jobs.templates import Context, Renderer, Value, check_templates

ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
ME = "user:me"
NASTY = "it's $HOME `id` \\ \" \n é"
UCLOUD: dict[str, Value | dict[str, Value]] = {
    "jobId": "17",
    "nodes": 2,
    "machine": {"name": "c1", "category": "c", "cpu": 4, "memoryInGigs": 8, "gpu": 0},
    "application": {"name": "app", "version": "1.0"},
}
VALUES: dict[str, Value] = {"t": NASTY, "n": 7, "f": 1.5, "yes": True, "no": False, "empty": "", "big": 1e16}


def context(**values: Value) -> Context:
    return Context({**VALUES, **values}, UCLOUD)


def checked(*sources: str) -> None:
    check_templates([Template(source) for source in sources], "here")


async def script(source: str, **values: Value) -> str:
    """What a script's template gives on every rank."""
    ((text,),) = await Renderer(FakeClock()).render(ME, Template(source), [], context(**values), 1)
    return text


QUOTED = "'it'\"'\"'s $HOME `id` \\ \" \n é'"
GIVES: list[tuple[str, str]] = [
    ("a {{ t }} b", f"a {QUOTED} b"),
    ("{{ n }} {{ f }} {{ big }} {{ yes }} {{ no }}", "7 1.5 10000000000000000.0 True False"),
    ("[{{ nothing }}{{ nothing.at.all }}{{ none }}]", "[]"),
    ("{{ empty }}", "''"),
    ("{{ 'a&<b' }}{{ 1 + 1 }}", "'a&<b'2"),
    ("{{ t | safe }}", NASTY),
    ("{{ t ~ '!' }}", QUOTED[:-1] + "!'"),
    ("{% set x %}-{{ n }} {{ empty }}{% endset %}{{ x }}", "-7 ''"),
    ("{% macro m(a) %}<{{ a }}>{% endmacro %}{{ m('b c') }}", "<'b c'>"),
    ("{{ yes | flag('-v') }}|{{ no | flag('-v') }}|{{ no | flag('-v', '-q r') }}|{{ nothing | flag('-v') }}", "'-v'||'-q r'|"),
    ("{{ 'a b' | option('-o') }}|{{ n | option('--n=') }}|{{ nothing | option('-o') }}", "-o 'a b'|'--n=7'|"),
    ("{{ empty | option('-o') }}|{{ 'a' | option('-o', false) }}|{{ 'a' | option('--o=', true) }}", "-o ''|'-oa'|--o= 'a'"),
    ("{{ 'abc' is match('b') }} {{ 'abc' is search('b') }} {{ 'ABC' is match('a.c', ignorecase=true) }}", "False True True"),
    ("{{ 'a\nb' is match('a|b', multiline=true) }} {{ 'a\n' is match('a') }}", "True False"),
    ("{{ ternary(yes, 1, 2) }}{{ ternary(no, 1, 2) }}", "12"),
    ("{{ ucloud.jobId }} {{ ucloud.machine.cpu }} {{ ucloud.machine['memoryInGigs'] }} {{ ucloud.machine.gpu }}", "'17' 4 8 0"),
    ("{{ ucloud.machine.name }} {{ ucloud.nodes }} {{ ucloud.application.name }} {{ ucloud.rank }}", "'c1' 2 'app' 0"),
    ("{{ dynamicInterface(0, 'WEB', 'x', 80) }}{{ setInterfaceName('x') }}.", "."),
    ('a\n{- sbatchStuff("x") -}\nb', "a\n\n# unknown function sbatchStuff\n\nb"),
    ("a {{- n -}} b", "a7b"),
    ("{% for i in range(3) %}{{ i }}{% endfor %}\n", "012\n"),
    ("{% raw %}{{ x }}{% endraw %}", "{{ x }}"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "text"), GIVES)
async def test_what_a_template_gives(source: str, text: str) -> None:
    """Texts are quoted for bash, numbers and booleans are not, nothing is nothing; the filters, tests and functions of today's provider."""
    assert await script(source) == text


@pytest.mark.parametrize("source", ["{{ [t] }}", "{{ {'a': t} }}", "{{ t | tojson }}", "{{ t.split() }}"])
async def test_no_value_reaches_bash_unquoted(source: str) -> None:
    """Lists and JSON are one quoted word each."""
    text = await script(f"printf %s {source}")
    shown = await asyncio.to_thread(subprocess.run, ["bash", "-c", text], capture_output=True, check=True)
    assert b"$HOME" in shown.stdout
    assert b"`id`" in shown.stdout


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60) | st.text(
    "'\"\\$`\n!*?~#&;|<>(){}[] \t\r\x01é", max_size=30
)


@settings(max_examples=25, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=40))
def test_bash_prints_every_value_back(texts: list[str]) -> None:
    """Any text without NUL comes out of the rendered script byte for byte."""
    source = "".join(f"printf '%s\\0' {{{{ v{i} }}}} {{{{ v{i} | option('-o=') }}}}\n" for i in range(len(texts)))
    text = asyncio.run(script(source, **{f"v{i}": t for i, t in enumerate(texts)}))
    shown = subprocess.run(["bash", "-s"], input=text.encode(), capture_output=True, check=True, env={})
    assert shown.stdout.decode().split("\0")[:-1] == [part for t in texts for part in (t, f"-o={t}")]


async def test_a_text_for_each_rank() -> None:
    """Only where the rank may matter: otherwise one text is for all."""
    renderer = Renderer(FakeClock())
    assert await renderer.render(ME, Template("{{ ucloud.rank }}/{{ ucloud.nodes }}"), [], context(), 3) == [("0/2", "1/2", "2/2")]
    assert await renderer.render(ME, Template("{% set u = ucloud %}{{ u['rank'] }}"), [], context(), 2) == [("0", "1")]
    assert await renderer.render(ME, Template("{{ ucloud['ra' ~ 'nk'] }}"), [], context(), 2) == [("0", "1")]
    assert await renderer.render(ME, Template("{{ ucloud.nodes }}{{ ucloud['jobId'] }}"), [], context(), 3) == [("2'17'",)]


async def test_filters_that_read_more_of_python_at_their_first_use() -> None:
    """No filter needs a file that the worker cannot open any more."""
    assert await script("{{ 'a b' | wordwrap(1) }}") == "'a\nb'"
    assert await script("{{ '<p>a &lt;  b</p>' | striptags }}") == "'a < b'"
    assert await script("{{ ('&lt;&eacute;' | safe).unescape() }}{{ ('<b>c</b>' | safe).striptags() }}") == "'<é''c'"


@pytest.mark.parametrize("name", sorted({*DEFAULT_FILTERS} - {"xmlattr", "urlize"}))
async def test_no_filter_wants_anything_of_the_machine(name: str) -> None:
    """Whatever it makes of a text: a result, or an error that is about the text."""
    try:
        await script(f"{{{{ 'a &lt; b' | {name} }}}}{{{{ ['b', 'a'] | {name} }}}}")
    except InvalidRequest as error:
        assert "of the machine" not in error.text
        assert "/" not in error.text


@pytest.mark.parametrize("codec", ["idna", "punycode", "cp037", "bz2", "zlib", "hex", "utf-7"])
async def test_words_about_files_stay_here(codec: str) -> None:
    """What Python would have to read from disk is not to be had, and nobody learns where it lies."""
    try:
        await script(f"{{{{ 'a'.encode('{codec}') }}}}")
    except InvalidRequest as error:
        assert "/" not in error.text
        assert "Too many open files" not in error.text


async def test_pieces_are_not_quoted() -> None:
    """An element of a command line and a variable of the environment are read by no shell."""
    found = await Renderer(FakeClock()).render(ME, None, [Template("{{ t }}"), Template("{{ n }} {{ 'a&b' | upper }}")], context(), 3)
    assert found == [(NASTY,), ("7 A&B",)]
    with pytest.raises(InvalidRequest, match=r"half a character, U\+D800"):
        await Renderer(FakeClock()).render(ME, None, [Template("{{ '\\ud800' }}")], context(), 1)


ATTACKS: list[tuple[str, str]] = [
    ("{% for i in range(10**9) %}x{% endfor %}", "Range too big"),
    (ENDLESS, "more than 1 s of computing"),
    ("{{ 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!' is match('(a+)+') }}", "more than 1 s of computing"),
    ("{{ 9 ** (9 ** 9) }}", "more than 1 s of computing"),
    ("{{ 'a' * 10**10 }}", "MiB of memory"),
    ("{% set s = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set s.x = s.x ~ s.x %}{% endfor %}", "MiB of memory"),
    ("{{ '%1000000000d' % 1 }}", "MiB of memory"),
    ("{{ '{:>1000000000}'.format(1) }}", "MiB of memory"),
    ("{% for i in range(99999) %}aaaaaaaaaaaaaaaaaaaaaaaa{% endfor %}", "longer than 1 MiB"),
    ("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "too deeply"),
    ("{{ ''.__class__.__mro__ }}", "'__class__' of a str cannot be had here"),
    ("{{ ()|attr('__cl' ~ 'ass__') }}", "'__class__' of a tuple"),
    ("{{ '{0.__class__}'.format(t) }}", "'__class__' of a str"),
    ("{{ '{x.__class__}'.format_map({'x': t}) }}", "'__class__' of a str"),
    ("{{ cycler.__init__.__globals__ }}", "'__init__' of a type"),
    ("{{ self._TemplateReference__context }}", "of a TemplateReference cannot be had here"),
    ("{{ ternary.__globals__ }}", "'__globals__' of a function"),
    ("{{ [].append(1) }}", "'append' of a list"),
    ("{{ ucloud.update({'rank': 1}) }}", "'update' of a dict"),
    ("{{ lipsum() }}", "'lipsum' is undefined"),
    ("a\n{{ 1 / 0 }}", "line 2: division by zero"),
    ("a\nb\n{{ t | nofilter }}", "line 3: No filter named 'nofilter'"),
    ("{{ n | option(1, 2) }}", "option: expected true or false"),
    ("{{ 'a' is match('(') }}", "the pattern is wrong"),
    ("a{{ '\\ud800' }}", "it gives half a character, U+D800, which no text can have"),
    ("{{ '\\udc80' | safe }}", "it gives half a character, U+DC80"),
    ("{{ ternary(**{'\\ud800\\0': 1}) }}", "argument '\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}'"),
]


@pytest.mark.parametrize(("source", "words"), ATTACKS, ids=lambda v: v[:40])
async def test_a_template_that_goes_too_far(source: str, words: str) -> None:
    """Time, memory, output, depth and Python's inside: each ends with words for a person, while this process goes on with other things."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    with pytest.raises(InvalidRequest) as error:
        await script(source)
    counting.cancel()
    assert words in error.value.text
    assert error.value.text.startswith("The application's template cannot be rendered: ")
    assert turns > 100  # the loop was never held up: it turned all the while


REFUSED: list[tuple[str, str]] = [
    ("a\n{% if", "line 2: "),
    ("{% endfor %}", "line 1: "),
    ("{% nosuch %}", "unknown tag 'nosuch'"),
    ("x\n{% include '/etc/passwd' %}", "line 2: a template cannot include another one here"),
    ("{% import 'x' as y %}", "cannot import another one"),
    ("{% from 'x' import y %}", "cannot import another one"),
    ("{% extends 'x' %}", "cannot extend"),
    ("{{ " + "(" * 2_000 + "1" + ")" * 2_000 + " }}", "nested too deeply"),
]


@pytest.mark.parametrize(("source", "words"), REFUSED, ids=lambda v: v[:20])
def test_a_template_that_can_never_be_rendered(source: str, words: str) -> None:
    """It is refused when the job comes, with the line."""
    with pytest.raises(InvalidRequest) as error:
        checked(source)
    assert words in error.value.text
    assert error.value.field == "here"


async def test_templates_together_are_bounded() -> None:
    """In number and in length, whether they are one or many, so that no application is more work than another."""
    half = "x" * 32_768
    checked(half, half)
    checked(*["x"] * 32)
    for sources, words in (
        ((half, half, "x"), "the application's templates are longer than 65536 characters in all"),
        (("x",) * 33, "expected 32 templates at most, found 33"),
    ):
        with pytest.raises(InvalidRequest) as error:
            checked(*sources)
        assert (error.value.text, error.value.field) == (words, "here")


@pytest.mark.parametrize(
    ("large", "words"),
    [
        ("{{ n }}" * 600 + "{% if", "line 1: "),
        ("\n" * 5_000 + "{% include 'x' %}", "line 5001: a template cannot include another one here"),
        ("{{ " + "(" * 5_000 + "1" + ")" * 5_000 + " }}", "nested too deeply"),
        ("{{ " + "9" * 5_000 + " }}", "Exceeds the limit"),
    ],
    ids=lambda v: v[:20],
)
async def test_large_templates_are_parsed_by_the_worker_only(monkeypatch: pytest.MonkeyPatch, large: str, words: str) -> None:
    """Parsing them takes too long for a create, also in pieces. What is wrong with them is told in words when the job starts."""

    def never(*_: object) -> None:
        raise AssertionError("a large template is parsed while others wait")

    monkeypatch.setattr(Environment, "parse", never)
    checked(large)
    checked(*[f"{{{{ a{number} }}}}" + "x" * 200 for number in range(30)])
    with pytest.raises(InvalidRequest) as error:
        await script(large)
    assert words in error.value.text


async def test_the_largest_template_that_may_be() -> None:
    """It has memory and time enough in the worker."""
    words = "echo some words of a script that does what scripts do\n" * 20
    source = (words + "{{ n }}") * (65_536 // (len(words) + 7))
    assert (await script(source)).startswith(words + "7")


PIECES = ["{{", "}}", "{%", "%}", "{#", "{- a(", ") -}", "'", "if a", "raw", "[", "(", "|b", "9", " ", "\n", "ucloud.rank"]


@settings(deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=40))
def test_any_text_is_a_template_or_is_refused_in_words(parts: list[str]) -> None:
    """Nothing that stands in an application makes a create fail in another way."""
    try:
        checked("".join(parts))
    except InvalidRequest as error:
        assert error.text.startswith("the application's template cannot be used: ")


async def test_a_crowd_is_sent_away() -> None:
    """Slow templates hold up only a few of those who ask for more to be rendered; the others may do something else and come back."""
    renderer = Renderer(FakeClock())
    found = await asyncio.gather(
        *(renderer.render(f"user:{number}", Template("{{ n }}"), [], context(n=number), 1) for number in range(10)), return_exceptions=True
    )
    assert [f for f in found if not isinstance(f, BackendUnavailable)] == [[(str(n),)] for n in range(6)]
    assert await renderer.render(ME, Template("{{ n }}"), [], context(), 1) == [("7",)]


async def test_an_owner_has_one_turn_at_a_time() -> None:
    """However many slow templates one has, another's has its turn; the rest come again later."""
    renderer = Renderer(FakeClock())
    slow = [asyncio.create_task(renderer.render("user:mallory", Template(ENDLESS + str(n)), [], context(), 1)) for n in range(20)]
    assert await renderer.render(ME, Template("{{ n }}"), [], context(), 1) == [("7",)]
    found = await asyncio.gather(*slow, return_exceptions=True)
    assert [type(f) for f in found] == [InvalidRequest] + [BackendUnavailable] * 19
    assert await renderer.render("user:mallory", Template("{{ n }}"), [], context(), 1) == [("7",)]


async def test_what_used_up_its_time_is_not_tried_again_for_ten_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails at once in the same words, also while its owner has a turn. With other values, or another owner's, it is another matter."""
    clock = FakeClock()
    renderer = Renderer(clock)
    source = Template("{% for i in range(n) %}{% for j in range(n) %}{% endfor %}{% endfor %}.")
    with pytest.raises(InvalidRequest, match="more than 1 s of computing"):
        await renderer.render(ME, source, [], context(n=99_999), 1)
    assert await renderer.render(ME, source, [], context(n=1), 1) == [(".",)]
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    clock.move(10 * 60_000 - 1)
    with pytest.raises(InvalidRequest, match="more than 1 s of computing"):
        await renderer.render(ME, source, [], context(n=99_999), 1)
    with pytest.raises(BackendUnavailable):
        await renderer.render("user:other", source, [], context(n=99_999), 1)
    clock.move(1)
    with pytest.raises(BackendUnavailable):
        await renderer.render(ME, source, [], context(n=99_999), 1)


def processes() -> set[str]:
    """Children of this process."""
    task = Path("/proc/self/task")
    return {child for thread in task.iterdir() for child in (thread / "children").read_text().split()}


def identity(child: str) -> str:
    try:
        return Path("/proc", child, "status").read_text()
    except OSError:
        return ""


async def test_nobody_waits_for_a_render_that_was_given_up() -> None:
    """A cancelled render leaves no process behind."""
    before = processes()
    rendering = asyncio.create_task(script(ENDLESS))
    async with asyncio.timeout(20):
        while not processes() - before:
            await asyncio.sleep(0.005)
    rendering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rendering
    assert not processes() - before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has an identity to give up")
async def test_the_worker_is_nobody(tmp_path: Path) -> None:
    """Where the server is root, the process that renders is not."""
    rendering = asyncio.create_task(script(ENDLESS))
    found = ""
    async with asyncio.timeout(20):
        while "65534" not in found and not rendering.done():
            found = "".join(identity(child) for child in processes()) or found
            await asyncio.sleep(0.005)
    assert "Uid:\t65534\t65534\t65534\t65534" in found
    rendering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rendering
