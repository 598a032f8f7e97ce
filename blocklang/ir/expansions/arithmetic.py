"""Remainder, reciprocal square root, and the signs of narrow floats."""

from __future__ import annotations

import math

from blocklang.ir.ops.elementwise import Sqrt
from blocklang.ir.types import DTYPES

from .expression import Expression


def rsqrt(x: Expression) -> Expression:
    """1 / sqrt(x), within 1.5 units in the last place where both are rounded correctly."""
    return 1.0 / x.apply(Sqrt)


def remainder(x: Expression, y: Expression) -> Expression:
    """x - trunc(x / y) * y, with the sign of x.

    Exact while |x / y| < 2**23 for float32 and 2**52 for float64; beyond that the quotient has
    too few bits, and the result is some number below |y| or not even that.
    """
    magnitude, divisor = abs(x), abs(y)
    quotient = (magnitude / divisor).floor()
    rest = (-quotient).fma(divisor, magnitude)
    # The division may have rounded up to an integer, or a fast one may be an ulp off.
    rest = (rest < 0.0).choose(rest + divisor, rest)
    rest = (rest >= divisor).choose(rest - divisor, rest)
    rest = divisor.equals(math.inf).choose((magnitude < math.inf).choose(magnitude, math.nan), rest)
    sign = x.bits() & (1 << (x.dtype.bits - 1))
    return (rest.bits() | sign).bits(x.dtype)


def negate(x: Expression) -> Expression:
    """-x by flipping the sign bit."""
    return (x.bits() ^ (1 << (x.dtype.bits - 1))).bits(x.dtype)


def absolute(x: Expression) -> Expression:
    """|x| by clearing the sign bit."""
    mask = DTYPES[f"i{x.dtype.bits}"].maximum
    return (x.bits() & mask).bits(x.dtype)
