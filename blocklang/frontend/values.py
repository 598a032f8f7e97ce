"""What an expression of a kernel can be while it is compiled.

Runtime values are `Tensor`s: scalars, pointers and blocks of the IR, and `Aggregate`s, which are
made of them. Everything else exists at compile time only and is a plain Python object: int, float,
bool, str, None, dtypes and pointer types, tuples (of anything here), functions, modules. A Python
number is a literal without a dtype: it takes that of what it is combined with. Assigning it to a
variable makes it a Tensor, as Triton does, whose number stays `known`, so that it can still be used
where a compile-time value is needed.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from blocklang.ir import core
from blocklang.ir.builder import normalize
from blocklang.ir.location import Location
from blocklang.ir.types import (
    BlockType,
    DType,
    Element,
    PointerType,
    Type,
    element_type,
    f32,
    f64,
    i1,
    i32,
    i64,
    shape_of,
    u32,
    u64,
)

from . import syntax
from .errors.types import IntegerTooLarge

Number = int | float
"""A compile-time number (bool is an int)."""

FLOAT32_NORMAL = (2.0**-126, (2 - 2**-23) * 2.0**127)


class Tensor:
    """A scalar, pointer or block that the kernel computes.

    `handle` is its IR value. Where every element is one `known` number, there is none: a constant
    is built at each use, so that it can be used anywhere and unused ones leave no trace.
    """

    __slots__ = ("handle", "known", "type")

    def __init__(self, type: Type, handle: core.Value | None, known: Number | None = None) -> None:
        self.type = type
        self.handle = handle
        self.known = known

    @property
    def dtype(self) -> Element:
        """The dtype, or the pointer type, of each element."""
        return element_type(self.type)

    @property
    def number(self) -> DType:
        """The dtype of what is known to be no pointer."""
        dtype = self.dtype
        assert isinstance(dtype, DType)
        return dtype

    @property
    def is_pointer(self) -> bool:
        """Whether the elements are pointers."""
        return isinstance(self.dtype, PointerType)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape; () for scalars and pointers."""
        return shape_of(self.type)

    @property
    def is_block(self) -> bool:
        """Whether this has a shape."""
        return isinstance(self.type, BlockType)

    @property
    def constant(self) -> Number | None:
        """The number that a scalar is known to be; a bool for int1."""
        if self.known is None or self.is_block:
            return None
        return bool(self.known) if self.type == i1 else self.known


class Aggregate(ABC):
    """A value made of runtime values, which are passed, carried and merged one by one."""

    @property
    @abstractmethod
    def parts(self) -> tuple[Any, ...]:
        """What it is made of."""

    @property
    @abstractmethod
    def form(self) -> Hashable:
        """What is known at compile time; aggregates of one form differ in their parts only."""

    @abstractmethod
    def with_parts(self, parts: tuple[Any, ...]) -> Aggregate:
        """The same form made of other parts."""

    @property
    @abstractmethod
    def description(self) -> str:
        """How messages name it."""

    def has_form_of(self, other: Any) -> bool:
        """Whether `other` is an aggregate of the same form."""
        return isinstance(other, Aggregate) and self.form == other.form


@dataclass(frozen=True)
class Unset:
    """What a variable holds where no single value exists; reading it is an error."""

    reason: str
    instead: str
    notes: tuple[tuple[str, Location | None], ...] = ()


@dataclass(frozen=True)
class BoundMethod:
    """`value.method`, before it is called."""

    function: Callable[..., Any]
    value: Any


@dataclass(frozen=True)
class Range:
    """What a `for` loop goes over; `static` loops are unrolled."""

    start: Any
    end: Any
    step: Any
    static: bool = False
    num_stages: int = 0
    warp_specialize: int = -1


def is_number(value: Any) -> bool:
    """Whether this is a compile-time number."""
    return isinstance(value, int | float)


def literal_dtype(value: Number) -> DType:
    """The dtype of a number that is combined with nothing that has one."""
    if isinstance(value, bool):
        return i1
    if isinstance(value, int):
        for dtype in (i32, u32, i64, u64):
            if dtype.minimum <= value <= dtype.maximum:
                return dtype
        raise IntegerTooLarge(value=value)
    size = abs(value)
    smallest, largest = FLOAT32_NORMAL
    ordinary = size == 0 or size != size or size == float("inf") or smallest <= size <= largest
    return f32 if ordinary else f64


def known(value: Number, type: Type) -> Tensor:
    """A Tensor of `type` whose elements all are `value`, converted as the dtype stores it."""
    kind = element_type(type)
    assert isinstance(kind, DType)
    return Tensor(type, None, normalize(value, kind))


def literal(value: Number) -> Tensor:
    """A number as a scalar of its own dtype."""
    return known(value, literal_dtype(value))


def is_language_function(value: Any) -> bool:
    """Whether this is a function of the language (one made by `@builtin`)."""
    return getattr(value, "__blocklang_builtin__", None) is value


def compiled_function(value: Any) -> syntax.Function | None:
    """The tree of a function that kernels can call: a `.bl` function, or a decorated Python one."""
    if isinstance(value, syntax.Function):
        return value
    if isinstance(value, type | Tensor):
        return None
    tree = getattr(value, "__blocklang_function__", None)
    tree = tree() if callable(tree) and not isinstance(tree, syntax.Function) else tree
    return tree if isinstance(tree, syntax.Function) else None


def leaves(value: Any) -> Iterator[Any]:
    """What a value consists of, tuples and aggregates flattened."""
    if isinstance(value, tuple):
        for item in value:
            yield from leaves(item)
    elif isinstance(value, Aggregate):
        yield from leaves(value.parts)
    else:
        yield value


def rebuild(value: Any, new: Iterator[Any]) -> Any:
    """`value` with its leaves replaced by those of `new`, in order."""
    if isinstance(value, tuple):
        return tuple(rebuild(item, new) for item in value)
    if isinstance(value, Aggregate):
        return value.with_parts(rebuild(value.parts, new))
    return next(new)


def same(left: Any, right: Any) -> bool:
    """Whether two values are certainly equal, in type as well."""
    if left is right:
        return True
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        if left.type != right.type:
            return False
        if left.known is None or right.known is None:
            return left.handle is right.handle and left.handle is not None
        return repr(left.known) == repr(right.known)
    if isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, Aggregate):
        return left.has_form_of(right) and same(left.parts, right.parts)
    if isinstance(left, float) and isinstance(right, float):
        return repr(left) == repr(right)
    return type(left) is type(right) and not isinstance(left, Tensor) and bool(left == right)


# ---------------------------------------------------------------- texts for messages


def type_text(type: Type) -> str:
    """A type as messages name it."""
    if isinstance(type, BlockType):
        return f"a block of {element_text(type.element)} with shape {list(type.shape)}"
    if isinstance(type, PointerType):
        return f"a {element_text(type)}"
    return element_text(element_type(type))


def element_text(type: Element) -> str:
    """An element type as messages name it."""
    if isinstance(type, PointerType):
        return f"pointer to {element_text(type.element)}"
    return type.language_name


def describe(value: Any) -> str:
    """A value as messages name it."""
    if isinstance(value, Tensor):
        scalar = "a scalar of " if isinstance(value.type, DType) else ""
        return scalar + type_text(value.type)
    if isinstance(value, DType | PointerType):
        return f"the type {element_text(value)}"
    if isinstance(value, BlockType):
        return f"the type of {type_text(value)}"
    if isinstance(value, tuple):
        items = "item" if len(value) == 1 else "items"
        return f"a tuple of {len(value)} {items}" if value else "an empty tuple"
    if isinstance(value, Aggregate):
        return value.description
    if isinstance(value, str | int | float) and not isinstance(value, enum.Enum):
        kind = {str: "string", bool: "bool", int: "integer", float: "float"}[type(value)]
        return f"the compile-time {kind} {value!r}"
    return _describe_object(value)


def _describe_object(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, ModuleType):
        return f"the module '{value.__name__}'"
    if isinstance(value, Range):
        return "a range"
    if isinstance(value, Unset):
        return "an unassigned variable"
    if isinstance(value, BoundMethod):
        return f"the method '{value.function.__name__}'"
    tree = compiled_function(value)
    if tree is not None:
        return f"the function '{tree.name}'"
    if isinstance(value, type):
        return f"the class '{value.__name__}'"
    if callable(value) and hasattr(value, "__name__"):
        return f"the function '{value.__name__}'"
    return f"a Python object of type '{type(value).__name__}'"
