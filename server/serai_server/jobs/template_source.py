"""What can be known of a template from its text alone. Read by the server, for small ones, and by the worker that renders, for all.

Imports nothing but jinja2: the worker replaces part of it before, and has no other packages.
"""

from __future__ import annotations

import re

from jinja2 import Environment, TemplateError, nodes

_CALL = re.compile(r"(?<!\{)\{- ([^-{}()]{0,200})(\([^)]{0,1000}\))? -\}(?!\})")
"""`{- name("argument") -}`: a call of the provider's own functions. `{{- x -}}` is jinja's own."""
_ELSEWHERE: tuple[tuple[type[nodes.Node], str], ...] = (
    (nodes.Include, "include"),
    (nodes.Import, "import"),
    (nodes.FromImport, "import"),
    (nodes.Extends, "extends"),
)


def parsed(source: str, environment: Environment) -> nodes.Template:
    """Raises ValueError for what can never be rendered, with words and the line."""
    source = _CALL.sub(lambda call: f"\n# unknown function {' '.join(call[1].split())}\n", source)
    try:
        tree = environment.parse(source)
    except TemplateError as error:
        line = getattr(error, "lineno", 0)
        raise ValueError(f"line {line}: {error.message}") from error
    except (RecursionError, OverflowError) as error:
        raise ValueError("it is nested too deeply") from error
    for kind, name in _ELSEWHERE:
        found = tree.find(kind)
        if found is not None:
            raise ValueError(f"line {found.lineno}: a template cannot {name} another one here")
    return tree


def needs_rank(tree: nodes.Template) -> bool:
    """Whether `ucloud.rank` is read, or `ucloud` is used in a way that may read it: it may give another text for each replica."""
    uses = sum(name.name == "ucloud" for name in tree.find_all(nodes.Name))
    harmless = sum(_key(one) not in ("", "rank") for one in tree.find_all((nodes.Getattr, nodes.Getitem)))
    return uses > harmless


def _key(node: nodes.Getattr | nodes.Getitem) -> str:
    """The name after `ucloud.`; "" for everything else."""
    if not isinstance(node.node, nodes.Name) or node.node.name != "ucloud":
        return ""
    if isinstance(node, nodes.Getattr):
        return node.attr
    argument: object = node.arg.value if isinstance(node.arg, nodes.Const) else None
    return argument if isinstance(argument, str) else ""
