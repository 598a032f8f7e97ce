"""Matrix products on NumPy arrays: what the op Dot means, for the reference evaluator.

Factors are converted as the op's precision says, products of integers are summed modulo 2**32, and
everything else in float64, in whatever order, and rounded to the accumulator's dtype once. Code
that sums K products in float32, in any order, is right if it differs from that by at most
(K + 1) * 2**-24 * (|acc| + |a| x |b|), plus half a unit in the last place of a narrower result,
and for tf32x3 another 2**-20 * (|a| x |b|): it may round less.
"""

from __future__ import annotations

from typing import Any

import numpy

from .exact import convert
from .types import DType

Array = Any


def matrix_product(a: Array, b: Array, acc: Array, target: DType, precision: str) -> Array:
    """`acc` + `a` x `b` in the dtype `target`, for arrays of the operands' dtypes."""
    with numpy.errstate(all="ignore"):
        if target.is_integer:
            total = numpy.matmul(a.astype(numpy.int64), b.astype(numpy.int64)) + acc
            return total.astype(target.numpy)
        if a.dtype != numpy.float32 or precision == "ieee":
            total = numpy.matmul(_wide(a), _wide(b))
        elif precision == "tf32":
            total = numpy.matmul(_wide(round_to_tf32(a)), _wide(round_to_tf32(b)))
        else:
            (a_high, a_low), (b_high, b_low) = _split(a), _split(b)
            # What is not finite belongs to the last product alone: inf * 0 would be NaN.
            total = _finite(a_high) @ b_low + a_low @ _finite(b_high) + a_high @ b_high
        return convert(total + _wide(acc), target)


def round_to_tf32(array: Array) -> Array:
    """The nearest float32 numbers with 10 bits of mantissa; of two the larger in magnitude."""
    bits = numpy.asarray(array, numpy.float32).view(numpy.uint32)
    rounded = ((bits + 0x1000) & 0xFFFFE000).view(numpy.float32)
    return numpy.where(numpy.isnan(array), array, rounded)


def _split(array: Array) -> tuple[Array, Array]:
    """Two tf32 numbers, as float64, whose sum is nearly the number."""
    high = round_to_tf32(array)
    return _wide(high), _wide(round_to_tf32(_finite(array - high)))


def _finite(array: Array) -> Array:
    return numpy.where(numpy.isfinite(array), array, numpy.zeros_like(array))


def _wide(array: Array) -> Array:
    return array.astype(numpy.float64)
