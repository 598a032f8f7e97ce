"""What a kernel is compiled for: None, ones, constants of every kind, what is not specialised."""

from __future__ import annotations

from typing import Any

import numpy as np

import blocklang
import blocklang.language as bl
from tests.suite.case import Array, Expected, Launch, add, output
from tests.suite.data import numbers


@blocklang.jit
def optional(x, bias, out, n, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    v = bl.load(x + i, mask=i < n)
    if bias is not None:
        v += bl.load(bias + i, mask=i < n)
    bl.store(out + i, v, mask=i < n)


def make_optional(given: bool) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        x, bias = numbers(rng, "f32", 50), numbers(rng, "f32", 50)
        arguments: dict[str, Any] = {"x": Array(x), "out": output(50, np.float32), "n": 50}
        arguments["bias"] = Array(bias) if given else None
        return Launch(arguments, {"out": Expected(x + bias if given else x)})

    return make


@blocklang.jit
def stride(x, out, n, x_stride, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    bl.store(out + i, bl.load(x + i * x_stride, mask=i < n), mask=i < n)


@blocklang.jit(do_not_specialize=("x_stride", "n"))
def plain_stride(x, out, n, x_stride, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    bl.store(out + i, bl.load(x + i * x_stride, mask=i < n), mask=i < n)


@blocklang.jit(do_not_specialize_on_alignment=("x", "n"))
def unaligned_stride(x, out, n, x_stride, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    bl.store(out + i, bl.load(x + i * x_stride, mask=i < n), mask=i < n)


def make_stride(n: int, x_stride: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        x = numbers(rng, "f16", n * x_stride)
        arguments = {"x": Array(x), "out": output(n, x.dtype), "n": n, "x_stride": x_stride}
        return Launch(arguments, {"out": Expected(x[::x_stride])})

    return make


@blocklang.jit
def constants(out, a, b, c, d, e, FLAG: bl.constexpr, NAME: bl.constexpr, SIZES: bl.constexpr,
              KIND: bl.constexpr, SCALE: bl.constexpr = 2.5):  # fmt: skip
    value = a + b * c
    if FLAG:
        value += SCALE
    if NAME == "double":
        value *= 2
    for size in bl.static_range(len(SIZES)):
        value += SIZES[size]
    if d:
        value -= 0.25
    bl.store(out, value.to(KIND))
    bl.store(out + 1, e.to(KIND))


def make_constants(rng: np.random.Generator) -> Launch:
    value = (1.5 + 1 * 7 + 2.5) * 2 + 3 + 4 - 0.25
    large = 2**40 + 5
    arguments = {"out": output(2, np.float64), "a": 1.5, "b": 1, "c": 7, "d": True, "e": large}
    return Launch(arguments, {"out": Expected(np.array([value, large]))})


@blocklang.jit
def wide_scalars(out, small, large, unsigned):
    bl.store(out, small.to(bl.int64))
    bl.store(out + 1, large)
    bl.store(out + 2, (unsigned >> 1).to(bl.int64))
    bl.store(out + 3, large + small)


def make_wide_scalars(rng: np.random.Generator) -> Launch:
    small, large, unsigned = -(2**31), -(2**40) - 3, 2**64 - 2
    values = np.array([small, large, unsigned >> 1, large + small], np.int64)
    arguments = {"out": output(4, np.int64), "small": small, "large": large}
    return Launch(arguments | {"unsigned": unsigned}, {"out": Expected(values)})


@blocklang.jit
def declared(x, out, scale: bl.float64, shift: bl.int64, n: bl.int32):
    i = bl.arange(0, 16)
    bl.store(out + i, bl.load(x + i, mask=i < n, other=0.0) * scale + shift, mask=i < n)


def make_declared(rng: np.random.Generator) -> Launch:
    x = rng.integers(-9, 9, 16).astype(np.float64)
    # 0.1 as a float64, not as a float32 that was widened.
    arguments = {"x": Array(x), "out": output(16, np.float64), "scale": 0.1, "shift": 2**35}
    bound = 2.0**-17
    return Launch(arguments | {"n": 16}, {"out": Expected(x * 0.1 + 2**35, bound)})


for _given in (False, True):
    add(f"optional-{_given}", optional, make_optional(_given), BLOCK=64)
for _stride in (1, 2, 16):
    for _kernel in (stride, plain_stride, unaligned_stride):
        add(f"{_kernel.__name__}-{_stride}", _kernel, make_stride(48, _stride), BLOCK=64)
add("stride-of-one-element", stride, make_stride(1, 1), BLOCK=1)
add("constants", constants, make_constants, FLAG=True, NAME="double", SIZES=(3, 4), KIND=bl.float64)
add("wide-scalars", wide_scalars, make_wide_scalars)
add("declared", declared, make_declared)
