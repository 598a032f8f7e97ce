"""exp, exp2 and tanh for float32 and float64.

exp(x) = 2**n * exp(r) with n = round(x / ln 2) and |r| <= 0.35 (ln 2 in two parts, as Cody and
Waite do, each step one fma), exp(r) by a minimax polynomial, and 2**n by two exact factors, so
that overflow gives infinity and underflow passes through the subnormals. A NaN stays one.

Largest errors that the tests find, in units in the last place of the result:

            float32   float64
    exp       1.0       0.9
    exp2      1.0       1.0
    tanh      2.6       2.2

`exp_by_exp2` is for targets with an approximation of exp2; its error grows with |x|, as the
product with log2(e) is rounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from blocklang.ir.ops.elementwise import Exp2
from blocklang.ir.types import DType, f32, i32, i64

from .expression import Expression


@dataclass(frozen=True)
class _Format:
    """Constants of one float format. `ln2_high + ln2_low` is ln 2 to twice its precision; 2**x is 0
    below `lowest` and infinity above `highest`; tanh(x) is 1 beyond `saturation`.
    """

    integer: DType
    bias: int
    mantissa: int
    ln2_high: float
    ln2_low: float
    coefficients: tuple[float, ...]
    lowest: float
    highest: float
    saturation: float


_F32 = _Format(
    integer=i32,
    bias=127,
    mantissa=23,
    ln2_high=0.6931471824645996,
    ln2_low=-1.9046542121259336e-09,
    coefficients=(  # EXP_F32
        0.4999999403953552,
        0.16666516661643982,
        0.04166810214519501,
        0.00836919154971838,
        0.0013838878367096186,
    ),
    lowest=-151.0,
    highest=129.0,
    saturation=10.0,
)
_F64 = _Format(
    integer=i64,
    bias=1023,
    mantissa=52,
    ln2_high=0.6931471805599453,
    ln2_low=2.3190468138462996e-17,
    coefficients=(  # EXP_F64
        0.5000000000000011,
        0.16666666666666435,
        0.04166666666652573,
        0.008333333333475641,
        0.0013888888944892563,
        0.00019841269556188505,
        2.4801491701090527e-05,
        2.7557534320464902e-06,
        2.763077567877855e-07,
        2.501894149545889e-08,
    ),
    lowest=-1076.0,
    highest=1025.0,
    saturation=22.0,
)


def _format(x: Expression) -> _Format:
    return _F32 if x.dtype is f32 else _F64


def exp(x: Expression) -> Expression:
    """e**x."""
    format = _format(x)
    bounded = x.at_least(format.lowest * math.log(2)).at_most(format.highest * math.log(2))
    n, r = _reduce(bounded, format)
    return x.is_nan.choose(x, _scale(_exp_minus_one(r, format) + 1.0, n, format))


def exp2(x: Expression) -> Expression:
    """2**x."""
    format = _format(x)
    bounded = x.at_least(format.lowest).at_most(format.highest)
    n = (bounded + 0.5).floor()
    r = (bounded - n) * format.ln2_high
    return x.is_nan.choose(x, _scale(_exp_minus_one(r, format) + 1.0, n, format))


def exp_by_exp2(x: Expression) -> Expression:
    """e**x as 2**(x * log2(e))."""
    return (x * math.log2(math.e)).apply(Exp2)


def tanh(x: Expression) -> Expression:
    """tanh(|x|) = E / (E + 2) for E = exp(2 |x|) - 1, which does not cancel near 0."""
    format = _format(x)
    bounded = abs(x).at_most(format.saturation)
    n, r = _reduce(bounded + bounded, format)
    power = _power_of_two(n.to(format.integer), format, x.dtype)
    e = _exp_minus_one(r, format).fma(power, power - 1.0)
    sign = x.bits() & (1 << (x.dtype.bits - 1))
    return x.is_nan.choose(x, ((e / (e + 2.0)).bits() | sign).bits(x.dtype))


def _reduce(x: Expression, format: _Format) -> tuple[Expression, Expression]:
    """n and r with x = n ln 2 + r."""
    n = x.fma(1 / math.log(2), 0.5).floor()
    r = n.fma(-format.ln2_high, x)
    return n, n.fma(-format.ln2_low, r)


def _exp_minus_one(r: Expression, format: _Format) -> Expression:
    """exp(r) - 1 = r + r**2 q(r) for |r| <= 0.35."""
    return r.polynomial(format.coefficients).fma(r * r, r)


def _scale(x: Expression, n: Expression, format: _Format) -> Expression:
    """x * 2**n in two steps: one factor alone would not reach the subnormals."""
    integer = n.to(format.integer)
    half = integer >> 1
    first = _power_of_two(half, format, x.dtype)
    second = _power_of_two(integer - half, format, x.dtype)
    return x * first * second


def _power_of_two(n: Expression, format: _Format, dtype: DType) -> Expression:
    """2**n for an integer n whose power is a normal number."""
    return ((n + format.bias) << format.mantissa).bits(dtype)
