"""Softmax of each row of a matrix: y[i, j] = exp(x[i, j] - max_j x[i, j]) / sum_j exp(x[i, j] -
max_j x[i, j]).

Four kernels for four shapes of matrix. `softmax` is the plain one: one program a row, the whole
row in one block. The others change how the work is cut where that is poor: `softmax_short` gives a
program several short rows, `softmax_unaligned` moves rows that are not 16-byte aligned in 16-byte
pieces all the same, `softmax_long` walks along rows that are too long for the registers of one
program.

Run it: `python examples/softmax.py [--rows 4096] [--columns 1000]
[--dtype float32|float16|bfloat16] [--device cpu|gpu] [--input matrix.npy]`. Without --input the
matrix is one of random numbers.
"""

from __future__ import annotations

import sys

import numpy as np

import blocklang
import blocklang.language as bl


@blocklang.jit
def softmax(x, y, row_stride, n, BLOCK: bl.constexpr):
    """One program a row; BLOCK is a power of two, at least n."""
    row = bl.program_id(0).to(bl.int64)
    cols = bl.arange(0, BLOCK)
    v = bl.load(x + row * row_stride + cols, mask=cols < n, other=-float("inf")).to(bl.float32)
    v = bl.exp(v - bl.max(v, axis=0))
    bl.store(y + row * row_stride + cols, v / bl.sum(v, axis=0), mask=cols < n)


@blocklang.jit
def softmax_short(x, y, row_stride, rows, n, ROWS: bl.constexpr, BLOCK: bl.constexpr):
    """ROWS rows a program, for rows so short that a program with one would have little to do."""
    row = bl.program_id(0).to(bl.int64) * ROWS + bl.arange(0, ROWS)
    cols = bl.arange(0, BLOCK)
    offsets = row[:, None] * row_stride + cols[None, :]
    mask = (row[:, None] < rows) & (cols[None, :] < n)
    v = bl.load(x + offsets, mask=mask, other=-float("inf")).to(bl.float32)
    v = bl.exp(v - bl.max(v, axis=1)[:, None])
    bl.store(y + offsets, v / bl.sum(v, axis=1)[:, None], mask=mask)


@blocklang.jit
def softmax_unaligned(x, y, row_stride, n, BLOCK: bl.constexpr, PIECE: bl.constexpr):
    """One program a row, whatever the row's alignment; x and y themselves are 16-byte aligned.

    PIECE elements are 16 bytes. The row is read as the aligned pieces that cover it; pieces that
    lie wholly inside are written as such, and the first and the last PIECE elements of the row
    once more, one by one. BLOCK is at least n + PIECE.
    """
    start = bl.program_id(0).to(bl.int64) * row_stride
    shift = (start % PIECE).to(bl.int32)
    aligned = bl.multiple_of(start - shift, PIECE)
    index = bl.arange(0, BLOCK)
    piece = index // PIECE * PIECE
    v = bl.load(x + aligned + index, mask=piece < shift + n, other=-float("inf")).to(bl.float32)
    v = bl.where((index >= shift) & (index < shift + n), v, -float("inf"))
    top = bl.max(v, axis=0)
    v = bl.exp(v - top)
    total = bl.sum(v, axis=0)
    inside = (piece >= shift) & (piece + PIECE <= shift + n)
    bl.store(y + aligned + index, v / total, mask=inside)
    edge = bl.arange(0, PIECE)
    for first in bl.static_range(2):
        at = edge if first == 0 else n - 1 - edge
        w = bl.load(x + start + at, mask=edge < n, other=-float("inf")).to(bl.float32)
        bl.store(y + start + at, bl.exp(w - top) / total, mask=edge < n)


@blocklang.jit
def softmax_long(x, y, row_stride, n, BLOCK: bl.constexpr):
    """One program a row of any length, in steps of BLOCK: once for maximum and sum, once more for
    the result.
    """
    start = bl.program_id(0).to(bl.int64) * row_stride
    cols = bl.arange(0, BLOCK)
    top = bl.full((BLOCK,), -float("inf"), bl.float32)
    total = bl.zeros((BLOCK,), bl.float32)
    for at in range(0, n, BLOCK):
        mask = at + cols < n
        v = bl.load(
            x + start + at + cols, mask=mask, other=-float("inf"), eviction_policy="evict_last"
        )
        v = v.to(bl.float32)
        higher = bl.maximum(top, v)
        # Where nothing has been seen yet both are minus infinity, whose difference is not a number.
        shrunk = bl.where(top == higher, 1.0, bl.exp(top - higher))
        total = total * shrunk + bl.where(v == -float("inf"), 0.0, bl.exp(v - higher))
        top = higher
    row_top = bl.max(top, axis=0)
    row_total = bl.sum(bl.where(top == -float("inf"), 0.0, total * bl.exp(top - row_top)), axis=0)
    for at in range(0, n, BLOCK):
        mask = at + cols < n
        v = bl.load(
            x + start + at + cols, mask=mask, other=-float("inf"), eviction_policy="evict_first"
        )
        bl.store(y + start + at + cols, bl.exp(v.to(bl.float32) - row_top) / row_total, mask=mask)


def launch(x, y):
    """Softmax of each row of the contiguous matrix x into y, by the kernel that suits the shape.

    Arrays of NumPy, torch or blocklang; returns the launched kernel.
    """
    rows, n = x.shape
    piece = 16 // x.dtype.itemsize
    # What a program can keep: the registers of a multiprocessor, or the cache of a core.
    longest = 131072 if isinstance(x, np.ndarray) else 32768
    if n > longest:
        return softmax_long[(rows,)](x, y, n, n, BLOCK=8192, num_warps=16)
    if n <= 256:
        programs, block = blocklang.cdiv(rows, 4), blocklang.next_power_of_2(n)
        return softmax_short[(programs,)](x, y, n, rows, n, ROWS=4, BLOCK=block, num_warps=1)
    if n % piece and piece > 4:
        block = blocklang.next_power_of_2(n + piece)
        warps = min(16, max(1, block // 1024))
        return softmax_unaligned[(rows,)](x, y, n, n, BLOCK=block, PIECE=piece, num_warps=warps)
    block = blocklang.next_power_of_2(n)
    return softmax[(rows,)](x, y, n, n, BLOCK=block, num_warps=min(16, max(1, block // 1024)))


class Softmax:
    """What the program runs; `harness.py` says what each part is."""

    title = "softmax of each row of a matrix"

    def inputs(self, x):
        return {"x": x}

    def results(self, x):
        return {"y": np.full_like(x, np.nan)}

    def run(self, x, y):
        return [launch(x, y)]

    def formula(self, x):
        e = np.exp(x - x.max(axis=1, keepdims=True))
        return {"y": e / e.sum(axis=1, keepdims=True)}


if __name__ == "__main__":
    import harness  # lies beside this file

    sys.exit(harness.main([Softmax()], rows=4096, columns=1000))
