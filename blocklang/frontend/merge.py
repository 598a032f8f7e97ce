"""Values that arrive on several ways: at the end of an `if`, of an iteration, of a function.

Two values are unified leaf by leaf: equal ones stay as they are, others become one runtime value of
one type. A known number takes the type of the other side where it is exactly that number there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from blocklang.ir.core import Region, Value
from blocklang.ir.ops.control import If, Yield
from blocklang.ir.types import DType, Type, element_type

from . import emission
from .typing_rules import fits
from .values import Aggregate, Tensor, is_number, known, literal, same


class Mismatch(Exception):
    """Two values that cannot become one."""

    def __init__(self, left: Any, right: Any) -> None:
        super().__init__()
        self.left = left
        self.right = right


@dataclass(frozen=True)
class Merged:
    """A leaf that a control-flow op yields: the value of each way, in one type."""

    left: Tensor
    right: Tensor

    @property
    def type(self) -> Type:
        """The type of both."""
        return self.left.type


def adapt(value: Tensor, type: Type) -> Tensor | None:
    """`value` as `type`: itself, or a known number that is the same number there; else None."""
    if value.type == type:
        return value
    target = element_type(type)
    if value.known is None or value.is_block or not isinstance(target, DType):
        return None
    assert isinstance(value.dtype, DType)
    return known(value.known, type) if fits(value.known, value.dtype, target) else None


def unify(left: Any, right: Any) -> Any:
    """One value for both: themselves, or a tree with `Merged` leaves. Raises Mismatch."""
    if isinstance(left, Aggregate) and left is not right and left.has_form_of(right):
        # Made anew where they meet: what one of the ways has made of the parts is not known here.
        return left.with_parts(unify(left.parts, right.parts))
    if same(left, right):
        return left
    if isinstance(left, tuple) and isinstance(right, tuple) and len(left) == len(right):
        return tuple(map(unify, left, right))
    if not all(isinstance(v, Tensor) or is_number(v) for v in (left, right)):
        raise Mismatch(left, right)
    left_tensor = left if isinstance(left, Tensor) else literal(left)
    right_tensor = right if isinstance(right, Tensor) else literal(right)
    adapted = adapt(right_tensor, left_tensor.type)
    if adapted is not None:
        return Merged(left_tensor, adapted)
    adapted = adapt(left_tensor, right_tensor.type)
    if adapted is not None:
        return Merged(adapted, right_tensor)
    raise Mismatch(left, right)


def merged_leaves(value: Any) -> list[Merged]:
    """The `Merged` leaves of a unified value."""
    if isinstance(value, tuple):
        return [leaf for item in value for leaf in merged_leaves(item)]
    if isinstance(value, Aggregate):
        return merged_leaves(value.parts)
    return [value] if isinstance(value, Merged) else []


def substitute(value: Any, results: Iterator[Value]) -> Any:
    """A unified value with its `Merged` leaves replaced by IR results, in order."""

    def result(_: Merged) -> Tensor:
        made = next(results)
        return Tensor(made.type, made)

    return replace_merged(value, result)


def replace_merged(value: Any, replacement: Callable[[Merged], Tensor]) -> Any:
    """A unified value with its `Merged` leaves replaced, in order."""
    if isinstance(value, tuple):
        return tuple(replace_merged(item, replacement) for item in value)
    if isinstance(value, Aggregate) and merged_leaves(value):
        return value.with_parts(replace_merged(value.parts, replacement))
    return replacement(value) if isinstance(value, Merged) else value


def finish_if(condition: Value, then: Region, otherwise: Region, value: Any) -> Any:
    """End both regions, insert the `if`, and return `value` with its merged leaves."""
    builder = emission.builder()
    merged = merged_leaves(value)
    for region, side in ((then, "left"), (otherwise, "right")):
        with emission.inside(region):
            yielded = tuple(emission.ir(getattr(leaf, side)) for leaf in merged)
            builder.insert(Yield(yielded, loc=builder.loc))
    types: Sequence[Type] = [leaf.type for leaf in merged]
    op = If(condition, loc=builder.loc, result_types=types, regions=[then, otherwise])
    builder.insert(op)
    return substitute(value, iter(op.results))
