"""What a loop carries from one iteration to the next, and in which types.

Decides only; `lower_loops` builds the loops.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from blocklang.ir.core import Value
from blocklang.ir.types import Type

from . import constexpr
from .merge import adapt
from .scope import Binding
from .values import Aggregate, Tensor, leaves, rebuild, same


class Retry(Exception):
    """The guess was wrong: compile the body again."""


@dataclass
class Plan:
    """What a loop carries: variables with their values before it, in the types carried."""

    candidates: dict[str, Binding]
    carried: dict[str, Any]
    dropped: set[str] = field(default_factory=set)
    """Candidates that the body assigns before it uses them: they need not be carried."""
    settled: set[str] = field(default_factory=set)
    """Candidates that were once left out since the body did not change them."""

    @property
    def initial(self) -> list[Tensor]:
        """The runtime leaves of all carried values."""
        return [leaf for value in self.carried.values() for leaf in runtime_leaves(value)]


def runtime_leaves(value: Any) -> list[Tensor]:
    """The Tensors in a value."""
    return [leaf for leaf in leaves(value) if isinstance(leaf, Tensor)]


def with_leaves(value: Any, tensors: Iterator[Tensor]) -> Any:
    """`value` with its Tensors replaced, in order."""
    return rebuild(
        value, iter([next(tensors) if isinstance(v, Tensor) else v for v in leaves(value)])
    )


def better_types(start: Any, end: Any) -> Any:
    """The carried value `start` in the types that the body leaves it in, or None."""
    if not _same_shape(start, end):
        return None
    new: list[Tensor] = []
    for first, last in zip(leaves(start), leaves(end), strict=True):
        if not isinstance(first, Tensor):
            if not same(first, last):
                return None
            continue
        last = constexpr.runtime_value(last)
        if not isinstance(last, Tensor):
            return None
        if adapt(last, first.type) is not None:
            new.append(first)
            continue
        widened = adapt(first, last.type)
        if widened is None:
            return None
        new.append(widened)
    return with_leaves(start, iter(new))


def is_runtime(value: Any) -> bool:
    """Whether any part of a value is computed at run time."""
    return bool(runtime_leaves(value))


def unchanged(end: Any, arguments: Sequence[Value]) -> bool:
    """Whether a carried value is, after an iteration, what it was before."""
    ends = runtime_leaves(end)
    return len(ends) == len(arguments) and all(
        tensor.handle is argument for tensor, argument in zip(ends, arguments, strict=True)
    )


def same_types(left: Any, right: Any) -> bool:
    """Whether two values of one structure have equal types in their runtime leaves."""
    types: list[list[Type]] = [[t.type for t in runtime_leaves(v)] for v in (left, right)]
    return types[0] == types[1]


def _same_shape(left: Any, right: Any) -> bool:
    """Whether tuples and aggregates are nested in the same way."""
    if isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(map(_same_shape, left, right))
    if isinstance(left, Aggregate):
        return left.has_form_of(right) and _same_shape(left.parts, right.parts)
    return not isinstance(left, tuple) and not isinstance(right, tuple | Aggregate)
