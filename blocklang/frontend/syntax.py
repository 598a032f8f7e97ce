"""The syntax tree that both front ends build: the kernel language, one small dataclass a node.

Python kernels (`frontend/python.py`) and `.bl` files (`frontend/text.py`) become the same nodes, so
that names, compile-time values, types and IR construction are done once, in `frontend/lower.py`.
Nodes are immutable, know their source range, and compare equal regardless of it.

Names are not resolved here and types not checked. Both front ends refuse trees deeper than
`MAX_DEPTH`, so that whatever follows may walk them recursively.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

from blocklang.ir.location import Location

MAX_DEPTH = 200
"""The deepest nesting of nodes in a function."""


@dataclass(frozen=True)
class Node:
    """Any part of the tree; `location` is its source range."""

    location: Location = field(compare=False, kw_only=True)


class Expression(Node):
    """Something that has a value."""


class Statement(Node):
    """Something that is executed."""


@dataclass(frozen=True)
class Literal(Expression):
    """An int, float, bool, string or None; equal to one of the same type and value (NaN to NaN)."""

    value: int | float | bool | str | None = field(compare=False)
    _key: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Python has 1 == 1.0 == True, which are different literals here, and nan != nan.
        object.__setattr__(self, "_key", f"{type(self.value).__name__} {self.value!r}")


@dataclass(frozen=True)
class Captured(Expression):
    """A Python object: a default that is no literal, evaluated when its function was defined."""

    value: Any


@dataclass(frozen=True)
class Name(Expression):
    """A variable, parameter, function or module."""

    name: str


@dataclass(frozen=True)
class Attribute(Expression):
    """`value.name`"""

    value: Expression
    name: str


@dataclass(frozen=True)
class Slice(Expression):
    """`lower:upper:step` inside a subscript; absent parts are None."""

    lower: Expression | None
    upper: Expression | None
    step: Expression | None


@dataclass(frozen=True)
class Subscript(Expression):
    """`value[indices]`, one entry for each comma-separated index."""

    value: Expression
    indices: tuple[Expression, ...]


@dataclass(frozen=True)
class TensorDescriptor(Expression):
    """`tensordesc<element[block_shape], padding>`: the type of a parameter."""

    element: Expression
    block_shape: tuple[Expression, ...]
    padding: str = "zero"


@dataclass(frozen=True)
class Tuple(Expression):
    """`(a, b)` or `[a, b]`: both are compile-time tuples."""

    items: tuple[Expression, ...]


@dataclass(frozen=True)
class Starred(Expression):
    """`*value` in a call."""

    value: Expression


@dataclass(frozen=True)
class Keyword(Node):
    """`name=value` in a call."""

    name: str
    value: Expression


@dataclass(frozen=True)
class Call(Expression):
    """`function(arguments, keywords)`"""

    function: Expression
    arguments: tuple[Expression, ...]
    keywords: tuple[Keyword, ...]


@dataclass(frozen=True)
class Unary(Expression):
    """`-x`, `+x`, `~x`, `not x`, and the type `*T` of a `.bl` signature, by spelling."""

    operator: str
    operand: Expression


@dataclass(frozen=True)
class Binary(Expression):
    """`+ - * / // % @ ** << >> & | ^`; `operator` is the spelling."""

    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True)
class Compare(Expression):
    """`== != < <= > >= is is_not in not_in`: one operator (the front ends refuse chains)."""

    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True)
class Boolean(Expression):
    """`and` / `or` over two or more operands."""

    operator: str
    operands: tuple[Expression, ...]


@dataclass(frozen=True)
class Conditional(Expression):
    """`then if condition else otherwise`"""

    condition: Expression
    then: Expression
    otherwise: Expression


@dataclass(frozen=True)
class FormatString(Expression):
    """An f-string: literal strings and expressions, in order (formatted at compile time only)."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True)
class Assign(Statement):
    """`target = target2 = value`; a target is a Name or a (nested) Tuple of them."""

    targets: tuple[Expression, ...]
    value: Expression


@dataclass(frozen=True)
class AugmentedAssign(Statement):
    """`target operator= value`"""

    target: Name
    operator: str
    value: Expression


@dataclass(frozen=True)
class AnnotatedAssign(Statement):
    """`target: annotation = value`, as in `N: bl.constexpr = 4`."""

    target: Name
    annotation: Expression
    value: Expression | None


@dataclass(frozen=True)
class ExpressionStatement(Statement):
    """An expression that stands alone: a call, as a rule."""

    value: Expression


@dataclass(frozen=True)
class If(Statement):
    """`if condition: then else: otherwise`; `elif` is an If alone in `otherwise`."""

    condition: Expression
    then: tuple[Statement, ...]
    otherwise: tuple[Statement, ...]


@dataclass(frozen=True)
class For(Statement):
    """`for target in iterable: body`"""

    target: Expression
    iterable: Expression
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class While(Statement):
    """`while condition: body`"""

    condition: Expression
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class Return(Statement):
    """`return value`"""

    value: Expression | None


@dataclass(frozen=True)
class Assert(Statement):
    """`assert condition, message`"""

    condition: Expression
    message: Expression | None


@dataclass(frozen=True)
class Raise(Statement):
    """`raise X(...)`: an error if it is ever compiled (legal in a dead compile-time branch)."""

    value: Expression | None


@dataclass(frozen=True)
class Pass(Statement):
    """`pass`"""


@dataclass(frozen=True)
class Break(Statement):
    """`break`"""


@dataclass(frozen=True)
class Continue(Statement):
    """`continue`"""


@dataclass(frozen=True)
class Parameter(Node):
    """A parameter of a function.

    `annotation` is the expression after the colon, or None. `facts` are what a `.bl` signature
    states of the argument (`("divisible", 16)`, `("value", 1)`); Python kernels learn theirs from
    specialisation.
    """

    name: str
    annotation: Expression | None = None
    default: Expression | None = None
    is_constexpr: bool = False
    facts: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Function(Node):
    """A kernel or a function callable from kernels.

    `globals` resolves names that are not local: the module of a Python function (with its closure),
    or the file scope of a `.bl` function. `is_kernel` is True for `.bl` kernels and None for Python
    functions, which may be both.
    """

    name: str
    parameters: tuple[Parameter, ...]
    body: tuple[Statement, ...]
    is_kernel: bool | None = None
    documentation: str = ""
    globals: Any = field(default=None, compare=False, repr=False)
    source: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True)
class ImportedName(Node):
    """`name as alias` of an import; without `as`, the alias is the name."""

    name: str
    alias: str


@dataclass(frozen=True)
class Import(Node):
    """`from "path" import names` of a `.bl` file; `path_location` is the range of the path."""

    path: str
    names: tuple[ImportedName, ...]
    path_location: Location = field(compare=False)


@dataclass(frozen=True)
class Constant(Node):
    """`const name = value` of a `.bl` file, evaluated in `globals`, the scope of the file."""

    name: str
    value: Expression
    globals: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class File(Node):
    """A `.bl` file: constants and functions in the order of the text; `scope` has them by name."""

    imports: tuple[Import, ...]
    constants: tuple[Constant, ...]
    functions: tuple[Function, ...]
    documentation: str = ""
    scope: Any = field(default=None, compare=False, repr=False)


def is_constexpr(annotation: Expression | None) -> bool:
    """Whether an annotation marks a compile-time value: its last name is `constexpr`."""
    if isinstance(annotation, Subscript):
        annotation = annotation.value
    return isinstance(annotation, Name | Attribute) and annotation.name == "constexpr"


def children(node: Node) -> Iterator[Node]:
    """The nodes directly below `node`, in the order of its fields."""
    for part in fields(node):
        value = getattr(node, part.name)
        if isinstance(value, Node):
            yield value
        elif isinstance(value, tuple):
            yield from (item for item in value if isinstance(item, Node))


def walk(node: Node) -> Iterator[tuple[Node, int]]:
    """`node` and every node below it with its depth, parents first."""
    pending = [(node, 1)]
    while pending:
        current, depth = pending.pop()
        yield current, depth
        pending.extend((child, depth + 1) for child in reversed(tuple(children(current))))
