"""The syntax tree that both front ends build: the whole of the kernel language, one small dataclass a node.

Python kernels (`frontend/python.py`) and `.bl` files (`frontend/text.py`) become the same nodes, so that names,
compile-time values, types and IR construction are done once, in `frontend/lower.py`. Nodes are immutable, know
their source range, and compare equal regardless of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from blocklang.ir.location import Location


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
    """An int, float, bool, string or None."""

    value: int | float | bool | str | None


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
    """`-x`, `+x`, `~x`, `not x`; `operator` is the spelling."""

    operator: str
    operand: Expression


@dataclass(frozen=True)
class Binary(Expression):
    """`+ - * / // % ** @ << >> & | ^`; `operator` is the spelling."""

    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True)
class Compare(Expression):
    """`== != < <= > >= is is_not in not_in`, one operator (chains are rejected by the front ends)."""

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
    """A call, or a docstring, that stands alone."""

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

    `annotation` is the expression after the colon, or None. `facts` are what a `.bl` signature states of the
    argument (`{"divisible": 16}`, `{"value": 1}`); Python kernels learn theirs from specialisation.
    """

    name: str
    annotation: Expression | None = None
    default: Expression | None = None
    is_constexpr: bool = False
    facts: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Function(Node):
    """A kernel or a function callable from kernels.

    `globals` resolves names that are not local: the module of a Python function (with its closure), or the file
    scope of a `.bl` function. `is_kernel` is True for `.bl` kernels and None for Python functions, which may be both.
    """

    name: str
    parameters: tuple[Parameter, ...]
    body: tuple[Statement, ...]
    is_kernel: bool | None = None
    documentation: str = ""
    globals: Any = field(default=None, compare=False, repr=False)
    source: str = field(default="", compare=False, repr=False)
