"""Computes elementwise ops on NumPy arrays, for constant folding and the reference evaluator.

Every op is what its `evaluate` says, rounded once: functions of float32 are computed in float64,
operations on narrower floats in float32. Pointers are 64-bit integers. Shapes broadcast.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy

from .exact import convert
from .ops.elementwise import (
    AddPointer,
    Bitcast,
    Cast,
    Compare,
    Elementwise,
    FloatUnary,
    Maximum,
    Minimum,
    Select,
)
from .types import DType, Element, PointerType, element_type, f32

Array = Any


def numpy_type(element: Element) -> Any:
    """The NumPy dtype that stands for values of an element type."""
    return numpy.dtype("int64") if isinstance(element, PointerType) else element.numpy


def elementwise(op: Elementwise, operands: Sequence[Array]) -> Array:
    """The result of an elementwise op for arrays of its operands' dtypes. Where the op is undefined
    (division by zero, a shift too far, a float that fits no integer) the result is arbitrary.
    """
    target = element_type(op.results[0].type)
    with numpy.errstate(all="ignore"):
        if isinstance(op, AddPointer):
            assert isinstance(target, PointerType)
            return operands[0] + numpy.asarray(operands[1], numpy.int64) * target.element.bytes
        if isinstance(op, Bitcast):
            return numpy.array(operands[0]).view(numpy_type(target))
        if isinstance(op, Select):
            return numpy.where(*operands)
        if isinstance(op, Cast):
            assert isinstance(target, DType)
            return convert(operands[0], target, op.rounding)
        result = numpy.asarray(_function(op)(*(_computed(op, x) for x in operands)))
        if isinstance(target, DType) and target.is_bool:
            return (result & 1).astype(bool)
        return convert(result, target) if isinstance(target, DType) else result


def _function(op: Elementwise) -> Callable[..., Array]:
    if isinstance(op, Compare):
        return lambda x, y: op.evaluate(x, y, op.predicate)
    if isinstance(op, Minimum) and op.propagate_nan:
        return numpy.minimum
    if isinstance(op, Maximum) and op.propagate_nan:
        return numpy.maximum
    return op.evaluate  # type: ignore[no-any-return]


def _computed(op: Elementwise, operand: Array) -> Array:
    """An operand in the dtype in which NumPy computes the op."""
    kind, operand = element_type(op.operands[0].type), numpy.asarray(operand)
    if not isinstance(kind, DType):
        return operand
    if kind.is_bool:
        return operand.astype(numpy.uint8)
    if kind.is_float and kind.bits < 32:
        return operand.astype(numpy.float32)
    return operand.astype(numpy.float64) if kind is f32 and isinstance(op, FloatUnary) else operand
