"""What the codec says when a body is not what the wire allows. Its own module: every other part of the codec raises it."""

from __future__ import annotations


class WireError(Exception):
    """A body that cannot be read.

    `path` names the value in the form `items[0].specification.replicas`; '' is the body itself. `text` tells a person what was
    expected and what was found, and never repeats the body's content.
    """

    def __init__(self, path: str, text: str) -> None:
        super().__init__(f"{path}: {text}" if path else text)
        self.path = path
        self.text = text
