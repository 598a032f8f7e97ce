"""Loads and stores: masks, other, strides of every kind, unaligned pointers, scalars, options."""

from __future__ import annotations

from typing import Any

import numpy as np

import blocklang
import blocklang.language as bl
from blocklang.ir.types import DTYPES
from tests.suite.case import GUARD, SIZES, Array, Expected, Launch, add, block_size, output, poison
from tests.suite.data import EVERY, numbers


@blocklang.jit
def copy(x, out, n, BLOCK: bl.constexpr):
    i = bl.program_id(0) * BLOCK + bl.arange(0, BLOCK)
    bl.store(out + i, bl.load(x + i, mask=i < n), mask=i < n)


def make_copy(name: str, n: int, start: int = 0) -> Any:
    """`start` elements are left out at the beginning, which makes pointers unaligned."""

    def make(rng: np.random.Generator) -> Launch:
        x = numbers(rng, name, n + start)
        stored = np.arange(n + start) >= start
        arguments = {"x": Array(x, start), "out": output(n + start, x.dtype, start), "n": n}
        return Launch(arguments, {"out": Expected(x, stored=stored)})

    return make


@blocklang.jit
def whole(x, out, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    bl.store(out + i, bl.load(x + i))


def make_whole(name: str, n: int, start: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        launch = make_copy(name, n, start)(rng)
        arguments = {key: launch.arguments[key] for key in ("x", "out")}
        return Launch(arguments, launch.expected)

    return make


@blocklang.jit
def selected(x, keep, out, kept, n, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    inside = i < n
    wanted = bl.load(keep + i, mask=inside, other=False)
    bl.store(out + i, bl.load(x + i, mask=wanted, other=7), mask=inside)
    bl.store(kept + i, bl.load(x + i, mask=inside), mask=wanted)


def make_selected(name: str, n: int, share: float) -> Any:
    """A mask from memory, true for `share` of the elements: 0 is the empty mask."""

    def make(rng: np.random.Generator) -> Launch:
        x = numbers(rng, name, n)
        keep = rng.uniform(0, 1, n) < share
        seven = np.asarray(DTYPES[name].is_bool or 7, x.dtype)
        expected = {
            "out": Expected(np.where(keep, x, seven)),
            "kept": Expected(x, stored=keep),
        }
        arguments: dict[str, Any] = {"x": Array(x), "keep": Array(keep), "n": n}
        arguments |= {"out": output(n, x.dtype), "kept": output(n, x.dtype)}
        return Launch(arguments, expected)

    return make


@blocklang.jit
def strided(x, out, n, x_stride, out_stride, BLOCK: bl.constexpr):
    i = bl.program_id(0) * BLOCK + bl.arange(0, BLOCK)
    v = bl.load(x + i * x_stride, mask=i < n)
    bl.store(out + i * out_stride, v, mask=i < n)


def make_strided(name: str, n: int, x_stride: int, out_stride: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        x = numbers(rng, name, 1 + (n - 1) * abs(x_stride))
        size = 1 + (n - 1) * abs(out_stride)
        written = poison(size, x.dtype)
        stored = np.zeros(size, bool)
        source = x[::x_stride] if x_stride else np.repeat(x[:1], n)
        written[::out_stride] = source
        stored[::out_stride] = True
        arguments = {
            "x": Array(x, 0 if x_stride >= 0 else x.size - 1),
            "out": output(size, x.dtype, 0 if out_stride > 0 else size - 1),
            "n": n, "x_stride": x_stride, "out_stride": out_stride,
        }  # fmt: skip
        return Launch(arguments, {"out": Expected(written, stored=stored)})

    return make


@blocklang.jit
def matrix(x, out, rows, columns, x_row, x_column, out_row, out_column,
           ROWS: bl.constexpr, COLUMNS: bl.constexpr):  # fmt: skip
    i = bl.program_id(0) * ROWS + bl.arange(0, ROWS)
    j = bl.arange(0, COLUMNS)
    keep = (i[:, None] < rows) & (j[None, :] < columns)
    v = bl.load(x + i[:, None] * x_row + j[None, :] * x_column, mask=keep)
    bl.store(out + i[:, None] * out_row + j[None, :] * out_column, v, mask=keep)


def make_matrix(name: str, shape: tuple[int, int], order: str, out_order: str) -> Any:
    rows, columns = shape

    def strides(how: str) -> tuple[int, int]:
        return {"C": (columns, 1), "F": (1, rows), "padded": (columns + 3, 1)}[how]

    def flat(matrix: np.ndarray, how: str) -> np.ndarray:
        if how == "padded":
            wide = poison(rows * (columns + 3), matrix.dtype).reshape(rows, columns + 3)
            wide[:, :columns] = matrix
            return wide.reshape(-1)
        return matrix.reshape(-1, order=how)

    def make(rng: np.random.Generator) -> Launch:
        x = numbers(rng, name, rows * columns).reshape(rows, columns)
        written = flat(x, out_order)
        stored = flat(np.ones((rows, columns), bool), out_order) == np.True_
        if out_order == "padded":
            stored = (np.arange(written.size) % (columns + 3)) < columns
        arguments: dict[str, Any] = {
            "x": Array(flat(x, order)), "out": output(written.size, x.dtype),
            "rows": rows, "columns": columns,
        }  # fmt: skip
        arguments["x_row"], arguments["x_column"] = strides(order)
        arguments["out_row"], arguments["out_column"] = strides(out_order)
        return Launch(arguments, {"out": Expected(written, stored=stored)})

    return make


@blocklang.jit
def cube(x, out, a, b, c, A: bl.constexpr, B: bl.constexpr, C: bl.constexpr):
    i = bl.arange(0, A)[:, None, None]
    j = bl.arange(0, B)[None, :, None]
    k = bl.arange(0, C)[None, None, :]
    keep = (i < a) & (j < b) & (k < c)
    place = (i * b + j) * c + k
    bl.store(out + place, bl.load(x + place, mask=keep, other=0) + 1, mask=keep)


def make_cube(name: str, a: int, b: int, c: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        x = rng.integers(0, 100, a * b * c).astype(DTYPES[name].numpy)
        arguments = {"x": Array(x), "out": output(x.size, x.dtype), "a": a, "b": b, "c": c}
        return Launch(arguments, {"out": Expected(x + np.asarray(1, x.dtype))})

    return make


@blocklang.jit
def options(x, out, n, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    keep = i < n
    bl.store(out + i, bl.load(x + i, mask=keep, cache_modifier=".ca"), mask=keep)
    v = bl.load(x + i, mask=keep, cache_modifier=".cg")
    bl.store(out + n + i, v, mask=keep, cache_modifier=".wb")
    v = bl.load(x + i, mask=keep, other=0, cache_modifier=".cv")
    bl.store(out + 2 * n + i, v, mask=keep, cache_modifier=".cg")
    v = bl.load(x + i, mask=keep, eviction_policy="evict_first")
    bl.store(out + 3 * n + i, v, mask=keep, cache_modifier=".cs")
    v = bl.load(x + i, mask=keep, eviction_policy="evict_last")
    bl.store(out + 4 * n + i, v, mask=keep, cache_modifier=".wt")
    v = bl.load(x + i, mask=keep, volatile=True)
    bl.store(out + 5 * n + i, v, mask=keep, eviction_policy="evict_first")
    v = bl.load(x + bl.arange(0, 8), volatile=True)
    bl.store(out + 6 * n + bl.arange(0, 8), v, eviction_policy="evict_last")
    bl.store(out + 6 * n + 8, bl.load(x + 8, cache_modifier=".cg"), cache_modifier=".cs")


def make_options(name: str, n: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        x = numbers(rng, name, n)
        expected = Expected(np.concatenate([*[x] * 6, x[:9]]))
        arguments = {"x": Array(x), "out": output(6 * n + 9, x.dtype), "n": n}
        return Launch(arguments, {"out": expected})

    return make


@blocklang.jit
def scalars(x, out, n):
    position = bl.program_id(0)
    v = bl.load(x + position, mask=position < n, other=9)
    bl.store(out + position, v, mask=position != 1)
    bl.store(out + bl.num_programs(0) + position, bl.load(x))


def make_scalars(name: str) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        x = numbers(rng, name, 3)
        nine = np.asarray(DTYPES[name].is_bool or 9, x.dtype)
        values = np.concatenate([x, np.repeat(nine, 2), np.repeat(x[:1], 5)])
        arguments = {"x": Array(x), "out": output(10, x.dtype), "n": 3}
        return Launch(arguments, {"out": Expected(values, stored=np.arange(10) != 1)})

    return make


@blocklang.jit
def gather(x, index, out, n, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    at = bl.load(index + i, mask=i < n, other=0)
    bl.store(out + at, bl.load(x + i, mask=i < n), mask=i < n)


def make_gather(kind: str, n: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        x = numbers(rng, "f32", n)
        index = rng.permutation(n).astype(DTYPES[kind].numpy)
        result = np.empty_like(x)
        result[index] = x
        arguments = {"x": Array(x), "index": Array(index), "out": output(n, x.dtype), "n": n}
        return Launch(arguments, {"out": Expected(result)})

    return make


@blocklang.jit
def grid(out):
    x, y, z = bl.program_id(0), bl.program_id(1), bl.program_id(2)
    place = (z * bl.num_programs(1) + y) * bl.num_programs(0) + x
    bl.store(out + place, x + 10 * y + 100 * z + 1000 * bl.num_programs(2))


def make_grid(rng: np.random.Generator) -> Launch:
    z, y, x = np.indices((2, 3, 5))
    values = (x + 10 * y + 100 * z + 2000).reshape(-1).astype(np.int32)
    return Launch({"out": output(30, np.int32)}, {"out": Expected(values)})


for _name in EVERY:
    for _n in SIZES if _name in ("f32", "f16", "u8") else (257,):
        add(f"copy-{_name}-{_n}", copy, make_copy(_name, _n), BLOCK=block_size(_n))
    add(f"copy-unaligned-{_name}", copy, make_copy(_name, 1000, 1), BLOCK=1024)
    add(f"whole-{_name}", whole, make_whole(_name, 1024, 0), BLOCK=1024)
    add(f"selected-{_name}", selected, make_selected(_name, 257, 0.5), BLOCK=512)
for _name in ("f16", "f64"):
    add(f"whole-unaligned-{_name}", whole, make_whole(_name, 64, 1), BLOCK=64)
add("selected-nothing", selected, make_selected("f32", 257, -1.0), BLOCK=512)
add("selected-everything", selected, make_selected("u8", 257, 2.0), BLOCK=512)
add("copy-several-programs", copy, make_copy("f32", 1000), grid=(4,), BLOCK=256)
for _strides in ((1, -1), (-1, 1), (2, 3), (-3, 2), (0, 1), (16, 1)):
    for _name in ("f32", "i8"):
        _make = make_strided(_name, 257, *_strides)
        add(f"strided-{_name}-{_strides[0]}-{_strides[1]}", strided, _make, grid=(3,), BLOCK=128)
for _shape in ((1, 1), (3, 16), (16, 257), (64, 64)):
    for _orders in (("C", "C"), ("C", "F"), ("F", "C"), ("F", "F"), ("padded", "C")):
        _make = make_matrix("f32", _shape, *_orders)
        _text = f"matrix-{_shape[0]}x{_shape[1]}-{_orders[0]}-{_orders[1]}"
        _blocks = {"ROWS": min(16, block_size(_shape[0])), "COLUMNS": block_size(_shape[1])}
        add(_text, matrix, _make, grid=(-(-_shape[0] // _blocks["ROWS"]),), **_blocks)
for _name, _a, _b, _c in (("i32", 3, 5, 7), ("f16", 2, 16, 33), ("f64", 1, 1, 1)):
    _blocks = {"A": block_size(_a), "B": block_size(_b), "C": block_size(_c)}
    add(f"cube-{_name}-{_a}x{_b}x{_c}", cube, make_cube(_name, _a, _b, _c), **_blocks)
for _name in ("f32", "bf16", "i64", "u8"):
    add(f"options-{_name}", options, make_options(_name, 1000), BLOCK=1024)
for _name in ("f32", "i1", "i8", "f16", "i64", "f8e5m2"):
    add(f"scalars-{_name}", scalars, make_scalars(_name), grid=(5,))
for _name in ("i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64"):
    add(f"gather-by-{_name}", gather, make_gather(_name, 100), BLOCK=128)
add("grid", grid, make_grid, grid=(5, 3, 2))
assert all(GUARD * dtype.bytes % 16 == 0 for dtype in DTYPES.values())
