"""atomic_add: scalars and blocks, duplicates, masks, results used or not, every dtype."""

from __future__ import annotations

from typing import Any

import numpy as np

import blocklang
import blocklang.language as bl
from blocklang.ir.types import DTYPES
from tests.suite.case import Array, Expected, Launch, add, output

DTYPE_NAMES = ("i32", "u32", "i64", "u64", "f16", "bf16", "f32", "f64")


@blocklang.jit
def histogram(x, counts, n, BLOCK: bl.constexpr):
    i = bl.program_id(0) * BLOCK + bl.arange(0, BLOCK)
    bucket = bl.load(x + i, mask=i < n, other=0)
    bl.atomic_add(counts + bucket, 1, mask=i < n, sem="relaxed")


def make_histogram(name: str, n: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        # All counts are integers that the dtype holds, whatever the order of additions.
        x = rng.integers(0, 7, n).astype(np.int32)
        start = rng.integers(0, 5, 8).astype(DTYPES[name].numpy)
        total = start.astype(np.float64) + np.bincount(x, minlength=8)
        arguments = {"x": Array(x), "counts": Array(start), "n": n}
        return Launch(arguments, {"counts": Expected(total.astype(start.dtype))})

    return make


@blocklang.jit
def tickets(counter, seen, amounts):
    ticket = bl.atomic_add(counter, 1)
    bl.store(seen + ticket, ticket * 10)
    bl.atomic_add(amounts, bl.program_id(0), mask=bl.program_id(0) != 2, sem="release", scope="sys")
    bl.atomic_add(amounts + 1, 5, sem="acquire")


def make_tickets(rng: np.random.Generator) -> Launch:
    programs = 6
    arguments = {
        "counter": Array(np.zeros(1, np.int32)),
        "seen": output(programs, np.int32),
        "amounts": Array(np.array([100, 0], np.int32)),
    }
    expected = {
        "counter": Expected(np.array([programs], np.int32)),
        "seen": Expected(np.arange(programs, dtype=np.int32) * 10),
        "amounts": Expected(np.array([100 + 15 - 2, 30], np.int32)),
    }
    return Launch(arguments, expected)


@blocklang.jit
def old_values(memory, x, out, n, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    keep = i < n
    old = bl.atomic_add(memory + i, bl.load(x + i, mask=keep, other=0), mask=keep)
    bl.store(out + i, old, mask=keep)


def make_old_values(name: str, n: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        kind = DTYPES[name].numpy
        memory, x = (rng.integers(0, 50, n).astype(kind) for _ in range(2))
        arguments = {"memory": Array(memory), "x": Array(x), "out": output(n, kind), "n": n}
        expected = {"memory": Expected(memory + x), "out": Expected(memory)}
        return Launch(arguments, expected)

    return make


@blocklang.jit
def shared_results(memory, out, N: bl.constexpr):
    # Blocks that are smaller than a program: replicas of an element are one atomic, and all
    # threads get its result.
    i = bl.arange(0, N)
    old = bl.atomic_add(memory + i, 1)
    bl.store(out + i, bl.sum(old, axis=0) + old)
    first = bl.atomic_add(memory, 100)
    bl.store(out + N + bl.arange(0, 256), bl.full((256,), first, bl.int32))


def make_shared_results(n: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        memory = rng.integers(0, 50, n).astype(np.int32)
        out = np.concatenate([memory.sum() + memory, np.full(256, memory[0] + 1)])
        after = memory + 1
        after[0] += 100
        arguments = {"memory": Array(memory), "out": output(n + 256, np.int32)}
        return Launch(arguments, {"memory": Expected(after), "out": Expected(out.astype(np.int32))})

    return make


@blocklang.jit
def collisions(total, out, x, BLOCK: bl.constexpr):
    # Every element of a block meets the same address.
    i = bl.arange(0, BLOCK)
    v = bl.load(x + i)
    bl.atomic_add(total + i * 0, v)
    rows = bl.load(x + i[:, None] * 0 + bl.arange(0, 4)[None, :])
    bl.atomic_add(out + bl.arange(0, 4)[None, :] + i[:, None] * 0, rows)


def make_collisions(name: str) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        x = rng.integers(0, 2, 64).astype(DTYPES[name].numpy)
        zero, zeros = np.zeros(1, x.dtype), np.zeros(4, x.dtype)
        arguments = {"total": Array(zero), "out": Array(zeros), "x": Array(x)}
        total = x.astype(np.float64).sum(keepdims=True).astype(x.dtype)
        columns = (x[:4].astype(np.float64) * 64).astype(x.dtype)
        return Launch(arguments, {"total": Expected(total), "out": Expected(columns)})

    return make


for _name in DTYPE_NAMES:
    _n = 200 if _name in ("f16", "bf16") else 1000
    add(
        f"histogram-{_name}", histogram, make_histogram(_name, _n), grid=(-(-_n // 256),), BLOCK=256
    )
    add(f"old-values-{_name}", old_values, make_old_values(_name, 100), BLOCK=128)
    add(f"collisions-{_name}", collisions, make_collisions(_name), BLOCK=64)
add("histogram-nothing", histogram, make_histogram("i32", 0), BLOCK=256)
add("tickets", tickets, make_tickets, grid=(6,))
for _n in (1, 8, 64):
    add(f"shared-results-{_n}", shared_results, make_shared_results(_n), N=_n)
