"""Reductions: every kind over every axis, tuples, own combinations, all counts of warps."""

from __future__ import annotations

from typing import Any

import numpy as np

import blocklang
import blocklang.language as bl
from blocklang.ir.types import DTYPES
from tests.suite.bounds import rounded_sum, ulp
from tests.suite.case import SIZES, Array, Expected, Launch, add, block_size, output
from tests.suite.data import FLOATS, NUMBERS, numbers

WARPS = (1, 2, 4, 8, 16, 32)


@blocklang.jit
def over_all(x, total, largest, smallest, first, last, n, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    keep = i < n
    v = bl.load(x + i, mask=keep, other=0)
    bl.store(total, bl.sum(v, axis=0))
    v = bl.load(x + bl.minimum(i, n - 1))
    bl.store(largest, bl.max(v, axis=0))
    bl.store(smallest, bl.min(v, axis=0))
    bl.store(first, bl.argmax(v, axis=0))
    bl.store(last, bl.argmin(v, axis=0))


def sum_of(x: np.ndarray, name: str, axis: int | None = None) -> tuple[np.ndarray, Any]:
    """The sum in the dtype that the language gives it, and its bound."""
    dtype = DTYPES[name]
    if dtype.is_integer:
        wide = dtype if dtype.bits >= 32 else DTYPES["i32" if dtype.is_signed else "u32"]
        return x.sum(axis=axis, dtype=wide.numpy), 0.0
    exact = x.astype(np.longdouble)
    computed = DTYPES["f64" if name == "f64" else "f32"]
    count = x.size if axis is None else x.shape[axis]
    total = exact.sum(axis=axis)
    bound = rounded_sum(np.abs(exact).sum(axis=axis), count, computed)
    # Narrow floats are added in float32; their sum is rounded once more, to their dtype.
    return total, bound + (ulp(total, dtype) / 2 if name in ("f16", "bf16") else 0)


def widest(name: str) -> np.dtype:
    """The dtype of a maximum: at least 32 bits."""
    dtype = DTYPES[name]
    if dtype.bits >= 32:
        return dtype.numpy
    return np.dtype(np.float32 if dtype.is_float else np.int32)


def make_over_all(name: str, n: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        x = numbers(rng, name, n)
        # Repeated extremes: the first one counts.
        x = np.where(rng.integers(0, 2, n) > 0, x[rng.integers(0, n, n)], x)
        total, bound = sum_of(x, name)
        wide = x.astype(np.longdouble) if name in FLOATS else x
        values = {
            "largest": x[wide.argmax()].astype(widest(name)),
            "smallest": x[wide.argmin()].astype(widest(name)),
            "first": np.int32(wide.argmax()),
            "last": np.int32(wide.argmin()),
        }
        expected = {key: Expected(np.atleast_1d(value)) for key, value in values.items()}
        kind = x.dtype if name in FLOATS else total.dtype
        expected["total"] = Expected(np.atleast_1d(total), np.atleast_1d(bound))
        arguments: dict[str, Any] = {"x": Array(x), "n": n, "total": output(1, kind)}
        arguments |= {
            key: output(1, e.values.dtype) for key, e in expected.items() if key != "total"
        }
        return Launch(arguments, expected)

    return make


@blocklang.jit
def along(x, total, largest, where, m, n, AXIS: bl.constexpr, M: bl.constexpr, N: bl.constexpr):
    i = bl.arange(0, M)[:, None]
    j = bl.arange(0, N)[None, :]
    v = bl.load(x + i * n + j, mask=(i < m) & (j < n), other=0)
    if AXIS == 0:
        place, keep = bl.arange(0, N), bl.arange(0, N) < n
    else:
        place, keep = bl.arange(0, M), bl.arange(0, M) < m
    bl.store(total + place, bl.sum(v, axis=AXIS), mask=keep)
    best, index = bl.max(v, axis=AXIS, return_indices=True)
    bl.store(largest + place, best, mask=keep)
    bl.store(where + place, index, mask=keep)


def make_along(name: str, m: int, n: int, axis: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        x = np.abs(numbers(rng, name, m * n)) if name in FLOATS else numbers(rng, name, m * n) % 100
        x = x.astype(DTYPES[name].numpy).reshape(m, n)
        total, bound = sum_of(x, name, axis)
        wide = x.astype(np.longdouble) if name in FLOATS else x
        index = wide.argmax(axis=axis).astype(np.int32)
        best = np.take_along_axis(x, np.expand_dims(index, axis), axis).reshape(-1)
        kind = x.dtype if name in FLOATS else total.dtype
        arguments: dict[str, Any] = {"x": Array(x.reshape(-1)), "m": m, "n": n}
        arguments |= {"total": output(total.size, kind), "where": output(index.size, np.int32)}
        arguments["largest"] = output(best.size, x.dtype)
        expected = {"total": Expected(total, bound), "largest": Expected(best)}
        return Launch(arguments, expected | {"where": Expected(index)})

    return make


@blocklang.jit
def both_axes(x, rows, columns, everything, kept, M: bl.constexpr, N: bl.constexpr):
    i = bl.arange(0, M)
    j = bl.arange(0, N)
    v = bl.load(x + i[:, None] * N + j[None, :])
    of_row = bl.sum(v, axis=1)
    of_column = bl.sum(v, axis=0)
    bl.store(rows + i, of_row)
    bl.store(columns + j, of_column)
    bl.store(everything, bl.sum(v))
    bl.store(everything + 1, bl.max(v))
    bl.store(everything + 2, bl.sum(bl.sum(v, axis=1), axis=0))
    # Results of both axes meet again in one block.
    centred = v - of_row[:, None] + of_column[None, :] * 2
    centred += bl.max(v, axis=0, keep_dims=True) - bl.min(v, axis=1, keep_dims=True)
    bl.store(kept + i[:, None] * N + j[None, :], centred)


def make_both_axes(m: int, n: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        x = rng.integers(-50, 50, (m, n)).astype(np.int32)
        rows, columns = x.sum(1), x.sum(0)
        centred = x - rows[:, None] + columns[None, :] * 2
        centred = centred + x.max(0, keepdims=True) - x.min(1, keepdims=True)
        everything = np.array([x.sum(), x.max(), x.sum()])
        values = {"rows": rows, "columns": columns, "everything": everything, "kept": centred}
        expected = {k: Expected(v.reshape(-1).astype(np.int32)) for k, v in values.items()}
        arguments: dict[str, Any] = {"x": Array(x.reshape(-1))}
        arguments |= {k: output(e.values.size, np.int32) for k, e in expected.items()}
        return Launch(arguments, expected)

    return make


@blocklang.jit
def multiply(left, right):
    return left * right


@blocklang.jit
def welford(mean, squares, count, other_mean, other_squares, other_count):
    total = count + other_count
    share = bl.where(total == 0.0, 0.0, other_count / bl.where(total == 0.0, 1.0, total))
    delta = other_mean - mean
    return (
        mean + delta * share,
        squares + other_squares + delta * delta * count * share,
        total,
    )


@blocklang.jit
def branching(left, right):
    result = left
    if right > left:
        result = right
    return result


@blocklang.jit
def combined(x, out, moments, M: bl.constexpr, N: bl.constexpr):
    i = bl.arange(0, M)
    j = bl.arange(0, N)
    v = bl.load(x + i[:, None] * N + j[None, :])
    bl.store(out + i, bl.reduce(bl.where(v > 0.0, 1.0, -1.0), 1, multiply))
    bl.store(out + M + i, bl.reduce(v, 1, branching))
    bl.store(out + 2 * M + i, bl.reduce(v, 1, bl.minimum))
    ones = bl.full((M, N), 1.0, bl.float32)
    mean, squares, count = bl.reduce((v, v * 0.0, ones), 1, welford)
    bl.store(moments + i, mean)
    bl.store(moments + M + i, squares / count)
    bl.store(moments + 2 * M + i, count)


def make_combined(m: int, n: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        x = rng.uniform(-2, 2, (m, n)).astype(np.float32)
        wide = x.astype(np.float64)
        signs = np.where(x > 0, 1.0, -1.0).prod(1)
        out = np.concatenate([signs, wide.max(1), wide.min(1)])
        moments = np.concatenate([wide.mean(1), wide.var(1), np.full(m, n)])
        # Each of log2(n) levels of Welford's formula makes a few roundings of numbers below 4, and
        # on GPUs a fast division: 8 ulp of 4 a level.
        bound = 8 * max(1, n.bit_length()) * 4 * 2.0**-23
        bounds = np.concatenate([np.full(2 * m, bound), np.zeros(m)])
        arguments = {"x": Array(x.reshape(-1)), "out": output(3 * m, np.float32)}
        arguments["moments"] = output(3 * m, np.float32)
        return Launch(arguments, {"out": Expected(out), "moments": Expected(moments, bounds)})

    return make


@blocklang.jit
def with_nan(x, out, n, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    v = bl.load(x + i, mask=i < n, other=float("nan"))
    bl.store(out, bl.max(v, axis=0))
    bl.store(out + 1, bl.min(v, axis=0))
    w = bl.load(x + i, mask=i < n, other=0.0)
    bl.store(out + 2, bl.sum(w, axis=0))


def make_with_nan(only_nan: bool) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        n = 100
        x = np.where(rng.integers(0, 2, n) > 0, np.nan, rng.uniform(-9, 9, n)).astype(np.float32)
        x = np.full(n, np.nan, np.float32) if only_nan else x
        best = [np.nan] * 2 if only_nan else [np.nanmax(x), np.nanmin(x)]
        values = np.array([*best, np.nan], np.float32)
        arguments = {"x": Array(x), "out": output(3, np.float32), "n": n}
        return Launch(arguments, {"out": Expected(values)})

    return make


@blocklang.jit
def options(x, out, indices, N: bl.constexpr):
    i = bl.arange(0, N)
    v = bl.load(x + i)
    bl.store(out, bl.xor_sum(v, axis=0))
    bl.store(out + 1, bl.sum(v, axis=0, dtype=bl.int32))
    kept = bl.sum(v, axis=0, keep_dims=True)
    bl.store(out + 2 + bl.arange(0, 1), kept)
    bl.store(indices, bl.argmin(v, axis=0, tie_break_left=True))
    bl.store(indices + 1, bl.max(bl.reshape(v, (2, N // 2)), return_indices=True)[1])


def make_options(n: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        x = rng.integers(-20, 20, n).astype(np.int32)
        out = np.array([np.bitwise_xor.reduce(x), x.sum(), x.sum()], np.int32)
        indices = np.array([x.argmin(), x.argmax()], np.int32)
        arguments = {"x": Array(x), "out": output(3, np.int32), "indices": output(2, np.int32)}
        return Launch(arguments, {"out": Expected(out), "indices": Expected(indices)})

    return make


@blocklang.jit
def softmax(x, out, n, M: bl.constexpr, N: bl.constexpr):
    i = bl.arange(0, M)[:, None]
    j = bl.arange(0, N)[None, :]
    v = bl.load(x + i * n + j, mask=j < n, other=-float("inf"))
    bl.store(out + i * n + j, bl.softmax(v, dim=1), mask=j < n)


def make_softmax(m: int, n: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        x = rng.uniform(-10, 10, (m, n)).astype(np.float32)
        wide = np.exp(x.astype(np.float64) - x.max(1, keepdims=True).astype(np.float64))
        result = wide / wide.sum(1, keepdims=True)
        # The exponent is at least -20: its rounding is 20 * 2**-24 of the result, as is that of the
        # product with log2(e); the exponential adds 2 ulp, the sum log2(n) halves, the division 2.
        relative = (2 * 20 * 2.0**-24) * 2 + (4 + n.bit_length() / 2 + 2) * 2.0**-23
        arguments = {"x": Array(x.reshape(-1)), "out": output(m * n, np.float32), "n": n}
        return Launch(arguments, {"out": Expected(result, (result * relative).reshape(-1))})

    return make


@blocklang.jit
def cube_sums(x, out, AXIS: bl.constexpr, A: bl.constexpr, B: bl.constexpr, C: bl.constexpr,
              SIZE: bl.constexpr):  # fmt: skip
    i = bl.arange(0, A)[:, None, None]
    j = bl.arange(0, B)[None, :, None]
    k = bl.arange(0, C)[None, None, :]
    v = bl.load(x + (i * B + j) * C + k)
    bl.store(out + bl.arange(0, SIZE), bl.reshape(bl.sum(v, axis=AXIS), (SIZE,)))


def make_cube_sums(axis: int, shape: tuple[int, ...]) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        x = rng.integers(-9, 9, shape).astype(np.int32)
        total = x.sum(axis=axis).reshape(-1).astype(np.int32)
        arguments = {"x": Array(x.reshape(-1)), "out": output(total.size, np.int32)}
        return Launch(arguments, {"out": Expected(total)})

    return make


@blocklang.jit
def limited(left, right):
    return bl.maximum(bl.minimum(left, 2.0), bl.minimum(right, 2.0))


@blocklang.jit
def larger(value, index, other, other_index):
    if (value > other) | ((value == other) & (index < other_index)):
        best, place = value, index
    else:
        best, place = other, other_index
    return best, place


@blocklang.jit
def captured(x, out, places, scale, M: bl.constexpr, N: bl.constexpr):
    # The constant of the combination is one that the kernel has as well.
    i = bl.arange(0, M)
    j = bl.arange(0, N)
    v = bl.load(x + i[:, None] * N + j[None, :])
    bl.store(out + i, bl.reduce(v, 1, limited) + scale * 2.0)
    bl.store(out + M, scale + 2.0)
    best, place = bl.reduce((v, bl.broadcast_to(j[None, :], (M, N))), 1, larger)
    bl.store(out + M + 1 + i, best)
    bl.store(places + i, place)
    bl.store(places + M, bl.xor_sum(v > 0.0).to(bl.int32))
    bl.store(places + M + 1, bl.sum(v > 0.0))


def make_captured(m: int, n: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        x = (rng.integers(-40, 40, (m, n)) / 8).astype(np.float32)
        out = np.concatenate([np.minimum(x, 2).max(1) + 1, [2.5], x.max(1)]).astype(np.float32)
        positive = (x > 0).sum()
        places = np.array([*x.argmax(1), positive % 2, positive], np.int32)
        arguments = {"x": Array(x.reshape(-1)), "out": output(out.size, np.float32), "scale": 0.5}
        arguments["places"] = output(places.size, np.int32)
        return Launch(arguments, {"out": Expected(out), "places": Expected(places)})

    return make


for _name in NUMBERS:
    for _n in SIZES if _name in ("f32", "i32") else (257,):
        add(f"over-all-{_name}-{_n}", over_all, make_over_all(_name, _n), BLOCK=block_size(_n))
for _warps in WARPS:
    _warp_options = {"num_warps": _warps}
    add(f"over-all-f32-{_warps}-warps", over_all, make_over_all("f32", 1000),
        options=_warp_options, BLOCK=1024)  # fmt: skip
    for _m, _n in ((16, 64), (2, 512), (8, 8), (128, 4)):
        add(f"both-axes-{_m}x{_n}-{_warps}-warps", both_axes, make_both_axes(_m, _n),
            options=_warp_options, M=_m, N=_n)  # fmt: skip
    add(f"combined-{_warps}-warps", combined, make_combined(4, 128),
        options=_warp_options, M=4, N=128)  # fmt: skip
for _m, _n, _warps in ((4, 64, 4), (2, 256, 8), (16, 2, 1)):
    add(f"captured-{_m}x{_n}", captured, make_captured(_m, _n),
        options={"num_warps": _warps}, M=_m, N=_n)  # fmt: skip
for _axis in (0, 1):
    for _name in ("f16", "bf16", "f64", "u8", "i64"):
        _make = make_along(_name, 24, 40, _axis)
        add(f"along-{_axis}-{_name}", along, _make, AXIS=_axis, M=32, N=64)
for _axis in (0, 1, 2):
    _make = make_cube_sums(_axis, (4, 8, 16))
    add(
        f"cube-sums-{_axis}",
        cube_sums,
        _make,
        AXIS=_axis,
        A=4,
        B=8,
        C=16,
        SIZE=512 // (4, 8, 16)[_axis],
    )
for _only in (False, True):
    add(f"with-{'only-' * _only}nan", with_nan, make_with_nan(_only), BLOCK=128)
add("reduction-options", options, make_options(64), N=64)
add("softmax-of-rows", softmax, make_softmax(4, 100), M=4, N=128)
