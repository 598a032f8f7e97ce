"""Loops, conditions and early returns; blocks, scalars and pointers carried through them."""

from __future__ import annotations

from typing import Any

import numpy as np

import blocklang
import blocklang.language as bl
from blocklang.ir.types import DTYPES
from tests.suite.case import Array, Expected, Launch, add, output
from tests.suite.data import numbers


@blocklang.jit
def counted(x, out, rows, step, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    total = bl.zeros((BLOCK,), bl.float32)
    largest = bl.full((BLOCK,), -1000.0, bl.float32)
    visits = 0
    for row in range(0, rows, step):
        v = bl.load(x + row * BLOCK + i)
        total += v
        largest = bl.maximum(largest, v)
        visits += 1
    bl.store(out + i, total)
    bl.store(out + BLOCK + i, largest)
    bl.store(out + 2 * BLOCK, visits)


def make_counted(rows: int, step: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        # Small integers, whose sums are exact.
        x = rng.integers(-50, 50, (max(rows, 1), 64)).astype(np.float32)
        seen = x[:rows:step]
        total, largest = seen.sum(0), np.full(64, -1000.0)
        if len(seen):
            largest = seen.max(0)
        values = np.concatenate([total, largest, [len(seen)]]).astype(np.float32)
        arguments = {"x": Array(x.reshape(-1)), "out": output(129, np.float32)}
        return Launch(arguments | {"rows": rows, "step": step}, {"out": Expected(values)})

    return make


@blocklang.jit
def moving(x, out, rows, BLOCK: bl.constexpr):
    # Pointers are carried: those of the load as a block, that of the store as a scalar.
    pointers = x + bl.arange(0, BLOCK)
    place = out
    for row in range(rows):
        v = bl.load(pointers)
        bl.store(place + bl.arange(0, BLOCK), v + row)
        pointers += BLOCK
        place += BLOCK


def make_moving(name: str) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        kind = DTYPES[name].numpy
        x = rng.integers(0, 90, (5, 64)).astype(kind)
        values = x + np.arange(5)[:, None].astype(kind)
        arguments = {"x": Array(x.reshape(-1)), "out": output(320, kind), "rows": 5}
        return Launch(arguments, {"out": Expected(values)})

    return make


@blocklang.jit
def searching(x, out, n, BLOCK: bl.constexpr):
    # A while loop that ends where the data says so, with a scalar and a block carried.
    position = 0
    total = bl.zeros((BLOCK,), bl.int32)
    while (position < n) & (bl.load(x + position) != 0):
        total += bl.load(x + position) + bl.arange(0, BLOCK)
        position += 1
    bl.store(out + bl.arange(0, BLOCK), total)
    bl.store(out + BLOCK, position)


def make_searching(zero: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        x = rng.integers(1, 9, 32).astype(np.int32)
        x[zero] = 0
        total = x[:zero].sum() + zero * np.arange(16)
        values = np.concatenate([total, [zero]]).astype(np.int32)
        # One more element is read where the search ends behind the last one.
        arguments = {"x": Array(x), "out": output(17, np.int32), "n": 32}
        return Launch(arguments, {"out": Expected(values)})

    return make


@blocklang.jit
def branches(x, out, n, flag, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    v = bl.load(x + i)
    program = bl.program_id(0)
    if program == 0:
        v = v + 1
        scale = 2
    elif program == 1:
        v = v * 3
        scale = 3
    else:
        scale = 4
        if flag:
            v = v - 5
            if n > 10:
                v = -v
        else:
            v = bl.abs(v)
    bl.store(out + program * BLOCK + i, v * scale)


def make_branches(flag: bool, n: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        x = rng.integers(-50, 50, 64).astype(np.int32)
        last = np.abs(x)
        if flag:
            last = -(x - 5) if n > 10 else x - 5
        values = np.concatenate([(x + 1) * 2, x * 9, last * 4]).astype(np.int32)
        arguments = {"x": Array(x), "out": output(192, np.int32), "n": n, "flag": flag}
        return Launch(arguments, {"out": Expected(values)})

    return make


@blocklang.jit
def leaving(x, out, n):
    program = bl.program_id(0)
    if program >= n:
        return
    v = bl.load(x + program)
    if v < 0:
        bl.store(out + program, -v)
        return
    bl.store(out + program, v + 100)


def make_leaving(rng: np.random.Generator) -> Launch:
    x = rng.integers(-50, 50, 8).astype(np.int32)
    values = np.where(x < 0, -x, x + 100).astype(np.int32)
    arguments = {"x": Array(x), "out": output(8, np.int32), "n": 5}
    return Launch(arguments, {"out": Expected(values, stored=np.arange(8) < 5)})


@blocklang.jit
def nested(x, out, n, M: bl.constexpr, N: bl.constexpr):
    i = bl.arange(0, M)
    j = bl.arange(0, N)
    total = bl.zeros((M, N), bl.int32)
    for outer in range(n):
        row = bl.load(x + outer * N + j)
        count = 0
        while count < outer:
            total += row[None, :] * i[:, None]
            count += 1
        if outer % 2 == 1:
            for _ in bl.static_range(2):
                total -= bl.sum(row, axis=0)
    bl.store(out + i[:, None] * N + j[None, :], total)


def make_nested(n: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        x = rng.integers(-9, 9, (max(n, 1), 32)).astype(np.int32)
        total = np.zeros((8, 32), np.int32)
        for outer in range(n):
            total += outer * x[outer][None, :] * np.arange(8, dtype=np.int32)[:, None]
            total -= 2 * x[outer].sum() * (outer % 2)
        arguments = {"x": Array(x.reshape(-1)), "out": output(256, np.int32), "n": n}
        return Launch(arguments, {"out": Expected(total.astype(np.int32))})

    return make


@blocklang.jit
def downward(out, n):
    at = 0
    for k in range(n, 0, -3):
        bl.store(out + at, k)
        at += 1
    for k in range(4):
        if k == 2:
            continue
        if k == 3:
            break
        bl.store(out + at, 100 + k)
        at += 1


def make_downward(rng: np.random.Generator) -> Launch:
    values = np.array([*range(20, 0, -3), 100, 101], np.int32)
    return Launch({"out": output(values.size, np.int32), "n": 20}, {"out": Expected(values)})


@blocklang.jit
def wide_indices(x, out, n, BLOCK: bl.constexpr):
    # A 64-bit loop variable, unsigned arithmetic and a swap of carried blocks.
    i = bl.arange(0, BLOCK)
    a = bl.load(x + i)
    b = bl.load(x + BLOCK + i)
    for k in range(n.to(bl.int64)):
        a, b = b, a + k.to(bl.int32)
    bl.store(out + i, a)
    bl.store(out + BLOCK + i, b)


def make_wide_indices(rng: np.random.Generator) -> Launch:
    x = numbers(rng, "i32", 128) % 1000
    a, b = x[:64], x[64:]
    for k in range(5):
        a, b = b, a + k
    arguments = {"x": Array(x.astype(np.int32)), "out": output(128, np.int32), "n": 5}
    return Launch(arguments, {"out": Expected(np.concatenate([a, b]).astype(np.int32))})


@blocklang.jit
def exchanged(x, memory, out, BLOCK: bl.constexpr):
    # What other threads have stored is there after a barrier.
    i = bl.arange(0, BLOCK)
    bl.store(memory + i, bl.load(x + i) * 2)
    bl.debug_barrier()
    bl.store(out + i, bl.load(memory + (BLOCK - 1 - i)))
    for k in range(3):
        bl.debug_barrier()
        bl.store(memory + k, k)


def make_exchanged(rng: np.random.Generator) -> Launch:
    x = rng.integers(-50, 50, 512).astype(np.int32)
    memory = x * 2
    out = memory[::-1].copy()
    memory = np.concatenate([[0, 1, 2], memory[3:]]).astype(np.int32)
    arguments = {"x": Array(x), "memory": output(512, np.int32), "out": output(512, np.int32)}
    return Launch(arguments, {"memory": Expected(memory), "out": Expected(out)})


for _rows, _step in ((7, 1), (7, 3), (0, 1), (1, 16)):
    _make = make_counted(_rows, _step)
    add(f"counted-{_rows}-by-{_step}", counted, _make, BLOCK=64)
for _name in ("f32", "i8", "bf16"):
    add(f"moving-{_name}", moving, make_moving(_name), BLOCK=64)
for _zero in (0, 5, 31):
    add(f"searching-{_zero}", searching, make_searching(_zero), BLOCK=16)
for _flag, _n in ((True, 11), (True, 3), (False, 11)):
    add(f"branches-{_flag}-{_n}", branches, make_branches(_flag, _n), grid=(3,), BLOCK=64)
add("leaving", leaving, make_leaving, grid=(8,))
for _n in (0, 1, 5):
    add(f"nested-{_n}", nested, make_nested(_n), M=8, N=32)
add("downward", downward, make_downward)
add("wide-indices", wide_indices, make_wide_indices, BLOCK=64)
add("exchanged", exchanged, make_exchanged, BLOCK=512)
