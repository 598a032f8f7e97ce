"""Functions that rearrange or repeat elements, alone and in chains."""

from __future__ import annotations

from typing import Any

import numpy as np

import blocklang
import blocklang.language as bl
from blocklang.ir.types import DTYPES
from tests.suite.case import Array, Expected, Launch, add, output
from tests.suite.data import numbers


@blocklang.jit
def transposed(x, out, M: bl.constexpr, N: bl.constexpr):
    i = bl.arange(0, M)
    j = bl.arange(0, N)
    v = bl.load(x + i[:, None] * N + j[None, :])
    bl.store(out + j[:, None] * M + i[None, :], bl.trans(v))


def make_transposed(name: str, m: int, n: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        x = numbers(rng, name, m * n)
        arguments = {"x": Array(x), "out": output(m * n, x.dtype)}
        return Launch(arguments, {"out": Expected(x.reshape(m, n).T.reshape(-1))})

    return make


@blocklang.jit
def permuted(x, out, A: bl.constexpr, B: bl.constexpr, C: bl.constexpr, ORDER: bl.constexpr):
    size: bl.constexpr = A * B * C
    v = bl.reshape(bl.load(x + bl.arange(0, size)), (A, B, C))
    v = bl.permute(v, ORDER)
    bl.store(out + bl.arange(0, size), bl.reshape(v, (size,)))


def make_permuted(name: str, shape: tuple[int, ...], order: tuple[int, ...]) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        x = numbers(rng, name, int(np.prod(shape)))
        result = x.reshape(shape).transpose(order).reshape(-1)
        arguments = {"x": Array(x), "out": output(x.size, x.dtype)}
        return Launch(arguments, {"out": Expected(result)})

    return make


@blocklang.jit
def spread(x, y, out, M: bl.constexpr, N: bl.constexpr):
    i = bl.arange(0, M)
    j = bl.arange(0, N)
    column = bl.expand_dims(bl.load(x + i), 1)
    row = bl.expand_dims(bl.load(y + j), 0)
    total = bl.broadcast_to(column, (M, N)) - row
    left, right = bl.broadcast(column, row)
    place = i[:, None] * N + j[None, :]
    bl.store(out + place, total)
    bl.store(out + M * N + place, left * 2 + right)
    bl.store(out + 2 * M * N + place, bl.full((M, N), 3, total.dtype))
    bl.store(out + 3 * M * N + place, bl.zeros((M, N), total.dtype) + row)


def make_spread(name: str, m: int, n: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        kind = DTYPES[name].numpy
        x, y = (rng.integers(0, 20, size).astype(kind) for size in (m, n))
        column, row = np.broadcast_arrays(x[:, None], y[None, :])
        rows = [column - row, column * np.asarray(2, kind) + row, np.full((m, n), 3, kind), row]
        values = np.concatenate([r.reshape(-1) for r in rows])
        arguments = {"x": Array(x), "y": Array(y), "out": output(values.size, kind)}
        return Launch(arguments, {"out": Expected(values)})

    return make


@blocklang.jit
def reshaped(x, out, M: bl.constexpr, N: bl.constexpr):
    # Sums over the axes of reshaped blocks show that elements keep their order.
    v = bl.load(x + bl.arange(0, M * N))
    rows = bl.reshape(v, (M, N))
    bl.store(out + bl.arange(0, M), bl.sum(rows, axis=1))
    bl.store(out + M + bl.arange(0, N), bl.sum(rows, axis=0))
    turned = bl.reshape(bl.trans(rows), (M, N))
    bl.store(out + M + N + bl.arange(0, M), bl.sum(turned, axis=1))
    flat = bl.ravel(bl.trans(rows))
    bl.store(out + 2 * M + N + bl.arange(0, M * N), flat)


def make_reshaped(m: int, n: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        x = rng.integers(-1000, 1000, m * n).astype(np.int32)
        rows = x.reshape(m, n)
        turned = rows.T.reshape(m, n)
        values = [rows.sum(1), rows.sum(0), turned.sum(1), rows.T.reshape(-1)]
        values = np.concatenate(values).astype(np.int32)
        arguments = {"x": Array(x), "out": output(values.size, np.int32)}
        return Launch(arguments, {"out": Expected(values)})

    return make


for _name in ("f32", "i8", "f16", "f64", "i1", "f8e5m2"):
    for _m, _n in ((32, 64), (1, 16), (128, 8)) if _name == "f32" else ((32, 64),):
        add(f"transposed-{_name}-{_m}x{_n}", transposed, make_transposed(_name, _m, _n), M=_m, N=_n)
for _order in ((0, 2, 1), (2, 1, 0), (1, 2, 0), (1, 0, 2)):
    _make = make_permuted("i16", (4, 8, 16), _order)
    _text = "".join(map(str, _order))
    add(f"permuted-{_text}", permuted, _make, A=4, B=8, C=16, ORDER=_order)
for _name in ("i32", "f16", "u8", "f64"):
    add(f"spread-{_name}", spread, make_spread(_name, 8, 32), M=8, N=32)
add("spread-single-row", spread, make_spread("f32", 1, 16), M=1, N=16)
for _m, _n in ((16, 32), (2, 512), (1, 8), (64, 1)):
    add(f"reshaped-{_m}x{_n}", reshaped, make_reshaped(_m, _n), M=_m, N=_n)
