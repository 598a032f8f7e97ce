"""Reads IR text (`.blir`), the inverse of `printer`. Errors name line and column and what was
expected.
"""

from __future__ import annotations

import re
from typing import Any

from . import ops  # noqa: F401  (fills the registry)
from .core import Argument, Block, Function, Module, Region, Result, Value
from .diagnostics import register_source
from .errors import NotIrText
from .layout import LinearLayout
from .location import SYNTHETIC, Location
from .op import REGISTRY, IRError, Op
from .types import (
    DTYPES,
    BlockType,
    DescriptorType,
    DType,
    MBarriersType,
    PendingType,
    PointerType,
    SharedType,
    TensorMapType,
    Type,
)

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+|//[^\n]*)|(?P<string>"(?:[^"\\]|\\.)*")
    |(?P<shape>\d+(?:x\d+)*x(?=[a-z]))
    |(?P<number>-?(?:\d+\.?\d*(?:e[+-]?\d+)?|inf\b|nan\b))
    |(?P<value>%[\w.]+)|(?P<alias>\#\w+)|(?P<at>@[\w.]+)|(?P<arrow>->)
    |(?P<word>[A-Za-z_]\w*)|(?P<mark>[{}()\[\]<>=,:])""",
    re.VERBOSE,
)
_PLACE = re.compile(
    r'^@(\d+) = ("(?:[^"\\]|\\.)*"):(\d+):(\d+)-(\d+):(\d+)'
    r'(?: in ("(?:[^"\\]|\\.)*"))?(?: from @(\d+))?$'
)


def parse(text: str, file: str = "<ir>") -> Module:
    """The module that `text` describes. Raises NotIrText where it is none."""
    register_source(file, text)
    return _Parser(text, file).module()


class _Parser:
    """Tokens, a position, and what has been defined so far."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.text = text
        self.layouts: dict[str, LinearLayout] = {}
        self.places = _parse_places(text)
        body = []
        for line in text.split("\n"):
            is_layout = re.match(r"^(#\w+) = (layout<.*>)$", line)
            if is_layout:
                self.layouts[is_layout[1]] = LinearLayout.parse(is_layout[2])
            body.append("" if is_layout or _PLACE.match(line) else line)
        self.tokens = self._tokenize("\n".join(body))
        self.position = 0
        self.values: dict[str, Value] = {}
        self.names: set[str] = set()

    def _tokenize(self, text: str) -> list[tuple[str, str, int]]:
        tokens, position = [], 0
        starts = [0, *(m.end() for m in re.finditer("\n", text))]
        self.starts = starts
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise self._error("unexpected character", position)
            if match.lastgroup != "space":
                tokens.append((str(match.lastgroup), match.group(), position))
            position = match.end()
        tokens.append(("end", "", len(text)))
        return tokens

    def _error(self, message: str, offset: int | None = None) -> NotIrText:
        offset = self.tokens[self.position][2] if offset is None else offset
        line = max(i for i, start in enumerate(self.starts) if start <= offset)
        column = offset - self.starts[line] + 1
        place = Location(self.file, line + 1, column, line + 1, column + 1)
        return NotIrText(place, problem=message)

    @property
    def next(self) -> str:
        """The text of the next token."""
        return self.tokens[self.position][1]

    def take(self, kind: str) -> str:
        """The next token, which must be of that kind."""
        found, text, _ = self.tokens[self.position]
        if found != kind:
            raise self._error(f"expected a {kind}, found {text!r}")
        self.position += 1
        return text

    def expect(self, text: str) -> None:
        """Skip exactly this token."""
        if not self.accept(text):
            raise self._error(f"expected {text!r}, found {self.next!r}")

    def accept(self, text: str) -> bool:
        """Skip this token if it is next."""
        found = self.next == text and self.tokens[self.position][0] != "string"
        self.position += found
        return found

    def module(self) -> Module:
        module = Module()
        if self.accept("module"):
            module.attributes = self.attributes()
        while self.tokens[self.position][0] != "end":
            module.add(self.function())
        return module

    def function(self) -> Function:
        self.values = {}
        keyword = self.take("word")
        if keyword not in ("kernel", "function"):
            raise self._error("expected `kernel` or `function`")
        function = Function(self.take("at")[1:], SYNTHETIC, keyword == "kernel")
        if function.name in self.names:
            self.position -= 1
            raise self._error(f"@{function.name} is defined twice")
        self.names.add(function.name)
        self.expect("(")
        self.parameters(function.block)
        if self.tokens[self.position][0] == "arrow":
            self.take("arrow")
            self.expect("(")
            function.result_types = tuple(self.types(")"))
        function.attributes = self.attributes()
        function.loc = self.location()
        self.block(function.block)
        return function

    def parameters(self, block: Block) -> None:
        """`%a: type {facts} @loc, ...)`"""
        while not self.accept(")"):
            name = self.take("value")[1:]
            self.expect(":")
            type = self.type()
            facts = self.attributes()
            argument = block.add_argument(type, self.location(), _hint(name))
            argument.facts = facts
            self.define(name, argument)
            self.accept(",")

    def block(self, block: Block) -> None:
        """`{ ops }`"""
        self.expect("{")
        while not self.accept("}"):
            block.append(self.op())

    def op(self) -> Op:
        start = self.position
        names: list[str] = []
        while self.tokens[self.position][0] == "value":
            names.append(self.take("value")[1:])
            self.accept(",")
        if names:
            self.expect("=")
        mnemonic = self.take("word")
        if mnemonic not in REGISTRY:
            self.position -= 1
            raise self._error(f"there is no op {mnemonic!r}")
        kind = REGISTRY[mnemonic]
        fields = self.operands(kind)
        fields.update(self.attributes())
        types = self.types() if names and self.accept(":") else []
        loc = self.location()
        regions = [self.region() for _ in kind.fields_of("region")]
        try:
            op = kind(**fields, loc=loc, result_types=types, regions=regions)
        except (AssertionError, IRError, TypeError) as problem:
            self.position = start
            raise self._error(f"{mnemonic}: {problem}") from None
        if len(names) != len(op.results):
            self.position = start
            raise self._error(f"{len(names)} names for {len(op.results)} results of {mnemonic}")
        for name, result in zip(names, op.results, strict=True):
            result.name = _hint(name)
            self.define(name, result)
        return op

    def region(self) -> Region:
        """`name(%a: type, ...) { ops }`; what it defines ends with it."""
        region, outer = Region(), dict(self.values)
        self.take("word")
        self.expect("(")
        self.parameters(region.block)
        self.block(region.block)
        self.values = outer
        return region

    def operands(self, kind: type[Op]) -> dict[str, Any]:
        declared = kind.fields_of("operand")
        single = [f.name for f in declared if f.mode == "single"]
        found: dict[str, Any] = {}
        while self.tokens[self.position][0] == "value" or self.is_named():
            if self.tokens[self.position][0] == "value":
                if not single and self.tokens[self.position - 1][1] != ",":
                    break  # the result of the next op
                if not single:
                    raise self._error("one operand too many")
                found[single.pop(0)] = self.use()
            else:
                name = self.take("word")
                self.expect("=")
                found[name] = self.uses() if self.accept("[") else self.use()
            if not self.accept(","):
                break
        return found

    def is_named(self) -> bool:
        """Whether `name =` follows: a word alone is the name of a region."""
        kind = self.tokens[self.position][0]
        return kind == "word" and self.tokens[self.position + 1][1] == "="

    def uses(self) -> tuple[Value, ...]:
        values = []
        while not self.accept("]"):
            values.append(self.use())
            self.accept(",")
        return tuple(values)

    def use(self) -> Value:
        name = self.take("value")[1:]
        if name not in self.values:
            self.position -= 1
            raise self._error(f"%{name} is not defined")
        return self.values[name]

    def define(self, name: str, value: Argument | Result) -> None:
        if name in self.values:
            raise self._error(f"%{name} is defined twice")
        self.values[name] = value

    def attributes(self) -> dict[str, Any]:
        # A block starts with `{` as well, but never with `{ word =`.
        found: dict[str, Any] = {}
        if not (self.next == "{" and self.tokens[self.position + 1][0] == "word"
                and self.tokens[self.position + 2][1] == "="):  # fmt: skip
            return found
        self.expect("{")
        while not self.accept("}"):
            name = self.take("word")
            self.expect("=")
            found[name] = self.attribute()
            self.accept(",")
        return found

    def attribute(self) -> Any:
        kind, text, _ = self.tokens[self.position]
        if kind == "string":
            return unquote(self.take("string"))
        if kind == "number":
            self.position += 1
            return int(text) if re.fullmatch(r"-?\d+", text) else float(text)
        if kind == "alias":
            return self.layout()
        if text in ("true", "false", "none"):
            self.position += 1
            return {"true": True, "false": False, "none": None}[text]
        if self.accept("["):
            items = []
            while not self.accept("]"):
                items.append(self.attribute())
                self.accept(",")
            return tuple(items)
        return self.type()

    def types(self, end: str = "") -> list[Type]:
        types = [self.type()]
        while self.accept(","):
            types.append(self.type())
        if end:
            self.expect(end)
        return types

    def type(self) -> Type:
        word = self.take("word")
        if word in DTYPES:
            return DTYPES[word]
        if word == "tensor_map":
            return TensorMapType()
        if word not in ("ptr", "block", "shared", "descriptor", "mbarriers", "pending"):
            self.position -= 1
            raise self._error(f"expected a type, found {word!r}")
        self.expect("<")
        if word == "mbarriers":
            barriers = MBarriersType(int(self.take("number")))
            self.expect(">")
            return barriers
        if word in ("ptr", "pending"):
            element = self.type()
            self.expect(">")
            if word == "pending" and isinstance(element, BlockType):
                return PendingType(element)
            if word == "pending" or not isinstance(element, DType | PointerType):
                raise self._error("a pointer points to scalars or pointers, a block is pending")
            return PointerType(element)
        return self.shaped_type(word)

    def shaped_type(self, word: str) -> Type:
        """The rest of the type of a block, a buffer or a descriptor."""
        shape = tuple(int(n) for n in self.take("shape").split("x") if n)
        element = self.type()
        layout = self.layout() if self.accept(",") else None
        depth = int(self.take("number")) if self.accept(",") else 1
        self.expect(">")
        if word == "descriptor" and isinstance(element, DType):
            return DescriptorType(shape, element)
        if word == "block" and isinstance(element, DType | PointerType):
            return BlockType(shape, element, layout)
        if layout is None or not isinstance(element, DType):
            raise self._error("a block has scalars or pointers, a buffer scalars and a layout")
        return SharedType(shape, element, layout, depth)

    def layout(self) -> LinearLayout:
        """The layout of an alias."""
        name = self.take("alias")
        if name not in self.layouts:
            self.position -= 1
            raise self._error(f"there is no layout {name}")
        return self.layouts[name]

    def location(self) -> Location:
        if self.tokens[self.position][0] != "at":
            return SYNTHETIC
        return self.places.get(self.take("at")[1:], SYNTHETIC)


def _parse_places(text: str) -> dict[str, Location]:
    found = {m[1]: m for m in map(_PLACE.match, text.split("\n")) if m}

    def place(number: str) -> Location:
        m = found[number]
        caller = place(m[8]) if m[8] else None
        function = unquote(m[7]) if m[7] else ""
        line, column, end_line, end_column = (int(m[i]) for i in range(3, 7))
        return Location(unquote(m[2]), line, column, end_line, end_column, function, caller)

    return {number: place(number) for number in found}


def unquote(literal: str) -> str:
    """The string of a literal that `printer.quote` wrote."""
    return literal[1:-1].encode("ascii", "backslashreplace").decode("unicode_escape")


def _hint(name: str) -> str:
    """The name hint behind a printed name: numbers that the printer gave are dropped."""
    return "" if name.isdigit() else re.sub(r"_\d+$", "", name)
