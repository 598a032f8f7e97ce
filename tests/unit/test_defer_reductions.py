"""Sums that loops carry, executed as PTX: each thread's part, summed over threads and warps behind
the loop.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import blocklang
import blocklang.language as bl
from tests.products import Run


@blocklang.jit
def one_number(x, y, n, BLOCK: bl.constexpr):
    """Of all rows of x."""
    at = bl.arange(0, BLOCK)
    total = 0.0
    for i in range(n):
        total += bl.sum(bl.exp2(bl.load(x + i * BLOCK + at)))
    bl.store(y, total)


@blocklang.jit
def scaled_rows(x, y, n, ROWS: bl.constexpr, BLOCK: bl.constexpr):
    """Of n blocks of ROWS x BLOCK elements, each row by itself, relative to its largest so far."""
    row = bl.arange(0, ROWS)
    at = row[:, None] * BLOCK + bl.arange(0, BLOCK)[None, :]
    total = bl.zeros((ROWS,), bl.float32)
    top = bl.full((ROWS,), -1e30, bl.float32)
    for i in range(n):
        v = bl.load(x + i * ROWS * BLOCK + at)
        higher = bl.maximum(top, bl.max(v, 1))
        total = total * bl.exp2(top - higher) + bl.sum(bl.exp2(v - higher[:, None]), 1)
        top = higher
    bl.store(y + row, total)


@blocklang.jit
def grown(x, y, n, BLOCK: bl.constexpr):
    """What the elements of a row are multiplied by may be infinite, where some of them are 0."""
    at = bl.arange(0, BLOCK)
    total = 0.0
    for i in range(n):
        v = bl.load(x + i * BLOCK + at)
        total = total * bl.exp2(bl.max(v)) + bl.sum(bl.exp2(v))
    bl.store(y, total)


@blocklang.jit
def counts(x, y, n, BLOCK: bl.constexpr):
    """How many elements of all rows are 3, and how many are not 5 or 6."""
    at = bl.arange(0, BLOCK)
    some, many = 0, 0
    for i in range(n):
        v = bl.load(x + i * BLOCK + at)
        some += bl.sum((v == 3).to(bl.int32))
        many = bl.sum(((v != 5) & (v != 6)).to(bl.int32)) + many
    bl.store(y, some)
    bl.store(y + 1, many)


def run(
    kernel: Any, x: Any, y: Any, sizes: dict[str, int], n: int, warps: int, threads: int
) -> None:
    """Execute the kernel, whose loop must leave `threads` sums to threads."""
    kind = {np.dtype(np.float32): "fp32", np.dtype(np.int32): "i32"}[x.dtype]
    signature = {"x": f"*{kind}:16", "y": f"*{kind}:16", "n": "i32"}
    compiled = kernel.compile(signature, sizes, "sm_80", num_warps=warps)
    assert compiled.asm["layout"].count("within_thread = true") == threads
    Run(compiled, {"x": x, "y": y, "n": n}, (1,)).on_machine()


@pytest.mark.parametrize("n", [0, 1, 5])
@pytest.mark.parametrize(("block", "warps"), [(256, 1), (256, 4), (64, 4)])
def test_one_number(block: int, warps: int, n: int) -> None:
    x = np.random.default_rng(n).standard_normal((max(n, 1), block)).astype(np.float32)
    y = np.full(1, np.nan, np.float32)
    run(one_number, x, y, {"BLOCK": block}, n, warps, 1)
    # Each summand is rounded once and added at most as often as there are elements of a thread.
    np.testing.assert_allclose(y[0], np.exp2(x[:n].astype(np.float64)).sum(), rtol=1e-5)


@pytest.mark.parametrize("n", [0, 1, 4])
@pytest.mark.parametrize(("rows", "block", "warps"), [(16, 32, 1), (4, 256, 4), (64, 16, 2)])
def test_scaled_rows(rows: int, block: int, warps: int, n: int) -> None:
    x = np.random.default_rng(n).standard_normal((max(n, 1), rows, block)).astype(np.float32)
    y = np.full(rows, np.nan, np.float32)
    run(scaled_rows, x, y, {"ROWS": rows, "BLOCK": block}, n, warps, 1)
    wide = x[:n].astype(np.float64)
    top = wide.max(axis=(0, 2), initial=-1e30)
    expected = np.exp2(wide - top[:, None]).sum(axis=(0, 2))
    np.testing.assert_allclose(y, expected, rtol=1e-5)


def test_infinite_factors_make_no_nan() -> None:
    x = np.full((2, 128), -200, np.float32)
    x[0, 3], x[1, 5] = 3, 200
    y = np.full(1, np.nan, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        run(grown, x, y, {"BLOCK": 128}, 2, 4, 0)
    assert y[0] == np.inf


@pytest.mark.parametrize("n", [0, 1, 7])
def test_counts(n: int) -> None:
    x = np.random.default_rng(n).integers(0, 9, (max(n, 1), 128)).astype(np.int32)
    y = np.full(2, -1, np.int32)
    run(counts, x, y, {"BLOCK": 128}, n, 4, 2)
    assert y.tolist() == [(x[:n] == 3).sum(), ((x[:n] != 5) & (x[:n] != 6)).sum()]
