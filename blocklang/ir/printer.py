"""IR text (`.blir`). `parser.parse(print_module(m))` gives back an equal module at every stage.

    #layout0 = layout<[1024], register=[1, 2], ...>
    kernel @add(%x: ptr<f32> {divisible = 16} @1, %n: i32 @2) {num_warps = 4} @0 {
      %0 = load %p, mask = %m {vector = 4} : block<1024xf32, #layout0> @3
      %s = reduce inputs = [%0] {axis = 0} : f32 @4 combine(%a: f32 @4, %b: f32 @4) {
        ...
      }
    }
    @1 = "softmax.bl":3:1-3:9 in "add" from @7

Single operands are positional, optional and variadic ones named; attributes that have their
default are left out. Printing never fails, even for IR that breaks its declarations, so that dumps
of wrong IR can be read.
"""

from __future__ import annotations

from typing import Any, get_args

from .core import Block, Function, Module, Operation, Value
from .layout import LinearLayout
from .location import Location
from .op import Op
from .types import Type


def print_module(module: Module, locations: bool = True) -> str:
    """The text of a module; without `locations` it is shorter and cannot be read back."""
    return Printer(locations).module(module)


def print_op(op: Operation) -> str:
    """One op as text, for error messages."""
    printer = Printer(locations=False)
    lines: list[str] = []
    printer.op(op, lines, 0)
    return "\n".join(lines)


class Printer:
    """State of one printing: names given to values, aliases given to layouts and locations."""

    def __init__(self, locations: bool) -> None:
        self.locations = locations
        self.names: dict[Value, str] = {}
        self.taken: set[str] = set()
        self.layouts: dict[LinearLayout, str] = {}
        self.places: dict[Location, int] = {}

    def module(self, module: Module) -> str:
        """The whole text."""
        body: list[str] = []
        if module.attributes:
            body.append(f"module {self.attributes(module.attributes)}")
        for function in module.functions.values():
            self.function(function, body)
        aliases = [f"{name} = {layout}" for layout, name in self.layouts.items()]
        places = [
            f"@{number} = {self.location_text(place)}" for place, number in self._all_places()
        ]
        return "\n".join([*aliases, *body, *places]) + "\n"

    def _all_places(self) -> list[tuple[Location, int]]:
        pending = list(self.places)
        for place in pending:
            if place.caller is not None and place.caller not in self.places:
                self.places[place.caller] = len(self.places)
                pending.append(place.caller)
        return list(self.places.items())

    def location_text(self, place: Location) -> str:
        """The definition of a location alias."""
        text = (
            f"{quote(place.file)}:{place.line}:{place.column}-{place.end_line}:{place.end_column}"
        )
        if place.function:
            text += f" in {quote(place.function)}"
        return text if place.caller is None else f"{text} from @{self.places[place.caller]}"

    def function(self, function: Function, lines: list[str]) -> None:
        """A function with its body."""
        self.names, self.taken = {}, set()
        arguments = []
        for argument in function.arguments:
            facts = " " + self.attributes(argument.facts) if argument.facts else ""
            arguments.append(
                f"{self.define(argument)}: {self.type(argument.type)}{facts}{self.at(argument.loc)}"
            )
        results = "".join(
            f" -> {self.types(function.result_types)}" if function.result_types else ""
        )
        attributes = " " + self.attributes(function.attributes) if function.attributes else ""
        keyword = "kernel" if function.is_kernel else "function"
        head = f"{keyword} @{function.name}({', '.join(arguments)}){results}{attributes}"
        lines.append(f"{head}{self.at(function.loc)} {{")
        self.block(function.block, lines, 1)
        lines.append("}")

    def block(self, block: Block, lines: list[str], depth: int) -> None:
        """The ops of a block."""
        for op in block.ops:
            self.op(op, lines, depth)

    def op(self, op: Operation, lines: list[str], depth: int) -> None:
        """One op, with its regions."""
        results = ", ".join(self.define(r) for r in op.results)
        text = "  " * depth + (f"{results} = " if results else "") + op.mnemonic
        operands = self.operands(op)
        text += f" {operands}" if operands else ""
        fields = op.fields if isinstance(op, Op) else {}
        shown = {
            k: v
            for k, v in op.attributes.items()
            if k not in fields or not _same(fields[k].default, v)
        }
        text += " " + self.attributes(shown) if shown else ""
        if op.results:
            text += " : " + ", ".join(self.type(r.type) for r in op.results)
        text += self.at(op.loc)
        names = [f.name for f in op.fields_of("region")] if isinstance(op, Op) else []
        for position, inner in enumerate(op.regions):
            parameters = ", ".join(
                f"{self.define(a)}: {self.type(a.type)}{self.at(a.loc)}"
                for a in inner.block.arguments
            )
            name = names[position] if position < len(names) else "region"
            lines.append(f"{text} {name}({parameters}) {{")
            self.block(inner.block, lines, depth + 1)
            text = "  " * depth + "}"
        lines.append(text)

    def operands(self, op: Operation) -> str:
        """Operands, as declared; a plain list where the op has no declaration."""
        fields = op.fields_of("operand") if isinstance(op, Op) else []
        segments = op.segments if isinstance(op, Op) else ()
        if (len(segments), sum(segments)) != (len(fields), len(op.operands)):
            return ", ".join(self.name(v) for v in op.operands)
        parts, start = [], 0
        for field, length in zip(fields, segments, strict=True):
            values = [self.name(v) for v in op.operands[start : start + length]]
            start += length
            if field.mode == "single":
                parts += values
            elif field.mode == "optional":
                parts += [f"{field.name} = {value}" for value in values]
            elif values:
                parts.append(f"{field.name} = [{', '.join(values)}]")
        return ", ".join(parts)

    def define(self, value: Value) -> str:
        """A fresh name for a value, from its hint where that is free."""
        name = value.name
        if not name or name in self.taken:
            number = len(self.taken)
            name = f"{value.name}_{number}" if value.name else str(number)
            while name in self.taken:
                number += 1
                name = f"{value.name}_{number}" if value.name else str(number)
        self.taken.add(name)
        self.names[value] = name
        return f"%{name}"

    def name(self, value: Value) -> str:
        """The name of a value; one that is not defined yet is shown as such."""
        return f"%{self.names[value]}" if value in self.names else f"%<undefined {value.name}>"

    def type(self, type: Type) -> str:
        """A type, with its layout as an alias."""
        layout = getattr(type, "layout", None)
        if layout is None:
            return str(type)
        alias = self.layouts.setdefault(layout, f"#layout{len(self.layouts)}")
        return str(type).replace(str(layout), alias)

    def types(self, types: tuple[Type, ...]) -> str:
        """Types in parentheses."""
        return f"({', '.join(self.type(t) for t in types)})"

    def attributes(self, attributes: dict[str, Any]) -> str:
        """`{name = value, ...}`"""
        return "{" + ", ".join(f"{k} = {self.attribute(v)}" for k, v in attributes.items()) + "}"

    def attribute(self, value: Any) -> str:
        """One attribute value."""
        if isinstance(value, str):
            return quote(value)
        if isinstance(value, tuple | list):
            return f"[{', '.join(self.attribute(v) for v in value)}]"
        if isinstance(value, get_args(Type)):
            return self.type(value)
        if isinstance(value, LinearLayout):
            return self.layouts.setdefault(value, f"#layout{len(self.layouts)}")
        return (
            {True: "true", False: "false", None: "none"}[value]
            if value is None or value is True or value is False
            else repr(value)
        )

    def at(self, location: Location) -> str:
        """The location of an op or argument."""
        if not self.locations:
            return ""
        return f" @{self.places.setdefault(location, len(self.places))}"


def quote(text: str) -> str:
    """A string literal that has no line break."""
    escaped = text.encode("unicode_escape").decode("ascii").replace('"', '\\"')
    return f'"{escaped}"'


def _same(default: Any, value: Any) -> bool:
    return type(default) is type(value) and bool(default == value)
