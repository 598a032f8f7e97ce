"""Conversions between float formats by integer operations: bfloat16, float16 and the 8-bit floats.

All are exact for every bit pattern: rounding to nearest even, subnormals, infinities, overflow; a
NaN becomes a (quiet) NaN of the same sign. float8e4nv has no infinity: what is too large becomes
its largest number, 448.
"""

from __future__ import annotations

from blocklang.ir.types import DTYPES, DType, bf16, f8e4m3, f32, f64, i64, u32, u64

from .expression import Expression


def exponent_bias(dtype: DType) -> int:
    """The exponent field of 1.0 in a format narrower than float32."""
    return (1 << (dtype.bits - dtype.mantissa - 2)) - 1


def widen(x: Expression) -> Expression:
    """A 16- or 8-bit float as float32, exactly."""
    dtype = x.dtype
    bits = x.bits().to(u32)
    if dtype is bf16:
        return (bits << 16).bits(f32)
    width = dtype.bits
    sign = (bits >> (width - 1)) << 31
    # The fields go to their places in a float32; the multiplication corrects the exponent, also of
    # subnormals.
    shift = 23 - dtype.mantissa
    magnitude = (bits & ((1 << (width - 1)) - 1)) << shift
    number = magnitude.bits(f32) * 2.0 ** (127 - exponent_bias(dtype))
    if dtype is f8e4m3:
        is_special = magnitude.equals(0x7F << shift)
    else:
        is_special = number >= 2.0 ** (exponent_bias(dtype) + 1)
    special = magnitude | 0x7F800000
    return (is_special.choose(special, number.bits()) | sign).bits(f32)


def narrow(x: Expression, target: DType) -> Expression:
    """A float32 as a 16- or 8-bit float, rounded to nearest even."""
    bits = x.bits()
    if target is bf16:
        rounded = x.is_nan.choose((bits >> 16) | 0x40, _round_off(bits, 16))
        return rounded.to(_unsigned(target)).bits(target)
    sign = bits & 0x80000000
    bias, shift = exponent_bias(target), 23 - target.mantissa
    # One past the largest number has the encoding of infinity; without infinity, saturate.
    limit = 448.0 if target is f8e4m3 else 2.0 ** (bias + 1)
    bounded = (bits ^ sign).bits(f32).at_most(limit)
    smallest_normal = 2.0 ** (1 - bias)
    # The sum's last place is the unit of the target's subnormals, so the addition rounds to it.
    magic = smallest_normal * 2.0**shift
    subnormal = (bounded + magic).bits() - bounded.constant(magic).bits()
    normal = _round_off(bounded.bits(), shift) - ((127 - bias) << target.mantissa)
    number = (bounded < smallest_normal).choose(subnormal, normal)
    result = x.is_nan.choose(number.constant(_quiet_nan(target)), number)
    return (result | (sign >> (32 - target.bits))).to(_unsigned(target)).bits(target)


def _unsigned(dtype: DType) -> DType:
    return DTYPES[f"u{dtype.bits}"]


def _quiet_nan(dtype: DType) -> int:
    """The bits of a positive NaN."""
    if dtype is f8e4m3:
        return 0x7F
    exponent = (1 << (dtype.bits - dtype.mantissa - 1)) - 1
    return (exponent << dtype.mantissa) | (1 << (dtype.mantissa - 1))


def _round_off(bits: Expression, shift: int) -> Expression:
    """bits / 2**shift, to nearest even."""
    is_odd = (bits >> shift) & 1
    return (bits + (is_odd + ((1 << (shift - 1)) - 1))) >> shift


def toward_zero(x: Expression, target: DType) -> Expression:
    """A float in a narrower format, rounded toward zero."""
    nearest = x.to(target)
    bits = nearest.bits()
    too_far = abs(nearest.to(x.dtype)) > abs(x)
    return too_far.choose(bits - 1, bits).bits(target)


def round_to_odd(x: Expression) -> Expression:
    """A float64 as float32: where that is inexact, the neighbour whose last bit is 1.

    Rounding the result to a format with two bits less or fewer gives what rounding x at once
    gives.
    """
    nearest = x.to(f32)
    bits = nearest.bits()
    back = nearest.to(f64)
    below = (abs(back) > abs(x)).choose(bits - 1, bits)
    return back.differs(x).choose(below | 1, bits).bits(f32)


def integer_to_float64(x: Expression) -> Expression:
    """An integer as float64: exact to 32 bits; of wider ones what is lost goes into the last bit,
    as in `round_to_odd`.
    """
    if x.dtype.bits < 64:
        return x.to(f64)
    low = 0x7FF
    sticky = (((x & low) + low) | x) & (-1 - low if x.dtype is i64 else u64.maximum - low)
    return (abs(x).to(u64) > 2**53).choose(sticky, x).to(f64)
