"""Functions of floats against references of more precision.

Bounds are in ulp of the dtype in which the function is computed, which is float32 for 16-bit
floats; their own rounding adds half an ulp. CPUs compute to a few ulp; what GPUs approximate has
the larger bound that the PTX manual's error of the instruction gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import blocklang
import blocklang.language as bl
from blocklang.ir.types import DTYPES
from tests.suite.bounds import ulp
from tests.suite.case import SIZES, Array, Expected, Launch, add, block_size, output, widened
from tests.suite.data import FLOATS, SPECIAL, numbers


@blocklang.jit
def apply(x, out, n, FUNCTION: bl.constexpr, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    keep = i < n
    bl.store(out + i, FUNCTION(bl.load(x + i, mask=keep, other=1.0)), mask=keep)


# ex2.approx.ftz.f32: relative error 2**-22; results below 2**-126 become 0.
EX2 = 2.0**-22
FLUSHED = 2.0**-126


def gpu_exp2(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return EX2 * np.abs(y) + FLUSHED


def gpu_exp(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # x * log2(e) is rounded (2**-24 of it), as is log2(e) (less than 2**-25): an absolute error of
    # the exponent of 2, which ln 2 turns into a relative error of the result.
    return (EX2 + 1.5 * 2.0**-24 * np.abs(x)) * np.abs(y) + FLUSHED


def gpu_log2(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # lg2.approx.f32: absolute error 2**-22 for x in (0.5, 2), relative error 2**-22 elsewhere.
    return 2.0**-22 * np.maximum(1, np.abs(y))


def gpu_log(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # The same times ln 2, with one more rounding.
    return 2.0**-22 * np.maximum(math.log(2), np.abs(y)) + 2.0**-24 * np.abs(y)


def gpu_rsqrt(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # rsqrt.approx.f32: relative error 2**-22.9.
    return 2.0**-22.9 * np.abs(y)


def gpu_sqrt(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # sqrt.approx.f32: relative error 2**-23.
    return 2.0**-23 * np.abs(y)


def gpu_sigmoid(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # 1 / (1 + e): the error of e counts at most fully, then an addition (half an ulp) and a fast
    # division (2 ulp).
    return gpu_exp(x, np.ones_like(y)) * np.abs(y) + 2.5 * 2.0**-23 * np.abs(y) + FLUSHED


def gpu_tanh(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # Made of one exponential, whose relative error reaches the result at most once, and fast
    # division: 8 ulp in all.
    return 8 * 2.0**-23 * np.abs(y)


@dataclass(frozen=True)
class Function:
    """A function: its reference on wide floats, the ulps it may be wrong by, what GPUs may be, and
    the range of arguments.
    """

    function: Any
    reference: Callable[[np.ndarray], np.ndarray]
    ulps: float
    gpu: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    low: float = -20.0
    high: float = 20.0


def erf(x: np.ndarray) -> np.ndarray:
    return np.array([math.erf(v) for v in x.reshape(-1)], x.dtype).reshape(x.shape)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


FUNCTIONS = {
    # libmvec and our own expansions stay below 4 ulp, correctly rounded operations at half of one.
    "exp": Function(bl.exp, np.exp, 4, gpu_exp, -95, 95),
    "exp2": Function(bl.exp2, np.exp2, 4, gpu_exp2, -130, 130),
    "log": Function(bl.log, np.log, 4, gpu_log, 0, 100),
    "log2": Function(bl.log2, np.log2, 4, gpu_log2, 0, 100),
    "sqrt": Function(bl.sqrt, np.sqrt, 0.5, gpu_sqrt, 0, 100),
    "rsqrt": Function(bl.rsqrt, lambda x: 1 / np.sqrt(x), 2, gpu_rsqrt, 0, 100),
    "sin": Function(bl.sin, np.sin, 4),
    "cos": Function(bl.cos, np.cos, 4),
    "tanh": Function(bl.tanh, np.tanh, 4, gpu_tanh, -12, 12),
    # math.erf has the precision of float64, to which one ulp is added.
    "erf": Function(bl.erf, erf, 4),
    "floor": Function(bl.floor, np.floor, 0),
    "ceil": Function(bl.ceil, np.ceil, 0),
    "sigmoid": Function(bl.sigmoid, sigmoid, 6, gpu_sigmoid),
    "sqrt_rn": Function(bl.sqrt_rn, np.sqrt, 0, None, 0, 100),
}


def make_function(function: Function, name: str, n: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        x = rng.uniform(function.low, function.high, n)
        special = rng.choice(np.array(SPECIAL), n)
        x = np.where(rng.integers(0, 4, n) == 0, special, x).astype(DTYPES[name].numpy)
        wide = widened(x)
        with np.errstate(all="ignore"):
            result = function.reference(wide)
        computed = DTYPES["f64" if name == "f64" else "f32"]
        narrow = name in ("f16", "bf16")
        # 0 ulps: correctly rounded. Where a 16-bit result is rounded to once more, any bound allows
        # the neighbour.
        exact = function.ulps == 0
        rounding = np.where(narrow and not exact, ulp(result, DTYPES[name]) / 2, 0)
        bound = function.ulps * ulp(result, computed) + rounding
        gpu_bound = None
        if function.gpu is not None and name != "f64":
            finite = np.where(np.isfinite(wide), wide, 0)
            size = np.where(np.isfinite(result), result, 0)
            gpu_bound = function.gpu(finite, size) + rounding
        expected = Expected(result, bound, gpu_bound)
        arguments = {"x": Array(x), "out": output(n, x.dtype), "n": n}
        return Launch(arguments, {"out": expected})

    return make


@blocklang.jit
def fused(x, y, z, out, n, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    keep = i < n
    a = bl.load(x + i, mask=keep)
    b = bl.load(y + i, mask=keep)
    c = bl.load(z + i, mask=keep)
    bl.store(out + i, bl.fma(a, b, c), mask=keep)


def make_fused(name: str, n: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        x, y, z = (numbers(rng, name, n) for _ in range(3))
        # Half of the sums cancel almost entirely, where two roundings would show.
        cancel = rng.integers(0, 2, n) > 0
        z = np.where(cancel, -(widened(x) * widened(y)).astype(x.dtype), z)
        # The products of 16- and 32-bit floats are exact in float64; those of float64 have 106
        # bits, of which a long double keeps 64: an error of 2**-64 of the product.
        result = widened(x) * widened(y) + widened(z)
        wide = DTYPES["f32" if name in ("f16", "bf16") else name]
        bound = ulp(result, DTYPES[name]) / 2 + ulp(result, wide) / 2
        if name == "f64":
            bound = bound + 2.0**-63 * np.abs(widened(x) * widened(y))
        arguments = {"x": Array(x), "y": Array(y), "z": Array(z), "out": output(n, x.dtype), "n": n}
        return Launch(arguments, {"out": Expected(result, bound)})

    return make


@blocklang.jit
def large_angles(x, out, n, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    a = bl.load(x + i, mask=i < n, other=0.0)
    bl.store(out + i, bl.sin(a), mask=i < n)
    bl.store(out + n + i, bl.cos(a), mask=i < n)


def make_large_angles(rng: np.random.Generator) -> Launch:
    n = 64
    x = (rng.uniform(1, 2, n) * 2.0 ** rng.integers(5, 40, n)).astype(np.float32)
    result = np.concatenate([np.sin(x.astype(np.longdouble)), np.cos(x.astype(np.longdouble))])
    arguments = {"x": Array(x), "out": output(2 * n, np.float32), "n": n}
    return Launch(arguments, {"out": Expected(result, 4 * ulp(result, DTYPES["f32"]))})


for _key, _function in FUNCTIONS.items():
    for _name in FLOATS:
        for _n in SIZES if (_key, _name) == ("exp", "f32") else (257,):
            _make = make_function(_function, _name, _n)
            add(
                f"{_key}-{_name}-{_n}", apply, _make,
                FUNCTION=_function.function, BLOCK=block_size(_n),
            )  # fmt: skip
for _name in FLOATS:
    add(f"fma-{_name}", fused, make_fused(_name, 257), BLOCK=512)
add("sin-and-cos-of-large-angles", large_angles, make_large_angles, BLOCK=64)
