"""Python source of the readers: one function for each message, from its Struct to protobuf's wire as text.

The source is straight-line code: names are resolved, tags and tables computed when it is written, so that a body costs attribute loads
and f-strings and nothing else. `Codec.source` shows it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from serai_gateway.codec import wire
from serai_gateway.codec.shape import FieldShape, Kind, MessageShape
from serai_gateway.codec.structs import Structs, attribute

# A subtree's table for a cached field, given the name of the function that reads the field's message.
TableMaker = Callable[[FieldShape, str], object]


class ReaderSource:
    """Collects functions and the tables that they use. `namespace` is what the source is to be run in."""

    def __init__(self, structs: Structs, table: TableMaker, namespace: dict[str, object]) -> None:
        self._structs = structs
        self._table = table
        self.namespace = namespace
        self.functions: dict[str, str] = {}
        self._taken: set[str] = set()

    def take(self) -> str:
        """The source of the functions that were added since the last call."""
        new = [name for name in self.functions if name not in self._taken]
        self._taken.update(new)
        return "\n\n".join(self.functions[name] for name in new)

    def add(self, message: MessageShape) -> str:
        """Writes the function of a message and of all below it; its name."""
        name = f"read_{message.identifier}"
        if name in self.functions:
            return name
        self.functions[name] = ""  # keeps the place: callers come before what they call
        if message.union_key:
            self.functions[name] = self._union(name, message)
        else:
            lines, expression = self._body(message, "m")
            self.functions[name] = _function(name, [*lines, f"return {expression}"])
        return name

    def _union(self, name: str, message: MessageShape) -> str:
        members: dict[object, str] = {}
        source: list[str] = []
        for field in message.fields:
            member = f"{name}_{field.name}"
            lines, expression = self._body(field.submessage, "m")
            lines += [f"p = {expression}", f'return f"{_tagged(field, "p")}"']
            source.append(_function(member, lines))
            members[self._structs.member(message, field)] = member
        classes = f"CLASSES_{message.identifier}"
        self.namespace[classes] = tuple(members)
        entries = "".join(f"{member}, " for member in members.values())
        source.append(f"MEMBERS_{message.identifier} = dict(zip({classes}, ({entries})))\n")
        source.append(_function(name, [f"return {self._call(message, 'm')}"]))
        return "\n".join(source)

    def _call(self, message: MessageShape, value: str) -> str:
        """The expression of a message's wire, for the Struct in the variable `value`."""
        name = self.add(message)
        return f"MEMBERS_{message.identifier}[{value}.__class__]({value})" if message.union_key else f"{name}({value})"

    def _body(self, message: MessageShape, local: str) -> tuple[list[str], str]:
        """Statements and the expression of a message's wire, for the Struct in the variable `local`."""
        lines: list[str] = []
        pieces: list[str] = []
        for field in () if message.empty else message.fields:
            before, piece = self._field(field, local, local if message.only else f"{local}.{attribute(field)}")
            lines += before
            pieces.append(piece)
        return lines, f'f"{"".join(pieces)}"' if pieces else '""'

    def _field(self, field: FieldShape, local: str, value: str) -> tuple[list[str], str]:
        """`value` is the expression of the field's value in the Struct of the variable `local`."""
        name = f"{local}_{field.number}"
        if field.is_map:
            return self._map(field, value, name)
        if field.repeated:
            return self._repeated(field, value, name)
        match field.kind:
            case Kind.MESSAGE:
                return self._message(field, value, name)
            case Kind.TEXT | Kind.RAW_JSON:
                return _text(field, value, name)
            case Kind.DOUBLE:
                return [], f"{{{self._table_of(field)}({self._lenient(field, value)})}}"
            case Kind.INTEGER | Kind.BOOLEAN | Kind.ENUM:
                return [], f"{{{self._table_of(field)}[{self._lenient(field, value)}]}}"

    def _message(self, field: FieldShape, value: str, name: str) -> tuple[list[str], str]:
        message = field.submessage
        if self._structs.is_cached(field):
            table = f"SUBTREES_{message.identifier}_{field.number}_{field.required:d}"
            if table not in self.namespace:
                self.namespace[table] = self._table(field, self.add(message))
            return [], f"{{{table}({value})}}"
        # Small messages are written in place: a call costs as much as two fields.
        lines, expression = self._body(message, name) if message.is_small else ([], self._call(message, name))
        if field.required:
            return [f"{name} = {value}", *lines, f"{name} = {expression}"], _tagged(field, name)
        return [
            f"{name} = {value}",
            f"if {name} is None:",
            f'    {name} = ""',
            "else:",
            *(f"    {line}" for line in lines),
            f"    {name} = {expression}",
            f'    {name} = f"{_tagged(field, name)}"',
        ], f"{{{name}}}"

    def _repeated(self, field: FieldShape, value: str, name: str) -> tuple[list[str], str]:
        if field.kind is Kind.MESSAGE:
            one = [f"    p = {self._call(field.submessage, 'p')}"]
        elif field.kind is Kind.TEXT:
            one = []
        elif field.kind is Kind.RAW_JSON:
            one = ['    p = raw_text(p) or "null"']
        else:
            table = f"PACK_{self._table_of(field)}"
            self.namespace[table] = wire.packed(field.number, _scalar_writer(field))
            return [], f"{{{table}({value})}}"
        return [f'{name} = ""', f"for p in {value} or ():", *one, f'    {name} += f"{_tagged(field, "p")}"'], f"{{{name}}}"

    def _map(self, field: FieldShape, value: str, name: str) -> tuple[list[str], str]:
        if field.kind not in {Kind.MESSAGE, Kind.TEXT}:
            raise TypeError(f"{field.name}: maps hold messages or texts on UCloud's wire")
        one = [f"        p = {self._call(field.submessage, 'p')}"] if field.kind is Kind.MESSAGE else []
        return [
            f"entries = {value}",
            f'{name} = ""',
            "if entries:",
            "    for k, p in entries.items():",
            *one,
            r'        p = f"\x0a{L[len(k)]}{k}\x12{L[len(p)]}{p}"',
            f'        {name} += f"{_tagged(field, "p")}"',
        ], f"{{{name}}}"

    def _table_of(self, field: FieldShape) -> str:
        """The name of the table (or function, for doubles) that turns a scalar into its piece of the wire."""
        name = f"{field.kind.name}_{field.number}_{field.presence:d}"
        if field.kind is Kind.ENUM:
            name += "_" + field.words.full_name.replace(".", "_")
        if name not in self.namespace:
            self.namespace[name] = _table(field)
        return name

    def _lenient(self, field: FieldShape, value: str) -> str:
        """The expression for a value that today's Core may have sent as text."""
        if not field.lenient:
            return value
        match field.kind:
            case Kind.INTEGER:
                name = f"lenient_integer_{field.high.bit_length()}"
                self.namespace[name] = wire.lenient_integer(field.low, field.high)
            case Kind.DOUBLE:
                name = "lenient_double"
                self.namespace[name] = wire.lenient_double
            case _:
                name = "lenient_boolean"
                self.namespace[name] = wire.lenient_boolean
        return f"{name}({value})"


def _table(field: FieldShape) -> object:
    match field.kind:
        case Kind.INTEGER:
            return wire.IntegerPieces(field.number, presence=field.presence)
        case Kind.BOOLEAN:
            return wire.boolean_pieces(field.number, presence=field.presence)
        case Kind.ENUM:
            return wire.WordPieces(field.number, field.words.numbers)
        case _:
            return wire.double_piece(field.number, presence=field.presence)


def _scalar_writer(field: FieldShape) -> Callable[[object], str]:
    """One element of a packed list, without a tag."""
    if field.kind is Kind.ENUM:
        numbers = field.words.numbers
        return lambda word: wire.varint(numbers.get(cast("str", word), 0))
    if field.kind is Kind.DOUBLE:
        return lambda number: wire.double_bytes(cast("float", number))
    return lambda number: wire.varint(cast("int", number))


def _text(field: FieldShape, value: str, name: str) -> tuple[list[str], str]:
    if field.kind is Kind.RAW_JSON:
        value = f"raw_text({value})"
    elif field.required:
        return [f"{name} = {value}"], _tagged(field, name)
    test = f"{name} is not None" if field.presence else name
    return [f"{name} = {value}", f'{name} = f"{_tagged(field, name)}" if {test} else ""'], f"{{{name}}}"


def _tagged(field: FieldShape, name: str) -> str:
    """Tag, length and content of the variable `name`, for the inside of an f-string."""
    return f"{_literal(wire.tag(field.number, wire.LENGTH))}{{L[len({name})]}}{{{name}}}"


def _literal(text: str) -> str:
    """Characters as escapes, for the inside of a quoted text."""
    return "".join(f"\\x{ord(letter):02x}" for letter in text)


def _function(name: str, lines: list[str]) -> str:
    return f"def {name}(m):\n" + "".join(f"    {line}\n" for line in lines)
