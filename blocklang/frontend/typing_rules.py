"""Which dtype results from combining two: the conversion rules of Triton, as functions on dtypes.

A number without a dtype (`weak`) does not change the dtype of what it is combined with, as long as
it is of the same or a lower kind (bool < integer < float). Between two dtypes the wider float wins,
float16 wins over bfloat16, and integers follow C: equal signedness takes the wider one, otherwise
the unsigned one if it is at least as wide. Nothing here builds IR.
"""

from __future__ import annotations

from blocklang.ir.types import DType, bf16, f16, f32, f64, i32, u32

from .errors.types import MixedSignedness


def kind(dtype: DType) -> int:
    """0 for int1, 1 for other integers, 2 for floats."""
    return 2 if dtype.is_float else int(not dtype.is_bool)


def integer_promotion(left: DType, right: DType) -> DType:
    """The dtype of an integer operation on two dtypes."""
    if left.is_signed == right.is_signed:
        return left if left.bits > right.bits else right
    unsigned, signed = (right, left) if left.is_signed else (left, right)
    return unsigned if unsigned.bits >= signed.bits else signed


def common_dtype(
    left: DType,
    right: DType,
    *,
    weak_left: bool = False,
    weak_right: bool = False,
    division: str = "",
) -> DType:
    """The dtype in which two are combined; `division` is the spelling of `/ // %`, if it is one."""
    if weak_left != weak_right:
        weak, strong = (left, right) if weak_left else (right, left)
        if kind(weak) <= kind(strong):
            return _computable(strong, division)
    for wide in (f64, f32):
        if wide in (left, right):
            return wide
    if f16 in (left, right):
        return f32 if division else f16
    if bf16 in (left, right):
        return bf16 if left == right and not division else f32
    if left.is_float and right.is_float:
        return _computable(f16, division)
    if left.is_float or right.is_float:
        return _computable(left if left.is_float else right, division)
    if division and left.is_signed != right.is_signed:
        raise MixedSignedness(operator=division, left=left.language_name, right=right.language_name)
    return integer_promotion(left, right)


def _computable(dtype: DType, division: str) -> DType:
    """The dtype in which a value of `dtype` takes part in arithmetic."""
    if dtype.is_float8:
        dtype = f16
    return f32 if division and dtype in (f16, bf16) else dtype


def sum_dtype(dtype: DType) -> DType:
    """The dtype of a sum: integers below 32 bits become 32 bits wide, as their sums do not fit."""
    if dtype.is_integer and dtype.bits < 32:
        return i32 if dtype.is_signed else u32
    return dtype


def accumulation_dtype(dtype: DType) -> DType:
    """The dtype in which a sum is formed: 16-bit floats are added in float32 and rounded once."""
    return f32 if dtype.is_float and dtype.bits < 32 else dtype


def extremum_dtype(dtype: DType) -> DType:
    """The dtype of a maximum or minimum over an axis: at least 32 bits."""
    if dtype.bits >= 32:
        return dtype
    return f32 if dtype.is_float else i32


def fits(value: float, source: DType, target: DType) -> bool:
    """Whether a known number of one dtype is the same number in another, without loss of kind."""
    if kind(source) > kind(target) or (kind(source) == 0) != (kind(target) == 0):
        return False
    if target.is_integer:
        return target.minimum <= value <= target.maximum
    if value != value or value in (float("inf"), float("-inf")):
        return True
    return float(target.numpy.type(value)) == value
