"""Cases: a kernel with its arguments and what must be in memory afterwards; and the comparison.

Arrays are flat. Before a launch, every array that the kernel shall write holds poison, and each
array stands between guard elements; afterwards every element is compared: those that the kernel
must write with the reference, within its bound, and all others with the poison, bit by bit.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

SIZES = (1, 3, 16, 257, 1024)
"""Sizes that every elementwise feature is tried on; blocks are the next powers of two."""

GUARD = 64
"""Elements before and behind each array, a multiple of 16 bytes for every dtype."""

POISON = 0xA5


@dataclass(frozen=True)
class Array:
    """An array argument: its elements, and which of them the pointer given to the kernel is at."""

    values: np.ndarray
    start: int = 0


@dataclass(frozen=True)
class Expected:
    """What an array holds after the launch.

    `values` may be wider than the array's dtype; then the array must hold them rounded, or differ
    from them by at most `bound` (per element, absolute; `gpu_bound` where GPUs approximate).
    `stored` says which elements the kernel writes, `defined` of which the language says what they
    are (None: all).
    """

    values: np.ndarray
    bound: Any = 0.0
    gpu_bound: Any = None
    stored: np.ndarray | None = None
    defined: np.ndarray | None = None


@dataclass(frozen=True)
class Launch:
    """Arguments by parameter, and what is expected of the arrays among them."""

    arguments: Mapping[str, Any]
    expected: Mapping[str, Expected]


@dataclass(frozen=True)
class Case:
    """One launch of one kernel. `make` gets a generator that is seeded by the name."""

    name: str
    kernel: Any
    make: Callable[[np.random.Generator], Launch]
    grid: tuple[int, ...] = (1,)
    constexprs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def launch(self) -> Launch:
        """The arguments and expectations, the same ones at every call."""
        return self.make(np.random.default_rng(zlib.crc32(self.name.encode())))


CASES: dict[str, Case] = {}
"""All cases by name."""


def add(
    name: str,
    kernel: Any,
    make: Callable[[np.random.Generator], Launch],
    grid: tuple[int, ...] = (1,),
    options: Mapping[str, Any] | None = None,
    **constexprs: Any,
) -> None:
    """Register a case."""
    assert name not in CASES, f"two cases are named {name}"
    CASES[name] = Case(name, kernel, make, grid, constexprs, options or {})


def block_size(n: int) -> int:
    """The power of two that holds `n`."""
    return 1 << max(n - 1, 0).bit_length()


def poison(size: int, dtype: Any) -> np.ndarray:
    """Elements that no kernel computes by chance."""
    return np.full(size * np.dtype(dtype).itemsize, POISON, np.uint8).view(dtype)


def output(size: int, dtype: Any, start: int = 0) -> Array:
    """An array that the kernel writes."""
    return Array(poison(size, dtype), start)


def guarded(array: Array) -> tuple[np.ndarray, int]:
    """The array between guards, 64-byte aligned, and the index of its first element."""
    values = array.values
    size = values.size + 2 * GUARD
    raw = np.full(size * values.itemsize + 64, POISON, np.uint8)
    shift = -raw.ctypes.data % 64
    buffer = raw[shift : shift + size * values.itemsize].view(values.dtype)
    buffer[GUARD : GUARD + values.size] = values
    return buffer, GUARD


def check(name: str, before: Array, after: np.ndarray, expected: Expected, on_gpu: bool) -> int:
    """Compare the guarded buffer `after` with what is expected; the number of elements compared
    with the reference. Raises AssertionError.
    """
    first, size = GUARD, before.values.size
    stored = np.ones(size, bool) if expected.stored is None else expected.stored.reshape(-1)
    values = np.asarray(expected.values).reshape(-1)
    assert values.size == size == stored.size
    untouched = np.ones(after.size, bool)
    untouched[first : first + size] = ~stored
    old, _ = guarded(before)
    same = (bytes_of(old) == bytes_of(after)).all(axis=1)
    wrong = np.flatnonzero(untouched & ~same) - first
    assert not wrong.size, f"{name}: written where nothing is to be written, at {wrong[:8]}"
    actual = after[first : first + size]
    bound = expected.bound
    if on_gpu and expected.gpu_bound is not None:
        bound = expected.gpu_bound
    compared = stored if expected.defined is None else stored & expected.defined.reshape(-1)
    bad = np.flatnonzero(compared & ~agrees(actual, values, bound))
    if bad.size:
        raise AssertionError(_report(name, bad, actual, values, np.broadcast_to(bound, size)))
    return int(compared.sum())


def bytes_of(array: np.ndarray) -> np.ndarray:
    """The bytes of each element."""
    return np.ascontiguousarray(array).view(np.uint8).reshape(array.size, -1)


def agrees(actual: np.ndarray, expected: np.ndarray, bound: Any) -> np.ndarray:
    """Where `actual` is `expected` rounded to its dtype, or within `bound` of it."""
    if not is_float(actual.dtype):
        return actual == expected.astype(actual.dtype)
    with np.errstate(all="ignore"):
        rounded = expected.astype(actual.dtype)
        # Signs of zero count where nothing may be rounded.
        equal = (actual == rounded) & (
            (np.signbit(actual) == np.signbit(rounded)) | (np.asarray(bound) > 0)
        )
        wide, exact = widened(actual), widened(expected)
        near = np.abs(wide - exact) <= bound
        return equal | (np.isnan(wide) & np.isnan(exact)) | near & (np.asarray(bound) > 0)


def is_float(dtype: Any) -> bool:
    """Whether a NumPy or ml_dtypes dtype is a floating-point type."""
    return np.dtype(dtype).kind == "f" or np.dtype(dtype).name.startswith(("bfloat", "float"))


def widened(array: np.ndarray) -> np.ndarray:
    """Floats in a format that is clearly wider: float64, or long double for float64."""
    array = np.asarray(array)
    if array.dtype in (np.float64, np.longdouble):
        return array.astype(np.longdouble)
    return array.astype(np.float64)


def _report(
    name: str, bad: np.ndarray, actual: np.ndarray, expected: np.ndarray, bound: np.ndarray
) -> str:
    lines = [f"{name}: {bad.size} of {actual.size} elements are wrong"]
    lines += [
        f"  [{i}] is {actual[i]!r}, expected {expected[i]!r} within {bound[i]!r}" for i in bad[:8]
    ]
    return "\n".join(lines)
