"""Compile-time values: the marker `constexpr`, operators as in Python, and known scalars.

Compile-time integers are Python's: of any size, with `//` and `%` that round down. What the kernel
computes truncates instead.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from blocklang.ir.types import DType

from .errors.types import CompileTimeOperation, CompileTimeRequired
from .values import Tensor, describe, is_number, literal

Item = TypeVar("Item")
Static = Annotated[Item, "known at compile time"]
"""The type of a parameter of a function of the language that takes a compile-time value."""


class constexpr:
    """Marks a compile-time value: `BLOCK: bl.constexpr`, or `N = bl.constexpr(64)` in a module.

    As an annotation of a parameter, its argument is part of what the kernel is compiled for. Inside
    a kernel `n: bl.constexpr = 2 * BLOCK` names a compile-time value.
    """

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value: Any = value.value if isinstance(value, constexpr) else value

    def __class_getitem__(cls, item: Any) -> type[constexpr]:
        return cls

    def __repr__(self) -> str:
        return f"constexpr({self.value!r})"

    def __eq__(self, other: object) -> bool:
        return bool(self.value == (other.value if isinstance(other, constexpr) else other))

    def __hash__(self) -> int:
        return hash(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __index__(self) -> int:
        return operator.index(self.value)

    def __int__(self) -> int:
        return int(self.value)

    def __float__(self) -> float:
        return float(self.value)


BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "@": operator.matmul,
    "**": operator.pow,
    "<<": operator.lshift,
    ">>": operator.rshift,
    "&": operator.and_,
    "|": operator.or_,
    "^": operator.xor,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "is": lambda a, b: a is b or (is_number(a) and type(a) is type(b) and a == b),
    "is_not": lambda a, b: not BINARY["is"](a, b),
    "in": lambda a, b: a in b,
    "not_in": lambda a, b: a not in b,
}
UNARY: dict[str, Callable[[Any], Any]] = {
    "-": operator.neg,
    "+": operator.pos,
    "~": operator.invert,
    "not": operator.not_,
}
_LARGEST_BITS = 4096
"""Compile-time integers stop here, so that no kernel can make the compiler compute for ever."""


def binary(spelling: str, left: Any, right: Any) -> Any:
    """`left spelling right` on compile-time values."""
    _check_size(spelling, left, right)
    try:
        return BINARY[spelling](left, right)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
        raise CompileTimeOperation(
            problem=f"{_shown(left)} {spelling.replace('_', ' ')} {_shown(right)}: {error}",
            instead="this is computed at compile time, with Python's rules",
        ) from None


def unary(spelling: str, value: Any) -> Any:
    """`spelling value` on a compile-time value."""
    try:
        return UNARY[spelling](value)
    except TypeError as error:
        raise CompileTimeOperation(
            problem=f"{spelling} {_shown(value)}: {error}",
            instead="this is computed at compile time, with Python's rules",
        ) from None


def _shown(value: Any) -> str:
    """A compile-time value as a kernel would write it, if it is short."""
    written = repr(value) if isinstance(value, str) else text(value)
    return written if len(written) <= 40 else describe(value)


def _check_size(spelling: str, left: Any, right: Any) -> None:
    grows = spelling in ("**", "<<") and isinstance(left, int) and isinstance(right, int)
    repeats = spelling == "*" and not (is_number(left) and is_number(right))
    bits = left.bit_length() if isinstance(left, int) else 1
    growth = bits * right if spelling == "**" and grows else bits + right if grows else 0
    if growth > _LARGEST_BITS or repeats:
        problem = "the result is too large" if grows else "only numbers can be multiplied"
        raise CompileTimeOperation(
            problem=f"{_shown(left)} {spelling} {_shown(right)}: {problem}",
            instead="this is computed at compile time",
        )


def static_value(value: Any, what: str, instead: str = "") -> Any:
    """`value` as a compile-time value: known scalars become numbers, in tuples as well.

    Raises CompileTimeRequired, with `what` as its subject, for what is computed at run time.
    """
    if isinstance(value, tuple):
        return tuple(static_value(item, what, instead) for item in value)
    if not isinstance(value, Tensor):
        return value
    if value.constant is None:
        raise CompileTimeRequired(
            what=what,
            found=describe(value),
            instead=instead or "use a literal or a parameter marked 'constexpr'",
        )
    return value.constant


def runtime_value(value: Any) -> Any:
    """`value` as a variable holds it: numbers become scalars with a dtype, in tuples as well."""
    if isinstance(value, tuple):
        return tuple(map(runtime_value, value))
    return literal(value) if is_number(value) else value


def text(value: Any) -> str:
    """A compile-time value in a message (f-strings, static_print)."""
    if isinstance(value, tuple):
        comma = "," if len(value) == 1 else ""
        return f"({', '.join(map(text, value))}{comma})"
    if isinstance(value, Tensor):
        return describe(value) if value.constant is None else str(value.constant)
    if isinstance(value, DType):
        return value.language_name
    if isinstance(value, str | int | float | None):
        return str(value)
    return describe(value)
