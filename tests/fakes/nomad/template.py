"""What a task's templates become: the part of Go's text/template and consul-template that jobs of this project use.

A function or an action that is not known here is an error of the template, as it is for the real one.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

Value: TypeAlias = "str | int | bool | list[Value] | dict[str, Value] | None"

_TOKEN = re.compile(r"""\s*(?:(?P<str>"(?:\\.|[^"\\])*"|`[^`]*`)|(?P<num>-?\d+)|(?P<sym>:=|[()|,])|(?P<word>[$.\w][\w.$-]*))""")


_WORDS: dict[str, Value] = {"true": True, "false": False, "nil": None}


class TemplateFailed(Exception):
    """The template itself is wrong."""


class Missing(Exception):
    """A variable is not there yet."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


@dataclass(frozen=True)
class _Scope:
    dot: Value
    names: dict[str, Value]


@dataclass
class _Block:
    """`with`, `range` or `if`, with what stands inside; kind "" = all of the text."""

    kind: str
    expression: str
    inside: list[str | _Block]
    other: list[str | _Block]
    in_other: bool = False
    chained: bool = False
    """It began with `else if`: one `end` closes it and the one before."""

    def add(self, part: str | _Block) -> None:
        (self.other if self.in_other else self.inside).append(part)


class Renderer:
    """`variable` gives a variable's items, or None when it is not there."""

    def __init__(self, variable: Callable[[str], Mapping[str, str] | None], env: Mapping[str, str]) -> None:
        self._variable, self._env = variable, env

    def render(self, text: str, left: str = "{{", right: str = "}}") -> str:
        return self._all(_parse(text, left, right), _Scope(None, {}))

    def _all(self, parts: list[str | _Block], scope: _Scope) -> str:
        out: list[str] = []
        for part in parts:
            if isinstance(part, _Block):
                out.append(self._block(part, scope))
            elif part.startswith("\0"):
                out.append(self._action(part[1:], scope))
            else:
                out.append(part)
        return "".join(out)

    def _action(self, expression: str, scope: _Scope) -> str:
        found = re.match(r"\s*(\$\w+)\s*:?=\s*(.*)", expression, re.S)
        if found:
            scope.names[found.group(1)] = self._value(found.group(2), scope)
            return ""
        return _text(self._value(expression, scope))

    def _block(self, block: _Block, scope: _Scope) -> str:
        names = re.match(r"\s*(\$\w+)(?:\s*,\s*(\$\w+))?\s*:=\s*(.*)", block.expression, re.S)
        value = self._value(names.group(3) if names else block.expression, scope)
        first, second = (names.group(1), names.group(2)) if names else (None, None)
        if block.kind == "range":
            pairs: list[tuple[Value, Value]] = (
                list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
            )
            if not pairs:
                return self._all(block.other, scope)
            out: list[str] = []
            for key, item in pairs:
                bound: dict[str, Value] = {}
                if first:
                    bound = {first: key, second: item} if second else {first: item}
                out.append(self._all(block.inside, _Scope(item, scope.names | bound)))
            return "".join(out)
        if not value:
            return self._all(block.other, scope)
        bound = {first: value} if first else {}
        return self._all(block.inside, _Scope(value if block.kind == "with" else scope.dot, scope.names | bound))

    def _value(self, expression: str, scope: _Scope) -> Value:
        tokens = _tokens(expression)
        value = self._pipeline(tokens, scope)
        if tokens:
            raise TemplateFailed(f"unexpected {tokens[0]!r} in {expression!r}")
        return value

    def _pipeline(self, tokens: list[str], scope: _Scope) -> Value:
        value = self._command(tokens, scope, [])
        while tokens and tokens[0] == "|":
            tokens.pop(0)
            value = self._command(tokens, scope, [value])
        return value

    def _command(self, tokens: list[str], scope: _Scope, last: list[Value]) -> Value:
        if not tokens:
            raise TemplateFailed("missing value for command")
        word = tokens[0]
        name = word if re.fullmatch(r"[A-Za-z_]\w*", word) and word not in {"true", "false", "nil"} else None
        if name is not None:
            tokens.pop(0)
        args: list[Value] = []
        while tokens and tokens[0] not in {"|", ")"}:
            args.append(self._operand(tokens, scope))
        if name is None:
            return args[0]
        return self._call(name, [*args, *last])

    def _operand(self, tokens: list[str], scope: _Scope) -> Value:
        token = tokens.pop(0)
        if token == "(":
            value = self._pipeline(tokens, scope)
            if not tokens or tokens.pop(0) != ")":
                raise TemplateFailed("unclosed left paren")
            return value
        if token[0] in '"`-0123456789' or token in _WORDS:
            return _literal(token)
        if token.startswith("$"):
            name, _, rest = token.partition(".")
            if name != "$" and name not in scope.names:
                raise TemplateFailed(f"undefined variable {name!r}")
            return _field(scope.dot if name == "$" else scope.names[name], rest)
        if token.startswith("."):
            return _field(scope.dot, token[1:])
        return self._call(token, [])

    def _call(self, name: str, args: list[Value]) -> Value:
        if name == "nomadVar":
            path = _text(args[0])
            items = self._variable(path)
            if items is None:
                raise Missing(path)
            return dict(items)
        if name == "env":
            return self._env.get(_text(args[0]), "")
        function = _FUNCTIONS.get(name)
        if function is None:
            raise TemplateFailed(f'function "{name}" not defined')
        return function(args)


def _index(args: list[Value]) -> Value:
    value = args[0]
    for key in args[1:]:
        if isinstance(value, dict):
            value = value.get(_text(key))
        elif isinstance(value, list) and isinstance(key, int):
            value = value[key]
        else:
            raise TemplateFailed("can't index item")
    return value


def _split(args: list[Value]) -> Value:
    text = _text(args[1]).strip()  # consul-template's own: nothing becomes no item
    return [*text.split(_text(args[0]))] if text else []


def _decoded(args: list[Value]) -> Value:
    try:
        # Go's strings are bytes: what is no text comes out again as it went in
        return base64.b64decode(_text(args[0]), validate=True).decode(errors="surrogateescape")
    except ValueError as error:
        raise TemplateFailed(f"base64Decode: {error}") from error


_FUNCTIONS: dict[str, Callable[[list[Value]], Value]] = {
    "base64Decode": _decoded,
    "index": _index,
    "split": _split,
    "join": lambda a: _text(a[0]).join(_text(x) for x in a[1]) if isinstance(a[1], list) else "",
    "trimSpace": lambda a: _text(a[0]).strip(),
    "trim": lambda a: _text(a[1]).strip(_text(a[0])),
    "replaceAll": lambda a: _text(a[2]).replace(_text(a[0]), _text(a[1])),
    "toLower": lambda a: _text(a[0]).lower(),
    "toUpper": lambda a: _text(a[0]).upper(),
    "toJSON": lambda a: json.dumps(a[0], separators=(",", ":")),
    "len": lambda a: len(a[0]) if isinstance(a[0], str | list | dict) else 0,
    "eq": lambda a: any(a[0] == x for x in a[1:]),
    "ne": lambda a: a[0] != a[1],
    "not": lambda a: not a[0],
    "and": lambda a: next((x for x in a if not x), a[-1]),
    "or": lambda a: next((x for x in a if x), a[-1]),
    "add": lambda a: sum(x for x in a if isinstance(x, int)),
    "contains": lambda a: _text(a[0]) in _text(a[1]),
    "print": lambda a: "".join(_text(x) for x in a),
    "printf": lambda a: re.sub(r"%[svdq]", "%s", _text(a[0])) % tuple(_text(x) for x in a[1:]),
}


def _literal(token: str) -> Value:
    if token.startswith('"'):
        return str(json.loads(token))
    if token.startswith("`"):
        return token[1:-1]
    return _WORDS[token] if token in _WORDS else int(token)


def _field(value: Value, path: str) -> Value:
    for name in filter(None, path.split(".")):
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, str) and name == "Value":
            continue
        elif isinstance(value, dict):
            value = None
        else:
            raise TemplateFailed(f"can't evaluate field {name}")
    return value


def _text(value: Value) -> str:
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + " ".join(_text(v) for v in value) + "]"
    return str(value)


def _tokens(expression: str) -> list[str]:
    tokens: list[str] = []
    at = 0
    text = expression.strip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise TemplateFailed(f"unexpected {text[at:]!r} in command")
        tokens.append(found.group().strip())
        at = found.end()
    return tokens


def _parse(text: str, left: str, right: str) -> list[str | _Block]:
    """Text, actions (marked by a NUL) and blocks."""
    pattern = re.compile(re.escape(left) + r"(-\s)?(.*?)(\s-)?" + re.escape(right), re.S)
    stack = [_Block("", "", [], [])]
    at, trim = 0, False
    for found in pattern.finditer(text):
        before = text[at : found.start()]
        before = before.lstrip() if trim else before
        before = before.rstrip() if found.group(1) else before
        if before:
            stack[-1].add(before)
        at, trim = found.end(), found.group(3) is not None
        _open_or_close(stack, found.group(2).strip())
    rest = text[at:].lstrip() if trim else text[at:]
    if len(stack) > 1:
        raise TemplateFailed("unexpected EOF")
    if rest:
        stack[0].add(rest)
    return stack[0].inside


def _open_or_close(stack: list[_Block], action: str) -> None:
    word, _, rest = action.partition(" ")
    if action.startswith("/*"):
        return
    if word in {"with", "range", "if"}:
        block = _Block(word, rest, [], [])
        stack[-1].add(block)
        stack.append(block)
    elif word == "else" and len(stack) > 1:
        stack[-1].in_other = True
        if rest:
            inner, _, expression = rest.strip().partition(" ")
            block = _Block(inner, expression, [], [], chained=True)
            stack[-1].add(block)
            stack.append(block)
    elif word == "end":
        if len(stack) == 1:
            raise TemplateFailed("unexpected {{end}}")
        while stack.pop().chained:
            pass
    else:
        stack[-1].add("\0" + action)
