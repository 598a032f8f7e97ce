"""How block values change from one index to the next, along each dimension.

A stride is the difference between neighbours: a number known now, STEADY (one number along the
whole dimension, known when the program runs) or VARIES. The plan is made with strides, and the
chunks of a nest are evaluated with the same rule. Signed integers are taken not to wrap around
between the first and the last index, as everywhere where contiguity is derived; unsigned ones
narrower than 64 bits lose their stride when they are widened, because they may.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from blocklang.ir.core import Result, Value
from blocklang.ir.op import Op
from blocklang.ir.ops.elementwise import Add, AddPointer, Cast, Elementwise, Multiply, Subtract
from blocklang.ir.ops.memory import Load
from blocklang.ir.ops.program import Arange, Constant, Hint, Splat, constant_value
from blocklang.ir.types import BlockType, DType, PointerType, Type, element_type, shape_of

from .places import ZERO, dimension_places, inline_operands


class Kind(enum.Enum):
    """A stride that is no number."""

    STEADY = "steady"
    VARIES = "varies"


STEADY, VARIES = Kind.STEADY, Kind.VARIES
Stride = int | Kind


def elementwise_stride(op: Op, strides: Sequence[Stride]) -> Stride:
    """The stride of an elementwise op's result along one dimension, from those of its operands."""
    if all(s == 0 for s in strides):
        return 0
    if VARIES in strides or not _counts(op.results[0].type):
        return VARIES
    if isinstance(op, Hint):
        return strides[0]
    if isinstance(op, Add):
        return _sum(strides[0], strides[1], 1)
    if isinstance(op, Subtract):
        return _sum(strides[0], strides[1], -1)
    if isinstance(op, Multiply):
        return _product(op, strides)
    if isinstance(op, Cast):
        return strides[0] if _widens(op) else VARIES
    if isinstance(op, AddPointer):
        kind = element_type(op.offset.type)
        assert isinstance(kind, DType)
        keeps = strides[1] == 0 or (_counts(kind) and (kind.is_signed or kind.bits == 64))
        return _sum(strides[0], strides[1], 1) if keeps else VARIES
    return VARIES


def _counts(type: Type) -> bool:
    # Narrow integers wrap around too easily to be taken for indices.
    kind = element_type(type)
    return isinstance(kind, PointerType) or (kind.is_integer and kind.bits >= 32)


def _sum(left: Stride, right: Stride, sign: int) -> Stride:
    if isinstance(left, int) and isinstance(right, int):
        return left + sign * right
    return STEADY


def _product(op: Multiply, strides: Sequence[Stride]) -> Stride:
    left, right = strides
    for factor, stride, other in ((op.left, left, right), (op.right, right, left)):
        if stride == 0:
            known = constant_value(factor)
            return other * known if isinstance(known, int) and isinstance(other, int) else STEADY
    return VARIES


def _widens(op: Cast) -> bool:
    source, target = element_type(op.operand.type), element_type(op.results[0].type)
    assert isinstance(source, DType)
    assert isinstance(target, DType)
    if not _counts(source):
        return False
    return source.bits == target.bits or (source.is_signed and source.bits < target.bits)


class Strides:
    """The strides of the values of one function, found on demand."""

    def __init__(self) -> None:
        self._known: dict[Value, tuple[Stride, ...]] = {}

    def of(self, value: Value) -> tuple[Stride, ...]:
        """One stride for each dimension of a block; () for a scalar."""
        if value not in self._known:
            shape = shape_of(value.type)
            found = self._find(value) if shape else ()
            self._known[value] = tuple(
                0 if n == 1 else s for n, s in zip(shape, found, strict=True)
            )
        return self._known[value]

    def is_regular(self, value: Value) -> bool:
        """Whether the value changes steadily along every dimension."""
        return VARIES not in self.of(value)

    def _find(self, value: Value) -> Sequence[Stride]:
        assert isinstance(value.type, BlockType)
        rank = value.type.rank
        unknown: tuple[Stride, ...] = (VARIES,) * rank
        if not isinstance(value, Result):
            return unknown
        op = value.op
        if isinstance(op, Constant | Splat):
            return (0,) * rank
        if isinstance(op, Arange):
            return (1,)
        places = inline_operands(op, dimension_places(value.type.shape))
        if places is None:
            return unknown
        along: list[Stride] = []
        for dimension in range(rank):
            operands = [self._along(v, place, dimension) for v, place in places]
            if isinstance(op, Load):
                along.append(0 if all(s == 0 for s in operands) else VARIES)
            elif isinstance(op, Elementwise | Hint):
                along.append(elementwise_stride(op, operands))
            else:
                (stride,) = operands
                along.append(stride)
        return along

    def _along(self, value: Value, place: tuple[object, ...], dimension: int) -> Stride:
        for own, index in enumerate(place):
            if index is not ZERO and index == dimension:
                return self.of(value)[own]
        return 0
