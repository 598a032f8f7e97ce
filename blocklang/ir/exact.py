"""NumPy arithmetic that is exact to the last bit where NumPy alone is not: fused multiply-add and
conversions between all dtypes. Constant folding, constants and the reference evaluator use it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy

from .types import DType, bf16, f8e4m3, f32

Array = Any


def fused_multiply_add(x: Array, y: Array, z: Array) -> Array:
    """x * y + z, rounded once, for arrays of one float dtype."""
    kind = numpy.asarray(x).dtype
    if kind == numpy.float64:
        return numpy.vectorize(_scalar_fma, otypes=[numpy.float64])(x, y, z)
    # Products of narrower floats are exact in float64; of the sum the rounding error is known.
    product = numpy.asarray(x, numpy.float64) * numpy.asarray(y, numpy.float64)
    addend = numpy.asarray(z, numpy.float64)
    total = product + addend
    part = total - product
    error = (product - (total - part)) + (addend - part)
    return _to_odd(total, error).astype(kind)


def _to_odd(total: Array, error: Array) -> Array:
    """`total` + `error` with an odd last bit where `error` is not zero, for one more rounding."""
    is_inexact = (error != 0) & numpy.isfinite(error) & (total.view(numpy.int64) & 1 == 0)
    neighbour = numpy.nextafter(total, numpy.where(error > 0, math.inf, -math.inf))
    return numpy.where(is_inexact, neighbour, total)


def _exact_fma(x: float, y: float, z: float) -> float:
    if not (math.isfinite(x) and math.isfinite(y) and math.isfinite(z)):
        return x * y + z
    total = Fraction(x) * Fraction(y) + Fraction(z)
    if total == 0:
        return x * y + z
    try:
        return float(total)
    except OverflowError:
        return math.copysign(math.inf, total)


_scalar_fma: Callable[[float, float, float], float] = getattr(math, "fma", _exact_fma)


def holds(wide: DType, narrow: DType) -> bool:
    """Whether every number of `narrow` is one of `wide`, so that a conversion loses nothing."""
    if wide.is_float and narrow.is_float:
        exponents = [d.bits - d.mantissa for d in (wide, narrow)]
        return wide.mantissa >= narrow.mantissa and exponents[0] >= exponents[1]
    if wide.is_float:
        return narrow.bits - (narrow.kind == "int") <= wide.mantissa + 1
    return narrow.is_integer and wide.minimum <= narrow.minimum and narrow.maximum <= wide.maximum


def convert(array: Array, target: DType, rounding: str = "rtne") -> Array:
    """`array` in the dtype `target`, as the op Cast defines it. Floats that do not fit an integer
    give some integer.
    """
    array = numpy.asarray(array)
    with numpy.errstate(all="ignore"):
        if target.is_bool:
            return array != 0
        if target.is_integer:
            return (
                _wide(array).astype(target.numpy)
                if _is_float(array)
                else array.astype(target.numpy)
            )
        if rounding == "rtz" and _is_float(array):
            return _toward_zero(array, target)
        return _nearest(array, target)


def _is_float(array: Array) -> bool:
    return array.dtype.kind not in "biu"


def _wide(array: Array) -> Array:
    """A float array as float64, exactly (the narrow types' own conversions to integers are odd)."""
    return array.astype(numpy.float64)


def _nearest(array: Array, target: DType) -> Array:
    if target.bits > 16 or (target.bits == 16 and target is not bf16):
        return array.astype(target.numpy)
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        sticky = ((array & 0x7FF) != 0).astype(array.dtype)
        is_large = numpy.abs(array.astype(numpy.float64)) > 2.0**53
        array = numpy.where(is_large, ((array >> 11) | sticky) << 11, array)
    wide = array.astype(numpy.float64)
    single = wide.astype(f32.numpy)
    below = _step_toward_zero(single, numpy.abs(single.astype(numpy.float64)) > numpy.abs(wide))
    is_inexact = single.astype(numpy.float64) != wide
    odd = numpy.where(is_inexact, below.view(numpy.uint32) | 1, below.view(numpy.uint32))
    single = odd.astype(numpy.uint32).view(numpy.float32)
    if target is f8e4m3:
        single = numpy.where(numpy.isnan(single), single, numpy.clip(single, -448, 448))
    return single.astype(target.numpy)


def _toward_zero(array: Array, target: DType) -> Array:
    nearest = _nearest(array, target)
    return _step_toward_zero(nearest, numpy.abs(_wide(nearest)) > numpy.abs(_wide(array)))


def _step_toward_zero(array: Array, where: Array) -> Array:
    bits = array.view(f"u{array.dtype.itemsize}")
    return (bits - numpy.asarray(where).astype(bits.dtype)).view(array.dtype)
