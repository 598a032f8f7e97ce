"""Four ways to write c = a @ b, for a of m x k and b of k x n, from one element a thread to
programs that stay.

All sum in float32, arrays are contiguous, and sizes may be anything. `ladder.py` makes eight stages
of them.
"""

from __future__ import annotations

import blocklang
import blocklang.language as bl


@blocklang.jit
def by_elements(a, b, c, m, n, k, BLOCK_M: bl.constexpr, BLOCK_N: bl.constexpr):
    """Every element by itself: the block has a row of a and a column of b for each."""
    rows = bl.program_id(1) * BLOCK_M + bl.arange(0, BLOCK_M)[:, None]
    columns = bl.program_id(0) * BLOCK_N + bl.arange(0, BLOCK_N)[None, :]
    inside = (rows < m) & (columns < n)
    x = a + bl.broadcast_to(rows * k, (BLOCK_M, BLOCK_N))
    y = b + bl.broadcast_to(columns, (BLOCK_M, BLOCK_N))
    total = bl.zeros((BLOCK_M, BLOCK_N), bl.float32)
    for _ in range(k):
        p = bl.load(x, mask=inside, other=0).to(bl.float32)
        q = bl.load(y, mask=inside, other=0).to(bl.float32)
        total += p * q
        x += 1
        y += n
    bl.store(c + rows * n + columns, total.to(c.dtype.element_ty), mask=inside)


@blocklang.jit
def by_tiles(
    a, b, c, m, n, k, TENSOR_CORES: bl.constexpr,
    BLOCK_M: bl.constexpr, BLOCK_N: bl.constexpr, BLOCK_K: bl.constexpr,
):  # fmt: skip
    """A tile of c a program, from tiles of a and b; without TENSOR_CORES in float32 throughout."""
    rows = bl.program_id(1) * BLOCK_M + bl.arange(0, BLOCK_M)
    columns = bl.program_id(0) * BLOCK_N + bl.arange(0, BLOCK_N)
    inner = bl.arange(0, BLOCK_K)
    x = a + rows[:, None] * k + inner[None, :]
    y = b + inner[:, None] * n + columns[None, :]
    total = bl.zeros((BLOCK_M, BLOCK_N), bl.float32)
    for at in range(0, k, BLOCK_K):
        p = bl.load(x, mask=(rows < m)[:, None] & (inner < k - at)[None, :], other=0)
        q = bl.load(y, mask=(inner < k - at)[:, None] & (columns < n)[None, :], other=0)
        if TENSOR_CORES:
            total = bl.dot(p, q, total)
        else:
            total = bl.dot(p.to(bl.float32), q.to(bl.float32), total, input_precision="ieee")
        x += BLOCK_K
        y += BLOCK_K * n
    mask = (rows < m)[:, None] & (columns < n)[None, :]
    z = c + rows[:, None] * n + columns[None, :]
    bl.store(z, total.to(c.dtype.element_ty), mask=mask)


@blocklang.jit
def by_descriptors(
    a, b, c, m, n, k, BLOCK_M: bl.constexpr, BLOCK_N: bl.constexpr, BLOCK_K: bl.constexpr
):
    """The same; tiles are named, not addressed. Who copies a tile also multiplies it."""
    x = bl.make_tensor_descriptor(a, [m, k], [k, 1], [BLOCK_M, BLOCK_K])
    y = bl.make_tensor_descriptor(b, [k, n], [n, 1], [BLOCK_K, BLOCK_N])
    z = bl.make_tensor_descriptor(c, [m, n], [n, 1], [BLOCK_M, BLOCK_N])
    row, column = bl.program_id(1) * BLOCK_M, bl.program_id(0) * BLOCK_N
    total = bl.zeros((BLOCK_M, BLOCK_N), bl.float32)
    for at in bl.range(0, k, BLOCK_K, warp_specialize=False):
        total = bl.dot(x.load([row, at]), y.load([at, column]), total)
    z.store([row, column], total.to(z.dtype))


@blocklang.jit
def by_staying(
    a, b, c, m, n, k,
    BLOCK_M: bl.constexpr, BLOCK_N: bl.constexpr, BLOCK_K: bl.constexpr, GROUP: bl.constexpr,
):  # fmt: skip
    """The same by programs that walk over the tiles, GROUP rows of them at a time."""
    x = bl.make_tensor_descriptor(a, [m, k], [k, 1], [BLOCK_M, BLOCK_K])
    y = bl.make_tensor_descriptor(b, [k, n], [n, 1], [BLOCK_K, BLOCK_N])
    z = bl.make_tensor_descriptor(c, [m, n], [n, 1], [BLOCK_M, BLOCK_N])
    down, across = bl.cdiv(m, BLOCK_M), bl.cdiv(n, BLOCK_N)
    for tile in bl.range(bl.program_id(0), down * across, bl.num_programs(0)):
        first = tile // (GROUP * across) * GROUP
        size = bl.minimum(down - first, GROUP)
        within = tile % (GROUP * across)
        row, column = (first + within % size) * BLOCK_M, within // size * BLOCK_N
        total = bl.zeros((BLOCK_M, BLOCK_N), bl.float32)
        for step in range(bl.cdiv(k, BLOCK_K)):
            p = x.load([row, step * BLOCK_K])
            q = y.load([step * BLOCK_K, column])
            total = bl.dot(p, q, total)
        z.store([row, column], total.to(z.dtype))
