"""Softmax of each row of a matrix: y[i, j] = exp(x[i, j] - max_j x[i, j]) / sum_j exp(x[i, j] -
max_j x[i, j]).

Four kernels for four shapes of matrix. `softmax` is the plain one: one program a row, the whole
row in one block. The others change how the work is cut where that is poor: `softmax_short` gives a
program several short rows, `softmax_resident` moves many rows of changing alignment in aligned
blocks, `softmax_long` walks along rows that are too long for the registers of one program.

Run it: `python examples/softmax.py [--rows 4096] [--columns 1000]
[--dtype float32|float16|bfloat16] [--device cpu|gpu] [--input matrix.npy]`. Without --input the
matrix is one of random numbers.
"""

from __future__ import annotations

import sys

import numpy as np

import blocklang
import blocklang.language as bl

if __package__:
    from examples.resident import multiprocessors, pieces, resident_programs
else:
    from resident import multiprocessors, pieces, resident_programs

# How many elements of a row a thread of `softmax_resident` can keep, with those of the next row.
MOST = 40


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
def softmax_resident(x, y, row_stride, rows, n, PIECES: bl.constexpr):
    """A few programs that stay, for rows whose alignment changes from row to row.

    The number of programs is a multiple of ALIGN, so that all rows of a program are aligned alike
    (see resident.py), and are cut alike: COUNT blocks from the first multiple of ALIGN elements on,
    which are moved 16 bytes at a time and need no masks; and what is left at both ends, at most
    EDGE elements that are moved one by one. The next row is on its way while this one is worked on.
    `pieces` in resident.py chooses the sizes.
    """
    ALIGN, BLOCK, COUNT, EDGE, THREADS = PIECES
    first = bl.program_id(0).to(bl.int64)
    if first >= rows:
        return
    start = first * row_stride
    lead = ((ALIGN - start % ALIGN) % ALIGN).to(bl.int32)
    begin = bl.multiple_of(start + lead, ALIGN)
    cols = bl.arange(0, BLOCK)
    following = ()
    for block in bl.static_range(COUNT):
        following += (bl.load(x + begin + block * BLOCK + cols),)
    outer = bl.arange(0, EDGE)
    inside = outer < n - COUNT * BLOCK
    outer = bl.where(outer < lead, outer, outer + COUNT * BLOCK)
    edge_following = bl.load(x + start + outer, mask=inside, other=-float("inf"))
    for row in range(first, rows, bl.num_programs(0)):
        u, v = edge_following.to(bl.float32), ()
        highest = bl.full((BLOCK,), -float("inf"), bl.float32)
        for block in bl.static_range(COUNT):
            v += (following[block].to(bl.float32),)
            highest = bl.maximum(highest, v[block])
        # After its last row a program reads that one again, which it will not use.
        ahead = row + bl.num_programs(0)
        start = bl.where(ahead < rows, ahead, row) * row_stride
        begin = bl.multiple_of(start + lead, ALIGN)
        following = ()
        for block in bl.static_range(COUNT):
            following += (bl.load(x + begin + block * BLOCK + cols),)
        edge_following = bl.load(x + start + outer, mask=inside, other=-float("inf"))
        # One maximum a thread, of both kinds of elements, before threads meet.
        each = bl.max(bl.reshape(u, (EDGE // THREADS, THREADS)), axis=0)
        other = bl.max(bl.reshape(highest, (THREADS, BLOCK // THREADS)), axis=1)
        top = bl.max(bl.maximum(each, other), axis=0)
        u, e = bl.exp(u - top), ()
        total = bl.zeros((BLOCK,), bl.float32)
        for block in bl.static_range(COUNT):
            e += (bl.exp(v[block] - top),)
            total += e[block]
        each = bl.sum(bl.reshape(u, (EDGE // THREADS, THREADS)), axis=0)
        each += bl.sum(bl.reshape(total, (THREADS, BLOCK // THREADS)), axis=1)
        scale = 1 / bl.sum(each, axis=0)
        start = row * row_stride
        bl.store(y + start + outer, u * scale, mask=inside)
        begin = bl.multiple_of(start + lead, ALIGN)
        for block in bl.static_range(COUNT):
            bl.store(y + begin + block * BLOCK + cols, e[block] * scale)


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
    sizes = pieces(n, x.dtype.itemsize, warps=16, align=32)
    programs = resident_programs(rows, sizes, multiprocessors(x), MOST) if n % piece else 0
    if programs:
        return softmax_resident[(programs,)](x, y, n, rows, n, PIECES=sizes, num_warps=16)
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
