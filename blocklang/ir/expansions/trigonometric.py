"""sin and cos for float32 and float64, for all finite arguments.

|x| = n * pi/2 + r with |r| <= pi/4, then a minimax polynomial in r, chosen and signed by n mod 4.
Below `limit` the reduction takes pi/2 in three parts (Cody and Waite), each step one fma. Above it
the product of |x| and 2/pi is formed in integers modulo 4 (Payne and Hanek): as many bits of 2/pi
as matter are picked by the exponent of x from the constant below. Both reductions are computed and
one is chosen, as elements of a block differ: 118 operations for float32, 244 for float64.

Largest errors that the tests find, in units in the last place of the result:

                         float32   float64
    |x| below limit        1.5       1.3
    above                  2.6       2.1

Infinities and NaN give NaN; sin(-0) is -0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from blocklang.ir.types import f32, i32, i64, u32, u64

from .expression import Expression

TWO_OVER_PI = int(
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a42"
    "4dd2e006492eea09d1921cfe1deb1cb129a73ee88235f52ebb4484e99c7026b45f7e413991"
    "d639835339f49c845f8bbdf9283b1ff897ffde05980fef2f118b5a0a6d1f6d367ecf27cb09"
    "b74f463f669e5fea2d7527bac7ebe5f17b3d0739f78a5292ea6bfb5fb11f8d5d0856033046",
    16,
)
"""The first 1184 bits of 2/pi after the binary point."""

# The first word stands before the point, for arguments just above the limit.
_WORDS = [0, *(TWO_OVER_PI >> shift & 0xFFFFFFFF for shift in range(1184 - 32, -1, -32))]


@dataclass(frozen=True)
class _Format:
    """Constants of one float format: pi/2 in three parts, and how much of 2/pi a large argument
    needs: one of the first `places` words and `window` words from there.
    """

    mantissa: int
    bias: int
    limit: float
    half_pi: tuple[float, float, float]
    sine: tuple[float, ...]
    cosine: tuple[float, ...]
    places: int
    window: int


_F32 = _Format(
    mantissa=23,
    bias=127,
    limit=1e5,
    half_pi=(1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15),
    sine=(-0.16666655242443085, 0.008332187309861183, -0.0001951789454324171),
    cosine=(0.04166664555668831, -0.0013887309469282627, 2.4432327336398885e-05),
    places=8,
    window=3,
)
_F64 = _Format(
    mantissa=52,
    bias=1023,
    limit=1e9,
    half_pi=(1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33),
    sine=(
        -0.1666666666666663,
        0.008333333333321842,
        -0.0001984126982936084,
        2.755731353954441e-06,
        -2.5050734577816143e-08,
        1.589544549251509e-10,
    ),
    cosine=(
        0.041666666666666595,
        -0.0013888888888873296,
        2.4801587288953886e-05,
        -2.755731419883721e-07,
        2.0875702461291853e-09,
        -1.135857762764999e-11,
    ),
    places=32,
    window=6,
)


def sin(x: Expression) -> Expression:
    """The sine of x radians."""
    quadrant, sine, cosine = _reduced(x)
    return _signed(x, quadrant, cosine, sine, x.bits())


def cos(x: Expression) -> Expression:
    """The cosine of x radians, as the sine of a quarter turn more."""
    quadrant, sine, cosine = _reduced(x)
    return _signed(x, quadrant + 1, cosine, sine, x.bits().constant(0))


def _reduced(x: Expression) -> tuple[Expression, Expression, Expression]:
    """n modulo 4 (u32, in the low two bits), sin(r) and cos(r) for |x| = n * pi/2 + r."""
    format = _F32 if x.dtype is f32 else _F64
    magnitude = abs(x)
    is_large = magnitude > format.limit
    n, r = _in_parts(magnitude.at_most(format.limit), format)
    large_n, large_r = _in_integers(magnitude.at_least(format.limit), format)
    n, r = is_large.choose(large_n, n), is_large.choose(large_r, r)
    z = r * r
    sine = z.polynomial(format.sine).fma(z * r, r)
    half = z * 0.5
    first = 1.0 - half
    # What the subtraction lost is known exactly.
    cosine = first + z.polynomial(format.cosine).fma(z * z, (1.0 - first) - half)
    return n, sine, cosine


def _signed(
    x: Expression, quadrant: Expression, odd: Expression, even: Expression, sign: Expression
) -> Expression:
    """The value of that quadrant, its sign turned by the quadrant and the sign bit of `sign`."""
    width = x.dtype.bits
    value = (quadrant & 1).equals(1).choose(odd, even)
    turned = (quadrant & 2).to(sign.dtype) << (width - 2)
    flip = turned ^ (sign & (1 << (width - 1)))
    return (abs(x) < math.inf).choose((value.bits() ^ flip).bits(x.dtype), math.nan)


def _in_parts(x: Expression, format: _Format) -> tuple[Expression, Expression]:
    """n and r for 0 <= x <= limit."""
    n = x.fma(2 / math.pi, 0.5).floor()
    r = x
    for part in format.half_pi:
        r = n.fma(-part, r)
    return n.to(i32).to(u32), r


def _in_integers(x: Expression, format: _Format) -> tuple[Expression, Expression]:
    """n modulo 4 and r for finite x >= limit."""
    bits = x.bits()
    fraction = (bits & ((1 << format.mantissa) - 1)) | (1 << format.mantissa)
    # x = fraction * 2**scale. Bits of 2/pi above 2**(1 - scale) give multiples of 4: they are left
    # out. The first bit needed is number `position` of _WORDS.
    position = (bits >> format.mantissa) - (format.bias + format.mantissa - 30)
    window = _window(position.to(u32), format)
    parts = [fraction.to(u64)]
    if format is _F64:
        parts = [parts[0] & 0xFFFFFFFF, parts[0] >> 32]
    digits = _product(parts, window)
    high = (digits[0] << 32) | digits[1]
    # `high` has two bits before the point and 62 after it.
    n = (high + (1 << 61)) >> 62
    rest = (high - (n << 62)).bits(i64).to(x.dtype)
    if format is _F64:
        low = (digits[2] << 32) | digits[3]
        rest = low.to(x.dtype).fma(2.0**-64, rest)
    return n.to(u32), rest * (math.pi / 2 * 2.0**-62)


def _window(position: Expression, format: _Format) -> list[Expression]:
    """32-bit words (as u64) of _WORDS from bit `position` on."""
    words = [position.constant(word) for word in _WORDS]
    step = format.places
    while step > 1:
        step //= 2
        # Whole words first, by the bits of the index from high to low.
        is_set = (position & (32 * step)).differs(0)
        needed = format.window + step
        words = [
            is_set.choose(words[i + step], words[i]) if i + step < len(words) else words[i]
            for i in range(min(needed, len(words)))
        ]
    shift = (position & 31).to(u64)
    wide = [word.to(u64) for word in words]
    pairs = pairwise(wide)
    return [(((first << 32) | second) << shift) >> 32 for first, second in pairs]


def _product(parts: list[Expression], window: list[Expression]) -> list[Expression]:
    """The 32-bit digits (high first) of parts (low first) times window (high first), modulo
    2**(32 * len(window)) in units of the window's last word.
    """
    digits: list[Expression] = []
    carry = parts[0].constant(0)
    for column in reversed(range(len(window))):
        total = carry
        for index, part in enumerate(parts):
            if column + index < len(window):
                total = total + ((part * window[column + index]) & 0xFFFFFFFF)
            if column + index + 1 < len(window):
                total = total + ((part * window[column + index + 1]) >> 32)
        digits.insert(0, total & 0xFFFFFFFF)
        carry = total >> 32
    return digits
