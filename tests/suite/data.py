"""Random inputs: numbers of every magnitude that a dtype has, and those that are special."""

from __future__ import annotations

import numpy as np

from blocklang.ir.types import DTYPES, DType

INTEGERS = ("i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64")
FLOATS = ("f16", "bf16", "f32", "f64")
FLOAT8 = ("f8e4m3", "f8e5m2")
NUMBERS = (*INTEGERS, *FLOATS)
EVERY = ("i1", *NUMBERS, *FLOAT8)

SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -2.0)


def numbers(rng: np.random.Generator, name: str, size: int) -> np.ndarray:
    """`size` numbers of a dtype: integers of its whole range, many of them small; floats of widely
    different magnitude, none of them special.
    """
    dtype = DTYPES[name]
    if dtype.is_bool:
        return rng.integers(0, 2, size).astype(bool)
    if dtype.is_integer:
        small = rng.integers(max(-9, int(dtype.minimum)), 10, size)
        large = rng.integers(
            int(dtype.minimum), int(dtype.maximum), size, dtype=dtype.numpy, endpoint=True
        )
        return np.where(rng.integers(0, 2, size) > 0, small.astype(dtype.numpy), large)
    scale = 2.0 ** rng.integers(-3, 4, size)
    return (rng.standard_normal(size) * scale).astype(dtype.numpy)


def with_special(rng: np.random.Generator, name: str, size: int) -> np.ndarray:
    """Floats of which every other one is NaN, infinite, zero of either sign, ..."""
    values = numbers(rng, name, size)
    special = rng.choice(np.array(SPECIAL), size).astype(values.dtype)
    return np.where(rng.integers(0, 2, size) > 0, special, values)


def extremes(name: str) -> np.ndarray:
    """Numbers at the borders of a dtype: its largest, smallest, and, for floats, subnormal ones."""
    dtype = DTYPES[name]
    if dtype.is_bool:
        return np.array([False, True])
    if dtype.is_integer:
        low, high = int(dtype.minimum), int(dtype.maximum)
        return np.array([low, low + 1, high - 1, high, 0, 1], dtype.numpy)
    return float_patterns(dtype)


def float_patterns(dtype: DType) -> np.ndarray:
    """Floats by their bits: both ends of every range of exponents, both signs, no NaN."""
    unsigned = np.dtype(f"u{dtype.bytes}")
    top = (1 << (dtype.bits - 1)) - 1
    infinity = top + 1 - (1 << dtype.mantissa)
    if dtype.name == "f8e4m3":
        infinity = top - 1
    one = int(np.ones(1, dtype.numpy).view(unsigned)[0])
    subnormal = 1 << dtype.mantissa
    positive = [0, 1, 2, subnormal - 1, subnormal, one - 1, one, one + 1, infinity - 1, infinity]
    bits = [*positive, *(1 << (dtype.bits - 1) | pattern for pattern in positive)]
    return np.array(bits, unsigned).view(dtype.numpy)
