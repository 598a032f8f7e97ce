"""Kernels whose accesses want different layouts, under all counts of warps: conversions inside
threads, inside warps and through shared memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import blocklang
import blocklang.language as bl
from blocklang.ir.types import DTYPES
from tests.suite.case import Array, Expected, Launch, add, output
from tests.suite.data import numbers


@blocklang.jit
def transpose(x, out, m, n, M: bl.constexpr, N: bl.constexpr):
    i = bl.program_id(0) * M + bl.arange(0, M)
    j = bl.program_id(1) * N + bl.arange(0, N)
    keep = (i[:, None] < m) & (j[None, :] < n)
    v = bl.load(x + i[:, None] * n + j[None, :], mask=keep)
    bl.store(out + j[None, :] * m + i[:, None], v, mask=keep)


def make_transpose(name: str, m: int, n: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        x = numbers(rng, name, m * n)
        arguments = {"x": Array(x), "out": output(m * n, x.dtype), "m": m, "n": n}
        return Launch(arguments, {"out": Expected(x.reshape(m, n).T.reshape(-1))})

    return make


@blocklang.jit
def narrowed(x, y, out, sums, BLOCK: bl.constexpr):
    # Eight bytes a thread are read, two written: one of both layouts has to give way.
    i = bl.arange(0, BLOCK)
    v = bl.load(x + i) + bl.load(y + i)
    bl.store(out + i, v)
    bl.store(sums + i // 4, v, mask=i % 4 == 3)


def make_narrowed(wide: str, narrow: str) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        x = rng.integers(0, 60, 1024).astype(DTYPES[wide].numpy)
        y = rng.integers(0, 60, 1024).astype(DTYPES[narrow].numpy)
        total = (x.astype(np.float64) + y.astype(np.float64)).astype(y.dtype)
        arguments = {"x": Array(x), "y": Array(y)}
        arguments |= {"out": output(1024, y.dtype), "sums": output(256, y.dtype)}
        return Launch(arguments, {"out": Expected(total), "sums": Expected(total[3::4])})

    return make


@blocklang.jit
def outer(x, y, out, flipped, M: bl.constexpr, N: bl.constexpr):
    i = bl.arange(0, M)
    j = bl.arange(0, N)
    a = bl.load(x + i)
    b = bl.load(y + j)
    product = a[:, None] * b[None, :]
    bl.store(out + i[:, None] * N + j[None, :], product)
    bl.store(flipped + i[:, None] + j[None, :] * M, product + bl.sum(product, axis=0)[None, :])


def make_outer(name: str, m: int, n: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        kind = DTYPES[name].numpy
        x, y = rng.integers(-3, 4, m).astype(kind), rng.integers(-3, 4, n).astype(kind)
        product = x[:, None] * y[None, :]
        flipped = (product + product.sum(0)[None, :]).T
        expected = {
            "out": Expected(product.astype(kind)),
            "flipped": Expected(flipped.astype(kind)),
        }
        arguments: dict[str, Any] = {"x": Array(x), "y": Array(y)}
        arguments |= {key: output(m * n, kind) for key in expected}
        return Launch(arguments, expected)

    return make


@blocklang.jit
def carried(x, out, steps, M: bl.constexpr, N: bl.constexpr):
    # A block that is carried in one layout and wanted in another at every step.
    i = bl.arange(0, M)
    j = bl.arange(0, N)
    total = bl.zeros((M, N), bl.int32)
    largest = bl.full((M,), -1000, bl.int32)
    for step in range(steps):
        rows = bl.load(x + step * M * N + i[:, None] * N + j[None, :])
        columns = bl.load(x + step * M * N + i[:, None] + j[None, :] * M)
        total += rows * 2 - columns
        largest = bl.maximum(largest, bl.max(rows - columns, axis=1))
        total += largest[:, None]
    bl.store(out + i[:, None] + j[None, :] * M, total)
    bl.store(out + M * N + i, largest)


def make_carried(m: int, n: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        steps = 3
        x = rng.integers(-9, 10, (steps, m * n)).astype(np.int32)
        total, largest = np.zeros((m, n), np.int32), np.full(m, -1000, np.int32)
        for step in range(steps):
            rows, columns = x[step].reshape(m, n), x[step].reshape(n, m).T
            total = total + rows * 2 - columns
            largest = np.maximum(largest, (rows - columns).max(1))
            total = total + largest[:, None]
        values = np.concatenate([total.T.reshape(-1), largest]).astype(np.int32)
        arguments = {"x": Array(x.reshape(-1)), "out": output(values.size, np.int32)}
        return Launch(arguments | {"steps": steps}, {"out": Expected(values)})

    return make


@blocklang.jit
def turned(x, out, M: bl.constexpr, N: bl.constexpr):
    # A vector that is wanted along both dimensions.
    i = bl.arange(0, M)
    v = bl.load(x + i)
    distances = bl.abs(v[:, None] - v[None, :])
    bl.store(out + i[:, None] * M + i[None, :], distances)
    bl.store(out + M * M + i, bl.sum(distances, axis=0) - bl.max(distances, axis=1))


def make_turned(m: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        x = rng.integers(-99, 99, m).astype(np.int32)
        distances = np.abs(x[:, None] - x[None, :])
        values = np.concatenate([distances.reshape(-1), distances.sum(0) - distances.max(1)])
        arguments = {"x": Array(x), "out": output(values.size, np.int32)}
        return Launch(arguments, {"out": Expected(values.astype(np.int32))})

    return make


for _warps in (1, 4, 16):
    _options = {"num_warps": _warps}
    for _name in ("i8", "f16", "f32", "f64", "i1"):
        add(f"transpose-{_name}-{_warps}-warps", transpose, make_transpose(_name, 50, 70),
            grid=(2, 2), options=_options, M=32, N=64)  # fmt: skip
    add(f"carried-{_warps}-warps", carried, make_carried(16, 32), options=_options, M=16, N=32)
    add(f"turned-{_warps}-warps", turned, make_turned(32), options=_options, M=32, N=32)
    add(f"outer-{_warps}-warps", outer, make_outer("f32", 16, 64), options=_options, M=16, N=64)
for _wide, _narrow in (("f32", "bf16"), ("f64", "u8"), ("i64", "i16"), ("f16", "f64")):
    add(f"narrowed-{_wide}-{_narrow}", narrowed, make_narrowed(_wide, _narrow), BLOCK=1024)
for _m, _n in ((4, 4), (2, 1), (128, 2), (1, 256)):
    add(f"outer-{_m}x{_n}", outer, make_outer("i16", _m, _n), M=_m, N=_n)
add("transpose-aligned", transpose, make_transpose("f32", 64, 128), grid=(1, 1), M=64, N=128)
