"""where, minimum, maximum and clamp, with NaN and both ways to treat it."""

from __future__ import annotations

from typing import Any

import numpy as np

import blocklang
import blocklang.language as bl
from tests.suite.case import SIZES, Array, Expected, Launch, add, block_size, output
from tests.suite.data import FLOATS, NUMBERS, numbers, with_special


@blocklang.jit
def choices(x, y, out, n, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    keep = i < n
    a = bl.load(x + i, mask=keep)
    b = bl.load(y + i, mask=keep)
    bl.store(out + i, bl.where(a < b, a, b), mask=keep)
    bl.store(out + n + i, bl.where(i % 3 == 0, a, 5), mask=keep)
    bl.store(out + 2 * n + i, bl.where(keep, b, a), mask=keep)
    bl.store(out + 3 * n + i, bl.minimum(a, b), mask=keep)
    bl.store(out + 4 * n + i, bl.maximum(a, b), mask=keep)
    bl.store(out + 5 * n + i, bl.clamp(a, 1, 3), mask=keep)


@blocklang.jit
def propagating(x, y, out, n, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    keep = i < n
    a = bl.load(x + i, mask=keep)
    b = bl.load(y + i, mask=keep)
    bl.store(out + i, bl.minimum(a, b, propagate_nan=bl.PropagateNan.ALL), mask=keep)
    bl.store(out + n + i, bl.maximum(a, b, propagate_nan=bl.PropagateNan.ALL), mask=keep)
    c = bl.clamp(a, -1.0, 2.0, propagate_nan=bl.PropagateNan.ALL)
    bl.store(out + 2 * n + i, c, mask=keep)


def operands(rng: np.random.Generator, name: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers and, among floats, NaN. Zeros are positive: which one of +0 and -0 is the smaller is
    not specified.
    """
    draw = with_special if name in FLOATS else numbers
    x, y = draw(rng, name, n), draw(rng, name, n)
    zero = np.zeros(1, x.dtype)
    return np.where(x == 0, zero, x), np.where(y == 0, zero, y)


def make_choices(name: str, n: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        x, y = operands(rng, name, n)
        one, three, five = (np.asarray(v, x.dtype) for v in (1, 3, 5))
        wide = x.astype(np.float64) if name in FLOATS else x
        other = y.astype(np.float64) if name in FLOATS else y
        with np.errstate(all="ignore"):
            rows = [
                np.where(x < y, x, y),
                np.where(np.arange(n) % 3 == 0, x, five),
                y,
                np.fmin(wide, other).astype(x.dtype),
                np.fmax(wide, other).astype(x.dtype),
                np.fmin(np.fmax(wide, one.astype(wide.dtype)), three.astype(wide.dtype)).astype(
                    x.dtype
                ),
            ]
        arguments = {"x": Array(x), "y": Array(y), "out": output(len(rows) * n, x.dtype), "n": n}
        return Launch(arguments, {"out": Expected(np.concatenate(rows))})

    return make


def make_propagating(name: str, n: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        x, y = operands(rng, name, n)
        wide, other = x.astype(np.float64), y.astype(np.float64)
        rows = [np.minimum(wide, other), np.maximum(wide, other)]
        rows.append(np.minimum(np.maximum(wide, -1.0), 2.0))
        arguments = {"x": Array(x), "y": Array(y), "out": output(len(rows) * n, x.dtype), "n": n}
        return Launch(arguments, {"out": Expected(np.concatenate(rows).astype(x.dtype))})

    return make


@blocklang.jit
def scalar_choices(x, out, a, b):
    first = bl.load(x)
    second = bl.load(x + 1)
    bl.store(out, bl.where(a < b, first, second))
    bl.store(out + 1, bl.maximum(first, second))
    bl.store(out + 2, bl.minimum(first, 0.25))
    bl.store(out + 3, first + second * a)


def make_scalar_choices(rng: np.random.Generator) -> Launch:
    x = np.array([0.5, -1.25], np.float32)
    expected = np.array([0.5, 0.5, 0.25, 0.5 - 1.25 * 3], np.float32)
    arguments = {"x": Array(x), "out": output(4, np.float32), "a": 3, "b": 4}
    return Launch(arguments, {"out": Expected(expected)})


for _name in NUMBERS:
    for _n in SIZES if _name == "f16" else (257,):
        add(f"choices-{_name}-{_n}", choices, make_choices(_name, _n), BLOCK=block_size(_n))
for _name in FLOATS:
    add(f"propagating-{_name}", propagating, make_propagating(_name, 257), BLOCK=512)
add("scalar-choices", scalar_choices, make_scalar_choices)
