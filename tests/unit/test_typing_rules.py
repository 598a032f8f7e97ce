"""The conversion rules, as a table over all pairs of dtypes, and what literals do to them."""

from __future__ import annotations

import itertools

import pytest

from blocklang.frontend import typing_rules
from blocklang.frontend.errors.types import IntegerTooLarge, MixedSignedness
from blocklang.frontend.typing_rules import common_dtype, fits, integer_promotion
from blocklang.frontend.values import literal_dtype
from blocklang.ir.types import DTYPES, DType, dtype, f32, f64, i1, i32, i64, u32, u64

NAMES = [
    *("i1", "i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64"),
    *("f8e4m3", "f8e5m2", "f16", "bf16", "f32", "f64"),
]

# Row + column; the table is symmetric, so that only its upper triangle is written.
TABLE = """
i1      i1 i8 u8 i16 u16 i32 u32 i64 u64 f16 f16 f16 f32 f32 f64
i8         i8 u8 i16 u16 i32 u32 i64 u64 f16 f16 f16 f32 f32 f64
u8            u8 i16 u16 i32 u32 i64 u64 f16 f16 f16 f32 f32 f64
i16              i16 u16 i32 u32 i64 u64 f16 f16 f16 f32 f32 f64
u16                  u16 i32 u32 i64 u64 f16 f16 f16 f32 f32 f64
i32                      i32 u32 i64 u64 f16 f16 f16 f32 f32 f64
u32                          u32 i64 u64 f16 f16 f16 f32 f32 f64
i64                              i64 u64 f16 f16 f16 f32 f32 f64
u64                                  u64 f16 f16 f16 f32 f32 f64
f8e4m3                                   f16 f16 f16 f32 f32 f64
f8e5m2                                       f16 f16 f32 f32 f64
f16                                              f16 f16 f32 f64
bf16                                                 bf16 f32 f64
f32                                                       f32 f64
f64                                                           f64
"""


def rows() -> list[tuple[str, str, str]]:
    found = []
    for start, line in enumerate(TABLE.strip().splitlines()):
        left, *results = line.split()
        found += [(left, right, r) for right, r in zip(NAMES[start:], results, strict=True)]
    return found


@pytest.mark.parametrize(("left", "right", "expected"), rows())
def test_addition(left: str, right: str, expected: str) -> None:
    assert common_dtype(dtype(left), dtype(right)).name == expected
    assert common_dtype(dtype(right), dtype(left)).name == expected


@pytest.mark.parametrize(("left", "right"), list(itertools.product(NAMES, NAMES)))
def test_division(left: str, right: str) -> None:
    a, b = dtype(left), dtype(right)
    if a.is_integer and b.is_integer and a.is_signed != b.is_signed:
        with pytest.raises(MixedSignedness, match="signed and unsigned"):
            common_dtype(a, b, division="//")
        return
    result = common_dtype(a, b, division="/")
    summed = common_dtype(a, b)
    assert result == (f32 if summed.is_float and summed.bits < 32 else summed)


@pytest.mark.parametrize(
    ("number", "of", "expected"),
    [
        (1, "i8", "i8"),
        (1, "u64", "u64"),
        (1, "i1", "i32"),
        (True, "i1", "i1"),
        (True, "u8", "u8"),
        (1, "bf16", "bf16"),
        (1.5, "bf16", "bf16"),
        (1.5, "f16", "f16"),
        (1.5, "f64", "f64"),
        (1.5, "f8e4m3", "f16"),
        (1.5, "i64", "f32"),
        (1.5, "i1", "f32"),
        (1e300, "f32", "f32"),
        (1e300, "i32", "f64"),
        (1 << 40, "i32", "i32"),
    ],
)
def test_literals_take_the_dtype_of_their_kind(number: float, of: str, expected: str) -> None:
    own = literal_dtype(number)
    assert common_dtype(own, dtype(of), weak_left=True).name == expected
    assert common_dtype(dtype(of), own, weak_right=True).name == expected


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (True, i1),
        (0, i32),
        (-(1 << 31), i32),
        (1 << 31, u32),
        ((1 << 32) - 1, u32),
        (1 << 32, i64),
        (-(1 << 31) - 1, i64),
        (1 << 63, u64),
        (0.0, f32),
        (float("inf"), f32),
        (float("nan"), f32),
        (3.4e38, f32),
        (3.5e38, f64),
        (1e-38, f64),
        (1.2e-38, f32),
    ],
)
def test_dtypes_of_literals(number: float, expected: DType) -> None:
    assert literal_dtype(number) == expected


def test_integers_of_more_than_64_bits() -> None:
    with pytest.raises(IntegerTooLarge):
        literal_dtype(1 << 64)
    with pytest.raises(IntegerTooLarge):
        literal_dtype(-(1 << 63) - 1)


def test_results_are_symmetric_and_wide_enough() -> None:
    integers = [d for d in DTYPES.values() if d.is_integer]
    for a, b in itertools.product(integers, integers):
        result = integer_promotion(a, b)
        assert result == integer_promotion(b, a)
        assert result in (a, b)
        assert result.bits == max(a.bits, b.bits)


def test_reductions() -> None:
    sums = {name: typing_rules.sum_dtype(dtype(name)).name for name in NAMES}
    assert sums["i1"] == sums["u8"] == sums["u16"] == "u32"
    assert sums["i8"] == sums["i16"] == "i32"
    assert all(sums[name] == name for name in NAMES if name[:1] in "bf" or name[1:] in "3264")
    extrema = {name: typing_rules.extremum_dtype(dtype(name)).name for name in NAMES}
    assert extrema["f16"] == extrema["bf16"] == "f32"
    assert extrema["u8"] == extrema["i1"] == "i32"
    assert extrema["u64"] == "u64"


def test_numbers_that_fit() -> None:
    assert fits(0, i32, f32)
    assert fits(255, i32, dtype("u8"))
    assert not fits(256, i32, dtype("u8"))
    assert not fits(-1, i32, u64)
    assert not fits(1.0, f32, i32)
    assert fits(float("-inf"), f32, dtype("f16"))
    assert not fits(0.1, f64, dtype("bf16"))
    assert not fits(1, i32, i1)
    assert fits(7, i64, u32)
