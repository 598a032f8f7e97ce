"""log and log2 for float32 and float64.

x = 2**e * m with sqrt(1/2) <= m < sqrt(2) by integer operations on the bits (subnormals are scaled
first), then with f = m - 1, which is exact,

    float32:  log(m) = f - f**2 / 2 + f**3 q(f)
    float64:  log(m) = f - (f**2 / 2 - s (f**2 / 2 + s**2 p(s**2))),  s = f / (2 + f)

with minimax polynomials q and p, and ln 2 respectively log2(e) in two parts. Zero gives minus
infinity, numbers below it and NaN give NaN, infinity stays.

Largest errors that the tests find, in units in the last place of the result:

            float32   float64
    log       0.9       0.8
    log2      1.2       1.0

`log_by_log2` is for targets with an approximation of log2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from blocklang.ir.ops.elementwise import Log2
from blocklang.ir.types import DType, f32, i32, i64

from .expression import Expression


@dataclass(frozen=True)
class _Format:
    """Constants of one float format; ln 2 and log2(e) have twice its precision in two parts."""

    integer: DType
    mantissa: int
    smallest_normal: float
    root_half: int  # the bits of sqrt(1/2)
    ln2: tuple[float, float]
    log2e: tuple[float, float]


_F32 = _Format(
    integer=i32,
    mantissa=23,
    smallest_normal=2.0**-126,
    root_half=0x3F3504F3,
    ln2=(0.6931471824645996, -1.9046542121259336e-09),
    log2e=(1.4426950216293335, 1.925963033500011e-08),
)
_F64 = _Format(
    integer=i64,
    mantissa=52,
    smallest_normal=2.0**-1022,
    root_half=0x3FE6A09E667F3BCD,
    ln2=(0.6931471805599453, 2.3190468138462996e-17),
    log2e=(1.4426950408889634, 2.0355273740931033e-17),
)
_LOG_F32 = (
    0.3333333134651184,
    -0.250008225440979,
    0.20001262426376343,
    -0.16623322665691376,
    0.14200834929943085,
    -0.1315951645374298,
    0.12768198549747467,
    -0.07645004242658615,
)
_LOG_F64 = (
    0.6666666666666734,
    0.3999999999941663,
    0.2857142874203037,
    0.22222198604945287,
    0.18183562849625373,
    0.15314085073655373,
    0.1479562924621022,
)


def _format(x: Expression) -> _Format:
    return _F32 if x.dtype is f32 else _F64


def log(x: Expression) -> Expression:
    """The natural logarithm."""
    high, low = _format(x).ln2
    e, f = _split(x)
    # The terms from small to large: what e and f share with nobody comes last.
    return _with_edges(x, e.fma(high, f + e.fma(low, _tail(f))))


def log2(x: Expression) -> Expression:
    """The base-2 logarithm."""
    high, low = _format(x).log2e
    e, f = _split(x)
    tail = _tail(f)
    total = f.fma(high, e)
    # Exact: |f * high| < 2/3 |e|, or e = 0.
    lost = f.fma(high, e - total)
    return _with_edges(x, total + (lost + tail.fma(high, (f + tail) * low)))


def log_by_log2(x: Expression) -> Expression:
    """log(x) as log2(x) * ln 2."""
    return x.apply(Log2) * math.log(2)


def _split(x: Expression) -> tuple[Expression, Expression]:
    """e and f with x = 2**e * (1 + f) for positive x; e is a float."""
    format = _format(x)
    is_subnormal = x < format.smallest_normal
    bits = is_subnormal.choose(x * 2.0**format.mantissa, x).bits(format.integer)
    e = (bits - format.root_half) >> format.mantissa
    f = (bits - (e << format.mantissa)).bits(x.dtype) - 1.0
    exponent = e - is_subnormal.choose(e.constant(format.mantissa), 0)
    return exponent.to(x.dtype), f


def _tail(f: Expression) -> Expression:
    """log(1 + f) - f."""
    square = f * f
    if f.dtype is f32:
        return f.polynomial(_LOG_F32).fma(square * f, square * -0.5)
    s = f / (f + 2.0)
    z = s * s
    half = square * 0.5
    return s.fma(z.polynomial(_LOG_F64).fma(z, half), -half)


def _with_edges(x: Expression, y: Expression) -> Expression:
    """The logarithm y of a positive number x; the other cases put right."""
    nonpositive = x.equals(0.0).choose(x.constant(-math.inf), math.nan)
    return x.equals(math.inf).choose(x, (x > 0.0).choose(y, nonpositive))
