"""Items that generation 2021 sends bare: `jobs/suspend` takes `[Job]` there and `[{"job": Job}]` today (facts 2021 §1, today §5).

Such items are wrapped before they are read, byte for byte, so that the messages and the readers know one form only. This holds for every
bulk request whose item has nothing but one required message.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from serai_gateway.codec.errors import WireError
from serai_gateway.codec.shape import Kind, MessageShape


class _Body(msgspec.Struct, gc=False):
    items: list[msgspec.Raw] = []


@dataclass(frozen=True, slots=True)
class Wrapped:
    """The body with its bare items wrapped. `prefixes`: path of a wrapped item to the path that its sender knows."""

    body: bytes
    prefixes: tuple[tuple[str, str], ...]

    def error(self, found: WireError) -> WireError:
        """The error with the path of the body as it came."""
        for inner, outer in self.prefixes:
            if found.path == inner or found.path.startswith(f"{inner}."):
                return WireError(outer + found.path.removeprefix(inner), found.text)
        return found


def wrapper(request: MessageShape) -> Callable[[bytes], Wrapped | None] | None:
    """A function that wraps a body's bare items, None for a body without any; None for requests whose items are never bare."""
    items = [field for field in request.fields if field.key == "items" and field.repeated and field.kind is Kind.MESSAGE]
    only = items[0].submessage.bare_field if items else None
    if only is None:
        return None
    key = only.key
    probe = msgspec.json.Decoder(dict[str, msgspec.Raw])
    outer = msgspec.json.Decoder(_Body)

    def wrap(body: bytes) -> Wrapped | None:
        try:
            found = [bytes(item) for item in outer.decode(body).items]
            bare = [item.startswith(b"{") and key not in probe.decode(item) for item in found]
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None  # the reader refuses it with a path
        # An object without the job and without an id is no job either: it stays, and is told to have the key.
        bare = [is_bare and "id" in probe.decode(item) for item, is_bare in zip(found, bare, strict=True)]
        if not any(bare):
            return None
        head = f'{{"{key}":'.encode()
        items = [head + item + b"}" if is_bare else item for item, is_bare in zip(found, bare, strict=True)]
        prefixes = tuple((f"items[{index}].{key}", f"items[{index}]") for index, is_bare in enumerate(bare) if is_bare)
        return Wrapped(b'{"items":[' + b",".join(items) + b"]}", prefixes)

    return wrap
